"""How often does each mode cry wolf, and what does it miss?

Draws pairs of samples, of the same distribution and of shifted ones, judges them by their aggregates in the robust mode and
by Evidently's own rules (the compatible mode, which is tested to be equal to Evidently), and counts. Prints a table, and all
figures as one JSON line at the end::

    python tests/benchmarks/calibration.py
    python tests/benchmarks/calibration.py --datasets 200 --columns 20 --sizes 200x200,10000x10000

Numbers are drawn from a fine discretisation of the normal law (2,000 values), so a sample of a million rows costs one
multinomial draw.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.drift.judging.verdicts import compare_columns, dataset_verdict
from airflow_pipeops.drift.settings import COMPATIBLE, ROBUST, Settings
from airflow_pipeops.drift.statistics.aggregates import CategoricalAggregate, NumericAggregate
from airflow_pipeops.drift.statistics.bins import exact_key

SIZES = ((200, 200), (1000, 1000), (2000, 200), (10_000, 10_000), (1_000_000, 1000), (1_000_000, 1_000_000))
CATEGORIES = (2, 10, 100, 1000, 5000)
GRID = np.linspace(-4.5, 4.5, 2000)


def numbers(
    generator: np.random.Generator, rows: int, mean: float = 0.0, deviation: float = 1.0
) -> NumericAggregate:
    """Draw a numeric column; shifts below one grid step are kept by shifting the law and not the grid."""
    law = np.exp(-0.5 * ((GRID - mean) / deviation) ** 2)
    counts = generator.multinomial(rows, law / law.sum())
    kept = counts > 0
    x, count = GRID[kept], counts[kept]
    return NumericAggregate(
        rows, 0, 0, 0.0, 1.0, exact_key(x), count, count * x, count * x * x, x, x, cut="exact"
    )


def categories(
    generator: np.random.Generator, rows: int, many: int, moved: float = 0.0
) -> CategoricalAggregate:
    """Draw a categorical column of Zipf's law; ``moved`` is the share of rows that go from the first half to the second."""
    law = 1.0 / np.arange(1, many + 1)
    law /= law.sum()
    first = np.arange(many) % 2 == 0
    law = np.where(first, law * (1 - moved / law[first].sum()), law * (1 + moved / law[~first].sum()))
    counts = generator.multinomial(rows, law)
    return CategoricalAggregate(rows, 0, {str(i): int(n) for i, n in enumerate(counts) if n})


@dataclass(frozen=True)
class Rates:
    """Shares of columns and data sets with an alarm.

    :param significant: columns whose p-value alone passed: what the stated rate bounds, whatever the thresholds.
    :param anywhere: data sets with an alarm in any column.
    :param dataset: data sets that were called drifted.
    """

    columns: float
    significant: float
    anywhere: float
    dataset: float
    judged: int


Draw = Callable[[np.random.Generator, int, bool], Any]


def measure(
    draw: Draw, n: int, m: int, settings: Settings, *, datasets: int, columns: int, seed: int
) -> Rates:
    """Judge so many data sets of so many columns each."""
    generator = np.random.default_rng(seed)
    alarms = significant = anywhere = whole = 0
    for _ in range(datasets):
        before = {str(i): draw(generator, n, False) for i in range(columns)}
        after = {str(i): draw(generator, m, True) for i in range(columns)}
        results = compare_columns(before, after, settings)
        drifted = sum(item.drifted for item in results)
        alarms += drifted
        anywhere += drifted > 0
        whole += dataset_verdict(results, settings).drifted
        significant += sum(
            any(part["p_value"] <= settings.false_alarms for part in item.dimensions) for item in results
        )
    total = datasets * columns
    return Rates(alarms / total, significant / total, anywhere / datasets, whole / datasets, total)


def cases() -> dict[str, Draw]:
    """What is drawn: without a shift, and with one."""
    found: dict[str, Draw] = {"numbers, same": lambda g, rows, _: numbers(g, rows)}
    for many in CATEGORIES:
        found[f"{many} categories, same"] = lambda g, rows, _, many=many: categories(g, rows, many)
    for shift in (0.1, 0.25, 0.5, 1.0):
        found[f"numbers, mean +{shift} sd"] = lambda g, rows, late, shift=shift: numbers(
            g, rows, shift * late
        )
    found["numbers, deviation x 1.5"] = lambda g, rows, late: numbers(g, rows, 0, 1.5 if late else 1.0)
    for many in (2, 10, 1000):
        found[f"{many} categories, 20% moved"] = lambda g, rows, late, many=many: categories(
            g, rows, many, 0.2 * late
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--sizes", default=",".join(f"{n}x{m}" for n, m in SIZES))
    parser.add_argument(
        "--false-alarms", type=float, default=0.05, help="the rate that the robust mode is to hold"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in given.sizes.split(",")]
    modes = {
        "robust": Settings(mode=ROBUST, false_alarms=given.false_alarms),
        "evidently": Settings(mode=COMPATIBLE),
    }
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    heads = ["case", "reference x current", "robust: column", "p-value alone", "any column", "data set"]
    heads += ["Evidently: column", "any column", "data set"]
    print("| " + " | ".join(heads) + " |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, draw in cases().items():
        for n, m in sizes:
            found = {
                mode: measure(
                    draw, n, m, settings, datasets=given.datasets, columns=given.columns, seed=given.seed
                )
                for mode, settings in modes.items()
            }
            ours, theirs = found["robust"], found["evidently"]
            shares = (
                ours.columns,
                ours.significant,
                ours.anywhere,
                ours.dataset,
                theirs.columns,
                theirs.anywhere,
                theirs.dataset,
            )
            print(
                f"| {name} | {n:,} x {m:,} | " + " | ".join(f"{share:.1%}" for share in shares) + " |",
                flush=True,
            )
            rows.append(
                {
                    "case": name,
                    "reference": n,
                    "current": m,
                    **{mode: vars(rates) for mode, rates in found.items()},
                }
            )
    same = [row for row in rows if row["case"].endswith("same")]
    print(
        json.dumps(
            {
                "benchmark": "calibration",
                "stated": given.false_alarms,
                "datasets": given.datasets,
                "columns": given.columns,
                "worst_any_alarm_robust": max(row["robust"]["anywhere"] for row in same),
                "worst_any_alarm_evidently": max(row["evidently"]["anywhere"] for row in same),
                "worst_column_robust": max(row["robust"]["columns"] for row in same),
                "worst_column_evidently": max(row["evidently"]["columns"] for row in same),
                "seconds": round(time.perf_counter() - start, 1),
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
