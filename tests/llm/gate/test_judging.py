"""From a table to a verdict: what opens a gate, what closes it, and what says nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.policy import GatePolicy
from tests.llm.gate.tables import coins, table

POLICY = GatePolicy("exact")
FRESH = GatePolicy("exact", margin=0.05, enough="not worse")


def verdict(frame: pd.DataFrame, policy: GatePolicy = POLICY, **kwargs: Any) -> Any:
    return judge(frame, policy, **kwargs).verdict


@pytest.mark.parametrize(
    ("wins", "losses", "outcome"),
    [
        (5, 0, "better"), (4, 0, "cannot tell"), (7, 1, "better"), (6, 1, "cannot tell"), (0, 5, "worse"),
        (1, 7, "worse"), (0, 0, "cannot tell"),
    ],
)  # fmt: skip
def test_few_votes_are_counted_exactly(wins: int, losses: int, outcome: str) -> None:
    """5 of 5 have a chance of 1/32, and 7 of 8 one of 9/256: both below 5 %; 4 of 4 and 6 of 7 are above."""
    items = np.arange(20)
    scores = {"candidate": items >= losses, "baseline": (items < losses) | (items >= losses + wins)}
    found = verdict(table(scores))
    assert found.outcome == outcome
    assert found.opens is (outcome == "better")
    assert found.method == f"exact sign test on {wins + losses} votes"


def test_so_few_items_that_no_vote_can_win_say_nothing() -> None:
    found = verdict(table({"candidate": [1, 1, 1, 1], "baseline": [0, 0, 0, 0]}))
    assert found.outcome == "cannot tell"
    assert "4 items win no vote at 0.05, at least 5 must differ" in found.reason
    assert found.need.items == 5
    assert verdict(table({"candidate": [1] * 5, "baseline": [0] * 5})).outcome == "better"


def test_runs_of_an_item_are_no_items() -> None:
    """Four items of three runs each, twelve wins: one chance in 16, and not in 4,096."""
    scores = {"candidate": np.ones((4, 3)), "baseline": np.zeros((4, 3))}
    assert verdict(table(scores)).outcome == "cannot tell"
    # A tie of an item's runs is no vote.
    tied = {"candidate": [[1, 0]] * 20, "baseline": [[0, 1]] * 20}
    assert "0 votes" in verdict(table(tied)).method


def test_items_of_one_document_are_one_unit() -> None:
    """Of 40 items from 4 documents, all won, nobody can tell; nor does a table say it whose rows are doubled."""
    scores = {"candidate": np.ones(40), "baseline": np.zeros(40)}
    documents = np.array([f"d{number % 4}" for number in range(40)])
    found = verdict(table(scores, cluster=documents))
    assert (found.outcome, found.units, found.items) == ("cannot tell", 4, 40)
    assert verdict(table(scores)).outcome == "better"
    mixed = np.where(np.arange(40) < 20, documents, None)
    assert verdict(table(scores, cluster=mixed)).units == 24


def test_the_error_is_that_of_the_clusters_by_hand() -> None:
    random = np.random.default_rng(0)
    scores = {"candidate": random.random(60), "baseline": random.random(60)}
    clusters = np.arange(60) // 4
    seen = judge(table(scores, cluster=clusters), GatePolicy("exact")).seen.primary
    differences = scores["candidate"] - scores["baseline"]
    sums = np.array([(differences - differences.mean())[clusters == one].sum() for one in range(15)])
    assert seen.gain.error == pytest.approx(math.sqrt(15 / 14 * (sums**2).sum()) / 60)
    assert seen.gain.degrees <= 14


def test_many_equal_answers_show_that_nothing_is_lost_and_few_do_not() -> None:
    """A deviation of zero is no proof: ten equal answers may lose 20 % elsewhere, three hundred hardly 2 %."""
    few = verdict(table({"candidate": np.ones(10), "baseline": np.ones(10)}), FRESH)
    assert few.outcome == "cannot tell"
    assert few.interval[0] < -0.2
    assert few.need.items > 50
    many = verdict(table({"candidate": np.ones(300), "baseline": np.ones(300)}), FRESH)
    assert (many.outcome, many.opens) == ("not worse", True)
    assert -0.03 < many.interval[0] < 0


def test_not_worse_opens_only_where_the_policy_says_so() -> None:
    scores = table({"candidate": np.ones(300), "baseline": np.ones(300)})
    assert verdict(scores, GatePolicy("exact", margin=0.05)).opens is False
    assert verdict(scores, GatePolicy("exact", margin=0.05)).outcome == "not worse"


def test_what_is_better_must_be_so_by_what_is_worth_it() -> None:
    scores = {
        "candidate": np.r_[np.ones(60), np.zeros(40)],
        "baseline": np.r_[np.zeros(10), np.ones(40), np.zeros(50)],
    }
    assert verdict(table(scores)).outcome == "better"
    assert verdict(table(scores), GatePolicy("exact", minimum_gain=0.15)).outcome == "cannot tell"


def test_an_item_that_must_never_fail_closes_the_gate_without_statistics() -> None:
    scores = coins(200, 3, 1)
    scores["candidate"] = np.maximum(scores["candidate"], scores["baseline"])  # better, all in all
    scores["candidate"][:3] = [[0, 0, 0], [0, 0, 1], [0, 1, 1]]
    frame = table(scores)
    assert verdict(frame).outcome == "better"
    names = ("i0 (exact)", "i1 (exact)", "i2 (exact)")
    frame.loc[frame["item"].isin(["i0", "i1", "i2"]), "hard"] = True
    found = verdict(frame)
    assert (found.outcome, found.opens, found.failed) == ("worse", False, names)
    for share, count in ((0.3, 3), (0.5, 2), (1.0, 1)):
        assert verdict(frame, GatePolicy("exact", hard_share=share)).failed == names[:count]
    # One that is known to flip by itself is barred, and said so.
    barred = judge(frame, POLICY, flaky=["i0", "i1", "i2"])
    assert (barred.verdict.outcome, barred.barred) == ("better", names)
    # A single run of many is enough.
    frame.loc[frame["item"].isin(["i0", "i1"]), "hard"] = False
    assert (verdict(frame).outcome, verdict(frame).failed) == ("worse", ("i2 (exact)",))


def test_what_must_never_fail_and_was_not_scored_opens_nothing() -> None:
    """By a scorer that is no metric: whether it failed, nobody knows."""
    scores = coins(200, 2, 1)
    scores["candidate"] = np.maximum(scores["candidate"], scores["baseline"])
    safe = table({arm: np.ones((200, 2)) for arm in scores}, scorer="safe")
    frame = pd.concat([table(scores), safe], ignore_index=True)
    here = (frame["scorer"] == "safe") & frame["item"].isin(["i0", "i1"])
    frame.loc[here, "hard"] = True
    assert verdict(frame).outcome == "better"
    gone = here & (frame["item"] == "i0") & (frame["arm"] == "candidate")
    frame.loc[gone, "value"] = np.nan
    for each in (frame, frame[~gone]):
        found = judge(each, POLICY)
        assert (found.verdict.outcome, found.verdict.opens) == ("invalid", False)
        assert "scores of 'safe' are missing" in found.verdict.reason
        assert found.missing["safe"] == (2, 0)
    # One of its two runs has passed: the other may have failed, which matters unless both have to.
    frame.loc[gone & (frame["run"] == 0), "value"] = 1.0
    assert verdict(frame).outcome == "invalid"
    assert verdict(frame, GatePolicy("exact", hard_share=1.0)).outcome == "better"
    # What has no need to pass is no metric, and missing or not.
    frame.loc[frame["scorer"] == "safe", "hard"] = False
    frame.loc[gone, "value"] = np.nan
    assert judge(frame, POLICY).missing == {"exact": (0, 0)}


def test_a_slice_must_not_get_worse_and_many_equal_ones_do_not() -> None:
    languages = np.array([f"l{number % 20}" for number in range(1000)])
    scores = coins(1000, 1, 3)
    policy = GatePolicy("exact", slices=("language",))
    assert verdict(table(scores, language=languages), policy).harmed == ()
    scores["candidate"][languages == "l7"] = 0
    scores["candidate"][(languages == "l8") & (scores["baseline"][:, 0] == 0)] = 1
    found = verdict(table(scores, language=languages), policy)
    assert (found.outcome, found.harmed) == ("worse", ("language=l7",))
    assert "In language=l7" in found.reason


def test_guards_must_be_shown_to_lose_no_more_than_their_margins() -> None:
    scores = coins(300, 1, 5)
    scores["candidate"] = np.maximum(scores["candidate"], scores["baseline"])
    scores["candidate"][:3] = 1
    random = np.random.default_rng(0)
    price = random.lognormal(size=(300, 1))
    policy = GatePolicy("exact", guards={"cost": 0.2, "latency": 0.5})

    def measured(cost: float, seconds: float) -> Any:
        frame = table(
            scores,
            cost={"candidate": price * cost, "baseline": price},
            latency={
                "candidate": price * seconds,
                "baseline": price * random.uniform(0.99, 1.01, size=(300, 1)),
            },
        )
        return verdict(frame, policy)

    assert measured(1.05, 1.1).outcome == "better"
    dear = measured(1.5, 1.1)
    assert (dear.outcome, dear.harmed) == ("worse", ("cost",))
    assert "+50.0%" in dear.reason
    assert measured(1.0, 3.0).harmed == ("latency",)
    unknown = verdict(table(scores), policy)
    assert unknown.outcome == "cannot tell"
    assert "cost" in unknown.reason


def test_cheaper_may_be_what_wins_while_quality_is_kept() -> None:
    random = np.random.default_rng(1)
    price = random.lognormal(size=(400, 1))
    scores = {"candidate": np.ones(400), "baseline": np.ones(400)}
    dear = price * random.uniform(0.9, 1.1, size=(400, 1))
    frame = table(scores, cost={"candidate": price * 0.8, "baseline": dear})
    policy = GatePolicy("cost", minimum_gain=0.1, guards={"exact": 0.02})
    assert verdict(frame, policy).outcome == "better"
    assert (
        verdict(frame, GatePolicy("cost", minimum_gain=0.3, guards={"exact": 0.02})).outcome == "cannot tell"
    )


def test_missing_answers_are_neither_lost_nor_won() -> None:
    scores = coins(400, 1, 7, loss=0.3)
    scores["candidate"][:5] = np.nan
    found = judge(table(scores), POLICY)
    assert found.verdict.outcome == "worse"
    assert found.missing == {"exact": (5, 0)}
    assert "whatever the 5 of 800 scores" in found.verdict.reason
    few = coins(100, 1, 7)
    few["candidate"][:30] = np.nan
    found = judge(table(few), POLICY)
    assert (found.verdict.outcome, found.verdict.opens) == ("invalid", False)
    assert "if all were lost it would be 'worse', if all were won 'better'" in found.verdict.reason
    # An item without any row is as missing as an empty score.
    whole = table(coins(400, 1, 7, loss=0.3))
    short = whole[~((whole["arm"] == "candidate") & (whole["item"] == "i3"))]
    assert judge(short, POLICY).missing == {"exact": (1, 0)}
    asked = judge(whole, POLICY, items=[*(f"i{n}" for n in range(400)), "never asked"])
    assert asked.missing == {"exact": (1, 1)}


@pytest.mark.parametrize("guards", [{}, {"exact": 0.2}])
def test_slow_answers_that_never_came_make_nothing_faster(guards: dict[str, float]) -> None:
    random = np.random.default_rng(0)
    slow = (np.arange(300) % 12 == 0)[:, None]
    old = random.lognormal(size=(300, 1))
    new = old * random.uniform(0.9, 1.1, size=(300, 1))
    policy = GatePolicy("latency", margin=0.25, enough="not worse", guards=guards)

    def seen(latency: Any, score: Any) -> Any:
        scores = {"candidate": score, "baseline": np.ones((300, 1))}
        return judge(table(scores, latency={"candidate": latency, "baseline": old}), policy)

    assert seen(new, np.ones((300, 1))).verdict.opens
    assert seen(np.where(slow, 60.0, new), np.ones((300, 1))).verdict.outcome == "worse"
    gone = seen(np.where(slow, np.nan, new), np.where(slow, np.nan, 1.0))
    assert (gone.verdict.outcome, gone.verdict.opens) == ("invalid", False)
    assert gone.missing["latency"] == (25, 0)
    few = seen(np.where(np.arange(300)[:, None] < 2, np.nan, new), np.ones((300, 1)))
    assert few.verdict.outcome == "not worse"
    assert "whatever the 2 of 600 scores of 'latency' would be" in few.verdict.reason


def test_what_is_missing_of_a_scorer_without_ends_leaves_no_verdict() -> None:
    random = np.random.default_rng(0)
    scores = {"candidate": random.normal(2, 1, 100), "baseline": random.normal(1, 1, 100)}
    policy = GatePolicy("exact", scale={"exact": ()})
    assert verdict(table(scores), policy).outcome == "better"
    scores["candidate"][4] = np.nan
    found = verdict(table(scores), policy)
    assert found.outcome == "invalid"
    assert "has no worst score" in found.reason


def test_marks_have_an_order_and_no_distances() -> None:
    """Bigger wins are no weaker evidence: what t says less of the larger they are."""
    random = np.random.default_rng(0)
    base = random.integers(0, 3, size=60)
    won = base + np.where(np.arange(60) < 40, 1, 0)
    huge = np.where(np.arange(60) == 0, 10_000, won)
    policy = GatePolicy("exact", scale={"exact": ()}, ordinal=("exact",))
    both = [judge(table({"candidate": new, "baseline": base}), policy) for new in (won, huge)]
    assert both[0].verdict == both[1].verdict
    assert both[0].verdict.outcome == "better"
    assert both[0].verdict.gain == pytest.approx(40 / 60)
    plain = GatePolicy("exact", scale={"exact": ()})
    assert verdict(table({"candidate": huge, "baseline": base}), plain).outcome == "cannot tell"


def test_an_error_is_no_gain() -> None:
    random = np.random.default_rng(0)
    far = random.random(100)
    policy = GatePolicy("exact", lower_is_better=("exact",))
    assert verdict(table({"candidate": far * 0.5, "baseline": far}), policy).outcome == "better"
    assert verdict(table({"candidate": far, "baseline": far * 0.5}), policy).outcome == "worse"


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(1, 3), st.floats(-0.4, 0.4))
def test_turned_round_it_says_the_opposite(seed: int, items: int, runs: int, loss: float) -> None:
    """Exchanged arms exchange better and worse; the order of the rows changes nothing."""
    frame = table(coins(items, runs, seed, loss))
    found = verdict(frame)
    back = verdict(frame, candidate="baseline", baseline="candidate")
    opposite = {"better": "worse", "worse": "better"}
    assert back.outcome == opposite.get(found.outcome, found.outcome)
    assert back.gain == pytest.approx(-found.gain)
    assert verdict(frame.sample(frac=1, random_state=1)) == found


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([20, 80]), st.floats(0.01, 0.2))
def test_what_is_missing_never_opens_what_the_worst_would_not(seed: int, items: int, share: float) -> None:
    scores = coins(items, 1, seed, loss=-0.3)
    gone = np.random.default_rng(seed).random((items, 1)) < share
    lost = {"candidate": np.where(gone, 0, scores["candidate"]), "baseline": scores["baseline"]}
    scores["candidate"] = np.where(gone, np.nan, scores["candidate"])
    if judge(table(scores), POLICY).verdict.opens:
        assert judge(table(lost), POLICY).verdict.opens


def bad(**changes: Any) -> pd.DataFrame:
    frame = table({"candidate": np.ones(12), "baseline": np.zeros(12)}, language="en")
    for name, value in changes.items():
        frame.loc[3, name] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "policy", "field", "said"),
    [
        (bad(value=7), POLICY, "scale", "gave item 'i3' 7, outside of 0 to 1"),
        (bad(arm="other"), GatePolicy("rubric"), "scorer", "no scorer 'rubric'"),
        (bad(), GatePolicy("exact", slices=("topic",)), "results", "no column 'topic'"),
        (
            bad(language="de"),
            GatePolicy("exact", slices=("language",)),
            "language",
            "'i3' has several values",
        ),
        (bad().assign(arm="baseline", run=range(24)), POLICY, "arm", "no arm 'candidate'"),
        (pd.concat([bad(), bad()]), POLICY, "results", "a score twice"),
        (
            bad().assign(value=3.0, hard=True),
            GatePolicy("exact", scale={"exact": (1, 5)}),
            "passing",
            "all lie on one side of 0.5",
        ),
    ],
)
def test_what_is_no_comparison_is_refused_by_name(
    frame: Any, policy: GatePolicy, field: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        judge(frame, policy)
    assert caught.value.field == field


def test_answers_to_another_dataset_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="12 items of the results are not in the dataset, the first is 'i0'"
    ):
        judge(bad(), POLICY, items=["a", "b"])
