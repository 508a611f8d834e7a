"""How often the intervals of metrics hold, from one positive row to a thousand; and how often pure noise is promoted.

    python tests/benchmarks/coverage.py --rounds 2000
    python tests/benchmarks/coverage.py --gate --rounds 400
    python tests/benchmarks/coverage.py --clusters --rounds 400

Each cell is drawn anew ``rounds`` times with as many positive (rarest) rows as the column says, beside 2,000 others. It
says in percent how often the 95 % interval held the truth, and, in brackets, how often it would have called a model
``worse`` than it truly is: at most 2.5 if the interval is what it says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.special import ndtri

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.models.performance import measure

POSITIVES = (1, 2, 3, 5, 10, 20, 50, 100, 300, 1000)
OTHERS = 2000
CONFIDENCE = 0.95

Array = Any


def labels(positives: int) -> Array:
    return np.r_[np.ones(positives), np.zeros(OTHERS)]


@dataclass(frozen=True)
class Case:
    """A metric, data for it, and what it truly is where there are so many positive rows.

    :param draw: labels and predictions with so many positive rows.
    """

    metric: str
    draw: Callable[[np.random.Generator, int], tuple[Array, Array]]
    truth: Callable[[int], float]


def ranked(by: float, tail: float = 0.0, digits: int | None = None) -> Case:
    """Scores of a normal law, those of positives ``by`` higher but for a share of them that looks like a negative."""

    def scores(random: np.random.Generator, rows: int, shift: float) -> Array:
        found = random.normal(size=rows) + shift * (random.random(rows) >= tail)
        return found if digits is None else np.round(found, digits)

    def draw(random: np.random.Generator, positives: int) -> tuple[Array, Array]:
        return labels(positives), np.r_[scores(random, positives, by), scores(random, OTHERS, 0.0)]

    @cache
    def true() -> float:
        random = np.random.default_rng(1)
        y, p = (
            np.repeat([1.0, 0.0], 400_000),
            np.r_[scores(random, 400_000, by), scores(random, 400_000, 0.0)],
        )
        return measure("roc_auc", y, p).value

    return Case("roc_auc", draw, lambda positives: true())


def told(metric: str, recall: float, alarms: float, truth: Callable[[float, float, float], float]) -> Case:
    """Classes: a share of the positives is found, and a share of the others is called positive.

    :param truth: of found positives, positives, and false alarms, as they are on average.
    """

    def draw(random: np.random.Generator, positives: int) -> tuple[Array, Array]:
        y = labels(positives)
        return y, (random.random(len(y)) < np.where(y == 1, recall, alarms)).astype(float)

    return Case(metric, draw, lambda m: truth(recall * m, m, alarms * OTHERS))


def chances(metric: str, by: float, loss: Callable[[Array, float], Array]) -> Case:
    """Probabilities that are right where there are as many positives as are drawn."""

    def probabilities(x: Array, positives: int) -> Array:
        odds = positives / OTHERS * np.exp(by * x - by * by / 2)
        return odds / (1 + odds)

    def draw(random: np.random.Generator, positives: int) -> tuple[Array, Array]:
        y = labels(positives)
        return y, probabilities(random.normal(size=len(y)) + by * y, positives)

    def truth(positives: int) -> float:
        x = ndtri((np.arange(200_000) + 0.5) / 200_000)
        means = [float(loss(probabilities(x + by * y, positives), y).mean()) for y in (1.0, 0.0)]
        return (positives * means[0] + OTHERS * means[1]) / (positives + OTHERS)

    return Case(metric, draw, truth)


def kinds(metric: str, right: float) -> Case:
    """Three classes, of which the last is the rare one."""
    drawn = np.array([0.6, 0.39, 0.01])

    def draw(random: np.random.Generator, positives: int) -> tuple[Array, Array]:
        y = np.repeat([0, 1, 2], [OTHERS * 3 // 4, OTHERS // 4, positives])
        return y, np.where(random.random(len(y)) < right, y, random.choice(3, len(y), p=drawn))

    def truth(positives: int) -> float:
        rows = np.array([OTHERS * 3 / 4, OTHERS / 4, positives])
        recall = right + (1 - right) * drawn
        predicted = right * rows + (1 - right) * drawn * rows.sum()
        f1 = 2 * recall * rows / (rows + predicted)
        return float((recall if metric == "balanced_accuracy" else f1).mean())

    return Case(metric, draw, truth)


CASES = {
    "`roc_auc` of 0.50": ranked(0.0),
    "`roc_auc` of 0.80": ranked(1.19),
    "`roc_auc` of 0.79, tied scores": ranked(1.19, digits=0),
    "`roc_auc` of 0.975": ranked(2.77),
    "`roc_auc` of 0.95, one positive in ten missed": ranked(4.0, tail=0.1),
    "`recall` of 0.5": told("recall", 0.5, 0.02, lambda hits, m, alarms: hits / m),
    "`recall` of 0.95": told("recall", 0.95, 0.02, lambda hits, m, alarms: hits / m),
    "`precision`": told("precision", 0.9, 0.01, lambda hits, m, alarms: hits / (hits + alarms)),
    "`f1`": told("f1", 0.9, 0.005, lambda hits, m, alarms: 2 * hits / (m + hits + alarms)),
    "`accuracy`": told(
        "accuracy", 0.9, 0.005, lambda hits, m, alarms: (hits + OTHERS - alarms) / (m + OTHERS)
    ),
    "`brier_score`": chances("brier_score", 2.0, lambda p, y: (p - y) ** 2),
    "`log_loss`": chances("log_loss", 2.0, lambda p, y: -np.log(p if y else 1 - p)),
    "`balanced_accuracy`": kinds("balanced_accuracy", 0.8),
    "`f1_macro`": kinds("f1_macro", 0.8),
}


def covered(case: Case, positives: int, rounds: int) -> tuple[float, float]:
    """Return the shares of rounds in which the interval held, and in which it said ``worse`` though nothing is."""
    true = case.truth(positives)
    random = np.random.default_rng(positives)
    held = worse = done = 0
    while done < rounds:
        y, p = case.draw(random, positives)
        if case.metric == "precision" and not p.any():
            continue
        found = measure(case.metric, y, p, confidence=CONFIDENCE)
        done += 1
        held += found.low <= true <= found.high
        worse += found.worse_than(true)
    return held / rounds, worse / rounds


class Noise:
    """A model that repeats a column."""

    classes_ = np.array([0, 1])

    def __init__(self, column: str) -> None:
        self.feature_names_in_ = np.array([column])

    def predict(self, frame: Any) -> Array:
        """Return the column."""
        return frame[self.feature_names_in_[0]].to_numpy()


def better(frame: Any, cluster: str | None, resamples: int, seed: int) -> bool:
    """Whether column ``a`` is promoted over column ``b``."""
    from sklearn.metrics import roc_auc_score

    from airflow_pipeops.models.champion import judge
    from airflow_pipeops.models.evaluation import compare

    def scorer(model: Any, frame: Any) -> float:
        return float(roc_auc_score(frame["y"], model.predict(frame[list(model.feature_names_in_)])))

    found = compare(
        Noise("a"), Noise("b"), frame, scorer, target="y", cluster=cluster, rounds=resamples, seed=seed
    )
    return judge(found.challenger, found.gain).promote


def promoted(positives: int, rounds: int, resamples: int) -> float:
    """Return the share of rounds in which a challenger of pure noise was promoted over a champion of pure noise."""
    import pandas as pd

    hits = 0
    for seed in range(rounds):
        random = np.random.default_rng(seed)
        y = np.r_[np.ones(positives, int), np.zeros(400, int)]
        frame = pd.DataFrame({"a": random.normal(size=len(y)), "b": random.normal(size=len(y)), "y": y})
        hits += better(frame, None, resamples, seed)
    return hits / rounds


def clustered(days: int, rounds: int, resamples: int) -> list[float]:
    """Return the shares of rounds in which noise that leans to one side on each day was promoted: rows, and days, drawn."""
    import pandas as pd

    hits = {None: 0, "day": 0}
    for seed in range(rounds):
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(days), 40)
        a = random.normal(size=len(day))
        y = random.random(len(day)) < 1 / (1 + np.exp(-2 * random.normal(size=days)[day] * a))
        frame = pd.DataFrame({"a": a, "b": random.normal(size=len(day)), "y": y.astype(int), "day": day})
        for cluster in hits:
            hits[cluster] += better(frame, cluster, resamples, seed)
    return [count / rounds for count in hits.values()]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--gate", action="store_true", help="count promotions of noise instead")
    parser.add_argument("--clusters", action="store_true", help="count promotions of noise that leans by day")
    given = parser.parse_args()
    error = 100 * NormalDist().inv_cdf(0.975) * (0.025 * 0.975 / given.rounds) ** 0.5
    print(f"{given.rounds} rounds; 2.5 % is measured to within {error:.1f}\n")
    if given.gate:
        for positives in (5, 10, 20, 50, 200):
            print(f"| {positives} | {100 * promoted(positives, given.rounds, 100):.1f} |", flush=True)
        return
    if given.clusters:
        for days in (10, 20, 50, 100):
            cells = clustered(days, given.rounds, 60)
            print(f"| {days} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |", flush=True)
        return
    print("| metric | " + " | ".join(f"{count:,}" for count in POSITIVES) + " |")
    print("|---" * (len(POSITIVES) + 1) + "|")
    for name, case in CASES.items():
        cells = [covered(case, count, given.rounds) for count in POSITIVES]
        print(
            f"| {name} | " + " | ".join(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in cells) + " |", flush=True
        )


if __name__ == "__main__":
    main()
