"""What is kept of requests: over real HTTP, in real files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from airflow_pipeops.exceptions import BadResponse, InvalidInput, NotFound
from airflow_pipeops.models import artifact, samples, storage
from airflow_pipeops.models.samples import Scored
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from airflow_pipeops.serving.api.metrics import Metrics
from airflow_pipeops.serving.api.sampling import Sampler
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Sampling, Served, Settings
from tests.models.conftest import Server
from tests.serving.api.estimators import figures, running

MODEL = "/v2/models/flight-delay"


def sampled(root: Path, **settings: Any) -> Sampling:
    return Sampling(root.as_uri(), **{"file_seconds": 3600, **settings})


def rows_of(root: Path | str, **asked: Any) -> pa.Table:
    return pa.concat_tables(
        [samples.read(part) for part in samples.parts(str(root), "flight-delay", **asked)]
    )


@pytest.fixture(scope="session")
def loaded(stored) -> artifact.Loaded:
    return artifact.load(stored.uri, stored.sha256)


def served(loaded: artifact.Loaded) -> Served:
    return Served("flight-delay", "3", "none", loaded.sha256)


def body(loaded: artifact.Loaded, table: Any, identifier: str | None = None) -> Mapping[str, Any]:
    features = loaded.manifest.features
    request = protocol.write_request(verifying.plain_columns(table, features), features)
    return request if identifier is None else {**request, "id": identifier}


def test_what_was_asked_and_answered_is_in_the_files(loaded, table, tmp_path):
    """Each row by the id that the answer carried; what was left out is nowhere; a missing number is null."""
    one = served(loaded)
    kept = Settings((one,), sampling=sampled(tmp_path, left_out=("dest",), file_rows=4))
    first, second = table.head(3), table.iloc[3:5].assign(temp=float("nan"))
    with running(Service([loaded], kept)) as client:
        answers = [
            client.post(f"{MODEL}/infer", json=body(loaded, first, "a")).json(),
            client.post(f"{MODEL}/infer", json=body(loaded, second)).json(),
        ]
        while figures(client)["pipeops_sampled_rows_total", "flight-delay", "3"] < 5:
            time.sleep(0.02)
    (part,) = samples.parts(str(tmp_path), "flight-delay")
    assert (part.version, part.sha256, part.role, part.rows) == ("3", loaded.sha256, "answer", 5)
    assert (part.left_out, part.lost_rows, part.share) == (("dest",), {}, 1.0)
    found = samples.read(part)
    features = [name for name in loaded.manifest.features if name != "dest"]
    assert found.column_names == [*samples.OWN, *features, "probability"]
    assert found["at"].type == pa.timestamp("ms", tz="UTC")
    assert found["request_id"].to_pylist() == ["a"] * 3 + [answers[1]["id"]] * 2
    assert found["row"].to_pylist() == [0, 1, 2, 0, 1]
    given = [value for answer in answers for value in answer["outputs"][0]["data"]]
    assert found["probability"].to_pylist() == given
    assert found["hour"].to_pylist() == table["hour"].head(5).tolist()
    assert found["temp"].null_count == 2 + int(first["temp"].isna().sum())
    assert not any(b"dest" in file.read_bytes() for file in tmp_path.rglob("*.parquet"))


def test_nothing_is_lost_unseen_while_the_storage_is_away(loaded, table, tmp_path):
    """Answers go on, what does not fit is counted, and the rest is written when the storage is back."""
    blocked = tmp_path / "samples"
    blocked.write_text("a file where the folder should be")
    sampling = sampled(blocked, file_rows=2, held_rows=4)
    with running(Service([loaded], Settings((served(loaded),), sampling=sampling))) as client:
        for number in range(4):
            assert (
                client.post(f"{MODEL}/infer", json=body(loaded, table.head(2), str(number))).status_code
                == 200
            )
        counted = figures(client)
        assert counted["pipeops_lost_sample_rows_total", "flight-delay", "3", "held"] == 4
        assert counted["pipeops_sampled_rows_total", "flight-delay", "3"] == 0
        blocked.unlink()  # the end writes what is held
    (part,) = samples.parts(str(blocked), "flight-delay")
    assert (part.rows, part.lost_rows) == (4, {"held": 4})
    assert samples.read(part)["request_id"].to_pylist() == ["0", "0", "1", "1"]


def test_what_cannot_be_written_in_the_end_is_counted(loaded, table, tmp_path, capsys):
    blocked = tmp_path / "samples"
    blocked.write_text("a file where the folder should be")
    service = Service([loaded], Settings((served(loaded),), sampling=sampled(blocked)))
    with running(service) as client:
        client.post(f"{MODEL}/infer", json=body(loaded, table.head(2)))
    assert "2 rows of samples are lost" in capsys.readouterr().err
    text = service.metrics.text()[0].decode()
    assert 'lost_sample_rows_total{model="flight-delay",reason="end",version="3"} 2.0' in text


def test_a_share_of_the_requests_is_kept(loaded, tmp_path):
    sampler = Sampler(sampled(tmp_path, share=0.25), Metrics())
    kept = sum(sampler.chosen() for _ in range(20_000))
    assert 4500 < kept < 5500  # 8 standard deviations


def test_by_size_by_time_and_at_the_end(tmp_path):
    """A full part is written at once, one that is not at its time or at the end; each version has its own."""
    metrics = Metrics()
    sampler = Sampler(sampled(tmp_path, file_rows=3, file_seconds=1), metrics)
    versions = [Served("flight-delay", version, "none", version * 64) for version in "12"]
    for one in versions:
        metrics.loaded(one)
        sampler.add(one, {"x": "FP64"}, {"score": ""})
    sampler.start({"x"})
    scored = Scored("r", 1_000, {"x": [1.0, 2.0]}, {"score": [0.5, 0.25]}, 2)
    for one in (*versions, versions[0]):
        sampler.offer(one, scored, 100)
    while len(list(tmp_path.rglob("*.json"))) < 2:
        time.sleep(0.02)
    sampler.offer(versions[1], scored, 100)
    assert sampler.close(60) == 0
    assert rows_of(tmp_path)["version"].to_pylist().count("1") == 4
    assert rows_of(tmp_path, version="2").num_rows == 4


@pytest.mark.parametrize(
    ("left_out", "why"), [(("destt",), "'destt', which no model here takes"), ((), "of the name at")]
)
def test_what_would_be_kept_by_mistake_is_refused(loaded, tmp_path, left_out, why):
    features = {**loaded.manifest.features, **({} if left_out else {"at": "FP64"})}
    other = artifact.Loaded(loaded.model, artifact.Manifest("flight-delay", features), loaded.sha256)
    with pytest.raises(InvalidInput, match=why):
        Service([other], Settings((served(loaded),), sampling=sampled(tmp_path, left_out=left_out)))


def test_sigterm_writes_the_last_samples(stored, loaded, table, tmp_path):
    server = Server(stored, SAMPLE_URI=tmp_path.as_uri(), SAMPLE_SECONDS="3600")
    url = server.wait_ready()
    answer = httpx.post(f"{url}{MODEL}/infer", json=body(loaded, table.head(2)), timeout=60).json()
    assert not list(tmp_path.rglob("*.parquet"))
    server.process.terminate()
    _, said = server.process.communicate(timeout=120)
    assert (server.process.returncode, said) == (0, "")
    found = rows_of(tmp_path)
    assert found["request_id"].to_pylist() == [answer["id"]] * 2
    assert found["probability"].to_pylist() == answer["outputs"][0]["data"]


def test_a_killed_server_loses_what_it_held_and_nothing_else(stored, loaded, table, tmp_path):
    held = {"SAMPLE_ROWS": "4", "SAMPLE_HELD_ROWS": "4", "SAMPLE_SECONDS": "3600"}
    server = Server(stored, SAMPLE_URI=tmp_path.as_uri(), **held)
    url = server.wait_ready()
    for number in range(7):
        while number == 4 and not list(tmp_path.rglob("*.json")):
            time.sleep(0.02)
        request = body(loaded, table.iloc[[number]], str(number))
        assert httpx.post(f"{url}{MODEL}/infer", json=request, timeout=60).status_code == 200
    server.process.kill()
    server.process.communicate()
    assert rows_of(tmp_path)["request_id"].to_pylist() == ["0", "1", "2", "3"]


# ---- the file form ------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path) -> Path:
    fill(tmp_path)
    return tmp_path


def fill(root: Any) -> None:
    """Write three parts of one version, on three days."""
    of = {"model": "flight-delay", "version": "3", "sha256": "a" * 64, "role": "answer"}
    columns = samples.schema({"x": "INT64"}, ["score"])
    for day in range(3):
        at = int(datetime(2026, 3, 1 + day, 23, 59, tzinfo=timezone.utc).timestamp() * 1000)
        rows = samples.table([Scored(str(day), at, {"x": [day]}, {"score": [0.5]}, 1)], of, columns)
        part = samples.Part(
            **of, file="", file_sha256="", rows=0, first_at=at, last_at=at, instance="i", sequence=day
        )
        samples.write(root, rows, part)


@pytest.mark.parametrize("store", ["file", "memory"])
def test_parts_are_found_by_time(store, tmp_path):
    """In a folder, and in an object store."""
    written = f"memory://{tmp_path.name}/samples" if store == "memory" else str(tmp_path)
    fill(storage.at(written))
    second = datetime(2026, 3, 2, 23, 59, tzinfo=timezone.utc)
    assert rows_of(written)["request_id"].to_pylist() == ["0", "1", "2"]
    assert rows_of(written, since=second)["request_id"].to_pylist() == ["1", "2"]
    assert rows_of(written, until=second)["request_id"].to_pylist() == ["0"]
    assert rows_of(written, since=second, until=second + timedelta(minutes=1))["x"].to_pylist() == [1]
    assert list(samples.parts(written, "other")) == []


def test_a_part_counts_with_its_manifest_and_its_own_bytes_only(written):
    _, second, third = samples.parts(str(written), "flight-delay")
    manifests = sorted(written.rglob("*.json"))
    manifests[0].unlink()
    assert [part.sequence for part in samples.parts(str(written), "flight-delay")] == [1, 2]
    path = next(written.rglob(second.file))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InvalidInput, match="has been altered"):
        samples.read(second)
    next(written.rglob(third.file)).unlink()
    with pytest.raises(NotFound):
        samples.read(third)
    manifests[2].write_text(json.dumps({"format": "pipeops-samples/v2"}))
    with pytest.raises(BadResponse, match="another format"):
        list(samples.parts(str(written), "flight-delay"))
