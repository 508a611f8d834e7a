"""A Kubernetes API over real HTTP, Flux's controllers against it in a thread, and an Airflow connection to it."""

from __future__ import annotations

import copy
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from airflow_pipeops.flux.kinds import KINDS
from tests.flux.world import (
    HelmController,
    KustomizeController,
    SourceController,
    World,
    helm_release,
    kustomization,
    repository,
)
from tests.kubernetes.apiserver import ApiServer, serving

NAMESPACE = "flux-system"


class Flux:
    """The controllers, and the cluster that they work on.

    :param world: what is outside of them.
    """

    def __init__(self, api: ApiServer) -> None:
        self.api, self.world = api, World()
        self.sources, self.kustomize = SourceController(self.world), KustomizeController(self.world)
        self.helm = HelmController(self.world)
        self._http = httpx.Client(base_url=api.url, headers={"Authorization": "Bearer controller"}, timeout=5)
        self._stop, self._pause, self._turn = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.pace = 0.005
        self.trouble, self.told = "", 0
        api.tokens["controller"] = lambda *_: True

    # ---- what a test does ----------------------------------------------------------------------------------------------

    def install(self, *, wait: bool = True, helm: bool = False, depends: bool = False) -> None:
        """Create a GitRepository, a Kustomization, and perhaps a HelmRelease."""
        self.world.wait = wait
        made = [repository(), kustomization(wait=wait, depends=depends), *([helm_release()] if helm else [])]
        for item in made:
            self.api.put(*KINDS[item["kind"]], item)

    def start(self) -> Flux:
        """Let the controllers work."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End them."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._http.close()

    def pause(self) -> None:
        """Stall them; what they were about to write is written then."""
        self._pause.set()
        with self._turn:
            pass

    def go_on(self) -> None:
        """End the stall."""
        self._pause.clear()

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        found = self.api.read(KINDS[kind][2], NAMESPACE, name)
        assert found is not None
        return found

    def set(self, kind: str, name: str, **parts: Any) -> None:
        """Replace parts of a spec."""
        self.api.change(KINDS[kind][2], NAMESPACE, name, lambda item: item["spec"].update(parts))

    def until(self, check: Callable[[], bool], seconds: float = 120.0) -> None:
        """Wait for a fact."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, (
                f"it never came true; the controllers say: {self.trouble or 'nothing'}"
            )
            time.sleep(0.005)

    def until_ready(self, kind: str = "Kustomization", name: str = "apps", commit: str = "") -> None:
        """Wait until an object is ready, at a commit if one is named."""

        def ready() -> bool:
            status = self.get(kind, name)["status"]
            said = {one["type"]: one["status"] for one in status.get("conditions", [])}
            return said.get("Ready") == "True" and commit in status.get("lastAppliedRevision", "")

        self.until(ready)

    # ---- what the controllers do ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            time.sleep(self.pace)
            with self._turn:
                if self._pause.is_set():
                    continue
                self.world.now += 1
                self.sources.due = True
                try:
                    self._tick()
                except (httpx.HTTPError, KeyError) as error:
                    self.trouble = repr(error)
                    self._forget()

    def _tick(self) -> None:
        source = self._list("GitRepository").get("deploy")
        item = self._list("Kustomization").get("apps")
        release = self._list("HelmRelease").get("api")
        if source is not None:
            self._step(source, lambda one: self.sources.step(one))
        if item is not None:
            wanted = copy.deepcopy(release)
            self._step(item, lambda one: self.kustomize.step(one, source, wanted))
            while self.world.finished:
                self._tell(self.world.finished.pop())
            if release is not None and wanted is not None and wanted["spec"] != release["spec"]:
                self._patch(release, {"spec": wanted["spec"]})
                return
        if release is not None and self.world.release_spec:
            self._step(release, lambda one: self.helm.step(one))

    def _step(self, item: dict[str, Any], step: Callable[[dict[str, Any]], None]) -> None:
        after = copy.deepcopy(item)
        step(after)
        if after["status"] != item["status"]:
            gone = {name: None for name in item["status"] if name not in after["status"]}
            self._patch(item, {"status": {**after["status"], **gone}}, "/status")

    def _tell(self, revision: str) -> None:
        """Write the event of a reconciliation that ended well."""
        self.told += 1
        about = {"kind": "Kustomization", "name": "apps", "namespace": NAMESPACE}
        annotations = {"kustomize.toolkit.fluxcd.io/revision": revision}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = {
            "metadata": {"name": f"apps.{self.told}", "namespace": NAMESPACE, "annotations": annotations},
            "involvedObject": about,
            "reason": "ReconciliationSucceeded",
            "message": f"Reconciliation finished in {self.told}ms, next run in 10m0s",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": "Normal",
        }
        self.api.put("", "v1", "events", event)

    def _list(self, kind: str) -> dict[str, dict[str, Any]]:
        answer = self._http.get(self._path(kind))
        answer.raise_for_status()
        found = {item["metadata"]["name"]: {**item, "kind": kind} for item in answer.json()["items"]}
        for item in found.values():
            item.setdefault("status", {})
        return found

    def _patch(self, item: dict[str, Any], patch: dict[str, Any], sub: str = "") -> None:
        version = {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}}
        answer = self._http.patch(
            f"{self._path(item['kind'])}/{item['metadata']['name']}{sub}",
            content=json.dumps({**patch, **version}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        if answer.status_code == 409:
            # Somebody else was quicker, an annotation perhaps: from the beginning, as the real ones.
            return self._forget()
        answer.raise_for_status()

    def _forget(self) -> None:
        for controller in (self.kustomize, self.helm):
            controller.phase, controller.due = "idle", True
        self.kustomize.revision = ""

    def _path(self, kind: str) -> str:
        group, version, plural = KINDS[kind]
        return f"/apis/{group}/{version}/namespaces/{NAMESPACE}/{plural}"


@pytest.fixture(scope="session")
def warm() -> None:
    """Import what reads connections: it takes seconds, and no test is about that."""
    importlib.import_module("airflow.providers.cncf.kubernetes.hooks.kubernetes")


@pytest.fixture
def api(warm: None) -> Iterator[ApiServer]:
    with serving(*((*place, True) for place in KINDS.values()), bookmarks=0.1) as server:
        yield server


@pytest.fixture
def flux(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flux]:
    """The controllers, not started yet, and the connection ``kubernetes_default`` to their cluster."""
    connect(monkeypatch, api.url)
    made = Flux(api)
    yield made
    made.stop()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, token: str = "token") -> None:
    """Make the connection ``kubernetes_default``."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": token}}],
    }
    extra = {"kube_config": json.dumps(config), "namespace": NAMESPACE}
    connection = {"conn_type": "kubernetes", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
