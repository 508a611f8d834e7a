"""Runs that never were: of known seasons, tails and faults."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

from airflow_pipeops.operations.anomalies.series import Name, Point

HOUR, DAY = 3600.0, 86400.0
#: A Thursday.
START = 1_700_006_400.0


def heavy(rng: random.Random, freedom: float) -> float:
    """Return a number of Student's t."""
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(freedom / 2, 2 / freedom))


def runs(
    seed: int = 0,
    *,
    series: int = 1,
    count: int = 200,
    every: float = 4 * HOUR,
    spread: float = 0.1,
    freedom: float = 5.0,
    season: float = 0.4,
    kind: str = "duration",
    base: float = 600.0,
    fault: Callable[[int], float] = lambda number: 1.0,
) -> Iterator[tuple[Name, Point]]:
    """Make runs of some series.

    :param fault: number of a run -> by what its value is multiplied.
    """
    rng = random.Random(seed)
    for each in range(series):
        name = Name(f"dag-{each}", kind, owner="team")
        for number in range(count):
            at = START + number * every + rng.uniform(0, 60)
            day = season * math.sin(2 * math.pi * (at % DAY) / DAY)
            value = base * math.exp(day + spread * heavy(rng, freedom)) * fault(number)
            yield name, Point(at, value, at + value, run=f"run-{number}")
