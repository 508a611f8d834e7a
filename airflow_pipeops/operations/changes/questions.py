"""What a person asks about: from a name to what went wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timezone

from airflow_pipeops.delivery.queries.facts import Fact, listed, may_see, moment, scope, seen, select
from airflow_pipeops.delivery.queries.history import LAST, newest
from airflow_pipeops.delivery.queries.recorded import recorded, told_by
from airflow_pipeops.delivery.queries.references import Reference, reference, resolve
from airflow_pipeops.delivery.queries.tracing import down
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.operations.changes.suspects import Symptom
from airflow_pipeops.operations.changes.symptoms import (
    asked_before,
    at_a_time,
    hours_before,
    symptom_of,
    went_wrong,
)

#: Records of each kind of each deliverable, and records of one walk, that are read at most.
EACH, WALKED = 80, 300
#: What can say that something went wrong.
_SYMPTOMS = ("incident", "release", "evaluation", "drift", "validation", "anomaly")
#: Of a place at a time, so many hours before it a record of what went wrong is looked for.
_RECENT = 24.0
#: Names that a message tells.
_NAMED = 5
_REMEDY = "Give the id of a record, DELIVERABLE[@ENVIRONMENT[@TIME]], DAG/RUN, or the id of a run."


def symptom_at(
    connection: sqlite3.Connection, ref: str, *, allowed: Collection[str] | None = None
) -> Symptom:
    """Find out what went wrong. Arguments and errors are those of :func:`why`."""
    if run := run_of(connection, ref, allowed=allowed):
        return _of_run(connection, *run, allowed=allowed)
    wanted = _reference(connection, ref, allowed)
    if wanted.form == "place":
        return _of_place(connection, wanted, allowed)
    fact = resolve(connection, wanted, allowed=allowed)
    if went_wrong(fact) is not None:
        return _symptom(connection, fact)
    if (before := asked_before(fact)) is not None and may_see(before.deliverable, allowed):
        # What an explanation or a remediation answers: its record, where there is one.
        about = _ill(_by_id(connection, [before.record] if before.record else fact.parents), allowed)
        return _symptom(connection, about[0]) if about else before
    if broke := _ill(down(connection, fact.id, allowed=allowed, limit=WALKED).facts, allowed):
        return _symptom(connection, broke[0])
    raise InvalidInput(
        f"the {fact.kind} record {fact.id[:12]} of {fact.deliverable} says of nothing that it went wrong, and neither does"
        " what was made of it",
        field="REF",
        value=ref[:200],
        remedy="Give an incident, an anomaly, a failed gate, a drift, a worse evaluation, DAG/RUN, or"
        " DELIVERABLE@ENVIRONMENT@TIME.",
    )


def _reference(connection: sqlite3.Connection, ref: str, allowed: Collection[str] | None) -> Reference:
    """Read what is no run: a deliverable alone means all its environments."""
    name = ref.strip()
    if _known(connection, name, allowed):
        return Reference("place", name, name)
    try:
        return reference(name)
    except InvalidInput as error:
        if error.field == "REF" and "/" in name:
            dag = name.partition("/")[0][:100]
            raise NotFound(f"the DAG {dag} has recorded nothing", remedy=_REMEDY) from error
        if error.field == "REF" and "@" not in name:
            raise InvalidInput(
                f"{name[:200]!r} is no reference: no deliverable, and no run that has recorded anything, bears that name",
                field="REF",
                value=name[:200],
                remedy=_REMEDY,
            ) from error
        raise


def _by_id(connection: sqlite3.Connection, ids: Iterable[str]) -> list[Fact]:
    return select(connection, "id IN (SELECT value FROM json_each(:ids))", {"ids": listed(ids)})


def _ill(facts: Iterable[Fact], allowed: Collection[str] | None) -> list[Fact]:
    """Those that say that something went wrong, the oldest first."""
    found = [
        one for one in facts if not one.problem and went_wrong(one) and may_see(one.deliverable, allowed)
    ]
    return sorted(found, key=lambda one: (one.at, one.seq))


def run_of(
    connection: sqlite3.Connection, ref: str, *, allowed: Collection[str] | None = None
) -> tuple[str, str] | None:
    """Read ``DAG/RUN``, of a DAG that has recorded something, or the id of a run that has.

    :param connection: to the index.
    :param ref: what was asked for.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: both; none for whatever else.
    :raises InvalidInput: for a run that several DAGs have.
    """
    dag, _, run = ref.strip().partition("/")
    if run:
        return (dag, run) if "sha256:" not in ref and told_by(connection, [dag]) else None
    dags = [
        row[0]
        for row in connection.execute(
            f"""
            WITH RECURSIVE dags(name) AS (
                SELECT min(dag_id) FROM records INDEXED BY by_run
                UNION ALL
                SELECT (SELECT min(dag_id) FROM records INDEXED BY by_run WHERE dag_id > name) FROM dags
                WHERE name IS NOT NULL
            )
            SELECT name FROM dags WHERE EXISTS (
                SELECT 1 FROM records INDEXED BY by_run WHERE dag_id = name AND run_id = :run{seen(allowed)}
            ) LIMIT :most
            """,
            {"run": dag, "most": _NAMED, **scope(allowed)},
        )
    ]
    if len(dags) > 1:
        raise InvalidInput(
            f"several DAGs have a run {dag[:100]}: {', '.join(dags)}",
            field="REF",
            value=dag[:200],
            remedy=f"Give DAG/RUN, for example {dags[0]}/{dag[:100]}.",
        )
    return (dags[0], dag) if dags else None


def _of_run(
    connection: sqlite3.Connection, dag: str, run: str, *, allowed: Collection[str] | None
) -> Symptom:
    """Of a run, the newest record of what went wrong; without one, that it failed when it last recorded something."""
    facts = recorded(connection, dag, run=run, allowed=allowed, limit=1000).items
    believed = [one for one in facts if not one.problem]
    ill = [one for one in believed if went_wrong(one)]
    if ill:
        return _symptom(connection, max(ill, key=lambda one: (one.at, one.seq)))
    if not believed:
        raise NotFound(
            f"the run {run} of {dag} has recorded nothing",
            remedy="Ask where Airflow's database can be read, or by DELIVERABLE@ENVIRONMENT@TIME.",
        )
    last = max(believed, key=lambda one: (one.at, one.seq))
    places = {one.environment for one in believed if one.environment}
    return run_symptom(
        connection, dag, run, last.at, environment=places.pop() if len(places) == 1 else "", allowed=allowed
    )


def run_symptom(
    connection: sqlite3.Connection,
    dag: str,
    run: str,
    end: str,
    *,
    start: str = "",
    environment: str = "",
    what: str = "",
    allowed: Collection[str] | None = None,
) -> Symptom:
    """Make a symptom of a run that failed.

    :param connection: to the index.
    :param dag: its id.
    :param run: its id.
    :param end: when it failed.
    :param start: when the last good one began; without it, what it last recorded before this run tells.
    :param environment: where; empty for nowhere.
    :param what: failed.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the symptom.
    :raises NotFound: if the DAG has recorded nothing, so that nobody knows what it is about.
    """
    end = moment(end)
    names = sorted(name for name in told_by(connection, [dag]) if may_see(name, allowed))
    if not names:
        raise NotFound(f"the DAG {dag} has recorded nothing", remedy="Ask by DELIVERABLE@ENVIRONMENT@TIME.")
    rows = select(
        connection,
        "seq IN (SELECT seq FROM records INDEXED BY by_dag WHERE dag_id = :dag AND run_id <> :run AND at < :end"
        " AND deliverable IN (SELECT value FROM json_each(:names)) AND problem = '' ORDER BY seq DESC LIMIT 50)",
        {"dag": dag, "run": run, "end": end, "names": listed(names)},
    )
    before = max((one.at for one in rows), default="")
    about = max(rows, key=lambda one: (one.at, one.seq)).deliverable if rows else names[0]
    begun = min(moment(start) if start else before or at_a_time(about, environment, end).start, end)
    return Symptom("failure", begun, end, about, environment, what or f"the run {run} of {dag} failed")


def _of_place(connection: sqlite3.Connection, wanted: Reference, allowed: Collection[str] | None) -> Symptom:
    """What went wrong last in a place; at a time of which nothing says so, that something did."""
    name, place = wanted.deliverable or wanted.name, wanted.environment
    where = f" in {place}" if place else ""
    facts = newest(connection, [name], _SYMPTOMS, each=20, end=after(wanted.at) if wanted.at else LAST)
    if not _known(connection, name, allowed):
        raise NotFound(
            f"nothing of {name} is live{where}, and nothing else of it is recorded",
            remedy="See airflow pipeops status for what is.",
        )
    places = _places(connection, name)
    if place and places and place not in places:
        raise NotFound(
            f"nothing of {name} is recorded{where}; it is in {', '.join(places[:_NAMED])}",
            remedy=f"Ask for {name}@{places[0]}, or for {name}.",
        )
    if wanted.at and wanted.at > max(_now(), _last_time(connection)):
        raise InvalidInput(
            f"{wanted.at} is still to come",
            field="REF",
            value=wanted.name[:200],
            remedy="Give the time at which it went wrong.",
        )
    ill = [one for one in facts if (not place or one.environment in ("", place)) and went_wrong(one)]
    last = max(ill, key=lambda one: (one.at, one.seq), default=None)
    if last is not None and (not wanted.at or last.at >= hours_before(wanted.at, _RECENT)):
        found = _symptom(connection, last)
        return replace(found, environment=place or found.environment)
    if not wanted.at:
        raise NotFound(
            f"nothing that is recorded went wrong with {name}{where}",
            remedy=f"Give the time at which it did: {name}@{place or next(iter(places), 'production')}@2026-03-01T12:00Z.",
        )
    return at_a_time(name, place, wanted.at)


def _known(connection: sqlite3.Connection, name: str, allowed: Collection[str] | None) -> bool:
    found = connection.execute(
        "SELECT 1 FROM records INDEXED BY by_kind WHERE deliverable = ? LIMIT 1", (name,)
    )
    return may_see(name, allowed) and found.fetchone() is not None


def _places(connection: sqlite3.Connection, name: str) -> list[str]:
    rows = connection.execute(
        "SELECT DISTINCT environment FROM records INDEXED BY by_place WHERE deliverable = ? AND environment <> ''",
        (name,),
    )
    return sorted(row[0] for row in rows)


def _last_time(connection: sqlite3.Connection) -> str:
    """The time of the newest record."""
    return str(connection.execute("SELECT coalesce(max(at), '') FROM records").fetchone()[0])


def _now() -> str:
    return moment(datetime.now(timezone.utc).isoformat())


def _symptom(connection: sqlite3.Connection, fact: Fact) -> Symptom:
    kinds = ("release",) if fact.kind in ("incident", "release", "rollback") else (fact.kind,)
    return symptom_of(fact, newest(connection, [fact.deliverable], kinds, each=EACH, end=fact.at))


def after(at: str) -> str:
    """The next time that a text can hold."""
    return f"{at}~"
