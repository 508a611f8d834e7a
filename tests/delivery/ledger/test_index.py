from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.index import VERSION, Index, reader
from tests.delivery.ledger.events import AT, SOURCE, entry, record


@pytest.fixture
def index(tmp_path):
    found = Index.open(tmp_path / "index.db")
    yield found
    found.close()


def rows(tmp_path, sql: str) -> list[tuple]:
    connection = reader(tmp_path / "index.db")
    try:
        return [tuple(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def test_what_was_added_is_found_by_each_of_its_names(index, tmp_path) -> None:
    digest = "sha256:" + "d" * 64
    image = record("image", body={"reference": f"r.example/svc@{digest}"}, commit="c" * 40)
    model = record("model", "model", body={"name": "delay", "version": 7}, parents=(image.id,))
    index.add([entry(image, 3, 1), entry(model, 9, 2)])
    found = dict(rows(tmp_path, "SELECT name, seq FROM names"))
    assert found == {image.id: 1, "c" * 40: 1, digest: 1, model.id: 2, "delay/7": 2}
    assert rows(tmp_path, "SELECT * FROM parents") == [(model.id, image.id)]
    assert (index.revision, index.looked_to) == (2, 9)


def test_live_is_the_newest_release_of_each_environment_that_is_believed(index, tmp_path) -> None:
    late = record(at="2026-02-01T00:00:00+01:00")
    early = record(at="2026-01-31T22:59:59+00:00")
    forged = entry(record(at="2026-01-31T23:30:00Z", body={"forged": 1}), 3, 3, stored=late.at)
    forged = replace(forged, extra={**forged.extra, "body": {}})
    staging = record(environment="staging")
    index.add([entry(late, 1, 1), entry(early, 2, 2), forged, entry(staging, 4, 4)])
    assert rows(tmp_path, "SELECT environment, seq FROM live ORDER BY 1") == [
        ("production", 1),
        ("staging", 4),
    ]
    assert rows(tmp_path, "SELECT at FROM records WHERE seq = 1") == [("2026-01-31T23:00:00.000000+00:00",)]


PROBLEMS = {
    "altered": ({"extra": {"body": {"health": "good"}}}, "it has been altered"),
    "posted": ({"extra": {"from_rest_api": True}, "task": None}, "it was posted through Airflow's API"),
    "of a watcher": ({"extra": {"from_trigger": True}, "task": None}, "no task has emitted it"),
    "elsewhere": ({"uri": "pipeops://other/release/production"}, "does not belong there"),
    "of another kind": ({"uri": "pipeops://svc/incident/production"}, "does not belong there"),
    "of another task": ({"task": "mine"}, "says that its task was 'wait', and Airflow that it was 'mine'"),
    "of another DAG": ({"dag": "mine"}, "says that its dag was"),
    "from the future": ({"stored": "2026-01-02T02:00:00+00:00"}, "later than"),
    "no canonical form": ({"extra": {"body": {"n": 2**60}}}, "no canonical form"),
}


@pytest.mark.parametrize(("change", "said"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_not_believed_is_kept_with_the_reason(index, tmp_path, change, said) -> None:
    good = entry(record(), 1, 1)
    bad = replace(good, event=2, seq=2, **{**change, "extra": {**good.extra, **change.get("extra", {})}})
    index.add([bad])
    ((problem, manual),) = rows(tmp_path, "SELECT problem, manual FROM records")
    assert said in problem
    assert bool(manual) == (bad.task is None)
    assert not rows(tmp_path, "SELECT * FROM live UNION ALL SELECT name, seq, 0, 0 FROM names")


def test_a_repetition_is_named_as_one(index, tmp_path) -> None:
    index.add([entry(record(), 1, 1), entry(record(), 2, 2)])
    assert rows(tmp_path, "SELECT seq, problem FROM records") == [(1, ""), (2, "it repeats entry 1")]


def test_a_setting_lets_events_be_posted_on_an_asset(index, tmp_path) -> None:
    posted = entry(record(), 1, 1, task=None, dag=None, run=None)
    posted = replace(posted, extra={**posted.extra, "from_rest_api": True})
    index.add([posted], accepted=frozenset({"svc.release.production"}))
    assert rows(tmp_path, "SELECT problem, manual FROM records") == [("", 1)]


def test_a_kind_of_a_later_version_is_kept_and_believed(index, tmp_path) -> None:
    from airflow_pipeops.delivery.records import identity

    extra = {**record("commit").to_extra(), "kind": "rumour", "heard": [1.0]}
    extra["id"] = identity(extra)
    later = Entry(1, 1, "svc.rumour", "pipeops://svc/rumour", AT, extra, **SOURCE)
    index.add([later])
    assert rows(tmp_path, "SELECT kind, problem FROM records") == [("rumour", "")]


ODD = [
    {"schema": "pipeops/v1", "parents": 5, "body": [], "at": 7, "kind": ["x"], "deliverable": None},
    {"schema": "pipeops/v1", "parents": [["a"], None, 3], "body": {"images": 5, "name": {}, "reference": []}},
    {"schema": "pipeops/v9", "at": "yesterday", "environment": {}},
    {"schema": "pipeops/v1", "body": {"n": float("nan")}},
    {"schema": "pipeops/v1", "body": "x" * 100_000},
    {"schema": "pipeops/v1", "kind": "\ud800", "id": "\ud800"},
    {"from_rest_api": True},
]


@pytest.mark.parametrize("extra", ODD)
def test_nothing_that_an_event_holds_stops_the_index(index, tmp_path, extra) -> None:
    odd = Entry(1, 1, "svc.release", "pipeops://svc/release/production", AT, extra, **SOURCE)
    assert odd.belongs
    index.add([Entry.read(odd.numbered(1).line()), entry(record(), 2, 2)])
    ((first, _), (second, _)) = rows(tmp_path, "SELECT problem != '', seq FROM records ORDER BY seq")
    assert (first, second) == (1, 0)


def test_adding_again_changes_nothing_and_rebuilding_gives_the_same(index, tmp_path) -> None:
    entries = [entry(record(body={"n": n}), n, n) for n in range(1, 30)]
    index.add(entries[:20])
    index.add(entries)
    everything = "SELECT * FROM records"
    before = rows(tmp_path, everything)
    index.clear()
    index.add(iter(entries))
    assert rows(tmp_path, everything) == before
    assert len(before) == 29


def test_a_batch_is_added_whole_or_not_at_all(index, tmp_path) -> None:
    def cut_short():
        yield entry(record(), 1, 1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        index.add(cut_short())
    assert index.revision == 0
    index.add([entry(record(), 1, 1)])
    assert index.revision == 1


def test_a_line_that_stands_twice_is_named_as_such(index, tmp_path) -> None:
    index.add([entry(record(), 1, 1), entry(record(), 1, 2)])
    assert rows(tmp_path, "SELECT event_id, problem FROM records") == [(1, ""), (None, "it repeats entry 1")]


def test_a_file_of_another_version_is_made_anew(index, tmp_path) -> None:
    index.add([entry(record(), 1, 1)])
    index.close()
    other = sqlite3.connect(tmp_path / "index.db")
    other.execute(f"PRAGMA user_version = {VERSION + 1}")
    other.close()
    again = Index.open(tmp_path / "index.db")
    assert again.revision == 0
    again.close()


def test_a_reader_cannot_write(index, tmp_path) -> None:
    connection = reader(tmp_path / "index.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM records")
    connection.close()
