"""Who tells the story waits for a server that is slow, and answers a question once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.demo import teller as module
from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.demo.claims import Claims
from airflow_pipeops.demo.teller import StoryBroken, Teller


class Airflow:
    """An Airflow with one question, which takes the answer and loses the reply."""

    def __init__(self) -> None:
        self.state, self.responses, self.moves = "awaiting_input", 0, 0
        self.dead, self.fails, self.beats = False, 0, 0
        airflow = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def _say(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                if airflow.dead:
                    return self.connection.close()
                if self.path.endswith("/monitor/health"):
                    airflow.beats += 1
                    return self._say(
                        200, {"scheduler": {"latest_scheduler_heartbeat": str(airflow.beats // 2)}}
                    )
                task = {"dag_id": "d", "task_id": "approve", "state": airflow.state, "try_number": 1}
                if self.path.endswith("/taskInstances?limit=100"):
                    return self._say(200, {"task_instances": [task]})
                return self._say(200, task if "taskInstances" in self.path else {"state": "running"})

            def do_PATCH(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                assert airflow.beats // 2 >= 3, "the scheduler has not noted the question"
                airflow.responses += 1
                if airflow.fails:
                    airflow.fails -= 1
                    return self._say(500, {"detail": "database is locked"})
                if airflow.responses == 1:  # taken, and the reply is lost
                    return self.connection.close()
                airflow.state = "success"
                return self._say(409, {"detail": "answered already"})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def progress(self) -> int:
        self.moves += 0 if self.dead else 1
        return self.moves


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    made = Airflow()
    yield made
    made.server.shutdown()
    made.server.server_close()


def teller(airflow: Airflow, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Teller:
    monkeypatch.setattr(module, "_THINKING", 0.0)
    api = AirflowApi(f"http://127.0.0.1:{airflow.server.server_port}", "admin", "secret")
    stack: Any = SimpleNamespace(api=api, progress=airflow.progress, check=lambda: None, home=Path())
    return Teller(stack, Claims(said.append), said.append)


def test_an_answer_whose_reply_was_lost_is_given_again_and_counts_once(airflow, monkeypatch) -> None:
    said: list[str] = []
    teller(airflow, monkeypatch, said).approve("d", "r", "service")
    assert (airflow.responses, airflow.beats >= 6) == (2, True)
    assert said == ["    service: … a person is asked: approve"]


def test_a_server_whose_database_is_locked_is_asked_again(airflow, monkeypatch) -> None:
    airflow.fails = 1
    airflow.responses = 1
    teller(airflow, monkeypatch, []).approve("d", "r", "service")
    assert (airflow.fails, airflow.state) == (0, "success")


def test_a_server_that_stays_silent_is_named_in_the_end(airflow, monkeypatch) -> None:
    airflow.dead = True
    telling = teller(airflow, monkeypatch, [])
    with pytest.raises(
        StoryBroken, match=r"without any progress: d r ends; at the end Airflow does not answer GET"
    ):
        telling.wait("d r ends", lambda: telling.api.run("d", "r")["state"], patience=0.1)
