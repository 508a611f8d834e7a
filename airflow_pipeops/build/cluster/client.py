"""Jobs in a cluster: begun once, looked at, read, and taken away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.build.cluster.jobs import ACT, turn_of
from airflow_pipeops.build.cluster.judgement import LOST, RULEBOOK, Seen, observed
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
)
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import JOBS, PODS, event_time
from airflow_pipeops.waits.controller import look_once
from airflow_pipeops.waits.expectation import Expectation
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.wait import Decided, Wait


@dataclass(frozen=True)
class JobRef(JsonForm):
    """Which Job.

    :param namespace: it is in.
    :param name: of it.
    :param project: it has none; waits ask for one.
    """

    namespace: str
    name: str
    project: str = ""


class JobController:
    """Jobs and their pods, as whoever waits for them sees them.

    :param client: of the cluster.
    :param startup: seconds for which a pod may not run yet.
    """

    rulebook = RULEBOOK

    def __init__(self, client: KubernetesClient, startup: float) -> None:
        self._client, self._startup = client, startup

    async def look(self, ref: JobRef) -> Observed | Trouble:
        """Look at a Job."""
        try:
            return observed(ref.namespace, ref.name, await seen(self._client, ref, self._startup))
        except PipeOpsError as error:
            problem = problem_of(error)
            if isinstance(problem, Trouble):
                return problem
            raise

    async def refresh(self, wait: Wait) -> None:
        """A cluster looks by itself."""

    async def explain(self, ref: JobRef, decided: Decided) -> str:
        """Return what the verdict says: it holds what there is to know."""
        return f"Job {ref.namespace}/{ref.name}: {decided.verdict.reason}"


async def seen(client: KubernetesClient, ref: JobRef, startup: float) -> Seen:
    """Read a Job, its pod, and what was said about them as long as there is anything to wonder about."""
    job = await client.get(JOBS, ref.name, ref.namespace)
    uid = text(map_(job.get("metadata")).get("uid"))
    found = await client.find(PODS, ref.namespace, labels=f"job-name={ref.name}")
    pods = [pod for pod in found.items if _owned(pod, uid)]
    pod = max(pods, key=lambda one: text(map_(one.get("metadata")).get("creationTimestamp")), default={})
    phase = text(map_(pod.get("status")).get("phase"))
    # The logs and the state say how it goes, once it runs; before that, and when it is gone, only events do.
    if phase not in ("", "Pending"):
        return Seen(job, pod, (), startup)
    names = [ref.name, text(map_(pod.get("metadata")).get("name"))]
    events = [event for name in filter(None, names) for event in await _events(client, ref.namespace, name)]
    return Seen(job, pod, sorted(events, key=event_time), startup)


async def _events(client: KubernetesClient, namespace: str, name: str) -> list[dict[str, Any]]:
    try:
        return await client.events(namespace, name=name)
    except AccessDenied:
        return []  # what they would explain is decided without them


def _owned(pod: Any, uid: str) -> bool:
    owners = maps(map_(map_(pod).get("metadata")).get("ownerReferences"))
    return any(owner.get("uid") == uid for owner in owners)


# ---- once ----------------------------------------------------------------------------------------------------------------


async def begin(
    client: KubernetesClient, namespace: str, act: str, make: Callable[[int], dict[str, Any]]
) -> tuple[JobRef, bool]:
    """Find the Job of an act, or create it; it has one name, so there cannot be two.

    One whose pod was lost is not the answer to anybody who asks again: then the act has another turn.

    :param act: as a label's value.
    :param make: makes the manifest of a turn.
    :return: the Job, and whether it was created now.
    """
    found = await client.find(JOBS, namespace, labels=f"{ACT}={act}")
    turn = 0
    for job in sorted(found.items, key=turn_of, reverse=True):
        ref = JobRef(namespace, text(map_(job.get("metadata")).get("name")))
        if "deletionTimestamp" not in map_(job.get("metadata")) and not await _lost(client, ref):
            return ref, False
        turn = turn_of(job) + 1
        break
    return await _created(client, namespace, act, make(turn))


async def _created(
    client: KubernetesClient, namespace: str, act: str, body: dict[str, Any]
) -> tuple[JobRef, bool]:
    ref = JobRef(namespace, body["metadata"]["name"])
    try:
        await client.create(JOBS, body, namespace)
    except (Conflict, Unreachable) as error:
        # Somebody was faster, or the answer was lost: what is there tells.
        try:
            there = await client.get(JOBS, ref.name, namespace)
        except NotFound:
            raise error from None
        labels = map_(map_(there.get("metadata")).get("labels"))
        if labels.get(ACT) != act:
            raise InvalidInput(
                f"a Job {namespace}/{ref.name} is there that is not of this task",
                field="namespace",
                value=namespace,
                remedy="Delete it, or name another namespace.",
            ) from error
        return ref, False
    return ref, True


async def _lost(client: KubernetesClient, ref: JobRef) -> bool:
    """Whether a Job has ended without anybody learning what it was for."""
    try:
        wait = waiting(ref, None, 0.0)
        await look_once(JobController(client, float("inf")), [wait])
    except NotFound:
        return True
    verdict = wait.state.verdict
    return verdict.state == "failed" and verdict.rule in LOST


def waiting(ref: JobRef, timeout: float | None, grace: float = 600.0) -> Wait:
    """Return a wait for a Job.

    :param timeout: seconds for all of it.
    :param grace: seconds for which the cluster may not answer.
    :return: the wait.
    """
    return Wait(ref, Expectation(match="any", timeout=timeout, transport_grace=grace), rulebook=RULEBOOK)


async def remove(client: KubernetesClient, ref: JobRef) -> None:
    """Delete a Job and its pod; it is well if it is gone already."""
    try:
        await client.delete(JOBS, ref.name, ref.namespace, propagation="Background")
    except NotFound:
        return
