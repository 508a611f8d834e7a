"""From an Airflow connection to Argo Workflows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
from airflow_pipeops.base.arguments import flag, one_of
from airflow_pipeops.base.connections import (
    aread,
    only,
    read,
    read_extra,
    seconds,
    server_url,
    without_id,
    work_with,
)
from airflow_pipeops.base.http import base_url, sendable
from airflow_pipeops.exceptions import InvalidInput, NotConfigured, PipeOpsError
from airflow_pipeops.kubernetes.connections import DEFAULT_CONNECTION

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows

Result = TypeVar("Result")
#: Where workflows are, if nobody says where.
DEFAULT_NAMESPACE = "argo"
_MODES = ("auto", "stream", "poll")
_OWN = ("namespace", "verify_tls", "ca_file", "timeout", "mode")
_PREFIX = "argo_workflows_"


class ArgoWorkflowsHook(BaseHook):
    """Connects to Argo Workflows: through its server, or through the Kubernetes API that holds its objects.

    A connection of type ``argo_workflows`` means the first; one of type ``kubernetes`` the second, which needs no Argo
    server, and says what it cannot show. Whoever uses the client need not know.

    :param argo_workflows_conn_id: the connection.
    :param namespace: of the workflows; by default that of the connection, else ``argo``.
    """

    conn_name_attr = "argo_workflows_conn_id"
    default_conn_name = "argo_workflows_default"
    conn_type = "argo_workflows"
    hook_name = "Argo Workflows"

    def __init__(
        self, argo_workflows_conn_id: str = default_conn_name, *, namespace: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.argo_workflows_conn_id = argo_workflows_conn_id
        self._namespace = namespace
        self._settings: dict[str, Any] | None = None
        #: What a kubernetes connection holds; ``None`` for a server of Argo Workflows.
        self._cluster: dict[str, Any] | None = None
        #: Address of the web interface, once the connection was read; empty where none is known.
        self.url = ""
        #: How a triggerer hears of workflows, once the connection was read: ``stream``, ``poll`` or ``auto``.
        self.mode = "auto"

    @property
    def namespace(self) -> str:
        """The namespace of the workflows; known once the connection was read."""
        return self._namespace or DEFAULT_NAMESPACE

    def settings(self) -> dict[str, Any]:
        """Read the connection. Holds the token: never log it, never hand it on.

        :return: the arguments of what carries the calls, by name.
        """
        if self._settings is None:
            try:
                connection = read(self.argo_workflows_conn_id, self.conn_type)
            except NotConfigured as error:
                self._absent(error)
            else:
                self._use(connection, connection.extra_dejson)
        assert self._settings is not None
        return self._settings

    async def asettings(self) -> dict[str, Any]:
        """Return the same where an event loop runs (a triggerer)."""
        if self._settings is None:
            try:
                connection = await aread(self.argo_workflows_conn_id, self.conn_type)
            except NotConfigured as error:
                self._absent(error)
            else:
                self._use(connection, await read_extra(connection))
        assert self._settings is not None
        return self._settings

    def _absent(self, error: NotConfigured) -> None:
        # As for Airflow's own hook: nobody need make this one for the pod's own account to be used.
        if self.argo_workflows_conn_id != DEFAULT_CONNECTION:
            raise error
        self._use_cluster({})

    def _use(self, connection: Any, extra: Mapping[str, Any]) -> None:
        if connection.conn_type == "kubernetes":
            self._use_cluster(extra)
            return
        ident = self.argo_workflows_conn_id
        if not connection.host:
            raise InvalidInput(
                f"connection {ident} has no host",
                field="host",
                remedy="Set it to the server's URL, with https://.",
            )
        only(ident, extra, *_OWN)
        self._namespace = self._namespace or str(extra.get("namespace") or "")
        self.mode = one_of(
            "mode", str(extra.get("mode") or "auto"), _MODES, called=f"mode of connection {ident}"
        )
        self.url = base_url(server_url(connection), field="host", of="a server of Argo Workflows")
        self._settings = {
            "url": self.url,
            "authorization": _authorization(str(connection.password or "")),
            "verify_tls": flag("verify_tls", extra.get("verify_tls"), of=f"connection {ident}"),
            "ca_file": str(extra.get("ca_file") or ""),
            "timeout": seconds(ident, "timeout", extra.get("timeout"), 20.0),
        }

    def _use_cluster(self, extra: Mapping[str, Any]) -> None:
        ident = self.argo_workflows_conn_id
        only(ident, extra, *(f"{_PREFIX}{name}" for name in ("url", "timeout", "mode")), prefix=_PREFIX)
        self.mode = one_of("mode", str(extra.get(f"{_PREFIX}mode") or "auto"), _MODES)
        self.url = str(extra.get(f"{_PREFIX}url") or "").rstrip("/")
        self._cluster = dict(extra)
        self._settings = {
            "timeout": seconds(ident, f"{_PREFIX}timeout", extra.get(f"{_PREFIX}timeout"), 20.0)
        }

    def client(self, **options: Any) -> ArgoWorkflows:
        """Return a client for a worker, for use in ``async with``.

        :param options: ``timeout``, ``attempts`` and ``pause`` to replace those of the connection.
        :return: a client that is not open yet.
        """
        settings = {"attempts": 4, "pause": 0.5, **self.settings(), **options}
        if self._cluster is not None:
            return self._through_kubernetes(settings)
        from airflow_pipeops.argo_workflows.clients.rest import ArgoWorkflowsClient
        from airflow_pipeops.argo_workflows.clients.worker import WorkerHttp

        return ArgoWorkflowsClient(WorkerHttp(**settings))

    async def aclient(self, **options: Any) -> ArgoWorkflows:
        """Return a client where an event loop runs (a triggerer).

        :param options: as for :meth:`client`.
        :return: a client that is not open yet.
        """
        settings = {"attempts": 4, "pause": 0.5, **await self.asettings(), **options}
        if self._cluster is not None:
            return self._through_kubernetes(settings)
        from airflow_pipeops.argo_workflows.clients.rest import ArgoWorkflowsClient, LoopHttp

        return ArgoWorkflowsClient(LoopHttp(**settings))

    def _through_kubernetes(self, settings: Mapping[str, Any]) -> ArgoWorkflows:
        from airflow_pipeops.argo_workflows.clients.kubernetes import KubernetesRoute
        from airflow_pipeops.kubernetes.connections import client_of

        assert self._cluster is not None
        cluster = client_of(self.argo_workflows_conn_id, self._cluster, **settings)
        self._namespace = self._namespace or cluster.namespace
        return KubernetesRoute(cluster)

    def ref(self, name: str, uid: str = "") -> WorkflowRef:
        """Return which workflow is meant; call it after a client was made, since the connection may name the namespace.

        :param name: of the workflow.
        :param uid: which of that name.
        :return: the reference that a client takes.
        """
        return WorkflowRef(name, self.namespace, uid)

    def run(self, work: Callable[[ArgoWorkflows], Awaitable[Result]], **options: Any) -> Result:
        """Do something with a client, from code that is not asynchronous.

        :param work: is called with an open client.
        :param options: as for :meth:`client`.
        :return: what ``work`` returned.
        """
        return work_with(self.client(**options), work)

    def workflow(self, name: str, uid: str = "") -> dict[str, Any]:
        """Return a workflow as JSON, with its nodes; from the archive where it is not live any more.

        :param name: of the workflow.
        :param uid: which of that name; empty for the newest.
        :return: the workflow.
        """
        return self.run(lambda client: client.get(self.ref(name, uid), whole=True))

    def test_connection(self) -> tuple[bool, str]:
        """Reach the server, and name the verbs that the token lacks in the namespace."""
        try:
            trial = self.run(lambda client: client.trial(self.namespace), attempts=1)
        except PipeOpsError as error:
            return False, without_id(self.argo_workflows_conn_id, error)
        lacks = f"lacks: {'; '.join(trial.lacking)}" if trial.lacking else "can look, watch and create"
        return trial.usable, f"{trial.greeting}; the token {lacks}; {trial.untried}"


def _authorization(token: str) -> str:
    """Return the header for a token; ``argo auth token`` prints it with its scheme, a service account's has none."""
    token = sendable(token)
    return token if not token or token.lower().startswith(("bearer ", "basic ")) else f"Bearer {token}"
