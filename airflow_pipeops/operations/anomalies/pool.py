"""How rare a deviation is among all that were seen of its kind, in all series. Pure.

A rank among n values is never rarer than 1/(n+1). One series never has enough of them for what hundreds of series a week
ask for; all series of a kind together do. Beyond the largest ones a tail is fitted, and heavier than it looks rather than
lighter, since it is a guess there.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque

#: At most so many deviations, the last ones.
_MOST = 20_000
#: So many of the largest, and this share of all, are what the tail is fitted to, and how much heavier it is taken.
_TAIL, _SHARE, _HEAVIER = 20, 0.005, 0.9
#: And so many where there are not six times as many as that in all.
_FEW = 8
#: A tail begins here at the nearest, in units of the scale.
_NEAREST = 0.5
#: The heaviest and the lightest tail: that of Student's t with 3 and with 8 degrees of freedom.
_HEAVY, _LIGHT = 3.0, 8.0
#: Fewer have no tail that could be fitted.
LEAST = 30


class Pool:
    """Deviations in units of their series' scale."""

    def __init__(self) -> None:
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, deviation: float) -> None:
        """Take up a deviation; the oldest makes room for it."""
        insort(self._sorted, deviation)
        self._order.append(deviation)
        if len(self._order) > _MOST:
            oldest = self._order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]

    def above(self, deviation: float) -> float:
        """Return the chance of one at least as high; a bound on it, rather."""
        size = len(self._sorted)
        reached = size - bisect_left(self._sorted, deviation)
        tail = self._tail()
        if reached >= tail:
            return (reached + 1) / (size + 1)
        return self._beyond(deviation, self._sorted[size - tail :][::-1], size)

    def below(self, deviation: float) -> float:
        """Return the chance of one at least as low."""
        size = len(self._sorted)
        reached = bisect_right(self._sorted, deviation)
        tail = self._tail()
        if reached >= tail:
            return (reached + 1) / (size + 1)
        return self._beyond(-deviation, [-value for value in self._sorted[:tail]], size)

    def _tail(self) -> int:
        size = len(self._sorted)
        return max(_FEW, min(_TAIL, size // 6), math.ceil(_SHARE * size))

    @staticmethod
    def _beyond(deviation: float, largest: list[float], size: int) -> float:
        """Return the chance beyond the smallest of the largest, by a power of the distance (Hill)."""
        start, index = max(largest[-1], _NEAREST), _HEAVY
        if start > _NEAREST:
            mean = sum(math.log(value / start) for value in largest) / len(largest)
            index = min(max(_HEAVIER / mean if mean > 0 else _LIGHT, _HEAVY), _LIGHT)
        further = (start / deviation) ** index if deviation > start else 1.0
        return (len(largest) + 1) / (size + 1) * further
