"""Champion against challenger: what chance gives, and scorers that do as they like with their rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, mean_squared_error, roc_auc_score
from sklearn.tree import DecisionTreeRegressor

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.champion import judge
from airflow_pipeops.models.evaluation import compare
from airflow_pipeops.models.paired.gain import MIN_UNITS

COLUMNS = ["x", "noise"]


def auc(model, frame):
    """What :func:`slow_auc` says, which takes most of its time to look at its arguments."""
    positive = frame["y"].to_numpy() == 1
    ranks = rankdata(model.predict_proba(frame[list(model.feature_names_in_)])[:, 1])
    pairs = positive.sum() * (~positive).sum()
    return (ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / pairs


def slow_auc(model, frame):
    return roc_auc_score(frame["y"], model.predict_proba(frame[list(model.feature_names_in_)])[:, 1])


def test_the_auc_here_is_that_of_scikit_learn(knows) -> None:
    frame = rows(400, 150).round(1)  # with ties
    assert auc(knows, frame) == pytest.approx(slow_auc(knows, frame))


def rows(count: int, positives: int, seed: int = 0) -> pd.DataFrame:
    """Labels of which ``positives`` are 1; ``x`` knows them somewhat, ``noise`` does not."""
    random = np.random.default_rng(seed)
    y = np.zeros(count, dtype=int)
    y[random.choice(count, positives, replace=False)] = 1
    return pd.DataFrame({"x": random.normal(size=count) + y, "noise": random.normal(size=count), "y": y})


def fitted(column: str, seed: int = 99) -> LogisticRegression:
    frame = rows(4000, 2000, seed)
    return LogisticRegression().fit(frame[[column]], frame["y"])


@pytest.fixture(scope="module")
def knows() -> LogisticRegression:
    return fitted("x")


@pytest.fixture(scope="module")
def guesses() -> LogisticRegression:
    return fitted("noise")


def interval(found):
    return found.gain.bounds(0.025)


def verdict(found):
    return judge(found.challenger, found.gain, doubt=found.doubt)


def days(count: int, each: int, seed: int) -> pd.DataFrame:
    """Days on each of which ``x`` leans to the label or away from it by chance, all rows of a day alike."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(count), each)
    x = random.normal(size=len(day))
    y = random.random(len(day)) < 1 / (1 + np.exp(-2 * random.normal(size=count)[day] * x))
    return pd.DataFrame({"x": x, "noise": random.normal(size=len(day)), "y": y.astype(int), "day": day})


def test_with_20_positives_in_a_million_rows_nothing_is_promoted(guesses) -> None:
    other = LogisticRegression().fit(rows(4000, 2000, 7)[["noise"]].to_numpy() @ [[-1.0]], [0, 1] * 2000)
    other.feature_names_in_ = np.array(["x"])
    frame = rows(1_000_000, 20, seed=3).assign(x=np.random.default_rng(8).normal(size=1_000_000))
    pair = sorted([guesses, other], key=lambda model: auc(model, frame))
    for target in ("y", None):
        found = compare(pair[1], pair[0], frame, auc, target=target)
        said = verdict(found)
        assert (interval(found), said.promote) == (None, False)
        assert found.gain.value > 0
        assert "cannot be told from chance: " in said.reason


@pytest.mark.parametrize("positives", [1, 2, 5, MIN_UNITS - 1])
def test_few_rows_of_a_label_are_no_ground_for_a_promotion(knows, guesses, positives: int) -> None:
    found = compare(knows, guesses, rows(1000, positives), auc, target="y")
    assert interval(found) is None
    assert found.doubt.startswith(f"{positives} rows of the rarest class among 1,000 are too few")


def test_the_labels_column_is_found_where_nobody_named_it(knows, guesses) -> None:
    assert compare(knows, guesses, rows(1000, 5), auc).doubt.startswith("5 rows of the rarest class")


def test_a_resample_that_has_no_number_is_a_doubt(knows, guesses) -> None:
    """Two columns could be the label, so its rows cannot be counted; what cannot be scored tells as much."""
    frame = rows(1000, 3).assign(other=0)
    frame.loc[::2, "other"] = 1
    with pytest.warns(match="Only one class"):
        found = compare(knows, guesses, frame, slow_auc)
    assert interval(found) is None
    assert "cannot be scored" in found.doubt


def test_pure_noise_is_promoted_as_seldom_as_it_says(guesses) -> None:
    """At the smallest number of rows of a label; tests/benchmarks/coverage.py counts more, and at more sizes."""
    other = fitted("x")
    other.coef_ = np.array([[1.0]])
    promoted = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        frame = rows(400, MIN_UNITS, seed).assign(x=random.normal(size=400))
        promoted += verdict(compare(other, guesses, frame, auc, target="y", rounds=25, seed=seed)).promote
    # 2.5 % of 20; five or more have a chance of 1 in 10,000.
    assert promoted <= 4


def test_a_model_that_knows_is_promoted(knows, guesses) -> None:
    found = compare(knows, guesses, rows(2000, 100), auc, target="y")
    assert verdict(found).promote
    low, high = interval(found)
    assert low < found.challenger - found.gain.champion < high


def reset(model, frame):
    return auc(model, frame.reset_index(drop=True))


def shuffled(model, frame):
    return auc(model, frame.sample(frac=1, random_state=3))


def by_label(model, frame):
    return auc(model, frame.sort_values("y"))


def renamed(model, frame):
    frame.index = [f"row {number}" for number in range(len(frame))]
    return auc(model, frame)


def in_place(model, frame):
    frame.reset_index(drop=True, inplace=True)
    frame.drop(columns=["spare"], inplace=True)
    frame["y"] = frame["y"].astype("int8")
    return auc(model, frame)


def as_arrays(model, frame):
    plain = type(model._model)  # the scorer of a model that takes arrays
    assert plain is LogisticRegression
    return roc_auc_score(
        frame["y"], model.predict_proba(frame[list(model.feature_names_in_)].to_numpy())[:, 1]
    )


def of_sklearn(model, frame):
    return get_scorer("roc_auc")(model, frame[list(model.feature_names_in_)], frame["y"])


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("scorer", [reset, shuffled, by_label, renamed, in_place, as_arrays, of_sklearn])
def test_pairs_stay_pairs_whatever_the_scorer_does(knows, guesses, scorer) -> None:
    frame = rows(600, 200).assign(spare=1)
    truth = compare(knows, guesses, frame, auc, target="y", rounds=40)
    found = compare(knows, guesses, frame, scorer, target="y", rounds=40)
    assert interval(found) == pytest.approx(interval(truth), abs=1e-9)
    assert (found.challenger, found.gain.champion) == pytest.approx((truth.challenger, truth.gain.champion))


def test_rows_that_a_scorer_makes_are_predicted_as_they_are() -> None:
    """Columns that are not in the table, and rows that it never held."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"x": random.normal(size=300), "y": random.normal(size=300)})
    squares = frame.assign(x=frame["x"] ** 2)
    good, bad = (DecisionTreeRegressor(max_depth=depth).fit(squares[["x"]], frame["y"]) for depth in (8, 1))

    def scorer(model, frame):
        return mean_squared_error(frame["y"], model.predict(frame[["x"]] ** 2))

    found = compare(good, bad, frame, scorer, higher_is_better=False)
    assert found.challenger == pytest.approx(mean_squared_error(frame["y"], good.predict(squares[["x"]])))
    assert interval(found)[0] > 0


def test_a_scorer_that_draws_rows_anew_for_each_model_is_refused(knows, guesses) -> None:
    def drawing(model, frame):
        return auc(model, frame.sample(300, random_state=np.random.default_rng()))

    with pytest.raises(InvalidInput, match="other rows than the challenger") as caught:
        compare(knows, knows, rows(600, 200), drawing, target="y")
    assert caught.value.field == "scorer"


def test_rows_of_a_day_that_move_together_do_not_make_a_gain(guesses) -> None:
    """As independent rows they promote pure noise a third of the time; tests/benchmarks/coverage.py counts more."""
    other = fitted("x")
    promoted = {None: 0, "day": 0}
    for seed in range(20):
        frame = days(15, 40, seed)
        for cluster in promoted:
            found = compare(other, guesses, frame, auc, target="y", cluster=cluster, rounds=25, seed=seed)
            promoted[cluster] += verdict(found).promote
    assert promoted["day"] <= 4  # 2.5 % of 20; five or more have a chance of 1 in 10,000
    assert promoted[None] >= promoted["day"] + 2


def test_times_count_by_their_day(knows, guesses) -> None:
    frame = days(15, 40, 0)
    at = (
        pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["day"], "D") + pd.to_timedelta(np.arange(600), "s")
    )
    by_day, by_time = (
        compare(knows, guesses, frame.assign(day=column), auc, target="y", cluster="day", rounds=40)
        for column in (frame["day"], at)
    )
    assert interval(by_time) == interval(by_day)


def test_a_handful_of_days_tells_nothing(knows, guesses) -> None:
    found = compare(knows, guesses, days(MIN_UNITS - 1, 60, 0), auc, target="y", cluster="day")
    assert interval(found) is None
    assert found.doubt.startswith("9 values of 'day', whose rows move together, are too few")


@pytest.mark.parametrize("column", ["week", "hole"])
def test_a_cluster_column_that_is_none(knows, guesses, column: str) -> None:
    frame = days(15, 40, 0).assign(hole=[None, *[1.0] * 599])
    with pytest.raises(InvalidInput) as caught:
        compare(knows, guesses, frame, auc, target="y", cluster=column)
    assert caught.value.field == "cluster"


def test_the_level_of_a_model_has_an_interval_that_a_floor_is_held_against(knows) -> None:
    found = compare(knows, None, rows(2000, 200), auc, target="y", level=True)
    low, high = found.level
    assert low < found.challenger < high
    assert found.gain is None
    for floor, reached in ((low - 0.001, True), ((low + found.challenger) / 2, False)):
        assert judge(found.challenger, None, floor=floor, level=found.level).promote is reached
    few = compare(knows, None, rows(2000, 3), auc, target="y", level=True)
    assert (
        "cannot be told from chance: 3 rows" in judge(few.challenger, None, floor=0.1, doubt=few.doubt).reason
    )


def test_twelve_rows_that_are_all_right_are_no_certainty() -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0] * 12, "y": [0, 1] * 12})
    sure = LogisticRegression(C=1e6).fit(frame[["x"]], frame["y"])

    def right(model, frame):
        return float((model.predict(frame[["x"]]) == frame["y"]).mean())

    found = compare(sure, None, frame, right, target="y", level=True)
    assert found.challenger == 1.0
    assert found.level == pytest.approx((0.025 ** (1 / 12), 1.0))  # Clopper's and Pearson's of 12 in 12

    def odd(model, frame):
        return 1 + right(model, frame)  # nobody knows what bounds it

    found = compare(sure, None, frame, odd, target="y", level=True)
    assert (found.level, found.doubt) == (None, "all resamples have the same number")
