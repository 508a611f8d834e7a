"""Series of what was measured, one run or delivery after the other. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: What a series is of.
Kind = Literal["duration", "queue", "rows", "failure", "interval", "lead", "wait", "lag", "cost"]


@dataclass(frozen=True)
class Shape:
    """How values of a kind are read.

    :param says: what is measured, in a sentence.
    :param unit: of the values, as it stands behind a number.
    :param high: what an unusually high value is called; empty where that is no finding.
    :param low: what an unusually low one is called.
    :param least: added to a value before its logarithm is taken: differences far below it mean nothing.
    """

    says: str
    unit: str
    high: str
    low: str = ""
    least: float = 1.0


SHAPES: Mapping[str, Shape] = {
    # A run that has nothing to do is green, and fast: as telling as one that is slow.
    "duration": Shape("the run took", " s", "too slow", "too fast"),
    "queue": Shape("the run waited in the queue for", " s", "waited too long", least=10.0),
    "rows": Shape("it had", " rows", "too many rows", "too few rows"),
    "failure": Shape("failed", "", "failing more often"),
    "interval": Shape("since the run before it went by", " s", "missing", least=10.0),
    "lead": Shape("from commit to release it took", " s", "too slow", least=60.0),
    "wait": Shape("it waited for", " s", "waited too long", least=10.0),
    "lag": Shape("it was behind by", "", "too far behind"),
    "cost": Shape("it cost", "", "too dear", least=0.01),
}


@dataclass(frozen=True)
class Name:
    """Names a series.

    :param subject: what is measured: a DAG, or a deliverable.
    :param kind: one of :data:`SHAPES`.
    :param variant: what is another series of the same: ``manual``, ``backfill``, an environment, ``deploy``.
    :param owner: whose budget an alarm is counted in.
    :param dag: whether the subject is a DAG, and the values are of its runs: a deliverable may have the name of one.
    """

    subject: str
    kind: str
    variant: str = ""
    owner: str = ""
    dag: bool = False

    @property
    def label(self) -> str:
        """As a person reads it."""
        return f"{self.kind} of {self.subject}" + (f" ({self.variant})" if self.variant else "")


@dataclass(frozen=True)
class Point:
    """One value.

    :param at: which time it belongs to, in seconds since 1970: its phase in the day and the week is that of this time.
    :param value: what was measured; of a ``failure`` series 1 for a failure and 0 for none.
    :param known: when it could be known; ``at`` where that is 0.
    :param version: of the code that ran; another one than before makes the series learn anew.
    :param run: which run, for the reader.
    """

    at: float
    value: float
    known: float = 0.0
    version: str = ""
    run: str = ""

    @property
    def seen(self) -> float:
        """When it could be known."""
        return self.known or self.at


def logarithm(kind: str, value: float) -> float:
    """Return the value on the scale on which values of its kind are compared: twice as much is as far as half as much."""
    return math.log(max(value, 0.0) + SHAPES[kind].least)


def original(kind: str, level: float) -> float:
    """Return the value that has this logarithm."""
    return max(math.exp(level) - SHAPES[kind].least, 0.0)
