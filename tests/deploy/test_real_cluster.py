"""Applying, Jobs, undo, replacing, and Helm: on a real cluster, where :mod:`tests.kubernetes.real` finds one; otherwise the
cluster for tests plays it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.connections import work_with
from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator, UndoManifestsOperator
from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator, HelmUninstallOperator
from airflow_pipeops.deploy.helm.rollback import HelmRollbackOperator
from airflow_pipeops.exceptions import Conflict, NotFound
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.connections import connect
from airflow_pipeops.kubernetes.kinds import JOBS, Kind
from tests.deploy.apply.cluster import KINDS
from tests.deploy.apply.test_operators import as_run
from tests.deploy.helm.conftest import Repository, repo
from tests.deploy.helm.running import NAMESPACE, chart, deployments_live, helm
from tests.kubernetes import real
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.real import IMAGE, REAL, WHERE, reach
from tests.kubernetes.workloads import Step, playing

__all__ = ["repo"]
PLACE = real.NAMESPACE if REAL else NAMESPACE
DEPLOYMENTS, CONFIGMAPS = Kind("apps", "v1", "deployments"), Kind("", "v1", "configmaps")
KINDS_MADE = (DEPLOYMENTS, CONFIGMAPS, JOBS)
pytestmark = [pytest.mark.timeout(900 if REAL else 180), WHERE]
WAIT: dict[str, Any] = {"settle": timedelta(0), "timeout": timedelta(minutes=5), "deferrable": False}
WAIT["poll_interval"] = timedelta(seconds=1 if REAL else 0.05)


def script(pod: dict[str, Any]) -> Sequence[Step]:
    """Say what a played pod of a Job does: its command says how it ends."""
    command = pod["spec"]["containers"][0]["command"][-1]
    return [pods.runs(), pods.says("it says why"), pods.ends(3 if "exit 3" in command else 0)]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A name of its own for all that a test makes, at connection ``kubernetes_default``; all of it goes afterwards."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    made = f"pipeops-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        if REAL:
            reach(monkeypatch)
        else:
            extra = {"kube_config": played(stack), "namespace": PLACE}
            value = json.dumps({"conn_type": "kubernetes", "extra": extra})
            monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", value)
        yield made
        ask(lambda client: remove(client, made))


def played(stack: ExitStack) -> str:
    api: ApiServer = stack.enter_context(serving(*KINDS))
    api.tokens[""] = lambda *_: True  # a Go client shows no token without TLS
    stack.enter_context(deployments_live(api))
    stack.enter_context(playing(api, script))
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
    )


def ask(work: Any) -> Any:
    return work_with(connect("kubernetes_default"), work)


async def remove(client: KubernetesClient, made: str) -> None:
    for kind in KINDS_MADE:
        for item in (await client.find(kind, PLACE)).items:
            if item["metadata"]["name"].startswith(made):
                await client.delete(kind, item["metadata"]["name"], PLACE, propagation="Background")


def read(kind: Kind, name: str) -> dict[str, Any] | None:
    """Return an object; ``None`` where it is not there, or about to go."""

    async def work(client: KubernetesClient) -> dict[str, Any] | None:
        try:
            found = await client.get(kind, name, PLACE)
        except NotFound:
            return None
        return None if "deletionTimestamp" in found["metadata"] else found

    return ask(work)  # type: ignore[no-any-return]


def deployment(name: str, version: str, app: str = "") -> dict[str, Any]:
    labels = {"app": app or name}
    container = {
        "name": "main", "image": IMAGE, "command": ["sh", "-c", "sleep 3600"],
        "env": [{"name": "VERSION", "value": version}],
    }  # fmt: skip
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def version(name: str) -> str:
    """Return which version runs."""
    found = read(DEPLOYMENTS, name)
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])


def configmap(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


def job(name: str, when: str, command: str) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": name, "annotations": {"pipeops/hook": when}}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def applied(
    context: dict[str, Any], run: str, name: str, *bodies: dict[str, Any], **more: Any
) -> dict[str, Any]:
    operator = ApplyManifestsOperator(task_id="deploy", name=name, manifests=list(bodies), **WAIT, **more)
    return operator.execute(as_run(context, run))  # type: ignore[no-any-return]


def test_a_set_is_applied_pruned_and_undone(context: dict[str, Any], name: str, where: str) -> None:
    first = applied(context, "one", name, deployment(name, "1"), configmap(f"{name}-old"))
    assert (first["health"], first["objects"]) == ("Healthy", 2)
    assert applied(context, "same", name, deployment(name, "1"), configmap(f"{name}-old"))["changed"] is False
    second = applied(context, "two", name, deployment(name, "2"))
    assert second["deleted"] == [f"ConfigMap {PLACE}/{name}-old"]
    assert version(name) == "2"
    undone = UndoManifestsOperator(task_id="undo", name=name, **WAIT).execute(as_run(context, "undo"))
    assert (undone["undo"], undone["health"], version(name)) == (True, "Healthy", "1")
    assert read(CONFIGMAPS, f"{name}-old") is not None


def test_jobs_run_around_it_and_one_that_fails_stops_it(
    context: dict[str, Any], name: str, where: str
) -> None:
    before, after = job(f"{name}-before", "before", "exit 0"), job(f"{name}-after", "after", "exit 0")
    assert applied(context, "one", name, deployment(name, "1"), before, after)["health"] == "Healthy"
    uid = (read(JOBS, f"{name}-before") or {})["metadata"]["uid"]
    bad = job(f"{name}-before", "before", "echo it says why; exit 3")
    with pytest.raises(AirflowFailException, match="it says why"):
        applied(context, "two", name, deployment(name, "2"), bad, after)
    assert version(name) == "1", "nothing else was applied"
    assert (read(JOBS, f"{name}-before") or {})["metadata"]["uid"] != uid


def test_a_selector_is_named_and_then_made_anew(context: dict[str, Any], name: str, where: str) -> None:
    applied(context, "one", name, deployment(name, "1"))
    other = deployment(name, "2", app=f"{name}-other")
    with pytest.raises(AirflowFailException, match=rf"Deployment {PLACE}/{name}: spec\.selector \("):
        applied(context, "two", name, other)
    result = applied(context, "three", name, other, on_immutable="replace")
    assert result["replaced"][0]["before"] != result["replaced"][0]["now"]
    assert (result["health"], version(name)) == ("Healthy", "2")


@pytest.mark.parametrize("major", ["helm3", "helm4"])
def test_a_release_of_helm_is_rolled_back(
    context: dict[str, Any], name: str, repo: Repository, major: str, where: str
) -> None:
    template = json.dumps(deployment("NAME", "VERSION"))
    template = template.replace("NAME", "{{ .Release.Name }}").replace("VERSION", "{{ .Values.version }}")
    # The name of the variable is left.
    template = template.replace('"name": "{{ .Values.version }}"', '"name": "VERSION"')
    chart(repo.folder / "web", deployment=template)
    repo.commit()
    common: dict[str, Any] = {"release": name, "helm": helm(major)}
    try:
        for number in ("1", "2"):
            operator = HelmReleaseOperator(
                task_id="release",
                chart="./web",
                git_conn_id="charts",
                values={"version": number},
                **common,
                **WAIT,
            )
            assert operator.execute(as_run(context, number))["health"] == "Healthy"
        back = HelmRollbackOperator(task_id="back", revision=2, **common, **WAIT)
        found = back.execute(as_run(context, "back"))
        assert (found["restored"], found["health"], version(name)) == (1, "Healthy", "1")
    finally:
        HelmUninstallOperator(task_id="gone", **common).execute(as_run(context, "gone"))
    assert read(DEPLOYMENTS, name) is None


def settings(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": PLACE},
        "data": data,
    }


def test_what_was_applied_on_the_client_is_taken_over(name: str, context: dict[str, Any], where: str) -> None:
    """What the cluster for tests is taken for here: whoever writes the list of managers moves fields between them."""
    made = settings(f"{name}-a", value="1", old="1")
    made["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    ask(lambda client: client.create(CONFIGMAPS, made, PLACE))
    wanted = [settings(f"{name}-a", value="2")]
    ApplyManifestsOperator(
        task_id="deploy", name=name, manifests=wanted, force_from=["airflow-pipeops"], **WAIT
    ).execute(context)
    found = read(CONFIGMAPS, f"{name}-a")
    assert found is not None
    assert found["data"] == {"value": "2"}
    assert [one["manager"] for one in found["metadata"]["managedFields"]] == ["pipeops"]


def test_an_apply_that_is_to_create_meets_what_is_there(name: str, where: str) -> None:
    """No object has the version with which it is sent; a uid that is gone makes nothing."""

    async def work(client: KubernetesClient) -> None:
        body = settings(f"{name}-a", value="1")
        only = {**body["metadata"], "resourceVersion": "1"}
        made = await client.apply(CONFIGMAPS, {**body, "metadata": only}, "pipeops")
        for value in ("1", "2"):
            with pytest.raises(Conflict):
                await client.apply(
                    CONFIGMAPS, {**body, "metadata": only, "data": {"value": value}}, "pipeops"
                )
        await client.delete(CONFIGMAPS, f"{name}-a", PLACE)
        uid = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
        with pytest.raises(Conflict):
            await client.apply(CONFIGMAPS, {**body, "metadata": {**body["metadata"], **uid}}, "pipeops")

    ask(work)
    assert read(CONFIGMAPS, f"{name}-a") is None
