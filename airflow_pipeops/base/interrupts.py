"""What the handler of a signal may do: Airflow ends a task by one, in the midst of whatever the task waits for."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable


def beside(work: Callable[[], None]) -> None:
    """Do something beside what a signal has interrupted.

    Where that is a loop, no other can run in its thread; and it may hold a lock that the work needs, until it goes on. So
    the work is begun in a thread of its own, and nobody waits: what was interrupted goes on, and sees what came of it.

    :param work: raises nothing.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
    else:
        # Not by threading, whose own lock may be held as well.
        _thread.start_new_thread(work, ())
