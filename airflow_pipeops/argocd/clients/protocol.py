"""What can be asked of Argo CD, whichever way it is reached: its REST API, or the Kubernetes API that holds its objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote


@dataclass(frozen=True)
class AppRef:
    """Which application is meant.

    :param name: its name.
    :param project: its project; sent whenever it is known, since the server answers 403 and not 404 without it.
    :param namespace: its namespace, where that is not Argo CD's own.
    """

    name: str
    project: str = ""
    namespace: str = ""

    def query(self) -> dict[str, str]:
        """Return the query parameters that go with every call."""
        return {
            key: value
            for key, value in (("project", self.project), ("appNamespace", self.namespace))
            if value
        }

    def path(self, *more: str) -> str:
        """Return the path of the application, or of something below it."""
        return "/".join(("/api/v1/applications", quote(self.name, safe=""), *more))

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{name} (project {self.project})" if self.project else name


@dataclass(frozen=True)
class Resource:
    """One object that an application manages, or that such an object owns.

    :param kind: as a manifest says it.
    :param name: its name.
    :param namespace: empty for an object of the whole cluster.
    :param group: of its API; empty for the core.
    :param uid: tells it from another one of the same name; empty where nobody said it.
    """

    kind: str
    name: str
    namespace: str = ""
    group: str = ""
    uid: str = ""

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True)
class Trial:
    """What a connection is good for.

    :param greeting: who answered, and to whom.
    :param accepted: whether the credential was.
    :param lacking: permissions that it lacks, each with what it is needed for.
    :param optional: such that few need, or that may have been given more narrowly than was asked for.
    :param usable: whether it may at least look, which is all that sensors need.
    """

    greeting: str
    accepted: bool = True
    lacking: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    usable: bool = True


class ArgoCD(Protocol):
    """One Argo CD. Use it as ``async with``.

    All calls raise :class:`~airflow_pipeops.exceptions.SystemFailure` or
    :class:`~airflow_pipeops.exceptions.InvalidInput`, and end within the client's time-out. Those that only one way can do
    raise :class:`~airflow_pipeops.exceptions.Unsupported` on the other.
    """

    #: Base URL of the web interface; empty where none is known.
    url: str
    #: Seconds for one call.
    timeout: float

    async def __aenter__(self) -> ArgoCD: ...

    async def __aexit__(self, *error: object) -> None: ...

    async def get(self, app: AppRef) -> dict[str, Any]:
        """Return an Application as it is known now."""
        ...

    async def refresh(
        self, app: AppRef, *, hard: bool = False, timeout: float = 10.0
    ) -> dict[str, Any] | None:
        """Ask the controller to compare again, and return the Application once it has.

        :param hard: also drop the cache of rendered manifests; expensive.
        :param timeout: seconds to wait for that.
        :return: ``None`` where it was asked for and not acknowledged in time: look again later.
        """
        ...

    async def applications(
        self, *, project: str = "", selector: str = "", name: str = ""
    ) -> list[dict[str, Any]]:
        """Return the Applications of a project, with a label selector, or of a name. Good for names, not for verdicts."""
        ...

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> dict[str, Any]:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        ...

    async def update(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an Application; its resourceVersion must be the current one."""
        ...

    async def set_spec(self, app: AppRef, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the whole spec of an Application, and return that spec."""
        ...

    async def patch(self, app: AppRef, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into an Application (JSON merge patch)."""
        ...

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""
        ...

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a synchronisation.

        :param body: fields of the REST request besides name, project and namespace.
        :return: the Application, with its new operation.
        :raises Conflict: if another operation is in progress.
        :raises SyncFailed: if it would not be done (sync window, auto-sync and another revision).
        """
        ...

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress."""
        ...

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> dict[str, Any]:
        """Go back to an entry of the history; refused while auto-sync is on."""
        ...

    async def resource_tree(self, app: AppRef) -> dict[str, Any]:
        """Return the objects below an application, with health and images."""
        ...

    async def managed_resources(self, app: AppRef) -> list[dict[str, Any]]:
        """Return desired and live state of each managed object, secrets masked."""
        ...

    async def revision_metadata(
        self, app: AppRef, revision: str, *, source: int | None = None
    ) -> dict[str, Any]:
        """Return author, date and message of a revision.

        :param source: index of the source, from 0, where the application has several.
        :return: the metadata, as the server says it.
        """
        ...

    async def manifests(self, app: AppRef, revision: str = "") -> list[dict[str, Any]]:
        """Return the desired state as it is rendered, of a revision or of the one that is followed."""
        ...

    async def sync_windows(self, app: AppRef) -> dict[str, Any]:
        """Return ``{canSync, activeWindows, assignedWindows}``."""
        ...

    async def events(self, app: AppRef, resource: Resource | None = None) -> list[dict[str, Any]]:
        """Return the Kubernetes events about the Application itself, or about one of its resources; the latest last."""
        ...

    async def logs(
        self,
        app: AppRef,
        resource: Resource,
        *,
        container: str = "",
        tail: int = 50,
        previous: bool = False,
    ) -> list[str]:
        """Return the last lines of the log of a pod, or of all pods of a resource (a hook's Job, a Deployment).

        :param tail: at most so many lines.
        :param previous: of the containers that ran before these.
        :return: the lines, oldest first.
        """
        ...

    async def application_set(self, name: str, *, namespace: str = "") -> dict[str, Any]:
        """Return an ApplicationSet."""
        ...

    def watch(
        self,
        *,
        name: str = "",
        project: str = "",
        selector: str = "",
        namespace: str = "",
        resource_version: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield ``{"type": ..., "application": ...}``: first each Application that there is as ``ADDED``, then changes.

        Events may be missing, or come twice: whoever relies on this must also read again now and then.

        :yield: the events.
        :raises Unreachable: when the stream ends, or is dead.
        """
        ...

    async def version(self) -> str:
        """Return the version of the server that answers."""
        ...

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the credential has a permission, named as Argo CD's policies name it."""
        ...

    async def trial(self, project: str = "*") -> Trial:
        """Say what the credential is good for."""
        ...
