"""The ``[pipeops]`` section of Airflow's configuration, read when asked and never at import."""

from __future__ import annotations

from pathlib import Path


def evidence_uri() -> str:
    """Return where evidence is kept: ``[pipeops] evidence_uri``, else ``$AIRFLOW_HOME/pipeops/evidence``."""
    from airflow.sdk.configuration import conf

    configured = conf.get("pipeops", "evidence_uri", fallback="")
    if configured:
        return str(configured)
    import os

    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return (home / "pipeops" / "evidence").as_uri()


def builder() -> str:
    """Return which image builder to use where a task names none: ``[pipeops] builder``, else ``auto``."""
    from airflow.sdk.configuration import conf

    return str(conf.get("pipeops", "builder", fallback="") or "auto")


def registry() -> str:
    """Return the connection of the registry that images go to where a task names none: ``[pipeops] registry_conn_id``."""
    from airflow.sdk.configuration import conf

    return str(conf.get("pipeops", "registry_conn_id", fallback="") or "")


def accepted_assets() -> frozenset[str]:
    """Return the assets whose events may be posted through Airflow's API: ``[pipeops] accept_posted_events``."""
    from airflow.sdk.configuration import conf

    given = str(conf.get("pipeops", "accept_posted_events", fallback="") or "")
    return frozenset(filter(None, (name.strip() for name in given.split(","))))
