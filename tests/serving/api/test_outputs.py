"""What models of other kinds than two classes give when they are served, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact, training
from airflow_pipeops.models.behaviour import scores
from airflow_pipeops.models.outputs import outputs_of, predicted
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Served, Settings
from tests.serving.api.estimators import running

FEATURES = {"x": "FP64", "z": "FP64"}
MODEL = "/v2/models/flight-delay"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    kind = random.choice(["bird", "cat", "dog"], 300)
    x = random.normal(size=300) + (kind == "cat") - (kind == "dog")
    return pd.DataFrame({"x": x, "z": random.normal(size=300), "kind": kind, "size": x * 2})


@contextmanager
def serving(model, tmp_path) -> Iterator[tuple[httpx.Client, artifact.Loaded]]:
    stored = artifact.save(model, artifact.Manifest("flight-delay", FEATURES), tmp_path)
    loaded = artifact.load(stored.uri, stored.sha256)
    one = Served("flight-delay", "3", stored.uri, stored.sha256)
    with running(Service([loaded], Settings((one,)))) as client:
        yield client, loaded


def body(frame: pd.DataFrame, rows: int = 4, **request) -> dict:
    columns = verifying.plain_columns(frame.head(rows), FEATURES)
    return {**protocol.write_request(columns, FEATURES), "outputs": None, **request}


def test_a_model_of_three_classes_gives_each_its_probability(frame, tmp_path) -> None:
    model = LogisticRegression().fit(frame[["x", "z"]], frame["kind"])
    with serving(model, tmp_path) as (client, loaded):
        described = client.get(MODEL).json()["outputs"]
        names = ["probability_bird", "probability_cat", "probability_dog"]
        assert [output["name"] for output in described] == names
        assert [output["parameters"]["class"] for output in described] == ["bird", "cat", "dog"]
        answer = client.post(f"{MODEL}/infer", json=body(frame)).json()["outputs"]
        assert [output["name"] for output in answer] == names
        given = np.array([output["data"] for output in answer]).T
        assert np.array_equal(given, model.predict_proba(frame[["x", "z"]].head(4)))
        url = str(client.base_url)
        found = verifying.verify(url, None, loaded, model="flight-delay", version="3", frame=frame.head(20))
        assert (found.rows, found.max_difference) == (20, 0)
        asked = client.post(f"{MODEL}/infer", json=body(frame, outputs=[{"name": "probability"}]))
        assert asked.status_code == 400
        assert "probability_bird" in asked.json()["error"]


def test_a_model_of_several_columns_of_numbers_is_not_taken_for_its_last_one(frame) -> None:
    model = LinearRegression().fit(frame[["x", "z"]], frame[["size", "x"]])
    columns = verifying.plain_columns(frame.head(4), FEATURES)
    with pytest.raises(InvalidInput, match="predicts several columns at once"):
        predicted(model, columns, FEATURES)
    with pytest.raises(InvalidInput, match="predicts several columns at once"):
        scores(model, frame[["x", "z"]].head(4))


def test_null_for_a_model_that_takes_none_is_the_requests_fault(frame, tmp_path) -> None:
    model = LinearRegression().fit(frame[["x", "z"]], frame["size"])
    with serving(model, tmp_path) as (client, _):
        answer = client.post(f"{MODEL}/infer", json=body(frame)).json()["outputs"][0]
        assert answer["data"] == model.predict(frame[["x", "z"]].head(4)).tolist()
        answer = client.post(f"{MODEL}/infer", json=body(frame.assign(z=np.nan)))
        assert answer.status_code == 400
        assert "null in z" in answer.json()["error"]
        assert "NaN" in answer.json()["error"]
        answer = client.post(f"{MODEL}/infer", json=body(frame.assign(x=1e308, z=1e308)))
        assert answer.status_code == 400
        assert "no finite number for row 0" in answer.json()["error"]


def test_a_model_of_one_class_is_refused_with_a_reason(frame, tmp_path) -> None:
    model = DummyClassifier().fit(frame[["x", "z"]], ["bird"] * len(frame))
    with serving(model, tmp_path) as (client, _):
        for answer in (client.get(MODEL), client.post(f"{MODEL}/infer", json=body(frame))):
            assert answer.status_code == 400
            assert "knows one class only, 'bird'" in answer.json()["error"]


def test_what_could_not_be_served_is_not_trained(frame, tmp_path) -> None:
    """Said where it is trained, with what to do; and nothing is stored."""
    two = pd.DataFrame({"a": frame["kind"] == "cat", "b": frame["kind"] == "dog"})
    for trainer, why in (
        (lambda rows, seed: DummyClassifier().fit(rows[["x"]], ["bird"] * len(rows)), "knows one class only"),
        (lambda rows, seed: LinearSVC().fit(rows[["x"]], rows["kind"]), "no probabilities"),
        (lambda rows, seed: DummyClassifier().fit(rows[["x"]], two.head(len(rows))), "several columns"),
    ):
        with pytest.raises(InvalidInput, match=why) as caught:
            training.train(
                frame, tmp_path, name="m", trainer=trainer, scorer=None, metric="auc", holdout=0.2,
                time_column=None, seed=0, target="kind", data_digest="",
            )  # fmt: skip
        assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_two_classes_have_one_output_of_the_positive_one() -> None:
    model = DummyClassifier().fit([[0], [1]], ["on time", "late"])
    assert outputs_of(model) == {"probability": "on time"}  # as scikit-learn sorts them
    assert outputs_of(LinearRegression()) == {"probability": ""}
