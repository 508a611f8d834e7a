"""The operators, for real: Helm of both majors against a Kubernetes API over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.deploy.helm.base import HelmOperator
from airflow_pipeops.deploy.helm.operators import (
    HelmHistoryOperator,
    HelmReleaseOperator,
    HelmTestOperator,
    HelmUninstallOperator,
)
from airflow_pipeops.deploy.helm.program import Helm
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from tests.deploy.differences.test_sets import written
from tests.deploy.helm.conftest import Repository
from tests.deploy.helm.running import (
    CONFIG,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    chart,
    deployments_live,
    helm,
    kubeconfig,
    run,
)
from tests.kubernetes.apiserver import ApiServer, Fault
from tests.kubernetes.objects import Refused
from tests.kubernetes.workloads import Workloads, ends, runs, says

SHOP = Deliverable("shop", environments=("staging",))


def task(cls: Any, major: str, **arguments: Any) -> Any:
    """Return a task; a short one, in the worker."""
    given = {
        "task_id": "task",
        "release": "web",
        "namespace": NAMESPACE,
        "kubernetes_conn_id": "cluster",
        **({} if cls is HelmHistoryOperator else {"helm": helm(major)}),
    }
    if cls is HelmReleaseOperator:
        given.update(
            chart="./web",
            git_conn_id="charts",
            deferrable=False,
            timeout=timedelta(seconds=60),
            settle=timedelta(0),
            poll_interval=timedelta(milliseconds=20),
            failed_grace=timedelta(0),
        )
    return cls(**{**given, **arguments})


def statuses(api: ApiServer) -> list[str]:
    """The statuses of all revisions, the oldest first."""
    labels = [
        item["metadata"]["labels"] for item in api.all("secrets") if item.get("type", "").startswith("helm")
    ]
    return [one["status"] for one in sorted(labels, key=lambda one: int(one["version"]))]


def evidence(tmp_path: Path) -> str:
    """All that was kept."""
    return "\n".join(path.read_text() for path in sorted((tmp_path / "evidence").rglob("*.txt")))


def image(api: ApiServer) -> str:
    """What the Deployment runs."""
    found = api.read("deployments", NAMESPACE, "web")
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_release_is_made_waited_for_and_recorded(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    operator = task(HelmReleaseOperator, major, deliverable=SHOP, environment="staging")
    with deployments_live(api):
        found = operator.execute(context)
    assert (found["revision"], found["previous"], found["attached"], found["changed"]) == (1, 0, False, True)
    assert found["objects"]["added"] == ["ConfigMap web-config", "Deployment web"]
    assert (found["health"], found["rule"]) == ("Healthy", "ready")
    assert found["chart"]["digest"].startswith("git:")
    assert found["commit"] == repo.git("rev-parse", "HEAD")
    change, release = (
        context["outlet_events"][SHOP.asset(kind, "staging")].extra for kind in ("change", "release")
    )
    assert release["parents"] == [change["id"]]
    assert release["body"]["revision"] == found["commit"]
    assert change["evidence"][0]["name"] == "difference.txt"


@pytest.mark.parametrize(
    ("line", "accepted", "rule"),
    [("replicas: 0", {"empty_ok": True}, "ready"), ("paused: true", {"on_paused": "accept"}, "accepted")],
)
def test_what_wants_no_pod_or_is_paused_may_be_meant(
    api: ApiServer, repo: Repository, context: dict[str, Any], line: str, accepted: dict[str, Any], rule: str
) -> None:
    chart(repo.folder / "web", deployment=DEPLOYMENT.replace("replicas: 2", line))
    repo.commit()
    with deployments_live(api):
        operator = task(HelmReleaseOperator, "helm4", deliverable=SHOP, environment="staging", **accepted)
        found = operator.execute(context)
        assert found["rule"] == rule
        context["ti"].run_id = "next"
        with pytest.raises(AirflowFailException):
            task(HelmReleaseOperator, "helm4", on_paused="fail", on_unknown="fail").execute(context)
    released = context["outlet_events"][SHOP.asset("release", "staging")].extra
    assert bool(released) is (rule == "ready"), "what is accepted without being ready is no release"


def test_fields_that_others_hold_are_told_by_object_field_and_owner(
    api: ApiServer, repo: Repository, context: dict[str, Any]
) -> None:
    """Helm 4 applies on the server."""
    with deployments_live(api):
        task(HelmReleaseOperator, "helm4").execute(context)
        written(api, f"/api/v1/namespaces/{NAMESPACE}/configmaps/web-config", {"data": {"greeting": "mine"}})
        replicas = {"spec": {"replicas": 7}}
        written(api, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web", replicas, "autoscaler")
        context["ti"].run_id = "next"
        operator = task(HelmReleaseOperator, "helm4", values={"greeting": "ours"}, on_failure="keep")
        with pytest.raises(AirflowFailException) as told:
            operator.execute(context)
    held = "ConfigMap shop/web-config: .data.greeting is kubectl-edit's; Deployment shop/web: .spec.replicas is autoscaler's"
    assert f"fields of the chart belong to others: {held} (the revision is recorded as failed)" in str(
        told.value
    )


def test_a_policy_that_is_none_is_refused() -> None:
    for bad in ({"on_paused": "never"}, {"on_unknown": "never"}, {"empty_ok": "yes"}):
        with pytest.raises(InvalidInput, match=next(iter(bad))):
            HelmReleaseOperator(task_id="bad", release="web", chart="./web", **bad)


def test_an_upgrade_tells_what_changes_and_no_secret(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chart(repo.folder / "web", config=CONFIG, secret=SECRET, deployment=DEPLOYMENT)
    repo.commit()
    for number, password in enumerate(("swordfish-1", "swordfish-2"), 1):
        monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": "generic", "password": password}))
        context["ti"].run_id = f"run-{number}"
        operator = task(
            HelmReleaseOperator,
            major,
            values={"greeting": f"ho {number}"},
            secret_values={"db.password": "db.password"},
        )
        with deployments_live(api):
            found = operator.execute(context)
    assert found["objects"] == {
        "added": [],
        "changed": ["Secret web-login", "ConfigMap web-config"],
        "removed": [],
    }
    assert api.read("secrets", NAMESPACE, "web-login")["stringData"] == {"password": "swordfish-2"}  # type: ignore[index]
    kept = evidence(tmp_path)
    assert "-  greeting: ho 1\n+  greeting: ho 2" in kept
    assert "-  password: '*** (before)'\n+  password: '*** (after)'" in kept
    assert "swordfish" not in kept + json.dumps(found)


def test_secrets_reach_helm_in_a_file_that_only_we_read(
    api: ApiServer, repo: Repository, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    run_ = Helm.run

    def watched(self: Helm, *arguments: str, **more: Any) -> Any:
        assert "swordfish-1" not in " ".join(arguments)
        for path in (self.place / "secrets.json", self.place / "kubeconfig"):
            if path.exists():
                seen.append((stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(self.place.stat().st_mode)))
        places.add(self.place)
        return run_(self, *arguments, **more)

    places: set[Path] = set()
    monkeypatch.setattr(Helm, "run", watched)
    monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": "generic", "password": "swordfish-1"}))
    with deployments_live(api):
        task(HelmReleaseOperator, "helm3", secret_values={"db.password": "db.password"}).execute(context)
    assert set(seen) == {(0o600, 0o700)}
    assert not any(place.exists() for place in places)


def test_what_does_not_come_to_life_is_recorded_and_rolled_back(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path
) -> None:
    with deployments_live(api, broken="bad"):
        task(HelmReleaseOperator, major).execute(context)
        context["ti"].run_id = "run-2"
        operator = task(HelmReleaseOperator, major, values={"image": "bad:2"})
        with pytest.raises(AirflowFailException, match="Rolled back from revision 2 to what revision 1 was"):
            operator.execute(context)
        assert image(api) == "registry.example.com/web:1"
        assert statuses(api) == ["superseded", "superseded", "deployed"]
        assert "Revision 2 of release shop/web failed" in evidence(tmp_path)
        assert "no such image" in evidence(tmp_path)
        with pytest.raises(AirflowFailException, match="revision 2 of this task was followed by revision 3"):
            operator.execute(context)
        context["ti"].run_id = "run-3"
        keeping = task(HelmReleaseOperator, major, values={"image": "bad:3"}, on_failure="keep")
        with pytest.raises(AirflowFailException, match="no such image"):
            keeping.execute(context)
        assert image(api) == "bad:3"


def test_a_first_release_that_fails_is_left_to_be_looked_at(
    api: ApiServer, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api, broken="web"), pytest.raises(AirflowFailException, match="no good revision"):
        task(HelmReleaseOperator, "helm4").execute(context)


def refusing_more(code: int, reason: str, said: str) -> Callable[[str, dict[str, Any]], None]:
    """Refuse one ConfigMap, as a cluster does."""

    def ask(plural: str, item: dict[str, Any]) -> None:
        if (plural, item["metadata"]["name"]) == ("configmaps", "more"):
            raise Refused(code, reason, said)

    return ask


def test_what_the_cluster_refuses_is_recorded_and_rolled_back(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path
) -> None:
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
        extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n"
        chart(repo.folder / "web", config=CONFIG, deployment=DEPLOYMENT, more=extra)
        repo.commit()
        context["ti"].run_id = "run-2"
        said = 'configmaps "more" is forbidden: User "web" cannot create resource "configmaps" in namespace "shop"'
        api.admission.append(refusing_more(403, "Forbidden", said))
        with pytest.raises(
            AirflowFailException, match=r"configmaps(?s:.*)Rolled back from revision 2 to what revision 1 was"
        ):
            task(HelmReleaseOperator, major).execute(context)
    assert statuses(api) == ["superseded", "failed", "deployed"]
    assert "Revision 2 of release shop/web failed" in evidence(tmp_path)
    (marked,) = [one for one in api.all("secrets") if "pipeops-failed" in one["metadata"]["labels"]]
    assert marked["metadata"]["labels"]["pipeops-failed"] == marked["metadata"]["labels"]["version"] == "2"


REFUSED: dict[str, tuple[int, str, str, str]] = {
    "a quota": (
        403, "Forbidden", 'configmaps "more" is forbidden: exceeded quota: small, requested: count/configmaps=1, used: 5',
        "no room.*small|quota small",
    ),
    "a webhook": (
        400, "BadRequest", 'admission webhook "policy.example.com" denied the request: no owner', "no owner",
    ),
    "a webhook that does not answer": (
        500, "InternalError", 'Internal error occurred: failed calling webhook "policy.example.com": failed to call: '
        'Post "https://policy.shop.svc:443/?timeout=10s": context deadline exceeded', "did not answer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "reason", "said", "told"), REFUSED.values(), ids=REFUSED)
def test_what_helm_says_of_a_refusal_is_told(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any],
    code: int, reason: str, said: str, told: str,
) -> None:  # fmt: skip
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
        extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n"
        chart(repo.folder / "web", config=CONFIG, deployment=DEPLOYMENT, more=extra)
        repo.commit()
        context["ti"].run_id = "run-2"
        api.admission.append(refusing_more(code, reason, said))
        with pytest.raises((AirflowFailException, PipeOpsError), match=told):
            task(HelmReleaseOperator, major).execute(context)
    assert api.read("configmaps", NAMESPACE, "more") is None
    assert image(api) == "registry.example.com/web:1"


def test_what_helm_says_of_a_namespace_that_goes_is_told(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    api.ending_namespaces.add(NAMESPACE)
    with pytest.raises((AirflowFailException, PipeOpsError), match="is being deleted"):
        task(HelmReleaseOperator, major).execute(context)
    assert api.all("secrets") == []


def test_a_retry_finds_what_is_there(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        first = task(HelmReleaseOperator, major).execute(context)
        again = task(HelmReleaseOperator, major).execute(context)
    assert (again["attached"], again["revision"], statuses(api)) == (True, 1, ["deployed"])
    assert {key: again[key] for key in ("manifest", "values", "chart", "objects")} == {
        key: first[key] for key in ("manifest", "values", "chart", "objects")
    }


def test_what_a_person_holds_is_left_alone(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path
) -> None:
    config = kubeconfig(tmp_path / "config", api.url)
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
        run(major, config, "upgrade", "web", str(repo.folder / "web"))
        _wedge(api, 2)
        before = api.all("secrets")
        for run_id in ("run-1", "run-2"):
            context["ti"].run_id = run_id
            with pytest.raises(
                AirflowFailException, match=r"revision 2 is pending-upgrade.*helm rollback web"
            ):
                task(HelmReleaseOperator, major).execute(context)
    assert api.all("secrets") == before


def _wedge(api: ApiServer, number: int) -> None:
    """Leave a revision as a Helm that was killed leaves it."""
    import base64
    import gzip

    def pend(item: dict[str, Any]) -> None:
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(item["data"]["release"]))))
        release["info"]["status"] = item["metadata"]["labels"]["status"] = "pending-upgrade"
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
        item["data"]["release"] = packed.decode()

    api.change("secrets", NAMESPACE, f"sh.helm.release.v1.web.v{number}", pend)


def test_a_task_that_is_ended_lets_helm_write_down_that_it_failed(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    operator = task(HelmReleaseOperator, major, on_failure="keep")
    # Helm cannot go on, since this request of it hangs.
    api.faults.append(Fault("delay", path="*/configmaps*", method="P*", seconds=20))
    ended = threading.Thread(
        target=lambda: (_until(lambda: bool(statuses(api))), operator.on_kill()), daemon=True
    )
    ended.start()
    with pytest.raises((AirflowFailException, PipeOpsError)):
        operator.execute(context)
    ended.join(60)
    api.faults.clear()
    assert statuses(api) == ["failed"]


def _until(so: Callable[[], bool]) -> None:
    while not so():
        time.sleep(0.01)


def test_it_goes_on_after_a_deferral(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    operator = task(HelmReleaseOperator, major, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    trigger = deferred.value.trigger
    path, arguments = trigger.serialize()
    assert "image" not in json.dumps(arguments["facts"])
    trigger = type(trigger)(**json.loads(json.dumps({**arguments, "dwell": 0.0})))
    with deployments_live(api):

        async def event() -> Any:
            async for one in trigger.run():
                return one.payload

        payload = asyncio.run(event())
    other = task(HelmReleaseOperator, major, deferrable=True)
    found = other.execute_complete(context, payload)
    assert (path.rpartition(".")[2], found["revision"], found["health"]) == (
        "ReleaseTrigger",
        1,
        "Healthy",
    )


def test_history_and_uninstall(api: ApiServer, major: str, repo: Repository, context: dict[str, Any]) -> None:
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
    (only,) = task(HelmHistoryOperator, major).execute(context)["revisions"]
    assert (only["revision"], only["status"], only["chart"], only["version"]) == (
        1,
        "deployed",
        "web",
        "1.2.3",
    )
    assert only["description"] == "dag / task / run-1"
    uninstall = task(HelmUninstallOperator, major)
    assert [uninstall.execute(context)["changed"] for _ in range(2)] == [True, False]
    assert api.all("deployments") == []
    assert task(HelmHistoryOperator, major).execute(context)["revisions"] == []


def test_what_finalizers_hold_is_told_when_a_release_is_uninstalled(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
    held = {"finalizers": ["example.com/audit"]}
    api.change("configmaps", NAMESPACE, "web-config", lambda item: item["metadata"].update(held))
    told = r"ConfigMap shop/web-config: finalizers hold it: example\.com/audit"
    with pytest.raises(
        AirflowFailException, match=f"release web is uninstalled, and 1 of its objects do not go: {told}"
    ):
        task(HelmUninstallOperator, major, gone_within=timedelta(0)).execute(context)
    assert api.all("deployments") == []
    with pytest.raises(
        AirflowFailException, match=told
    ):  # also whoever clears the task, or takes up a killed one
        task(HelmUninstallOperator, major, gone_within=timedelta(0)).execute(context)
    api.change("configmaps", NAMESPACE, "web-config", lambda item: item["metadata"].pop("finalizers"))
    done = task(HelmUninstallOperator, major).execute(context)
    assert (done["changed"], task(HelmHistoryOperator, major).execute(context)["revisions"]) == (True, [])


def test_revisions_are_kept_for_whoever_wants_them(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    with deployments_live(api):
        task(HelmReleaseOperator, major).execute(context)
    uninstall = task(HelmUninstallOperator, major, keep_history=True)
    assert [uninstall.execute(context)["changed"] for _ in range(2)] == [True, False]
    (only,) = task(HelmHistoryOperator, major).execute(context)["revisions"]
    assert only["status"] == "uninstalled"


def test_a_test_needs_a_release(api: ApiServer, repo: Repository, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="there is no release shop/web"):
        task(HelmTestOperator, "helm4").execute(context)
    with deployments_live(api):
        task(HelmReleaseOperator, "helm4").execute(context)
    with pytest.raises(AirflowFailException, match=r"brings no test.*empty_ok=True"):
        task(HelmTestOperator, "helm4").execute(context)
    found = task(HelmTestOperator, "helm4", empty_ok=True).execute(context)
    assert (found["tests"], found["passed"]) == (0, False), "nothing has passed where nothing ran"


HOOK = """\
apiVersion: batch/v1
kind: Job
metadata: {name: smoke, annotations: {helm.sh/hook: "post-upgrade, test"}}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: "curl:1"}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: smoke, annotations: {helm.sh/hook: test}}
"""


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_is_a_test_is_run_and_its_log_told(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], tmp_path: Path, code: int
) -> None:
    chart(repo.folder / "web", hook=HOOK, deployment=DEPLOYMENT)
    repo.commit()
    workloads = Workloads(api, lambda pod: [runs(), says("GET / was asked"), ends(code)])
    workloads.start()
    try:
        with deployments_live(api):
            task(HelmReleaseOperator, major).execute(context)
        operator = task(HelmTestOperator, major, helm_timeout=timedelta(seconds=20))
        if code:
            with pytest.raises(
                AirflowFailException, match=r"(?s)tests of release web failed.*GET / was asked"
            ):
                operator.execute(context)
        else:
            found = operator.execute(context)
            assert (found["tests"], found["passed"]) == (1, True)
    finally:
        workloads.stop()
    assert "GET / was asked" in evidence(tmp_path)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no program": ({"helm": "/no/helm"}, "Put Helm 3.17 or newer, or Helm 4, into the image"),
    "another program": ({"helm": "/bin/echo"}, "no Helm that serves"),
    "a name": ({"release": "No Name"}, "Lower-case letters"),
    "no chart": ({"chart": "./nothing"}, "no Chart.yaml"),
    "no repository": ({"chart": "web"}, "neither of a registry nor of a commit"),
    "no Git": ({"git_conn_id": None}, "no repository is given"),
    "a path out": ({"chart": "./../etc"}, "chart"),
    "a file": ({"values_files": ["no.yaml"]}, "no file 'no.yaml'"),
    "a secret": ({"secret_values": {"a": "db"}}, "a field of a connection"),
}


@pytest.mark.parametrize("version", ["v3.16.4", "v2.17.0", "v5.0.0"])
def test_a_version_that_does_not_serve_is_told_with_those_that_do(
    api: ApiServer, repo: Repository, context: dict[str, Any], tmp_path: Path, version: str
) -> None:
    program = tmp_path / "helm"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    with pytest.raises(
        AirflowFailException, match=rf"(?s)no Helm that serves.*{version}.*Helm 3\.17 or newer, or Helm 4"
    ):
        task(HelmReleaseOperator, "helm3", helm=str(program)).execute(context)


@pytest.mark.parametrize(("arguments", "told"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_before_anything_is_touched(
    api: ApiServer, repo: Repository, context: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told):
        task(HelmReleaseOperator, "helm3", **arguments).execute(context)
    assert api.all("secrets") == []


TEMPLATES: dict[str, tuple[str, str]] = {
    "required": ('a: {{ required "give me an a" .Values.a }}\n', "broken.yaml, line 1: give me an a"),
    "nothing there": ("a:\n  b: {{ .Values.a.b.c }}\n", "broken.yaml, line 2"),
    "no end": ("a: {{ if .Values.a }}\n", "broken.yaml"),
    "no YAML": ("a: [1\n", "broken.yaml"),
    "no such kind": (
        "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n", "no kind Thing in version example.com/v1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("template", "told"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_chart_that_does_not_render_is_told_by_its_line(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any], template: str, told: str
) -> None:
    chart(repo.folder / "web", broken=template)
    repo.commit()
    with pytest.raises(AirflowFailException, match=told):
        task(HelmReleaseOperator, major).execute(context)
    assert api.all("secrets") == []


def test_values_against_the_schema_are_told(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    schema = {"properties": {"replicas": {"type": "integer"}}}
    (repo.folder / "web" / "values.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    repo.commit()
    with pytest.raises(AirflowFailException, match=r"not what the chart's schema allows.*replicas"):
        task(HelmReleaseOperator, major, values={"replicas": "two"}).execute(context)


def test_the_program_is_found_on_the_path_and_by_the_connection(
    api: ApiServer, context: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "helm").symlink_to(helm("helm3"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    versions = []
    for path in ("", helm("helm4")):
        connection = json.loads(os.environ["AIRFLOW_CONN_CLUSTER"])
        connection["extra"]["helm_path"] = path
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps(connection))
        one = HelmOperator(task_id="task", release="web", kubernetes_conn_id="cluster")
        with one.opened() as opened:
            versions.append(opened.major)
    assert versions == [3, 4]
