"""Patience that follows progress: a slow machine is waited for, a story that stands still is not."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Hashable
from contextlib import closing
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
        # Unlike a glob, a walk goes on where a folder is removed meanwhile, as Git does with those that it pushes into.
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    size += (Path(place) / name).stat().st_size
                except OSError:  # removed meanwhile
                    continue
                count += 1
    return count, size


#: What moves of an application. That it was looked at, which happens every few seconds and is written each time, does not.
_STATES = """
SELECT name, json_extract(document, '$.status.sync'), json_extract(document, '$.status.health'),
       json_extract(document, '$.status.operationState')
FROM application ORDER BY name
"""


def states(applications: Path) -> Hashable:
    """Say in what state the sandbox's applications are.

    :param applications: the file that the sandbox keeps them in.
    :return: of each its name, what it is synced to, its health and its operation.
    """
    with closing(sqlite3.connect(f"{applications.as_uri()}?mode=ro", uri=True)) as database:
        return tuple(database.execute(_STATES))
