"""How often a gate errs on equal prompts, and what it finds, beside the rules that people write by hand.

    python tests/benchmarks/gate.py                  # equal prompts: share of "worse" and of "better"
    python tests/benchmarks/gate.py --power          # worse and better ones: share of each verdict
    python tests/benchmarks/gate.py --peek           # items in batches, judged after each
    python tests/benchmarks/gate.py --draws 2000     # of each row; 1,000 by default

Items pass with a probability of their own, drawn from Beta(1.2, 0.6), and each run of an item is a throw of that coin. A
worse prompt passes each item with a probability smaller in proportion. Clusters: ten items share a shift of their logits,
drawn anew for each arm and run, as answers over one retrieved document do. A noisy judge turns each verdict round with a
probability of 0.2. Mixed: half the items pass with another probability, so the two are equal in the mean and not item by
item. Marks: from 0 to 4, of which only the order counts.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.llm.gate.decision import Seen, decide
from airflow_pipeops.llm.gate.measuring import direction_effect, mean_effect
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.models.paired.units import Units, each_row

Array = Any
SIZES = (10, 20, 50, 100, 300, 1000, 5000)
KINDS = ("plain", "clustered", "judge", "mixed", "marks")
POLICY = GatePolicy("quality")


@dataclass(frozen=True)
class Pair:
    """Two arms on the same items.

    :param new: shape (items, runs).
    :param old: the same.
    :param units: which items move together.
    """

    new: Array
    old: Array
    units: Units


def pair(kind: str, items: int, runs: int, random: np.random.Generator, loss: float = 0.0) -> Pair:
    """Draw two arms, of which the candidate passes ``loss`` of the items less."""
    old = random.beta(1.2, 0.6, size=items)
    new = old * (1 - loss / (1.2 / 1.8))
    units = each_row(items)
    if kind == "clustered":
        codes = np.arange(items) // 10
        units = Units(codes, int(codes.max()) + 1, "document")
    if kind == "mixed":  # drawn anew: other items are good at, as many
        new = np.where(random.random(items) < 0.5, random.beta(1.2, 0.6, size=items), new)
    if kind == "marks":
        marks = [
            np.round(4 * random.beta(4 * one + 0.1, 4 * (1 - one) + 0.1, size=(runs, items)))
            for one in (new, old)
        ]
        return Pair(marks[0].T, marks[1].T, units)
    found = []
    for chance in (new, old):
        for_run = np.repeat(chance[:, None], runs, axis=1)
        if kind == "clustered":
            shift = random.normal(size=(units.count, runs))[units.codes]
            odds = np.exp(shift) * for_run / np.maximum(1e-9, 1 - for_run)
            for_run = odds / (1 + odds)
        passed = random.random((items, runs)) < for_run
        if kind == "judge":
            passed ^= random.random((items, runs)) < 0.2
        found.append(passed.astype(float))
    return Pair(*found, units)


def gate(drawn: Pair, policy: GatePolicy = POLICY, kind: str = "plain") -> str:
    """Judge by the gate."""
    measure = direction_effect if kind == "marks" else mean_effect
    return decide(
        Seen(measure("quality", drawn.new, drawn.old, drawn.units, planned=policy.planned)), policy
    ).outcome


def lower(drawn: Pair) -> str:
    """Worse is what has the lower mean."""
    return "worse" if drawn.new.mean() < drawn.old.mean() else "better"


def tolerant(drawn: Pair) -> str:
    """Worse is what has lost more than five points."""
    scale = 4 if drawn.new.max() > 1 else 1
    return "worse" if drawn.new.mean() < drawn.old.mean() - 0.05 * scale else "not worse"


def any_item(drawn: Pair) -> str:
    """Worse is what fails on any item that the baseline has passed."""
    top = drawn.old.max()
    return (
        "worse" if ((drawn.old.mean(axis=1) >= top) & (drawn.new.mean(axis=1) < top)).any() else "not worse"
    )


def pooled(drawn: Pair) -> str:
    """A test of t on all rows, as if each run of each item stood for itself."""
    rows = (drawn.new - drawn.old).ravel()
    error = rows.std(ddof=1) / len(rows) ** 0.5
    if not error:
        return "better" if rows.mean() > 0 else "cannot tell"
    far = rows.mean() / error
    return "better" if far > 1.645 else "worse" if far < -1.645 else "cannot tell"


RULES: dict[str, Callable[[Pair], str]] = {
    "candidate < baseline": lower,
    "5-point tolerance": tolerant,
    "any item": any_item,
    "rows pooled": pooled,
}


def shares(
    kind: str, items: int, runs: int, draws: int, loss: float = 0.0, policy: GatePolicy = POLICY
) -> dict[str, Counter[str]]:
    """Return how often each rule says what, of so many draws."""
    random = np.random.default_rng([items, runs, KINDS.index(kind), int(1000 * abs(loss))])
    found: dict[str, Counter[str]] = {name: Counter() for name in ("gate", *RULES)}
    for _ in range(draws):
        drawn = pair(kind, items, runs, random, loss)
        found["gate"][gate(drawn, policy, kind)] += 1
        for name, rule in RULES.items():
            found[name][rule(drawn)] += 1
    return found


def equal(draws: int) -> None:
    """Print what is said of equal prompts."""
    print(
        "| kind | items | runs | gate: worse | gate: better | "
        + " | ".join(f"{name}: worse" for name in RULES)
        + " |"
    )
    print("|---|---|---|---|---|" + "---|" * len(RULES))
    for kind in KINDS:
        for items in SIZES:
            for runs in (1, 3) if items <= 1000 else (1,):
                found = shares(kind, items, runs, draws)
                row = [
                    found["gate"]["worse"],
                    found["gate"]["better"],
                    *(found[name]["worse"] for name in RULES),
                ]
                print(
                    f"| {kind} | {items:,} | {runs} | " + " | ".join(f"{n / draws:.1%}" for n in row) + " |",
                    flush=True,
                )


def power(draws: int) -> None:
    """Print what is said of worse, equal and better prompts."""
    policy = GatePolicy("quality", margin=0.05, enough="not worse")
    print("| items | runs | truth | worse | cannot tell | not worse | better |")
    print("|---|---|---|---|---|---|---|")
    for items, runs in ((30, 1), (100, 1), (100, 3), (300, 1), (300, 3), (1000, 3), (5000, 1)):
        for loss in (0.10, 0.05, 0.02, 0.0, -0.05):
            found = shares("plain", items, runs, draws, loss, policy)["gate"]
            told = " | ".join(
                f"{found[name] / draws:.0%}" for name in ("worse", "cannot tell", "not worse", "better")
            )
            print(f"| {items:,} | {runs} | {-100 * loss or 0:+.0f} points | {told} |", flush=True)


def looked_at(
    items: int, batch: int, random: np.random.Generator, loss: float, policy: GatePolicy
) -> tuple[str, int]:
    """Judge after each batch; return the first verdict, and how many items it took."""
    drawn = pair("plain", items, 1, random, loss)
    for size in range(batch, items + 1, batch):
        said = gate(Pair(drawn.new[:size], drawn.old[:size], each_row(size)), policy)
        if said != "cannot tell":
            return said, size
    return "cannot tell", items


def peeking(draws: int) -> None:
    """Print what is said by whoever looks after each batch of 20, up to 1,000 items."""
    print(
        "| truth | gate for one look: worse | better | planned for 300: worse | better | items until then, median |"
    )
    print("|---|---|---|---|---|---|")
    for loss in (0.0, 0.05, 0.10, 0.20):
        row = []
        for policy in (POLICY, GatePolicy("quality", planned=300)):
            random = np.random.default_rng(int(1000 * loss))
            found = [looked_at(1000, 20, random, loss, policy) for _ in range(draws)]
            row += [sum(said == name for said, _ in found) / draws for name in ("worse", "better")]
        median = int(np.median([size for _, size in found]))
        print(
            f"| {-100 * loss or 0:+.0f} points | "
            + " | ".join(f"{one:.1%}" for one in row)
            + f" | {median} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--peek", action="store_true")
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    (power if given.power else peeking if given.peek else equal)(given.draws)
