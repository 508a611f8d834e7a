"""A Kubernetes API over real HTTP, controllers of Deployments and Rollouts against it, and an Airflow connection to it."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.deploy.objects import Object
from tests.kubernetes.apiserver import ApiServer, serving

KINDS = (
    ("apps", "v1", "deployments", True),
    ("argoproj.io", "v1alpha1", "rollouts", True),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("acme.example", "v1", "widgets", True),
    ("batch", "v1", "cronjobs"),
)


class Cluster:
    """What runs workloads: one step for each turn, and a turn whenever it is let."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self._stop, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: Images that never start, and digests that images run by in place of their own.
        self.broken: set[str] = set()
        self.runs: dict[str, str] = {}

    def start(self) -> Cluster:
        """Let the controllers work."""
        self._go.set()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End them."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def pause(self) -> None:
        """Let nobody work for a while."""
        self._go.clear()

    def go_on(self) -> None:
        """End the pause."""
        self._go.set()

    def make(self, kind: str, image: str = "shop/web:1", **spec: Any) -> Object:
        """Create a workload."""
        group, version, plural = ("apps", "v1", "deployments")
        if kind == "Rollout":
            group, version, plural = ("argoproj.io", "v1alpha1", "rollouts")
        whole = {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "web", "image": image}]}},
            **spec,
        }
        body = {
            "apiVersion": f"{group}/{version}",
            "kind": kind,
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": whole,
        }
        return self.api.put(group, version, plural, body)

    def set_image(self, plural: str, image: str) -> None:
        """Write another image into the template, as whoever applies does."""

        def write(item: Object) -> None:
            item["spec"]["template"]["spec"]["containers"][0]["image"] = image

        self.api.change(plural, "shop", "web", write)

    def get(self, plural: str) -> Object:
        """Return the workload as it is."""
        found = self.api.read(plural, "shop", "web")
        assert found is not None
        return found

    def until(self, plural: str, check: Callable[[Object], bool]) -> None:
        """Wait for a fact about the workload."""
        end = time.monotonic() + 120.0
        while not check(self.get(plural)):
            assert time.monotonic() < end, f"it never came true: {self.get(plural)}"
            time.sleep(0.005)

    # ---- controllers -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            if self._go.is_set():
                for plural, step in (("deployments", self._deployment), ("rollouts", self._rollout)):
                    self.api.change(plural, "shop", "web", step)

    def _deployment(self, item: Object) -> None:
        spec, status = item["spec"], item.setdefault("status", {})
        wanted, made = spec["replicas"], _hash(spec["template"])
        ready = wanted
        if not spec.get("paused"):
            ready = self._pods(spec["template"], wanted, made)
            status["hash"] = made
        same = status.get("hash") == made
        status.update(
            observedGeneration=item["metadata"]["generation"],
            replicas=wanted,
            updatedReplicas=wanted if same else 0,
            readyReplicas=ready,
            availableReplicas=ready,
        )

    def _rollout(self, item: Object) -> None:
        spec, status = item["spec"], item.setdefault("status", {})
        made, steps = _hash(spec["template"]), spec.get("strategy", {}).get("canary", {}).get("steps", [])
        status["observedGeneration"] = str(item["metadata"]["generation"])
        if spec.get("restartAt"):
            status["restartedAt"] = spec["restartAt"]
        if status.get("currentPodHash") != made:
            # Back to what is stable: there is nothing to go through step by step.
            first = status.get("stableRS", made) == made
            status.update(currentPodHash=made, currentStepIndex=len(steps) if first else 0, abort=False)
            for left in ("pauseConditions", "paused_at"):
                status.pop(left, None)
            if first:
                status["stableRS"] = made
        index = status.get("currentStepIndex", 0)
        if status.get("abort"):
            status.update(
                phase="Degraded", message="RolloutAborted: the update was aborted", currentStepIndex=0
            )
            return
        if status.pop("promoteFull", False):
            index = status["currentStepIndex"] = len(steps)
            status.pop("pauseConditions", None)
        if index < len(steps):
            if status.pop("paused_at", None) == index and not status.get("pauseConditions"):
                status["currentStepIndex"] = index + 1
                return
            status.update(phase="Paused", paused_at=index, pauseConditions=[{"reason": "CanaryPauseStep"}])
            return
        status["stableRS"] = made
        ready = self._pods(spec["template"], spec["replicas"], made)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), ready)
        status.update(counts, phase="Healthy" if ready == spec["replicas"] else "Progressing")

    def _pods(self, template: Object, wanted: int, made: str) -> int:
        """Bring the pods of a template about, and return how many are ready."""
        image = template["spec"]["containers"][0]["image"]
        name = image.partition("@")[0].partition(":")[0]
        digest = self.runs.get(image) or image.partition("@")[2] or f"sha256:{made * 4}"
        bad = image in self.broken
        pods = self.api.kinds["", "v1", "pods"]
        for key, pod in list(pods.objects.items()):
            if pod["metadata"]["labels"].get("hash") != made:
                self.api._delete(pods, pods.objects[key], {})
        for number in range(wanted):
            if ("shop", f"web-{made}-{number}") in pods.objects:
                continue
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
            container: Object = {"name": "web", "image": image, "imageID": f"docker.io/{name}@{digest}"}
            container["state"] = {"waiting": waiting} if bad else {"running": {}}
            container.update(ready=not bad, restartCount=3 * bad)
            said = [{"type": "Ready", "status": str(not bad)}]
            status = {"phase": "Running", "conditions": said, "containerStatuses": [container]}
            metadata = {"name": f"web-{made}-{number}", "namespace": "shop"}
            metadata["labels"] = {"app": "web", "hash": made}  # type: ignore[assignment]
            body = {"metadata": metadata, "spec": {"containers": [{"name": "web"}]}, "status": status}
            self.api.insert(pods, copy.deepcopy(body))
        return 0 if bad else wanted


def _hash(template: Object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The controllers, not started yet, and the connection ``kubernetes_default`` to their cluster."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": api.url}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": "token"}}],
    }
    extra = {"kube_config": json.dumps(config), "namespace": "shop"}
    connection = {"conn_type": "kubernetes", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
    found = Cluster(api)
    yield found
    found.stop()
