"""Acts on a workload: what to write for each, and how its own writing is known again. Pure.

Each carries the token of its task's order, so that a retry finds what a worker did that died, and nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.seen import number
from airflow_pipeops.exceptions import InvalidInput

#: Kinds that can be acted on -> API version and plural.
WORKLOADS: dict[str, tuple[str, str]] = {
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "Rollout": ("argoproj.io/v1alpha1", "rollouts"),
}
RESTARTED = "airflow-pipeops/restarted"
PROMOTED = "airflow-pipeops/promoted"


@dataclass(frozen=True)
class Plan:
    """What an act comes to.

    :param reason: what is done, or why nothing is.
    :param patch: of the object; empty for none.
    :param status: patch of its status, to be written after that; empty for none.
    :param attached: this task has done it before.
    """

    reason: str
    patch: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None
    attached: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.patch or self.status)


#: Makes a plan of an object, the token of the order, and the time.
Act = Callable[[Mapping[str, Any], str, str], Plan]


def restart(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Replace all pods by new ones of the same version."""
    spec = map_(item.get("spec"))
    if item.get("kind") == "Rollout":
        if _annotations(item).get(RESTARTED) == token:
            return Plan("its restart was asked for before", attached=True)
        patch = {"metadata": {"annotations": {RESTARTED: token}}, "spec": {"restartAt": now}}
        return Plan("its pods are replaced", patch)
    if spec.get("paused") is True:
        raise _refused(item, "is paused: new pods would not come", "Resume it first.")
    if _annotations(map_(spec.get("template"))).get(RESTARTED) == token:
        return Plan("its restart was asked for before", attached=True)
    marks = {"kubectl.kubernetes.io/restartedAt": now, RESTARTED: token}
    return Plan("its pods are replaced", {"spec": {"template": {"metadata": {"annotations": marks}}}})


def pause(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Hold it where it is."""
    _only(item, "Deployment", "Rollout")
    if map_(item.get("spec")).get("paused") is True:
        return Plan("it is paused", attached=True)
    return Plan("it is paused now", {"spec": {"paused": True}})


def resume(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Let it go on; a Rollout that waits at a step of its own is promoted, and not resumed."""
    _only(item, "Deployment", "Rollout")
    if map_(item.get("spec")).get("paused") is not True:
        return Plan("it is not paused", attached=True)
    return Plan("it goes on", {"spec": {"paused": False}})


def promote(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Let a Rollout go on to its next step, once."""
    return _promoted(item, token, full=False)


def promote_fully(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Let a Rollout skip all steps, analyses and pauses that are left."""
    return _promoted(item, token, full=True)


def abort(item: Mapping[str, Any], token: str, now: str) -> Plan:
    """Take a Rollout back to the version that is stable; its spec stays, so it is Degraded then."""
    _only(item, "Rollout")
    status = map_(item.get("status"))
    if status.get("abort") is True:
        return Plan("it was aborted before", attached=True)
    if text(status.get("currentPodHash")) == text(status.get("stableRS")):
        return Plan("nothing is on its way")
    return Plan("it goes back to the version that is stable", status={"status": {"abort": True}})


def _promoted(item: Mapping[str, Any], token: str, *, full: bool) -> Plan:
    _only(item, "Rollout")
    spec, status = map_(item.get("spec")), map_(item.get("status"))
    current = text(status.get("currentPodHash"))
    if status.get("abort") is True:
        raise _refused(item, "was aborted", "Apply a version again; what was aborted is not promoted.")
    index = number(status.get("currentStepIndex")) or 0
    held = bool(maps(status.get("pauseConditions")))
    mark, _, before = text(_annotations(item).get(PROMOTED)).partition(" ")
    if mark == token:
        return _taken_up(before, index, current, held, status)
    if current == text(status.get("stableRS")) and not held and spec.get("paused") is not True:
        return Plan("nothing is on its way")
    mode = "full" if full else "pause" if held else "step" if _steps(spec) > index else "none"
    patch: dict[str, Any] = {"metadata": {"annotations": {PROMOTED: f"{token} {mode} {index} {current}"}}}
    if spec.get("paused") is True:
        patch["spec"] = {"paused": False}
    said = "it skips all steps that are left" if full else f"it goes on from step {index}"
    return Plan(said, patch, _status_of(mode, index))


def _taken_up(before: str, index: int, current: str, held: bool, status: Mapping[str, Any]) -> Plan:
    """Go on with a promotion that this task began: its first half is written, and perhaps its second."""
    mode, _, rest = before.partition(" ")
    written, _, meant = rest.partition(" ")
    then = number(written) or 0
    done = {
        "full": status.get("promoteFull") is True or current == text(status.get("stableRS")),
        "pause": index > then or not held,
        "step": index > then,
    }
    if meant != current or done.get(mode, True):
        return Plan("it was promoted before", attached=True)
    return Plan("its promotion is completed", status=_status_of(mode, then), attached=True)


def _status_of(mode: str, index: int) -> Mapping[str, Any] | None:
    patches: dict[str, Mapping[str, Any]] = {
        "full": {"status": {"promoteFull": True}},
        "pause": {"status": {"pauseConditions": None}},
        "step": {"status": {"pauseConditions": None, "currentStepIndex": index + 1}},
    }
    return patches.get(mode)


def _steps(spec: Mapping[str, Any]) -> int:
    return len(maps(map_(map_(spec.get("strategy")).get("canary")).get("steps")))


def _annotations(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return map_(map_(item.get("metadata")).get("annotations"))


def _only(item: Mapping[str, Any], *kinds: str) -> None:
    if item.get("kind") not in kinds:
        raise _refused(item, "knows no such act", f"It is for {' and '.join(kinds)}.")


def _refused(item: Mapping[str, Any], why: str, remedy: str) -> InvalidInput:
    name = text(map_(item.get("metadata")).get("name"))
    return InvalidInput(f"{text(item.get('kind'))} {name} {why}", field="name", value=name, remedy=remedy)
