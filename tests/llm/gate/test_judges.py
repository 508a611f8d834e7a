"""A judge is measured before it opens anything."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm import results
from airflow_pipeops.llm.evaluation.scorers.judges import PairwiseJudge, RubricJudge
from airflow_pipeops.llm.gate.judges import Flips, JudgeMeasured, agreement, measured, unfit
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.measuring import predicted_effect
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.models.paired.units import each_row
from tests import openai
from tests.llm.evaluation.conftest import plan, run, subject
from tests.llm.gate.tables import table

POLICY = GatePolicy("rubric", judges=("rubric",))


def test_kappa_by_hand() -> None:
    """Of Cohen's first example form: 20 and 15 agreed, 5 and 10 not; 0.7 against 0.5 by chance."""
    people = [1] * 25 + [0] * 25
    said = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = agreement(people, said)
    assert (found.agreed, found.kappa, found.constant) == (0.7, pytest.approx(0.4), 0.5)
    assert found.interval[0] < 0.4 - 1.96 * 0.126 + 0.01
    assert found.beats_constant == pytest.approx(0.04937, abs=1e-4), "20 against 10"


def test_agreement_that_a_constant_has_too_is_none() -> None:
    people = [1] * 92 + [0] * 8
    always = agreement(people, [1] * 100)
    assert (always.kappa, always.agreed, always.constant, always.beats_constant) == (0, 0.92, 0.92, 1.0)
    assert agreement([1] * 20, [1] * 20).kappa == 0


def test_full_agreement_on_few_answers_is_not_certain() -> None:
    found = agreement([0, 1] * 10, [0, 1] * 10)
    assert found.kappa == 1
    assert found.interval[0] == pytest.approx(0.66, abs=0.02)


def test_the_interval_holds_what_is_true() -> None:
    """A judge of 92 % and 75 %: its kappa by the law, and how often the interval holds it."""
    random = np.random.default_rng(0)
    rate, right = 0.6, (0.92, 0.75)
    says = rate * right[0] + (1 - rate) * (1 - right[1])
    agreed = rate * right[0] + (1 - rate) * right[1]
    chance = rate * says + (1 - rate) * (1 - says)
    held = 0
    for _ in range(200):
        people = random.random(80) < rate
        said = np.where(people, random.random(80) < right[0], random.random(80) >= right[1])
        low, high = agreement(people.astype(int), said.astype(int)).interval
        held += low <= (agreed - chance) / (1 - chance) <= high
    assert held >= 182, "190 are expected; fewer than 182 have a chance of 1 in 300"


def judged(right: float, seed: int = 0, answers: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of a judge, and what people say of the first 80 items; each answer was scored twice, as two runs."""
    random = np.random.default_rng(seed)
    scores, labels, digests = {}, [], {}
    for arm, share in (("candidate", 0.9), ("baseline", 0.6)):
        truth = random.random(answers) < share
        said = np.where(random.random(answers) < right, truth, ~truth)
        again = np.where(random.random(answers) < right, said, ~said) if right < 0.9 else said
        scores[arm] = np.stack([said, again], axis=1).astype(float)
        digests[arm] = np.repeat([f"{arm}{n}" for n in range(answers)], 2).reshape(answers, 2)
        labels += [
            {"item": f"i{n}", "arm": arm, "run": 0, "scorer": "rubric", "value": float(truth[n])}
            for n in range(80)
        ]
    return table(scores, scorer="rubric", output_digest=digests), pd.DataFrame(labels)


def test_a_good_judge_opens_and_one_that_was_not_measured_does_not() -> None:
    frame, labels = judged(0.95)
    found = judge(frame, POLICY, labels=labels)
    assert (found.verdict.outcome, found.verdict.opens) == ("better", True)
    known = found.judges["rubric"]
    assert (known.agreement.labels, known.again.pairs, known.again.flipped) == (160, 400, 0)
    unmeasured = judge(frame, POLICY).verdict
    assert (unmeasured.outcome, unmeasured.opens) == ("cannot tell", False)
    assert "known on 0 answers" in unmeasured.reason
    assert judge(frame, GatePolicy("rubric")).verdict.outcome == "better", "a scorer that is no judge"
    few = judge(frame, POLICY, labels=labels[labels["item"].isin(["i1", "i2"])]).verdict
    assert "known on 4 answers, at least 10" in few.reason


def test_a_judge_that_guesses_or_flips_opens_nothing() -> None:
    frame, labels = judged(0.7)
    found = judge(frame, POLICY, labels=labels).verdict
    assert found.outcome == "cannot tell"
    assert "kappa" in found.reason
    frame, labels = judged(0.95)
    odd = frame.index % 2 == 1
    frame.loc[odd, "value"] = np.where(
        np.arange(odd.sum()) % 5 == 0, 1 - frame.loc[odd, "value"], frame.loc[odd, "value"]
    )
    assert "changes its mind when asked again" in judge(frame, POLICY, labels=labels).verdict.reason
    frame, labels = judged(0.95)
    flips = judge(frame, POLICY, labels=labels, position_flips={"rubric": (30, 100)}).verdict
    assert "with the order in 30 of 100 pairs" in flips.reason
    once = frame[frame["run"] == 0]
    assert "an equal answer again" in judge(once, POLICY, labels=labels).verdict.reason


def test_a_bad_judge_still_closes() -> None:
    frame, _labels = judged(0.95)
    frame["arm"] = frame["arm"].map({"candidate": "baseline", "baseline": "candidate"})
    assert judge(frame, POLICY).verdict.outcome == "worse"


def test_labels_correct_a_judge_that_favours_the_candidate() -> None:
    """It passes whatever the candidate says; people do not, and their part decides."""
    random = np.random.default_rng(3)
    truth = {arm: (random.random(600) < 0.7).astype(float) for arm in ("candidate", "baseline")}
    said = {"candidate": np.ones(600), "baseline": truth["baseline"]}
    frame = table(said, scorer="rubric")
    rows = [
        {"item": f"i{n}", "arm": arm, "run": 0, "scorer": "rubric", "value": truth[arm][n]}
        for arm in truth
        for n in range(200)
    ]
    policy = GatePolicy("rubric", judges=("rubric",), kappa=0.0)
    alone, corrected = (
        judge(frame, policy, labels=given).seen.primary for given in (None, pd.DataFrame(rows))
    )
    assert alone.gain.value > 0.25
    low, high = corrected.bounds(0.05)
    assert low < 0 < high


def test_prediction_powered_intervals_hold_what_is_true_and_are_narrower_than_people_alone() -> None:
    random = np.random.default_rng(5)
    held = judges = 0
    widths = []
    for _ in range(300):
        human = random.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=500)
        said = np.where(
            random.random(500) < 0.85, human, random.choice([-1.0, 0.0, 1.0], p=[0.1, 0.3, 0.6], size=500)
        )
        labelled = np.arange(500) < 80
        found = predicted_effect("rubric", said, labelled, human, each_row(500))
        low, high = found.gain.bounds(0.025)
        held += low <= 0.2 <= high
        error = said.std(ddof=1) / 500**0.5
        judges += abs(said.mean() - 0.2) <= 1.96 * error
        widths.append((high - low) / (2 * 1.99 * human[labelled].std(ddof=1) / 80**0.5))
    assert held >= 274, "285 are expected; fewer than 274 have a chance of 1 in 300"
    assert judges < 274, "the judge alone"
    assert np.mean(widths) < 0.8


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: agreement([1], [1, 0]), "labels"),
        (lambda: Flips.of(3, 2), "flips"),
        (lambda: judge(judged(0.9)[0], POLICY, labels=pd.DataFrame({"item": ["i1"]})), "labels"),
        (lambda: judge(judged(0.9)[0], POLICY, labels=pd.concat([judged(0.9)[1]] * 2)), "labels"),
        (lambda: judge(judged(0.9)[0], POLICY, labels=judged(0.9)[1].assign(value="good")), "labels"),
        (lambda: judge(judged(0.9)[0], POLICY, labels=judged(0.9)[1].assign(run=np.nan)), "labels"),
    ],
)
def test_labels_that_make_no_sense_are_refused(call: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call()
    assert caught.value.field == field


def test_a_judge_of_which_nothing_is_known_is_unfit() -> None:
    assert unfit(JudgeMeasured(), POLICY)


def test_a_judge_says_of_an_equal_answer_of_another_run_what_it_thinks_then(tmp_path) -> None:
    """Over real HTTP: each run is judged anew and not from a stored answer, so that the judge's own noise shows."""
    model = openai.Model()
    scores = itertools.cycle("45")

    def answers(body: dict[str, Any]) -> str:
        return f'{{"score": {next(scores)}}}' if body["model"] == "judge" else "the same"

    model.answers = answers
    rubric = RubricJudge(name="rubric", model="judge", rubric="Is it good?")
    with openai.serving(model) as url:
        found = run(url, tmp_path, plan(21, scorers=(rubric,), runs=2), parallel=1)
        again = run(url, tmp_path, plan(21, scorers=(rubric,), runs=2), parallel=1)
    known = measured(results.table(found.rows), "rubric", None).again
    assert known is not None
    assert known.pairs == 21
    assert known.flipped >= 15
    assert again.facts["calls"] == 0, "what was judged is not judged again"


def test_one_judgement_of_an_answer_that_two_arms_give_is_no_second_one(tmp_path) -> None:
    """Both arms say the same, and the judge is asked once for each run, or of a pair not at all."""
    model = openai.Model()
    model.answers = lambda body: '{"score": 4}' if body["model"] == "judge" else "the same"
    rubric = RubricJudge(name="rubric", model="judge", rubric="Is it good?")
    pairwise = PairwiseJudge(name="pairwise", model="judge", rubric="Is it good?")
    arms = (subject("baseline"), subject("candidate", prompt="Say {{word}}"))
    with openai.serving(model) as url:
        once = run(url, tmp_path, plan(21, subjects=arms, scorers=(rubric,)))
        twice = run(url, tmp_path, plan(21, subjects=arms, scorers=(rubric, pairwise), runs=2))
    assert once.facts["calls"] == 3 * 21
    assert measured(results.table(once.rows), "rubric", None).again is None
    frame = results.table(twice.rows)
    assert measured(frame, "rubric", None).again.pairs == 21
    assert measured(frame, "pairwise", None, (0, 0)).again is None
    assert measured(frame, "pairwise", None, (0, 0)).positions == Flips(0, 0, (0.0, 1.0))


def test_a_comparison_is_one_however_many_arms_it_has() -> None:
    """Ten comparisons, the second run of which says otherwise: one pair of scores for each, and one label."""
    won = np.stack([np.ones(10), np.zeros(10)], axis=1)
    digests = {
        arm: np.repeat([f"{arm}{n}" for n in range(10)], 2).reshape(10, 2)
        for arm in ("candidate", "baseline")
    }
    frame = table({"candidate": won, "baseline": 1 - won}, scorer="pairwise", output_digest=digests)
    labels = frame[frame["run"] == 0][["item", "arm", "run", "scorer", "value"]]
    found = measured(frame, "pairwise", labels, (1, 10))
    assert (found.again.flipped, found.again.pairs, found.agreement.labels) == (10, 10, 10)
