"""What a Job and its pod say: still at it, done, or failed, and then why. Pure.

The words of the kubelet, the scheduler and the Job controller are read here and nowhere else. Whatever is said twice is
told once, and in the order in which it explains: that a node went away explains the exit code, and not the other way
around.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text, whole
from airflow_pipeops.build.cluster.pods import MAIN
from airflow_pipeops.build.cluster.steps import unreachable
from airflow_pipeops.git.process import passing
from airflow_pipeops.kubernetes.errors import UNANSWERED
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.rules import fail, recreated, wait
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed

#: What is wrong at the first look may be mended by the next: an image, a Secret, a webhook. Seconds.
PATIENCE = 60.0
#: Why a container waits: for its image, which may come; for what it needs, which may come; for nothing that could come.
_PULLING = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError")
_ARRANGING = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "SignatureValidationFailed",
)
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull")
#: Why a pod was taken away: by its kubelet, and by the controllers of nodes.
_TAKEN = (
    "Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Terminated", "Shutdown", "NodeAffinity",
    "UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage",
)  # fmt: skip
_CANNOT_RUN = ("ContainerCannotRun", "StartError")
#: After the event that says why an image does not come, the kubelet tells another with the name of the state alone.
_STATE = re.compile(r"Error: \w+")
_MISSING = re.compile(r"(secret|configmap) \"[^\"]+\" not found|references non-existent (secret|config) key")
#: Rules by which a wait fails that another attempt may pass.
LOST = frozenset(
    {
        *("lost", "gone", "quota", "unschedulable", "starting", "suspended"),
        *("image_unreachable", "source_unreachable", "webhook_unreachable"),
    }
)
#: Rules by which the work itself has ended, however it did; the others say that it could not be done.
ENDED = frozenset({"complete", "exit", "too_long"})


@dataclass(frozen=True)
class Ended:
    """How a container ended.

    :param name: of the container.
    :param code: exit code.
    :param reason: what the kubelet calls it.
    :param message: its last words.
    :param began: when it began, as the kubelet writes it.
    :param at: when it ended.
    """

    name: str
    code: int
    reason: str = ""
    message: str = ""
    began: str = ""
    at: str = ""


@dataclass(frozen=True)
class Seen:
    """A Job, its pod, and what was said about them.

    :param job: the Job.
    :param pod: the newest of its pods; nothing where there is none.
    :param events: about both, the latest last.
    :param startup: seconds for which its pod may not run yet.
    """

    job: Mapping[str, Any]
    pod: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]] = ()
    startup: float = 600.0

    @property
    def phase(self) -> str:
        """The phase of the pod."""
        return text(map_(self.pod.get("status")).get("phase"))

    @property
    def condition(self) -> Mapping[str, Any]:
        """The condition that ends the Job; nothing while it has not ended."""
        conditions = maps(map_(self.job.get("status")).get("conditions"))
        ends = (
            one
            for one in conditions
            if one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        )
        return next(ends, {})

    def containers(self) -> Iterator[Mapping[str, Any]]:
        """The state of each container, in the order in which they begin."""
        status = map_(self.pod.get("status"))
        yield from maps(status.get("initContainerStatuses"))
        yield from maps(status.get("containerStatuses"))

    def ended(self) -> list[Ended]:
        """The containers that have ended."""
        found = []
        for one in self.containers():
            end = map_(map_(one.get("state")).get("terminated"))
            if end:
                code = whole(end.get("exitCode"))
                found.append(
                    Ended(
                        text(one.get("name")),
                        -1 if code is None else code,
                        text(end.get("reason")),
                        text(end.get("message")),
                        text(end.get("startedAt")),
                        text(end.get("finishedAt")),
                    )
                )
        return found

    def waiting(self) -> Iterator[tuple[Mapping[str, Any], str, str]]:
        """The containers that have not begun: their state, and why, in two lengths."""
        for one in self.containers():
            state = map_(map_(one.get("state")).get("waiting"))
            if state:
                yield one, text(state.get("reason")), text(state.get("message"), 600)

    def end_of(self, container: str) -> Ended | None:
        """Return how a container ended, if it did."""
        return next((one for one in self.ended() if one.name == container), None)

    def image_of(self, container: str) -> str:
        """Return the image that a container is made of, by digest, as the kubelet says it; empty before it began."""
        for one in self.containers():
            if one.get("name") == container:
                return text(one.get("imageID")).removeprefix("docker-pullable://")
        return ""

    def told(self, *reasons: str) -> str:
        """Return the last message of an event for one of these reasons; one that only repeats a state explains nothing."""
        said = [text(event.get("message"), 600) for event in self.events if event.get("reason") in reasons]
        return next((one for one in reversed(said) if not _STATE.fullmatch(one)), said[-1] if said else "")


# ---- rules ---------------------------------------------------------------------------------------------------------------


def _deleted(look: Look) -> Verdict | None:
    if not look.observed.deleting:
        return None
    return fail("deleted", f"{look.observed.called} was deleted while it was waited for")


def _complete(look: Look) -> Verdict | None:
    seen = seen_in(look)
    if seen.condition.get("type") != "Complete" and seen.phase != "Succeeded":
        return None
    if not seen.pod:  # what it has made, or reported, nobody can tell any more
        return fail("gone", "it has ended well, and its pod is gone, with its last words and its log")
    return Verdict("done", "complete", "it has ended well")


def _failed(look: Look) -> Verdict | None:
    seen = seen_in(look)
    reason = text(seen.condition.get("reason"))
    if not seen.condition and seen.phase != "Failed":
        return None
    if reason == "DeadlineExceeded" or _pod_reason(seen) == "DeadlineExceeded":
        if not seen.pod or any(seen.waiting()):
            return fail("starting", "it never began within the time that the Job was given" + _after(seen))
        return fail("too_long", "it did not end within its time, and was stopped")
    return _taken(seen) or _broken(seen) or _unexplained(seen)


def _taken(seen: Seen) -> Verdict | None:
    """The pod is not there any more, or was ended by others than itself."""
    status = map_(seen.pod.get("status"))
    reason, message = text(status.get("reason")), text(status.get("message"), 400)
    for condition in maps(status.get("conditions")):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            why = reason if reason in _TAKEN else text(condition.get("reason"))
            return fail(
                "lost", f"its pod was taken away: {why}: {message or text(condition.get('message'), 400)}"
            )
    if reason in _TAKEN:
        return fail("lost", f"its pod was taken away: {reason}: {message}")
    if not seen.pod:
        said = seen.told("TaintManagerEviction", "NodeNotReady", "Evicted", "Preempted", "Killing")
        return fail(
            "gone",
            "its pod is gone, and its log with it" + (f"; the last that was said: {said}" * bool(said)),
        )
    return None


def _broken(seen: Seen) -> Verdict | None:
    """A container ended badly: one that prepares, else the main one, else one beside it, whatever their order."""
    bad = {one.name: one for one in seen.ended() if one.code != 0}
    preparing = [bad[name] for name in _preparing(seen) if name in bad]
    main = [bad.pop(MAIN)] if MAIN in bad else []
    for one in (*preparing, *main, *bad.values()):
        if one.reason == "OOMKilled":
            limit = _limit(seen, one.name)
            return fail("memory", f"container {one.name} ran out of memory, and was killed; {limit}")
        if one.reason in _CANNOT_RUN:
            return fail("cannot_run", f"container {one.name} could not begin: {one.message or one.reason}")
        if one in main:
            return fail("exit", f"it ended with status {one.code}")
        said = f"container {one.name} failed with status {one.code}: {one.message.strip()}"
        if one not in preparing:
            return fail("beside", said)
        return fail("source_unreachable" if passing(one.message) else "source", said)
    return None


def _unexplained(seen: Seen) -> Verdict:
    said = text(seen.condition.get("message")) or text(map_(seen.pod.get("status")).get("message"), 400)
    reason = text(seen.condition.get("reason")) or _pod_reason(seen) or "no reason is given"
    return fail("unexplained", f"it failed, and nobody says why ({reason}){': ' + said if said else ''}")


def _not_created(look: Look) -> Verdict | None:
    """The Job controller is refused its pod."""
    seen = seen_in(look)
    said = "" if seen.pod else seen.told("FailedCreate")
    if not said:
        return None
    if "exceeded quota" in said:
        return _for_a_while(look, "quota", f"there is no room for its pod: {said}", seen.startup)
    if UNANSWERED.search(said):
        return _for_a_while(look, "webhook_unreachable", f"nobody admits its pod: {said}", seen.startup)
    return _for_a_while(look, "refused", f"its pod is refused: {said}", PATIENCE)


def _not_begun(look: Look) -> Verdict | None:
    seen = seen_in(look)
    for state, reason, message in seen.waiting():
        image, name = text(state.get("image")), text(state.get("name"))
        if reason in _HOPELESS:
            return fail("image", f"image {image} of container {name} cannot be had: {reason}: {message}")
        if reason in _PULLING:
            said = seen.told("Failed") or message
            rule = "image_unreachable" if unreachable(f"{said} {message}") else "image"
            return _for_a_while(
                look, rule, f"image {image} of container {name} cannot be pulled: {said}", PATIENCE
            )
        if reason in _ARRANGING:
            return _for_a_while(
                look, "cannot_run", f"container {name} cannot begin: {reason}: {message}", PATIENCE
            )
    said = seen.told("FailedMount", "FailedAttachVolume")
    if said and seen.phase == "Pending" and _MISSING.search(said):
        return _for_a_while(look, "mount", f"something that it mounts is missing: {said}", PATIENCE)
    for condition in maps(map_(seen.pod.get("status")).get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = f"no node takes its pod: {text(condition.get('message'), 400) or text(condition.get('reason'))}"
            return _for_a_while(look, "unschedulable", said, seen.startup)
    return None


def _running(look: Look) -> Verdict:
    seen = seen_in(look)
    if seen.phase in ("Running", "Unknown"):
        taken = _taken(seen)
        if taken is not None:
            return wait("being_lost", taken.reason)
        return wait("running", "it runs" if seen.phase == "Running" else "its node does not answer")
    if not seen.pod and map_(seen.job.get("spec")).get("suspend") is True:
        held = "it is suspended, as a queue of the cluster does it, until somebody lets it begin"
        return _for_a_while(look, "suspended", held + _after(seen), seen.startup)
    if not seen.pod:
        return _for_a_while(look, "starting", "it has no pod yet" + _after(seen), seen.startup)
    began = any(
        map_(one.get("state")).get("running") or map_(one.get("state")).get("terminated")
        for one in seen.containers()
    )
    if began:
        return wait("preparing", "its source is fetched")
    return _for_a_while(look, "starting", "its pod has not begun yet" + _after(seen), seen.startup)


def _for_a_while(look: Look, rule: str, reason: str, most: float) -> Verdict:
    return fail(rule, reason) if look.held(rule) >= most else wait(rule, reason)


def _lasting(look: Look) -> list[str]:
    """What counts once it has lasted: whatever keeps the pod from running, under the name of its rule."""
    seen = seen_in(look)
    if seen.phase in ("Running", "Succeeded", "Failed", "Unknown"):
        return []
    found = ["starting", "suspended", "unschedulable"]
    if any(reason in _PULLING for _, reason, _ in seen.waiting()):
        found += ["image", "image_unreachable"]
    if any(reason in _ARRANGING for _, reason, _ in seen.waiting()):
        found.append("cannot_run")
    if _MISSING.search(seen.told("FailedMount", "FailedAttachVolume")):
        found.append("mount")
    if not seen.pod and seen.told("FailedCreate"):
        found += ["quota", "refused", "webhook_unreachable"]
    return found


def _details(look: Look) -> dict[str, Any]:
    seen = seen_in(look)
    metadata = map_(seen.pod.get("metadata"))
    return {
        "job": look.observed.name,
        "pod": text(metadata.get("name")),
        "node": text(map_(seen.pod.get("spec")).get("nodeName")),
        "phase": seen.phase,
    }


#: How a Job is judged. What it says is about itself alone, so nothing need be confirmed by asking it anew.
RULEBOOK = Rulebook(
    (recreated, _complete, _failed, _deleted, _not_created, _not_begun, _running),
    _details,
    confirms=False,
    lasting=_lasting,
)


def observed(namespace: str, name: str, seen: Seen) -> Observed:
    """Return a look at a Job, as a wait judges it."""
    metadata = map_(seen.job.get("metadata"))
    return Observed(
        name,
        namespace,
        uid=text(metadata.get("uid")),
        deleting="deletionTimestamp" in metadata,
        reconciled=seen,
        called=f"Job {namespace}/{name}",
    )


def seen_in(look: Look) -> Seen:
    """Return what a look saw."""
    found: Seen = look.observed.reconciled
    return found


def _preparing(seen: Seen) -> list[str]:
    """Return the containers that end before the main one begins; others are put before it, too, and go on beside it."""
    begun_before = maps(map_(seen.pod.get("spec")).get("initContainers"))
    return [text(one.get("name")) for one in begun_before if one.get("restartPolicy") != "Always"]


def _pod_reason(seen: Seen) -> str:
    return text(map_(seen.pod.get("status")).get("reason"))


def _limit(seen: Seen, container: str) -> str:
    spec = map_(seen.pod.get("spec"))
    for one in [*maps(spec.get("initContainers")), *maps(spec.get("containers"))]:
        if one.get("name") == container:
            limit = map_(map_(one.get("resources")).get("limits")).get("memory")
            return (
                f"its limit is {limit}"
                if limit
                else "it has no limit of its own, so the node or the namespace has"
            )
    return "its limit is not known"


def _after(seen: Seen) -> str:
    said = [text(event.get("message"), 300) for event in seen.events if event.get("type") == "Warning"]
    return f": {said[-1]}" if said else ""
