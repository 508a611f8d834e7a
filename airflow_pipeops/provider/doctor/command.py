"""Look at what is there, and print what is to be made of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_pipeops.base.http import beginning
from airflow_pipeops.delivery.commands.answers import (
    NOT_WELL,
    WELL,
    connections_of_the_database,
    rows,
    shown,
)
from airflow_pipeops.provider.doctor import judgement
from airflow_pipeops.provider.doctor.judgement import Check
from airflow_pipeops.redaction import redacted

#: What is told of the libraries.
_TOLD = ("airflow-pipeops", "apache-airflow")
#: Seconds for an answer of the API server.
_PATIENCE = 10.0
#: Settings of ours that name a connection.
_NAMING = ("registry_conn_id", "ledger_key_conn_id")


def doctor_command(args: Any) -> int:
    """Check everything, one thing after another; what raises says so in its own line, and the others are still looked at."""
    with connections_of_the_database():
        found = checks(tuple(args.conn_id or ()), args.url or "")
    code = NOT_WELL if any(check.standing == "bad" for check in found) else WELL
    if not shown({"checks": [check.to_json() for check in found]}, args.output):
        rows("Doctor", [check.to_json() for check in found], args.output, empty="nothing to look at")
    return code


def checks(conn_ids: tuple[str, ...] = (), url: str = "") -> list[Check]:
    """Look at everything.

    :param conn_ids: look at these connections alone, and at nothing else.
    :param url: of the API server, in place of the configured one.
    :return: what was found.
    """
    looks: dict[str, Callable[[], Iterable[Check]]] = {"connections": lambda: _connections(conn_ids)}
    if not conn_ids:
        looks = {
            "versions": lambda: [_versions()],
            "plugin": lambda: [_plugin()],
            **looks,
            "triggerer": _triggerers,
            "ledger": lambda: [_ledger()],
            "evidence": lambda: [_evidence()],
            "routes": lambda: [_routes(url)],
        }
    found = []
    for about, look in looks.items():
        try:
            found += list(look())
        except Exception as error:  # one thing that cannot be looked at hides no other
            said = redacted(f"{type(error).__name__}: {error}")[:300]
            found.append(Check(about, "unknown", f"It cannot be looked at: {said}", "Run it with --verbose."))
    return found


def _versions() -> Check:
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    lacking: dict[str, tuple[str, str]] = {}
    for line in requires("airflow-pipeops") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(needed.name)
        except PackageNotFoundError:
            there = ""
        if not there or not needed.specifier.contains(there, prereleases=True):
            lacking[needed.name] = (str(needed.specifier), there)
    return judgement.versions(lacking, {name: version(name) for name in _TOLD})


def _plugin() -> Check:
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    known = {plugin["name"] for plugin in plugins_manager.get_plugin_info(attrs_to_dump=["name"])}
    return judgement.plugin("pipeops" in known, plugins_manager.get_import_errors())


def _connections(conn_ids: tuple[str, ...]) -> Iterator[Check]:
    from airflow.sdk.configuration import conf

    from airflow_pipeops.provider.metadata import get_provider_info

    ours = {one["connection-type"]: one["hook-class-name"] for one in get_provider_info()["connection-types"]}
    settings = {str(conf.get("pipeops", option, fallback="") or ""): option for option in _NAMING}
    there = {} if conn_ids else _known()
    named = dict.fromkeys(conn_ids, "") if conn_ids else settings
    for conn_id, option in named.items():
        if not conn_id or conn_id in there:
            continue
        try:
            found, why = _sought(conn_id), ""
        except Exception as error:  # of a secrets backend, or of the database
            found, why = None, redacted(f"{type(error).__name__}: {error}")[:300]
        if found is None:
            yield judgement.missing(conn_id, option, why)
        else:
            there[conn_id] = found
    for conn_id, found in sorted(there.items()):
        if found.conn_type in ours:
            good, said = _tried(conn_id, ours[found.conn_type])
            yield judgement.connection(conn_id, found.conn_type, good, redacted(said))


def _sought(conn_id: str) -> Any:
    """Look for a connection where Airflow does, secrets backends too; none if nobody has it, and each could be asked."""
    from airflow.configuration import ensure_secrets_loaded

    for backend in ensure_secrets_loaded():
        if found := backend.get_connection(conn_id):
            return found
    return None


def _known() -> dict[str, Any]:
    """Read the connections of Airflow's environment and database; those of a secrets backend cannot be listed."""
    from airflow.models.connection import Connection
    from airflow.secrets.environment_variables import CONN_ENV_PREFIX, EnvironmentVariablesBackend
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    found: dict[str, Any] = {}
    try:
        with create_session() as session:
            for one in session.scalars(select(Connection)):
                session.expunge(one)
                found[one.conn_id] = one
    except SQLAlchemyError:  # told by the check of the triggerer
        pass
    backend = EnvironmentVariablesBackend()
    for name in os.environ:
        if name.startswith(CONN_ENV_PREFIX):
            conn_id = name.removeprefix(CONN_ENV_PREFIX).lower()
            if one := backend.get_connection(conn_id):
                found[conn_id] = one
    return found


def _tried(conn_id: str, hook_class: str) -> tuple[bool, str]:
    """Run the test of a connection's hook."""
    from airflow_pipeops.base.arguments import imported

    module, _, name = hook_class.rpartition(".")
    try:
        good, said = imported(f"{module}:{name}", "hook")(conn_id).test_connection()
        return bool(good), str(said)
    except Exception as error:  # a field that cannot be read, for example
        return False, f"{type(error).__name__}: {error}"


def _triggerers() -> Iterable[Check]:
    from airflow.configuration import conf
    from airflow.jobs.job import Job, JobState
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from sqlalchemy import func, select
    from sqlalchemy.exc import SQLAlchemyError

    capacity = conf.getint("triggerer", "capacity", fallback=1000)
    try:
        with create_session() as session:
            running = select(Job).where(Job.job_type == "TriggererJob", Job.state == JobState.RUNNING)
            alive = sum(job.is_alive() for job in session.scalars(running))
            waiting = session.scalar(select(func.count()).select_from(Trigger)) or 0
    except SQLAlchemyError:
        return judgement.triggerers(None, capacity, None)
    return judgement.triggerers(alive, capacity, waiting)


def _ledger() -> Check:
    from airflow_pipeops.base.configuration import index_path, ledger_path
    from airflow_pipeops.delivery.ledger.index import reader
    from airflow_pipeops.delivery.ledger.ingest import Ingest

    if not Path(index_path()).exists():
        return judgement.ledger(ledger_path(), None, None, "")
    connection = reader(index_path())
    entries = int(connection.execute("SELECT ifnull(max(seq), 0) FROM records").fetchone()[0])
    connection.close()
    try:
        ingest = Ingest.configured()
        behind = ingest.behind
        ingest.index.close()
    except Exception as error:
        return judgement.ledger(
            ledger_path(), entries, None, f"{type(error).__name__}: what is new cannot be told."
        )
    return judgement.ledger(ledger_path(), entries, behind, "")


def _evidence() -> Check:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.configuration import conf

    from airflow_pipeops.base.configuration import evidence_uri

    uri, why = evidence_uri(), ""
    try:
        folder = ObjectStoragePath(uri)
        if folder.protocol == "file":
            nearest = next(path for path in (Path(folder.path), *Path(folder.path).parents) if path.exists())
            why = "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} may not be written"
        else:
            next(iter(folder.iterdir()), None)
    except FileNotFoundError:
        pass  # an empty prefix
    except Exception as error:
        why = redacted(f"{type(error).__name__}: {error}")[:300]
    return judgement.evidence(uri, bool(conf.get("pipeops", "evidence_uri", fallback="")), why)


def _routes(url: str) -> Check:
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    configured = url or str(conf.get("api", "base_url", fallback="") or "")
    base_url = (configured or f"http://localhost:{conf.getint('api', 'port', fallback=8080)}").rstrip("/")
    parts = urlsplit(base_url)
    bare = f"{parts.scheme}://{parts.netloc}"
    route = f"/pipeops/evidence/none/{'0' * 64}/none"
    server = _status(f"{base_url}/api/v2/version")
    if server is None:
        return judgement.routes(base_url, None, None, None)
    without = _status(bare + route) if parts.path.rstrip("/") else None
    return judgement.routes(base_url, server, _status(base_url + route), without)


def _status(url: str) -> int | None:
    import httpx

    async def ask() -> int:
        async with httpx.AsyncClient(follow_redirects=False) as client:
            response, _ = await beginning(client.stream("GET", url), 0, _PATIENCE)
            return int(response.status_code)

    try:
        return asyncio.run(ask())
    except (httpx.HTTPError, OSError, asyncio.TimeoutError):
        return None
