"""Three ways to hold a threshold at a share of alarms whose labels are late, on the same stream."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from airflow_pipeops.operations.tuning.decision import decide, look
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import Knob
from airflow_pipeops.operations.tuning.steps import Step

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
TARGET, LATE, EVENTS, SHIFT = 0.05, 60, 12_000, 0.5
#: Change of the share of alarms when the threshold of a standard normal score grows by one, at 5 %.
SLOPE = -math.exp(-(1.6449**2) / 2) / math.sqrt(2 * math.pi)


def no_overshoot(late: int) -> float:
    """The largest gain at which a loop with such a delay does not overshoot."""
    return late**late / (late + 1) ** (late + 1)


@dataclass
class Run:
    """What a design did: its threshold and its alarms, event by event."""

    thresholds: list[float]
    alarms: list[bool]

    @property
    def moves(self) -> list[float]:
        return [after - before for before, after in pairwise(self.thresholds) if after != before]

    @property
    def reversals(self) -> int:
        return sum(one * other < 0 for one, other in pairwise(self.moves))

    def deviation(self, start: int, stop: int) -> float:
        part = self.thresholds[start:stop]
        mean = sum(part) / len(part)
        return math.sqrt(sum((item - mean) ** 2 for item in part) / len(part))

    def error(self) -> float:
        """How far the share of alarms is off, away from the shift."""
        half = len(self.alarms) // 2
        quiet = self.alarms[1000:half] + self.alarms[half + 3000 :]
        return abs(sum(quiet) / len(quiet) - TARGET)

    def settled(self) -> int:
        """Events after the shift until of 500 in a row fewer than 7.5 % are alarms, and stay so for 500."""
        half = len(self.alarms) // 2
        for event in range(half, len(self.alarms) - 500):
            if sum(self.alarms[event : event + 500]) < 0.075 * 500:
                return event - half
        return len(self.alarms) - half


def scores(seed: int, shift: float = SHIFT, events: int = EVENTS) -> list[float]:
    """A stream whose level moves at half time."""
    draw = random.Random(seed)
    return [draw.gauss(shift if event >= events // 2 else 0.0, 1.0) for event in range(events)]


def adaptive(stream: list[float], gain: float) -> Run:
    """Adaptive conformal inference: each label moves the threshold at once."""
    threshold, run = 1.6449, Run([], [])
    for event, score in enumerate(stream):
        run.thresholds.append(threshold)
        run.alarms.append(score > threshold)
        if event >= LATE:
            threshold += gain * (run.alarms[event - LATE] - TARGET)
    return run


def clipped_events(stream: list[float], gain: float, limit: float = 0.05) -> Run:
    """The same, where no label may move it by more than the limit."""
    threshold, run = 1.6449, Run([], [])
    for event, score in enumerate(stream):
        run.thresholds.append(threshold)
        run.alarms.append(score > threshold)
        if event >= LATE:
            step = gain * (run.alarms[event - LATE] - TARGET)
            threshold += max(-limit, min(limit, step))
            threshold = max(-5.0, min(5.0, threshold))
    return run


def batches(stream: list[float], size: int = 200, limit: float = 0.1) -> Run:
    """Each batch of labels moves it by the whole of the distance, clipped."""
    threshold, run = 1.6449, Run([], [])
    for event, score in enumerate(stream):
        run.thresholds.append(threshold)
        run.alarms.append(score > threshold)
        if event >= LATE + size and (event - LATE) % size == 0:
            share = sum(run.alarms[event - LATE - size : event - LATE]) / size
            threshold += max(-limit, min(limit, (share - TARGET) / -SLOPE))
    return run


KNOB = Knob(
    name="threshold",
    value=1.6449,
    low=-5,
    high=5,
    target=TARGET,
    slope=SLOPE,
    max_step=0.3,
    delay=LATE * SECOND,
    max_moves=1_000_000,  # seconds stand for events here, and all of them are of one week
    reversal_window=timedelta(hours=1),
    mode="apply",
    since=START.isoformat(),
)


def tuned(
    stream: list[float],
    knob: Knob = KNOB,
    every: int = 50,
    answer: Callable[[int, bool], bool] = lambda event, alarm: alarm,
) -> tuple[Run, list[Step], list[Outcome]]:
    """The shipped tuner, which is asked again and again."""
    steps: list[Step] = []
    outcomes: list[Outcome] = []
    run = Run([], [])
    for event, score in enumerate(stream):
        now = START + event * SECOND
        if event % every == 0:
            step = decide(knob, look(outcomes, knob, steps, now), steps, now)
            steps.append(step)
            if step.acts:
                knob = replace(knob, value=step.to)
        alarm = score > knob.value
        run.thresholds.append(knob.value)
        run.alarms.append(alarm)
        outcomes.append(Outcome(now, answer(event, alarm)))
    return run, steps, outcomes
