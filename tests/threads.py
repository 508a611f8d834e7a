"""What goes on beside a test, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(pause: float, work: Callable[[], object]) -> Iterator[None]:
    """Do something again and again, as a controller does, until the block ends.

    :param pause: seconds before each time.
    :param work: what is done.
    """
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(pause):
            work()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
