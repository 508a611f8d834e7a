"""What the next value of a series should be, and how far off such expectations have been. Pure.

Eight ways of expecting are kept beside each other: the median of the last values, of all or of the same phase (hour of the
day, day of the week, hour of the week), as it is or moved by how the last values lay. The one whose errors were smallest
counts: a series without a season is not cut into pieces, and one with a trend is followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

_HOUR, _DAY = 3600, 86400
#: Values of one phase that count, and how many are needed for a median of them.
_WINDOW, _LEAST = 12, 4
#: Last errors that the scale and the choice come from, and values that say how the level lies now. Were the latter fewer,
#: a new level would be expected before it is known for one.
_ERRORS, _RECENT = 60, 9
#: A spread below five per cent is the noise of clocks and schedulers.
_FLOOR = 0.05
#: From a median absolute error, and from the 95th percentile, to a standard deviation, for a normal distribution.
_OF_MEDIAN, _OF_P95 = 1.4826, 1 / 1.96

PHASES = ("", "hour of the day", "day of the week", "hour of the week")
_WAYS = tuple(product(PHASES, (False, True)))


@dataclass(frozen=True)
class Expected:
    """What a value should be.

    :param level: its logarithm.
    :param base: the same without the last values' lying.
    :param scale: how far off such expectations have been.
    :param phase: which values it comes from; empty for the last ones of any phase.
    :param history: number of errors that the scale comes from.
    """

    level: float
    base: float
    scale: float
    phase: str
    history: int


def phase_of(phase: str, at: float) -> int:
    """Return which hour, day or hour of the week a time is in, in UTC."""
    hour, day = int(at // _HOUR) % 24, int(at // _DAY + 3) % 7
    return {"": 0, PHASES[1]: hour, PHASES[2]: day}.get(phase, day * 24 + hour)


class Expectation:
    """Expects the values of one series.

    :param least: number of errors without which nothing is expected.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._values: dict[tuple[str, int], deque[tuple[float, float]]] = {}
        self._lying: dict[str, deque[float]] = {phase: deque(maxlen=_RECENT) for phase in PHASES}
        self._errors: dict[tuple[str, bool], deque[float]] = {way: deque() for way in _WAYS}
        self._sums = dict.fromkeys(_WAYS, 0.0)
        self._asked: tuple[float, list[tuple[tuple[str, bool], float, float]]] | None = None

    @property
    def lacking(self) -> int:
        """How many more values are needed before anything is expected."""
        seen = len(self._values.get(("", 0), ()))
        return max(0, self._least - len(self._errors["", False])) + max(0, _LEAST - seen)

    def expect(self, at: float) -> Expected | None:
        """Return what a value of this time should be; none where there are too few.

        :param at: the time.
        :return: the expectation of the way that was least wrong.
        """
        best: tuple[float, Expected] | None = None
        for (phase, moved), level, base in self._once(at):
            errors = self._errors[phase, moved]
            if len(errors) < self._least:
                continue
            mean = self._sums[phase, moved] / len(errors)
            # A way with more in it must be better by a tenth: else it only fits the noise of what was.
            if best is None or mean < 0.9 * best[0]:
                best = (mean, Expected(level, base, _scale(errors), phase, len(errors)))
        return best[1] if best else None

    def learn(self, at: float, level: float) -> None:
        """Take up a value.

        :param at: its time.
        :param level: its logarithm.
        """
        for (phase, moved), expected, _ in self._once(at):
            self._err((phase, moved), abs(level - expected))
            if not moved:
                self._lying[phase].append(level - expected)
        self._asked = None
        for phase in PHASES:
            place = (phase, phase_of(phase, at))
            self._values.setdefault(place, deque(maxlen=_WINDOW)).append((at, level))

    def move(self, before: float, by: float) -> None:
        """Take a change of level over: what was before it counts as if it had been at the new one.

        :param before: values from before this time are moved.
        :param by: so far.
        """
        for place, values in self._values.items():
            moved = ((at, level + by if at < before else level) for at, level in values)
            self._values[place] = deque(moved, maxlen=_WINDOW)
        for lying in self._lying.values():
            lying.clear()
        self._asked = None

    def _err(self, way: tuple[str, bool], error: float) -> None:
        errors = self._errors[way]
        if len(errors) == _ERRORS:
            self._sums[way] -= errors.popleft()
        errors.append(error)
        self._sums[way] += error

    def _once(self, at: float) -> list[tuple[tuple[str, bool], float, float]]:
        """Return the ways and what they expect, worked out once for a value that is judged and then learned."""
        if self._asked is None or self._asked[0] != at:
            self._asked = (at, list(self._ways(at)))
        return self._asked[1]

    def _ways(self, at: float) -> Iterator[tuple[tuple[str, bool], float, float]]:
        for phase in PHASES:
            values = self._values.get((phase, phase_of(phase, at)), ())
            if len(values) < _LEAST:
                continue
            base = median([level for _, level in values])
            yield (phase, False), base, base
            lying = self._lying[phase]
            yield (phase, True), base + (median(list(lying)) if len(lying) == _RECENT else 0.0), base


def median(values: list[float]) -> float:
    """Return the middle of some values."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _scale(errors: deque[float]) -> float:
    ordered = sorted(errors)
    middle, high = ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))]
    # Few errors say little of how large the next may be.
    return max(_FLOOR, middle * _OF_MEDIAN, high * _OF_P95) * (1 + 2 / len(ordered))
