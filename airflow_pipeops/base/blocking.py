"""A blocking HTTP client whose answers have an end: its own timeouts are for each read alone, so that a trickle has none."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class _Stream:
    """A connection on which an answer has a time of its own, from the last byte that was sent.

    :param stream: the connection.
    :param seconds: that an answer has.
    """

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream, self._seconds, self._sent = stream, seconds, monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)
        self._sent = monotonic()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        import httpcore

        left = self._sent + self._seconds - monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout(f"no whole answer within {self._seconds:g} s")
        content: bytes = self._stream.read(max_bytes, left if timeout is None else min(left, timeout))
        return content

    def start_tls(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._stream.start_tls(*given, **named), self._seconds)


class _Backend:
    """Opens such connections.

    :param backend: opens them otherwise.
    :param seconds: that an answer has.
    """

    def __init__(self, backend: Any, seconds: float) -> None:
        self._backend, self._seconds = backend, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def connect_tcp(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._backend.connect_tcp(*given, **named), self._seconds)

    def connect_unix_socket(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._backend.connect_unix_socket(*given, **named), self._seconds)


def bounded(client: httpx.Client, seconds: float) -> httpx.Client:
    """Let each answer that a blocking client reads, headers included, have its time, however often a byte of it comes.

    :param client: whose own timeouts are for each read alone.
    :param seconds: for a whole answer, once the request was sent.
    :return: the client.
    """
    for transport in (client._transport, *client._mounts.values()):
        if (pool := getattr(transport, "_pool", None)) is not None:
            pool._network_backend = _Backend(pool._network_backend, seconds)
    return client
