"""Say in a run's note what it ships, so that the list of runs is read without opening one.

A listener of Airflow's scheduler, which alone may write notes of runs: when a run of a DAG with the tag ``pipeops`` starts,
the note names what started it; when the run ends, what it has recorded. A note that a person wrote stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from airflow_pipeops.base.commits import is_sha

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

#: Runs of DAGs with this tag get a note.
TAG = "pipeops"

#: A note that begins so is ours, and may be written anew.
MARK = "Ships: "

_LONGEST = 1000
_NOTHING = "what the DAG finds itself"

#: What names a record in a few words: the first of these that its body has.
_NAMES = ("digest", "commit", "revision", "decision", "action", "version", "verdict", "subject", "name")


def starting(conf: Mapping[str, Any] | None, extras: Iterable[Any]) -> str:
    """Name what a run was started with.

    :param conf: the form of a run by hand.
    :param extras: of the asset events that started the run.
    :return: the text of a note.
    """
    parts = [part for extra in extras if isinstance(extra, Mapping) and (part := _started_by(extra))]
    parts += [f"{name} {_short(value)}" for name, value in (conf or {}).items() if value not in (None, "")]
    return _note(parts or [_NOTHING])


def ended(extras: Iterable[Any]) -> str:
    """Name what a run has recorded.

    :param extras: of the asset events that the run has emitted, oldest first.
    :return: the text of a note; empty where nothing was recorded.
    """
    parts = [part for extra in extras if isinstance(extra, Mapping) and (part := _record(extra))]
    return _note(parts) if parts else ""


def _started_by(extra: Mapping[str, Any]) -> str:
    payload = extra.get("payload")
    if not isinstance(payload, Mapping):
        return _record(extra)
    if "missing" in payload:
        return "nothing: connections are missing"
    name = next((name for name in ("commit", "name", "app") if payload.get(name)), "")
    return f"{'batch' if name == 'name' else name} {_short(payload[name])}" if name else ""


def _record(extra: Mapping[str, Any]) -> str:
    kind, body = extra.get("kind"), extra.get("body")
    if not kind or not isinstance(body, Mapping):
        return ""
    name = next((body[name] for name in _NAMES if body.get(name)), "")
    where = f" in {extra['environment']}" if extra.get("environment") else ""
    return f"{kind} {_short(name)}".rstrip() + where


def _short(value: Any) -> str:
    text = str(value)
    digest = text.removeprefix("sha256:")
    if is_sha(digest):
        return digest[:8]
    return text if len(text) <= 80 else f"{text[:79]}…"


def _note(parts: list[str]) -> str:
    return (MARK + ", ".join(dict.fromkeys(parts)))[:_LONGEST]


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Note what the run was started with."""
    if _is_ours(dag_run):
        extras = [event.extra for event in dag_run.consumed_asset_events]
        _write(dag_run, starting(dag_run.conf, extras))


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Note what the run has recorded."""
    _write_end(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Note what the run has recorded, up to where it failed."""
    _write_end(dag_run)


def _write_end(dag_run: DagRun) -> None:
    from airflow.models.asset import AssetEvent
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is not None and _is_ours(dag_run):
        events = select(AssetEvent.extra).where(
            AssetEvent.source_dag_id == dag_run.dag_id, AssetEvent.source_run_id == dag_run.run_id
        )
        _write(dag_run, ended(session.scalars(events.order_by(AssetEvent.timestamp))))


def _is_ours(dag_run: DagRun) -> bool:
    """Say whether the DAG has the tag; of a run that is not in a session, nothing can be written."""
    from airflow.models.dag import DagTag
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    found = select(DagTag.name).where(DagTag.dag_id == dag_run.dag_id, DagTag.name == TAG)
    return session is not None and session.scalar(found) is not None


def _write(dag_run: DagRun, note: str) -> None:
    if note and (not dag_run.note or dag_run.note.startswith(MARK)):
        dag_run.note = note
