"""Artifacts are content-addressed and verified before anything is loaded."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.models import artifact, serialized, storage


@pytest.fixture
def copy(stored, tmp_path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(stored.uri.removeprefix("file://"), tmp_path / "copy"))


def test_a_model_comes_back_as_it_was(stored, fitted, table):
    loaded = artifact.load(stored.uri, stored.sha256)
    columns = list(flights.FEATURES)
    assert np.array_equal(loaded.model.predict_proba(table[columns]), fitted.predict_proba(table[columns]))
    assert list(loaded.manifest.features.items())[:2] == [("hour", "INT64"), ("distance", "INT64")]
    assert loaded.manifest.features["carrier"] == "BYTES"
    assert stored.uri.endswith(f"/flight-delay/{stored.sha256}")


def test_the_same_training_gives_the_same_digest(stored, table, tmp_path):
    manifest = artifact.load(stored.uri, stored.sha256).manifest
    again = artifact.save(flights.train(table, 0), manifest, tmp_path)
    assert again.sha256 == stored.sha256
    assert artifact.save(flights.train(table, 0), manifest, tmp_path) == again
    files = sorted(path.name for path in (tmp_path / "flight-delay" / again.sha256).iterdir())
    assert files == ["model.json", "model.skops"]


@pytest.mark.parametrize("name", ["model.json", "model.skops"])
def test_a_changed_byte_is_refused_before_anything_is_loaded(copy, stored, name, monkeypatch):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    monkeypatch.setattr(serialized, "loads", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InvalidInput, match=f"not {stored.sha256}.*Nothing was loaded"):
        artifact.load(str(copy), stored.sha256)


@pytest.mark.parametrize("name", ["model.json", "model.skops"])
def test_a_missing_file_is_named(copy, stored, name):
    (copy / name).unlink()
    with pytest.raises(NotFound, match=name):
        artifact.load(str(copy), stored.sha256)


def test_a_truncated_file_left_by_a_crash_is_mended_by_the_next_attempt(stored, fitted, tmp_path):
    manifest = artifact.load(stored.uri, stored.sha256).manifest
    saved = artifact.save(fitted, manifest, tmp_path)
    model = tmp_path / "flight-delay" / saved.sha256 / "model.skops"
    model.write_bytes(model.read_bytes()[:100])
    artifact.save(fitted, manifest, tmp_path)
    assert artifact.load(saved.uri, saved.sha256).sha256 == saved.sha256


def test_a_type_that_is_not_trusted_is_refused_by_name():
    model = FunctionTransformer(func=shutil.which).fit([[1.0]])
    with pytest.raises(InvalidInput, match=r"not trusted.*shutil\.which"):
        serialized.dumps(model)
    content = serialized.dumps(model, trusted=["shutil.which"])
    with pytest.raises(InvalidInput, match=r"not trusted.*shutil\.which"):
        serialized.loads(content)


def test_shared_parts_stay_shared_and_names_are_stable():
    model = LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    one, two = (
        serialized.dumps(model),
        serialized.dumps(LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 1])),
    )
    assert one == two
    assert serialized.loads(one).predict([[2.0]]) == model.predict([[2.0]])


def test_bytes_that_are_no_model(tmp_path):
    from airflow_pipeops.exceptions import BadResponse

    with pytest.raises(BadResponse, match="no skops model"):
        serialized.loads(b"nothing")
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w"):
        pass
    with pytest.raises(BadResponse, match="no skops model"):
        serialized.loads(empty.read_bytes())


@pytest.mark.parametrize(
    "schema",
    [
        '{"protocol": 999, "__class__": "dict", "__module__": "builtins", "__loader__": "NoSuchNode"}',
        '{"protocol": "x"}',
        '[1]',
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"protocol": 2, "__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy",'
        ' "file": "x"}',
    ],
    ids=["another protocol", "no protocol", "no object", "nested deep", "a part missing"],
)  # fmt: skip
def test_a_model_of_another_protocol_is_a_typed_error_that_no_retry_mends(tmp_path, schema):
    from airflow_pipeops.exceptions import BadResponse

    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", schema)
    with pytest.raises(BadResponse, match="no skops model that can be read here") as caught:
        serialized.loads(path.read_bytes())
    assert not caught.value.retryable


def test_tables_empty_broken_differing(tmp_path, table):
    whole, broken, other, none = (tmp_path / f"{name}.parquet" for name in "abcd")
    table.to_parquet(whole)
    broken.write_bytes(whole.read_bytes()[:500])
    table.drop(columns="temp").to_parquet(other)
    table.head(0).to_parquet(none)
    frame, digest = storage.read_tables([str(whole), whole.as_uri()])
    assert len(frame) == 2 * len(table)
    assert digest != storage.read_tables([str(whole)])[1]
    for uris, why in [
        ([str(broken)], "damaged or not parquet"),
        ([str(whole), str(other)], "different columns: temp"),
        ([str(none)], "no rows"),
        ([], "names no file"),
    ]:
        with pytest.raises(InvalidInput, match=why):
            storage.read_tables(uris)
    with pytest.raises(NotFound, match="there is no file"):
        storage.read_tables([str(tmp_path / "gone.parquet")])
