"""The model server as a real process, asked over real HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_pipeops.exceptions import AccessDenied, GateFailed, InvalidInput, NotFound, Unreachable
from airflow_pipeops.models import artifact
from airflow_pipeops.models.outputs import predicted
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from tests.models.conftest import Server

MODEL = "/v2/models/flight-delay"


@pytest.fixture(scope="session")
def loaded(stored) -> artifact.Loaded:
    return artifact.load(stored.uri, stored.sha256)


def body(loaded, table, rows: int = 5) -> dict:
    features = loaded.manifest.features
    return protocol.write_request(verifying.plain_columns(table.head(rows), features), features)


def test_health_and_metadata_say_which_model_it_is(served, stored):
    assert served.get("/v2").json()["name"] == "airflow-pipeops"
    for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/3/ready"):
        assert served.get(path).status_code == 200
    found = served.get(MODEL).json()
    assert found["versions"] == ["3"]
    assert found["parameters"]["sha256"] == stored.sha256
    assert {item["datatype"] for item in found["inputs"]} == {"INT64", "FP64", "BYTES"}


def test_predictions_are_those_of_the_model_itself(served, loaded, table):
    answer = served.post(f"{MODEL}/infer", json={**body(loaded, table), "id": "a"}).json()
    assert (answer["id"], answer["model_version"]) == ("a", "3")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probability", "FP64", [5])
    features = loaded.manifest.features
    columns = verifying.plain_columns(table.head(5), features)
    assert output["data"] == predicted(loaded.model, columns, features)["probability"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "why"),
    [
        ("POST", f"{MODEL}/infer", b"{", 400, "not JSON"),
        ("POST", f"{MODEL}/infer", b'{"inputs": []}', 400, "missing inputs"),
        ("POST", "/v2/models/other/infer", b"{}", 404, "no model 'other'"),
        ("POST", f"{MODEL}/versions/9/infer", b"{}", 404, "no version '9'"),
        ("GET", f"{MODEL}/infer", None, 405, "Not Allowed"),
        ("GET", "/v1", None, 404, "Not Found"),
        ("POST", f"{MODEL}/infer", b"x" * 200_001, 413, "larger"),
    ],
)
def test_errors_have_a_status_and_a_reason(served, method, path, content, status, why):
    answer = served.request(method, path, content=content)
    assert answer.status_code == status
    assert why in answer.json()["error"]


def test_a_body_without_a_length_is_limited_too(served):
    answer = served.post(f"{MODEL}/infer", content=(b"x" * 50_000 for _ in range(5)))
    assert answer.status_code == 413


def test_verification_agrees_and_notices_another_version_or_digest(served, loaded, table):
    url = str(served.base_url)
    found = verifying.verify(url, None, loaded, model="flight-delay", version="3", frame=table.head(50))
    assert (found.rows, found.max_difference) == (50, 0)
    with pytest.raises(GateFailed, match="serves version 3"):
        verifying.verify(url, None, loaded, model="flight-delay", version="4", frame=table.head(5))
    other = artifact.Loaded(loaded.model, loaded.manifest, "0" * 64)
    with pytest.raises(GateFailed, match="serves sha256"):
        verifying.verify(url, None, other, model="flight-delay", version="3", frame=table.head(5))
    with pytest.raises(NotFound):
        verifying.verify(url, None, loaded, model="unknown", version="3", frame=table.head(5))
    with pytest.raises(InvalidInput, match="lack the columns temp"):
        verifying.verify(url, None, loaded, model="x", version="3", frame=table.drop(columns="temp"))


def test_verification_notices_predictions_that_differ(served, loaded, table):
    class Lying:
        def predict_proba(self, frame):
            return loaded.model.predict_proba(frame) * 0.99

    other = artifact.Loaded(Lying(), loaded.manifest, loaded.sha256)
    with pytest.raises(GateFailed, match="predicts otherwise"):
        verifying.verify(
            str(served.base_url), None, other, model="flight-delay", version="3", frame=table.head(5)
        )


@contextlib.contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """Another server, that says the same to each request of a method."""

    class Server(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            content = json.dumps(answers[self.command]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "described", [{"versions": {"1": {}}}, {"versions": "1"}, {"versions": ["1"], "parameters": ["sha256"]}]
)
def test_a_server_that_describes_its_models_otherwise_is_not_proven(loaded, table, described):
    with (
        answering({"GET": described}) as url,
        pytest.raises(GateFailed, match=r"serves (version|sha256) None"),
    ):
        verifying.verify(url, None, loaded, model="m", version="1", frame=table.head(5))


def test_an_answer_that_is_no_number_is_not_the_models_own(loaded, table):
    """A NaN is not above the tolerance either; and among numbers the largest may hide it."""
    features = loaded.manifest.features
    values = predicted(loaded.model, verifying.plain_columns(table.head(5), features), features)
    values["probability"][1] = float("nan")
    described = protocol.metadata("m", ["1"], features, {"probability": ""}, {"sha256": loaded.sha256})
    answers = {"GET": described, "POST": protocol.write_response("m", "1", None, values, {})}
    with answering(answers) as url, pytest.raises(GateFailed, match="predicts otherwise"):
        verifying.verify(url, None, loaded, model="m", version="1", frame=table.head(5))


@pytest.mark.parametrize(
    ("replies", "kind"),
    [([b""], Unreachable), ([b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"], AccessDenied)],
)
def test_verification_of_a_server_that_dies_or_refuses(loaded, table, replies, kind, monkeypatch):
    monkeypatch.setattr(verifying.random, "uniform", lambda *_: 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(replies[0])

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(kind):
            verifying.verify(url, "secret", loaded, model="m", version="1", frame=table.head(5))
        listening.shutdown(socket.SHUT_RDWR)


def test_a_tampered_artifact_ends_the_process_with_one_line(stored, tmp_path):
    folder = Path(shutil.copytree(stored.uri.removeprefix("file://"), tmp_path / "copy"))
    with (folder / "model.skops").open("ab") as file:
        file.write(b"x")
    server = Server(artifact.Stored(folder.as_uri(), stored.sha256))
    out, err = server.process.communicate(timeout=60)
    assert (server.process.returncode, out) == (2, "")
    assert err.startswith("cannot serve: the digest of the model")
    assert err.count("\n") == 1


def test_a_port_in_use_ends_the_process_with_one_line(stored, served):
    server = Server(stored, PORT=str(served.base_url.port))
    out, err = server.process.communicate(timeout=60)
    assert (server.process.returncode, out) == (1, "")
    assert "in use" in err
    assert err.count("\n") == 1


def test_the_server_loads_no_airflow():
    """It would double what a pod needs, and take seconds at the first sample."""
    ours = "airflow_pipeops.serving.api.server, airflow_pipeops.models.samples"
    program = f"import sys, {ours}; print('airflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.timeout(90)
def test_sigterm_lets_a_request_in_flight_end(stored, loaded, table):
    server = Server(stored)
    url = httpx.URL(server.wait_ready())
    content = json.dumps(body(loaded, table)).encode()
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        head = f"POST {MODEL}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\nexpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert b"100 Continue" in connection.recv(1000)  # the server is reading the body
        server.process.terminate()
        with contextlib.suppress(OSError):
            while True:  # until it accepts nothing new
                socket.create_connection((url.host, url.port), timeout=20).close()
        connection.sendall(content)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert server.stop() == 0
