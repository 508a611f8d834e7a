"""From an Airflow connection to an Argo CD client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.sdk import BaseHook

from airflow_pipeops.base.arguments import flag, one_of
from airflow_pipeops.base.connections import aread, only, read, read_extra, server_url, without_id, work_with
from airflow_pipeops.exceptions import InvalidInput, NotConfigured, PipeOpsError
from airflow_pipeops.kubernetes.connections import DEFAULT_CONNECTION

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
    from airflow_pipeops.argocd.clients.rest import ArgoCDClient

Result = TypeVar("Result")

_MODES = ("auto", "stream", "poll")


class ArgoCDHook(BaseHook):
    """Connects to Argo CD: through its REST API, or through the Kubernetes API that holds its objects.

    A connection of type ``argocd`` means the first; one of type ``kubernetes`` the second, which is the only way to Argo CD
    Core. Whoever uses the client need not know.

    :param argocd_conn_id: the connection.
    :param project: project of the applications; by default that of the connection.
    :param app_namespace: namespace of the applications, where it is not Argo CD's own.
    :param argocd_namespace: namespace in which Argo CD runs; of use with a ``kubernetes`` connection only. By default its
        extra ``argocd_namespace``, and else ``argocd``.
    """

    conn_name_attr = "argocd_conn_id"
    default_conn_name = "argocd_default"
    conn_type = "argocd"
    hook_name = "Argo CD"

    def __init__(
        self,
        argocd_conn_id: str = default_conn_name,
        *,
        project: str = "",
        app_namespace: str = "",
        argocd_namespace: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.argocd_conn_id = argocd_conn_id
        self._project = project
        self._namespace = app_namespace
        self._argocd_namespace = argocd_namespace
        self._settings: dict[str, Any] | None = None
        #: What a kubernetes connection holds; ``None`` for an Argo CD server.
        self._cluster: dict[str, Any] | None = None
        #: How a triggerer hears of applications, once the connection was read: ``stream``, ``poll`` or ``auto``.
        self.mode = "auto"

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the client. Holds the token: never log it, never hand it on.

        ``url`` is always there, and empty where Argo CD has no web interface that is known.

        :return: the arguments by name.
        """
        if self._settings is None:
            try:
                connection = read(self.argocd_conn_id, self.conn_type)
            except NotConfigured:
                # As for Airflow's own hook: nobody need make this one for the pod's own account to be used.
                if self.argocd_conn_id != DEFAULT_CONNECTION:
                    raise
                self._use_cluster({})
            else:
                self._use(connection, connection.extra_dejson)
        assert self._settings is not None
        return self._settings

    async def asettings(self) -> dict[str, Any]:
        """Return the same where an event loop runs (a triggerer)."""
        if self._settings is None:
            try:
                connection = await aread(self.argocd_conn_id, self.conn_type)
            except NotConfigured:
                # As for Airflow's own hook: nobody need make this one for the pod's own account to be used.
                if self.argocd_conn_id != DEFAULT_CONNECTION:
                    raise
                self._use_cluster({})
            else:
                self._use(connection, await read_extra(connection))
        assert self._settings is not None
        return self._settings

    def _use(self, connection: Any, extra: Mapping[str, Any]) -> None:
        if connection.conn_type == "kubernetes":
            self._use_cluster(extra)
            return
        field = f"connection {self.argocd_conn_id}"
        if not connection.host:
            raise InvalidInput(
                f"{field} has no host", field="host", remedy="Set it to the server's URL, with https://."
            )
        only(self.argocd_conn_id, extra, "project", "mode", "verify_tls", "ca_file", "timeout")
        self._project = self._project or str(extra.get("project") or "")
        self.mode = one_of("mode", str(extra.get("mode") or "auto"), _MODES, of=field)
        self._settings = {
            "url": server_url(connection),
            "token": connection.password or "",
            "verify_tls": flag("verify_tls", extra.get("verify_tls"), of=field),
            "ca_file": str(extra.get("ca_file") or ""),
            "timeout": _timeout(extra.get("timeout"), field),
        }

    def _use_cluster(self, extra: Mapping[str, Any]) -> None:
        field = f"connection {self.argocd_conn_id}"
        known = ("project", "mode", "url", "namespace", "any_namespace", "timeout")
        only(self.argocd_conn_id, extra, *(f"argocd_{name}" for name in known), prefix="argocd_")
        self._project = self._project or str(extra.get("argocd_project") or "")
        self.mode = one_of("mode", str(extra.get("argocd_mode") or "auto"), _MODES, of=field)
        self._cluster = dict(extra)
        self._settings = {
            "url": str(extra.get("argocd_url") or ""),
            "namespace": self._argocd_namespace or str(extra.get("argocd_namespace") or "argocd"),
            "everywhere": flag(
                "argocd_any_namespace", extra.get("argocd_any_namespace"), default=False, of=field
            ),
            "timeout": _timeout(extra.get("argocd_timeout"), field),
        }

    def client(self, **options: Any) -> ArgoCDClient:
        """Return a client, for use in ``async with``.

        :param options: ``timeout``, ``attempts`` and ``pause`` to replace those of the connection.
        :return: a client that is not open yet.
        """
        return cast("ArgoCDClient", self._client({**self.settings(), **options}))

    async def aclient(self, **options: Any) -> ArgoCDClient:
        """Return a client where an event loop runs.

        :param options: as for :meth:`client`.
        :return: a client that is not open yet.
        """
        return cast("ArgoCDClient", self._client({**await self.asettings(), **options}))

    def _client(self, settings: dict[str, Any]) -> ArgoCD:
        if self._cluster is None:
            from airflow_pipeops.argocd.clients.rest import ArgoCDClient

            return ArgoCDClient(**settings)
        from airflow_pipeops.argocd.clients.kubernetes import ArgoCDCoreClient
        from airflow_pipeops.kubernetes.connections import client_of

        named = {name: settings.pop(name) for name in ("url", "namespace", "everywhere")}
        cluster = client_of(self.argocd_conn_id, self._cluster, **settings)
        return ArgoCDCoreClient(cluster, timeout=settings["timeout"], **named)

    def ref(self, app: str) -> AppRef:
        """Return which application is meant; call it after the connection was read, since that may name the project.

        :param app: name of the application.
        :return: the reference that a client takes.
        :raises InvalidInput: without a name.
        """
        from airflow_pipeops.argocd.clients.protocol import AppRef

        if not app or not isinstance(app, str):
            raise InvalidInput(f"{app!r} is no application", field="app", value=app, remedy="Give its name.")
        return AppRef(app, self._project, self._namespace)

    def run(self, work: Callable[[ArgoCDClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with a client, from code that is not asynchronous.

        :param work: is called with an open client.
        :param options: as for :meth:`client`.
        :return: what ``work`` returned.
        """
        return work_with(self.client(**options), work)

    def application(self, app: str) -> dict[str, Any]:
        """Return an Application as JSON.

        :param app: name of the application.
        :return: the Application.
        """
        self.settings()
        return self.run(lambda client: client.get(self.ref(app)))

    def difference(self, app: str) -> dict[str, Any]:
        """Return how live state differs from the desired state now.

        :param app: name of the application.
        :return: ``{app, revision, sync, resources, fingerprint}``; no resources where nothing differs.
        :raises Conflict: if it changed all the time; worth another try.
        """
        from airflow_pipeops.argocd.application import observe, with_managed
        from airflow_pipeops.argocd.differences import differences, payload

        self.settings()
        ref = self.ref(app)

        async def look(client: ArgoCDClient) -> dict[str, Any]:
            application, managed = await with_managed(client, ref, await client.refresh(ref))
            return payload(observe(application), differences(managed))

        return self.run(look)

    def test_connection(self) -> tuple[bool, str]:
        """Reach the server, ask who the token is, and name the permissions that it lacks."""
        try:
            self.settings()
            trial = self.run(lambda client: client.trial(self._project or "*"))
        except PipeOpsError as error:
            return False, without_id(self.argocd_conn_id, error)
        if not trial.accepted:
            return False, f"{trial.greeting}, but the token is missing, expired or not accepted"
        lacking = [*trial.lacking, *trial.optional]
        able = "" if trial.lacking else "can look and sync"
        lacks = f"lacks {' and '.join(lacking)}" if lacking else ""
        # Looking is all that the sensors need, so a token without more is a good one for them.
        return trial.usable, f"{trial.greeting}; the token {', and '.join(filter(None, (able, lacks)))}"


def _timeout(value: Any, field: str) -> float:
    try:
        seconds = float(value) if value not in (None, "") else 20.0
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise InvalidInput(
            f"timeout of {field} is {value!r}", field="timeout", value=value, remedy="Use seconds, 1 to 600."
        )
    return seconds
