"""Where manifests come from: a file in a folder or a store; a kind that comes with its objects; the end of a deferral."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from fsspec.implementations.memory import MemoryFileSystem

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import BadResponse, PipeOpsError, Unreachable
from tests.base.test_http import send
from tests.base.test_http import serving as web
from tests.deploy.apply.cluster import KINDS, configmap, members
from tests.deploy.apply.test_operators import WEB, as_run, task
from tests.deploy.conftest import Cluster
from tests.deploy.helm.running import deployments_live
from tests.deploy.helm.test_rollback import after
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.objects import Kept

DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions", True)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS, DEFINITIONS) as server:
        yield server


# ---- files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "store"])
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Write a file where the operator reads it; return its URI."""

    def in_folder(content: str) -> str:
        (tmp_path / "rendered.yaml").write_text(content)
        return (tmp_path / "rendered.yaml").as_uri()

    def in_store(content: str) -> str:
        from airflow.sdk.io import attach

        store = MemoryFileSystem()
        attach("memory", fs=store)
        store.pipe("/bucket/rendered.yaml", content.encode())
        return "memory://bucket/rendered.yaml"

    return in_folder if request.param == "file" else in_store


def test_a_file_is_applied_and_may_be_pinned(
    cluster: Cluster, context: dict[str, Any], put: Callable[[str], str]
) -> None:
    content = json.dumps(configmap("settings"))
    uri, sha256 = put(content), hashlib.sha256(content.encode()).hexdigest()
    assert task(uri=uri, wait=False).execute(context)["objects"] == 1
    assert task(uri=uri, sha256=sha256, wait=False).execute(context)["changed"] is False
    put(json.dumps(configmap("settings", "2")))
    with pytest.raises(AirflowFailException, match=f"{sha256} is wanted"):
        task(uri=uri, sha256=sha256, wait=False).execute(as_run(context, "second"))
    there = cluster.api.read("configmaps", "shop", "settings")
    assert there is not None
    assert there["data"] == {"value": "1"}


def test_a_file_of_a_web_server_is_applied_by_its_digest(cluster: Cluster, context: dict[str, Any]) -> None:
    content = json.dumps(configmap("settings")).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    with web(lambda handler: send(handler, 200, content)) as url:
        for given, told in (("", "no SHA-256 says"), ("0" * 64, f"{'0' * 64} is wanted")):
            with pytest.raises(AirflowFailException, match=told):
                task(uri=f"{url}/rendered.yaml", sha256=given, wait=False).execute(context)
        assert not members(cluster.api)
        made = task(uri=f"{url}/rendered.yaml", sha256=sha256, wait=False).execute(context)
    assert made["objects"] == 1
    assert "configmaps/settings" in members(cluster.api)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("file:///no/such/file.yaml", "is no file"),
        ("nowhere://bucket/file.yaml", "cannot be opened"),
        ("file:///etc", "is no file"),
    ],
)
def test_what_is_no_file_is_told(cluster: Cluster, context: dict[str, Any], uri: str, told: str) -> None:
    with pytest.raises(AirflowFailException, match=told):
        task(uri=uri, wait=False).execute(context)
    assert not members(cluster.api)


# ---- a kind that comes with its objects ----------------------------------------------------------------------------------

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.acme.example"},
    "spec": {
        "group": "acme.example",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {}}}],
    },
}
WIDGET = {"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 1}}


def playing(api: ApiServer, condition: dict[str, str], *, serves: bool) -> tuple[threading.Thread, list[int]]:
    """Play what takes up definitions: some time after one was made. Also return how much was asked for until then."""
    asked: list[int] = []

    def play() -> None:
        while not (there := api.all("customresourcedefinitions")):
            threading.Event().wait(0.005)
        begin = len(api.requests)
        while len(api.requests) < begin + 3:  # it is asked for, and not there yet
            threading.Event().wait(0.005)
        with api.lock:
            asked.append(sum(one.startswith("PATCH") and "widgets/one" in one for one in api.requests))
            if serves:
                api.kinds["acme.example", "v1", "widgets"] = Kept("acme.example", "v1", "widgets")
        told = {"conditions": [condition]}
        api.change(
            "customresourcedefinitions",
            "",
            there[0]["metadata"]["name"],
            lambda item: item.update(status=told),
        )

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    return thread, asked


def test_an_object_is_applied_once_its_kind_is_established(cluster: Cluster, context: dict[str, Any]) -> None:
    thread, asked = playing(cluster.api, {"type": "Established", "status": "True"}, serves=True)
    result = task(manifests=[WIDGET, DEFINITION], wait=False).execute(context)
    thread.join(30)
    assert asked == [1], "but for the trial, it was not asked to be taken before"
    assert result["objects"] == 2
    assert set(members(cluster.api)) == {"widgets/one", "customresourcedefinitions/widgets.acme.example"}


def test_a_kind_that_is_not_accepted_is_told_and_nothing_of_it_is_applied(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    said = {
        "type": "NamesAccepted",
        "status": "False",
        "reason": "ListKindConflict",
        "message": "it is in use",
    }
    thread, _ = playing(cluster.api, said, serves=False)
    with pytest.raises(
        AirflowFailException, match=r"widgets\.acme\.example does not come to be served: .*in use"
    ):
        task(manifests=[WIDGET, DEFINITION, configmap("settings")], wait=False).execute(context)
    thread.join(30)
    assert set(members(cluster.api)) == {"customresourcedefinitions/widgets.acme.example"}


# ---- the end of a deferral -----------------------------------------------------------------------------------------------


def deferred(context: dict[str, Any], **arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as found:
        task(manifests=WEB, deferrable=True, **arguments).execute(context)
    return found.value


def test_it_goes_on_after_a_deferral_and_records(cluster: Cluster, context: dict[str, Any]) -> None:
    about: dict[str, Any] = {"deliverable": Deliverable("web"), "environment": "production"}
    waits = deferred(context, **about)
    with deployments_live(cluster.api):
        payload = after(waits)
    result = task(manifests=WEB, deferrable=True, **about).execute_complete(context, payload)
    events = context["outlet_events"]
    change, release = (
        events[about["deliverable"].asset(kind, "production")].extra for kind in ("change", "release")
    )
    assert (result["health"], result["record_id"]) == ("Healthy", release["id"])
    assert release["parents"] == [change["id"]]
    assert change["body"]["objects"] == 1


def test_what_has_failed_meanwhile_is_no_release(cluster: Cluster, context: dict[str, Any]) -> None:
    about: dict[str, Any] = {"deliverable": Deliverable("web"), "environment": "production"}
    waits = deferred(context, failed_grace=timedelta(0), **about)
    with deployments_live(cluster.api, broken="web"):
        payload = after(waits)
    with pytest.raises(AirflowFailException, match="no such image"):
        task(manifests=WEB, deferrable=True, **about).execute_complete(context, payload)
    assert not context["outlet_events"][about["deliverable"].released("production")].extra


def test_what_took_too_long_is_told(cluster: Cluster, context: dict[str, Any]) -> None:
    payload = after(deferred(context, timeout=timedelta(seconds=1)))
    with pytest.raises(AirflowFailException, match=r"(?i)timeout|not .*within|deadline"):
        task(manifests=WEB, deferrable=True).execute_complete(context, payload)


def test_what_is_accepted_without_being_ready_is_no_release(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    about: dict[str, Any] = {
        "deliverable": Deliverable("web"),
        "environment": "production",
        "on_unknown": "accept",
    }
    none = WEB.replace("replicas: 2", "replicas: 0")
    with deployments_live(cluster.api):
        result = task(manifests=none, **about).execute(context)
    assert (result["health"], result["rule"]) == ("Unknown", "accepted")
    assert result["record_id"] == result["change_id"]


@pytest.mark.parametrize(
    ("event", "error", "told"),
    [
        (None, BadResponse, "without an event"),
        ({"error": "no answer", "type": "Unreachable"}, Unreachable, "no answer"),
        ({"error": "no right", "type": "AccessDenied"}, AirflowFailException, "no right"),
        ({"error": "odd", "type": "int"}, AirflowFailException, "odd"),
    ],
)
def test_a_trigger_that_fails_is_told(
    cluster: Cluster, context: dict[str, Any], event: Any, error: type[PipeOpsError], told: str
) -> None:
    with pytest.raises(error, match=told):
        task(manifests=WEB, deferrable=True).execute_complete(context, event)
