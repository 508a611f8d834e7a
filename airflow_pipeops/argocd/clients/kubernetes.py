"""Argo CD through the Kubernetes API that holds its objects: the only way to Argo CD Core, which has no API server.

Same calls as :class:`~airflow_pipeops.argocd.clients.rest.ArgoCDClient`. What that server checks, and the controller
does not, is checked here (:mod:`airflow_pipeops.argocd.clients.requests`); what it alone computes is refused as
``Unsupported``. Events and logs can be had where the destination of the Application is this same cluster.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from airflow_pipeops.argocd.application import REFRESH
from airflow_pipeops.argocd.clients.errors import refusal
from airflow_pipeops.argocd.clients.protocol import AppRef, Resource, Trial
from airflow_pipeops.argocd.clients.requests import (
    begin_patch,
    cascading,
    rollback_operation,
    sync_operation,
    terminate_patch,
)
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.grpc import INVALID_ARGUMENT
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
    Unsupported,
)
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import ALL_NAMESPACES, EVENTS, PODS, Kind, name_of, version_of

#: Namespace in which Argo CD is installed by its own manifests.
NAMESPACE = "argocd"
APPLICATIONS = Kind("argoproj.io", "v1alpha1", "applications")
APPLICATION_SETS = Kind("argoproj.io", "v1alpha1", "applicationsets")

#: How often a change is made again on the fresh object after somebody else, most often the controller, was faster.
_ROUNDS = 6
#: How Argo CD calls the cluster in which it runs itself.
IN_CLUSTER = ("https://kubernetes.default.svc", "in-cluster")
#: Kinds that own pods, and say which by ``spec.selector``.
_OWNERS = {
    ("batch", "Job"): Kind("batch", "v1", "jobs"),
    ("apps", "Deployment"): Kind("apps", "v1", "deployments"),
    ("apps", "StatefulSet"): Kind("apps", "v1", "statefulsets"),
    ("apps", "DaemonSet"): Kind("apps", "v1", "daemonsets"),
    ("apps", "ReplicaSet"): Kind("apps", "v1", "replicasets"),
    ("argoproj.io", "Rollout"): Kind("argoproj.io", "v1alpha1", "rollouts"),
}
#: More pods say the same again.
_MOST_PODS = 5
#: A tree of more nodes is cut: it is read by people.
_MOST_NODES = 100
#: No longer line of a log is of use in a message.
_LONGEST_LINE = 2000
#: Argo CD's name of a permission -> the verbs on Applications that it takes here.
_VERBS = {
    "get": ("get", "list", "watch"),
    "create": ("create",),
    "update": ("update",),
    "delete": ("delete",),
    "sync": ("patch",),
    "override": ("patch",),
}
_NEEDED = {
    "get": "to look",
    "list": "to find applications",
    "watch": "to wait, and to see a refresh acknowledged",
    "patch": "to refresh and to synchronise",
}
_OPTIONAL: tuple[tuple[str, Kind, str, str], ...] = (
    ("list", EVENTS, "", "for events in failure messages"),
    ("get", PODS, "log", "for log lines in failure messages"),
)

Json = dict[str, Any]


class ArgoCDCoreClient:
    """One Argo CD in one cluster. Use it as ``async with``.

    Its calls are those of :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each.

    :param kubernetes: client of the cluster that holds the Applications; it is opened and closed with this one.
    :param namespace: in which Argo CD runs.
    :param everywhere: look for Applications in all namespaces, where no other is named; that takes a ClusterRole.
    :param url: base URL of a web interface, for links; empty for none.
    :param user: name under which operations are started.
    :param timeout: seconds for one call, as the client of the cluster was made with.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        *,
        namespace: str = NAMESPACE,
        everywhere: bool = False,
        url: str = "",
        user: str = "airflow",
        timeout: float = 20.0,
    ) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.everywhere = everywhere
        self.url = url.rstrip("/")
        self.user = user
        self.timeout = timeout

    async def __aenter__(self) -> ArgoCDCoreClient:
        await self.kubernetes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kubernetes.__aexit__(*error)

    async def get(self, app: AppRef) -> Json:
        """Return an Application as it is known now."""
        found = await self.kubernetes.get(APPLICATIONS, app.name, self._at(app.namespace))
        actual = str((found.get("spec") or {}).get("project") or "default")
        if app.project and actual != app.project:
            # As through the REST API, an application is found in its own project only.
            raise NotFound(
                f"application {app} does not exist: {app.name} is in project {actual}",
                remedy="Check its name, project and namespace.",
            )
        return found

    async def refresh(self, app: AppRef, *, hard: bool = False, timeout: float = 10.0) -> Json | None:
        """Ask the controller to compare again, and return the Application once it has.

        The controller takes the annotation away when it has; only then is the answer one to the question.

        :return: the Application; ``None`` where that was not acknowledged in time.
        """
        if app.project:
            await self.get(app)
        patch = {"metadata": {"annotations": {REFRESH: "hard" if hard else "normal"}}}
        namespace = self._at(app.namespace)
        try:
            asked = await self.kubernetes.patch(APPLICATIONS, app.name, patch, namespace)
            if not _pending(asked):
                # Somebody between, such as an admission policy, does not let the annotation through.
                return None
            return await within(timeout, self._acknowledged(app, version_of(asked)))
        except (Unreachable, asyncio.TimeoutError):
            return None

    async def _acknowledged(self, app: AppRef, version: str) -> Json | None:
        namespace, fields = self._at(app.namespace), f"metadata.name={app.name}"
        watch = self.kubernetes.watch(APPLICATIONS, namespace, resource_version=version, fields=fields)
        try:
            async with aclosing(watch) as events:
                async for event in events:
                    if event["type"] == "DELETED":
                        raise NotFound(f"application {app} was deleted")
                    if event["type"] in ("ADDED", "MODIFIED") and not _pending(event["object"]):
                        return dict(event["object"])
        except Unreachable:
            # The stream broke, or the history of it is lost: the object itself still knows.
            pass
        found = await self.kubernetes.get(APPLICATIONS, app.name, namespace)
        return None if _pending(found) else found

    async def applications(self, *, project: str = "", selector: str = "", name: str = "") -> list[Json]:
        """Return the Applications of a project, or with a label selector, or of a name."""
        found = await self.kubernetes.find(
            APPLICATIONS, self._among(""), labels=selector, fields=_fields(name)
        )
        return [item for item in found.items if _in_project(item, project)]

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> Json:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        metadata = dict(application.get("metadata") or {})
        namespace = self._at(str(metadata.get("namespace") or ""))
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            **application,
            "metadata": {**metadata, "namespace": namespace},
        }
        app = AppRef(name_of(body)[1], namespace=namespace)
        try:
            return await self.kubernetes.create(APPLICATIONS, body, namespace)
        except Conflict:
            existing = await self.get(app)
        if existing.get("spec") == body.get("spec"):
            return existing
        if not upsert:
            text = "existing application spec is different, use upsert flag to force update"
            raise refusal(400, INVALID_ARGUMENT, text, f"application {app.name}")
        return await self._changed(app, lambda found: self._put(found, body))

    async def update(self, application: Mapping[str, Any]) -> Json:
        """Replace an Application; its resourceVersion must be the current one."""
        namespace, name = name_of(application)
        existing = await self.get(AppRef(name, namespace=namespace))
        wanted = version_of(application)
        if wanted and wanted != version_of(existing):
            raise Conflict(f"application {name} was changed by somebody else since it was read")
        return await self._put(existing, application)

    async def _put(self, existing: Json, wanted: Mapping[str, Any]) -> Json:
        # There is no status subresource: a body without the status would delete it. So the rest is put into what is there.
        metadata, given = dict(existing.get("metadata") or {}), wanted.get("metadata") or {}
        for field in ("labels", "annotations"):
            if given.get(field):
                metadata[field] = {**(metadata.get(field) or {}), **given[field]}
        if "finalizers" in given:
            metadata["finalizers"] = given["finalizers"]
        body = {**existing, "metadata": metadata, "spec": wanted.get("spec") or {}}
        return await self._replace(body)

    async def set_spec(self, app: AppRef, spec: Mapping[str, Any]) -> Json:
        """Replace the whole spec of an Application, and return that spec."""
        after = await self._changed(app, lambda found: self._put(found, {"spec": dict(spec)}))
        return dict(after.get("spec") or {})

    async def patch(self, app: AppRef, patch: Mapping[str, Any]) -> Json:
        """Merge a patch into an Application (JSON merge patch)."""
        return await self._changed(app, lambda found: self._merge(app, found, patch))

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""

        async def finalize(found: Json) -> Json:
            before = list((found.get("metadata") or {}).get("finalizers") or [])
            after = cascading(before, cascade)
            if after == before:
                return found
            return await self._merge(app, found, {"metadata": {"finalizers": after}})

        found = await self._changed(app, finalize)
        uid = str((found.get("metadata") or {}).get("uid") or "")
        await self.kubernetes.delete(APPLICATIONS, app.name, self._at(app.namespace), uid=uid)

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> Json:
        """Start a synchronisation; only on an Application that has no operation, and that nobody changes meanwhile."""

        async def begin(found: Json) -> Json:
            return await self._merge(app, found, begin_patch(sync_operation(found, body, self.user)))

        return await self._changed(app, begin)

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> Json:
        """Go back to an entry of the history; refused while auto-sync is on."""

        async def begin(found: Json) -> Json:
            operation = rollback_operation(found, history_id, prune, self.user)
            return await self._merge(app, found, begin_patch(operation))

        return await self._changed(app, begin)

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress; one that the controller has not taken up yet is withdrawn."""

        async def end(found: Json) -> Json:
            waits = found.get("operation") and not (found.get("status") or {}).get("operationState")
            return await self._merge(app, found, {"operation": None} if waits else terminate_patch(found))

        await self._changed(app, end)

    async def watch(
        self,
        *,
        name: str = "",
        project: str = "",
        selector: str = "",
        namespace: str = "",
        resource_version: str = "",
    ) -> AsyncGenerator[Json, None]:
        """Yield ``{"type": ..., "application": ...}`` as they happen.

        :yield: the events.
        :raises Unreachable: when the stream breaks.
        """
        changes = self.kubernetes.follow(
            APPLICATIONS,
            self._among(namespace),
            labels=selector,
            fields=_fields(name),
            resource_version=resource_version,
        )
        async with aclosing(changes) as events:
            async for event in events:
                if _in_project(event["object"], project):
                    yield {"type": event["type"], "application": event["object"]}

    async def events(self, app: AppRef, resource: Resource | None = None) -> list[Json]:
        """Return the Kubernetes events about the Application itself, or about one of its resources; the latest last."""
        if resource is None:
            return await self.kubernetes.events(self._at(app.namespace), name=app.name, kind="Application")
        await self._same_cluster(app, f"the events of {resource}")
        return await self.kubernetes.events(
            resource.namespace or "default", name=resource.name, uid=resource.uid, kind=resource.kind
        )

    async def logs(
        self,
        app: AppRef,
        resource: Resource,
        *,
        container: str = "",
        tail: int = 50,
        previous: bool = False,
    ) -> list[str]:
        """Return the last lines of the log of a pod, or of all pods of a resource (a hook's Job, a Deployment)."""
        await self._same_cluster(app, f"the log of {resource}")
        pods = [resource.name] if resource.kind == "Pod" else await self._pods(resource)
        lines: list[str] = []
        for pod in pods:
            try:
                lines += await self.kubernetes.logs(
                    resource.namespace, pod, container=container, tail=tail, previous=previous
                )
            except PipeOpsError:
                # One that has not started yet has no log; the others may say enough.
                if pod == pods[-1] and not lines:
                    raise
        return [line[:_LONGEST_LINE] for line in lines[-tail:]]

    async def _pods(self, resource: Resource) -> list[str]:
        """Return the names of a resource's pods, the youngest last."""
        kind = _OWNERS.get((resource.group, resource.kind))
        if kind is None:
            raise Unsupported(
                f"which pods belong to {resource} is not known",
                field="resource",
                value=str(resource),
                remedy="Give a pod.",
            )
        owner = await self.kubernetes.get(kind, resource.name, resource.namespace)
        return [name_of(pod)[1] for pod in await self._pods_of(owner, resource.namespace)]

    async def _pods_of(self, owner: Json, namespace: str) -> list[Json]:
        """Return the pods that an object selects, the youngest last."""
        labels = ((owner.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        if not labels:
            raise NotFound(f"{name_of(owner)[1]} selects no pods by labels")
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = await self.kubernetes.find(PODS, namespace, labels=selector)
        young = sorted(found.items, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
        return young[-_MOST_PODS:]

    async def _same_cluster(self, app: AppRef, what: str) -> None:
        application = await self.get(app)
        destination = (application.get("spec") or {}).get("destination") or {}
        there = str(destination.get("server") or destination.get("name") or "").rstrip("/")
        if there not in (*IN_CLUSTER, self.kubernetes.url):
            raise Unsupported(
                f"{what} is in another cluster ({there}) than the Application {app}",
                field="argocd_conn_id",
                remedy="Use a connection of type 'argocd', whose server reaches both.",
            )

    async def resource_tree(self, app: AppRef) -> Json:
        """Return the workloads of an Application and their pods, with what the pods wait for; nothing else of the tree.

        The objects are those that the controller lists in the status; the pods are asked for here.

        :return: ``{nodes}``, each as in the answer of Argo CD\'s own server.
        :raises Unsupported: where they are in another cluster.
        """
        application = await self.get(app)
        await self._same_cluster(app, f"what belongs to {app}")
        nodes: list[Json] = []
        for item in (application.get("status") or {}).get("resources") or ():
            kind = _OWNERS.get((str(item.get("group") or ""), str(item.get("kind") or "")))
            if kind is None:
                continue
            place = str(item.get("namespace") or "")
            try:
                owner = await self.kubernetes.get(kind, str(item.get("name") or ""), place)
                pods = await self._pods_of(owner, place)
            except (NotFound, AccessDenied):
                continue  # it is not there (yet), or not to be seen
            uid = str(owner["metadata"].get("uid") or "")
            nodes.append({"group": item.get("group"), "kind": item["kind"], "name": item["name"], "namespace": place,
                          "uid": uid})  # fmt: skip
            nodes += [pod_node(pod, uid) for pod in pods]
            if len(nodes) >= _MOST_NODES:
                break
        return {"nodes": nodes}

    async def managed_resources(self, app: AppRef) -> list[Json]:
        """Not on this way.

        :return: nothing.
        :raises Unsupported: always.
        """
        raise _unsupported("the difference between desired and live state")

    async def revision_metadata(self, app: AppRef, revision: str, *, source: int | None = None) -> Json:
        """Not on this way.

        :return: nothing.
        :raises Unsupported: always.
        """
        raise _unsupported("author and message of a revision")

    async def manifests(self, app: AppRef, revision: str = "") -> list[Json]:
        """Not on this way.

        :return: nothing.
        :raises Unsupported: always.
        """
        raise _unsupported("rendered manifests")

    async def sync_windows(self, app: AppRef) -> dict[str, Any]:
        """Not on this way: whether a window is open is computed, and not written down.

        :return: nothing.
        :raises Unsupported: always.
        """
        raise _unsupported("whether a sync window is open")

    async def application_set(self, name: str, *, namespace: str = "") -> Json:
        """Return an ApplicationSet."""
        return await self.kubernetes.get(APPLICATION_SETS, name, self._at(namespace))

    async def version(self) -> str:
        """Return the version of Kubernetes: no object says that of Argo CD."""
        return f"(Kubernetes {await self.kubernetes.version()})"

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the credential has a permission. Kubernetes knows no projects."""
        if resource == "logs":
            return await self.kubernetes.allowed("get", PODS, ALL_NAMESPACES, subresource="log")
        verbs = _VERBS.get(action)
        if resource != "applications" or verbs is None:
            raise InvalidInput(
                f"'{resource}, {action}' is no permission that is known here",
                field="action",
                value=action,
                remedy=f"Use one of {', '.join(_VERBS)} on applications, or get on logs.",
            )
        name = "" if app == "*" else app
        answers = [
            await self.kubernetes.allowed(verb, APPLICATIONS, self.namespace, name=name) for verb in verbs
        ]
        return all(answers)

    async def trial(self, project: str = "*") -> Trial:
        """Reach the cluster, look whether Argo CD's kinds are there, and which permissions the credential has."""
        version = await self.kubernetes.version()
        place = "all namespaces" if self.everywhere else self.namespace
        lacking = [
            verb for verb in _NEEDED if not await self.kubernetes.allowed(verb, APPLICATIONS, self._among(""))
        ]
        if "list" not in lacking:
            # Says so if the CRD is not installed; a permission can be had on what does not exist.
            await self.kubernetes.find(APPLICATIONS, self._among(""), fields="metadata.name=pipeops-trial")
        optional = [
            f"'{verb} {kind}{'/' + sub if sub else ''}' in all namespaces ({purpose})"
            for verb, kind, sub, purpose in _OPTIONAL
            if not await self.kubernetes.allowed(verb, kind, ALL_NAMESPACES, subresource=sub)
        ]
        return Trial(
            f"Kubernetes {version} at {self.kubernetes.url}, Argo CD in namespace {self.namespace}",
            lacking=tuple(f"'{verb} {APPLICATIONS}' in {place} ({_NEEDED[verb]})" for verb in lacking),
            optional=tuple(optional),
            usable="get" not in lacking,
        )

    def _at(self, namespace: str) -> str:
        """Return a namespace, by default Argo CD's own."""
        return namespace or self.namespace

    def _among(self, namespace: str) -> str:
        """Return where to look for Applications: a namespace, or all of them."""
        return namespace or (ALL_NAMESPACES if self.everywhere else self.namespace)

    async def _changed(self, app: AppRef, change: Callable[[Json], Awaitable[Json]]) -> Json:
        """Change an Application on the ground of how it is; again, where it has changed meanwhile.

        :param change: gets the Application, and writes with its ``resourceVersion`` as precondition.
        """
        for round_ in range(1, _ROUNDS + 1):
            application = await self.get(app)
            try:
                return await change(application)
            except _Moved as error:
                if round_ == _ROUNDS:
                    raise Conflict(error.message) from error
            await asyncio.sleep(0.1 * round_ * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def _merge(self, app: AppRef, application: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
        """Merge a patch into exactly this version of an Application."""
        try:
            return await self.kubernetes.patch(
                APPLICATIONS,
                app.name,
                patch,
                self._at(app.namespace),
                resource_version=version_of(application),
            )
        except Conflict as error:
            raise _Moved(error.message) from error

    async def _replace(self, application: Json) -> Json:
        """Replace exactly this version of an Application."""
        try:
            return await self.kubernetes.replace(APPLICATIONS, application, name_of(application)[0])
        except Conflict as error:
            raise _Moved(error.message) from error


class _Moved(Conflict):
    """Somebody else wrote between our look and our change. A refusal, such as of a second operation, is not this."""


def _unsupported(what: str) -> Unsupported:
    """Return the error for what only the API server can do."""
    return Unsupported(
        f"{what} cannot be had through the Kubernetes API: Argo CD's API server computes that",
        field="argocd_conn_id",
        remedy="Use a connection of type 'argocd' (not possible with Argo CD Core).",
    )


def pod_node(pod: Mapping[str, Any], owner: str) -> Json:
    """Return a pod as Argo CD's resource tree has it, with the reason of the first container that is not running.

    :param pod: the pod as Kubernetes has it.
    :param owner: uid of what it belongs to.
    :return: the node.
    """
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    states = [item.get("state") or {} for item in containers if not item.get("ready")]
    halted = [state.get("waiting") or state.get("terminated") or {} for state in states]
    why = next((state for state in halted if state.get("reason") not in (None, "", "Completed")), {})
    ready = bool(containers) and not states
    health = {"status": "Healthy" if ready else "Degraded" if why else "Progressing"}
    if why:
        health["message"] = str(why.get("message") or why["reason"])
    return {
        "kind": "Pod",
        "name": str(metadata.get("name") or ""),
        "namespace": str(metadata.get("namespace") or ""),
        "uid": str(metadata.get("uid") or ""),
        "parentRefs": [{"uid": owner}],
        "health": health,
        "info": [{"name": "Status Reason", "value": str(why.get("reason") or status.get("phase") or "")}],
    }


def _pending(application: Mapping[str, Any]) -> bool:
    return REFRESH in ((application.get("metadata") or {}).get("annotations") or {})


def _fields(name: str) -> str:
    return f"metadata.name={name}" if name else ""


def _in_project(application: Mapping[str, Any], project: str) -> bool:
    return not project or str((application.get("spec") or {}).get("project") or "default") == project
