"""Builds images and runs tests in a Kubernetes cluster: one Job for one act, found again by whoever asks again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_pipeops.base.arguments import not_empty, one_of, positive
from airflow_pipeops.base.connections import work_with
from airflow_pipeops.base.documents import map_, parsed, text
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
from airflow_pipeops.build.cluster.client import (
    JobController,
    JobRef,
    begin,
    remove,
    seen,
    waiting,
)
from airflow_pipeops.build.cluster.jobs import LATER, act_of, job, name_of_job
from airflow_pipeops.build.cluster.judgement import ENDED, LOST, Seen
from airflow_pipeops.build.cluster.reports import handed_over
from airflow_pipeops.build.cluster.steps import failed_step
from airflow_pipeops.build.oci import is_digest
from airflow_pipeops.build.testrun import worth_a_rerun
from airflow_pipeops.exceptions import (
    BadResponse,
    BuildFailed,
    InvalidInput,
    NotFound,
    PipeOpsError,
    PodFailed,
    PodLost,
    Unreachable,
    WaitTimeout,
)
from airflow_pipeops.kubernetes.logs import Position, read_on
from airflow_pipeops.waits.controller import look_once
from airflow_pipeops.waits.operators import MARGIN
from airflow_pipeops.waits.wait import Decided, Wait, raise_error_of

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

Result = TypeVar("Result")

#: How much of a log an attempt keeps, in characters.
TAIL = 64 * 1024
#: What a person can do where a pod could not begin.
_REMEDIES = {
    "image": "Check the name of the image, and that the cluster may pull it (registry_secret).",
    "memory": "Raise resources['limits']['memory'] of the backend.",
    "mount": "Make the Secret in the namespace of the Job, or name the right one.",
    "refused": "The namespace must let rootless builders run: see docs/build-kubernetes.md.",
    "source": "Check git_secret of the backend, and that the cluster reaches the repository.",
}
#: Rules that say that the pod, and not the work, is at fault, and that nothing changes by itself.
_BROKEN = ("image", "memory", "cannot_run", "mount", "refused", "source", "beside", "unexplained", "deleted")


class KubernetesBackend:
    """What the backends of a cluster share.

    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param namespace: for the Jobs; by default that of the connection, else ``default``.
    :param service_account: that the pods run as.
    :param resources: requests and limits of the main container.
    :param node_selector: labels of the nodes that will do.
    :param tolerations: of taints.
    :param pod_template: path of a YAML file with a Pod, or the Pod, beneath what is composed here.
    :param git_secret: name of a Secret in the namespace that opens the repository.
    :param registry_secret: name of a Secret of type ``kubernetes.io/dockerconfigjson``, for pushing and pulling.
    :param git_image: image with Git that fetches the source.
    :param lfs: fetch what is kept by Git LFS, too.
    :param startup_timeout: for which a pod may find no room, no node and no image.
    :param keep: for which a Job that has ended stays in the cluster.
    :param poll_interval: between two looks, and between two reads of the log.
    :param deferrable: wait in the triggerer; by default ``[operators] default_deferrable``.
    """

    #: What is done here, in the names of Jobs.
    what = ""

    def __init__(
        self,
        *,
        kubernetes_conn_id: str = "kubernetes_default",
        namespace: str = "",
        service_account: str = "",
        resources: Mapping[str, Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] = (),
        pod_template: str | Mapping[str, Any] = "",
        git_secret: str = "",
        registry_secret: str = "",
        git_image: str = pods.GIT_IMAGE,
        lfs: bool = False,
        startup_timeout: timedelta = timedelta(minutes=10),
        keep: timedelta = timedelta(hours=1),
        poll_interval: timedelta = timedelta(seconds=5),
        deferrable: bool | None = None,
    ) -> None:
        self.kubernetes_conn_id, self.namespace = kubernetes_conn_id, namespace
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
        self.pod_template = pod_template
        self.startup = positive("startup_timeout", startup_timeout).total_seconds()
        self.kept = positive("keep", keep).total_seconds()
        self.poll_interval = positive("poll_interval", poll_interval).total_seconds()
        self.deferrable = deferrable_by_default() if deferrable is None else deferrable
        self._ref: JobRef | None = None
        self._killed = False

    def kill(self) -> None:
        """Delete the Job that is waited for: nobody waits for it any more."""
        ref, self._killed = self._ref, True
        if ref is None:
            return

        async def work(client: KubernetesClient) -> None:
            await remove(client, ref)

        def end() -> None:
            # What cannot be deleted now ends by its own deadline.
            with contextlib.suppress(PipeOpsError):
                self._run(work, attempts=2, timeout=10.0)

        beside(end)

    def _run(self, work: Callable[[KubernetesClient], Awaitable[Result]], **options: Any) -> Result:
        from airflow_pipeops.kubernetes.connections import connect

        client = connect(self.kubernetes_conn_id, **options)
        self.namespace = self.namespace or client.namespace or "default"
        return work_with(client, work)

    def _pod(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_pipeops.build.cluster.templates import merged, template_of

        return merged(template_of(self.pod_template), pod)

    async def _begun(
        self,
        client: KubernetesClient,
        worker: Worker,
        pod: Mapping[str, Any],
        timeout: timedelta,
        number: int = 0,
    ) -> JobRef:
        """Find or create the Job of an act."""
        act = act_of(worker.key, self.what, number)

        def make(turn: int) -> dict[str, Any]:
            body = job(
                self.what,
                act,
                turn,
                worker.key,
                pod,
                timeout=timeout.total_seconds(),
                wait=self.startup,
                keep=self.kept,
            )
            # Whoever kills the task before it has heard of the Job takes it away, too.
            self._ref = JobRef(self.namespace, body["metadata"]["name"])
            return body

        ref, new = await begin(client, self.namespace, act, make)
        self._ref = ref
        if self._killed:  # before there was anything to delete
            await remove(client, ref)
        worker.say(f"Job {ref.namespace}/{ref.name} {'created' if new else 'found, which was begun before'}")
        return ref

    async def _over(
        self, client: KubernetesClient, worker: Worker, ref: JobRef, timeout: timedelta
    ) -> Decided | Waiting:
        """Wait until a Job is over, here or in the triggerer; its log is told by whoever waits."""
        whole = timeout.total_seconds() + self.startup + LATER + 60.0
        wait = waiting(ref, whole)
        wait._on_change = lambda verdict: worker.say(f"{verdict.state}: {verdict.reason} ({verdict.rule})")
        controller, position = JobController(client, self.startup), Position()
        await look_once(controller, [wait])
        while not wait.over and not self.deferrable:
            position = await self._tell(client, worker, ref, wait, position)
            await asyncio.sleep(wait.look_again_in(self.poll_interval))
            await look_once(controller, [wait])
        if wait.over:
            await self._tell(client, worker, ref, wait, position, last=True)
            return wait.state
        from airflow_pipeops.build.cluster.triggers import KubernetesJobTrigger

        trigger = KubernetesJobTrigger(
            kubernetes_conn_id=self.kubernetes_conn_id,
            namespace=ref.namespace,
            name=ref.name,
            container=pods.MAIN,
            expectation=wait.state.expectation.to_json(),
            memory=wait.state.memory.to_json(),
            startup=self.startup,
            poll_interval=self.poll_interval,
        )
        return Waiting(trigger, timedelta(seconds=whole) + MARGIN)

    async def _resumed(
        self, client: KubernetesClient, worker: Worker, ref: JobRef, event: Mapping[str, Any]
    ) -> Decided:
        """Take over from the trigger, and tell the rest of the log."""
        decided = Decided.from_json(event["decided"])
        worker.say(f"{decided.verdict.state}: {decided.verdict.reason} ({decided.verdict.rule})")
        position = Position.from_json(event.get("log"))
        await self._tell(client, worker, ref, decided, position, last=True)
        return decided

    async def _tell(
        self,
        client: KubernetesClient,
        worker: Worker,
        ref: JobRef,
        about: Wait | Decided,
        position: Position,
        *,
        last: bool = False,
    ) -> Position:
        """Tell what a log has more; of the last time, that it may be incomplete, unless it was read after its end."""
        state = about.state if isinstance(about, Wait) else about
        pod = text(state.verdict.details.get("pod"))
        if not pod:
            return position
        begun, doubt = bool(position.since), ""
        try:
            lines, position = await read_on(client, ref.namespace, pod, pods.MAIN, position)
        except NotFound:
            worker.say(f"No {'more ' if begun else ''}logs are left of pod {pod}")
            lines, doubt = [], "it is gone with its pod, and was not read to its end before" if begun else ""
        except (Unreachable, BadResponse) as error:
            lines, doubt = [], error.message  # the next look, if there is one, reads on from there
        for line in lines:
            worker.say(line)
        if position.since and state.verdict.rule not in ENDED:
            doubt = doubt or "the end of its container was not seen"
        if last and doubt:
            worker.say(f"The log of pod {pod} may be incomplete: {doubt}")
        return position

    async def _demand(self, client: KubernetesClient, ref: JobRef, decided: Decided) -> Seen:
        """Return what is there of a Job whose work has ended; otherwise say why nobody knows, and leave nothing at it.

        What has ended by itself stays for whoever looks it up, as long as it is kept.
        """
        rule = decided.verdict.rule
        if rule in ENDED:
            there = await seen(client, ref, self.startup)
            if there.pod or rule == "too_long":
                return there
            raise PodLost(
                f"Job {ref.namespace}/{ref.name}: its pod is gone, before its last words and its log were read",
                remedy="A retry begins it anew.",
            )
        error = self._error(ref, decided)
        try:
            if not await _has_ended(client, ref):
                await remove(client, ref)
        except PipeOpsError as failed:
            raise type(error)(f"{error}; and the Job could not be deleted: {failed}") from failed
        raise error

    def _error(self, ref: JobRef, decided: Decided) -> PipeOpsError:
        rule, said = decided.verdict.rule, f"Job {ref.namespace}/{ref.name}: {decided.verdict.reason}"
        if rule in LOST:
            return PodLost(said, remedy="A retry begins it anew.")
        if rule in _BROKEN:
            return PodFailed(said, remedy=_REMEDIES.get(rule, ""))
        if rule == "deadline":
            return WaitTimeout(said)
        return decided.error(said)


class KubernetesBuild(KubernetesBackend):
    """Builds an image by a Job, and pushes it from there.

    :param builder_image: of BuildKit or Buildah, in place of the usual one.
    :param cache: keep what was built in the registry, beside the image, for the next build.
    :param attestations: what BuildKit says in the registry of how the image came about and what is in it, and how; none for
        an empty mapping. They hold the time, so the digest of the index differs between two builds of the same tree; that of
        the image in it does not. An SBOM is made by an image from Docker Hub, or by that of ``{"sbom": "generator=..."}``.
    :param options: as for :class:`KubernetesBackend`.
    """

    what = "build"

    def __init__(
        self,
        *,
        builder_image: str = "",
        cache: bool = True,
        attestations: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.builder_image, self.cache, self.lfs = builder_image, cache, self.settings.lfs
        self.attestations = pods.ATTESTATIONS if attestations is None else dict(attestations)

    def platform(self) -> str:
        """Return the platform of the nodes that the pod may run on, or the place where nothing says which that is."""
        from airflow_pipeops.build.cluster.templates import template_of

        spec = map_(map_(template_of(self.pod_template)).get("spec"))
        chosen = {**map_(spec.get("nodeSelector")), **self.settings.node_selector}
        found = text(chosen.get("kubernetes.io/arch"))
        return f"linux/{found}" if found else f"a node of {self.kubernetes_conn_id}"

    def start(self, request: BuildRequest, worker: Worker) -> BuiltImage | Waiting:
        """Begin the build, or find it begun."""
        pod = self._pod(self._composed(request))

        async def work(client: KubernetesClient) -> BuiltImage | Waiting:
            ref = await self._begun(client, worker, pod, request.timeout)
            decided = await self._over(client, worker, ref, request.timeout)
            return (
                decided if isinstance(decided, Waiting) else await self._built(client, request, ref, decided)
            )

        return self._run(work)

    def resume(self, request: BuildRequest, worker: Worker, event: Mapping[str, Any]) -> BuiltImage | Waiting:
        """Go on when the Job is over."""
        raise_error_of(event)
        ref = self._ref = JobRef.from_json(event["job"])

        async def work(client: KubernetesClient) -> BuiltImage:
            decided = await self._resumed(client, worker, ref, event)
            return await self._built(client, request, ref, decided)

        return self._run(work)

    def _composed(self, request: BuildRequest) -> dict[str, Any]:
        builder, url = self._builder(request), url_of(request.git_conn_id)
        if builder == "buildkit":
            return pods.buildkit(
                request,
                url,
                self.settings,
                image=self.builder_image or pods.BUILDKIT_IMAGE,
                cache=self.cache,
                attestations=self.attestations,
            )
        image = self.builder_image or pods.BUILDAH_IMAGE
        return pods.buildah(request, url, self.settings, image=image, cache=self.cache)

    @staticmethod
    def _builder(request: BuildRequest) -> str:
        found = one_of("builder", request.builder, ("auto", "buildkit", "buildah"))
        return "buildkit" if found == "auto" else found

    async def _built(
        self, client: KubernetesClient, request: BuildRequest, ref: JobRef, decided: Decided
    ) -> BuiltImage:
        there = await self._demand(client, ref, decided)
        end, builder = there.end_of(pods.MAIN), self._builder(request)
        if decided.verdict.rule == "too_long":
            minutes = request.timeout.total_seconds() / 60
            raise BuildFailed(
                f"the build did not end within {minutes:g} min, and was stopped", remedy="Raise its timeout."
            )
        if decided.verdict.rule == "exit":
            await self._failed(client, ref, there)
        digest = text(map_(last_word(end.message if end else "")).get("digest"))
        if not is_digest(digest):
            await remove(client, ref)  # it would be found again, and say as little
            raise BadResponse(
                f"Job {ref.namespace}/{ref.name} has ended well, and does not say which image it built"
            )
        facts = {
            "job": ref.name,
            "namespace": ref.namespace,
            "pod": _pod_name(there),
            "builder_image": there.image_of(pods.MAIN),
            "attestations": sorted(self.attestations) if builder == "buildkit" else [],
        }
        return BuiltImage(digest, builder, facts)

    async def _failed(self, client: KubernetesClient, ref: JobRef, there: Seen) -> None:
        """Raise why a build has failed, by its log; the end of which the kubelet keeps where the log itself is gone."""
        end = there.end_of(pods.MAIN)
        lines = await _log(client, ref, there, pods.MAIN) or (end.message.splitlines() if end else [])
        step = failed_step(lines)
        if step is None:
            said = "\n".join(f"  {line}" for line in lines[-20:]) or "  no logs are left"
            raise BuildFailed(
                f"the builder ended with status {end.code if end else 'unknown'}; it said last:\n{said}\n"
            )
        if step.passing:
            await remove(client, ref)  # a retry would find it, and what it said
            raise Unreachable(str(step), remedy="A retry builds anew.")
        raise BuildFailed(f"{step}\n")


class KubernetesTests(KubernetesBackend):
    """Runs the tests by a Job, in the image that was built.

    :param checkout: fetch the commit's tree and run the command there; otherwise it runs where the image says.
    :param helper_image: image with a shell, of the sidecar that hands over the reports; by default that of the
        connection, or of Airflow's provider.
    :param options: as for :class:`KubernetesBackend`.
    """

    what = "test"

    def __init__(self, *, checkout: bool = False, helper_image: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.checkout, self.helper_image = checkout, helper_image

    def start(self, request: TestRequest, worker: Worker) -> TestResult | Waiting:
        """Begin the tests, or find them begun."""
        return self._advance(request, worker, {})

    def resume(self, request: TestRequest, worker: Worker, event: Mapping[str, Any]) -> TestResult | Waiting:
        """Go on when a run is over; the next one begins if tests failed, and another is allowed."""
        raise_error_of(event)
        return self._advance(request, worker, event)

    def _advance(
        self, request: TestRequest, worker: Worker, event: Mapping[str, Any]
    ) -> TestResult | Waiting:
        pod = self._pod(self._composed(request))
        told = JobRef.from_json(event["job"]) if event else None

        async def work(client: KubernetesClient) -> TestResult | Waiting:
            attempts: list[Attempt] = []
            facts: dict[str, Any] = {}
            for number in range(request.reruns + 1):
                first = name_of_job(self.what, act_of(worker.key, self.what, number), 0)
                if told and told.name.startswith(first):
                    # What the trigger has told is the answer, also where the pod was lost: a new one is the retry's.
                    ref = self._ref = told
                    decided: Decided | Waiting = await self._resumed(client, worker, ref, event)
                else:
                    ref = await self._begun(client, worker, pod, request.timeout, number)
                    decided = await self._over(client, worker, ref, request.timeout)
                if isinstance(decided, Waiting):
                    return decided
                there = await self._demand(client, ref, decided)
                attempts.append(await self._attempt(client, ref, there, decided))
                facts = {
                    "job": ref.name,
                    "namespace": ref.namespace,
                    "pod": _pod_name(there),
                    "image": there.image_of(pods.MAIN),
                }
                if not worth_a_rerun(attempts[-1]):
                    break
            return TestResult(tuple(attempts), facts)

        return self._run(work)

    def _composed(self, request: TestRequest) -> dict[str, Any]:
        remedy = "Pass the reference that BuildImageOperator returned."
        not_empty("image", request.image, "tests in a cluster run in an image, and none was named", remedy)
        words = request.command or ("python", "-m", "pytest", "-q", "--junitxml", "{junit}")
        url = url_of(request.git_conn_id) if self.checkout else ""
        helper = self.helper_image or _helper(self.kubernetes_conn_id)
        return pods.tests(request, url, self.settings, words=words, checkout=self.checkout, helper=helper)

    async def _attempt(self, client: KubernetesClient, ref: JobRef, there: Seen, decided: Decided) -> Attempt:
        end, output = there.end_of(pods.MAIN), await _log(client, ref, there, pods.MAIN)
        handed = handed_over(await _log(client, ref, there, pods.HANDOVER) or [])
        said = [f"{name} was not handed over: {why}" for name, why in handed.problems.items()]
        if not handed.whole and not handed.files:
            said.append("the sidecar that hands over the reports was ended before it could")
        return Attempt(
            status=end.code if end else -1,
            timed_out=decided.verdict.rule == "too_long",
            seconds=seconds_between(end.began, end.at) if end else 0.0,
            output="\n".join([*(["no logs are left"] if output is None else output), *said])[-TAIL:],
            report=handed.files.get("junit.xml"),
            coverage=handed.files.get("coverage.xml"),
        )


async def _has_ended(client: KubernetesClient, ref: JobRef) -> bool:
    try:
        there = await seen(client, ref, 0.0)
    except NotFound:
        return True
    return bool(there.condition) or there.phase in ("Succeeded", "Failed")


async def _log(client: KubernetesClient, ref: JobRef, there: Seen, container: str) -> list[str] | None:
    """Return all that a container wrote; ``None`` where its log is gone."""
    try:
        lines, _ = await read_on(client, ref.namespace, _pod_name(there), container, Position())
    except (NotFound, InvalidInput):
        return None
    return lines


def _pod_name(there: Seen) -> str:
    return text(map_(there.pod.get("metadata")).get("name"))


def last_word(message: str) -> Any:
    """Return what a container said last, as JSON; ``None`` where it is none."""
    try:
        return parsed(message)
    except ValueError:
        return None


def seconds_between(began: str, ended: str) -> float:
    """Return the seconds between two moments as Kubernetes writes them; 0 where they cannot be read."""
    try:
        first, last = (datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (began, ended))
    except ValueError:
        return 0.0
    return max(0.0, (last - first).total_seconds())


def url_of(git_conn_id: str) -> str:
    """Return where the cluster fetches from: what the connection names, without what opens it."""
    from airflow_pipeops.git.hook import GitHook

    url = GitHook(git_conn_id).get_conn().display_url
    if url.startswith(("/", "file:")):
        raise InvalidInput(
            f"connection {git_conn_id!r} names a folder of this machine, which a pod does not reach",
            field=f"{git_conn_id}.host",
            value=url,
            remedy="Name the repository by https or ssh.",
        )
    return url


def _helper(conn_id: str) -> str:
    """Return the image that Airflow's provider takes for its own sidecar."""
    from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults

    from airflow_pipeops.kubernetes.connections import extra_of, field_of

    return str(
        field_of(extra_of(conn_id), "xcom_sidecar_container_image") or PodDefaults.SIDECAR_CONTAINER.image
    )


def deferrable_by_default() -> bool:
    """Return whether Airflow is configured to wait in the triggerer."""
    from airflow.sdk.configuration import conf

    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
