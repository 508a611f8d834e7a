"""Challengers that score the same requests: in a real process beside the answers."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_pipeops.models import artifact, samples
from airflow_pipeops.serving.api import protocol, shadow
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Sampling, Served, Settings
from tests.models.conftest import Server
from tests.serving.api.estimators import FEATURES, MODULE, Dying, Gated, constant, figures, running, wait_for

BODY = protocol.write_request({"x": [1.0, 2.0]}, FEATURES, ["probability"])
INFER = "/v2/models/delay/infer"


def challenger(model: Any, version: str, root: Path, features: dict[str, str] = FEATURES) -> Served:
    stored = artifact.save(model, artifact.Manifest("delay", features), root, trusted=TRUSTED)
    return Served("delay", version, stored.uri, stored.sha256, "shadow")


TRUSTED = (f"{MODULE}.Dying", f"{MODULE}.Gated")


def service(root: Path, *shadows: Served, **sampling: Any) -> Service:
    loaded, default = constant(7, "delay", "7")
    kept = Sampling((root / "samples").as_uri(), file_rows=2, **sampling)
    return Service([loaded], Settings((default, *shadows), trusted=TRUSTED, sampling=kept))


def until(client: Any, version: str, figure: str, *labels: str) -> float:
    """Wait until a figure of a version is above zero, and return it."""
    while not (found := figures(client)[(figure, "delay", version, *labels)]):
        time.sleep(0.05)
    return found


def test_a_challengers_outputs_are_kept_beside_the_answers(tmp_path):
    """Under the same ids; nobody can ask it; one that cannot be loaded or takes other features does no harm."""
    good = challenger(constant(9, "delay", "9")[0].model, "9", tmp_path)
    other = challenger(constant(10, "delay", "10")[0].model, "10", tmp_path, {**FEATURES, "z": "FP64"})
    missing = Served("delay", "11", (tmp_path / "nowhere").as_uri(), "e" * 64, "shadow")
    with running(service(tmp_path, good, other, missing)) as client:
        answer = client.post(INFER, json={**BODY, "id": "a"})
        assert answer.json()["outputs"][0]["data"] == [7, 7]
        assert until(client, "9", "pipeops_sampled_rows_total") == 2
        assert client.get("/v2/models/delay").json()["versions"] == ["7"]
        assert client.post("/v2/models/delay/versions/9/infer", json=BODY).status_code == 404
        loaded = {key[2] for key in figures(client) if key[0] == "pipeops_model"}
        assert loaded == {"7", "9"}
    parts = list(samples.parts(str(tmp_path / "samples"), "delay"))
    found = {(part.version, part.role): samples.read(part) for part in parts}
    assert set(found) == {("7", "answer"), ("9", "shadow")}
    for (version, _), rows in found.items():
        assert rows["request_id"].to_pylist() == ["a", "a"]
        assert rows["x"].to_pylist() == [1.0, 2.0]
        assert rows["probability"].to_pylist() == [float(version)] * 2
        assert rows["sha256"].to_pylist()[0] != "0" * 64


def test_a_challenger_that_dies_fails_no_answer(tmp_path):
    with running(service(tmp_path, challenger(Dying(), "8", tmp_path))) as client:
        for _ in range(2):
            assert client.post(INFER, json=BODY).status_code == 200
        until(client, "8", "pipeops_lost_sample_rows_total", "shadow_failed")
        assert client.post(INFER, json=BODY).json()["outputs"][0]["data"] == [7, 7]
        until(client, "8", "pipeops_lost_sample_rows_total", "shadow_busy")  # it is started again later
        assert figures(client)["pipeops_sampled_rows_total", "delay", "8"] == 0


def test_few_requests_wait_for_a_challenger_that_is_stuck(tmp_path, monkeypatch):
    monkeypatch.setattr(shadow, "WAITING", 3)
    with running(service(tmp_path, challenger(Gated(str(tmp_path)), "8", tmp_path))) as client:
        for _ in range(5):
            assert client.post(INFER, json=BODY).status_code == 200
        wait_for(tmp_path / "began")
        assert figures(client)["pipeops_lost_sample_rows_total", "delay", "8", "shadow_busy"] == 4
        assert figures(client)["pipeops_sampled_rows_total", "delay", "8"] == 0
        (tmp_path / "go").touch()
        while figures(client)["pipeops_sampled_rows_total", "delay", "8"] < 6:
            time.sleep(0.05)


@pytest.mark.timeout(120)
def test_a_model_that_does_not_come_back_does_not_keep_the_process(tmp_path):
    """What had to be cut is said, and the status tells it."""
    stored = artifact.save(
        Gated(str(tmp_path)), artifact.Manifest("delay", FEATURES), tmp_path, trusted=TRUSTED
    )
    server = Server(stored, MODEL_NAME="delay", MODEL_TRUSTED=TRUSTED[1], MODEL_DRAIN_SECONDS="1")
    url = server.wait_ready()

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{url}{INFER}", json=BODY, timeout=90)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(tmp_path / "began")
    server.process.terminate()
    _, said = server.process.communicate(timeout=60)
    asking.join()
    assert server.process.returncode == 1
    assert "1 requests were cut after 1 s" in said
