"""Builds images and runs tests on Argo Workflows: one workflow for one act, found again by whoever asks again.

The pods are those of the cluster's Jobs (:mod:`airflow_pipeops.build.cluster.pods`); a workflow brings them there where Argo
Workflows may start pods, and Airflow may not. Reports come back as output artifacts, the digest of an image as an output
parameter.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argo_workflows.causes import cause_of, failed_nodes, infrastructure
from airflow_pipeops.argo_workflows.clients.errors import Ended
from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.logs import log_of, say_logs
from airflow_pipeops.argo_workflows.manifest import API_VERSION
from airflow_pipeops.argo_workflows.names import OPERATION, mark_of, marked, name_of
from airflow_pipeops.argo_workflows.operators.workflow import TaskNotes
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus, read
from airflow_pipeops.argo_workflows.submission import Order, Submitted, submit
from airflow_pipeops.argo_workflows.waits import WorkflowController, WorkflowWait, error_of
from airflow_pipeops.base.arguments import not_empty, one_of, positive
from airflow_pipeops.base.documents import map_, parsed, text
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
from airflow_pipeops.build.cluster.backends import between, default_deferrable, source_url
from airflow_pipeops.build.cluster.steps import failed_step
from airflow_pipeops.exceptions import (
    BadResponse,
    BuildFailed,
    InvalidInput,
    NotFound,
    PipeOpsError,
    PodFailed,
    PodLost,
    Unreachable,
)
from airflow_pipeops.waits.controller import look_once, until_decided
from airflow_pipeops.waits.operators import MARGIN
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows

#: Where the builder writes its last word, which becomes the output parameter of this name.
_LAST_WORD, _WORD = f"{pods.WORK}/last-word", "last-word"
_REPORTS = {"junit": "junit.xml", "coverage": "coverage.xml"}
_TAIL = 64 * 1024


class WorkflowsBackend:
    """What both backends share.

    :param argo_workflows_conn_id: connection of type ``argo_workflows``, or ``kubernetes``.
    :param namespace: for the workflows; by default that of the connection.
    :param service_account: that the pods run as; it must be one that Argo Workflows may use.
    :param resources: requests and limits of the main container.
    :param node_selector: labels of the nodes that will do.
    :param tolerations: of taints.
    :param git_secret: name of a Secret in the namespace that opens the repository.
    :param registry_secret: name of a Secret of type ``kubernetes.io/dockerconfigjson``, for pushing and pulling.
    :param git_image: image with Git that fetches the source.
    :param lfs: fetch what is kept by Git LFS, too.
    :param waiting_time: for which a pod may find no room, beside the time that the work may take.
    :param poll_interval: between two looks.
    :param deferrable: wait in the triggerer; by default ``[operators] default_deferrable``.
    """

    #: What is done here, in the names of workflows.
    what = ""

    def __init__(
        self,
        *,
        argo_workflows_conn_id: str = ArgoWorkflowsHook.default_conn_name,
        namespace: str = "",
        service_account: str = "",
        resources: Mapping[str, Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] = (),
        git_secret: str = "",
        registry_secret: str = "",
        git_image: str = pods.GIT_IMAGE,
        lfs: bool = False,
        waiting_time: timedelta = timedelta(minutes=30),
        poll_interval: timedelta = timedelta(seconds=5),
        deferrable: bool | None = None,
    ) -> None:
        self.conn_id, self.namespace = argo_workflows_conn_id, namespace
        self.settings = pods.Settings(
            service_account=service_account,
            resources=resources or {},
            node_selector=node_selector or {},
            tolerations=tolerations,
            git_secret=git_secret,
            registry_secret=registry_secret,
            git_image=git_image,
            lfs=lfs,
        )
        self.waiting_time = positive("waiting_time", waiting_time)
        self.poll_interval = positive("poll_interval", poll_interval).total_seconds()
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self._ref: WorkflowRef | None = None

    def kill(self) -> None:
        """Stop the workflow that is waited for: nobody waits for it any more."""
        ref = self._ref
        if ref is None:
            return

        async def work(client: ArgoWorkflows) -> None:
            try:
                await client.act(ref, "stop")
            except (Ended, NotFound):
                return

        # The loop of the wait that was interrupted is still this thread's.
        thread = threading.Thread(
            target=lambda: self._hook().run(work, attempts=2, timeout=10.0), daemon=True
        )
        thread.start()
        thread.join(30)

    def _hook(self) -> ArgoWorkflowsHook:
        hook = ArgoWorkflowsHook(self.conn_id, namespace=self.namespace)
        hook.client()
        return hook

    def named(self, worker: Worker, number: int) -> tuple[str, str]:
        """Return the name and the mark of the workflow of an act."""
        key = f"{worker.key} {self.what} {number}"
        return name_of(f"pipeops-{self.what}", key), mark_of(key)

    async def _begun(
        self, client: ArgoWorkflows, worker: Worker, manifest: Mapping[str, Any], number: int, *, retry: bool
    ) -> Submitted:
        """Find or submit the workflow of an act."""
        namespace = self._hook().namespace
        name, mark = self.named(worker, number)

        async def made(_: ArgoWorkflows) -> dict[str, Any]:
            return marked(manifest, name, namespace, labels={OPERATION: mark}, annotations={})

        able = "retrying a workflow" not in client.lacks
        order = Order(name, namespace, mark, made, retry_failed=retry and able)
        # Whoever kills the task before it has heard of the workflow stops it, too.
        self._ref = WorkflowRef(name, namespace)
        found = await submit(client, order, TaskNotes(worker.context.get("task_state_store")), worker.say)
        self._ref = found.ref
        worker.say(f"{found.status} {'found, which was begun before' if found.attached else 'submitted'}")
        return found

    async def _over(
        self, client: ArgoWorkflows, worker: Worker, found: Submitted, timeout: timedelta
    ) -> Decided | Waiting:
        """Wait until a workflow is over, here or in the triggerer."""
        whole = timeout + self.waiting_time
        goal = Goal(phase="any", timeout=whole.total_seconds(), uid=found.status.uid, after=found.after)
        wait = WorkflowWait(
            found.ref,
            goal,
            on_change=lambda verdict: worker.say(f"{verdict.state}: {verdict.reason} ({verdict.rule})"),
        )
        controller = WorkflowController(client)
        if not self.deferrable:
            await until_decided(controller, [wait], self.poll_interval)
            return wait.state
        await look_once(controller, [wait])
        if wait.over:
            return wait.state
        from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger

        trigger = ArgoWorkflowTrigger(
            argo_workflows_conn_id=self.conn_id,
            namespace=found.ref.namespace,
            wait=wait.to_json(),
            poll_interval=self.poll_interval,
            if_killed="stop",
            note={"name": found.ref.name, "namespace": found.ref.namespace, "uid": found.ref.uid},
        )
        return Waiting(trigger, whole + MARGIN)

    def _resumed(self, event: Mapping[str, Any]) -> tuple[WorkflowRef, Decided]:
        raise_error_of(event)
        note = event["note"]
        self._ref = WorkflowRef(str(note["name"]), str(note["namespace"]), str(note["uid"]))
        return self._ref, Decided.from_json(event["decided"])

    async def _demand(
        self, client: ArgoWorkflows, worker: Worker, ref: WorkflowRef, decided: Decided
    ) -> tuple[WorkflowStatus, Node]:
        """Return a workflow whose work has ended, and the node that did it; otherwise say why nobody knows."""
        if decided.verdict.state == "failed":
            if decided.verdict.rule == "deadline":
                await _stopped(client, ref)
            raise error_of(decided, f"Argo {ref}: {decided.verdict.reason} (rule {decided.verdict.rule})")
        status = read(await client.get(ref, whole=True))
        await say_logs(client, status, {}, worker.say)
        if lost := infrastructure(status):
            raise PodLost(f"Argo {ref}: {lost}", remedy="A retry begins it anew.")
        nodes = [node for node in status.nodes if node.type == "Pod"]
        failed = [*failed_nodes(nodes), *nodes]
        if not failed:
            raise PodFailed(
                f"Argo {ref} is {status.phase}, and ran no pod: {status.message or status.hidden}"
            )
        node = failed[0]
        cause = cause_of(node)
        if node.failed and cause and cause.kind != "deadline":
            raise PodFailed(f"Argo {ref}: {cause.said}: {node.message}")
        if node.failed and node.exit_code is None and cause is None:
            raise PodFailed(f"Argo {ref}: {node.message or status.message or status.phase}")
        return status, node


class WorkflowsBuild(WorkflowsBackend):
    """Builds an image by a workflow, and pushes it from there.

    :param builder_image: of BuildKit or Buildah, in place of the usual one.
    :param cache: keep what was built in the registry, beside the image, for the next build.
    :param attestations: whether BuildKit says in the registry how the image came about and what is in it.
    :param options: as for :class:`WorkflowsBackend`.
    """

    what = "build"

    def __init__(
        self, *, builder_image: str = "", cache: bool = True, attestations: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.builder_image, self.cache, self.attestations = builder_image, cache, attestations

    def start(self, request: BuildRequest, worker: Worker) -> BuiltImage | Waiting:
        """Begin the build, or find it begun."""
        manifest = self.composed(request)

        async def work(client: ArgoWorkflows) -> BuiltImage | Waiting:
            found = await self._begun(client, worker, manifest, 0, retry=True)
            decided = await self._over(client, worker, found, request.timeout)
            if isinstance(decided, Waiting):
                return decided
            return await self._built(client, worker, request, found.ref, decided)

        return self._hook().run(work)

    def resume(self, request: BuildRequest, worker: Worker, event: Mapping[str, Any]) -> BuiltImage | Waiting:
        """Go on when the workflow is over."""
        ref, decided = self._resumed(event)
        return self._hook().run(lambda client: self._built(client, worker, request, ref, decided))

    def composed(self, request: BuildRequest) -> dict[str, Any]:
        """Return the workflow of a build."""
        url = source_url(request.git_conn_id)
        if _builder(request) == "buildkit":
            image = self.builder_image or pods.BUILDKIT_IMAGE
            pod = pods.buildkit(
                request, url, self.settings, image=image, cache=self.cache, attestations=self.attestations
            )
        else:
            image = self.builder_image or pods.BUILDAH_IMAGE
            pod = pods.buildah(request, url, self.settings, image=image, cache=self.cache)
        (main,) = pod["spec"]["containers"]
        for variable in main["env"]:
            if variable["name"] == "PIPEOPS_LAST_WORD":
                variable["value"] = _LAST_WORD
        outputs = {"parameters": [{"name": _WORD, "valueFrom": {"path": _LAST_WORD, "default": ""}}]}
        return workflow_of(pod, request.timeout, outputs)

    async def _built(
        self, client: ArgoWorkflows, worker: Worker, request: BuildRequest, ref: WorkflowRef, decided: Decided
    ) -> BuiltImage:
        status, node = await self._demand(client, worker, ref, decided)
        if node.failed:
            await _build_failed(client, request, status, node)
        digest = text(map_(_json(node.parameters.get(_WORD, ""))).get("digest"))
        if not digest.startswith("sha256:"):
            raise BadResponse(f"Argo {ref} has ended well, and does not say which image it built")
        builder = _builder(request)
        facts = {
            "workflow": ref.name,
            "namespace": ref.namespace,
            "uid": status.uid,
            "attestations": self.attestations and builder == "buildkit",
        }
        return BuiltImage(digest, builder, facts)


class WorkflowsTests(WorkflowsBackend):
    """Runs the tests by a workflow, in the image that was built.

    The reports are output artifacts: the namespace needs an artifact repository.

    :param checkout: fetch the commit's tree and run the command there; otherwise it runs where the image says.
    :param options: as for :class:`WorkflowsBackend`.
    """

    what = "test"

    def __init__(self, *, checkout: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.checkout = checkout

    def start(self, request: TestRequest, worker: Worker) -> TestResult | Waiting:
        """Begin the tests, or find them begun."""
        return self._advance(request, worker, None)

    def resume(self, request: TestRequest, worker: Worker, event: Mapping[str, Any]) -> TestResult | Waiting:
        """Go on when a run is over; the next one begins if tests failed, and another is allowed."""
        return self._advance(request, worker, self._resumed(event))

    def _advance(
        self, request: TestRequest, worker: Worker, told: tuple[WorkflowRef, Decided] | None
    ) -> TestResult | Waiting:
        manifest = self.composed(request)

        async def work(client: ArgoWorkflows) -> TestResult | Waiting:
            attempts: list[Attempt] = []
            facts: dict[str, Any] = {}
            for number in range(request.reruns + 1):
                if told and told[0].name == self.named(worker, number)[0]:
                    ref, decided = told
                else:
                    found = await self._begun(client, worker, manifest, number, retry=False)
                    outcome = await self._over(client, worker, found, request.timeout)
                    if isinstance(outcome, Waiting):
                        return outcome
                    ref, decided = found.ref, outcome
                status, node = await self._demand(client, worker, ref, decided)
                attempts.append(await self._attempt(client, status, node))
                facts = {"workflow": ref.name, "namespace": ref.namespace, "uid": status.uid}
                if not attempts[-1].status:
                    break
            return TestResult(tuple(attempts), facts)

        return self._hook().run(work)

    def composed(self, request: TestRequest) -> dict[str, Any]:
        """Return the workflow of a test run."""
        remedy = "Pass the reference that BuildImageOperator returned."
        not_empty(
            "image", request.image, "tests on Argo Workflows run in an image, and none was named", remedy
        )
        words = request.command or ("python", "-m", "pytest", "-q", "--junitxml", "{junit}")
        url = source_url(request.git_conn_id) if self.checkout else ""
        pod = pods.tests(request, url, self.settings, words=words, checkout=self.checkout, helper="unused")
        inits = pod["spec"]["initContainers"]
        pod["spec"]["initContainers"] = [one for one in inits if one["name"] != pods.HANDOVER]
        artifacts = [
            {
                "name": name,
                "path": f"{pods.REPORTS_FOLDER}/{file}",
                "optional": True,
                "archive": {"none": {}},
            }
            for name, file in _REPORTS.items()
        ]
        return workflow_of(pod, request.timeout, {"artifacts": artifacts})

    async def _attempt(self, client: ArgoWorkflows, status: WorkflowStatus, node: Node) -> Attempt:
        lines, said = await log_of(client, status, node), []
        if lines is None:
            said.append("no logs are left")
        reports: dict[str, bytes] = {}
        ref = WorkflowRef(status.name, status.namespace, status.uid)
        for name in [name for name in _REPORTS if any(one.get("name") == name for one in node.artifacts)]:
            try:
                content = await client.artifact(ref, node.id, name, archived=status.archived)
            except (NotFound, InvalidInput) as error:
                said.append(f"the {name} report cannot be read: {error.message}")
            else:
                reports[name] = content.encode()
        cause = cause_of(node) if node.failed else None
        return Attempt(
            status=node.exit_code if node.exit_code is not None else (-1 if node.failed else 0),
            timed_out=cause is not None and cause.kind == "deadline",
            seconds=between(node.started_at, node.finished_at),
            output="\n".join([*(lines or ()), *said])[-_TAIL:],
            report=reports.get("junit"),
            coverage=reports.get("coverage"),
        )


def workflow_of(pod: Mapping[str, Any], timeout: timedelta, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the workflow of one pod.

    :param pod: its manifest.
    :param timeout: for the work.
    :param outputs: of its only template.
    :return: the manifest of the workflow.
    :raises InvalidInput: for a text in it that Argo Workflows would take for a variable of its own.
    """
    spec = dict(pod["spec"])
    (main,) = spec["containers"]
    template: dict[str, Any] = {
        "name": "main",
        "container": {key: value for key, value in main.items() if key != "name"},
        "activeDeadlineSeconds": str(int(timeout.total_seconds())),
        "outputs": dict(outputs),
    }
    for name in (
        "initContainers",
        "volumes",
        "nodeSelector",
        "tolerations",
        "serviceAccountName",
        "securityContext",
    ):
        if spec.get(name):
            template[name] = spec[name]
    _refuse_variables(template)
    top = {"imagePullSecrets": spec["imagePullSecrets"]} if spec.get("imagePullSecrets") else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {},
        "spec": {"entrypoint": "main", "archiveLogs": True, **top, "templates": [template]},
    }


def _refuse_variables(value: Any) -> None:
    """Refuse what Argo Workflows would replace; it knows no way to write two braces as they are."""
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_variables(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_variables(item)
    elif isinstance(value, str) and "{{" in value:
        at = value.index("{{")
        raise InvalidInput(
            f"{value[max(0, at - 20) : at + 30]!r} holds two braces, which Argo Workflows takes for a variable of its own",
            field="backend",
            value="argo_workflows",
            remedy="Build it with backend='kubernetes', or without such braces in Containerfile, arguments and command.",
        )


async def _stopped(client: ArgoWorkflows, ref: WorkflowRef) -> None:
    """Stop what nobody waits for any more; best effort, since why is being said already."""
    try:
        await client.act(ref, "stop")
    except PipeOpsError:
        return


async def _build_failed(
    client: ArgoWorkflows, request: BuildRequest, status: WorkflowStatus, node: Node
) -> None:
    """Raise why a build has failed, by its log."""
    cause = cause_of(node)
    if cause is not None and cause.kind == "deadline":
        minutes = request.timeout.total_seconds() / 60
        raise BuildFailed(
            f"the build did not end within {minutes:g} min, and was stopped", remedy="Raise its timeout."
        )
    lines = await log_of(client, status, node) or []
    step = failed_step(lines)
    if step is None:
        said = "\n".join(f"  {line}" for line in lines[-20:]) or "  no logs are left"
        raise BuildFailed(f"the builder ended with status {node.exit_code}; it said last:\n{said}\n")
    if step.passing:
        raise Unreachable(str(step), remedy="A retry builds anew.")
    raise BuildFailed(f"{step}\n")


def _builder(request: BuildRequest) -> str:
    found = one_of("builder", request.builder, ("auto", "buildkit", "buildah"))
    return "buildkit" if found == "auto" else found


def _json(content: str) -> Any:
    try:
        return parsed(content)
    except ValueError:
        return None
