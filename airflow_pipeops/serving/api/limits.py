"""How much the server takes on: bytes, requests at once, requests that wait, and seconds for each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")


class Refused(Exception):
    """An answer that is an error.

    :param status: of HTTP.
    :param error: what the body says.
    :param outcome: under which it is counted.
    """

    def __init__(self, status: int, error: str, outcome: str = "refused") -> None:
        self.status, self.error, self.outcome = status, error, outcome
        super().__init__(error)


class Limits:
    """Lets so many requests in. A request that is late frees its client, and its place when the model has ended.

    :param at_once: how many are scored at the same time.
    :param waiting: how many may wait for that.
    :param seconds: for each request.
    """

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        self.seconds, self._most = seconds, at_once + waiting
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="model")
        self._inside = 0

    @property
    def inside(self) -> int:
        """How many requests have a place now."""
        return self._inside

    async def run(self, read: Callable[[], Awaitable[bytes]], work: Callable[[bytes], Answer]) -> Answer:
        """Read a request and work on it.

        :param read: gives the body.
        :param work: makes the answer of it, in a thread.
        :return: the answer.
        :raises Refused: where there is no place, or it takes too long.
        """
        import anyio

        if self._inside >= self._most:
            raise Refused(503, f"{self._inside} requests are being answered: ask again", "busy")
        self._inside += 1
        running: Future[Answer] | None = None
        what, status = "the body was not here", 408
        try:
            with anyio.fail_after(self.seconds):
                body = await read()
                what, status = "there was no answer", 503
                running = self._pool.submit(work, body)
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            raise Refused(status, f"{what} after {self.seconds:g} s", "late") from error
        finally:
            if running is None or running.done():
                self._leave()
            else:
                loop = asyncio.get_running_loop()
                running.add_done_callback(lambda _: self._left(loop))

    def close(self) -> int:
        """Begin nothing more.

        :return: how many requests are still at work.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        return self._inside

    def _left(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._inside -= 1
