"""What a person types leads to the record that is meant, or to one clear sentence."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from airflow_pipeops.delivery.queries import tracing
from airflow_pipeops.delivery.queries.differences import change, changed
from airflow_pipeops.delivery.queries.history import history
from airflow_pipeops.delivery.queries.live import live, matrix
from airflow_pipeops.delivery.queries.references import reference, resolve, shipped
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, NotFound
from tests.ledgers import at, entries, indexed, record, sha

DIGEST = "sha256:" + "ab" * 32
CODE, FIX, DESIRED = sha("code"), sha("fix"), sha("desired")
COMMIT = record("commit", {"commit": CODE, "subject": "Begin"}, commit=CODE)
IMAGE = record(
    "image",
    {"reference": f"registry/delay-api:1.4@{DIGEST}", "digest": DIGEST},
    COMMIT,
    commit=CODE,
    minutes=1,
)
SIGNED = record("validation", {"subject": "image", "digest": DIGEST}, minutes=2)
CHANGE = record("change", {"commit": DESIRED}, IMAGE, environment="production", minutes=3)
RELEASE = record(
    "release",
    {"revision": DESIRED, "images": [f"registry/delay-api@{DIGEST}"]},
    CHANGE,
    environment="production",
    minutes=4,
)
LATER = record("commit", {"commit": FIX}, commit=FIX, minutes=5)
MODEL = record("model", {"name": "flight-delay", "version": 7}, deliverable="flight-delay", minutes=5)
MODEL_LIVE = record(
    "release", {"revision": "v7"}, MODEL, deliverable="flight-delay", environment="production", minutes=6
)
ALL = (COMMIT, IMAGE, SIGNED, CHANGE, RELEASE, LATER, MODEL, MODEL_LIVE)


@pytest.fixture
def ledger(tmp_path: Path) -> sqlite3.Connection:
    return indexed(tmp_path / "index.db", entries(ALL))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (IMAGE.id, IMAGE),
        (IMAGE.id[:9].upper(), IMAGE),
        (CODE, COMMIT),
        (CODE[:7], COMMIT),
        (f" {CODE} ", COMMIT),
        (DESIRED, CHANGE),
        (DIGEST, IMAGE),
        (f"registry/delay-api:1.4@{DIGEST}", IMAGE),
        ("flight-delay/7", MODEL),
        ("delay-api@production", RELEASE),
        (f"delay-api@production@{at(4)}", RELEASE),
        ("delay-api@production@2026-03-01T01:04:00+01:00", RELEASE),
    ],
)
def test_names(ledger: sqlite3.Connection, asked: str, meant: Record) -> None:
    assert resolve(ledger, reference(asked)).id == meant.id


@pytest.mark.parametrize(
    "asked", ["", "abc", "a b", "DELAY@production", "flight-delay", "x" * 300, "sha256:12", "a/b/c"]
)
def test_what_is_no_reference(asked: str) -> None:
    with pytest.raises(InvalidInput, match="is no reference") as raised:
        reference(asked)
    assert raised.value.field == "REF"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("f" * 40, "holds nothing by the name"),
        ("flight-delay/8", "holds nothing by the name flight-delay/8"),
        ("delay-api@staging", "nothing of delay-api is live in staging"),
        ("delay-api@production@2026-01-01", "nothing of delay-api is live in production at 2026-01-01"),
    ],
)
def test_what_is_not_there(ledger: sqlite3.Connection, asked: str, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        resolve(ledger, reference(asked))


@pytest.mark.parametrize("when", ["yesterday", "0001-01-01T00:00+14:00", "9999-12-31T23:59-05:00"])
def test_a_time_that_is_none(when: str) -> None:
    with pytest.raises(InvalidInput, match=f"REF is '{re.escape(when)}', which is no date and no time"):
        reference(f"delay-api@production@{when}")


@pytest.mark.parametrize("after", ["x", "~", "~1", f"{at(1)}~x", f"{at(1)}~²", f"{at(1)}~{10**19}"])
def test_a_page_that_no_page_leads_to(ledger: sqlite3.Connection, after: str) -> None:
    with pytest.raises(InvalidInput, match="which no page has given"):
        history(ledger, after=after)


def test_the_start_of_several_names(tmp_path: Path) -> None:
    twins = [
        record("commit", {"commit": "abcdef0" + tail * 33}, commit="abcdef0" + tail * 33) for tail in "12"
    ]
    ledger = indexed(tmp_path / "index.db", entries(twins))
    with pytest.raises(InvalidInput, match=r"is the start of several names: abcdef01+, abcdef02+"):
        resolve(ledger, reference("abcdef0"))
    assert resolve(ledger, reference("abcdef01")).id == twins[0].id


def test_what_may_not_be_seen_is_not_there(ledger: sqlite3.Connection) -> None:
    for asked in ("flight-delay/7", MODEL.id, MODEL.id[:8], "flight-delay@production"):
        with pytest.raises(NotFound):
            resolve(ledger, reference(asked), allowed={"delay-api"})
    assert resolve(ledger, reference(CODE), allowed={"delay-api"}).id == COMMIT.id


def test_others_records_on_the_way_are_hidden_and_no_gap(tmp_path: Path) -> None:
    shared = record("dataset", {"rows": 3}, "0" * 64, deliverable="flights")
    model = record("model", {"name": "m", "version": 1}, shared, minutes=1)
    ledger = indexed(tmp_path / "index.db", entries([shared, model]))
    walk = tracing.up(ledger, model.id, allowed={"delay-api"})
    assert [(step.id, step.fact is None, step.hidden, step.gap) for step in walk.steps] == [
        (model.id, False, False, False),
        (shared.id, True, True, False),
    ]
    assert [step.id for step in tracing.up(ledger, model.id).gaps] == ["0" * 64]


def test_a_walk_says_that_it_was_cut(tmp_path: Path) -> None:
    chain = [record("commit", {"n": 0})]
    for number in range(1, 30):
        chain.append(record("commit", {"n": number}, chain[-1], minutes=number))
    ledger = indexed(tmp_path / "index.db", entries(chain))
    assert [tracing.up(ledger, chain[-1].id, limit=limit).cut for limit in (29, 30, 31)] == [
        True,
        False,
        False,
    ]
    assert len(tracing.down(ledger, chain[0].id, limit=10).steps) == 10


def test_what_a_passport_begins_with(ledger: sqlite3.Connection) -> None:
    for start, expected in ((COMMIT, RELEASE), (RELEASE, RELEASE), (MODEL, MODEL_LIVE), (LATER, LATER)):
        assert shipped(ledger, resolve(ledger, reference(start.id))).id == expected.id


def test_the_version_that_people_know(ledger: sqlite3.Connection) -> None:
    cell = live(ledger, "delay-api", "production")
    assert cell is not None
    assert (cell.version, cell.version_of, cell.commit, cell.behind) == ("1.4", "image", CODE, 1)
    model = live(ledger, "flight-delay", "production")
    assert model is not None
    assert (model.version, model.version_of, model.behind) == ("flight-delay 7", "model", None)


def test_removed_is_not_live(tmp_path: Path) -> None:
    gone = record("change", {"uninstalled": True}, environment="production", minutes=9)
    ledger = indexed(tmp_path / "index.db", entries([*ALL, gone]))
    states = {cell.deliverable: cell.state for row in matrix(ledger).items for cell in row.cells}
    assert states == {"delay-api": "removed", "flight-delay": "live"}
    before = live(ledger, "delay-api", "production", at=at(8))
    assert before is not None
    assert before.state == "live"


def test_the_matrix_by_pages_and_by_who_may_see(ledger: sqlite3.Connection) -> None:
    first = matrix(ledger, limit=1)
    assert ([row.deliverable for row in first.items], first.after) == (["delay-api"], "delay-api")
    second = matrix(ledger, limit=1, after=first.after)
    assert ([row.deliverable for row in second.items], second.after) == (["flight-delay"], "")
    assert [row.deliverable for row in matrix(ledger, allowed=["flight-delay"]).items] == ["flight-delay"]
    assert matrix(ledger, names=["delay-api"], allowed=[]).items == ()
    assert live(ledger, "delay-api", "production", allowed=[]) is None


def test_what_changed_between_two_times(tmp_path: Path) -> None:
    image = record("image", {"reference": "registry/delay-api:1.5"}, LATER, commit=FIX, minutes=7)
    newer = record("release", {"revision": "x"}, image, environment="production", minutes=8)
    ledger = indexed(tmp_path / "index.db", entries([*ALL, image, newer]))
    found = change(ledger, "delay-api", "production", at(6), at(9))
    assert found.before is not None
    assert found.after is not None
    assert (found.before.version, found.after.version) == ("1.4", "1.5")
    assert [one.id for one in found.added] == [newer.id, image.id, LATER.id]
    assert {one.id for one in found.dropped} == {RELEASE.id, CHANGE.id, IMAGE.id, COMMIT.id}
    assert [one.id for one in found.between] == [newer.id, image.id]
    assert found.changed
    assert not change(ledger, "flight-delay", "production", at(6), at(9)).changed
    assert change(ledger, "delay-api", "production", at(6), at(9), allowed=[]).after is None
    everywhere, after = changed(ledger, at(6), at(9))
    assert [(one.deliverable, one.environment) for one in everywhere] == [("delay-api", "production")]
    assert after == ""
