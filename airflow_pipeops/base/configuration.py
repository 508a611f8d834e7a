"""The ``[pipeops]`` section of Airflow's configuration, and its switches: read when asked and never at import."""

from __future__ import annotations

from pathlib import Path


def evidence_uri() -> str:
    """Return where evidence is kept: ``[pipeops] evidence_uri``, else ``$AIRFLOW_HOME/pipeops/evidence``."""
    return _configured("evidence_uri") or (_home() / "evidence").as_uri()


def ledger_path() -> str:
    """Return where the ledger is kept: ``[pipeops] ledger_path``, else ``$AIRFLOW_HOME/pipeops/ledger``."""
    return _configured("ledger_path") or (_home() / "ledger").as_uri()


def index_path() -> str:
    """Return the file of the ledger's index: ``[pipeops] index_path``, else ``$AIRFLOW_HOME/pipeops/index.db``."""
    return _configured("index_path") or str(_home() / "index.db")


def ledger_key() -> str:
    """Return the connection of the key that checkpoints are signed with: ``[pipeops] ledger_key_conn_id``."""
    return _configured("ledger_key_conn_id")


def builder() -> str:
    """Return which image builder to use where a task names none: ``[pipeops] builder``, else ``auto``."""
    return _configured("builder") or "auto"


def registry() -> str:
    """Return the connection of the registry that images go to where a task names none: ``[pipeops] registry_conn_id``."""
    return _configured("registry_conn_id")


def accepted_assets() -> frozenset[str]:
    """Return the assets whose events may be posted through Airflow's API: ``[pipeops] accept_posted_events``."""
    given = _configured("accept_posted_events").split(",")
    return frozenset(filter(None, (name.strip() for name in given)))


def switched_on(variable: str | None) -> bool:
    """Whether an Airflow Variable is on: not there, empty, ``0``, ``false``, ``no`` and ``off`` are not, all else is.

    :param variable: its name; none is off.
    :return: whether it is. One that cannot be read is an error.
    """
    from airflow.sdk import Variable

    value = str(Variable.get(variable, default="") or "") if variable else ""
    return value.strip().lower() not in ("", "0", "false", "no", "off")


def _configured(option: str) -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("pipeops", option, fallback="") or "")


def _home() -> Path:
    import os

    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "pipeops"
