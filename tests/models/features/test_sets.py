"""A feature set is told by its code, makes each row's features once, and is carried where its model is served."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base import tables
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact
from airflow_pipeops.models.features.sets import carried, named
from airflow_pipeops.models.operators import BuildFeaturesOperator, TrainModelOperator
from tests.models.conftest import Server

_MODULE = """
from datetime import timedelta
from airflow_pipeops import FeatureSet, Join
import feature_helpers

def ratio(frame, by):
    return frame.assign(ratio=feature_helpers.scaled(frame["delay"], by))

def columns(frame):
    return frame[["at", "hour", "ratio", "wind", "late"]]

def dropped(frame):
    return frame.head(1)

def train(frame, seed, C=1.0):
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression(C=C, random_state=seed).fit(frame[["hour", "ratio", "wind"]], frame["late"])

def score(model, frame):
    from sklearn.metrics import roc_auc_score
    return roc_auc_score(frame["late"], model.predict_proba(frame[["hour", "ratio", "wind"]])[:, 1])

FLIGHTS = FeatureSet(
    steps={"ratio": "flight_features:ratio", "columns": "flight_features:columns"},
    parameters={"ratio": {"by": 60}},
    sources={"hour": "int64", "delay": "float64", "wind": "float64"},
    joins=(Join("weather", ("origin",), ("wind",), "observed", created_time="written"),),
    time="at",
    label="late",
    label_delay=timedelta(hours=24),
)
LOSES = FeatureSet(steps={"dropped": "flight_features:dropped"})
"""


class Package:
    """Modules beside a DAG, which a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, module: str = _MODULE, helper: str = "def scaled(x, by): return x / by\n") -> ModuleType:
        for name, text in (("flight_features", module), ("feature_helpers", helper)):
            (self.folder / f"{name}.py").write_text(text, encoding="utf-8")
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("flight_features")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions may be written within one second
    made = Package(folder)
    made.write()
    yield made
    for name in ("flight_features", "feature_helpers"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Flights, and the wind as it was observed each hour and written half an hour later."""
    at = pd.date_range("2026-01-01", periods=240, freq="h", tz="UTC")
    flights = pd.DataFrame(
        {
            "at": at,
            "origin": "JFK",
            "hour": at.hour.astype("int64"),
            "delay": [float(n % 90) for n in range(240)],
            "late": [int(n * 7 % 5 > 2) for n in range(240)],
        }
    )
    weather = pd.DataFrame(
        {
            "origin": "JFK",
            "observed": at,
            "written": at + timedelta(minutes=30),
            "wind": [float(n) for n in range(240)],
        }
    )
    for name, frame in (("flights", flights), ("weather", weather)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    return {name: str(tmp_path / f"{name}.parquet") for name in ("flights", "weather")}


@pytest.fixture
def build(package: Package, connections: Any, context: Any, data: dict[str, str]) -> Callable[..., Any]:
    def run(**arguments: Any) -> dict[str, Any]:
        given = {
            "features": "flight_features:FLIGHTS",
            "data": data["flights"],
            "tables": {"weather": data["weather"]},
        } | arguments
        return BuildFeaturesOperator(task_id="features", **given).execute(context)

    return run


def test_the_digest_tells_code_parameters_and_what_is_read(package: Package) -> None:
    whole = named("flight_features:FLIGHTS").digest
    assert named("flight_features:FLIGHTS").digest == whole
    others = [
        (_MODULE.replace('{"by": 60}', '{"by": 30}'), None),
        (_MODULE.replace('"wind": "float64"', '"wind": "int64"'), None),
        (_MODULE.replace('created_time="written"', "created_time=None"), None),
        (_MODULE, "def scaled(x, by): return x / by + 0\n"),  # what the steps import counts, too
    ]
    found = {whole}
    for module, helper in others:
        package.write(module, *([helper] if helper else []))
        found.add(named("flight_features:FLIGHTS").digest)
    assert len(found) == 1 + len(others)
    package.write()
    assert named("flight_features:FLIGHTS").digest == whole


def test_features_are_made_once_and_found_again_by_what_they_are_made_from(
    build: Callable[..., Any], package: Package, data: dict[str, str]
) -> None:
    first = build()
    assert (first["reused"], first["rows"]) == (False, 240)
    table = pd.read_parquet(first["uri"])
    # The hour's own observation is written half an hour later: what is known is the one before.
    assert table["wind"].isna().tolist() == [True] + [False] * 239
    assert table["wind"].tolist()[1:] == [float(n) for n in range(239)]
    assert table["ratio"].tolist() == [n % 90 / 60 for n in range(240)]

    assert build() == {**first, "reused": True}
    Path(first["uri"].removeprefix("file://")).write_bytes(b"damaged")
    assert build() == first, "what is not as it was made is made again"
    package.write(helper="def scaled(x, by): return 2 * x / by\n")
    changed = build()
    assert changed["reused"] is False
    assert changed["sha256"] != first["sha256"]
    weather = pd.read_parquet(data["weather"])
    weather.assign(wind=weather["wind"] + 1).to_parquet(data["weather"])
    again = build()
    assert (again["reused"], again["feature_set"]) == (False, changed["feature_set"])


def test_data_that_is_replaced_while_it_is_read_is_never_found_as_what_was_there_before(
    build: Callable[..., Any], data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flights, first = pd.read_parquet(data["flights"]), Path(data["flights"]).read_bytes()
    read = tables.read

    def replaced(*arguments: Any, **more: Any) -> Any:
        flights.assign(delay=1.0).to_parquet(data["flights"])
        return read(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "read", replaced)
        build()
    Path(data["flights"]).write_bytes(first)
    assert build()["reused"] is False


def test_labels_that_were_not_known_when_the_table_was_built_are_not_learned_from(
    build: Callable[..., Any], connections: Any, context: Any
) -> None:
    """240 hours; 24 before the end, the labels of 24 more are not known yet, nor is the wind."""
    made = build(as_of="2026-01-10T00:00:00Z")
    table = pd.read_parquet(made["uri"])
    assert table["late"].notna().sum() == 216 - 24 + 1
    table = table.assign(wind=table["wind"].fillna(0.0))
    uri = made["uri"].replace("features.parquet", "whole.parquet")
    table.to_parquet(uri.removeprefix("file://"))
    trained = TrainModelOperator(
        task_id="train",
        trainer="flight_features:train",
        scorer="flight_features:score",
        data=uri,
        name="flights",
        target="late",
        time_column="at",
        label_delay=timedelta(hours=24),
        feature_set=made["feature_set"],
        parameters={"C": 0.5},
    ).execute(context)
    learned, held = (pd.read_parquet(trained[name]) for name in ("reference_uri", "holdout_uri"))
    assert held["at"].min() - learned["at"].max() == timedelta(hours=24)
    assert len(learned) + len(held) == 193 - 23
    assert learned["late"].dtype == "int64"
    loaded = artifact.load(trained["artifact_uri"], trained["sha256"])
    assert loaded.model.C == 0.5
    assert loaded.manifest.feature_set == made["feature_set"]


def manifest(**feature_set: str) -> artifact.Manifest:
    return artifact.Manifest("flights", {"hour": "INT64"}, feature_set=feature_set or None)


def test_a_model_is_served_by_whoever_carries_its_features(package: Package) -> None:
    path = "flight_features:FLIGHTS"
    wanted = {"path": path, "digest": named(path).digest}
    found = carried(manifest(**wanted))
    assert found is not None
    rows = pd.DataFrame(
        {
            "at": [pd.Timestamp("2026-01-01", tz="UTC")],
            "hour": [7],
            "delay": [30.0],
            "wind": [3.0],
            "late": [0],
        }
    )
    assert found.build(rows)["ratio"].tolist() == [0.5], "what was joined comes with the request"
    assert carried(manifest()) is None
    package.write(helper="def scaled(x, by): return 3 * x / by\n")
    with pytest.raises(InvalidInput, match=r"another code here.*trained with " + wanted["digest"][:12]):
        carried(manifest(**wanted))
    with pytest.raises(InvalidInput, match=r"are not here.*nowhere"):
        carried(manifest(path="nowhere:FLIGHTS", digest="0"))


def test_a_server_does_not_start_for_a_model_whose_features_it_does_not_carry(
    package: Package, fitted: Any, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = "flight_features:FLIGHTS"
    features = artifact.features_of(table, flights.FEATURES)
    environment = {"PYTHONPATH": str(package.folder)}
    for digest, said in ((named(path).digest, ""), ("0" * 64, "trained with 000000000000")):
        about = artifact.Manifest("flight-delay", features, feature_set={"path": path, "digest": digest})
        server = Server(artifact.save(fitted, about, tmp_path), **environment)
        try:
            if not said:
                assert httpx.get(f"{server.wait_ready()}/v2/health/ready", timeout=20).status_code == 200
                continue
            _, error = server.process.communicate(timeout=240)
            assert server.process.returncode == 2
            assert said in error
        finally:
            server.stop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tables": {}}, "table 'weather' is not given"),
        ({"features": "flight_features:LOSES", "tables": {}}, "was given 240 rows and returned 1"),
        ({"features": "flight_features:ratio"}, "is no FeatureSet"),
        ({"features": "flight_features:NOTHING"}, "cannot be imported"),
        ({"as_of": "yesterday"}, "as_of 'yesterday' is no time"),
        ({"as_of": "2026-01-10"}, "'as_of' holds times, and 'at' holds times with a zone"),
        ({"tables": ["weather"]}, "tables is not a mapping"),
    ],
)
def test_what_cannot_be_built_is_said(
    build: Callable[..., Any], arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        build(**arguments)


def test_a_column_of_another_type_is_refused_by_name(
    build: Callable[..., Any], data: dict[str, str], tmp_path: Path
) -> None:
    flights = pd.read_parquet(data["flights"])
    flights.assign(hour=flights["hour"].astype(str)).to_parquet(tmp_path / "texts.parquet")
    with pytest.raises(AirflowFailException, match=r"column 'hour' has the type .*written for int64"):
        build(data=str(tmp_path / "texts.parquet"))
    with pytest.raises(InvalidInput, match="either features, or a transform"):
        build(transform="flight_features:columns")
