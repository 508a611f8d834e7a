"""How often a gate promotes what is not better.

    python tests/benchmarks/promotion.py                  # pairs of equal models, drawn anew
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
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.influence import gain
from airflow_pipeops.models.paired.units import Units, by_column, each_row
from tests import realdata

Array = Any
SIZES = ((20, 10), (100, 10), (100, 50), (1000, 10), (1000, 100), (10_000, 100), (100_000, 1000))
METRICS = ("roc_auc", "log_loss", "brier_score", "accuracy", "f1", "mae", "rmse")


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
    if metric in ("mae", "rmse"):
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
            times = max(50, rounds if rows <= 1000 else rounds // (rows // 2000))
            found = [
                decide(equal_models(metric, rows, positives, days, random, shift), Policy()).promote
                for _ in range(times)
            ]
            cells.append(f"{100 * np.mean(found):.1f} ({times:,})")
        print(f"| {metric} | {' | '.join(cells)} |", flush=True)


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
                    if promoted(gain(metric, y[early], new[early], old[early], units=units), rule):
                        counts[rule].append(truth < 0)
        for rule, worse in counts.items():
            share = f"{100 * np.mean(worse):.0f} %" if worse else "none"
            print(f"| {name} | {metric} | {pairs} | {rule} | {len(worse)} | {share} |", flush=True)


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
    given = parser.parse_args()
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
