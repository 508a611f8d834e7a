"""The ranking, as a pure function: what must hold whatever is recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.changes.scoring import rank
from airflow_pipeops.operations.changes.settings import CHANGES, DEFAULT, HABITS, SYMPTOMS
from airflow_pipeops.operations.changes.suspects import Candidate, Earlier, Explanation, Symptom

ONSET = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def at(hours: float) -> str:
    """So many hours before the onset was seen."""
    return (ONSET - timedelta(hours=hours)).isoformat()


def symptom(kind: str = "degraded", known: float = 0.5) -> Symptom:
    """Seen at the onset; all was well so many hours before."""
    return Symptom(kind, at(known), at(0), "delay-api", "production", "slow", "seen")  # type: ignore[arg-type]


def change(ident: str = "a", kind: str = "code", hours: float = 0.25, **more: object) -> Candidate:
    return Candidate(ident, kind, at(hours), "delay-api", "production", f"{kind} {ident}", **more)  # type: ignore[arg-type]


def order(found: Explanation) -> list[str]:
    return [one.candidate.id for one in found.suspects]


def argument(found: Explanation, ident: str, name: str) -> float:
    (mine,) = [one for one in found.suspects if one.candidate.id == ident]
    (value,) = [item.value for item in mine.contributions if item.name == name]
    return value


#: Without the shrinking, which takes minutes for what is as large as this.
PHASES = (Phase.explicit, Phase.generate)

CANDIDATES = st.builds(
    Candidate,
    id=st.text("abcdef0123456789", min_size=8, max_size=8),
    kind=st.sampled_from(CHANGES),
    at=st.floats(-48, 500).map(at),
    deliverable=st.sampled_from(["delay-api", "flights"]),
    environment=st.sampled_from(["", "production"]),
    what=st.text(max_size=8),
    size=st.none() | st.floats(0, 1e6),
    author=st.sampled_from(["", "ada", "grace"]),
    distance=st.none() | st.integers(0, 4),
    coverage=st.none() | st.floats(-1, 1),
    elsewhere=st.floats(0, 1e4),
    judged=st.sampled_from(["", "well", "ill"]),
    same=st.just(7),
    taken_back=st.integers(0, 7),
    earlier=st.builds(
        Earlier,
        sizes=st.lists(st.floats(0, 1e6), max_size=9).map(tuple),
        authors=st.dictionaries(st.sampled_from(["ada", "grace", "kurt"]), st.integers(1, 30)),
    ),
)
ASKED = st.builds(symptom, st.sampled_from(SYMPTOMS), st.floats(0, 400))


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(st.lists(CANDIDATES, max_size=8, unique_by=lambda one: one.id), ASKED, st.randoms())
def test_the_order_in_which_changes_are_told_does_not_matter(found, asked, random) -> None:
    before = rank(found, asked)
    random.shuffle(found)
    assert rank(found, asked) == before


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(st.lists(CANDIDATES, max_size=8, unique_by=lambda one: one.id), CANDIDATES, ASKED)
def test_one_more_change_does_not_reorder_the_others(found, another, asked) -> None:
    another = replace(another, id="another")
    before, after = rank(found, asked), rank([*found, another], asked)
    assert [ident for ident in order(after) if ident != "another"] == order(before)
    for one in before.suspects:
        (same,) = [two for two in after.suspects if two.candidate.id == one.candidate.id]
        assert same.score == one.score
        assert same.probability <= one.probability + 1e-12


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(st.lists(CANDIDATES, max_size=8, unique_by=lambda one: one.id), ASKED)
def test_what_is_said_adds_up(found, asked) -> None:
    answer = rank(found, asked)
    assert sum(one.probability for one in answer.suspects) + answer.none == pytest.approx(1)
    assert len(answer.suspects) + len(answer.excluded) == len(found)
    for one in answer.suspects:
        assert one.candidate.at <= asked.end
        assert one.candidate.distance is not None
        assert one.score == pytest.approx(math.fsum(item.value for item in one.contributions))
        assert math.isfinite(one.score)
        assert one.reason
        # The odds of two, or of one and none, are the difference of their scores.
        if answer.none > 1e-12 and one.probability > 1e-12:
            odds = math.log(one.probability / answer.none)
            assert odds == pytest.approx(one.score - answer.none_score, abs=1e-6)
    assert Explanation.from_json(answer.to_json()) == answer


def test_without_a_change_nothing_is_blamed() -> None:
    found = rank([], symptom())
    assert (found.outcome, found.none, found.suspects) == ("none of these", 1.0, ())
    assert "nothing is recorded" in found.reason


@pytest.mark.parametrize("seconds", [1, 60, 3600])
def test_a_change_after_the_onset_is_never_it(seconds: int) -> None:
    late = change("late", hours=-seconds / 3600)
    found = rank([late, change("early", hours=300)], symptom())
    assert order(found) == ["early"]
    assert [(one.id, one.reason) for one in found.excluded] == [("late", "it came after the onset")]


def test_a_change_of_a_moment_ago_is_the_likely_cause_and_one_of_last_week_is_not() -> None:
    found = rank([change("now", hours=0.2), change("old", hours=150)], symptom())
    assert (found.outcome, order(found)) == ("likely", ["now", "old"])
    assert found.suspects[0].probability > 0.9
    old = rank([change("old", hours=150)], symptom())
    assert old.outcome == "none of these"
    assert old.none > 0.9


def test_what_the_onset_may_be_is_taken_into_account() -> None:
    """A failed run says only that it went wrong since the last good one: how long before the run no matter."""
    hours = [change(str(hours), hours=hours) for hours in (2, 10, 20)]
    within = [one.probability for one in rank(hours, symptom("failure", known=24)).suspects]
    assert max(within) / min(within) < 1.1
    # Where it is known to the minute, the closest stands out.
    known = rank(hours, symptom("failure", known=0.1))
    assert order(known) == ["2", "10", "20"]
    assert known.suspects[0].probability > 10 * known.suspects[1].probability


def test_how_it_shows_says_what_it_is() -> None:
    both = [change("code"), change("prompt", "prompt"), change("schema", "schema")]
    assert order(rank(both, symptom("failure")))[0] in ("code", "schema")
    old = [replace(one, at=at(5)) for one in both]
    assert order(rank(old, symptom("metric", 1)))[0] == "prompt"
    assert order(rank(both, symptom("data")))[0] == "schema"
    assert argument(rank(both, symptom("unknown")), "code", "symptom") == 0


@pytest.mark.parametrize(
    ("less", "more", "name"),
    [
        ({"distance": 2}, {"distance": 1}, "lineage"),
        ({"coverage": -1.0}, {"coverage": 0.0}, "coverage"),
        ({"coverage": 0.0}, {"coverage": 1.0}, "coverage"),
        ({"elsewhere": 40.0}, {"elsewhere": 0.1}, "elsewhere"),
        ({"judged": "well"}, {}, "judged"),
        ({}, {"judged": "ill"}, "judged"),
        ({"same": 6}, {"same": 6, "taken_back": 3}, "taken back before"),
        ({"size": 4.0}, {"size": 900.0}, "size"),
        ({"author": "ada"}, {"author": "grace"}, "author"),
    ],
)
def test_each_argument_counts_in_its_direction(less: dict, more: dict, name: str) -> None:
    usual = Earlier(tuple(map(float, range(30))), {"ada": 29, "grace": 1}, {})
    found = rank([change("less", earlier=usual, **less), change("more", earlier=usual, **more)], symptom())
    assert order(found) == ["more", "less"]
    assert argument(found, "more", name) > argument(found, "less", name)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"distance": None}, "no lineage"),
        ({"undone": at(1)}, "taken back before"),
        ({"hours": 24 * 14 + 1}, "more than 14 days before"),
        ({"ident": "seen"}, "it is what went wrong"),
    ],
)
def test_what_cannot_be_it_is_left_out_with_the_reason(more: dict, reason: str) -> None:
    (found,) = rank([change(**{"hours": 2, **more})], symptom()).excluded
    assert reason in found.reason


def test_a_change_that_was_taken_back_after_the_onset_stays_a_suspect() -> None:
    assert order(rank([change(undone=at(-1))], symptom())) == ["a"]


def test_few_earlier_changes_make_nothing_rare() -> None:
    found = rank([change(size=1e9, author="new", earlier=Earlier((1.0, 2.0), {"ada": 2}))], symptom())
    assert [argument(found, "a", name) for name in ("size", "author", "hour")] == [0, 0, 0]


def test_rareness_is_a_density() -> None:
    """On average over innocent changes, an argument from rareness is worth no more than nothing."""
    sizes = tuple(map(float, range(40)))
    for exponent in (DEFAULT.surprise_size, DEFAULT.surprise_author, DEFAULT.surprise_hour):
        with_ = replace(DEFAULT, surprise_size=exponent)
        ratios = [
            math.exp(
                argument(rank([change(size=size, earlier=Earlier(sizes))], symptom(), with_), "a", "size")
            )
            for size in sizes
        ]
        assert 0.9 < sum(ratios) / len(ratios) <= 1.01


def test_the_numbers_are_whole() -> None:
    assert set(HABITS) == set(CHANGES)
    for habit in (*HABITS.values(),):
        assert sum(habit.shows.values()) == pytest.approx(1)
        assert set(habit.shows) == set(SYMPTOMS) - {"unknown"}
        assert 0 < habit.prior < 1
    assert sum(DEFAULT.background_shows.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "weather"},
        {"coverage": 1.5},
        {"distance": -1},
        {"same": 1, "taken_back": 2},
        {"undone": "soon"},
    ],
)
def test_a_change_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(InvalidInput):
        change(**{"kind": "code", **wrong})


def test_an_onset_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInput, match="earlier"):
        Symptom("failure", at(0), at(1))
