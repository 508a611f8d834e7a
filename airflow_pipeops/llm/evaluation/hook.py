"""From an Airflow connection to an endpoint that speaks as OpenAI does."""

from __future__ import annotations

from airflow_pipeops.base.connections import read, seconds, server_url
from airflow_pipeops.base.http import base_url, trusting
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.evaluation.client import Settings

#: Where a connection without a host leads, if its model or type says that it is OpenAI's.
OPENAI = "https://api.openai.com/v1"


def settings_of(conn_id: str) -> Settings:
    """Read a connection.

    The fields are those of Airflow's ``common-ai`` provider (type ``pydanticai``): host is the base URL, password the API
    key; the model is the subject's. The types ``openai`` and ``http`` are read alike; of the extra,
    ``timeout``, ``ca_file`` and ``verify_tls`` are read besides. No provider need be installed.

    :param conn_id: which connection.
    :return: the settings. They hold the key: never log them, never hand them on.
    :raises InvalidInput: naming the field that is wrong.
    """
    connection = read(conn_id, "pydanticai")
    extra = connection.extra_dejson
    provider = str(extra.get("model") or "").partition(":")[0]
    if connection.host:
        url = base_url(server_url(connection), field=f"{conn_id}.host", of="an endpoint")
    elif "openai" in (connection.conn_type, provider):
        url = OPENAI
    else:
        raise InvalidInput(
            f"connection {conn_id!r} has no host",
            field=f"{conn_id}.host",
            remedy="Set it to the base URL of an endpoint that speaks as OpenAI does, such as http://localhost:8000/v1.",
        )
    return Settings(
        url,
        str(connection.password or ""),
        seconds(conn_id, "timeout", extra.get("timeout"), 60.0),
        trusting(extra),
    )
