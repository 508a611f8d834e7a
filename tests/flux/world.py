"""Flux in small: a Git branch, and the three controllers, step by step as the real ones write their statuses.

Pure: objects are dictionaries. A test moves it by hand, or a thread does so over HTTP. Beside what the controllers *say* it
keeps what is *true*: which commit is in the cluster, and whether it is healthy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

REQUESTED = "reconcile.fluxcd.io/requestedAt"
Obj = dict[str, Any]


@dataclass
class Commit:
    """A commit of the desired state, and what will come of it.

    :param build: ``ok``, ``path`` (it is not there) or ``bad``.
    :param apply: the cluster accepts it.
    :param health: after how many failed attempts it becomes healthy; ``None`` for never.
    :param chart: chart version that it sets for the release.
    """

    sha: str
    build: str = "ok"
    apply: bool = True
    health: int | None = 0
    chart: str = "1.0.0"


@dataclass
class World:
    """Everything outside the controllers.

    :param now: seconds; statuses hold whole ones.
    :param wait: the Kustomization waits for health.
    :param charts: of each chart version, after how many failed attempts it installs; ``None`` for never.
    :param retries: attempts that the release makes after the first; ``rollback``: and undoes each that failed.
    """

    wait: bool = True
    retries: int = 1
    rollback: bool = True
    now: float = 1_000_000.0
    commits: list[Commit] = field(default_factory=list)
    charts: dict[str, int | None] = field(default_factory=dict)
    fetches: bool = True
    dependency_ready: bool = True
    cancels: bool = False
    #: The truth.
    applied: str = ""
    applied_generation: int = 0
    healthy: str = ""
    released: str = ""
    release_spec: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    chart_failures: list[str] = field(default_factory=list)

    def commit(self, **what: Any) -> Commit:
        """Push a commit."""
        sha = hashlib.sha1(f"commit {len(self.commits)}".encode()).hexdigest()
        made = Commit(sha, **what)
        self.commits.append(made)
        return made

    def find(self, revision: str) -> Commit:
        """Return the commit of a revision."""
        return next(one for one in self.commits if revision.endswith(one.sha))

    def contains(self, expected: str, sha: str) -> bool:
        """Whether one commit includes another; the branch is a line."""
        order = [one.sha for one in self.commits]
        return order.index(sha) >= order.index(expected)

    def stamp(self) -> str:
        """Return the time as a status holds it."""
        whole = int(self.now)
        return f"2026-{1 + whole // 86400 % 12:02d}-01T{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}Z"


class Controller:
    """What all controllers do with conditions and requests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.phase = "idle"
        self.due = False
        self.seen: Any = None

    def mark(self, item: Obj, kind: str, status: str, reason: str, message: str = "") -> None:
        """Set a condition as ``fluxcd/pkg`` does: the time changes with what it says, the generation always."""
        said = item["status"].setdefault("conditions", [])
        old = next((one for one in said if one["type"] == kind), None)
        new = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": self.generation(item),
            "lastTransitionTime": self.world.stamp(),
        }
        if old is not None:
            if all(old[part] == new[part] for part in ("status", "reason", "message")):
                new["lastTransitionTime"] = old["lastTransitionTime"]
            said.remove(old)
        said.append(new)

    def generation(self, item: Obj) -> int:
        """Return the generation that is being worked on, or was last."""
        return int(item["metadata"]["generation"] if self.seen is None else self.seen)

    def drop(self, item: Obj, *kinds: str) -> None:
        """Delete conditions."""
        item["status"]["conditions"] = [
            one for one in item["status"].get("conditions", []) if one["type"] not in kinds
        ]

    def busy(self, item: Obj, message: str, reason: str = "Progressing") -> None:
        """Say what is being done; that ends a stall."""
        self.drop(item, "Stalled")
        self.mark(item, "Reconciling", "True", reason, message)

    def condition(self, item: Obj, kind: str) -> Obj:
        """Return a condition."""
        return next((one for one in item["status"].get("conditions", []) if one["type"] == kind), {})

    def handle(self, item: Obj) -> None:
        """Answer the request that is there now, whenever it came."""
        token = (item["metadata"].get("annotations") or {}).get(REQUESTED)
        if token:
            item["status"]["lastHandledReconcileAt"] = token

    def asked(self, item: Obj) -> bool:
        """Whether there is a request that was not answered."""
        token = (item["metadata"].get("annotations") or {}).get(REQUESTED)
        return bool(token) and token != item["status"].get("lastHandledReconcileAt")


class SourceController(Controller):
    """Fetches the branch."""

    def step(self, item: Obj) -> None:
        """Fetch once, if it is time or somebody asks."""
        if item["spec"].get("suspend") or not (self.due or self.asked(item)):
            return
        self.due = False
        if not self.world.fetches:
            self.mark(item, "FetchFailed", "True", "GitOperationFailed", "authentication required")
            self.mark(item, "Ready", "False", "GitOperationFailed", "authentication required")
        elif self.world.commits:
            self.drop(item, "FetchFailed")
            item["status"]["artifact"] = {"revision": f"main@sha1:{self.world.commits[-1].sha}"}
            self.mark(item, "Ready", "True", "Succeeded", "stored artifact")
            item["status"]["observedGeneration"] = item["metadata"]["generation"]
        self.handle(item)


class KustomizeController(Controller):
    """Builds, applies, and waits for health."""

    revision = ""

    def step(self, item: Obj, source: Obj | None, release: Obj | None = None) -> None:
        """Do the next thing, if there is one."""
        getattr(self, f"_{self.phase}")(item, source, release)

    def _idle(self, item: Obj, source: Obj | None, _: Any) -> None:
        if item["spec"].get("suspend"):
            if self.condition(item, "Ready").get("status") == "True":
                # As the real one: a suspended object's observed generation moves while its conditions stand still.
                item["status"]["observedGeneration"] = item["metadata"]["generation"]
            self.handle(item)
            return
        held = ((source or {}).get("status", {}).get("artifact") or {}).get("revision", "")
        changed = held and held != item["status"].get("lastAttemptedRevision") and held != self.revision
        if not (self.due or changed or self.asked(item) or self.seen != item["metadata"]["generation"]):
            return
        self.due, self.seen = False, item["metadata"]["generation"]
        if not held:
            return self._failed(item, "ArtifactFailed", "Source artifact not found")
        if item["spec"].get("dependsOn") and not self.world.dependency_ready:
            self.due = True
            return self._failed(item, "DependencyNotReady", "dependency 'flux-system/crds' is not ready")
        self.revision = held
        self.mark(item, "Ready", "Unknown", "Progressing", "Reconciliation in progress")
        self._say(item, "Fetching manifests")
        self.phase = "fetch"

    def _fetch(self, item: Obj, *_: Any) -> None:
        if self.world.find(self.revision).build == "path":
            return self._failed(item, "ArtifactFailed", "kustomization path not found")
        item["status"]["lastAttemptedRevision"] = self.revision
        self._say(item, "Building manifests")
        self.phase = "build"

    def _build(self, item: Obj, *_: Any) -> None:
        if self.world.find(self.revision).build == "bad":
            return self._failed(item, "BuildFailed", "kustomize build failed")
        self._say(item, "Detecting drift")
        self.phase = "apply"

    def _apply(self, item: Obj, _: Any, release: Obj | None) -> None:
        commit = self.world.find(self.revision)
        if not commit.apply:
            return self._failed(item, "ReconciliationFailed", "admission webhook denied the request")
        if self.world.applied != commit.sha:
            self.world.applied, self.world.healthy = commit.sha, ""
        self.world.applied_generation = self.generation(item)
        if release is not None:
            self.world.release_spec = commit.sha
            if release["spec"]["chart"] != commit.chart:
                release["spec"]["chart"] = commit.chart
                release["metadata"]["generation"] += 1
        if not self.world.wait:
            return self._done(item)
        self._say(item, "Running health checks")
        self.phase = "health"

    def _health(self, item: Obj, source: Obj | None, _: Any) -> None:
        commit = self.world.find(self.revision)
        held = ((source or {}).get("status", {}).get("artifact") or {}).get("revision", "")
        if self.world.cancels and held and held != self.revision:
            self.due = True
            return self._failed(item, "HealthCheckCanceled", "New reconciliation triggered by GitRepository")
        bad = sum(sha == commit.sha and why == "HealthCheckFailed" for sha, why in self.world.failures)
        if commit.health is None or bad < commit.health:
            return self._failed(
                item,
                "HealthCheckFailed",
                "health check failed after 30s: timeout waiting for: [Deployment/apps/api status: 'InProgress']",
            )
        self.world.healthy = commit.sha
        self._done(item)

    def _done(self, item: Obj) -> None:
        item["status"]["lastAppliedRevision"] = self.revision
        self.world.finished.append(self.revision)
        self.mark(item, "Ready", "True", "ReconciliationSucceeded", f"Applied revision: {self.revision}")
        self.drop(item, "Reconciling")
        item["status"]["observedGeneration"] = self.generation(item)
        self.handle(item)
        self.phase = "idle"

    def _failed(self, item: Obj, reason: str, message: str) -> None:
        if self.phase != "idle":
            self.world.failures.append((self.world.find(self.revision).sha, reason))
        self.mark(item, "Ready", "False", reason, message)
        working = self.condition(item, "Reconciling")
        if working:
            self.mark(item, "Reconciling", "True", "ProgressingWithRetry", working["message"])
        self.handle(item)
        self.phase = "idle"

    def _say(self, item: Obj, what: str) -> None:
        self.busy(item, f"{what} for revision {self.revision} with a timeout of 30s")


class HelmController(Controller):
    """Upgrades the release, undoes what failed, and gives up."""

    def step(self, item: Obj) -> None:
        """Do the next thing, if there is one."""
        getattr(self, f"_{self.phase}")(item)

    def _idle(self, item: Obj) -> None:
        generation = item["metadata"]["generation"]
        if item["spec"].get("suspend"):
            self.handle(item)
            return
        if not (self.due or self.asked(item) or self.seen != generation):
            return
        if self.seen != generation:
            item["status"].update(failures=0, upgradeFailures=0)
        self.due, self.seen = False, generation
        self.busy(item, "Fulfilling prerequisites")
        self.phase = "check"

    def _check(self, item: Obj) -> None:
        chart, status = item["spec"]["chart"], item["status"]
        history = status.setdefault("history", [])
        status.update(
            lastAttemptedGeneration=self.generation(item),
            lastAttemptedRevision=chart,
            lastAttemptedConfigDigest="sha256:v",
        )
        if history and history[0]["chartVersion"] == chart and history[0]["status"] == "deployed":
            self.drop(item, "Reconciling", "Remediated")
            self.mark(item, "Ready", "True", "UpgradeSucceeded", f"in sync with {chart}")
            return self._over(item)
        if status.get("upgradeFailures", 0) > self.world.retries:
            return self._give_up(item)
        running = "Running 'upgrade' action with timeout of 5m0s"
        self.busy(item, running)
        self.mark(item, "Ready", "Unknown", "Progressing", running)
        self.phase = "action"

    def _action(self, item: Obj) -> None:
        chart, status = item["status"]["lastAttemptedRevision"], item["status"]
        needed = self.world.charts.get(chart, 0)
        if needed is None or self.world.chart_failures.count(chart) < needed:
            self.world.chart_failures.append(chart)
            self.world.released = ""
            self._snapshot(item, chart, "failed")
            status["failures"] = status.get("failures", 0) + 1
            status["upgradeFailures"] = status.get("upgradeFailures", 0) + 1
            self.mark(item, "Released", "False", "UpgradeFailed", "Helm upgrade failed: timed out")
            self.mark(item, "Ready", "False", "UpgradeFailed", "Helm upgrade failed: timed out")
            self.phase = "remediate" if self.world.rollback else "retry"
            return
        self._snapshot(item, chart, "deployed")
        self.world.released = chart
        status.update(failures=0, upgradeFailures=0)
        self.drop(item, "Remediated", "Reconciling")
        self.mark(item, "Released", "True", "UpgradeSucceeded", f"upgraded to {chart}")
        self.mark(item, "Ready", "True", "UpgradeSucceeded", f"upgraded to {chart}")
        self._over(item)

    def _remediate(self, item: Obj) -> None:
        good = next(
            (one for one in item["status"]["history"] if one["status"] in ("deployed", "superseded")), None
        )
        if good is None:
            self.mark(item, "Remediated", "True", "UninstallSucceeded", "uninstalled")
            self.mark(item, "Ready", "False", "UninstallSucceeded", "uninstalled")
        else:
            self._snapshot(item, good["chartVersion"], "deployed")
            self.world.released = good["chartVersion"]
            self.mark(item, "Remediated", "True", "RollbackSucceeded", "rolled back")
            self.mark(item, "Ready", "False", "RollbackSucceeded", "rolled back")
        self.phase = "retry"

    def _retry(self, item: Obj) -> None:
        if item["status"]["upgradeFailures"] > self.world.retries:
            return self._give_up(item)
        self.busy(item, self.condition(item, "Ready")["message"], "ProgressingWithRetry")
        self.due, self.phase = True, "idle"
        self.handle(item)

    def _give_up(self, item: Obj) -> None:
        self.drop(item, "Reconciling")
        self.mark(item, "Stalled", "True", "RetriesExceeded", "Failed to upgrade")
        self._over(item)

    def _over(self, item: Obj) -> None:
        item["status"]["observedGeneration"] = self.generation(item)
        self.handle(item)
        self.phase = "idle"

    def _snapshot(self, item: Obj, chart: str, status: str) -> None:
        history = item["status"]["history"]
        for one in history:
            if one["status"] == "deployed":
                one["status"] = "superseded"
        number = max([one["version"] for one in history], default=0) + 1
        history.insert(
            0,
            {
                "chartName": "api",
                "chartVersion": chart,
                "configDigest": "sha256:v",
                "status": status,
                "version": number,
            },
        )


def repository() -> Obj:
    """Return a GitRepository that was just created."""
    return _new(
        "GitRepository", "deploy", {"url": "https://git.example.com/team/deploy", "ref": {"branch": "main"}}
    )


def kustomization(*, wait: bool = True, depends: bool = False) -> Obj:
    """Return a Kustomization that was just created."""
    spec = {"wait": wait, "sourceRef": {"kind": "GitRepository", "name": "deploy"}, "interval": "10m"}
    return _new("Kustomization", "apps", {**spec, "dependsOn": [{"name": "crds"}] if depends else []})


def helm_release() -> Obj:
    """Return a HelmRelease that the Kustomization applies."""
    made = _new("HelmRelease", "api", {"chart": "", "interval": "5m", "driftDetection": {"mode": "enabled"}})
    made["metadata"]["labels"] = {
        "kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
    return made


def _new(kind: str, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "namespace": "flux-system", "generation": 1, "uid": f"uid-{name}"}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": {}}
