"""A model behind HTTP: latency and throughput beside MLServer with the same model, and what our layer costs.

Run: python tests/benchmarks/serving.py [--mlserver /path/to/bin/mlserver] [--seconds 20] [--rows 1]

MLServer lives in an environment of its own, with the scikit-learn of this one:

    python3.11 -m venv mlserver
    version=$(python -c "import sklearn; print(sklearn.__version__)")
    mlserver/bin/pip install mlserver mlserver-sklearn scikit-learn==$version

Both serve the model of the demo (flights) from one process, one after the other, and are asked over kept connections for the
same rows by the same client, which is a process of its own and sends bytes that are made beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx

from airflow_pipeops.demo import flights
from airflow_pipeops.models import artifact
from airflow_pipeops.models.outputs import outputs_of, predicted, table_of
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api.verification import plain_columns

ROOT = Path(__file__).parents[2]
CLIENTS = (1, 8, 64)


def request_of(path: str, body: Any) -> bytes:
    """Return the bytes of a request."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def ask(port: int, request: bytes, ends: float, taken: list[float], failed: list[bytes]) -> None:
    """Ask again and again over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < ends or len(taken) < 2:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        taken.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            failed.append(body)
    writer.close()


async def load(port: int, request: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """Ask with so many clients for so long; return milliseconds and requests a second."""
    taken: list[float] = []
    failed: list[bytes] = []
    ends = time.perf_counter() + seconds
    await asyncio.gather(*(ask(port, request, ends, taken, failed) for _ in range(clients)))
    cuts = statistics.quantiles(taken, n=100)
    return {
        "clients": clients,
        "p50": round(cuts[49] * 1000, 2),
        "p99": round(cuts[98] * 1000, 2),
        "answers": len(taken),
        "a_second": round(len(taken) / seconds, 1),
        "failed": len(failed),
        **({"said": failed[0][:200].decode()} if failed else {}),
    }


@contextmanager
def process(command: list[str], ready: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a server until it answers a path."""
    running = subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, **options)
    try:
        while True:
            assert running.poll() is None, "the server has ended"
            try:
                if httpx.get(ready, timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield running
    finally:
        running.terminate()
        running.wait(60)


def ours(stored: artifact.Stored, port: int, sampled: str) -> Any:
    """Serve by this package."""
    environment = {
        "MODEL_URI": stored.uri, "MODEL_SHA256": stored.sha256, "MODEL_NAME": "m", "MODEL_VERSION": "1",
        "PORT": str(port), **({"SAMPLE_URI": sampled} if sampled else {}),
    }  # fmt: skip
    command = [sys.executable, "-m", "airflow_pipeops.serving.api.server"]
    return process(
        command, f"http://127.0.0.1:{port}/v2/health/ready", env={**os.environ, **environment}, cwd=ROOT
    )


def mlserver(program: str, model: Any, folder: Path, port: int) -> Any:
    """Serve by MLServer, in one process as ours."""
    import joblib

    joblib.dump(model, folder / "model.joblib")
    settings = {
        "name": "m",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    limits = {
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(limits))
    command = [program, "start", str(folder)]
    return process(
        command, f"http://127.0.0.1:{port}/v2/models/m/ready", cwd=folder, stderr=subprocess.DEVNULL
    )


def for_mlserver(request: dict[str, Any]) -> dict[str, Any]:
    """Say in a request how MLServer is to read it: as a table, with texts."""
    inputs = [
        {**one, "parameters": {"content_type": "str"}} if one["datatype"] == "BYTES" else one
        for one in request["inputs"]
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}


def microseconds(work: Callable[[], Any], number: int = 100) -> float:
    """Return what a call costs this thread in CPU, at the median: what others do on the machine does not count."""
    taken = []
    for _ in range(number):
        began = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - began)
    return round(statistics.median(taken) / 1000, 1)


def layer(model: Any, features: dict[str, str], columns: dict[str, list[Any]]) -> dict[str, float]:
    """Return what each step costs within the process, in microseconds of CPU."""
    outputs = outputs_of(model)
    body = json.dumps(protocol.write_request(columns, features, outputs)).encode()
    values = predicted(model, columns, features)
    frame = table_of(columns, features)

    def answer() -> bytes:
        return json.dumps(protocol.write_response("m", "1", "i", values, {"sha256": "0" * 64})).encode()

    found = {
        "the model alone, on a table": microseconds(lambda: model.predict_proba(frame)),
        "read the request": microseconds(lambda: protocol.read_request(body, features, outputs)),
        "make the table": microseconds(lambda: table_of(columns, features)),
        "write the answer": microseconds(answer),
    }
    return found | {"our layer": round(sum(list(found.values())[1:]), 1)}


def cpu(process: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mlserver", default="")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument(
        "--light", action="store_true", help="a model that costs nothing: what is left is the servers"
    )
    parser.add_argument("--port", type=int, default=18080)
    options = parser.parse_args()
    table = flights.features(flights.month(1, 5000))
    model: Any = flights.train(table, 0)
    if options.light:
        from sklearn.dummy import DummyClassifier

        model = DummyClassifier().fit(table[list(flights.FEATURES)], table[flights.TARGET])
    features = artifact.features_of(table, flights.FEATURES)
    columns = plain_columns(table.head(options.rows), features)
    request = protocol.write_request(columns, features, outputs_of(model))
    print("load average", os.getloadavg(), "rows", options.rows)
    for step, cost in layer(model, features, columns).items():
        print(f"  {step:32}{cost:10.1f} us")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = artifact.save(model, artifact.Manifest("m", features, flights.TARGET), folder / "artifacts")
        contestants = {
            "ours": (lambda: ours(stored, options.port, ""), request),
            "ours, all requests sampled": (
                lambda: ours(stored, options.port, (folder / "s").as_uri()),
                request,
            ),
        }
        if options.mlserver:
            (folder / "mlserver").mkdir()
            contestants["MLServer"] = (
                lambda: mlserver(options.mlserver, model, folder / "mlserver", options.port),
                for_mlserver(request),
            )
        for called, (serving, asked) in contestants.items():
            path = "/v2/models/m/infer"
            with serving() as running:
                asyncio.run(load(options.port, request_of(path, asked), 1, 2))  # warm
                for clients in CLIENTS:
                    before = cpu(running.pid)
                    found = asyncio.run(load(options.port, request_of(path, asked), clients, options.seconds))
                    found["cpu_ms"] = round((cpu(running.pid) - before) * 1000 / found["answers"], 2)
                    print(f"{called:28}", json.dumps(found), "load", round(os.getloadavg()[0], 1), flush=True)


if __name__ == "__main__":
    main()
