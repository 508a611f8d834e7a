"""Has the level of a series changed, or the share of its runs that fail? Pure.

Both are e-detectors: at each value a bet is placed whose fair price is 1 while nothing has changed, and the sum of the
products of all bets since any moment (Shiryaev-Roberts) is watched. While nothing changes, the time until it reaches A is at
least A values on the average, whatever else is looked at beside it; so an alarm at A = 1/alpha costs alpha a value.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

#: Bets, in standard deviations: a change by half of one, for good, is not worth an alarm.
_BETS = (1.0, 2.0)
#: Bets on failures: by how much the odds of one have grown.
_ODDS = (2.0, 5.0, 20.0)
#: Own deviations that a new one is ranked among; fewer rank too coarsely.
_RANKED, _LEAST = 200, 20
#: The score of a rank of 1 would be infinite.
_LAST = 1 - 1e-4
#: Values since the last alarm among which the onset is looked for.
_REMEMBERED = 200
#: A change of level has been there for so many values at least; one is an outlier.
_LASTING = 3
#: Share of the belief that the interval of the onset holds.
_BELIEF = 0.9
#: Runs of all series that what is believed of one's failures before it has failed is worth.
_WORTH = 20.0

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Onset:
    """When something changed.

    :param earliest: it changed no earlier, with nine parts in ten.
    :param likely: the time of the first value after it, most likely.
    :param latest: it changed no later.
    :param values: values since ``likely``.
    """

    earliest: float
    likely: float
    latest: float
    values: int


class _Bets:
    """The sums of the products of some bets, and what of the past is needed to say when it began."""

    def __init__(self, count: int) -> None:
        self._sums = [0.0] * count
        self._past: deque[tuple[float, tuple[float, ...]]] = deque(maxlen=_REMEMBERED)

    @property
    def evidence(self) -> float:
        """What is compared with A."""
        return sum(self._sums) / len(self._sums)

    def bet(self, at: float, logs: tuple[float, ...]) -> None:
        self._past.append((at, logs))
        self._sums = [(had + 1.0) * math.exp(log) for had, log in zip(self._sums, logs, strict=True)]

    def onset(self) -> Onset:
        """Say when it began, by how much the bets since each moment have won."""
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        won, since = 0.0, []
        for at, logs in reversed(self._past):
            won += logs[best]
            since.append((at, won))
        since.reverse()
        top = max(won for _, won in since)
        weights = [math.exp(won - top) for _, won in since]
        total, below, inside = sum(weights), 0.0, []
        for (at, _), weight in zip(since, weights, strict=True):
            middle = below + weight / 2
            if (1 - _BELIEF) / 2 <= middle / total <= 1 - (1 - _BELIEF) / 2 or weight == 1.0:
                inside.append(at)
            below += weight
        likely = weights.index(max(weights))
        return Onset(inside[0], since[likely][0], inside[-1], len(since) - likely)

    def reset(self) -> None:
        self._sums = [0.0] * len(self._sums)
        self._past.clear()


class LevelDetector:
    """Watches the deviations of one series for a change that stays, up or down.

    Each is ranked among the series' own, so that no shape of their distribution is assumed.
    """

    def __init__(self) -> None:
        self._bets = _Bets(2 * len(_BETS))
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def see(self, at: float, deviation: float, alpha: float) -> Onset | None:
        """Take up a deviation.

        :param at: its time.
        :param deviation: of any unit.
        :param alpha: chance of a false alarm that this value may cost.
        :return: when the level changed, if it has.
        """
        size = len(self._sorted)
        found = None
        if size >= _LEAST:
            above = (size - bisect_left(self._sorted, deviation) + 1) / (size + 1)
            below = (bisect_right(self._sorted, deviation) + 1) / (size + 1)
            up, down = (-_NORMAL.inv_cdf(min(rank, _LAST)) for rank in (above, below))
            logs = [bet * score - bet * bet / 2 for score in (up, down) for bet in _BETS]
            self._bets.bet(at, tuple(logs))
            if self._bets.evidence >= 1 / alpha and (onset := self._bets.onset()).values >= _LASTING:
                found = onset
                self._bets.reset()
        self._keep(deviation)
        return found

    def _keep(self, deviation: float) -> None:
        insort(self._sorted, deviation)
        self._order.append(deviation)
        if len(self._order) > _RANKED:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]


class FailureDetector:
    """Watches whether the runs of one series fail more often than they did.

    The series' own share of failures is believed with a beta distribution, which begins with that of all series; a bet is
    placed against the upper end of it, since too low a share would win by itself.
    """

    def __init__(self) -> None:
        self._bets = _Bets(len(_ODDS))
        self._runs = self._failures = 0.0
        self._before: float | None = None
        self._recent: deque[tuple[float, bool]] = deque(maxlen=_REMEMBERED)

    @property
    def runs(self) -> int:
        """Number of runs that its share of failures comes from."""
        return int(self._runs)

    def share(self, everywhere: float) -> float:
        """Return the share of failures that is expected at most."""
        before = everywhere if self._before is None else self._before
        mean = (self._failures + before * _WORTH) / (self._runs + _WORTH)
        return min(0.95, mean + math.sqrt(mean * (1 - mean) / (self._runs + _WORTH + 1)))

    def see(self, at: float, failed: bool, alpha: float, everywhere: float) -> Onset | None:
        """Take up a run.

        :param at: its time.
        :param failed: whether it failed.
        :param alpha: chance of a false alarm that it may cost.
        :param everywhere: share of failures among the runs of all series.
        :return: since when it fails more often, if it does.
        """
        share = self.share(everywhere)
        bets = [odds * share / (1 - share + odds * share) for odds in _ODDS]
        logs = [math.log(bet / share if failed else (1 - bet) / (1 - share)) for bet in bets]
        self._bets.bet(at, tuple(logs))
        self._recent.append((at, failed))
        self._runs, self._failures = self._runs + 1, self._failures + failed
        if self._bets.evidence < 1 / alpha:
            return None
        onset = self._bets.onset()
        # From here on, this is how it is: what the runs since then say takes the place of what those of others say.
        since = [failed for at, failed in self._recent if at >= onset.likely]
        self._before = sum(since) / len(since)
        self._runs = self._failures = 0.0
        self._bets.reset()
        return onset
