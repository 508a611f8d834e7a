"""How a release is now: the matrix, a cell and the agenda say the same, whatever happened since it was released."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.delivery.passport import passport
from airflow_pipeops.delivery.queries.attention import agenda
from airflow_pipeops.delivery.queries.live import Cell, cell_of, live, matrix
from airflow_pipeops.delivery.queries.references import reference, resolve
from airflow_pipeops.delivery.queries.runs import began, previous
from airflow_pipeops.delivery.records import Record
from tests.ledgers import at, entries, indexed, record

PLACES = ("production", "staging")


def release(minutes: float, *parents: Record, environment: str = "production", **body: Any) -> Record:
    said = {"app": f"delay-api-{environment}", "revision": "r", "health": "Healthy", "sync": "Synced", **body}
    return record("release", said, *parents, environment=environment, minutes=minutes)


def incident(minutes: float, *parents: Record, **body: Any) -> Record:
    return record("incident", {"what": "down", **body}, *parents, environment="production", minutes=minutes)


def differs(
    minutes: float, verdict: str = "different", app: str = "delay-api-production", where: str | None = None
) -> Record:
    return record("differences", {"app": app, "verdict": verdict}, environment=where, minutes=minutes)


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Any]:
    """The cell of production after some records, the same by itself and in the matrix."""
    opened: list[sqlite3.Connection] = []

    def found(*records: Record, moment: str = "") -> Cell:
        connection = indexed(tmp_path / f"{len(opened)}.db", entries(records))
        opened.append(connection)
        one = live(connection, "delay-api", "production", at=moment)
        assert one is not None
        (row,) = matrix(connection, at=moment).items
        assert one in row.cells
        return one

    yield found
    for connection in opened:
        connection.close()


def test_an_outage_is_seen_until_a_release_ends_it(cell: Any) -> None:
    bad = release(1)
    assert (cell(bad).health, cell(bad).health_at) == ("Healthy", at(1))
    down = cell(bad, incident(5, bad))
    assert (down.health, down.health_at, down.at) == ("Degraded", at(5), at(1))
    elsewhere = [release(minute, environment="staging") for minute in range(6, 20)]
    assert cell(bad, incident(5, bad), *elsewhere).health == "Degraded"
    assert cell(bad, incident(5, bad), release(6)).health == "Healthy"
    assert cell(bad, incident(5, bad), moment=at(4)).health == "Healthy"
    assert cell(bad, incident(5, bad), release(6), moment=at(5)).health == "Degraded"


def test_an_incident_that_was_over_when_it_was_written_down(cell: Any) -> None:
    bad = release(1, revision="bad")
    back = record("change", {"commit": "fix", "reverts": "bad"}, bad, environment="production", minutes=2)
    good, again = release(3, back, revision="fix"), release(4, revision="fix")
    assert cell(bad, back, good, incident(5, bad, back, restored_by="fix")).health == "Healthy"
    assert cell(bad, back, good, again, incident(5, bad, back)).health == "Healthy"
    assert cell(bad, back, good, incident(5, bad)).health == "Degraded"


def test_what_differs_from_git_until_it_is_clean_again_or_released(cell: Any) -> None:
    found = cell(release(1), differs(5))
    assert (found.sync, found.sync_at, found.health_at) == ("OutOfSync", at(5), at(1))
    assert cell(release(1), differs(5), differs(6, "clean")).sync == "Synced"
    assert cell(release(1), differs(5), release(6)).sync == "Synced"
    assert cell(release(1), differs(5), moment=at(4)).sync == "Synced"
    assert cell(release(1), differs(5, app="delay-api-staging")).sync == "Synced"
    assert cell(release(1), differs(5, where="staging")).sync == "Synced"
    assert cell(release(1), differs(5, "drifted", app="another", where="production")).sync == "OutOfSync"


def test_a_comparison_is_newer_than_what_the_release_said(cell: Any) -> None:
    ill = release(1, sync="OutOfSync")
    assert cell(ill).sync == "OutOfSync"
    assert cell(differs(0), ill).sync == "OutOfSync"
    healed = cell(ill, differs(2, "clean"))
    assert (healed.sync, healed.sync_at) == ("Synced", at(2))
    assert cell(ill, differs(2, "clean", app="another", where="production")).sync == "OutOfSync"
    assert cell(release(1), differs(2, "unknown")).sync == "Unknown"
    both = (differs(2, where="production"), differs(3, "unknown", app="another", where="production"))
    assert cell(release(1), *both).sync == "OutOfSync"


def approval(minutes: float, who: Any, *parents: Record, where: str | None, yes: bool = True) -> Record:
    said = {"approved": yes, "approved_by": who}
    return record("approval", said, *parents, environment=where, minutes=minutes)


@pytest.mark.parametrize("where", ["production", None])
def test_who_agreed_to_a_release_is_who_agreed_to_it_there_or_anywhere(cell: Any, where: str | None) -> None:
    yes = approval(1, ["ada", "bob"], where=where)
    found = cell(yes, release(2, yes))
    assert (found.approved_by, found.approval) == ("ada, bob", yes.id)


def test_who_agreed_to_something_else_has_not_agreed_to_a_release(cell: Any) -> None:
    staged = approval(1, "ada", where="staging")
    retrain = record("decision", {"action": "retrain", "approved": True, "approved_by": "eve"}, minutes=2)
    model = record(
        "model", {"name": "m", "version": 1}, retrain, approval(3, "eve", retrain, where=None), minutes=4
    )
    no = approval(5, "mallory", where="production", yes=False)
    change = record("change", {"commit": "c"}, staged, model, no, environment="production", minutes=6)
    asked = [staged, retrain, approval(3, "eve", retrain, where=None), model, no, change]
    found = cell(*asked, release(7, change))
    assert (found.approved_by, found.approval, found.version) == ("", "", "m 1")
    yes = approval(0, "grace", where="production")
    assert cell(yes, *asked, release(7, change, yes)).approved_by == "grace"


def test_what_was_live_before_is_another_version_however_often_one_was_released(tmp_path: Path) -> None:
    first, once, twice = (release(n, revision=name) for n, name in enumerate(("r0", "r1", "r1")))
    connection = indexed(tmp_path / "index.db", entries([first, once, twice]))
    for one, expected in ((twice, first), (once, first), (first, None)):
        cell = cell_of(connection, resolve(connection, reference(one.id)))
        before = previous(connection, cell, began(connection, cell)[0])
        assert (before.id if before else None) == (expected.id if expected else None)
    connection.close()


def test_an_alias_is_shown_where_it_was_last_recorded(cell: Any) -> None:
    model = record("model", {"name": "delay", "version": "2"}, minutes=1)
    live_ = release(2, model)

    def moved(minutes: float, version: str, alias: str = "champion", name: str = "delay") -> Record:
        return record("alias", {"name": name, "alias": alias, "version": version}, minutes=minutes)

    assert (cell(model, live_).alias, cell(model, live_).alias_at) == ("", "")
    told = [moved(3, "2"), moved(4, "2", "stable"), moved(5, "2", name="another")]
    found = cell(model, live_, *told)
    assert (found.version, found.alias, found.alias_at) == ("delay 2", "champion, stable", at(4))
    assert cell(model, live_, *told, moved(6, "3")).alias == "stable"
    assert cell(model, live_, *told, moved(6, "3"), moment=at(5)).alias == "champion, stable"
    back = {"model": "delay", "alias": "champion", "version": "1", "how": "revert"}
    assert (
        cell(model, live_, *told, record("rollback", back, environment="production", minutes=7)).alias
        == "stable"
    )
    assert cell(live_, moved(3, "r")).alias == ""


def compared(minutes: float, subject: str, drifted: bool | None, verdict: str = "") -> Record:
    return record("drift", {"subject": subject, "drifted": drifted, "verdict": verdict}, minutes=minutes)


def test_data_drift_whatever_was_found_of_something_else_since(cell: Any, tmp_path: Path) -> None:
    moved = compared(3, "data", True, "drift")
    since = [compared(minute, "predictions", False, "no drift") for minute in (4, 5, 6)]
    found = cell(release(1), moved, *since)
    assert (found.drift, found.drift_at) == ("drift", at(3))
    with closing(indexed(tmp_path / "agenda.db", entries([release(1), moved, *since]))) as connection:
        assert [(one.need, one.at) for one in agenda(connection).items] == [("drift", at(3))]
    unsure = compared(7, "provider", None, "cannot tell")
    assert cell(release(1), compared(8, "data", False, "no drift"), unsure).drift == "cannot tell"
    assert cell(release(1), moved, compared(8, "data", False, "no drift"), *since).drift == "no drift"


def test_a_passport_tells_of_what_is_live_how_it_is_now(tmp_path: Path) -> None:
    old, bad = release(1, revision="old"), release(2, revision="bad")
    connection = indexed(tmp_path / "index.db", entries([old, bad, incident(5, bad)]))
    found = passport(connection, resolve(connection, reference("delay-api@production"))).cell
    assert found is not None
    assert (found.release, found.health) == (bad.id, "Degraded")
    before = passport(connection, resolve(connection, reference(old.id))).cell
    assert before is not None
    assert before.health == "Healthy"
    connection.close()


@st.composite
def happenings(draw: st.DrawFn) -> list[Record]:
    """Releases, incidents and comparisons in two environments, in any order of time."""
    found: list[Record] = []
    for number in range(draw(st.integers(1, 10))):
        kind, where = (
            draw(st.sampled_from(("release", "incident", "differences"))),
            draw(st.sampled_from(PLACES)),
        )
        known = (
            draw(st.lists(st.sampled_from(found), max_size=2, unique_by=lambda one: one.id)) if found else []
        )
        body = {
            "release": {
                "revision": f"r{number % 3}",
                "health": draw(st.sampled_from(("Healthy", "Degraded", "Progressing"))),
                "sync": draw(st.sampled_from(("Synced", "OutOfSync"))),
            },
            "incident": {"what": "down", "restored_by": draw(st.sampled_from(("", "r0", "r1")))},
            "differences": {"verdict": draw(st.sampled_from(("clean", "different", "unknown")))},
        }[kind]
        named = None if kind == "differences" and draw(st.booleans()) else where
        body |= {"app": f"delay-api-{where}", "n": number}
        found.append(record(kind, body, *known, environment=named, minutes=draw(st.integers(0, 8))))
    return found


@given(happenings())
@settings(max_examples=150, deadline=None)
def test_the_matrix_and_the_agenda_say_the_same(records: list[Record]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(indexed(Path(folder) / "index.db", entries(records))) as connection,
    ):
        needs = agenda(connection).items
        cells = [cell for row in matrix(connection).items for cell in row.cells]
    for cell in cells:
        ill = {one.environment for one in needs if one.need == "degraded"}
        assert (cell.health == "Degraded") == (cell.environment in ill), cell
        apart = [one.fact for one in needs if one.need == "out of sync"]
        mine = [one for one in apart if one.environment == cell.environment or one.body["app"] == cell.app]
        assert (cell.sync != "Synced") == bool(mine), (cell, mine)
