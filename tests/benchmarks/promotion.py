"""How often a gate promotes what is not better.

    python tests/benchmarks/promotion.py                  # pairs of equal models, drawn anew
    python tests/benchmarks/promotion.py --peek           # shadows that are looked at each day
    python tests/benchmarks/promotion.py --real           # models of one year on real data, and what became of them

Equal models: two noisy looks at the same truth, of which neither is better; a gate that is right to 2.5 % promotes the
challenger 2.5 times in 100. Real data: all ordered pairs of models trained on earlier stretches are compared on the first
half of a stretch; the truth is the second half, which no gate has seen. Printed are how many were promoted, and the share
of those that were worse on the second half.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.models.paired.decision import Policy, decide
from airflow_pipeops.models.paired.gain import MIN_UNITS, Gain
from airflow_pipeops.models.paired.influence import gain
from airflow_pipeops.models.paired.units import Units, by_column, each_row
from airflow_pipeops.models.performance import METRICS as performance
from tests import realdata

Array = Any
SIZES = ((1000, 1), (20, 10), (100, 10), (1000, 10), (1000, 100), (10_000, 100), (100_000, 1000))
METRICS = ("roc_auc", "log_loss", "brier_score", "accuracy", "f1", "mae", "rmse", "pinball_loss_90")


def equal_models(
    metric: str, rows: int, positives: int, days: int, random: np.random.Generator, shift: float = 0.0
) -> Gain:
    """Two models that see the truth through noise of one strength; with ``days``, noise that a day's rows share.

    :param shift: how much sharper the challenger sees.
    """
    day = random.integers(days, size=rows) if days else np.arange(rows)
    shared = random.normal(size=(2, days or 1))[:, day if days else np.zeros(rows, int)] * (
        0.5 if days else 0
    )
    noise = random.normal(size=(2, rows)) + shared
    noise[0] *= 1 - shift
    units = Units(day, days, "day") if days else each_row(rows)
    if performance[metric].task == "regression":
        truth = random.normal(size=rows)
        return gain(metric, truth, truth + noise[0], truth + noise[1], units=units)
    truth = np.zeros(rows)
    truth[random.permutation(rows)[:positives]] = 1
    seen = 1 / (1 + np.exp(1 - 2 * truth - noise))
    return gain(metric, truth, seen[0], seen[1], units=units)


def drawn(rounds: int, days: int, shift: float) -> None:
    """Print, by metric and size, how often the challenger was promoted, in percent."""
    print(f"| metric | {' | '.join(f'{rows:,} rows, {few:,} positive' for rows, few in SIZES)} |")
    print(f"| --- |{' --- |' * len(SIZES)}")
    for metric in METRICS:
        cells = []
        for rows, positives in SIZES:
            random = np.random.default_rng([rows, positives, days])
            times = max(200, rounds if rows <= 1000 else rounds // (rows // 2000))
            found = [
                decide(equal_models(metric, rows, positives, days, random, shift), Policy()).promote
                for _ in range(times)
            ]
            cells.append(f"{100 * np.mean(found):.1f} ({times:,})")
        print(f"| {metric} | {' | '.join(cells)} |", flush=True)


def watched(random: np.random.Generator, days: int, better: float = 0.0, alike: float = 0.0) -> list[Array]:
    """Losses of both models on each row, day by day: 10 rows a day, whose noise is shared by day.

    :param better: by how many standard deviations of a day the challenger is better.
    :param alike: correlation of a day's luck with that of the day before.
    :return: challenger's and champion's squared losses, and the day; each of shape (rows,).
    """
    luck = random.normal(size=days)
    for day in range(1, days):
        luck[day] = alike * luck[day - 1] + (1 - alike**2) ** 0.5 * luck[day]
    day = np.repeat(np.arange(days), 10)
    losses = 1 + random.gamma(2.0, size=(2, 10 * days))
    # Of 10 rows in both models, whose variance is 2, a day's mean difference has a variance of 0.4; that of its luck is 0.5.
    losses[0] -= np.sqrt(0.5) * luck[day] + better * np.sqrt(0.9)
    return [losses[0], losses[1], day]


def looked_at(gains: list[Array], rule: str, planned: int) -> tuple[str, int]:
    """Look each day from the tenth on, until something can be told.

    :param rule: ``once`` for an interval that is made for one look, else for all of them.
    :return: the outcome, and after how many days.
    """
    new, old, day = gains
    for days in range(MIN_UNITS, int(day[-1]) + 2):
        rows = int(np.searchsorted(day, days))
        units = Units(day[:rows], days, "day", in_time=True)
        found = gain(
            "mae",
            np.zeros(rows),
            new[:rows],
            old[:rows],
            units=units,
            planned=None if rule == "once" else planned,
        )
        outcome = decide(found, Policy()).outcome
        if outcome != "cannot tell":
            return outcome, days
    return "cannot tell", int(day[-1]) + 1


def peeked(rounds: int) -> None:
    """Print how often and when a shadow of 120 days is promoted that is looked at each day."""
    print(
        "| challenger | days | once: promoted | at all times: promoted | after |\n| --- | --- | --- | --- | --- |"
    )
    for better in (0.0, 0.3, 0.5, 1.0):
        for alike in (0.0, 0.3, 0.6):
            found: dict[str, list[tuple[str, int]]] = {"once": [], "at all times": []}
            for seed in range(rounds):
                gains = watched(np.random.default_rng([seed, int(10 * alike)]), 120, better, alike)
                for rule, outcomes in found.items():
                    outcomes.append(looked_at(gains, rule, 30))
            shares = [100 * np.mean([one[0] == "better" for one in rule]) for rule in found.values()]
            after = [one[1] for one in found["at all times"] if one[0] == "better"]
            when = f"{np.median(after):.0f} days" if better and after else ""
            print(
                f"| {better} | correlated {alike} | {shares[0]:.1f} | {shares[1]:.1f} | {when} |", flush=True
            )


def stretches(name: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, str]]:
    """Real data in stretches of time: features, what else is known (label, day), and the data's name."""
    from airflow_pipeops.demo import flights

    if name == "flights":
        for month in range(1, 13):
            frame = flights.month(month)
            known = frame[["late", "day"]].rename(columns={"late": "label"})
            yield flights.features(frame)[list(flights.FEATURES)], known, name
        return
    frame = getattr(realdata, name)()
    label = frame.columns[-1]
    frame = frame.reset_index(drop=True)
    # So many rows in the order of time count as one: a day of half-hours of electricity, and six weeks of weather.
    day, size = frame.index // 48, len(frame) // 12
    y = pd.factorize(frame[label], sort=True)[0]
    x = frame.drop(columns=[label]).select_dtypes("number")
    for start in range(0, size * 12, size):
        part = slice(start, start + size)
        yield x.iloc[part], pd.DataFrame({"label": y[part], "day": day[part]}), name


def real(name: str) -> None:
    """Print what each rule promoted on one data set, and what became of it."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    parts = list(stretches(name))
    texts = list(parts[0][0].select_dtypes(exclude="number").columns)
    scored: list[dict[int, Array]] = []
    for first in range(len(parts) - 2):
        x = pd.concat([parts[first][0], parts[first + 1][0]])
        y = np.r_[parts[first][1]["label"], parts[first + 1][1]["label"]]
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
        encode = make_column_transformer((codes, texts), remainder="passthrough")
        model = make_pipeline(encode, HistGradientBoostingClassifier(random_state=0)).fit(x, y)
        later = range(first + 2, len(parts))
        scored.append({at: model.predict_proba(parts[at][0])[:, 1] for at in later})
    for metric in ("roc_auc", "log_loss"):
        counts: dict[str, list[bool]] = {rule: [] for rule in RULES}
        wider: list[float] = []
        pairs = 0
        for at, (_, known, _) in enumerate(parts):
            models = [one[at] for one in scored if at in one]
            y = known["label"].to_numpy(float)
            days = (
                by_column(known["day"].astype(str), "day")
                if name != "flights"
                else by_column(known["day"], "day")
            )
            early = days.codes < days.count // 2
            for new, old in itertools.permutations(models, 2):
                pairs += 1
                truth = gain(metric, y[~early], new[~early], old[~early]).value
                for rule, unit in RULES.items():
                    units = unit(days.part(early))
                    found = gain(metric, y[early], new[early], old[early], units=units)
                    if promoted(found, rule):
                        counts[rule].append(truth < 0)
                    if rule == "days" and found.design_effect:
                        wider.append(found.design_effect**0.5)
        for rule, worse in counts.items():
            share = f"{100 * np.mean(worse):.0f} %" if worse else "none"
            print(f"| {name} | {metric} | {pairs} | {rule} | {len(worse)} | {share} |", flush=True)
        low, middle, high = np.quantile(wider, (0.05, 0.5, 0.95))
        said = f"{middle:.1f} times that by rows ({low:.1f} to {high:.1f} in 90 of 100 pairs)"
        print(f"| {name} | {metric} | {pairs} | the error by days | | {said} |", flush=True)


RULES: dict[str, Callable[[Units], Units | None]] = {
    "any gain": lambda days: None,
    "rows as if independent": lambda days: None,
    "days": lambda days: Units(days.codes, days.count, "day"),
    "days, and their neighbours": lambda days: Units(days.codes, days.count, "day", in_time=True),
}


def promoted(found: Gain, rule: str) -> bool:
    return found.value > 0 if rule == "any gain" else decide(found, Policy()).promote


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--days", type=int, default=0, help="rows that share noise by day, so many days")
    parser.add_argument(
        "--better", type=float, default=0.0, help="how much sharper the challenger sees: power"
    )
    parser.add_argument("--real", nargs="*", help="names of real data: flights, elec2, noaa")
    parser.add_argument("--peek", action="store_true", help="shadows that are looked at each day")
    given = parser.parse_args()
    if given.peek:
        peeked(given.rounds)
        return
    if given.real is None:
        drawn(given.rounds, given.days, given.better)
        return
    print(
        "| data | metric | pairs | rule | promoted | of those worse afterwards |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in given.real or ("flights", "elec2", "noaa"):
        real(name)


if __name__ == "__main__":
    main()
