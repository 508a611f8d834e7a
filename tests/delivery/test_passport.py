"""The passport answers what a person asks, and says where nobody can tell."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.delivery.passport import Passport, lines, passport
from airflow_pipeops.delivery.passport_page import page
from airflow_pipeops.delivery.queries.references import reference, resolve, shipped
from airflow_pipeops.delivery.queries.tracing import up
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Record
from tests.ledgers import at, entries, entry, indexed, record, sha

CODE, DESIRED = sha("code"), sha("desired")


def story(deliverable: str = "flight-delay") -> list[Record]:
    """A model that went from data and code to production twice; the second broke."""
    of = {"deliverable": deliverable}
    data = record("dataset", {"batch": "june.parquet", "rows": 9000, "digest": "d" * 64}, **of)
    gate = record("validation", {"subject": "data", "passed": True}, data, minutes=1, **of)
    code = record(
        "commit", {"commit": CODE, "subject": "Learn hours", "author": "Ada"}, commit=CODE, minutes=2, **of
    )
    first = record("model", {"name": deliverable, "version": 1}, gate, minutes=3, **of)
    old = record("release", {"revision": "r1"}, first, environment="production", minutes=4, **of)
    model = record("model", {"name": deliverable, "version": 2}, gate, code, data, minutes=5, **of)
    retrain = record(
        "decision", {"action": "retrain", "approved": True, "approved_by": "Edsger"}, model, minutes=6, **of
    )
    yes = record(
        "approval",
        {"approved": True, "approved_by": "Grace"},
        retrain,
        environment="production",
        minutes=6.5,
        **of,
    )
    change = record(
        "change",
        {"commit": DESIRED, "repository": "https://git/deploy"},
        yes,
        environment="production",
        minutes=7,
        **of,
    )
    release = record(
        "release", {"revision": "r2", "health": "Healthy"}, change, environment="production", minutes=8, **of
    )
    again = record(
        "release",
        {"revision": "r2", "health": "Healthy", "n": 2},
        change,
        environment="production",
        minutes=9,
        **of,
    )
    broke = record(
        "incident", {"what": "the answers are slow"}, release, environment="production", minutes=10, **of
    )
    return [data, gate, code, first, old, model, retrain, yes, change, release, again, broke]


def told(ledger: sqlite3.Connection, asked: str) -> Passport:
    return passport(ledger, shipped(ledger, resolve(ledger, reference(asked))))


def test_it_answers_the_question_of_questions(tmp_path: Path) -> None:
    found = told(indexed(tmp_path / "index.db", entries(story())), "flight-delay@production")
    assert {one.question: one.answer for one in found.answers} == {
        "What is it?": "flight-delay 2 (model)",
        "Since when?": "2026-03-01 00:08:00 UTC",
        "Made from which data?": f"june.parquet, 9000 rows, digest {'d' * 12}",
        "From which commit?": f"{CODE[:12]} 'Learn hours' by Ada",
        "Deployed by which commit?": f"{DESIRED[:12]} in https://git/deploy",
        "Approved by whom?": "Grace",
        "Which gates has it passed?": "data: yes",
        "What was live before?": "flight-delay 1 (model), released 2026-03-01 00:04:00 UTC",
        "What went wrong since?": "the answers are slow",
    }
    assert (found.live, found.since, found.walk.complete) == (True, at(8), True)


def test_it_is_said_when_it_is_not_live_any_more(tmp_path: Path) -> None:
    ledger = indexed(tmp_path / "index.db", entries(story()))
    found = told(ledger, f"flight-delay@production@{at(5)}")
    assert (found.live, found.since, found.before) == (False, at(4), None)
    assert [one.kind for one in found.incidents] == []
    assert {one.answer for one in found.answers if one.question == "From which commit?"} == {"unknown"}


def test_a_passport_of_what_was_never_released(tmp_path: Path) -> None:
    data = record("dataset", {"rows": 1})
    found = told(indexed(tmp_path / "index.db", entries([data])), data.id)
    assert (found.cell, found.live) == (None, False)


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_a_line_for_each_kind_of_record(kind: str, tmp_path: Path) -> None:
    body = {"app": "api", "reason": "ConfigMap/settings modified"} if kind == "differences" else {}
    one = record(kind, body, environment="staging" if kind in PER_ENVIRONMENT else None)
    walk = up(indexed(tmp_path / "index.db", entries([one])), one.id)
    (line,) = lines(walk)
    assert line.startswith(f"{kind}{' (staging)' if kind in PER_ENVIRONMENT else ''} {one.id[:12]}")
    if kind == "differences":
        assert line.endswith("app=api, reason=ConfigMap/settings modified")


def test_a_record_of_a_kind_that_nobody_knows_yet_has_a_line(tmp_path: Path) -> None:
    from airflow_pipeops.delivery.records import identity

    extra = {**record("dataset", {"colour": "green"}).to_extra(), "kind": "ceremony", "added_later": 1}
    extra["id"] = identity(extra)
    later = entry(
        1, record("dataset"), extra=extra, name="delay-api.ceremony", uri="pipeops://delay-api/ceremony"
    )
    (line,) = lines(up(indexed(tmp_path / "index.db", [later]), extra["id"]))
    assert line == f"ceremony {extra['id'][:12]}  colour=green"


def test_what_is_not_there_and_what_is_not_believed_is_said(tmp_path: Path) -> None:
    forged = record("approval" if "approval" in KINDS else "decision", {"approved_by": "Mallory"})
    model = record("model", {"name": "m", "version": 1}, forged, "0" * 64, minutes=1)
    ledger = indexed(tmp_path / "index.db", [entry(1, forged, task=None), entry(2, model)])
    said = lines(up(ledger, model.id))
    assert sum("nobody holds this record any more" in line for line in said) == 1
    assert sum("(not believed: no task has emitted it)" in line for line in said) == 1


def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    data = record("dataset", {"batch": evil, "rows": 1, evil: evil}, "0" * 64)
    release = record("release", {"revision": evil, "app": evil}, data, environment="production", minutes=1)
    html = page(told(indexed(tmp_path / "index.db", entries([data, release])), "delay-api@production"))
    assert "&lt;script&gt;alert(1)" in html
    assert not re.search(r"<(script|img|iframe|link|object)\b", html)
    assert "default-src 'none'" in html
    assert "nobody holds this record any more" in html
    assert "It is not complete: 1 records" in html


def test_what_is_released_again_by_a_commit_to_another_file_is_live_since_before(tmp_path: Path) -> None:
    """A repository has many files: at another revision, the same values in the same file are the same version."""

    def wanted(minutes: float, commit: str, value: str, changed: bool) -> Record:
        body = {"commit": sha(commit), "file": "a.yaml", "set": {"tag": value}, "changed": changed}
        return record("change", body, environment="production", minutes=minutes)

    def said(*records: Record) -> tuple[str, str]:
        connection = indexed(tmp_path / f"{len(records)}-{records[-1].id[:8]}.db", entries(list(records)))
        found = passport(connection, resolve(connection, reference(records[-1].id)))
        connection.close()
        return found.since, {one.question: one.answer for one in found.answers}["Deployed by which commit?"]

    first, again = wanted(1, "one", "v1", True), wanted(3, "other", "v1", False)
    live = record("release", {"revision": "r1"}, first, environment="production", minutes=2)
    once_more = record("release", {"revision": "r2"}, again, environment="production", minutes=4)
    assert said(first, live, again, once_more) == (live.at, sha("one")[:12])
    # Somebody has committed by hand: the values are others than those of the release before, and no record says by whom.
    by_hand = wanted(3, "other", "v2", False)
    other = record("release", {"revision": "r2"}, by_hand, environment="production", minutes=4)
    told = f"one before {sha('other')[:12]}, which had it already; no record names it"
    assert said(first, live, by_hand, other) == (other.at, told)


def test_data_that_led_to_the_decision_are_not_what_it_was_made_from(tmp_path: Path) -> None:
    seen = record("batch", {"batch": "august.parquet"})
    drift = record("drift", {"batch": "august.parquet"}, seen, minutes=1)
    decision = record("decision", {"action": "retrain"}, drift, minutes=2)
    data = record("dataset", {"batch": "june.parquet+july.parquet"}, decision, minutes=3)
    gate = record("validation", {"passed": True}, data, decision, minutes=3)  # as what one task emits
    model = record("model", {"name": "m", "version": 1}, gate, minutes=4)
    live = record("release", {"revision": "r1"}, model, environment="production", minutes=5)
    connection = indexed(tmp_path / "index.db", entries([seen, drift, decision, data, gate, model, live]))
    found = passport(connection, resolve(connection, reference(live.id)))
    connection.close()
    said = {one.question: one.answer for one in found.answers}["Made from which data?"]
    assert said == "june.parquet+july.parquet"


def wanting(minutes: float, commit: str, value: str, changed: bool = True) -> Record:
    body = {"commit": sha(commit), "file": "a.yaml", "set": {"tag": value}, "changed": changed}
    return record("change", body, environment="production", minutes=minutes)


def shipped_by(minutes: float, change: Record, revision: str, **body: Any) -> Record:
    told = {"revision": revision, "health": "Healthy", **body}
    return record("release", told, change, environment="production", minutes=minutes)


def incident(minutes: float, what: str, *parents: Record) -> Record:
    return record("incident", {"what": what}, *parents, environment="production", minutes=minutes)


def test_a_version_is_live_until_another_one_is_and_not_until_another_commit(tmp_path: Path) -> None:
    one, kept, other = wanting(1, "one", "v1"), wanting(4, "two", "v1", False), wanting(8, "three", "v2")
    first, again = shipped_by(2, one, "r1"), shipped_by(5, kept, "r2", changed=False)
    story = [one, first, incident(3, "slow"), kept, again, incident(6, "slower")]
    connection = indexed(tmp_path / "one.db", entries(story))
    found = passport(connection, resolve(connection, reference(first.id)))
    assert (found.live, found.until, found.since) == (True, "", at(2))
    assert found.cell is not None
    assert (found.cell.release, found.cell.health) == (again.id, "Degraded"), "as its version is now"
    assert [one.body["what"] for one in found.incidents] == ["slower", "slow"]
    connection.close()
    ended = shipped_by(9, other, "r3")
    late = [incident(10, "another's"), incident(11, "named late", first)]
    connection = indexed(tmp_path / "two.db", entries([*story, other, ended, *late]))
    found = passport(connection, resolve(connection, reference(first.id)))
    assert (found.live, found.until) == (False, at(9))
    assert [one.body["what"] for one in found.incidents] == ["named late", "slower", "slow"]
    said = {one.question: one.answer for one in found.answers}["Since when?"]
    assert said == "2026-03-01 00:02:00 UTC until 2026-03-01 00:09:00 UTC"
    connection.close()


def test_what_was_taken_away_has_ended_and_begins_anew_when_it_comes_back(tmp_path: Path) -> None:
    def told_of(*records: Record) -> tuple[bool, str, str, str]:
        connection = indexed(tmp_path / f"{len(records)}.db", entries(records))
        found = passport(connection, resolve(connection, reference("delay-api@production")))
        connection.close()
        assert found.cell is not None
        return found.live, found.since, found.until, found.cell.state

    def released(minutes: float) -> Record:
        return record("release", {"revision": "r1"}, environment="production", minutes=minutes)

    def changed(minutes: float, **body: Any) -> Record:
        return record("change", body, environment="production", minutes=minutes)

    first, again = released(1), released(2)
    gone, made = changed(3, uninstalled=True), changed(4, action="created")
    assert told_of(first, again) == (True, at(1), "", "live")
    assert told_of(first, again, gone) == (False, at(1), at(3), "removed")
    # A change brings nothing back; the release does.
    assert told_of(first, again, gone, made) == (False, at(1), at(3), "removed")
    assert told_of(first, again, gone, made, released(5)) == (True, at(5), "", "live")


def test_of_releases_without_a_revision_nobody_knows_that_they_are_the_same(tmp_path: Path) -> None:
    one = record("release", {"version": "1"}, environment="production", minutes=1)
    two = record("release", {"version": "2"}, environment="production", minutes=2)
    kept = record("release", {"version": "2", "changed": False}, environment="production", minutes=3)
    connection = indexed(tmp_path / "index.db", entries([one, two, kept]))
    found = passport(connection, resolve(connection, reference(kept.id)))
    assert (found.since, found.before and found.before.release) == (at(2), one.id)
    connection.close()


def test_a_gate_that_cannot_tell_is_named_and_a_commit_of_something_else_is_not_its_own(
    tmp_path: Path,
) -> None:
    theirs = record("commit", {"commit": sha("theirs")}, commit=sha("theirs"), deliverable="library")
    own = record("commit", {"commit": CODE}, commit=CODE)
    skew = record("validation", {"subject": "skew", "passed": None}, own, minutes=1)
    image = record("validation", {"subject": "image", "passed": True}, skew, minutes=2)
    live = record("release", {"revision": "r1"}, theirs, image, environment="production", minutes=3)
    connection = indexed(tmp_path / "index.db", entries([theirs, own, skew, image, live]))
    found = passport(connection, resolve(connection, reference(live.id)))
    said = {one.question: one.answer for one in found.answers}
    assert said["From which commit?"] == CODE[:12]
    assert said["Which gates has it passed?"] == "image: yes; skew: cannot tell"
    assert said["What went wrong since?"] == "no incident was recorded"
    connection.close()


def test_what_git_wanted_in_between_without_a_release_is_named_and_ends_the_version_before(
    tmp_path: Path,
) -> None:
    def released(minute: int, wanted: str, found: str | None) -> list[Record]:
        of = {"deliverable": "m", "environment": "production"}
        values = {"file": "m.yaml", "set": {"env.VERSION": wanted}, "previous": {"env.VERSION": found}}
        change = record("change", {"commit": sha(f"{minute}"), **values}, minutes=minute, **of)
        return [change, record("release", {"revision": f"r{minute}"}, change, minutes=minute + 1, **of)]

    def was(records: list[Record], name: str) -> tuple[str, str]:
        found = told(indexed(tmp_path / name, entries(records)), "m@production")
        return found.since, next(
            one.answer for one in found.answers if one.question == "What was live before?"
        )

    first = released(1, "2", "1")
    since, before = was([*first, *released(5, "2", "3")], "by-hand")
    assert since == at(6)
    assert "released 2026-03-01 00:02" in before
    assert before.endswith("; then Git wanted 3 (env.VERSION), whose release no record names")
    for value, said in (("", "an empty text"), (None, "nothing")):
        _, before = was([*first, *released(5, "2", value)], f"{said}.db")
        assert before.endswith(f"; then Git wanted {said} (env.VERSION), whose release no record names")
    assert was([*first, *released(5, "2", "2")], "again") == (
        at(2),
        "nothing, as far as the ledger goes back",
    )
    since, before = was([*first, *released(5, "4", "2")], "next")
    assert (since, "no record names" in before) == (at(6), False)


@pytest.mark.parametrize("way", ["revert", "undo", "rollback"])
def test_what_was_taken_back_is_not_what_is_live(way: str, tmp_path: Path) -> None:
    """A release after a rollback was made of the bad release, too; what runs is what was there before that."""

    def version(name: str, minutes: float) -> list[Record]:
        commit = record("commit", {"commit": sha(name)}, commit=sha(name), minutes=minutes)
        gate = record("validation", {"subject": f"tests of {name}", "passed": True}, commit, minutes=minutes)
        yes = record(
            "approval", {"approved": True, "approved_by": f"who agreed to {name}"}, gate,
            environment="production", minutes=minutes,
        )  # fmt: skip
        change = record("change", {"commit": f"c-{name}"}, yes, environment="production", minutes=minutes + 1)
        return [commit, gate, yes, change, shipped_by(minutes + 2, change, f"c-{name}")]

    def taken_back(minutes: float, bad: Record, wanted: str, name: str = "back") -> list[Record]:
        told = {"reverts": bad.body["revision"], "revision": wanted, "how": way}
        rollback = record("rollback", told, bad, environment="production", minutes=minutes)
        change = record("change", {"commit": name}, bad, rollback, environment="production", minutes=minutes)
        made_of = change if way == "revert" else rollback
        after = record(
            "release", {"revision": wanted}, made_of, environment="production", minutes=minutes + 1
        )
        return [rollback, change, after]

    good, bad = version("good", 0), version("bad", 10)
    back = taken_back(20, bad[-1], "revert" if way == "revert" else "c-good")
    went = incident(22, "slow", bad[-1], back[1])
    story = [*good, *bad, *back, went]
    connection = indexed(tmp_path / "one.db", entries(story))
    found = passport(connection, resolve(connection, reference("delay-api@production")))
    said = {one.question: one.answer for one in found.answers}
    assert found.cell is not None
    assert (found.cell.version, found.cell.behind) == (sha("good")[:7], 1)
    assert (
        said["What is it?"]
        == f"{sha('good')[:7]} (commit), restored as it was released 2026-03-01 00:02:00 UTC"
    )
    assert said["From which commit?"] == sha("good")[:12]
    assert said["Approved by whom?"] == "who agreed to good"
    assert said["Which gates has it passed?"] == "tests of good: yes"
    assert said["What was live before?"].startswith(sha("bad")[:7])
    assert said["What went wrong since?"] == "no incident was recorded", "it names the release before"
    of_bad = passport(connection, shipped(connection, resolve(connection, reference(sha("bad")))))
    assert of_bad.fact.id == bad[-1].id, "what took it back was not made of it"
    assert [one.body["what"] for one in of_bad.incidents] == ["slow"]
    connection.close()
    # What was taken back is released again, by taking that back: then it is live, and not what was there in between.
    again = taken_back(30, back[-1], "again" if way == "revert" else "c-bad", "again")
    found = told(indexed(tmp_path / "two.db", entries([*story, *again])), "delay-api@production")
    assert found.cell is not None
    assert found.cell.version == sha("bad")[:7]


def test_of_what_was_taken_back_to_what_no_record_names_nobody_can_tell(tmp_path: Path) -> None:
    commit = record("commit", {"commit": CODE}, commit=CODE)
    bad = record("release", {"revision": "bad"}, commit, environment="production", minutes=1)
    rollback = record(
        "rollback", {"reverts": "bad", "how": "revert"}, bad, environment="production", minutes=2
    )
    back = record("release", {"revision": "back"}, rollback, environment="production", minutes=3)
    found = told(
        indexed(tmp_path / "index.db", entries([commit, bad, rollback, back])), "delay-api@production"
    )
    assert found.cell is not None
    assert (found.cell.version, found.cell.commit, found.cell.behind) == ("back", "", None)
    assert found.answers[0].answer == "back (revision)"
    assert {one.answer for one in found.answers if one.question == "From which commit?"} == {"unknown"}
