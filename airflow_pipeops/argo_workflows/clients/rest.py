"""Argo Workflows through its server's REST API: only what PipeOps needs, with typed errors and bounded retries.

What carries the calls is another in a worker (:mod:`~airflow_pipeops.argo_workflows.clients.worker`) than where an event
loop runs (:class:`LoopHttp`, over httpx); the calls are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_pipeops.argo_workflows.clients.errors import error_of
from airflow_pipeops.argo_workflows.clients.protocol import Act, Trial, WorkflowRef, gone
from airflow_pipeops.argo_workflows.manifest import API_VERSION
from airflow_pipeops.argo_workflows.status import FIELDS
from airflow_pipeops.base.arguments import object_name
from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.base.http import MANY, Http, tls_context
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    NotFound,
    Unreachable,
)
from airflow_pipeops.waits.streams.source import unknown_credential

if TYPE_CHECKING:
    import httpx

    from airflow_pipeops.argo_workflows.clients.worker import WorkerHttp

#: The server sends nothing to keep a stream alive, so one that says nothing for so long is opened anew; seconds.
SILENCE = 60.0
#: A log may be silent for long: the work computes.
_LOG_SILENCE = 3600.0
#: No longer line of a log is of use.
_LONGEST_LINE = 10_000
_PROBE = "pipeops-probe"


class LoopHttp(Http):
    """Calls to one server over httpx, where an event loop runs. Use it as ``async with``.

    :param url: base URL.
    :param authorization: value of the header; empty for none.
    :param verify_tls: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it.
    :param limits: ``timeout``, ``attempts`` and ``pause``, as for :class:`~airflow_pipeops.base.http.Http`.
    """

    def __init__(
        self, url: str, authorization: str = "", *, verify_tls: bool = True, ca_file: str = "", **limits: Any
    ) -> None:
        super().__init__(url, self._open, error_of, **limits)
        self._authorization, self._verify_tls, self._ca_file = authorization, verify_tls, ca_file
        self._httpx: httpx.AsyncClient | None = None

    async def __aenter__(self) -> LoopHttp:
        import httpx

        headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        verify = tls_context(self._ca_file) if self._verify_tls and self._ca_file else self._verify_tls
        self._httpx = httpx.AsyncClient(
            headers=headers, verify=authorities(verify), timeout=self.timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._httpx is not None:
            await self._httpx.aclose()
            self._httpx = None

    async def _open(self) -> httpx.AsyncClient:
        assert self._httpx is not None, "use LoopHttp as 'async with'"
        return self._httpx


class ArgoWorkflowsClient:
    """One server. Use it as ``async with``. Its calls are those of
    :class:`~airflow_pipeops.argo_workflows.clients.protocol.ArgoWorkflows`, which documents each.

    :param http: carries the calls.
    :param silence: seconds without a word after which a stream of events is opened anew.
    """

    lacks: tuple[str, ...] = ()

    def __init__(self, http: LoopHttp | WorkerHttp, *, silence: float = SILENCE) -> None:
        self.http, self._silence = http, silence

    async def __aenter__(self) -> ArgoWorkflowsClient:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.__aexit__(*error)

    # ---- workflows ---------------------------------------------------------------------------------------------------

    async def get(self, ref: WorkflowRef, *, whole: bool = False) -> dict[str, Any]:
        """Return a workflow, from the archive where it is not live any more."""
        fields = {} if whole else {"fields": ",".join(FIELDS)}
        params = {**fields, **({"uid": ref.uid} if ref.uid else {})}
        try:
            found = await self.http.object(
                "GET", _path(ref.namespace, ref.name), params=params, about=str(ref), most=MANY
            )
            uid = text(map_(found.get("metadata")).get("uid"))
            if ref.uid in ("", uid):
                return found
            # A server before 3.7 answers by the name alone: another one, or an older one out of its archive.
            why = f"under its name there is another one, of uid {uid}"
        except NotFound as error:
            if not ref.uid:
                raise
            why = error.message
        try:
            return await self.http.object(
                "GET",
                f"/api/v1/archived-workflows/{_quoted(ref.uid)}",
                about=str(ref),
                most=MANY,
            )
        except (NotFound, AccessDenied, InvalidInput) as error:
            raise gone(ref, f"{why}; archive: {error.message}") from error

    async def find(self, namespace: str, labels: str, *, archived: bool = True) -> list[dict[str, Any]]:
        """Return the workflows with a label selector."""
        about = f"the workflows of {namespace} with {labels or 'any label'}"
        fields = ",".join(f"items.{name}" for name in FIELDS)
        params = {"listOptions.labelSelector": labels, "fields": fields}
        answer = await self.http.object(
            "GET", _path(namespace), params={k: v for k, v in params.items() if v}, about=about, most=MANY
        )
        return [dict(one) for one in maps(answer.get("items"))]

    async def lint(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Have a workflow checked."""
        body = {"namespace": namespace, "workflow": dict(manifest)}
        try:
            await self.http.object("POST", f"{_path(namespace)}/lint", json=body, about="the workflow")
        except NotFound as error:
            raise InvalidInput(
                f"the workflow refers to what is not there: {error.message}", field="workflow"
            ) from error

    async def template(self, namespace: str, name: str, *, cluster_scope: bool) -> dict[str, Any]:
        """Return a template."""
        where = "cluster-workflow-templates" if cluster_scope else f"workflow-templates/{_quoted(namespace)}"
        kind = "ClusterWorkflowTemplate" if cluster_scope else "WorkflowTemplate"
        about = f"{kind} {name}" if cluster_scope else f"{kind} {namespace}/{name}"
        return await self.http.object(
            "GET", f"/api/v1/{where}/{_quoted(object_name(name))}", about=about, most=MANY
        )

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a workflow."""
        name = text(map_(manifest.get("metadata")).get("name"))
        body = {"namespace": namespace, "workflow": dict(manifest)}
        about = str(WorkflowRef(name, namespace))
        return await self.http.object("POST", _path(namespace), json=body, about=about, most=MANY)

    async def act(self, ref: WorkflowRef, act: Act, **options: Any) -> dict[str, Any]:
        """Do something with a workflow."""
        body = {"name": ref.name, "namespace": ref.namespace, **options}
        try:
            await self._demand_live(ref)
            return await self.http.object(
                "PUT", f"{_path(ref.namespace, ref.name)}/{act}", json=body, about=str(ref), most=MANY
            )
        except NotFound:
            if not ref.uid or act not in ("retry", "resubmit"):
                raise
        path = f"/api/v1/archived-workflows/{_quoted(ref.uid)}/{act}"
        return await self.http.object("PUT", path, json={**body, "uid": ref.uid}, about=str(ref), most=MANY)

    async def _demand_live(self, ref: WorkflowRef) -> None:
        """Refuse to act on another workflow of the name, where a uid is given: the server's acts know names alone.

        :raises NotFound: if another one has the name.
        """
        if not ref.uid:
            return
        fields = {"fields": "metadata.name,metadata.uid"}
        found = await self.http.object("GET", _path(ref.namespace, ref.name), params=fields, about=str(ref))
        uid = text(map_(found.get("metadata")).get("uid"))
        if uid != ref.uid:
            raise NotFound(
                f"{ref} (uid {ref.uid}) is not live: under its name there is another one, of uid {uid}"
            )

    async def logs(
        self, ref: WorkflowRef, *, pod: str = "", tail: int = 0, follow: bool = False
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Yield ``(pod, line)`` of the main containers."""
        params = {"logOptions.container": "main"}
        if pod:
            params["podName"] = pod
        if tail:
            params["logOptions.tailLines"] = str(tail)
        if follow:
            params["logOptions.follow"] = "true"
        about, silence = f"the log of {ref}", _LOG_SILENCE if follow else self.http.timeout
        path = f"{_path(ref.namespace, ref.name)}/log"
        async with aclosing(self.http.lines(path, params=params, about=about, silence=silence)) as lines:
            async for line in lines:
                if line.strip():
                    entry = map_(_frame(line, about, self.http.url))
                    yield text(entry.get("podName")), text(entry.get("content"), _LONGEST_LINE)

    async def artifact(self, ref: WorkflowRef, node: str, name: str, *, archived: bool) -> str:
        """Return an output artifact of a node, as text."""
        kind, ident = ("archived-workflows", ref.uid) if archived else ("workflows", ref.name)
        path = "/".join(
            _quoted(part) for part in ("artifact-files", ref.namespace, kind, ident, node, "outputs", name)
        )
        about = f"artifact {name} of {ref}"
        return await self.http.text(f"/{path}", about=about, most=MANY)

    async def watch(self, namespace: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield each workflow that there is, then each change."""
        about = f"the events of workflows in {namespace}"
        fields = ["result.type", *(f"result.object.{name}" for name in FIELDS)]
        path, params = f"/api/v1/workflow-events/{_quoted(namespace)}", {"fields": ",".join(fields)}
        while True:
            stream = self.http.lines(path, params=params, about=about, silence=10 * self._silence)
            # Quiet, or dead: nobody can tell, so it is opened anew.
            async with aclosing(stream) as lines, aclosing(_until_silent(lines, self._silence)) as spoken:
                async for line in spoken:
                    if line.strip():
                        yield _event(_frame(line, about, self.http.url), about)

    # ---- cron --------------------------------------------------------------------------------------------------------

    async def cron(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a ``CronWorkflow``."""
        return await self.http.object(
            "GET", _cron(namespace, name), about=f"cron workflow {namespace}/{name}"
        )

    async def create_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a ``CronWorkflow``."""
        name = text(map_(manifest.get("metadata")).get("name"))
        body = {"namespace": namespace, "cronWorkflow": dict(manifest)}
        return await self.http.object(
            "POST", _cron(namespace), json=body, about=f"cron workflow {namespace}/{name}"
        )

    async def replace_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a ``CronWorkflow``."""
        name = text(map_(manifest.get("metadata")).get("name"))
        body = {"name": name, "namespace": namespace, "cronWorkflow": dict(manifest)}
        return await self.http.object(
            "PUT", _cron(namespace, name), json=body, about=f"cron workflow {namespace}/{name}"
        )

    async def suspend_cron(self, namespace: str, name: str, *, suspend: bool) -> dict[str, Any]:
        """Suspend a ``CronWorkflow``, or let it run again."""
        path = f"{_cron(namespace, name)}/{'suspend' if suspend else 'resume'}"
        body = {"name": name, "namespace": namespace}
        return await self.http.object("PUT", path, json=body, about=f"cron workflow {namespace}/{name}")

    # ---- the server itself -------------------------------------------------------------------------------------------

    async def trial(self, namespace: str) -> Trial:
        """Try what can be tried, and name the verbs that are missing."""
        version = await self.http.object("GET", "/api/v1/version", about="its version")
        greeting = (
            f"Argo Workflows {text(version.get('version')) or 'of unknown version'}, namespace {namespace}"
        )
        tries = (
            ("get and list workflows", "to wait", self._try_list(namespace)),
            ("watch workflows", "for one stream in place of polling", self._try_watch(namespace)),
            ("create workflows", "for ArgoWorkflowOperator", self._try_create(namespace)),
            ("get workflowtemplates", "to run a template by its name", self._try_template(namespace)),
            (
                "get clusterworkflowtemplates",
                "with cluster_scope",
                self._try_template(namespace, cluster=True),
            ),
            ("get cronworkflows", "for cron workflows", self._try_cron(namespace)),
        )
        lacking = [f"{verb} ({purpose})" for verb, purpose, trying in tries if not await trying]
        untried = (
            "whether it may stop, retry and suspend, read logs (pods/log), and create and change cronworkflows shows only "
            "where it does"
        )
        return Trial(
            greeting, tuple(lacking), untried, usable=not any(one.startswith("get and") for one in lacking)
        )

    async def _try_list(self, namespace: str) -> bool:
        params = {"listOptions.limit": "1", "fields": "items.metadata.name"}
        return await _permitted(self.http.object("GET", _path(namespace), params=params, about="workflows"))

    async def _try_watch(self, namespace: str) -> bool:
        async def first() -> None:
            async with aclosing(self.watch(namespace)) as events:
                async for _ in events:
                    return

        try:
            # Refused at once, or told of something, or quiet: then nobody refused.
            return await _permitted(asyncio.wait_for(first(), 2.0))
        except asyncio.TimeoutError:
            return True

    async def _try_create(self, namespace: str) -> bool:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Workflow",
            "metadata": {"generateName": f"{_PROBE}-", "namespace": namespace},
            "spec": {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}]},
        }
        body = {"namespace": namespace, "serverDryRun": True, "workflow": manifest}
        return await _permitted(self.http.object("POST", _path(namespace), json=body, about="a dry run"))

    async def _try_template(self, namespace: str, *, cluster: bool = False) -> bool:
        return await _permitted(self.template(namespace, _PROBE, cluster_scope=cluster))

    async def _try_cron(self, namespace: str) -> bool:
        return await _permitted(self.cron(namespace, _PROBE))


async def _until_silent(lines: AsyncGenerator[str, None], silence: float) -> AsyncGenerator[str, None]:
    """Yield lines until none has come for so many seconds.

    :raises Unreachable: where they end.
    """
    coming: asyncio.Future[str] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(lines))
            await asyncio.wait({coming}, timeout=silence)
            if not coming.done():
                return
            try:
                line = coming.result()
            except StopAsyncIteration:
                raise Unreachable("the stream ended") from None
            yield line
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _permitted(call: Any) -> bool:
    try:
        await call
    except AccessDenied as error:
        if unknown_credential(error):
            raise
        return False
    except NotFound:
        return True  # a probe is never there
    return True


def _frame(line: str, about: str, url: str) -> Any:
    """Read one line of a stream, and return its result."""
    try:
        frame = parsed(line)
    except ValueError as error:
        raise Unreachable(f"{about} from {url} was cut in the middle of a line") from error
    if isinstance(frame, dict) and frame.get("error") is not None:
        said = error_of(0, line.encode(), about, url)
        # Whatever ends a stream with an error may be over when it is opened anew.
        raise said if isinstance(said, (AccessDenied, NotFound)) else Unreachable(said.message)
    return map_(frame).get("result")


def _event(result: Any, about: str) -> dict[str, Any]:
    found = map_(result)
    if not isinstance(found.get("object"), Mapping):
        raise BadResponse(f"{about} hold something that is no event")
    return {"type": text(found.get("type")), "object": dict(found["object"])}


def _path(namespace: str, name: str = "") -> str:
    path = f"/api/v1/workflows/{_quoted(object_name(namespace))}"
    return f"{path}/{_quoted(object_name(name))}" if name else path


def _cron(namespace: str, name: str = "") -> str:
    path = f"/api/v1/cron-workflows/{_quoted(object_name(namespace))}"
    return f"{path}/{_quoted(object_name(name))}" if name else path


def _quoted(part: str) -> str:
    return quote(part, safe="")
