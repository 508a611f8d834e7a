"""Argo Workflows without its server: the objects themselves, through the Kubernetes API. It says what that cannot show."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from airflow_pipeops.argo_workflows.clients.errors import Ended
from airflow_pipeops.argo_workflows.clients.protocol import RETRYING, Act, Trial, WorkflowRef, gone
from airflow_pipeops.argo_workflows.manifest import API_VERSION, OWN, anew
from airflow_pipeops.argo_workflows.status import read
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.exceptions import InvalidInput, NotFound, Unsupported
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS, Kind
from airflow_pipeops.kubernetes.logs import Position, read_on

_GROUP, _VERSION = API_VERSION.split("/")
WORKFLOWS = Kind(_GROUP, _VERSION, "workflows")
TEMPLATES = Kind(_GROUP, _VERSION, "workflowtemplates")
CLUSTER_TEMPLATES = Kind(_GROUP, _VERSION, "clusterworkflowtemplates")
CRONS = Kind(_GROUP, _VERSION, "cronworkflows")
_REMEDY = "Use a connection of type argo_workflows, to the server of Argo Workflows."


class KubernetesRoute:
    """One cluster. Use it as ``async with``. Its calls are those of
    :class:`~airflow_pipeops.argo_workflows.clients.protocol.ArgoWorkflows`, which documents each.

    :param kubernetes: reaches it.
    """

    lacks: tuple[str, ...] = (
        "a check of the manifest before it is created",
        "the archive of workflows",
        "nodes that are offloaded or compressed",
        "artifacts, archived logs among them",
        "logs while the workflow runs",
        "resuming a workflow at a suspend step",
        RETRYING,
    )

    def __init__(self, kubernetes: KubernetesClient) -> None:
        self._kubernetes = kubernetes

    async def __aenter__(self) -> KubernetesRoute:
        await self._kubernetes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._kubernetes.__aexit__(*error)

    async def get(self, ref: WorkflowRef, *, whole: bool = False) -> dict[str, Any]:
        """Return a live workflow."""
        try:
            found = await self._kubernetes.get(WORKFLOWS, ref.name, ref.namespace)
        except NotFound as error:
            raise gone(ref, error.message) if ref.uid else error from None
        uid = text(map_(found.get("metadata")).get("uid"))
        if ref.uid not in ("", uid):
            raise gone(ref, f"under its name there is another one, of uid {uid}")
        return found

    async def find(self, namespace: str, labels: str, *, archived: bool = True) -> list[dict[str, Any]]:
        """Return the live workflows with a label selector."""
        return (await self._kubernetes.find(WORKFLOWS, namespace, labels=labels)).items

    async def lint(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Say that nobody can check it here."""
        raise Unsupported("the Kubernetes API does not check what is inside of a workflow", remedy=_REMEDY)

    async def template(self, namespace: str, name: str, *, cluster_scope: bool) -> dict[str, Any]:
        """Return a template."""
        kind = CLUSTER_TEMPLATES if cluster_scope else TEMPLATES
        return await self._kubernetes.get(kind, name, "" if cluster_scope else namespace)

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a workflow."""
        return await self._kubernetes.create(WORKFLOWS, manifest, namespace)

    async def act(self, ref: WorkflowRef, act: Act, **options: Any) -> dict[str, Any]:
        """Do something with a workflow."""
        if options:
            named = ", ".join(sorted(options))
            raise Unsupported(f"the Kubernetes API cannot {act} with {named}", field=named, remedy=_REMEDY)
        if act == "retry":
            raise Unsupported("the Kubernetes API cannot retry a workflow", field="retry", remedy=_REMEDY)
        found = await self.get(ref)
        status = read(found)
        if act == "resubmit":
            return await self.create(ref.namespace, anew(found))
        if status.over and act != "resume":
            raise Ended(f"{ref} has ended already: {status.phase}")
        if act == "resume" and (status.waiting or status.hidden):
            where = (
                f"it waits at {', '.join(status.waiting[:5])}, a step that the server alone can end"
                if status.waiting
                else f"whether it waits at a step cannot be told: {status.hidden}"
            )
            raise Unsupported(
                f"the Kubernetes API cannot resume {ref}: {where}", field="resume", remedy=_REMEDY
            )
        patch: Any = {"stop": "Stop", "terminate": "Terminate"}.get(act)
        spec = {"suspend": True if act == "suspend" else None} if patch is None else {"shutdown": patch}
        return await self._kubernetes.patch(WORKFLOWS, ref.name, {"spec": spec}, ref.namespace)

    async def logs(
        self, ref: WorkflowRef, *, pod: str = "", tail: int = 0, follow: bool = False
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Yield ``(pod, line)`` of the main containers of the pods that are there."""
        if follow:
            raise Unsupported("the Kubernetes API does not follow logs here", field="logs", remedy=_REMEDY)
        names = [pod]
        if not pod:
            labels = f"{OWN}workflow={ref.name}"
            pods = await self._kubernetes.find(PODS, ref.namespace, labels=labels)
            names = [text(map_(one.get("metadata")).get("name")) for one in pods.items]
        for name in names:
            try:
                if tail:
                    lines = await self._kubernetes.logs(ref.namespace, name, container="main", tail=tail)
                else:
                    lines, _ = await read_on(self._kubernetes, ref.namespace, name, "main", Position())
            except (NotFound, InvalidInput):
                continue  # gone, or not begun
            for line in lines:
                yield name, line

    async def artifact(self, ref: WorkflowRef, node: str, name: str, *, archived: bool) -> str:
        """Say that artifacts are not here."""
        raise Unsupported("the Kubernetes API has no artifacts", field="artifact", remedy=_REMEDY)

    async def watch(self, namespace: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield each workflow that there is, then each change."""
        async with aclosing(self._kubernetes.follow(WORKFLOWS, namespace)) as events:
            async for event in events:
                yield event

    async def cron(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a ``CronWorkflow``."""
        return await self._kubernetes.get(CRONS, name, namespace)

    async def create_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a ``CronWorkflow``."""
        return await self._kubernetes.create(CRONS, manifest, namespace)

    async def replace_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a ``CronWorkflow``."""
        return await self._kubernetes.replace(CRONS, manifest, namespace)

    async def suspend_cron(self, namespace: str, name: str, *, suspend: bool) -> dict[str, Any]:
        """Suspend a ``CronWorkflow``, or let it run again."""
        return await self._kubernetes.patch(CRONS, name, {"spec": {"suspend": suspend}}, namespace)

    async def trial(self, namespace: str) -> Trial:
        """Ask for each verb that is needed."""
        version = await self._kubernetes.version()
        asked = (
            ("get", WORKFLOWS, "", "to wait"),
            ("list", WORKFLOWS, "", "for one stream in place of polling"),
            ("watch", WORKFLOWS, "", "for one stream in place of polling"),
            ("create", WORKFLOWS, "", "for ArgoWorkflowOperator"),
            ("patch", WORKFLOWS, "", "to stop, terminate, suspend and resume"),
            ("get", TEMPLATES, "", "to run a template by its name"),
            ("get", CLUSTER_TEMPLATES, "", "with cluster_scope"),
            *((verb, CRONS, "", "for cron workflows") for verb in ("get", "create", "update", "patch")),
            ("list", PODS, "", "for logs"),
            ("get", PODS, "log", "for logs"),
        )
        lacking = []
        for verb, kind, sub, purpose in asked:
            where = "" if kind is CLUSTER_TEMPLATES else namespace
            if not await self._kubernetes.allowed(verb, kind, where, subresource=sub):
                lacking.append(f"{verb} {kind.plural}{'/' + sub if sub else ''} ({purpose})")
        untried = f"not through the Kubernetes API: {', '.join(self.lacks)}"
        usable = not any(one.startswith("get workflows") for one in lacking)
        return Trial(f"Kubernetes {version}, namespace {namespace}", tuple(lacking), untried, usable=usable)
