"""Patience that follows progress: a slow machine is waited for, a story that stands still is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from pathlib import Path


class Patience:
    """Ends when nothing has moved for a while.

    :param seconds: how long nothing may move.
    :param progress: returns something that differs when anything has moved.
    :param longest: seconds after which it ends in any case.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        progress: Callable[[], Hashable],
        *,
        longest: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._progress = progress
        self._clock = clock
        self._began = self._moved = clock()
        self._end = self._began + longest
        self._seen = progress()

    @property
    def ended(self) -> bool:
        """Whether nothing has moved for too long."""
        now, seen = self._clock(), self._progress()
        if seen != self._seen:
            self._seen, self._moved = seen, now
        return now - self._moved >= self._seconds or now >= self._end

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began


def files(*folders: Path) -> Hashable:
    """Return how many files are in folders, and how large all of them are: logs that are written to."""
    count, size = 0, 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                status = path.stat()
            except OSError:  # removed meanwhile
                continue
            if path.is_file():
                count, size = count + 1, size + status.st_size
    return count, size
