"""Builds images and runs tests by Argo Workflows: one workflow for one act, found again by whoever asks again."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_pipeops.argo_workflows.clients.errors import Ended
from airflow_pipeops.argo_workflows.clients.protocol import RETRYING, ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.logs import Follower, followed, log_of, say_logs
from airflow_pipeops.argo_workflows.manifest import reference
from airflow_pipeops.argo_workflows.names import COMMIT, LONGEST, OPERATION, mark_of, marked, name_of
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.status import WorkflowStatus, read
from airflow_pipeops.argo_workflows.submission import Order, Submitted, TaskNotes, filled, submit
from airflow_pipeops.argo_workflows.waits import WorkflowController, WorkflowWait, error_of
from airflow_pipeops.base.arguments import not_empty, object_name, one_of, positive
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.interrupts import beside
from airflow_pipeops.build.backends import (
    Attempt,
    BuildRequest,
    BuiltImage,
    TestRequest,
    TestResult,
    Waiting,
    Worker,
)
from airflow_pipeops.build.cluster import pods
from airflow_pipeops.build.cluster.backends import (
    TAIL,
    deferrable_by_default,
    last_word,
    seconds_between,
    url_of,
)
from airflow_pipeops.build.cluster.jobs import LATER, TASK, act_of
from airflow_pipeops.build.cluster.judgement import LOST
from airflow_pipeops.build.cluster.reports import handed_over
from airflow_pipeops.build.cluster.steps import FailedStep, failed_step
from airflow_pipeops.build.oci import is_digest
from airflow_pipeops.build.testrun import worth_a_rerun
from airflow_pipeops.build.workflows.beginnings import unless_stuck
from airflow_pipeops.build.workflows.judgement import End, end_of, pod_of
from airflow_pipeops.build.workflows.parameters import (
    ANSWER,
    BUILD_TEMPLATE,
    TEST_TEMPLATE,
    WITH_SOURCE,
    for_build,
    for_tests,
)
from airflow_pipeops.exceptions import (
    BadResponse,
    BuildFailed,
    NotFound,
    PipeOpsError,
    PodFailed,
    PodLost,
    Unreachable,
)
from airflow_pipeops.waits.controller import look_once, until_decided
from airflow_pipeops.waits.operators import MARGIN
from airflow_pipeops.waits.verdict import Verdict
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.status import Node

Result = TypeVar("Result")

#: What a person can do about it; the names are those of the chart's values.
_REMEDIES = {
    "image": "Check the name of the image, and that the cluster may pull it (workflows.registrySecret).",
    "memory": "Raise the memory limit of the template (workflows.build.resources, workflows.test.resources).",
    "refused": "Give the workflow's service account what it lacks (workflows.serviceAccount).",
    "denied": "The namespace must admit such pods: see docs/build-kubernetes.md.",
    "source": "Check workflows.gitSecret, and that the cluster reaches the repository.",
    "remembered": "Take memoize out of the template.",
    "stopped": "Clear the task to run it anew.",
}


_ONLY_ANEW = (
    "Clear the task to run it anew: without the server of Argo Workflows a workflow cannot be retried, and an attempt of "
    "the task finds it as it is."
)


@dataclass(frozen=True)
class _Over:
    """A workflow that is not waited for any more.

    :param ref: which one.
    :param decided: where the wait stands; ``None`` for one that does not begin.
    :param stuck: why it does not begin.
    :param said: pod -> lines of its log that are in the task's log already.
    """

    ref: WorkflowRef
    decided: Decided | None
    stuck: End | None = None
    said: Mapping[str, int] = field(default_factory=dict)


class WorkflowsBackend:
    """What the backends of Argo Workflows share.

    :param argo_workflows_conn_id: connection of type ``argo_workflows``, or ``kubernetes``.
    :param namespace: of the workflows; by default that of the connection.
    :param template: name of the ``WorkflowTemplate``; by default that of the chart.
    :param cluster_scope: it is a ``ClusterWorkflowTemplate``.
    :param lfs: fetch what is kept by Git LFS, too; the template's image for Git must have it.
    :param startup_timeout: for which its pod may find no room, no node and no image.
    :param poll_interval: between two looks.
    :param deferrable: wait in the triggerer; by default ``[operators] default_deferrable``.
    """

    #: What is done here, in the names of workflows, and the template that does it.
    what, usual = "", ""

    def __init__(
        self,
        *,
        argo_workflows_conn_id: str = ArgoWorkflowsHook.default_conn_name,
        namespace: str = "",
        template: str = "",
        cluster_scope: bool = False,
        lfs: bool = False,
        startup_timeout: timedelta = timedelta(minutes=10),
        poll_interval: timedelta = timedelta(seconds=5),
        deferrable: bool | None = None,
    ) -> None:
        self.conn_id = argo_workflows_conn_id
        self.template, self.cluster_scope = object_name(template or self.usual), cluster_scope
        self.settings = pods.Settings(lfs=lfs)
        self.startup = positive("startup_timeout", startup_timeout).total_seconds()
        self.poll_interval = positive("poll_interval", poll_interval).total_seconds()
        self.deferrable = deferrable_by_default() if deferrable is None else deferrable
        self.hook = ArgoWorkflowsHook(argo_workflows_conn_id, namespace=namespace)
        self._ref: WorkflowRef | None = None
        self._killed = False

    def kill(self) -> None:
        """Terminate the workflow that is waited for: nobody waits for it any more."""
        ref, self._killed = self._ref, True
        if ref is None:
            return

        def end() -> None:
            # What cannot be ended now ends by its own deadline.
            with contextlib.suppress(PipeOpsError):
                self.hook.run(lambda client: _end(client, ref), attempts=2, timeout=10.0)

        beside(end)

    def _run(self, work: Callable[[ArgoWorkflows], Awaitable[Result]]) -> Result:
        return self.hook.run(work)

    async def _begun(
        self,
        client: ArgoWorkflows,
        worker: Worker,
        commit: str,
        parameters: Mapping[str, str],
        *,
        entrypoint: str = "",
        number: int = 0,
    ) -> Submitted:
        """Find or create the workflow of an act."""
        act, namespace = act_of(worker.key, self.what, number), self.hook.namespace
        name, mark = name_of(f"pipeops-{self.what}", act), mark_of(act)

        async def manifest(client: ArgoWorkflows) -> dict[str, Any]:
            base = reference(self.template, cluster_scope=self.cluster_scope)
            if entrypoint:
                base["spec"]["entrypoint"] = entrypoint
            whole = await filled(client, namespace, base, parameters)
            labels = {OPERATION: mark, COMMIT: commit[:LONGEST]}
            return marked(whole, name, namespace, labels=labels, annotations={TASK: worker.key[:1000]})

        # Whoever kills the task before it has heard of the workflow ends it, too.
        self._ref = WorkflowRef(name, namespace)
        notes = TaskNotes(worker.context.get("task_state_store"), f"pipeops_{self.what}_{number}")
        found = await submit(client, Order(name, namespace, mark, manifest), notes, worker.say)
        if found.attached and found.status.over and await self._passing(client, found.status):
            worker.say(f"Trying {found.status} again: what failed in it may pass")
            again = read(await client.act(found.ref, "retry"))
            found = Submitted(again, attached=True, after=found.status.attempt)
        if not found.attached:
            worker.say(f"{found.status} (uid {found.status.uid}) created")
        self._ref = found.ref
        if self._killed:  # before there was anything to end
            await _end(client, found.ref)
        return found

    async def _passing(self, client: ArgoWorkflows, status: WorkflowStatus) -> bool:
        """Whether a workflow that was found failed is to be tried again; one that was lost has been already."""
        if RETRYING in client.lacks or status.phase == "Succeeded":
            return False
        whole = read(await client.get(WorkflowRef(status.name, status.namespace, status.uid), whole=True))
        return await self._may_do(client, whole)

    async def _may_do(self, client: ArgoWorkflows, status: WorkflowStatus) -> bool:
        """Whether what failed was neither the work nor what it was told."""
        return end_of(status).rule == "source_unreachable"

    async def _over(
        self,
        client: ArgoWorkflows,
        worker: Worker,
        submitted: Submitted,
        timeout: timedelta,
        number: int = 0,
    ) -> _Over | Waiting:
        """Wait until a workflow is over, here or in the triggerer; its log is told by whoever waits."""
        ref, whole = submitted.ref, timeout.total_seconds() + self.startup + LATER + 60.0
        goal = Goal(timeout=whole, uid=ref.uid, after=submitted.after)
        wait = WorkflowWait(ref, goal, on_change=lambda verdict: worker.say(_said(verdict)))
        controller = WorkflowController(client)
        await look_once(controller, [wait])
        if wait.over:
            return _Over(ref, wait.state)
        if not self.deferrable:
            follower = Follower(client, ref, worker.say)
            looking = followed(follower, until_decided(controller, [wait], self.poll_interval))
            stuck = await unless_stuck(client, ref, self.startup, self.poll_interval, looking)
            return _Over(ref, None if stuck else wait.state, stuck, dict(follower.said))
        from airflow_pipeops.build.workflows.triggers import ArgoWorkflowsBuildTrigger

        trigger = ArgoWorkflowsBuildTrigger(
            argo_workflows_conn_id=self.conn_id,
            namespace=ref.namespace,
            wait=wait.to_json(),
            poll_interval=self.poll_interval,
            follow_logs=True,
            if_killed="terminate",
            note={"name": ref.name, "namespace": ref.namespace, "uid": ref.uid, "number": number},
            startup=self.startup,
        )
        return Waiting(trigger, timedelta(seconds=whole) + MARGIN)

    def _resumed(self, worker: Worker, event: Mapping[str, Any]) -> _Over:
        """Take over from the trigger."""
        note, said = event["note"], dict(event.get("said") or {})
        ref = self._ref = WorkflowRef(str(note["name"]), str(note["namespace"]), str(note["uid"]))
        if event.get("stuck"):
            return _Over(ref, None, End.from_json(event["stuck"]), said)
        decided = Decided.from_json(event["decided"])
        worker.say(_said(decided.verdict))
        return _Over(ref, decided, None, said)

    async def _ended(
        self, client: ArgoWorkflows, worker: Worker, over: _Over
    ) -> tuple[WorkflowStatus, Node | None]:
        """Return the workflow whose work has ended; otherwise say why nobody knows, and leave nothing at it."""
        if over.decided is None or over.decided.verdict.rule not in ("ended", "workflow_failed"):
            ending = ""
            try:
                await _end(client, over.ref)
            except PipeOpsError as failed:
                ending = f"; and the workflow could not be ended: {failed}"
            raise self._unfinished(client, over, ending)
        status = read(await client.get(over.ref, whole=True))
        await say_logs(client, status, over.said, worker.say)
        return status, pod_of(status)

    def _unfinished(self, client: ArgoWorkflows, over: _Over, ending: str) -> PipeOpsError:
        if over.stuck is not None:
            return self._error(client, over.ref, over.stuck, ending)
        assert over.decided is not None
        verdict = over.decided.verdict
        return error_of(over.decided, f"Argo {over.ref}: {verdict.reason} (rule {verdict.rule}){ending}")

    def _error(self, client: ArgoWorkflows, ref: WorkflowRef, end: End, ending: str = "") -> PipeOpsError:
        """Return the error for a work that could not be done."""
        said = f"Argo {ref}: {end.said}{ending}"
        if end.rule in LOST:
            return _may_pass(client, PodLost, said, "A retry begins it anew.")
        return PodFailed(said, remedy=_REMEDIES.get(end.rule, ""))

    def _facts(self, status: WorkflowStatus) -> dict[str, Any]:
        node = pod_of(status)
        return {
            "workflow": status.name,
            "namespace": status.namespace,
            "uid": status.uid,
            "template": self.template,
            "pod": node.pod(status.name) if node else "",
        }


class WorkflowsBuild(WorkflowsBackend):
    """Builds an image by a workflow with BuildKit, and pushes it from there.

    :param cache: keep what was built in the registry, beside the image, for the next build.
    :param attestations: what BuildKit says in the registry of how the image came about and what is in it, and how; as for
        :class:`~airflow_pipeops.build.cluster.backends.KubernetesBuild`.
    :param options: as for :class:`WorkflowsBackend`.
    """

    what, usual = "build", BUILD_TEMPLATE

    def __init__(
        self, *, cache: bool = True, attestations: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.cache, self.lfs = cache, self.settings.lfs
        self.attestations = pods.ATTESTATIONS if attestations is None else dict(attestations)

    def platform(self) -> str:
        """Return the place: on which of its nodes the template's pod runs, only the build tells."""
        return f"a node of {self.conn_id}"

    def start(self, request: BuildRequest, worker: Worker) -> BuiltImage | Waiting:
        """Begin the build, or find it begun."""
        parameters = self._parameters(request)
        self.hook.client()  # reads the connection, which may name the namespace

        async def work(client: ArgoWorkflows) -> BuiltImage | Waiting:
            submitted = await self._begun(client, worker, request.commit, parameters)
            over = await self._over(client, worker, submitted, request.timeout)
            return over if isinstance(over, Waiting) else await self._built(client, worker, request, over)

        return self._run(work)

    def resume(self, request: BuildRequest, worker: Worker, event: Mapping[str, Any]) -> BuiltImage | Waiting:
        """Go on when the workflow is over."""
        raise_error_of(event)
        over = self._resumed(worker, event)
        return self._run(lambda client: self._built(client, worker, request, over))

    def _parameters(self, request: BuildRequest) -> dict[str, str]:
        one_of("builder", request.builder, ("auto", "buildkit"))
        pod = pods.buildkit(
            request,
            url_of(request.git_conn_id),
            self.settings,
            image="",
            cache=self.cache,
            attestations=self.attestations,
        )
        return for_build(pod, request.timeout.total_seconds())

    async def _may_do(self, client: ArgoWorkflows, status: WorkflowStatus) -> bool:
        """Whether the registry or the network failed, and no command."""
        step = await self._step(client, status) if end_of(status).rule == "exit" else None
        return (isinstance(step, FailedStep) and step.passing) or await super()._may_do(client, status)

    async def _built(
        self, client: ArgoWorkflows, worker: Worker, request: BuildRequest, over: _Over
    ) -> BuiltImage:
        status, node = await self._ended(client, worker, over)
        end = end_of(status)
        if end.rule == "too_long":
            minutes = request.timeout.total_seconds() / 60
            raise BuildFailed(
                f"the build did not end within {minutes:g} min, and was stopped", remedy="Raise its timeout."
            )
        if end.rule == "exit":
            await self._failed(client, status, node)
        if end.rule != "complete":
            raise self._error(client, over.ref, end)
        digest = text(map_(last_word(node.parameters.get(ANSWER, "") if node else "")).get("digest"))
        if not is_digest(digest):
            raise BadResponse(f"Argo {over.ref} has ended well, and does not say which image it built")
        return BuiltImage(
            digest, "buildkit", {**self._facts(status), "attestations": sorted(self.attestations)}
        )

    async def _step(self, client: ArgoWorkflows, status: WorkflowStatus) -> FailedStep | list[str] | None:
        """Return the step that failed; the last lines of the log where none is named, ``None`` where no log is left."""
        node = pod_of(status)
        lines = (await log_of(client, status, node)).lines if node else None
        return None if lines is None else failed_step(lines) or lines[-20:]

    async def _failed(self, client: ArgoWorkflows, status: WorkflowStatus, node: Node | None) -> None:
        """Raise why a build has failed."""
        step = await self._step(client, status)
        if isinstance(step, FailedStep):
            if step.passing:
                raise _may_pass(client, Unreachable, str(step), "A retry builds anew.")
            raise BuildFailed(f"{step}\n")
        said = "\n".join(f"  {line}" for line in step or ["no logs are left"])
        raise BuildFailed(
            f"the builder ended with status {node.exit_code if node else 'unknown'}; it said last:\n{said}\n"
        )


class WorkflowsTests(WorkflowsBackend):
    """Runs the tests by a workflow, in the image that was built; the image needs ``sh``, ``gzip`` and ``base64``.

    :param checkout: fetch the commit's tree and run the command there; otherwise it runs where the image says.
    :param options: as for :class:`WorkflowsBackend`.
    """

    what, usual = "test", TEST_TEMPLATE

    def __init__(self, *, checkout: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.checkout = checkout

    def start(self, request: TestRequest, worker: Worker) -> TestResult | Waiting:
        """Begin the tests, or find them begun."""
        return self._advance(request, worker, None)

    def resume(self, request: TestRequest, worker: Worker, event: Mapping[str, Any]) -> TestResult | Waiting:
        """Go on when a run is over; the next one begins if tests failed, and another is allowed."""
        raise_error_of(event)
        return self._advance(request, worker, event)

    def _advance(
        self, request: TestRequest, worker: Worker, event: Mapping[str, Any] | None
    ) -> TestResult | Waiting:
        parameters = self._parameters(request)
        entrypoint = WITH_SOURCE if self.checkout else ""
        self.hook.client()  # reads the connection, which may name the namespace

        async def work(client: ArgoWorkflows) -> TestResult | Waiting:
            attempts: list[Attempt] = []
            facts: dict[str, Any] = {}
            for number in range(request.reruns + 1):
                if event is not None and number == event["note"]["number"]:
                    over: _Over | Waiting = self._resumed(worker, event)
                else:
                    submitted = await self._begun(
                        client, worker, request.commit, parameters, entrypoint=entrypoint, number=number
                    )
                    over = await self._over(client, worker, submitted, request.timeout, number)
                if isinstance(over, Waiting):
                    return over
                status, node = await self._ended(client, worker, over)
                attempts.append(await self._attempt(client, over.ref, status, node))
                facts = {**self._facts(status), "image": request.image}
                if not worth_a_rerun(attempts[-1]):
                    break
            return TestResult(tuple(attempts), facts)

        return self._run(work)

    def _parameters(self, request: TestRequest) -> dict[str, str]:
        remedy = "Pass the reference that BuildImageOperator returned."
        not_empty("image", request.image, "tests in a cluster run in an image, and none was named", remedy)
        words = request.command or ("python", "-m", "pytest", "-q", "--junitxml", "{junit}")
        url = url_of(request.git_conn_id) if self.checkout else ""
        pod = pods.tests(request, url, self.settings, words=words, checkout=self.checkout, helper="")
        return for_tests(pod, request.timeout.total_seconds())

    async def _attempt(
        self, client: ArgoWorkflows, ref: WorkflowRef, status: WorkflowStatus, node: Node | None
    ) -> Attempt:
        end = end_of(status)
        if end.rule not in ("complete", "exit", "too_long") or node is None:
            raise self._error(client, ref, end)
        lines = (await log_of(client, status, node)).lines
        handed = handed_over(node.parameters.get(ANSWER, "").splitlines())
        said = [f"{name} was not handed over: {why}" for name, why in handed.problems.items()]
        if not handed.whole and end.rule != "too_long":
            said.append("the reports were not handed over: the container was ended before it could")
        return Attempt(
            status=node.exit_code if node.exit_code is not None else 0 if end.rule == "complete" else -1,
            timed_out=end.rule == "too_long",
            seconds=seconds_between(node.started_at, node.finished_at),
            output="\n".join([*(["no logs are left"] if lines is None else lines), *said])[-TAIL:],
            report=handed.files.get("junit.xml"),
            coverage=handed.files.get("coverage.xml"),
        )


async def _end(client: ArgoWorkflows, ref: WorkflowRef) -> None:
    """Terminate a workflow, unless it has ended or is gone."""
    with contextlib.suppress(Ended, NotFound):
        await client.act(ref, "terminate")


def _may_pass(client: ArgoWorkflows, kind: type[PipeOpsError], said: str, remedy: str) -> PipeOpsError:
    """Return the error for what another attempt may mend; where that would find the same workflow again, it says so."""
    if RETRYING not in client.lacks:
        return kind(said, remedy=remedy)
    error = kind(said, remedy=_ONLY_ANEW)
    error.retryable = False
    return error


def _said(verdict: Verdict) -> str:
    return f"{verdict.state}: {verdict.reason} ({verdict.rule})"
