"""The retrain governor on real streams, beside what else one could do, and beside the oracle that knows the future.

Run: python tests/benchmarks/governor.py [--streams elec2,flights-weeks] [--prices 0.03,0.1]

Each stream is replayed block by block. A model is really trained after every block (once: the scores are kept in
``$PIPEOPS_TEST_DATA``), so that every rule sees the same models. The total cost of a rule is the sum over all blocks of
(1 - AUC of the model that served), plus a price for each retrain: 0.1 means that a retrain costs as much as ten points
of AUC over one block. Rules that know the price get it; those that learn from a prefix get the blocks before the scored
ones. The governor's constants were chosen on the first halves of elec2 and employment only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.retrain_rules import PRACTICAL, oracle
from tests.benchmarks.retrain_streams import Task, tasks

PRICES = (0.01, 0.03, 0.1, 0.3)


def measure(task: Task, price: float) -> dict:
    """Return the cost relative to the oracle's, the retrains and the mean AUC of each rule."""
    best = oracle(task, price)
    floor = best.cost(task, price)
    rules = {}
    for name, rule in PRACTICAL.items():
        run = rule(task, price)
        rules[name] = {
            "ratio": round(run.cost(task, price) / floor, 4),
            "retrains": run.retrains,
            "auc": round(run.auc(task), 4),
        }
    rules["oracle"] = {"ratio": 1.0, "retrains": best.retrains, "auc": round(best.auc(task), 4)}
    return {
        "task": task.name,
        "tuned": task.tuned,
        "blocks": task.stop - task.start,
        "price": price,
        "oracle_cost": round(floor, 4),
        "rules": rules,
    }


def show(rows: list[dict]) -> None:
    """Print one table for each part of a stream: a line for each rule, a column for each price."""
    for name in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == name]
        looked = ", the constants were chosen on it" if mine[0]["tuned"] else ""
        print(f"\n{name}: {mine[0]['blocks']} blocks{looked}. Cost / oracle's cost (retrains)")
        print(f"{'price of a retrain':20}" + "".join(f"{row['price']:>14}" for row in mine))
        for rule in mine[0]["rules"]:
            cells = [row["rules"][rule] for row in mine]
            print(f"{rule:20}" + "".join(f"{cell['ratio']:>9.3f} ({cell['retrains']:2d})" for cell in cells))


def summary(rows: list[dict]) -> dict:
    """Return for the parts that were not tuned on: the mean ratio of each rule, and where it is best."""
    tested = [row for row in rows if not row["tuned"]]
    found = {}
    for rule in PRACTICAL:
        ratios = [row["rules"][rule]["ratio"] for row in tested]
        lowest = [min(row["rules"][other]["ratio"] for other in PRACTICAL) for row in tested]
        found[rule] = {
            "mean_ratio": round(sum(ratios) / len(ratios), 4) if ratios else None,
            "worst_ratio": max(ratios, default=None),
            "lowest": sum(ratio <= low for ratio, low in zip(ratios, lowest, strict=True)),
            "within_1.15": sum(ratio <= 1.15 for ratio in ratios),
            "cells": len(ratios),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", default=",".join(tasks()), help="of: %(default)s")
    parser.add_argument("--prices", default=",".join(map(str, PRICES)), help="of a retrain: %(default)s")
    given = parser.parse_args()
    known = tasks()
    unknown = sorted(set(given.streams.split(",")) - set(known))
    if unknown:
        parser.error(f"there is no stream {unknown[0]!r}; use {', '.join(known)}")
    rows = [
        measure(task, float(price))
        for name in given.streams.split(",")
        for task in known[name]()
        for price in given.prices.split(",")
    ]
    show(rows)
    found = summary(rows)
    print("\nOver the parts that were not tuned on:")
    for rule, row in sorted(found.items(), key=lambda item: item[1]["mean_ratio"] or 0):
        print(
            f"{rule:20} mean {row['mean_ratio']}, worst {row['worst_ratio']}, lowest in {row['lowest']} and within 1.15"
            f" of the oracle in {row['within_1.15']} of {row['cells']}"
        )
    print(json.dumps({"summary": found, "rows": rows}))


if __name__ == "__main__":
    main()
