"""A lean stand-in for an Argo CD server with many applications, in the wire format of the real one, that counts.

The sandbox reconciles for real, which costs a server of one process seconds for a thousand applications; this one only
acts it out: every application is compared every two to three minutes, a refresh compares it at once, and on ``POST /go``
each is synchronised to the new commit, becomes Progressing, and then Healthy. Times on the wire are whole seconds.

Run: python argocd_server.py PORT APPS RESOURCES
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

NEW, OLD = "a" * 40, "b" * 40
#: Seconds between two comparisons of one application.
RESYNC = (120.0, 180.0)
KEEP_ALIVE = 15.0


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class App:
    """One application, and its JSON, made when it is asked for."""

    def __init__(self, server: Server, number: int, resources: int) -> None:
        self.server, self.name = server, f"app-{number:04d}"
        self.green_at: float | None = None
        self.operation: dict[str, Any] | None = None
        moment = now()
        self.status: dict[str, Any] = {
            "sync": {"status": "Synced", "revision": OLD},
            "health": {"status": "Healthy", "lastTransitionTime": moment},
            "reconciledAt": moment,
            "operationState": self._operation("Succeeded", OLD, moment, moment),
            "resources": [
                {
                    "group": "apps",
                    "version": "v1",
                    "kind": "Deployment",
                    "namespace": self.name,
                    "name": f"component-{index}",
                    "status": "Synced",
                    "health": {"status": "Healthy"},
                }
                for index in range(resources)
            ],
            "summary": {"images": [f"registry.example.com/{self.name}:1"]},
            "history": [{"id": 1, "revision": OLD, "deployedAt": moment}],
        }
        self.change({})

    def _operation(self, phase: str, revision: str, started: str, finished: str | None) -> dict[str, Any]:
        state = {
            "phase": phase,
            "message": "successfully synced (all tasks run)",
            "startedAt": started,
            "operation": {"initiatedBy": {"automated": True}, "sync": {"revision": revision}},
            "syncResult": {"revision": revision, "resources": []},
        }
        return {**state, "finishedAt": finished} if finished else state

    def change(self, status: dict[str, Any], kind: str = "MODIFIED") -> None:
        self.status.update(status)
        self.server.version += 1
        document = {
            "metadata": {
                "name": self.name,
                "namespace": "argocd",
                "uid": f"uid-{self.name}",
                "resourceVersion": str(self.server.version),
            },
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": "https://git.example.com/desired.git",
                    "targetRevision": "main",
                    "path": "x",
                },
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.name},
                "syncPolicy": {"automated": {"selfHeal": True}},
            },
            "status": self.status,
        }
        if self.operation:  # there for as long as it runs
            document["operation"] = self.operation
        self.body = json.dumps(document, separators=(",", ":")).encode()
        self.server.tell(self, kind)

    def compare(self) -> None:
        self.change({"reconciledAt": now()})

    async def live(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*RESYNC))
            self.compare()

    async def release(self, after: float) -> None:
        await asyncio.sleep(after)
        started = now()
        running = self._operation("Running", NEW, started, None)
        self.operation = running["operation"]
        self.change(
            {
                "sync": {"status": "OutOfSync", "revision": NEW},
                "reconciledAt": started,
                "operationState": running,
            }
        )
        await asyncio.sleep(random.uniform(0.5, 1.5))
        self.operation = None
        finished = now()
        self.change({"operationState": self._operation("Succeeded", NEW, started, finished)})
        progressing = {"status": "Progressing", "lastTransitionTime": finished}
        self.change(
            {"sync": {"status": "Synced", "revision": NEW}, "reconciledAt": finished, "health": progressing}
        )
        await asyncio.sleep(random.uniform(2.0, 4.0))
        self.change({"health": {"status": "Healthy", "lastTransitionTime": now()}})
        self.green_at = time.monotonic()


class Server:
    """All applications, who listens, and what was asked."""

    def __init__(self, apps: int, resources: int) -> None:
        self.version = 1000
        self.listeners: dict[asyncio.Queue[bytes], str] = {}
        self.requests: Counter[str] = Counter()
        self.open = self.streams = self.most_open = self.most_streams = 0
        self.apps: dict[str, App] = {}
        for number in range(apps):
            app = App(self, number, resources)
            self.apps[app.name] = app
        self.tasks = [asyncio.ensure_future(app.live()) for app in self.apps.values()]

    def tell(self, app: App, kind: str) -> None:
        if self.listeners:
            line = _event(kind, app.body)
            for queue, name in self.listeners.items():
                if name in ("", app.name):
                    queue.put_nowait(line)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        method, target, _ = head.split(b" ", 2)
        parts = urlsplit(target.decode())
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/api/v1/stream/applications":
            self.requests["stream"] += 1
            await self._stream(reader, writer, query.get("name", ""))
            return False
        if parts.path.startswith("/api/v1/applications/"):
            app = self.apps[parts.path.rsplit("/", 1)[1]]
            self.requests["refresh" if "refresh" in query else "get"] += 1
            if "refresh" in query:
                await asyncio.sleep(random.uniform(0.05, 0.2))
                app.compare()
            await _answer(writer, app.body)
        elif method == b"POST" and parts.path == "/go":
            spread = float(query["spread"])
            names = list(self.apps)
            self.tasks += [
                asyncio.ensure_future(self.apps[name].release(random.uniform(0.0, spread))) for name in names
            ]
            await _answer(writer, b"{}")
        elif method == b"POST":
            self.most_open, self.most_streams = self.open - 1, self.streams
            await _answer(writer, b"{}")
        else:
            await _answer(writer, json.dumps(self._figures()).encode())
        return True

    def _figures(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "open": self.open,
            "most_open": self.most_open,
            "streams": self.streams,
            "most_streams": self.most_streams,
            "green": {app.name: app.green_at for app in self.apps.values()},
        }

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.listeners[queue] = name
        self.streams += 1
        self.most_streams = max(self.most_streams, self.streams)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        closed = asyncio.ensure_future(reader.read())
        try:
            for app in list(self.apps.values()):
                if name in ("", app.name):
                    writer.write(_event("ADDED", app.body))
                    await writer.drain()
            while not closed.done():
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, closed}, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
                writer.write(getting.result() if getting.done() else b":\n")
                getting.cancel()
                await writer.drain()
        finally:
            closed.cancel()
            del self.listeners[queue]
            self.streams -= 1


def _event(kind: str, body: bytes) -> bytes:
    return b'data: {"result":{"type":"' + kind.encode() + b'","application":' + body + b"}}\n\n"


async def _answer(writer: asyncio.StreamWriter, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    await writer.drain()


async def main() -> None:
    port, apps, resources = map(int, sys.argv[1:4])
    server = Server(apps, resources)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port, limit=2**20, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
