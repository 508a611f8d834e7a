"""Several models and versions in one server, how much it takes on, and what it counts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from airflow_pipeops.exceptions import GateFailed
from airflow_pipeops.models.artifact import Loaded, Manifest
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Served, Settings
from tests.serving.api.estimators import FEATURES, Gated, constant, figures, running, wait_for

BODY = protocol.write_request({"x": [1.0, 2.0]}, FEATURES, ["probability"])


def gated(folder: Path) -> tuple[Loaded, Served]:
    return Loaded(Gated(str(folder)), Manifest("slow", FEATURES), "f" * 64), Served(
        "slow", "1", "none", "f" * 64
    )


def service(*models: tuple[Loaded, Served], **limits) -> Service:
    return Service([one for one, _ in models], Settings(tuple(served for _, served in models), **limits))


@pytest.fixture(scope="module")
def several() -> Iterator[httpx.Client]:
    models = constant(7, "delay", "7"), constant(8, "delay", "8", "beside"), constant(1, "fare", "1")
    with running(service(*models)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "version", "value"),
    [("delay", "7", 7), ("delay/versions/7", "7", 7), ("delay/versions/8", "8", 8), ("fare", "1", 1)],
)
def test_the_version_that_is_asked_answers(several, path, version, value):
    answer = several.post(f"/v2/models/{path}/infer", json={**BODY, "id": "a"}).json()
    assert (answer["model_version"], answer["id"]) == (version, "a")
    assert answer["outputs"][0]["data"] == [value, value]
    assert answer["parameters"]["sha256"] == f"{value:064x}"
    described = several.get(f"/v2/models/{path}").json()
    assert described["versions"][0] == version
    assert described["parameters"]["sha256"] == f"{value:064x}"


def test_the_versions_that_can_be_asked_are_told(several):
    assert several.get("/v2/models/delay").json()["versions"] == ["7", "8"]
    assert several.get("/v2/models/delay/versions/8").json()["versions"] == ["8", "7"]
    missing = several.get("/v2/models/delay/versions/9")
    assert missing.status_code == 404
    assert "there is '7', '8'" in missing.json()["error"]
    assert "'delay', 'fare'" in several.get("/v2/models/other").json()["error"]


def test_a_request_without_an_id_is_given_one(several):
    ids = {several.post("/v2/models/fare/infer", json=BODY).json()["id"] for _ in range(3)}
    assert len(ids) == 3


def test_each_version_is_proven_by_itself(several):
    url, frame = str(several.base_url), pd.DataFrame({"x": [1.0, 2.0]})
    beside, _ = constant(8, "delay", "8")
    with pytest.raises(GateFailed, match="serves version 7"):
        verifying.verify(url, None, beside, model="delay", version="8", frame=frame)
    found = verifying.verify(url, None, beside, model="delay", version="8", frame=frame, by_version=True)
    assert (found.rows, found.max_difference) == (2, 0)


def test_requests_are_counted_by_version_and_outcome(several):
    before = figures(several)
    several.post("/v2/models/delay/versions/8/infer", json=BODY)
    several.post("/v2/models/delay/versions/8/infer", content=b"{")
    several.post("/v2/models/unknown/infer", json=BODY)
    after = figures(several)
    changed = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    counted = {
        key: value
        for key, value in changed.items()
        if key[0] in ("pipeops_requests_total", "pipeops_rows_total")
    }
    assert counted == {
        ("pipeops_requests_total", "delay", "8", "ok"): 1,
        ("pipeops_requests_total", "delay", "8", "refused"): 1,
        ("pipeops_rows_total", "delay", "8"): 2,
    }
    assert changed["pipeops_request_seconds_count", "delay", "8"] == 2
    assert after["pipeops_model", "delay", "8", f"{8:064x}", "beside"] == 1


def test_what_is_too_much_is_refused_at_once_and_health_is_still_told(tmp_path):
    """A busy server is no dead one: probes that are refused would have it started again, and make it worse."""
    with running(service(gated(tmp_path), at_once=1, waiting=0)) as client:
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v2/models/slow/infer", json=BODY).status_code)
        )
        asking.start()
        wait_for(tmp_path / "began")
        busy = client.post("/v2/models/slow/infer", json=BODY)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        assert "ask again" in busy.json()["error"]
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert figures(client)["pipeops_requests_in_flight", "slow", "1"] == 1
        (tmp_path / "go").touch()
        asking.join()
        assert answers == [200]
        found = figures(client)
        assert found["pipeops_requests_total", "slow", "1", "busy"] == 1
        assert found["pipeops_requests_in_flight", "slow", "1"] == 0


def test_a_late_answer_frees_the_client_and_keeps_its_place_until_the_model_ends(tmp_path):
    slow = service(gated(tmp_path), at_once=1, waiting=0, seconds=3)
    with running(slow) as client:
        late = client.post("/v2/models/slow/infer", json=BODY)
        assert (late.status_code, late.json()["error"]) == (503, "there was no answer after 3 s")
        assert client.post("/v2/models/slow/infer", json=BODY).json()["error"].endswith("ask again")
        (tmp_path / "go").touch()
        while slow.busy:
            time.sleep(0.01)
        assert client.post("/v2/models/slow/infer", json=BODY).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for():
    with running(service(constant(7, "delay", "7"), seconds=1)) as client:
        url = client.base_url
        with socket.create_connection((url.host, url.port), timeout=60) as connection:
            connection.sendall(
                b"POST /v2/models/delay/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        assert figures(client)["pipeops_requests_total", "delay", "7", "late"] == 1


def test_a_client_that_leaves_is_no_failure_of_the_model():
    with running(service(constant(7, "delay", "7"))) as client:
        url = client.base_url
        with socket.create_connection((url.host, url.port), timeout=60) as connection:
            connection.sendall(
                b"POST /v2/models/delay/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            )
            while not figures(client)["pipeops_requests_in_flight", "delay", "7"]:
                time.sleep(0.01)
        while not figures(client)["pipeops_requests_total", "delay", "7", "gone"]:
            time.sleep(0.01)
        assert figures(client)["pipeops_requests_total", "delay", "7", "failed"] == 0
