"""The InferenceService of a model, held against the definition of KServe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.api.kserve import DIGEST, inference_service
from airflow_pipeops.serving.api.operators import KServeModelOperator
from airflow_pipeops.serving.api.settings import settings
from tests.deploy.apply.test_operators import as_run
from tests.deploy.conftest import KINDS, Cluster
from tests.deploy.conftest import cluster as cluster
from tests.kubernetes.apiserver import ApiServer, serving

IMAGE = f"registry.example.com/delays@sha256:{'0' * 64}"
MODEL = {"model": "delays", "version": "7", "uri": "s3://models/delays", "sha256": "a" * 64}
#: KServe's own definition (Apache-2.0; it says where from): the fields that are used here, and the names of all others.
RECORDED = json.loads(Path(__file__).with_name("inferenceservice.json").read_text())


def closed(schema: Any) -> Any:
    """Refuse unknown fields, as an API server does with ``fieldValidation=Strict``."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        found["additionalProperties"] = False
    return found


def check(manifest: dict) -> None:
    schema = closed(RECORDED["schema"])
    jsonschema.Draft202012Validator(schema).validate(manifest)


def test_the_manifest_is_what_kserve_takes():
    check(inference_service("delays", image=IMAGE, **MODEL))
    check(
        inference_service(
            "delays",
            image=IMAGE,
            **MODEL,
            namespace="models",
            variables={"SAMPLE_URI": "s3://samples"},
            secrets=["connections"],
            service_account="models",
            replicas=(2, 5),
            mode="Standard",
        )
    )


def test_the_check_sees_what_kserve_would_not_take():
    manifest = inference_service("delays", image=IMAGE, **MODEL)
    predictor = manifest["spec"]["predictor"]
    for change in ({"minReplicas": "one"}, {"containers": [{"imagee": IMAGE, "name": "x"}]}, {"unknown": 1}):
        with pytest.raises(jsonschema.ValidationError):
            check({**manifest, "spec": {"predictor": {**predictor, **change}}})


def test_the_server_reads_the_variables_that_are_rendered():
    manifest = inference_service("delays", image=IMAGE, **MODEL, variables={"SAMPLE_URI": "s3://samples"})
    predictor = manifest["spec"]["predictor"]
    (container,) = predictor["containers"]
    found = settings({one["name"]: one["value"] for one in container["env"]})
    (one,) = found.models
    assert (one.name, one.version, one.uri, one.sha256) == tuple(MODEL.values())
    assert (found.host, found.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert predictor["terminationGracePeriodSeconds"] > found.drain_seconds
    assert container["command"][-1] == "airflow_pipeops.serving.api.server"


def test_another_model_is_another_pod():
    first = inference_service("delays", image=IMAGE, **MODEL)["spec"]["predictor"]
    other = inference_service("delays", image=IMAGE, **{**MODEL, "sha256": "b" * 64})["spec"]["predictor"]
    assert first["annotations"][DIGEST] != other["annotations"][DIGEST]
    assert first["containers"] != other["containers"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"image": "registry.example.com/delays:latest"}, "image"),
        ({"sha256": "none"}, "sha256"),
        ({"model": "a b"}, "model"),
        ({"version": ""}, "version"),
        ({"uri": ""}, "uri"),
        ({"variables": {"MODEL_URI": "x"}}, "variables"),
        ({"variables": ["A=1"]}, "variables"),
        ({"secrets": "connections"}, "secrets"),
        ({"resources": "1 CPU"}, "resources"),
        ({"replicas": (3, 1)}, "replicas"),
        ({"replicas": 3}, "replicas"),
        ({"replicas": "12"}, "replicas"),
        ({"replicas": [1, "5"]}, "replicas"),
        ({"drain_seconds": "20"}, "drain_seconds"),
        ({"drain_seconds": 0}, "drain_seconds"),
        ({"mode": "Serverles"}, "mode"),
    ],
)
def test_what_is_wrong_is_named(given, field):
    with pytest.raises(InvalidInput) as caught:
        inference_service("delays", **{"image": IMAGE, **MODEL, **given})
    assert caught.value.field == field


# ---- applied, and waited for -----------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS, ("serving.kserve.io", "v1beta1", "inferenceservices", True)) as server:
        yield server


class KServe:
    """Its controller: it looks late, and tells the observed generation of the Deployment that it made."""

    def __init__(self, api: ApiServer, late: float) -> None:
        self.api, self.late, self._stop = api, late, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> KServe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            found = self.api.read("inferenceservices", "shop", "delays")
            if found is None or digest(found) == found.get("status", {}).get("runs"):
                continue
            if self._stop.wait(self.late):
                return
            for ready in ("False", "True"):
                condition = {"type": "Ready", "status": ready}
                told = {"observedGeneration": 2, "conditions": [condition], "runs": digest(found)}
                self.api.change(
                    "inferenceservices", "shop", "delays", lambda item, told=told: item.update(status=told)
                )


def digest(item: dict[str, Any]) -> str:
    return item["spec"]["predictor"]["annotations"][DIGEST]


def release(context: dict[str, Any], **model: str) -> dict[str, Any]:
    given = {"name": "delays", "image": IMAGE, "model": "delays", "artifact_uri": MODEL["uri"], **model}
    waits = {
        "poll_interval": timedelta(milliseconds=50),
        "timeout": timedelta(seconds=120),
        "settle": timedelta(0),
    }
    return KServeModelOperator(
        task_id="live",
        deferrable=False,
        deliverable=Deliverable("delays"),
        environment="production",
        **given,
        **waits,
    ).execute(context)


def test_a_release_is_done_when_the_controller_has_looked_at_it(
    api: ApiServer, cluster: Cluster, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ready is still said of the model before, with an observed generation that is that of the new spec by chance."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")
    with KServe(api, late=1.0):
        for version, sha256 in (("7", "a" * 64), ("8", "b" * 64)):
            result = release(as_run(context, version), version=version, sha256=sha256)
            assert (result["health"], result["objects"]) == ("Healthy", 1)
            found = api.read("inferenceservices", "shop", "delays")
            assert found is not None
            assert digest(found) == found["status"]["runs"] == sha256
    assert context["outlet_events"][Deliverable("delays").released("production")].extra["kind"] == "release"


def test_an_option_that_means_nothing_is_refused(
    api: ApiServer, cluster: Cluster, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match="unknown key 'replica'"):
        release(context, version="7", sha256="a" * 64, service={"replica": (1, 2)})  # type: ignore[arg-type]
    assert api.all("inferenceservices") == []
