"""A contract with the original: some 400 objects through kstatus itself, and each difference is one that is meant."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_pipeops.deploy.readiness import judge
from tests import surroundings
from tests.deploy.objects import Object
from tests.deploy.test_readiness import TABLE, applied

#: What stands for which of our states.
SAME: dict[str, set[str]] = {
    "ready": {"Current"},
    "waiting": {"InProgress"},
    "failed": {"Failed"},
    "unknown": {"Unknown"},
}

_CUSTOM = {
    "BackendTLSPolicy",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "InferenceService",
    "Service",
    "Widget",
}
_TEXT = "an observedGeneration that is written as text is read as the number that it is"
_ROLLOUT = "the observedGeneration of a Rollout is a text, by which kstatus cannot judge it at all"
_NEW = "nobody has looked at it yet, or not at this generation of it"

#: (our rule, what kstatus says) -> the kinds where that may be, ``None`` for any; and why we judge otherwise.
MEANT: dict[tuple[str, str], tuple[set[str] | None, str]] = {
    ("aborted", "error"): ({"Rollout"}, _ROLLOUT),
    ("api_unavailable", "Current"): ({"APIService"}, "its server does not answer"),
    ("bad_image", "InProgress"): ({"Pod"}, "a name that is none will not become one"),
    ("condition_failed", "Current"): ({"Widget", "Workflow"}, "it says that it failed, in a word of its own"),
    ("condition", "Failed"): ({"Widget"}, "a Stalled of an older generation says nothing of this one"),
    ("degraded", "error"): ({"Rollout"}, _ROLLOUT),
    ("degraded", "Current"): ({"Application", "Widget"}, "it says so, in a word of its own"),
    ("deleting", "Current"): ({"Namespace"}, "a namespace that is terminating is not there for long"),
    ("deleting", "Terminating"): (None, "what was applied is on its way out, and will not come"),
    ("exists", "InProgress"): (
        {
            "ClusterServingRuntime",
            "ConfigMap",
            "DeviceClass",
            "FlowSchema",
            "Namespace",
            "Role",
            "ServingRuntime",
        },
        "what is stored is in force",
    ),
    ("held_back", "Current"): ({"StatefulSet"}, "its partition holds every pod at the version before"),
    ("serving", "InProgress"): ({"InferenceService"}, "the observed generation is that of its Deployment"),
    ("model_failed", "Current"): ({"InferenceService"}, "Ready stays true while the model before serves"),
    ("model_loading", "Current"): ({"InferenceService"}, "Ready stays true while the model before serves"),
    ("no_address", "Current"): ({"Ingress", "Service"}, "nobody reaches it"),
    ("no_cluster_ip", "Current"): ({"Service"}, "nobody reaches it"),
    ("no_parent", "Current"): ({"HTTPRoute"}, "a route without a parent leads nowhere"),
    ("not_accepted", "Current"): (_CUSTOM, "the Gateway API says it in words of its own"),
    ("not_approved", "Current"): ({"CertificateSigningRequest"}, "nobody has approved it"),
    ("not_ready", "Current"): ({"Widget"}, "a condition other than Ready that is false is no good news"),
    ("not_synced", "Current"): ({"Application"}, "Argo CD says it in words of its own"),
    ("not_signed", "Current"): ({"CertificateSigningRequest"}, "there is no certificate"),
    ("not_established", "Failed"): ({"CustomResourceDefinition"}, "the API server tries again"),
    ("not_observed", "Current"): (None, _NEW),
    ("not_observed", "error"): ({"Deployment", "Rollout"}, _TEXT),
    ("not_stable", "error"): ({"Rollout"}, _ROLLOUT),
    ("observed_generation", "error"): (
        {"Deployment", "Rollout"},
        "neither can be judged by what is no number",
    ),
    ("old_revision", "Current"): (_CUSTOM, "Ready stays true while the revision before serves"),
    ("old_pods", "Current"): ({"ReplicationController"}, "it has no rule of a ReplicationController"),
    ("paused", "Current"): ({"Application", "Deployment"}, "the next change of a paused one does not come"),
    ("paused", "error"): ({"Rollout"}, _ROLLOUT),
    ("pod_failed", "Current"): ({"Pod"}, "a failed pod runs nothing"),
    ("progressing", "Current"): ({"Application", "Widget"}, "its controller says that it is at work"),
    ("progressing", "error"): ({"Rollout"}, _ROLLOUT),
    ("reconciling", "error"): ({"Rollout"}, _ROLLOUT),
    ("restarting", "error"): ({"Rollout"}, _ROLLOUT),
    ("rolled_out", "InProgress"): (
        {"Deployment"},
        "counts are enough where no condition is told, as for kubectl",
    ),
    ("rolling_out", "Current"): (
        {"ReplicationController", "StatefulSet"},
        "old pods of OnDelete run the old version; available is more than ready; it has no rule of a ReplicationController",
    ),
    ("rolling_out", "error"): ({"Rollout"}, _ROLLOUT),
    ("running", "Current"): ({"Job", "Workflow"}, "what has begun has not ended"),
    ("scaling_inactive", "Current"): ({"HorizontalPodAutoscaler"}, "it cannot read its metrics"),
    ("settling", "Current"): (
        {"InferenceService", "Widget"},
        "a condition without a generation may be about the spec before, or be the first of several",
    ),
    ("stalled", "InProgress"): ({"InferenceService"}, "the observed generation is that of its Deployment"),
    ("stalled", "error"): ({"Rollout"}, _ROLLOUT),
    ("sync_failed", "Current"): ({"PodDisruptionBudget"}, "its controller says that it cannot be counted"),
    ("unable_to_scale", "Current"): ({"HorizontalPodAutoscaler"}, "it does not find what it scales"),
    ("unschedulable", "Failed"): ({"Pod"}, "an autoscaler takes minutes to bring a node"),
    ("volume_lost", "InProgress"): ({"PersistentVolumeClaim"}, "a lost volume does not come back by itself"),
    ("zero_replicas", "Current"): (None, "nothing runs, so nothing is shown to run"),
    ("zero_replicas", "error"): ({"Rollout"}, _ROLLOUT),
}


def _said(kind: str, status: str) -> Object:
    return {"type": kind, "status": status, "reason": "Said", "message": "as told"}


def _adds(condition: Object) -> Callable[[Object], None]:
    def change(item: Object) -> None:
        status = item.setdefault("status", {})
        status["conditions"] = [*status.get("conditions", ()), condition]

    return change


def _observes(change: Callable[[int], int | str]) -> Callable[[Object], None]:
    def write(item: Object) -> None:
        item.setdefault("status", {})["observedGeneration"] = change(item["metadata"]["generation"])

    return write


#: What may become of an object that is ready.
CHANGES: tuple[Callable[[Object], object], ...] = (
    lambda item: item.pop("status", None),
    lambda item: item.update(status={}),
    lambda item: item.update(status={"conditions": [_said("Ready", "False")]}),
    lambda item: item["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
    lambda item: item["spec"].update(paused=True),
    lambda item: item["spec"].update(replicas=0),
    lambda item: item["spec"].update(replicas=7),
    _observes(lambda generation: generation - 1),
    _observes(lambda generation: generation + 1),
    _observes(str),
    _adds(_said("Stalled", "True")),
    _adds(_said("Reconciling", "True")),
)


def objects() -> list[Object]:
    """Return the objects of the table, and what may become of the ready ones."""
    found = [item for item, _, _ in TABLE]
    kinds = {(item["apiVersion"], item["kind"]): item for item, state, _ in TABLE if state == "ready"}
    for item in kinds.values():
        for change in CHANGES:
            changed = copy.deepcopy(item)
            change(changed)
            found.append(changed)
    return found


@pytest.fixture(scope="module")
def kstatus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that asks kstatus, built for this run."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("the contract with kstatus needs Go, and there is none on this machine")
    program = tmp_path_factory.mktemp("kstatus") / "kstatus"
    built = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=Path(__file__).parent / "kstatus",
        env=surroundings.outside(),
        capture_output=True,
        text=True,
        timeout=840,
    )
    if built.returncode and ("dial tcp" in built.stderr or "i/o timeout" in built.stderr):
        pytest.skip("the contract with kstatus needs its Go module, which cannot be fetched")
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.timeout(900)
def test_each_difference_from_kstatus_is_meant(kstatus: Path) -> None:
    items = objects()
    assert len(items) > 300
    lines = "".join(json.dumps(item) + "\n" for item in items)
    answer = subprocess.run(
        [str(kstatus)], input=lines, capture_output=True, text=True, timeout=60, check=True
    )
    theirs = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(theirs) == len(items)
    assert {"Current", "InProgress", "Failed", "Terminating"} <= set(theirs)
    met, agreed, unmeant = set(), 0, []
    for item, said in zip(items, theirs, strict=True):
        ours = judge(item, applied(item))
        key = (ours.rule, said)
        as_text = isinstance(item.get("status", {}).get("observedGeneration"), str)
        if said in SAME[ours.state]:
            agreed += 1
        elif as_text and said == "error" and ours.state == "ready":
            met.add(("text", "error"))
        elif key in MEANT and (MEANT[key][0] is None or item["kind"] in (MEANT[key][0] or ())):
            met.add(key)
        else:
            unmeant.append(f"{item['kind']}: kstatus says {said}, we {ours}: {item}")
    assert not unmeant, "\n".join(unmeant)
    # A difference that is listed, and is none, is a line that misleads.
    stale = sorted(set(MEANT) - met)
    assert not stale, f"these are listed, and are none: {stale}"
    assert agreed > len(items) // 2
