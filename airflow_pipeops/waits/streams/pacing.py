"""How often a server is asked: pauses, limits, and the moments at which a wait must be judged again. Pure."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, fields

from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.situation import NEXT_SECOND, VISIBLE_WITHIN
from airflow_pipeops.waits.verdict import CONFIRM_WITHIN

#: A wait is judged at least so often, seconds, also where nothing happens.
LONGEST_PAUSE = 15.0
#: A controller compares by itself within so many seconds; Argo CD every two to three minutes.
OWN_COMPARISON = 240.0
#: Rules of waits for what the controller's next comparison of its own finds as well.
_BY_ITSELF = frozenset({"not_compared", "older_operation_failed", "out_of_sync", "sync_unknown"})
#: Soonest after a refresh, seconds, another one is asked for.
_ASK_AGAIN = 2.0
#: So many refreshes are allowed after each operation before the pauses begin.
_AFTER_EACH = 2
_SPANS = ("settle", *(item.name for item in fields(Expectation) if item.name.endswith("_grace")))


@dataclass(frozen=True)
class Pace:
    """The limits of one shared stream; seconds, and requests.

    :param tick: waits are woken at most this often.
    :param linger: a stream that nobody uses is kept for so long: waits end one after another.
    :param arrival: a new connection has so long to tell of an application before that is asked for by name.
    :param resync: an application of which nothing was heard for so long is read by name: servers drop events silently.
    :param resyncs: such reads per second at most.
    :param polls: all other reads per second at most.
    :param renewal: if more applications than this are due at once, the stream itself is suspect and opened anew.
    :param reads: reads at the same time.
    :param refreshes: refreshes at the same time, for which Argo CD has twenty processors unless it is set up otherwise.
    :param refresh_pause: between two refreshes of one application, doubling each time.
    :param refresh_most: the longest such pause.
    :param pause: before the first reconnection, doubling each time.
    :param pause_most: the longest such pause.
    :param blind: nothing can be seen for so long before the waits are told.
    """

    tick: float = 0.25
    linger: float = 60.0
    arrival: float = 3.0
    resync: float = 300.0
    resyncs: float = 2.0
    polls: float = 20.0
    renewal: int = 100
    reads: int = 4
    refreshes: int = 8
    refresh_pause: float = 60.0
    refresh_most: float = 600.0
    pause: float = 0.5
    pause_most: float = 30.0
    blind: float = 10.0


class Backoff:
    """Growing pauses with jitter, so that many clients do not come back at the same moment."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most, self._times = first, most, 0

    def next(self) -> float:
        """Return the next pause."""
        longest = min(self._most, self._first * 2.0 ** min(self._times, 16))
        self._times += 1
        return longest * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin with short pauses again."""
        self._times = 0


class Budget:
    """So many things per second, with a reserve of one second's worth.

    :param rate: per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._left, self._at = self._most, 0.0

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class RefreshGate:
    """When an application may be refreshed again, whoever asks: each refresh costs the controller a comparison.

    At most one per pause, which doubles while nothing comes of it; and two more after each operation that has ended, since
    only later comparisons say what came of that: one at once, and one when health has settled.
    """

    def __init__(self, pause: float, most: float) -> None:
        self._pause, self._most = pause, most
        #: When it was asked last, the pause after that, when the last operation had ended, and how often since.
        self._asked: dict[Hashable, tuple[float, float, float | None, int]] = {}

    def opens(self, which: Hashable, ended_at: float | None) -> float:
        """Return when the next refresh may be asked for.

        :param ended_at: when the application's last operation ended, by the server's clock.
        :return: a moment; 0 for now.
        """
        if which not in self._asked:
            return 0.0
        at, pause, ended, times = self._asked[which]
        if ended_at is not None and ended_at != ended:
            return 0.0
        return at + (_ASK_AGAIN if ended_at is not None and times < _AFTER_EACH else pause)

    def ask(self, which: Hashable, ended_at: float | None, now: float) -> None:
        """Note that a refresh is asked for now."""
        before = self._asked.get(which)
        if before is None or before[2] != ended_at:
            self._asked[which] = (now, self._pause, ended_at, 1)
            return
        _, pause, _, times = before
        soon = ended_at is not None and times < _AFTER_EACH
        self._asked[which] = (now, pause if soon else min(self._most, pause * 2), ended_at, times + 1)

    def forget(self, which: Hashable) -> None:
        """Nobody waits for this application any more."""
        self._asked.pop(which, None)


def judge_again_in(expectation: Expectation, memory: Memory, now: float) -> float:
    """Return the seconds after which a wait may end, or say something else, though nothing new is seen.

    :param now: on the clock of the memory.
    :return: seconds, at most :data:`LONGEST_PAUSE`.
    """
    spans = {
        *(getattr(expectation, name) for name in _SPANS),
        VISIBLE_WITHIN,
        CONFIRM_WITHIN,
        max(NEXT_SECOND, expectation.settle),
    }
    # Subtracted as the rules do: what they find a hair too short is never taken here for over.
    left: list[float] = [span - (now - since) for since in memory.since.values() for span in spans]
    if expectation.timeout is not None and memory.started_at is not None:
        left.append(expectation.timeout - (now - memory.started_at))
    if memory.asked_at is not None:
        left.append(_ASK_AGAIN - (now - memory.asked_at))
    return min([LONGEST_PAUSE, *(span for span in left if span > 0)])


def refresh_in(verdict: Verdict, memory: Memory) -> float:
    """Return the seconds after which the refresh that a verdict asks for should be asked for.

    Where the controller was made to compare once in this wait, and the wait is for what it will find by itself (a commit
    that is not there yet), it is left alone for as long as it does compare: a thousand waits would ask it all day.

    :return: seconds; 0 for now.
    """
    alone = verdict.rule in _BY_ITSELF and memory.acknowledged and memory.lost_after is None
    return OWN_COMPARISON if alone else 0.0
