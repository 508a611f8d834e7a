"""Three designs that hold a threshold at 5 % of alarms whose labels come 60 events late: see docs/tuning.md.

Usage: python -m tests.benchmarks.tuning_designs [SEEDS]
"""

from __future__ import annotations

import sys
from statistics import fmean

from tests.closed_loop.designs import (
    LATE,
    SLOPE,
    Run,
    adaptive,
    batches,
    clipped_events,
    no_overshoot,
    scores,
    tuned,
)


def row(name: str, runs: list[Run]) -> str:
    half = len(runs[0].alarms) // 2
    figures = [
        f"{fmean(run.deviation(1000, half) for run in runs):.3f}",
        f"{fmean(run.error() for run in runs):.4f}",
        f"{fmean(len(run.moves) for run in runs):,.1f}",
        f"{fmean(run.reversals for run in runs):,.1f}",
        f"{fmean(run.settled() for run in runs):,.0f}",
    ]
    return f"| {name} | {' | '.join(figures)} |"


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    gentle = no_overshoot(LATE) / -SLOPE
    designs = {
        "adaptive, at the no-overshoot gain": lambda stream: adaptive(stream, gentle),
        "adaptive, at 3 x the stability limit": lambda stream: adaptive(stream, 3 * 0.026 / -SLOPE),
        "the same, each step clipped at .05": lambda stream: clipped_events(stream, 3 * 0.026 / -SLOPE),
        "batches of 200, clipped at .1": batches,
        "evidence, dead band, dwell": lambda stream: tuned(stream)[0],
    }
    print("| design | sd of the threshold | error of the share | moves | reversals | events to settle |")
    print("|---|---|---|---|---|---|")
    for name, design in designs.items():
        print(row(name, [design(scores(seed)) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
