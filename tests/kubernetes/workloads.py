"""Plays the Job controller and the kubelets of a cluster: a test says what each pod does, step by step.

Nothing runs. A pod takes the states that a real one takes, in the words that the API server uses for them, and its
containers write the lines that the test gives them.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.objects import Object, Refused, now

#: One thing that happens to a pod.
Step = Callable[["Pod"], None]
#: What happens to a pod, in order; asked once for each.
Script = Callable[[Object], Sequence[Step]]

_TAKEN = "Taint manager: deleting due to NoExecute taint"


class Pod:
    """One pod on its node.

    :param api: keeps it.
    :param item: as it was created.
    """

    def __init__(self, api: ApiServer, item: Object) -> None:
        self._api, self.item = api, item
        self.namespace, self.name = item["metadata"]["namespace"], item["metadata"]["name"]
        spec = item["spec"]
        self.main = str(spec["containers"][0]["name"])
        inits = spec.get("initContainers") or []
        self.inits = [str(one["name"]) for one in inits if one.get("restartPolicy") != "Always"]
        self.sidecars = [str(one["name"]) for one in inits if one.get("restartPolicy") == "Always"]
        self.others = [str(one["name"]) for one in spec["containers"][1:]]
        self._images = {str(one["name"]): str(one["image"]) for one in [*inits, *spec["containers"]]}
        self._states: dict[str, Object] = {
            name: {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
            for name in self._images
        }
        self.phase, self.reason, self.message = "Pending", "", ""
        self.conditions: list[Object] = []

    def set(self, container: str, **state: Any) -> None:
        self._states[container] = state

    def running(self, container: str) -> None:
        self.set(container, running={"startedAt": now()})

    def terminated(self, container: str, code: int, reason: str = "", message: str = "") -> None:
        body = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "finishedAt": now()}
        self.set(container, terminated={**body, **({"message": message} if message else {})})

    def say(self, container: str, *lines: str) -> None:
        for line in lines:
            self._api.say(self.namespace, self.name, container or self.main, line)

    def show(self) -> None:
        """Write the state to the API server."""
        inits = [*self.inits, *self.sidecars]
        status: Object = {"phase": self.phase, "conditions": copy.deepcopy(self.conditions)}
        status["containerStatuses"] = [self._status(name) for name in [self.main, *self.others]]
        if inits:
            status["initContainerStatuses"] = [self._status(name) for name in inits]
        for key in ("reason", "message"):
            if getattr(self, key):
                status[key] = getattr(self, key)
        self._api.change("pods", self.namespace, self.name, lambda item: item.update(status=status))

    def vanish(self) -> None:
        """Be deleted from the API."""
        self._api.change(
            "pods", self.namespace, self.name, lambda item: item["metadata"].update(deletionTimestamp=now())
        )

    def event(self, reason: str, message: str) -> None:
        self._api.tell(self.item, reason, message)

    def _status(self, name: str) -> Object:
        image, state = self._images[name], copy.deepcopy(self._states[name])
        seen = "waiting" not in state
        repository = image.partition("@")[0]
        digest = image.partition("@")[2] or "sha256:" + hashlib.sha256(image.encode()).hexdigest()
        return {
            "name": name,
            "image": image,
            "imageID": f"{repository}@{digest}" if seen else "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }


# ---- steps ---------------------------------------------------------------------------------------------------------------


def unschedulable(message: str = "0/3 nodes are available: 3 Insufficient cpu.") -> Step:
    """No node takes the pod."""

    def step(pod: Pod) -> None:
        pod.conditions = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ]
        pod.event("FailedScheduling", message)
        pod.show()

    return step


def cannot_pull(container: str = "", message: str = "manifest unknown") -> Step:
    """An image does not come."""

    def step(pod: Pod) -> None:
        name = container or pod.main
        image = pod._images[name]
        pod.set(name, waiting={"reason": "ErrImagePull", "message": message})
        pod.show()
        said = f'Back-off pulling image "{image}": ErrImagePull: {message}'
        pod.set(name, waiting={"reason": "ImagePullBackOff", "message": said})
        pod.event("Failed", f'Failed to pull image "{image}": {message}')
        pod.event("Failed", "Error: ErrImagePull")
        pod.event("Failed", "Error: ImagePullBackOff")
        pod.show()

    return step


def runs() -> Step:
    """Each container that begins, begins; init containers have ended well."""

    def step(pod: Pod) -> None:
        for name in pod.inits:
            pod.terminated(name, 0)
        for name in [pod.main, *pod.others, *pod.sidecars]:
            pod.running(name)
        pod.conditions = [{"type": "PodScheduled", "status": "True"}]
        pod.phase = "Running"
        pod.show()

    return step


def says(*lines: str, container: str = "") -> Step:
    """A container writes lines; by default the first."""
    return lambda pod: pod.say(container, *lines)


def ends(
    code: int = 0, *, reason: str = "", message: str = "", last: dict[str, Sequence[str]] | None = None
) -> Step:
    """The main container ends, and then the pod.

    :param last: lines that sidecars write when they are told to end.
    """

    def step(pod: Pod) -> None:
        pod.terminated(pod.main, code, reason, message)
        pod.show()
        for name in [*pod.others, *pod.sidecars]:
            pod.say(name, *(last or {}).get(name, ()))
            pod.terminated(name, 0)
        pod.phase = "Failed" if code else "Succeeded"
        pod.show()

    return step


def out_of_memory() -> Step:
    """The kernel ends the main container."""
    return ends(137, reason="OOMKilled")


def init_fails(container: str, code: int, *lines: str) -> Step:
    """An init container ends badly, and nothing else begins."""

    def step(pod: Pod) -> None:
        pod.say(container, *lines)
        pod.terminated(container, code, message="\n".join(lines))  # as FallbackToLogsOnError has it
        pod.phase = "Failed"
        pod.show()

    return step


def evicted(message: str = "The node was low on resource: memory.") -> Step:
    """The kubelet takes the pod off its node."""

    def step(pod: Pod) -> None:
        pod.phase, pod.reason, pod.message = "Failed", "Evicted", message
        pod.conditions = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
        pod.terminated(pod.main, 137, "Error")
        pod.show()

    return step


def node_lost(*, gone: bool = True) -> Step:
    """The node does not answer any more; in the end its pod is removed, and its log with it."""

    def step(pod: Pod) -> None:
        pod.event("NodeNotReady", "Node is not ready")
        pod.event("TaintManagerEviction", "Marking for deletion Pod")
        pod.conditions = [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": _TAKEN,
            }
        ]
        pod.show()
        if gone:
            pod.vanish()

    return step


def too_long() -> Step:
    """The kubelet ends what has run for longer than ``activeDeadlineSeconds`` of the pod."""

    def step(pod: Pod) -> None:
        pod.phase, pod.reason = "Failed", "DeadlineExceeded"
        pod.message = "Pod was active on the node longer than the specified deadline"
        pod.terminated(pod.main, 137, "Error")
        pod.show()

    return step


def waits(event: threading.Event) -> Step:
    """Nothing happens until the test says so."""

    def step(pod: Pod) -> None:
        if not event.wait(60):
            raise AssertionError(f"nobody let pod {pod.name} go on")

    return step


# ---- controllers ---------------------------------------------------------------------------------------------------------


class Workloads:
    """The Job controller, and the kubelets.

    :param api: the API server.
    :param script: says what each pod does.
    """

    def __init__(self, api: ApiServer, script: Script) -> None:
        self.api, self.script = api, script
        self.problems: list[str] = []
        self._played: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for thread in self._threads:
            thread.join(1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self.api.lock:
                    for job in self.api.all("jobs"):
                        if not _finished(job):
                            self._reconcile(job)
                for pod in self.api.all("pods"):
                    if pod["metadata"]["uid"] not in self._played:
                        self._play(pod)
            except Exception as error:  # a broken controller must not look like a cluster that is slow
                self.problems.append(repr(error))
                raise
            time.sleep(0.01)

    def _play(self, pod: Object) -> None:
        self._played.add(pod["metadata"]["uid"])
        on_node = Pod(self.api, pod)

        def play() -> None:
            try:
                for step in self.script(pod):
                    step(on_node)
            except Exception as error:
                self.problems.append(repr(error))

        self._threads.append(threading.Thread(target=play, daemon=True))
        self._threads[-1].start()

    def _reconcile(self, job: Object) -> None:
        metadata, uid = job["metadata"], job["metadata"]["uid"]
        pods = [pod for pod in self.api.all("pods") if _owned(pod, uid)]
        if not pods and metadata.get("annotations", {}).get("tests/made"):
            return self._finish(job, "Failed", "BackoffLimitExceeded")
        if not pods:
            return self._make(job)
        phase = pods[0]["status"].get("phase")
        if phase in ("Succeeded", "Failed"):
            reason = "CompletionsReached" if phase == "Succeeded" else "BackoffLimitExceeded"
            self._finish(job, "Complete" if phase == "Succeeded" else "Failed", reason)
        return None

    def _make(self, job: Object) -> None:
        metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        labels = {
            "batch.kubernetes.io/job-name": metadata["name"],
            "job-name": metadata["name"],
            "controller-uid": metadata["uid"],
        }
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        template["metadata"] = {
            **(template.get("metadata") or {}),
            "namespace": metadata["namespace"],
            "generateName": metadata["name"] + "-",
            "labels": {**((template.get("metadata") or {}).get("labels") or {}), **labels},
            "ownerReferences": [owner],
        }
        try:
            self.api.admit(self.api.kinds["", "v1", "pods"], template)
        except Refused as refused:
            message = f"Error creating: {refused.body['message']}"
            if not any(event["message"] == message for event in self.api.all("events")):
                self.api.tell(job, "FailedCreate", message, kind="Job")
            return
        self.api.change("jobs", metadata["namespace"], metadata["name"], _made)

    def _finish(self, job: Object, kind: str, reason: str) -> None:
        metadata = job["metadata"]
        said = {
            "BackoffLimitExceeded": "Job has reached the specified backoff limit",
            "CompletionsReached": "Reached expected number of succeeded pods",
        }
        condition = {"type": kind, "status": "True", "reason": reason, "message": said.get(reason, "")}

        def change(item: Object) -> None:
            status: Object = {"conditions": [condition], "startTime": item["status"].get("startTime")}
            status["succeeded" if kind == "Complete" else "failed"] = 1
            item["status"] = status

        self.api.change("jobs", metadata["namespace"], metadata["name"], change)

    def past_deadline(self, namespace: str, name: str) -> None:
        """End a Job whose ``activeDeadlineSeconds`` have passed: its pods are deleted."""
        with self.api.lock:
            job = self.api.read("jobs", namespace, name)
            assert job is not None
            self._finish(job, "Failed", "DeadlineExceeded")
            for pod in self.api.all("pods"):
                if _owned(pod, job["metadata"]["uid"]):
                    Pod(self.api, pod).vanish()


def _made(item: Object) -> None:
    item["metadata"].setdefault("annotations", {})["tests/made"] = "yes"
    item["status"] = {"active": 1, "startTime": now()}


def _owned(pod: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())


def _finished(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def quota(
    resource: str = "count/pods", plural: str = "pods", name: str = "team"
) -> Callable[[str, Object], None]:
    """A resource quota that is used up, for :attr:`ApiServer.admission`."""

    def ask(asked: str, body: Object) -> None:
        if asked == plural:
            called = body["metadata"].get("name") or body["metadata"].get("generateName")
            said = (
                f"exceeded quota: {name}, requested: {resource}=1, used: {resource}=5, limited: {resource}=5"
            )
            raise Refused(403, "Forbidden", f'{plural} "{called}" is forbidden: {said}')

    return ask


@contextmanager
def playing(api: ApiServer, script: Script) -> Iterator[Workloads]:
    """Play the cluster for the length of a ``with``; what a step got wrong fails the test."""
    workloads = Workloads(api, script)
    workloads.start()
    try:
        yield workloads
    finally:
        workloads.stop()
    assert not workloads.problems, workloads.problems
