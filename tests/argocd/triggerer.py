"""Airflow's own TriggerRunner in a process of its own, with the test as its supervisor: rows in, events out.

The supervisor's side is played as Airflow plays it: frames over a socket that is the runner's stdin, at most so many new
triggers per sync, connections answered from a table that a test may change. A row stays until its event has arrived, so
a runner that is killed and started again gets the rows that are left, as from the database.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
#: Run with the limits of a shared stream replaced by those of the environment.
_PROGRAM = """
import json, os
from dataclasses import replace
from airflow_pipeops.waits.streams import stream
stream.PACE = replace(stream.PACE, **json.loads(os.environ["PIPEOPS_TEST_PACE"]))
for name, value in json.loads(os.environ["PIPEOPS_TEST_SET"]).items():
    module, _, attribute = name.rpartition(".")
    setattr(__import__(module, fromlist=["x"]), attribute, value)
from airflow.jobs.triggerer_job_runner import TriggerRunner
TriggerRunner().run()
"""


class Triggerer:
    """One triggerer and its rows.

    :param folder: for its log and Airflow's home.
    :param connections: what it is answered when it asks for a connection, by id.
    :param pace: limits of its shared streams that differ from the default.
    :param settings: module attributes to set in its process, by dotted name.
    :param per_sync: new triggers handed over in one sync; Airflow's default is 50 per second.
    """

    def __init__(
        self,
        folder: Path,
        connections: dict[str, dict[str, Any]],
        *,
        pace: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        per_sync: int = 50,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.connections, self.per_sync = folder, connections, per_sync
        self.pace, self.settings, self.environment = pace or {}, settings or {}, environment or {}
        self.rows: dict[int, tuple[str, dict[str, Any]]] = {}
        #: Every event as it came: the row's number, its payload, and when (monotonic seconds).
        self.events: list[tuple[int, Any, float]] = []
        self.failures: list[tuple[int, Any]] = []
        self.asked: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._given: set[int] = set()
        self._cancel: set[int] = set()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "triggerer.log"

    # ---- rows --------------------------------------------------------------------------------------------------------

    def add(self, trigger: Any) -> int:
        """Store a trigger as a deferral does, and return the number of its row."""
        path, arguments = trigger.serialize()
        with self._lock:
            number = next(self._numbers)
            self.rows[number] = (path, json.loads(json.dumps(arguments)))
        return number

    def cancel(self, number: int) -> None:
        """Have a trigger cancelled, as when somebody marks its task failed."""
        with self._lock:
            self.rows.pop(number, None)
            self._cancel.add(number)

    def until(self, fact: Callable[[], Any], seconds: float = 240.0) -> Any:
        """Wait until a fact holds."""
        end = time.monotonic() + seconds
        while True:
            found = fact()
            if found:
                return found
            assert time.monotonic() < end, self.tail()
            assert self._process is None or self._process.poll() is None, self.tail()
            time.sleep(0.05)

    def decided(self) -> dict[str, Any]:
        """Return where each wait stood when its event came, by application."""
        found: dict[str, Any] = {}
        for _, payload, _ in self.events:
            for app, one in (payload.get("decided") or {}).items():
                assert app not in found, f"{app} was reported twice"
                found[app] = one
        return found

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text()[-6000:] if self.log.exists() else ""

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; rows that are left are given to it again."""
        ours, theirs = socket.socketpair()
        self._given.clear()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")},
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
            "PIPEOPS_TEST_PACE": json.dumps(self.pace),
            "PIPEOPS_TEST_SET": json.dumps(self.settings),
            **self.environment,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
            )
        theirs.close()
        thread = threading.Thread(target=self._serve, args=(ours,), daemon=True)
        thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it without a word, as when the machine dies."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        """End it as Airflow does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    # ---- the supervisor's side ---------------------------------------------------------------------------------------

    def _serve(self, sock: socket.socket) -> None:
        try:
            _send(sock, 0, {"type": "StartTriggerer"})
            while True:
                number, body = _receive(sock)
                with self._lock:
                    answer = self._answer(body)
                _send(sock, number, answer)
        except (OSError, EOFError):
            return
        finally:
            sock.close()

    def _answer(self, body: dict[str, Any]) -> dict[str, Any] | None:
        kind = body["type"]
        self.asked[kind] += 1
        if kind == "TriggerStateChanges":
            return self._sync(body)
        if kind == "GetConnection":
            found = self.connections.get(body["conn_id"])
            if found is None:
                return {"type": "ErrorResponse", "error": "CONNECTION_NOT_FOUND", "detail": {}}
            fields = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))
            return {"type": "ConnectionResult", "conn_id": body["conn_id"], **fields, **found}
        return None

    def _sync(self, body: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        for number, event, _ in body.get("events") or ():
            self.events.append((number, event["payload"], now))
            self.rows.pop(number, None)
        for number, trace in body.get("failures") or ():
            self.failures.append((number, trace))
            self.rows.pop(number, None)
        fresh = [number for number in self.rows if number not in self._given][: self.per_sync]
        self._given.update(fresh)
        cancel, self._cancel = sorted(self._cancel), set()
        return {
            "type": "TriggerStateSync",
            "to_create": [self._workload(number) for number in fresh],
            "to_cancel": cancel,
        }

    def _workload(self, number: int) -> dict[str, Any]:
        path, arguments = self.rows[number]
        instance = {
            "id": str(uuid.uuid4()),
            "dag_version_id": str(uuid.uuid4()),
            "task_id": f"wait-{number}",
            "dag_id": "release",
            "run_id": "manual",
            "try_number": 1,
            "map_index": -1,
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
        }
        return {
            "id": number,
            "classpath": path,
            "encrypted_kwargs": json.dumps(arguments),
            "ti": instance,
            "type": "RunTrigger",
        }


def _send(sock: socket.socket, number: int, body: dict[str, Any] | None) -> None:
    frame = msgspec.msgpack.encode([number, body, None])
    sock.sendall(len(frame).to_bytes(4, "big") + frame)


def _receive(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    frame = msgspec.msgpack.decode(_exactly(sock, int.from_bytes(_exactly(sock, 4), "big")))
    return frame[0], frame[1]


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = sock.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)
