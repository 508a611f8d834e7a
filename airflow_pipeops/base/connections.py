"""An Airflow connection, read where an event loop runs; and what Airflow knows of secrets."""

from __future__ import annotations

import asyncio
from typing import Any


async def read_extra(connection: Any) -> dict[str, Any]:
    """Return the extra of a connection, its secrets masked, without blocking the event loop.

    :param connection: as Airflow returned it.
    :return: the extra; empty where there is none.
    """
    if hasattr(connection, "aextra_dejson"):  # from Airflow 3.3.2 on
        return dict(await connection.aextra_dejson())
    return dict(await asyncio.to_thread(lambda: connection.extra_dejson))


def known_to_airflow(text: str) -> str:
    """Take out of a text the secrets of all connections and variables that Airflow has read in this process.

    :return: the text without them.
    """
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # it is exported there by an import only

    return str(redact(text))
