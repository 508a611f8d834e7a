"""A bounded pool of connections to the delay store."""

import threading
import time

#: Seconds in which the store says whether a connection still works.
ROUND_TRIP = 0.15


class Pool:
    """Hands out at most ``size`` connections; take them back with :meth:`release`."""

    def __init__(self, size):
        self._free = list(range(size))
        self._lock = threading.Lock()

    def acquire(self):
        """Return a connection, or None while all are in use."""
        with self._lock:
            return self._free.pop() if self._free else None

    def release(self, connection):
        """Take a connection back, once the store has said that it still works."""
        time.sleep(ROUND_TRIP)
        with self._lock:
            self._free.append(connection)

    def free(self):
        """Return how many connections are free."""
        with self._lock:
            return len(self._free)
