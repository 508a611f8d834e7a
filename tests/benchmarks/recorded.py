"""The gate on recorded evaluations, beside the rules that people write by hand: AlpacaEval, which is not kept here.

    git clone https://github.com/tatsu-lab/alpaca_eval
    python tests/benchmarks/recorded.py alpaca_eval/results --annotator alpaca_eval_gpt4
    python tests/benchmarks/recorded.py alpaca_eval/results --annotator weighted_alpaca_eval_gpt4_turbo

There, a judge has said of each of 805 instructions whether a model's answer is better than that of one reference
model: yes or no, or a probability. Equal arms are made of two models: for each item a coin says which of the two recorded
scores belongs to which arm, so that items, scores and their ties are real, and neither arm is better. Of two models that
differ beyond doubt on all items (t above 4), a part of the items is judged, and a rule is wrong that says otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.llm import results
from airflow_pipeops.llm.gate.decision import Seen, decide
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.measuring import mean_effect
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.models.paired.units import each_row

Array = Any
POLICY = GatePolicy("preferred")
#: One model behind two endpoints.
TWICE = ("vicuna-13b-v1.5", "vicuna-13b-v1.5-togetherai")


def read(folder: Path, annotator: str) -> list[dict[str, Any]]:
    """Return the rows of the table of results, of all models that the annotator has judged."""
    rows = []
    for path in sorted(folder.glob(f"*/{annotator}/annotations.json")):
        for one in json.loads(path.read_text()):
            said = one["preference"]
            known = said is not None and 1 <= said <= 2
            rows.append({
                "item": hashlib.sha256(one["instruction"].encode()).hexdigest()[:16], "arm": path.parts[-3], "run": 0,
                "scorer": "preferred", "value": said - 1 if known else None, "dataset": one["dataset"],
                "error": None if known else f"the judge said {said}",
            })  # fmt: skip
    return rows


def gate(new: Array, old: Array) -> str:
    """Judge by the gate."""
    scores = (new[:, None], old[:, None], each_row(len(new)))
    return decide(Seen(mean_effect("preferred", *scores)), POLICY).outcome


RULES: dict[str, Callable[[Array, Array], str]] = {
    "gate": gate,
    "candidate < baseline": lambda new, old: "worse" if new.mean() < old.mean() else "better",
    "5-point tolerance": lambda new, old: "worse" if new.mean() < old.mean() - 0.05 else "not worse",
    "any item": lambda new, old: "worse" if ((old >= 0.5) & (new < 0.5)).any() else "not worse",
}


def told(counted: dict[str, Counter[str]], draws: int) -> str:
    """One row: what the gate says, and how often the others say worse."""
    own = [counted["gate"][said] for said in ("worse", "better")]
    return " | ".join(
        f"{n / draws:.1%}" for n in (*own, *(counted[name]["worse"] for name in list(RULES)[1:]))
    )


def equal(table: Array, sizes: list[int], draws: int) -> None:
    """Print what is said of equal arms."""
    print(
        f"| items | gate: worse | gate: better | {' | '.join(f'{one}: worse' for one in list(RULES)[1:])} |"
    )
    print("|---|---|---|---|---|---|")
    for size in sizes:
        random = np.random.default_rng(size)
        counted: dict[str, Counter[str]] = {name: Counter() for name in RULES}
        for _ in range(draws):
            pair = table[:, random.choice(table.shape[1], 2, replace=False)]
            pair = pair[random.permutation(len(pair))[:size]]
            turned = random.random(size) < 0.5
            new, old = np.where(turned, pair[:, 0], pair[:, 1]), np.where(turned, pair[:, 1], pair[:, 0])
            for name, rule in RULES.items():
                counted[name][rule(new, old)] += 1
        print(f"| {size} | {told(counted, draws)} |", flush=True)


def apart(table: Array) -> list[tuple[int, int]]:
    """Return the pairs of models of which the second is better beyond doubt."""
    found = []
    for one, other in combinations(range(table.shape[1]), 2):
        gain = table[:, other] - table[:, one]
        far = gain.mean() / max(1e-12, gain.std(ddof=1) / len(gain) ** 0.5)
        if abs(far) > 4:
            found.append((one, other) if far > 0 else (other, one))
    return found


def different(table: Array, sizes: list[int], draws: int) -> None:
    """Print what is said of a model that is worse, and of one that is better."""
    pairs = apart(table)
    print(f"\n{len(pairs)} pairs differ beyond doubt\n")
    heads = " | ".join(f"{one}: worse" for one in list(RULES)[1:])
    print(f"| items | candidate is | gate: worse | gate: better | {heads} |")
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        for truth in ("worse", "better"):
            random = np.random.default_rng([size, truth == "worse"])
            counted: dict[str, Counter[str]] = {name: Counter() for name in RULES}
            for _ in range(draws):
                low, high = pairs[random.integers(len(pairs))]
                items = random.permutation(len(table))[:size]
                arms = table[items, low], table[items, high]
                for name, rule in RULES.items():
                    counted[name][rule(*(arms if truth == "worse" else arms[::-1]))] += 1
            print(f"| {size} | {truth} | {told(counted, draws)} |", flush=True)


def twice(rows: list[dict[str, Any]]) -> None:
    """Print the verdict of one model against itself, by the whole of the gate."""
    found = [one for one in rows if one["arm"] in TWICE]
    if len({one["arm"] for one in found}) == 2:
        policy = GatePolicy("preferred", slices=("dataset",), margin=0.05, enough="not worse")
        verdict = judge(results.table(found), policy, candidate=TWICE[1], baseline=TWICE[0]).verdict
        print(f"\n{TWICE[1]} against {TWICE[0]}: {verdict.outcome}: {verdict.reason}")


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotator", default="alpaca_eval_gpt4")
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    rows = read(given.folder, given.annotator)
    frame = results.table(rows).pivot(index="item", columns="arm", values="value").dropna()
    print(f"{frame.shape[1]} models, {len(frame)} items that all were judged on\n")
    table = frame.to_numpy()
    sizes = [size for size in (10, 30, 100, 300) if size < len(table)]
    equal(table, [*sizes, len(table)], given.draws)
    different(table, sizes, given.draws)
    twice(rows)


if __name__ == "__main__":
    main()
