"""A proxy that misbehaves, between a client and any server: it delays, cuts, swallows, repeats, and answers by itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

REASONS = {401: "Unauthorized", 429: "Too Many Requests", 503: "Service Unavailable"}


class Chaos:
    """Forwards bytes to a server, and misbehaves as it is told; from any thread.

    :param upstream: URL of the server.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0
        #: Seconds before each chunk of an answer is passed on.
        self.latency = 0.0
        #: Answers to the next connections, instead of the server's; the first one for ever if ``endless``.
        self.canned: list[bytes] = []
        self.endless = False
        #: So many bytes of an answer pass, and then the connection is cut; for so many connections.
        self.truncate, self.truncated = 0, 0
        #: So many answers are swallowed: the server acted, and nobody hears of it.
        self.swallow = 0
        #: Each answer is sent twice.
        self.twice = False
        self.connections = 0
        self.canned_served = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen, on the same port as before."""
        self._call(self._listen())

    def down(self) -> None:
        """Refuse connections, and cut those that are open: as a server that restarts."""
        self._call(self._refuse())

    def cut(self) -> None:
        """Cut all connections that are open."""
        self._call(self._cut())

    def answer(self, status: int, times: int = 1, *, body: str = "{}", headers: str = "") -> None:
        """Answer the next requests here."""
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'OK')}\r\nContent-Type: application/json\r\n{headers}"
        raw = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        self.canned = [raw] * times
        self.cut()

    def close(self) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.canned:
                await self._answer(reader, writer)
            else:
                await self._forward(reader, writer)
        self._open.discard(writer)
        writer.transport.abort() if self.truncate else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.canned_served += 1
        writer.write(self.canned[0] if self.endless else self.canned.pop(0))
        await writer.drain()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        self._open.add(back)
        up = asyncio.ensure_future(self._pass(reader, back, answers=False))
        try:
            await self._pass(there, writer, answers=True)
        finally:
            up.cancel()
            self._open.discard(back)
            back.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while chunk := await reader.read(65536):
            if answers:
                await asyncio.sleep(self.latency)
                if self.swallow > 0:
                    self.swallow -= 1
                    return
                if self.truncated > 0:
                    self.truncated -= 1
                    writer.write(chunk[: self.truncate])
                    await writer.drain()
                    return
                if self.twice:
                    whole = chunk + await self._rest(reader)
                    chunk = whole + whole
            writer.write(chunk)
            await writer.drain()

    async def _rest(self, reader: asyncio.StreamReader) -> bytes:
        """Return what more of an answer comes before it pauses."""
        rest = b""
        with contextlib.suppress(asyncio.TimeoutError):
            while chunk := await asyncio.wait_for(reader.read(65536), 0.1):
                rest += chunk
        return rest


@contextlib.contextmanager
def between(upstream: str) -> Iterator[Chaos]:
    """Put a proxy before a server for the length of a ``with``."""
    chaos = Chaos(upstream)
    try:
        yield chaos
    finally:
        chaos.close()
