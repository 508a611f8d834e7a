"""From the records of a ledger to candidates and symptoms."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.operations.anomalies.look import look
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.runs import Values
from airflow_pipeops.operations.anomalies.series import Name, Point
from airflow_pipeops.operations.changes.gathering import why
from airflow_pipeops.operations.changes.naming import kind_of, kinds_of_change
from airflow_pipeops.operations.changes.suspects import Explanation, Suspect
from airflow_pipeops.operations.changes.symptoms import went_wrong
from tests.delivery.test_passport import story
from tests.ledgers import at, entries, entry, indexed, record, sha
from tests.ui.seeds import numbered, whole

HOUR = 60.0
Ledger = Callable[[Sequence[Record]], sqlite3.Connection]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    def made(records: Sequence[Record]) -> sqlite3.Connection:
        return indexed(tmp_path / "index.db", entries(sorted(records, key=lambda one: one.at)))

    return made


def shipped(name: str, minutes: float, *environments: str, **body: Any) -> list[Record]:
    """A commit with its image, a change and a release in each environment, an hour apart."""
    commit = sha(name)
    said = {
        "commit": commit,
        "subject": name,
        "author": "ada",
        "repository": "git@github.com:acme/delay-api.git",
    }
    born = record("commit", said, commit=commit, minutes=minutes)
    image = record("image", {"digest": f"sha256:{name}"}, born, minutes=minutes + 5)
    found = [born, image]
    for number, environment in enumerate(environments or ("staging", "production")):
        then = minutes + 10 + 60 * number
        change = record(
            "change", {"commit": sha(f"{name} {environment}"), "changed": True, "file": f"{environment}.yaml", **body},
            image, environment=environment, minutes=then,
        )  # fmt: skip
        release = record(
            "release", {"revision": sha(f"{name} {environment}"), "health": "Healthy"}, change,
            environment=environment, minutes=then + 3,
        )  # fmt: skip
        found += [change, release]
    return found


def incident(minutes: float, *parents: Record, **more: Any) -> Record:
    body = {"what": "3 of 4 pods restart", **more.pop("body", {})}
    return record("incident", body, *parents, environment="production", minutes=minutes, **more)


def named(found: Explanation, what: str) -> Suspect:
    (one,) = [one for one in found.suspects if one.candidate.what.startswith(what)]
    return one


def told(found: Explanation) -> list[tuple[str, str]]:
    return [(one.candidate.kind, one.candidate.what) for one in found.suspects]


@pytest.mark.parametrize(
    ("body", "link"),
    [
        ({"url": "https://ci.example.com/9"}, "https://ci.example.com/9"),
        ({"url": "javascript:alert(1)"}, ""),
        ({"url": "https://ci.example.com/\x1b[2J"}, ""),
        (
            {"url": "data:text/html,x", "repository": "https://gitlab.com/a/b"},
            f"https://gitlab.com/a/b/-/commit/{sha('c')}",
        ),
        ({"repository": "javascript://github.com/a/b"}, ""),
        ({"url": ["https://ci.example.com/9"]}, ""),
    ],
    ids=str,
)
def test_a_candidate_links_to_the_web_or_nowhere(ledger: Ledger, body: dict[str, Any], link: str) -> None:
    change = record(
        "change", {"commit": sha("c"), "file": "a.yaml", **body}, environment="production", minutes=10
    )
    (one,) = why(ledger([change, incident(20)]), "delay-api@production").suspects
    assert one.candidate.link == link


@pytest.mark.parametrize("recorded", [True, False], ids=["a commit", "no commit"])
def test_a_commit_that_a_prompt_was_read_from_is_a_prompt_and_one_candidate(
    ledger: Ledger, recorded: bool
) -> None:
    said = {"commit": sha("words"), "subject": "Say who made the aircraft", "author": "cleo"}
    born = record("commit", said, commit=sha("words"), minutes=10_000)
    read = {"name": "notice", "sha256": "5" * 64}
    prompt = record("prompt", read, *([born] if recorded else []), commit=sha("words"), minutes=10_005)
    change = record(
        "change", {"commit": sha("c"), "changed": True, "file": "production/prompt.yaml", "set": {"ConfigMap/notice": "5"}},
        prompt, environment="production", minutes=10_010,
    )  # fmt: skip
    worse = record(
        "evaluation",
        {"worse": True, "value": 0.5, "metric": "contains"},
        environment="production",
        minutes=10_700,
    )
    found = why(ledger([*shipped("old", 0), *([born] if recorded else []), prompt, change, worse]), worse.id)
    assert told(found)[0] == ("prompt", "Say who made the aircraft" if recorded else "notice")
    assert [kind for kind, _ in told(found)].count("prompt") == 1


def test_a_commit_that_an_image_was_built_of_and_a_prompt_was_read_from_is_code(ledger: Ledger) -> None:
    born, image = shipped("both", 10_000, "production")[:2]
    prompt = record("prompt", {"name": "notice"}, born, commit=born.commit, minutes=10_001)
    change = record(
        "change", {"commit": sha("c"), "changed": True, "file": "production.yaml"}, image, prompt,
        environment="production", minutes=10_010,
    )  # fmt: skip
    broke = incident(10_020)
    found = why(ledger([*shipped("old", 0), born, image, prompt, change, broke]), broke.id)
    assert sorted(told(found)) == [("code", "both"), ("code", "old")]


def test_what_goes_through_many_records_is_one_candidate(ledger: Ledger) -> None:
    broke = incident(10_100)
    found = why(ledger([*shipped("old", 0), *shipped("new", 10_000), broke]), broke.id)
    assert told(found) == [("code", "new"), ("code", "old")]
    first = found.suspects[0].candidate
    # It took effect when the desired state of production named it, and not when it was committed.
    assert (first.at, first.environment, first.author) == (at(10_070), "production", "ada")
    assert (found.outcome, found.symptom.kind, found.symptom.start) == ("likely", "degraded", at(10_073))
    assert first.elsewhere == pytest.approx(90 / 60)
    assert found.suspects[0].check.command.startswith(
        "airflow pipeops passport delay-api@production@2026-03-07T23:49:59Z"
    )


def test_what_is_in_staging_alone_is_no_suspect_in_production(ledger: Ledger) -> None:
    broke = incident(10_100)
    found = why(ledger([*shipped("old", 0), *shipped("new", 10_000, "staging"), broke]), broke.id)
    assert told(found) == [("code", "old")]


def test_values_are_told_from_the_version_beside_them(ledger: Ledger) -> None:
    both = shipped(
        "new",
        10_000,
        "production",
        set={"image.tag": "2", "replicas": 1, "timeout": 5},
        previous={"timeout": 30},
    )
    broke = incident(10_030)
    found = why(ledger([*shipped("old", 0), *both, broke]), broke.id)
    assert set(told(found)) == {
        ("code", "new"), ("code", "old"), ("infra", "replicas=1"), ("config", "timeout=5"),
    }  # fmt: skip
    assert named(found, "timeout").candidate.before == "timeout=30"
    assert "It was: timeout=30" in named(found, "timeout").check.what


def test_a_value_that_was_the_same_before_is_no_change(ledger: Ledger) -> None:
    again = {"set": {"image.tag": "2", "replicas": 1}, "previous": {"image.tag": "1", "replicas": 1}}
    broke = incident(10_030)
    found = why(ledger([*shipped("old", 0), *shipped("new", 10_000, "production", **again), broke]), broke.id)
    assert set(told(found)) == {("code", "new"), ("code", "old")}


def test_what_was_taken_back_last_time_is_suspected_more(ledger: Ledger) -> None:
    bad = shipped("bad", 5_000, "production")
    back = record(
        "change", {"commit": sha("back"), "reverts": sha("bad production"), "reason": "slow"},
        environment="production", minutes=5_060,
    )  # fmt: skip
    other = record(
        "change", {"commit": sha("o"), "changed": True, "file": "other.yaml", "set": {"timeout": 3}},
        environment="production", minutes=10_012,
    )  # fmt: skip
    broke = incident(10_030)
    found = why(
        ledger([*shipped("old", 0), *bad, back, *shipped("new", 10_000, "production"), other, broke]),
        broke.id,
    )
    new = named(found, "new").candidate
    assert (new.same, new.taken_back) == (2, 1)  # that of the revert names no file
    assert [one.reason for one in found.excluded] == ["it was taken back before, and all was well after that"]
    assert "bad" not in [what for _, what in told(found)]


@pytest.mark.parametrize(("kind", "shows"), [("duration", "degraded"), ("rows", "data")])
def test_an_anomaly_is_explained_by_what_changed_between_two_values(
    ledger: Ledger, kind: str, shows: str
) -> None:
    """The record is that of a real look; the last change is an innocent one, which came after the first slow value."""
    start = datetime.fromisoformat(at(0)).timestamp()
    told = [
        (Name("delay-api/table", kind), Point(start + 60.0 * minute, value, run=f"{minute}"))
        for minute, value in [*((9_000 + 20 * n, 10.0 + n % 3) for n in range(53)), (10_060, 90.0)]
    ]
    seen = look(Values(tuple(told)), AnomalyPolicy(), start + 60 * 10_050, start + 60 * 10_100, {})
    anomaly = record("anomaly", seen.facts(AnomalyPolicy()), minutes=10_100)
    changes = [
        shipped(name, minutes, "production")
        for name, minutes in (("old", 0), ("new", 10_035), ("late", 10_052))
    ]
    found = why(ledger([*(one for every in changes for one in every), anomaly]), anomaly.id)
    assert [one.candidate.what for one in found.suspects] == ["new", "old"]
    assert (found.symptom.kind, found.symptom.start, found.symptom.end) == (shows, at(10_040), at(10_060))
    assert found.symptom.what.startswith("delay-api/table")
    assert found.symptom.record == anomaly.id


def test_regions_side_by_side_clear_what_both_carry(ledger: Ledger) -> None:
    both = shipped("both", 10_000, "production", "production-us")
    one = record(
        "change", {"commit": sha("one"), "changed": True, "file": "eu.yaml", "set": {"timeout": 3}},
        environment="production", minutes=10_072,
    )  # fmt: skip
    broke = incident(10_080)
    found = why(ledger([*shipped("old", 0, "production", "production-us"), *both, one, broke]), broke.id)
    assert (named(found, "both").candidate.coverage, named(found, "timeout").candidate.coverage) == (0, 1)
    assert told(found)[0] == ("config", "timeout=3")


def test_what_comes_to_the_second_region_is_one_change_where_nobody_says_which(ledger: Ledger) -> None:
    worse = record(
        "evaluation", {"subject": "performance", "metric": "auc", "value": 0.5, "worse": True}, minutes=10_100
    )
    both = shipped("both", 10_000, "production", "production-us")
    found = why(ledger([*shipped("old", 0, "production"), *both, worse]), worse.id)
    assert set(told(found)) == {("code", "both"), ("code", "old")}


def batches(*, last: int = 10, columns: int = 12, rows: int = 1000) -> list[Record]:
    """A batch each day, with a comparison of each."""
    found = []
    for day in range(last):
        body = {"batch": f"day {day}", "rows": rows + day, "digest": sha(f"{day}"), "columns": columns}
        batch = record("batch", body, minutes=24 * HOUR * day)
        drift = record(
            "drift",
            {"subject": "data", "drifted": False, "batch": f"day {day}"},
            batch,
            minutes=24 * HOUR * day + 5,
        )
        found += [batch, drift]
    return found


def test_a_batch_of_other_columns_is_a_change_of_schema(ledger: Ledger) -> None:
    odd = record(
        "batch", {"batch": "odd", "rows": 1010, "digest": sha("odd"), "columns": 11}, minutes=10 * 24 * HOUR
    )
    gate = record(
        "validation", {"subject": "data", "passed": False, "batch": "odd"}, odd, minutes=10 * 24 * HOUR
    )
    found = why(ledger([*batches(), odd, gate]), gate.id)
    assert told(found)[0] == ("schema", "batch odd: 11 columns, 12 before")
    assert found.symptom.kind == "data"
    assert found.suspects[0].probability > 2 / 3
    # The gate that is asked about is no argument against it; and the others are off the way by which it was made.
    assert found.suspects[0].candidate.judged == ""
    assert named(found, "batch day 9").candidate.distance == 1


def test_a_batch_that_did_not_come_is_a_suspect(ledger: Ledger) -> None:
    worse = record(
        "evaluation", {"subject": "performance", "metric": "auc", "value": 0.6, "worse": True},
        minutes=(9 * 24 + 34) * HOUR,
    )  # fmt: skip
    found = why(ledger([*batches(), worse]), worse.id)
    (late,) = [one.candidate for one in found.suspects if one.candidate.kind == "late data"]
    assert late.at == at(10 * 24 * HOUR)
    assert late.what == "no batch after day 9 for 34 h; 24 h are usual"
    assert not [one for one in why(ledger_of(ledger, 10), f"delay-api@production@{at(9 * 1440 + 60)}").suspects
                if one.candidate.kind == "late data"]  # fmt: skip


def ledger_of(ledger: Ledger, last: int) -> sqlite3.Connection:
    return ledger(batches(last=last))


def test_an_upstream_is_further_away_and_a_stranger_is_nothing(ledger: Ledger) -> None:
    far = shipped("theirs", 10_000, "production")
    far = [
        record(o.kind, o.body, deliverable="stranger", environment=o.environment, minutes=10_001) for o in far
    ]
    feed = record("batch", {"batch": "feed", "rows": 5, "digest": "f"}, deliverable="feed", minutes=10_020)
    mine = record("batch", {"batch": "mine", "rows": 5, "digest": "m"}, feed, minutes=10_025)
    drift = record("drift", {"subject": "data", "drifted": True, "batch": "mine"}, mine, minutes=10_030)
    found = why(ledger([*far, feed, mine, drift]), drift.id)
    assert {one.candidate.what: one.candidate.distance for one in found.suspects} == {
        "batch mine": 0,
        "batch feed": 1,
    }


def test_what_somebody_records_of_the_outside_counts_from_when_it_takes_effect(ledger: Ledger) -> None:
    cert = record(
        "change", {"subject": "secret", "what": "certificate", "file": "api certificate", "effective": at(10_000)},
        environment="production", minutes=100,
    )  # fmt: skip
    broke = incident(10_006)
    found = why(ledger([*shipped("old", 0), cert, broke]), broke.id)
    assert told(found)[0] == ("secret", "api certificate")
    assert found.suspects[0].candidate.at == at(10_000)


def test_what_is_not_believed_is_no_suspect(tmp_path: Path) -> None:
    good, broke = shipped("old", 0), incident(10_030)
    forged = shipped("forged", 10_000, "production")
    given = [entry(seq, one) for seq, one in enumerate(good, 1)]
    given += [
        entry(len(given) + n, one, task=None, dag=None, run=None, map_index=None)
        for n, one in enumerate(forged, 1)
    ]
    given.append(entry(len(given) + 1, broke))
    assert told(why(indexed(tmp_path / "index.db", given), broke.id)) == [("code", "old")]


def test_a_place_is_asked_about_with_and_without_a_time(ledger: Ledger) -> None:
    broke = incident(10_100)
    index = ledger([*shipped("old", 0), *shipped("new", 10_000), broke])
    assert why(index, "delay-api@production").symptom.record == broke.id
    assert why(index, f"delay-api@production@{at(10_200)}").symptom.record == broke.id
    earlier = why(index, f"delay-api@production@{at(200)}")
    assert (earlier.symptom.kind, earlier.symptom.record, told(earlier)) == ("unknown", "", [("code", "old")])
    with pytest.raises(NotFound, match="nothing of delay-api is live in"):
        why(index, "delay-api@production", allowed=["another"])


def test_a_run_is_asked_about(ledger: Ledger) -> None:
    index = ledger([*shipped("old", 0), *shipped("new", 10_000, "production")])
    found = why(index, "dag/run")
    assert (found.symptom.kind, found.symptom.deliverable) == ("failure", "delay-api")
    with pytest.raises(NotFound, match="has recorded nothing"):
        why(index, "dag/another")


@pytest.mark.parametrize("ref", ["", "no such", "commit"])
def test_what_went_wrong_with_nothing_is_refused(ledger: Ledger, ref: str) -> None:
    index = ledger(shipped("old", 0))
    with pytest.raises(InvalidInput):
        why(index, sha("old") if ref == "commit" else ref)


def test_who_may_not_see_a_deliverable_is_told_nothing_of_it(ledger: Ledger) -> None:
    feed = record("batch", {"batch": "feed", "rows": 5, "digest": "f"}, deliverable="feed", minutes=10_020)
    mine = record("batch", {"batch": "mine", "rows": 5, "digest": "m"}, feed, minutes=10_025)
    drift = record("drift", {"subject": "data", "drifted": True, "batch": "mine"}, mine, minutes=10_030)
    index = ledger([feed, mine, drift])
    assert told(why(index, drift.id, allowed=["delay-api"])) == [("data", "batch mine")]
    with pytest.raises(NotFound):
        why(index, drift.id, allowed=["feed"])


def test_the_demo_like_ledger_explains_its_incident(tmp_path: Path) -> None:
    """Months of work of a service and a model beside seven others; the release that went bad is found."""
    index = indexed(tmp_path / "index.db", numbered(whole()))
    (bad,) = index.execute("SELECT id FROM records WHERE kind = 'incident'").fetchone()
    found = why(index, bad)
    assert (found.outcome, told(found)[0]) == ("likely", ("code", "Cache answers by airport"))
    # Whatever came after it is not known then.
    assert "Cache answers by airport and day" not in [what for _, what in told(found)]
    (worse,) = index.execute(
        "SELECT id FROM records WHERE kind = 'evaluation' AND content ->> '$.body.worse' = 1 ORDER BY at LIMIT 1"
    ).fetchone()
    assert why(index, worse).symptom.kind == "metric"


def test_the_story_of_the_passport_is_explained(tmp_path: Path) -> None:
    index = indexed(tmp_path / "index.db", entries(story()))
    found = why(index, "flight-delay@production")
    assert told(found)[0][0] in ("code", "model")
    assert found.symptom.kind == "degraded"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("spec.replicas", "infra"), ("prompts.greet", "prompt"), ("featureFlags.fast", "flag"), ("image.tag", "image"),
        ("db/migrations/7.sql", "schema"), ("tls.certificate", "secret"), ("storageUri", "model"),
        ("requirements.txt", "library"), ("api_base", "provider"), ("timeout", "config"),
    ],
)  # fmt: skip
def test_a_path_says_what_kind_of_change_it_is(path: str, kind: str) -> None:
    assert kind_of(path) == kind
    assert kinds_of_change({"file": "values.yaml", "set": {path: 1}}) == {kind: [path]}


@pytest.mark.parametrize(
    ("kind", "body", "shows"),
    [
        ("incident", {"what": "the answers are slow"}, "degraded"),
        ("incident", {"what": "x", "symptom": "metric"}, "metric"),
        ("incident", {"what": "column fare is null"}, "data"),
        ("incident", {"what": "hm"}, "unknown"),
        ("release", {"health": "Degraded"}, "degraded"),
        ("release", {"health": "Healthy"}, None),
        ("evaluation", {"verdict": "worse"}, "metric"),
        ("drift", {"drifted": False}, None),
        ("validation", {"subject": "tests", "test-result": {"result": "FAILED"}, "passed": 3}, "failure"),
        ("change", {}, None),
        ("anomaly", {"alarms": [{"kind": "interval"}]}, "failure"),
        ("anomaly", {"alarms": []}, None),
    ],
)
def test_a_record_says_how_it_shows(tmp_path: Path, kind: str, body: dict, shows: str | None) -> None:
    from airflow_pipeops.delivery.queries.facts import Fact

    assert went_wrong(Fact(1, "a", kind, "d", body=body)) == shows
