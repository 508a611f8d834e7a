"""Services: a TCP proxy from a nodePort on loopback to the ready pods."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

#: () -> [(pod uid, port)] of the pods that may be given a connection now.
Endpoints = Callable[[], "list[tuple[str, int]]"]


class Connections:
    """Counts the open connections by pod, so that a pod can be let go when nobody talks to it."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def add(self, uid: str, by: int) -> None:
        """Count ``by`` connections more."""
        self._open[uid] = self._open.get(uid, 0) + by
        if not self._open[uid]:
            del self._open[uid]

    async def drained(self, uid: str, timeout: float) -> None:
        """Wait until the pod has no open connection, at most ``timeout`` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self._open.get(uid) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)


class Proxy:
    """Listens on ``127.0.0.1:port`` and gives each connection to the next ready pod.

    With no ready pod the connection is closed at once.
    """

    def __init__(self, port: int, endpoints: Endpoints, connections: Connections) -> None:
        self.port = port
        self._endpoints = endpoints
        self._connections = connections
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. :raises OSError: the port is taken by another program."""
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        self._server = await asyncio.start_server(self._accept, sock=sock, backlog=256)

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports that were just closed go

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side went away, or we stop: both ends are closed below
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = self._endpoints()
        self._turn += 1
        for offset in range(len(found)):
            uid, port = found[(self._turn + offset) % len(found)]
            self._connections.add(uid, 1)
            try:
                with contextlib.suppress(ConnectionError):
                    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                    await _join((reader, writer), (far_reader, far_writer))
                    return
            finally:
                self._connections.add(uid, -1)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: _Stream, far: _Stream) -> None:
    """Copy both ways until the pod has said all it has to say."""
    up = asyncio.create_task(_copy(near[0], far[1]))
    try:
        await _copy(far[0], near[1])
    finally:
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)
        far[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
