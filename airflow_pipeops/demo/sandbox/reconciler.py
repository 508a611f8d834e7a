"""One look at an Application: desired against live, written down as its status."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from airflow_pipeops.demo.sandbox import autosync, spec
from airflow_pipeops.demo.sandbox.compare import ResourceState, app_health, compare, sync_status
from airflow_pipeops.demo.sandbox.faults import Faults
from airflow_pipeops.demo.sandbox.manifests import Manifest, adopt, hook_phases, images, owner
from airflow_pipeops.demo.sandbox.repository import Repositories, RepositoryError
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.store import Application, ApplicationStore
from airflow_pipeops.demo.sandbox.wire import REFRESH_ANNOTATION, SKIP_RECONCILE_ANNOTATION, now

_ERRORS = (
    "ComparisonError",
    "InvalidSpecError",
    "SyncError",
    "SharedResourceWarning",
    "RepeatedResourceWarning",
)


class Level(IntEnum):
    """How much a reconcile looks at."""

    #: Live objects changed: the desired state is the one compared with last.
    LIVE = 1
    #: The desired state is read again.
    COMPARE = 2
    #: As before, and an error of the repository is reported at once.
    FORCE = 3


@dataclass
class Comparison:
    """What a comparison found.

    :param revision: the commit, or the unresolved ``targetRevision`` where there was an error.
    :param targets: the desired state.
    :param states: one for each resource.
    :param source_type: how the desired state was rendered, as Argo CD names it.
    :param error: why the desired state could not be had.
    :param warnings: type and message of conditions to show that are no errors.
    """

    revision: str
    targets: list[Manifest] = field(default_factory=list)
    states: list[ResourceState] = field(default_factory=list)
    source_type: str = ""
    error: str = ""
    warnings: list[tuple[str, str]] = field(default_factory=list)


class Reconciler:
    """Compares Applications with the cluster, and starts operations by their policies.

    :param grace: seconds during which an error of the repository is not written down, unless a refresh was asked for.
    :param max_age: how old an answer of a repository may be, in seconds, for a look that nobody asked for.
    """

    def __init__(
        self,
        store: ApplicationStore,
        repositories: Repositories,
        cluster: Cluster,
        faults: Faults,
        *,
        grace: float = 180,
        max_age: float = 0.0,
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._cluster = cluster
        self._faults = faults
        self._grace = grace
        self._max_age = max_age
        self._failing_since: dict[str, float] = {}

    async def reconcile(self, name: str, level: Level) -> float | None:
        """Look at one Application; return the seconds after which to look again, if that is known."""
        application = self._store.get(name)
        if application is None:
            return None
        annotations = application["metadata"].get("annotations") or {}
        if annotations.get(SKIP_RECONCILE_ANNOTATION) == "true":
            return None
        asked = annotations.get(REFRESH_ANNOTATION)
        if asked and self._faults.strike("hang_refresh", app=name):
            return None
        if asked:
            level = Level.FORCE
        if asked == "hard":
            self._repositories.forget(spec.source(application).get("repoURL", ""))
        started = now()
        wrong = spec.problem(application)
        if wrong:
            self._store.update(name, lambda document: _write_invalid(document, wrong, asked))
            return None
        revision = self._known_revision(application) if level is Level.LIVE else None
        if level is Level.LIVE and revision is None:
            return None
        compared = (application.get("status", {}).get("sync") or {}).get("comparedTo") or {}
        new = level is Level.FORCE or compared.get("source") != spec.source(application)
        found = await self.compare(application, revision, 0.0 if new else self._max_age)
        if found.error and level < Level.FORCE and self._within_grace(name):
            return None
        if not found.error:
            self._failing_since.pop(name, None)
        return self._conclude(application, found, None if level is Level.LIVE else started, asked)

    async def compare(
        self, application: Application, revision: str | None = None, max_age: float = 0.0
    ) -> Comparison:
        """Compare desired with live.

        :param revision: a commit, branch or tag to take the desired state from; the Application's own by default.
        :param max_age: how old an answer of the repository may be, in seconds.
        :return: what was found; where the desired state cannot be had, the error and the live objects.
        """
        source = spec.source(application)
        name, wanted = application["metadata"]["name"], revision or source.get("targetRevision") or "HEAD"
        commit = wanted
        try:
            commit = await self._repositories.resolve(source["repoURL"], wanted, max_age=max_age)
            recurse = bool((source.get("directory") or {}).get("recurse"))
            rendered = await self._repositories.render(
                source["repoURL"], commit, source["path"], recurse=recurse
            )
        except RepositoryError as error:
            text = f"failed to generate manifest for source 1 of 1: rpc error: code = Unknown desc = {error}"
            return Comparison(
                commit, error=f"Failed to load target state: {text}", states=self._live_states(name)
            )
        targets = [adopt(manifest, name, spec.namespace(application)) for manifest in rendered.manifests]
        states = self.states(name, targets)
        found = Comparison(commit, targets, states, rendered.source_type, warnings=_warnings(targets, states))
        return found

    def states(self, name: str, targets: list[Manifest]) -> list[ResourceState]:
        """Return each resource's state as of now."""
        wanted = {Key.of(target) for target in targets}
        live = self._cluster.list(where=lambda one: Key.of(one) in wanted or owner(one) == name)
        return compare(name, targets, live, self._cluster.health, self._cluster.last_applied)

    def _live_states(self, name: str) -> list[ResourceState]:
        return self.states(name, [])

    def _known_revision(self, application: Application) -> str | None:
        sync = application.get("status", {}).get("sync", {})
        return sync.get("revision") if sync.get("status") in ("Synced", "OutOfSync") else None

    def _within_grace(self, name: str) -> bool:
        since = self._failing_since.setdefault(name, time.monotonic())
        return time.monotonic() - since < self._grace

    def _conclude(
        self, seen: Application, found: Comparison, started: str | None, asked: str | None
    ) -> float | None:
        later: list[float] = []

        def write(document: Application) -> None:
            # A spec that changed meanwhile is judged by the look that follows, not by this one.
            if not found.error and document["spec"] == seen["spec"]:
                decision = autosync.decide(document, found.revision, found.states, time.time())
            else:
                decision = autosync.Decision()
            conditions = list(found.warnings)
            if found.error:
                conditions.append(("ComparisonError", found.error))
            if decision.error:
                conditions.append(("SyncError", decision.error))
            _write_status(document, seen, found, started)
            _write_conditions(document, conditions)
            _consume_refresh(document, asked)
            if decision.later is not None:
                later.append(decision.later)
            if decision.operation:
                document["operation"] = decision.operation
                document["status"].pop("operationState", None)

        self._store.update(seen["metadata"]["name"], write)
        return later[0] if later else None


def _write_status(document: Application, seen: Application, found: Comparison, started: str | None) -> None:
    status = document.setdefault("status", {})
    status["sync"] = {
        "status": "Unknown" if found.error else sync_status(found.states),
        "comparedTo": {"source": spec.source(seen), "destination": seen["spec"]["destination"]},
        "revision": found.revision,
    }
    if not found.error or found.states:
        _write_health(status, app_health(found.states))
    else:
        _write_health(status, "Unknown")
    status["resources"] = [_unknown(state.describe(), found) for state in found.states]
    if found.source_type:
        status["sourceType"] = found.source_type
    live = [state.live for state in found.states if state.live]
    status["summary"] = {"images": sorted({image for item in live for image in images(item)})}
    if started:
        status["reconciledAt"] = started
    status.setdefault("history", [])


def _unknown(entry: dict[str, Any], found: Comparison) -> dict[str, Any]:
    """Without a desired state nobody can say that a live resource should go."""
    if found.error:
        entry.pop("requiresPruning", None)
        entry["status"] = "Unknown"
    return entry


def _write_health(status: dict[str, Any], health: str) -> None:
    before = status.get("health") or {}
    if before.get("status") != health:
        status["health"] = {"status": health, "lastTransitionTime": now()}


def _write_conditions(document: Application, wanted: list[tuple[str, str]]) -> None:
    status = document.setdefault("status", {})
    before = status.get("conditions") or []
    kept = [condition for condition in before if condition["type"] not in _ERRORS]
    for kind, message in wanted:
        same = [c for c in before if c["type"] == kind and c["message"] == message]
        kept.append(same[0] if same else {"type": kind, "message": message, "lastTransitionTime": now()})
    if kept:
        status["conditions"] = kept
    else:
        status.pop("conditions", None)


def _write_invalid(document: Application, wrong: str, asked: str | None) -> None:
    # As in Argo CD, reconciledAt does not move here, although the refresh counts as done.
    _write_conditions(document, [("InvalidSpecError", wrong)])
    status = document["status"]
    status["sync"] = {**(status.get("sync") or {}), "status": "Unknown"}
    _write_health(status, "Unknown")
    _consume_refresh(document, asked)


def _consume_refresh(document: Application, asked: str | None) -> None:
    annotations = document["metadata"].get("annotations") or {}
    # Only the request that this reconcile saw when it began.
    if asked and annotations.get(REFRESH_ANNOTATION) == asked:
        del annotations[REFRESH_ANNOTATION]


def _warnings(targets: list[Manifest], states: list[ResourceState]) -> list[tuple[str, str]]:
    found = []
    for state in states:
        if state.shared_with:
            text = f"{state.key} is part of applications {state.shared_with} and this one"
            found.append(("SharedResourceWarning", text))
    seen: dict[Key, int] = {}
    for target in targets:
        if target["metadata"].get("name") and not hook_phases(target):
            seen[Key.of(target)] = seen.get(Key.of(target), 0) + 1
    for key, times in seen.items():
        if times > 1:
            found.append(
                ("RepeatedResourceWarning", f"{key} appeared {times} times among application resources.")
            )
    return found
