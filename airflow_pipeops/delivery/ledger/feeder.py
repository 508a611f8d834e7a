"""Keep the ledger up to date while an API server runs: a thread that asks for the newest event every two seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from airflow_pipeops.delivery.ledger.ingest import Ingest

log = logging.getLogger(__name__)

_EVERY = 2.0
#: After a failure, so many seconds at most.
_LONGEST = 60.0
#: A look for late events, though there is no new one.
_LATE_EVERY = 30


class Feeder(threading.Thread):
    """The thread. Of several processes, one appends at a time; all keep their index.

    :param opened: opens what is filled, in the thread.
    :param lock: file that is locked while it is filled.
    """

    def __init__(self, opened: Callable[[], Ingest], lock: Path) -> None:
        super().__init__(name="pipeops-ledger", daemon=True)
        self._opened = opened
        self._lock = lock
        self._ended = threading.Event()

    def run(self) -> None:
        """Fill until :meth:`stop`; what fails is logged once, and tried again."""
        ingest: Ingest | None = None
        pause, said, rounds = _EVERY, "", 0
        while not self._ended.is_set():
            try:
                ingest = ingest or self._opened()
                if rounds % _LATE_EVERY == 0 or ingest.behind:
                    ingest.run(self._lock)
                pause, said, rounds = _EVERY, "", rounds + 1
            except Exception as error:
                if said != (said := f"{type(error).__name__}: {error}"):
                    log.exception("The ledger cannot be filled, and is tried again")
                pause = min(pause * 2, _LONGEST)
            self._ended.wait(pause)
        if ingest is not None:
            ingest.index.close()

    def stop(self) -> None:
        """End it, after what it is doing."""
        self._ended.set()
        self.join(30)


def lock_file(index: str) -> Path:
    """Name the file that is locked while the ledger is filled.

    :param index: the file of the index, which is on this machine.
    :return: its path.
    """
    return Path(index + ".lock")


@asynccontextmanager
async def feeding(app: Any) -> AsyncIterator[None]:
    """Fill the ledger while an application runs: its lifespan."""
    import asyncio

    from airflow_pipeops.base.configuration import index_path

    feeder = Feeder(Ingest.configured, lock_file(index_path()))
    feeder.start()
    try:
        yield
    finally:
        await asyncio.to_thread(feeder.stop)
