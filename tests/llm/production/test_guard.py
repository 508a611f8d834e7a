"""A prompt goes back where it is worse beyond doubt, however often one looks; and by whom it was held against others."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production import evidence, feedback
from airflow_pipeops.llm.production.evidence import Block
from airflow_pipeops.llm.production.guard import PromptPolicy, Seen, judge
from airflow_pipeops.llm.production.measures import measure
from tests.llm.production.spans import NOON

NEW, OLD = "n" * 64, "o" * 64
ACT = PromptPolicy(mode="act", delay=timedelta(0))
LATER = NOON + timedelta(days=60)

WORSE, EVEN = Block(True, 1, 2), Block(False, 1, 2)


def blocks(worse: int, even: int, none: int = 0) -> tuple[Block, ...]:
    return (WORSE,) * worse + (EVEN,) * even + (Block(False, 0, 2),) * none


@pytest.mark.parametrize(
    ("seen", "policy", "verdict", "said"),
    [
        (Seen(100, 100, blocks(0, 0, 100), blocks(0, 0, 100)), ACT, "wait", "100 conversations"),
        (Seen(100, 100, blocks(30, 5), blocks(0, 0, 100)), ACT, "worse", "thumb down"),
        (Seen(100, 100, blocks(20, 20), blocks(30, 4)), ACT, "worse", "hard failure"),
        (Seen(100, 100, blocks(20, 20), blocks(20, 20)), ACT, "wait", "clear it"),
        (Seen(1000, 1000, blocks(20, 20, 960), blocks(9, 9, 982)), ACT, "no worse", "not worse beyond doubt"),
        (Seen(100, 0, unfit="no split"), ACT, "cannot tell", "no split"),
        (
            Seen(100, 0, unfit="no split", hard=30),
            PromptPolicy(mode="act", most_failures=0.05),
            "worse",
            "5.00%",
        ),
        (Seen(100, 9, blocks(30, 0), blocks(1, 1), missing="2 %"), ACT, "labels missing", "2 %"),
        (Seen(100, 9, blocks(0, 0), blocks(30, 0), missing="2 %"), ACT, "worse", "hard failure"),
    ],
)
def test_the_first_rule_that_matches_decides(
    seen: Seen, policy: PromptPolicy, verdict: str, said: str
) -> None:
    found = judge(seen, policy)
    assert found.verdict == verdict
    assert said in found.reason
    assert found.act is (verdict == "worse")
    assert Seen.from_json(seen.to_json()) == seen


def test_only_a_concurrent_comparison_takes_anything_back_by_itself() -> None:
    seen = Seen(100, 100, blocks(30, 5), blocks(0, 0, 100))
    earlier = judge(seen, PromptPolicy(design="before", mode="act"))
    assert (earlier.verdict, earlier.act, earlier.propose) == ("worse", False, True)
    assert judge(seen, PromptPolicy(mode="observe")).propose is False
    asked = judge(seen, PromptPolicy(mode="propose"))
    assert (asked.act, asked.propose) == (False, True)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"design": "ab"}, "design"), ({"share": 0}, "share"), ({"margin": 0.5}, "margin"), ({"alpha": 0.7}, "alpha"),
     ({"most_failures": 1.0}, "most_failures"), ({"enough": 3}, "enough"), ({"min_rated": 1}, "min_rated")],
)  # fmt: skip
def test_a_policy_that_makes_no_sense(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        PromptPolicy(**wrong)
    assert error.value.field == field


# --- the evidence -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 10), st.integers(1, 9), st.floats(0.2, 5))
def test_the_chance_of_a_block_is_that_of_its_model(size: int, bad: int, odds: float) -> None:
    """Held against the probabilities themselves, of a new prompt and of others with any rate at all."""
    if bad >= size:
        return
    rate = 0.13
    new = odds * rate / (1 - rate) / (1 + odds * rate / (1 - rate))
    others = size - 1

    def chance(count: int) -> float:
        return math.comb(others, count) * rate**count * (1 - rate) ** (others - count)

    here, there = new * chance(bad - 1), (1 - new) * chance(bad)
    assert Block(True, bad, size).chance(odds) == pytest.approx(here / (here + there))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.sampled_from([1.0, 1.5, 3.0]))
def test_a_bet_is_fair(bad: int, margin: float) -> None:
    """The expectation of each step is 1 where the new prompt is as bad as is allowed, and less where it is better."""
    size = 31
    for truth in (margin, margin / 2):
        chance = Block(True, bad, size).chance(truth)
        won = chance * math.exp(evidence.against([Block(True, bad, size)], margin))
        lost = (1 - chance) * math.exp(evidence.against([Block(False, bad, size)], margin))
        assert won + lost <= 1 + 1e-9


def alarms(
    rate_new: float, rate_old: float, controls: int, runs: int, length: int, seed: int
) -> tuple[float, float]:
    """Share of runs whose evidence passes 20 at any of ``length`` looks, and the median look of those that do."""
    random = np.random.default_rng(seed)
    # What each bet wins, by what a block was: whether the new one was bad, and how many were.
    won = np.zeros((2, controls + 2, len(evidence._STRONGER)))
    for bad in range(1, controls + 1):
        for new in (False, True):
            block = Block(new, bad, controls + 1)
            won[int(new), bad] = [evidence._bet([block], 1.0, stronger) for stronger in evidence._STRONGER]
    hits = []
    for _ in range(runs):
        # The rate of the hour moves by a factor of three: traffic is never stationary.
        hour = np.exp(np.sin(np.arange(length) / 50) * 0.55)
        ours = (random.random(length) < np.minimum(0.9, rate_new * hour)).astype(int)
        bad = ours + random.binomial(controls, np.minimum(0.9, rate_old * hour))
        money = np.exp(np.minimum(50, won[ours, bad].cumsum(axis=0))).mean(axis=1)
        if (money >= 20).any():
            hits.append(int(np.argmax(money >= 20)))
    return len(hits) / runs, float(np.median(hits)) if hits else math.inf


@pytest.mark.parametrize("controls", [1, 9])
def test_equal_prompts_alarm_at_most_as_often_as_is_stated(controls: int) -> None:
    share, _ = alarms(0.05, 0.05, controls, runs=1000, length=2000, seed=1)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_prompt_that_is_worse_is_found() -> None:
    share, look = alarms(0.15, 0.05, 9, runs=200, length=1000, seed=2)
    assert share == 1.0
    assert look < 400


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_figures_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of docs/llm-production.md; 2,000 runs of 3,000 conversations with the new prompt each."""
    with capsys.disabled():
        for rate in (0.02, 0.05):
            for worse in (1.0, 1.5, 2.0, 3.0):
                told = [alarms(min(0.9, rate * worse), rate, controls, 2000, 3000, 7) for controls in (1, 9)]
                print(rate, worse, [(f"{share:.1%}", look) for share, look in told])
                if worse == 1:
                    assert max(share for share, _ in told) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_odds_are_estimated_and_bounded() -> None:
    seen = blocks(60, 20)
    assert evidence.odds(seen) == pytest.approx(3.0, rel=1e-3)
    assert 1 < evidence.at_least(seen, 0.05) < 3
    assert evidence.at_least(blocks(10, 10), 0.05) < 1
    assert evidence.odds([]) is None
    assert evidence.odds(blocks(5, 0)) == math.inf


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.4))
def test_a_bound_is_a_margin_that_the_evidence_is_against(worse: int, even: int, alpha: float) -> None:
    seen = blocks(worse, even)
    low = evidence.at_least(seen, alpha)
    if low:
        assert evidence.against(seen, low) >= math.log(1 / alpha) - 1e-6
        assert evidence.against(seen, low * 1.01) < math.log(1 / alpha) or low > 900


def test_a_rate_above_its_limit() -> None:
    assert evidence.above(30, 100, 0.05) > math.log(20)
    assert evidence.above(5, 100, 0.05) < 0
    assert evidence.above(0, 0, 0.05) == pytest.approx(0)


# --- thumbs, late -------------------------------------------------------------------------------------------------------


def calls(rows: list[tuple[float, str, str, str]]) -> pd.DataFrame:
    """Rows of (minutes after noon, conversation, digest, error)."""
    return pd.DataFrame(
        {
            "request_id": [f"r{number}" for number in range(len(rows))],
            "at": [pd.Timestamp(NOON) + pd.Timedelta(minutes=minute) for minute, _, _, _ in rows],
            "conversation": [conversation for _, conversation, _, _ in rows],
            "prompt_digest": [digest for _, _, digest, _ in rows],
            "input": "Hi",
            "answer": "Ho",
            "finish_reason": "stop",
            "tokens_in": 1,
            "tokens_out": 1,
            "latency": 1.0,
            "cost": None,
            "error": [error for _, _, _, error in rows],
        }
    )


def thumbs(*rows: tuple[str, object, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "request_id": [name for name, _, _ in rows],
            "thumb": pd.Series([thumb for _, thumb, _ in rows], dtype=object),
            "at": [pd.Timestamp(NOON) + pd.Timedelta(hours=hours) for _, _, hours in rows],
        }
    )


def joined(frame: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, object]:
    return feedback.conversations(frame, measure(frame), given)


def test_a_thumb_is_joined_late_changed_and_taken_back() -> None:
    frame = calls(
        [
            (0, "a", NEW, ""),
            (1, "a", NEW, ""),
            (2, "b", NEW, ""),
            (3, "c", OLD, ""),
            (4, "", OLD, "boom"),
            (5, "d", "", ""),
        ]
    )
    again = ("r1", "down", 5)
    given = thumbs(
        again, again, ("r2", "down", 5), ("r2", "up", 6), ("r3", 0, 5), ("r3", None, 7), ("r9", "up", 5)
    )  # fmt: skip
    found, counts = joined(frame, given)
    told = {row.conversation: (bool(row.rated), bool(row.down), int(row.hard)) for row in found.itertuples()}
    assert told == {
        "a": (True, True, 0),
        "b": (True, False, 0),
        "c": (False, False, 0),
        "r4": (False, False, 1),
    }
    assert (counts.corrected, counts.withdrawn, counts.unknown, counts.repeated_labels) == (1, 1, 1, 1)
    (new, old) = feedback.rates(found, timedelta(hours=1), LATER)
    assert (new.prompt_digest, new.conversations, new.rated, new.down, new.rate) == (NEW, 2, 2, 1, 0.5)
    assert new.low < 0.05
    assert new.high > 0.95
    assert (old.down, old.rated, old.rate) == (0, 0, 0.0)
    assert feedback.rates(found, timedelta(hours=1), NOON + timedelta(minutes=30)) == []


@pytest.mark.parametrize("wrong", ["maybe", 5, "-"])
def test_what_is_no_thumb_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="no thumb"):
        joined(calls([(0, "a", NEW, "")]), thumbs(("r0", wrong, 5)))


def split(
    count: int, every: int = 2, *, apart: float = 0.0, down: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Conversations, each minute one; one of ``every`` is the new prompt's; ``down`` get a thumb down, each second one."""
    rows = [
        (minute + (apart if minute % every else 0), f"c{minute}", OLD if minute % every else NEW, "")
        for minute in range(count)
    ]
    frame = calls(sorted(rows))
    bad = frame[frame["prompt_digest"] == down]["request_id"].tolist()[::2]
    return frame, thumbs(*[(name, "down", 24) for name in bad], ("none", "up", 1))


def seen_of(frame: pd.DataFrame, given: pd.DataFrame, policy: PromptPolicy) -> Seen:
    return feedback.look(joined(frame, given)[0], NEW, OLD, policy, LATER)


def test_a_split_holds_neighbours_against_each_other() -> None:
    frame, given = split(400, 5, down=NEW)
    policy = PromptPolicy(mode="act", share=0.2, delay=timedelta(days=1))
    seen = seen_of(frame, given, policy)
    assert (seen.new, seen.before, len(seen.thumbs)) == (80, 320, 79)
    assert {block.size for block in seen.thumbs} == {5}
    found = judge(seen, policy)
    assert (found.verdict, found.act, found.test) == ("worse", True, "thumbs")
    other = judge(seen_of(*split(400, 5, down=OLD), policy), policy)
    assert other.verdict == "wait"
    assert other.evidence["thumbs"] < 0.01


def test_thumbs_that_are_not_due_do_not_count() -> None:
    frame, given = split(400, 2, down=NEW)
    found = joined(frame, given)[0]
    policy = PromptPolicy(delay=timedelta(days=1))
    early = feedback.look(found, NEW, OLD, policy, NOON + timedelta(days=1, minutes=100))
    assert early.new == 51
    assert feedback.look(found, NEW, OLD, policy, NOON).unfit


def test_a_split_that_is_none_is_seen() -> None:
    policy = PromptPolicy(share=0.5, delay=timedelta(0))
    assert "same time" in seen_of(*split(400, 2, apart=1000), policy).unfit
    assert "by chance" in seen_of(*split(400, 5), policy).unfit
    assert not seen_of(*split(400, 2), policy).unfit


def test_a_conversation_with_both_prompts_tells_of_neither() -> None:
    frame = calls([(0, "a", OLD, ""), (1, "a", NEW, ""), (2, "b", OLD, ""), (3, "c", NEW, "")])
    seen = seen_of(frame, thumbs(("x", "up", 1)), PromptPolicy(delay=timedelta(0)))
    assert (seen.new, seen.before) == (1, 1)


def test_a_shadow_is_held_against_the_same_requests() -> None:
    rows = [
        (minute, f"c{minute}", digest, "boom" if digest == NEW and minute % 3 else "")
        for minute in range(60)
        for digest in (OLD, NEW)
    ]
    frame = calls(rows)
    frame["request_id"] = [f"r{minute}" for minute in range(60) for _ in (OLD, NEW)]
    policy = PromptPolicy(design="shadow", mode="act", delay=timedelta(0))
    found = judge(seen_of(frame, thumbs(("x", "up", 1)), policy), policy)
    assert (found.verdict, found.act, found.test, found.compared) == ("worse", True, "failures", 60)


def test_weeks_before_are_held_against_the_same_hour() -> None:
    week = 7 * 24 * 60
    rows = [(minute - week, f"o{minute}", OLD, "") for minute in range(0, 600, 2)]
    rows += [(minute + 1, f"n{minute}", NEW, "boom" if minute % 4 else "") for minute in range(0, 600, 6)]
    policy = PromptPolicy(design="before", mode="act", delay=timedelta(0))
    seen = seen_of(calls(rows), thumbs(("x", "up", 1)), policy)
    assert len(seen.failures) == 100
    found = judge(seen, policy)
    assert (found.verdict, found.act, found.propose) == ("worse", False, True)


def test_thumbs_that_stopped_coming_are_no_good_sign() -> None:
    policy = PromptPolicy(delay=timedelta(0), min_rated=0.2)
    found = judge(seen_of(*split(400, 2), policy), policy)
    assert found.verdict == "labels missing"
