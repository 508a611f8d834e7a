"""Asynchronous client of the Kubernetes API for custom objects: only what PipeOps needs, with typed errors.

The official client is generated: it has no bounded retries, chooses a patch's content type by itself, and takes seconds
to import. Here its part is to read the connection (see ``connections.py``), in which it knows every kind of credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.arguments import object_name
from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.base.http import MANY, Http
from airflow_pipeops.exceptions import BadResponse, NotFound
from airflow_pipeops.kubernetes.calls import ManyCalls
from airflow_pipeops.kubernetes.errors import Expired, error_of
from airflow_pipeops.kubernetes.kinds import (
    ACCESS_REVIEWS,
    ALL_NAMESPACES,
    EVENTS,
    PODS,
    Kind,
    Listing,
    event_time,
    name_of,
    version_of,
)
from airflow_pipeops.kubernetes.kubeconfig import Connection, Source
from airflow_pipeops.kubernetes.watches import Watching, selectors

#: Changed fields are attributed to this name.
FIELD_MANAGER = "airflow-pipeops"
_PAGE = 250
_MOST_LOG_BYTES = 256 * 1024
_MOST_LOG_PART = 16 * 1024 * 1024


class KubernetesClient(Watching):
    """One cluster. Use it as ``async with``.

    :param source: says where the API is, and with which credential.
    :param timeout: seconds for one call.
    :param attempts: how often a call is tried at most.
    :param pause: seconds before the second attempt; it doubles from there, with jitter.
    :param namespace: default namespace for who asks for :attr:`namespace`; the client itself uses none.
    :param many: hundreds of calls are made; see :class:`~airflow_pipeops.kubernetes.calls.ManyCalls`, whose import is not
        worth it for a few.
    """

    def __init__(
        self,
        source: Source,
        *,
        timeout: float = 20.0,
        attempts: int = 4,
        pause: float = 0.5,
        namespace: str = "",
        many: bool = False,
    ) -> None:
        self.namespace = namespace
        self._connection = Connection(source, timeout)
        options: dict[str, Any] = {"timeout": timeout, "attempts": attempts, "pause": pause}
        if many:
            self._http: Http = ManyCalls(self._connection, "", self._opened, error_of, **options)
        else:
            self._http = Http("", self._opened, error_of, **options)

    async def __aenter__(self) -> KubernetesClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()

    async def _opened(self) -> Any:
        client = await self._connection.opened()
        self._http.url = self._connection.url
        return client

    # ---- objects -----------------------------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any]:
        """Return an object as it is now."""
        about = _about(kind, name, namespace)
        return await self._http.object("GET", kind.path(namespace, object_name(name)), about=about)

    async def find(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> Listing:
        """Read all objects of a namespace, page by page.

        :param namespace: empty for all.
        :param labels: a label selector.
        :param fields: a field selector; on custom objects only ``metadata.name`` and ``metadata.namespace``.
        :return: the objects, and the version of the list.
        """
        for last in (False, True):
            try:
                return await self._pages(kind, namespace, labels, fields)
            except Expired:
                # The list took so long that its own continuation expired: from the beginning, once.
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _pages(self, kind: Kind, namespace: str, labels: str, fields: str) -> Listing:
        about, items = f"the list of {kind} in {namespace or 'all namespaces'}", []
        params = {**selectors(labels, fields), "limit": str(_PAGE)}
        while True:
            path = kind.path(namespace)
            answer = await self._http.object("GET", path, params=params, about=about, most=MANY)
            page = answer.get("items") or []
            if not isinstance(page, list):
                raise BadResponse(f"{about} is no list")
            items += [item for item in page if isinstance(item, dict)]
            more = str((answer.get("metadata") or {}).get("continue") or "")
            if not more:
                return Listing(items, version_of(answer))
            params["continue"] = more

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Mapping[str, Any],
        namespace: str = "",
        *,
        resource_version: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        """Merge a patch into an object (JSON merge patch: ``None`` removes a field, a list replaces a list).

        :param resource_version: only if the object is still at this version.
        :return: the object as it is now.
        :raises Conflict: if it is not.
        """
        body = dict(patch)
        if resource_version:
            body["metadata"] = {**(body.get("metadata") or {}), "resourceVersion": resource_version}
        path = kind.path(namespace, object_name(name), *([subresource] if subresource else []))
        return await self._http.object(
            "PATCH",
            path,
            params={"fieldManager": FIELD_MANAGER},
            json=body,
            content_type="application/merge-patch+json",
            about=_about(kind, name, namespace),
        )

    async def create(self, kind: Kind, body: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object.

        :return: the object as the server stored it.
        :raises Conflict: if one of that name exists.
        """
        about = _about(kind, name_of(body)[1] or "without a name", namespace)
        params = {"fieldManager": FIELD_MANAGER}
        return await self._http.object(
            "POST", kind.path(namespace), params=params, json=dict(body), about=about
        )

    async def replace(self, kind: Kind, body: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """Replace an object; only if it is still at the version that ``body`` names, where it names one.

        :return: the object as the server stored it.
        :raises Conflict: if it is not.
        """
        name = object_name(name_of(body)[1])
        return await self._http.object(
            "PUT",
            kind.path(namespace, name),
            params={"fieldManager": FIELD_MANAGER},
            json=dict(body),
            about=_about(kind, name, namespace),
        )

    async def apply(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        manager: str,
        *,
        force: bool = False,
        dry: bool = False,
        strict: bool = True,
    ) -> dict[str, Any]:
        """Apply an object on the server.

        :param body: what is wanted; with a ``resourceVersion``, only over that version.
        :param manager: whose the fields are.
        :param force: take fields from other managers.
        :param dry: only say what it would be.
        :param strict: refuse fields that the kind does not have.
        :return: the object as it is now, or would be.
        :raises FieldConflict: if another manager holds a field.
        :raises Conflict: if the object is not at that version.
        """
        namespace, name = name_of(body)
        validation = "Strict" if strict else "Ignore"
        params = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": validation}
        return await self._http.object(
            "PATCH",
            kind.path(namespace, object_name(name)),
            params={**params, **({"dryRun": "All"} if dry else {})},
            json=dict(body),
            content_type="application/apply-patch+yaml",
            about=_about(kind, name, namespace),
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None:
        """Delete an object; its finalizers may keep it for a while.

        :param uid: only if it is still this very object.
        :param resource_version: only if the object is still at this version.
        :param propagation: ``Foreground``, ``Background`` or ``Orphan``.
        """
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        wanted = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {key: value for key, value in wanted.items() if value}:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        await self._http.object(
            "DELETE",
            kind.path(namespace, object_name(name)),
            json=options,
            about=_about(kind, name, namespace),
        )

    # ---- what is known about them ------------------------------------------------------------------------------------

    async def events(
        self, namespace: str, *, name: str = "", uid: str = "", kind: str = ""
    ) -> list[dict[str, Any]]:
        """Read the events about an object.

        :param kind: its kind as a manifest says it, for example ``Deployment``.
        :return: the events, the latest last.
        """
        wanted = {"name": name, "uid": uid, "kind": kind}
        fields = ",".join(f"involvedObject.{key}={value}" for key, value in wanted.items() if value)
        found = await self.find(EVENTS, namespace, fields=fields)
        return sorted(found.items, key=event_time)

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        tail: int = 50,
        previous: bool = False,
    ) -> list[str]:
        """Read the end of a pod's log.

        :param container: which, where the pod has several.
        :param previous: of the container that ran before this one.
        :return: its last lines.
        """
        params = {"tailLines": str(tail), "limitBytes": str(_MOST_LOG_BYTES)}
        if container:
            params["container"] = container
        if previous:
            params["previous"] = "true"
        told = await self._http.text(
            PODS.path(namespace, object_name(pod), "log"),
            params=params,
            about=f"the log of pod {namespace}/{pod}",
            most=2 * _MOST_LOG_BYTES,
        )
        return told.split("\n")[-tail - 1 :] if not told.endswith("\n") else told.split("\n")[-tail - 1 : -1]

    async def log_from(
        self, namespace: str, pod: str, container: str, since: str = ""
    ) -> tuple[list[str], bool]:
        """Read a container's log on from a moment.

        :param since: a moment as the log itself writes them; the server takes its whole second. Empty: from the beginning.
        :return: its next lines, each with the moment it was written at, as far as one answer holds them; and whether there
            was more.
        """
        params = {"container": container, "timestamps": "true", "limitBytes": str(_MOST_LOG_PART)}
        if since:
            params["sinceTime"] = since
        told = await self._http.text(
            PODS.path(namespace, object_name(pod), "log"),
            params=params,
            about=f"the log of pod {namespace}/{pod}",
            most=2 * _MOST_LOG_PART,
        )
        *whole, rest = told.split("\n")
        more = len(told.encode()) >= _MOST_LOG_PART
        # What an answer's limit cut comes whole with the next one.
        return whole + ([rest] if rest and not more else []), more

    async def served(self, version: str) -> dict[str, tuple[str, bool]]:
        """Ask which kinds the server has in one version of a group.

        :param version: group and version as a manifest says them, for example ``apps/v1``.
        :return: kind -> its name in paths, and whether its objects are in namespaces; empty where it has no such version.
        """
        group, _, number = version.rpartition("/")
        path = Kind(group, number, "").path().rstrip("/")
        try:
            answer = await self._http.object("GET", path, about=f"the kinds of {version}", most=MANY)
        except NotFound:
            return {}
        return {
            text(one.get("kind")): (text(one.get("name")), one.get("namespaced") is True)
            for one in maps(answer.get("resources"))
            if "/" not in text(one.get("name"))
        }

    # ---- the server itself -------------------------------------------------------------------------------------------

    async def versions(self, group: str) -> tuple[str, ...]:
        """Return the served versions of a group, each with the group, the preferred one first; none where there are none."""
        if not group:
            return ("v1",)
        answer = await self._http.object("GET", "/apis", about="the groups of the API", most=MANY)
        for one in maps(answer.get("groups")):
            if one.get("name") == group:
                served = [one.get("preferredVersion"), *maps(one.get("versions"))]
                named = [text(map_(version).get("groupVersion")) for version in served]
                return tuple(dict.fromkeys(filter(None, named)))
        return ()

    async def version(self) -> str:
        """Return the version of Kubernetes."""
        answer = await self._http.object("GET", "/version", about="the cluster's version")
        return str(answer.get("gitVersion") or "unknown")

    async def allowed(
        self, verb: str, kind: Kind, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> bool:
        """Whether the credential has a permission."""
        wanted = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "namespace": "" if namespace == ALL_NAMESPACES else namespace,
            "name": name,
            "subresource": subresource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}},
        }
        answer = await self._http.object("POST", ACCESS_REVIEWS.path(), json=body, about="a permission")
        return bool((answer.get("status") or {}).get("allowed"))

    @property
    def url(self) -> str:
        """The base URL of the API server; empty before the first call."""
        return self._http.url


def _about(kind: Kind, name: str, namespace: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
