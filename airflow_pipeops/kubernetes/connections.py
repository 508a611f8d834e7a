"""From an Airflow connection of type ``kubernetes`` to a client of that cluster.

What a connection may hold (a kubeconfig, a path to one, the pod's own service account, a context, credential plugins) is
the business of Airflow's own provider: its ``AsyncKubernetesHook`` reads it, wherever that takes more than reading a file.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.connections import aread, read, read_extra
from airflow_pipeops.exceptions import InvalidInput, NotConfigured, Unreachable
from airflow_pipeops.kubernetes import kubeconfig
from airflow_pipeops.kubernetes.kubeconfig import Endpoint, config_endpoint, file_endpoint, pod_endpoint

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

DEFAULT_CONNECTION = "kubernetes_default"
#: Credential plugins hand out tokens that live for a quarter of an hour or so. Seconds.
RELOAD = 300.0
#: A pod's token is replaced long before it expires. Seconds.
REREAD = 60.0
_CONFIGURED = ("in_cluster", "kube_config", "kube_config_path")


def connect(conn_id: str = DEFAULT_CONNECTION, **options: Any) -> KubernetesClient:
    """Make a client, for use in ``async with``; from code outside an event loop.

    :param options: arguments of :class:`~airflow_pipeops.kubernetes.client.KubernetesClient`.
    :return: the client.
    """
    return client_of(conn_id, extra_of(conn_id), **options)


async def aconnect(conn_id: str = DEFAULT_CONNECTION, **options: Any) -> KubernetesClient:
    """Return a client where an event loop runs (a triggerer)."""
    return client_of(conn_id, await aextra_of(conn_id), **options)


def extra_of(conn_id: str) -> dict[str, Any]:
    """Return what a connection holds; nothing for a ``kubernetes_default`` that nobody made, as Airflow's own hook does."""
    try:
        return dict(read(conn_id, "kubernetes").extra_dejson)
    except NotConfigured:
        if conn_id == DEFAULT_CONNECTION:
            return {}
        raise


async def aextra_of(conn_id: str) -> dict[str, Any]:
    """Return the same where an event loop runs."""
    try:
        return await read_extra(await aread(conn_id, "kubernetes"))
    except NotConfigured:
        if conn_id == DEFAULT_CONNECTION:
            return {}
        raise


def client_of(conn_id: str, extra: Mapping[str, Any], **options: Any) -> KubernetesClient:
    """Return a client for a connection that was read."""
    from airflow_pipeops.kubernetes.client import KubernetesClient

    given = {"namespace": str(field_of(extra, "namespace") or ""), **options}
    return KubernetesClient(ConnectionSource(conn_id, extra), **given)


def field_of(extra: Mapping[str, Any], name: str) -> Any:
    """Return a field, also under the prefix that it had before Airflow 2.3."""
    return extra[name] if name in extra else extra.get(f"extra__kubernetes__{name}")


class ConnectionSource:
    """Says where the cluster of a connection is, and with which credential now.

    :param conn_id: for messages.
    :param extra: what the connection holds.
    """

    def __init__(self, conn_id: str, extra: Mapping[str, Any]) -> None:
        self._conn_id, self._extra = conn_id, dict(extra)
        self._hook: Any = None
        self._configuration: Any = None
        self._read_at = 0.0
        self._found: Endpoint | None = None
        self._found_at = 0.0
        self._special = False
        self._lock = asyncio.Lock()

    async def __call__(self) -> Endpoint:
        """Return the endpoint as it is now."""
        plain = self._plain()
        if plain is not None:
            return plain
        async with self._lock:
            if self._configuration is None or time.monotonic() - self._read_at > RELOAD:
                self._configuration = await self._read()
                self._read_at = time.monotonic()
            found = self._configuration
            settings = await found.auth_settings()
        token = settings.get("BearerToken") or {}
        return Endpoint(
            url=str(found.host).rstrip("/"),
            authorization=str(token.get("value") or ""),
            verify=bool(found.verify_ssl) and not _true(field_of(self._extra, "disable_verify_ssl")),
            ca_file=found.ssl_ca_cert or "",
            cert_file=found.cert_file or "",
            key_file=found.key_file or "",
            server_name=found.tls_server_name or "",
            proxy=found.proxy or "",
        )

    def _plain(self) -> Endpoint | None:
        """Return what can be had by reading alone; again now and then, since a pod's token rotates."""
        if self._found is None and self._special:
            return None
        if self._found is None or time.monotonic() - self._found_at > REREAD:
            # A file that cannot be read for a moment, as while it is replaced, does not undo what it said before.
            self._found, self._found_at = self._look() or self._found, time.monotonic()
            self._special = self._found is None
        return self._found

    def _look(self) -> Endpoint | None:
        given = {name: field_of(self._extra, name) for name in _CONFIGURED}
        context = str(field_of(self._extra, "cluster_context") or "")
        if sum(map(bool, given.values())) > 1:
            return None
        if given["kube_config"]:
            found = config_endpoint(given["kube_config"], context)
        elif given["kube_config_path"]:
            found = file_endpoint(Path(str(given["kube_config_path"])), context)
        else:
            found = pod_endpoint() if given["in_cluster"] or self._in_cluster() else _default(context)
        if found is not None and _true(field_of(self._extra, "disable_verify_ssl")):
            found = replace(found, verify=False)
        return found

    async def _read(self) -> Any:
        if self._hook is None:
            # Two generated clients are imported with it, which takes seconds: not in the loop of a triggerer.
            hook_class = await asyncio.to_thread(_hook_class)
            self._hook = hook_class(
                conn_id=self._conn_id, connection_extras=_named(self._extra), in_cluster=self._in_cluster()
            )
        from kubernetes_asyncio.config import ConfigException

        remedy = "Set 'in_cluster', 'kube_config_path' or 'kube_config' of the connection."
        try:
            async with self._hook.get_conn() as opened:
                return opened.configuration
        except (ConfigException, FileNotFoundError, PermissionError) as error:
            if str(error).startswith("exec: process"):
                # A credential plugin asks a server of its own, which may be back at the next attempt.
                raise Unreachable(f"the credential plugin of connection {self._conn_id} failed") from error
            raise InvalidInput(
                f"connection {self._conn_id} leads to no cluster: {error}", field="kube_config", remedy=remedy
            ) from error
        except Exception as error:
            # Whatever else a kubeconfig provokes may quote it, and it holds credentials: only the kind of error is told.
            kind = type(error).__name__
            raise InvalidInput(
                f"connection {self._conn_id} holds no usable configuration ({kind})",
                field="kube_config",
                remedy=remedy,
            ) from None

    def _in_cluster(self) -> bool | None:
        # An empty connection means the pod's own account, where there is one. Airflow's synchronous hook does that too.
        if any(field_of(self._extra, name) for name in _CONFIGURED):
            return None
        return (
            True
            if os.environ.get("KUBERNETES_SERVICE_HOST") and (kubeconfig.ACCOUNT / "token").is_file()
            else None
        )


def _default(context: str) -> Endpoint | None:
    """Return what the kubeconfig at its usual place leads to, if there is just one."""
    paths = [Path(part) for part in os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep) if part]
    return file_endpoint(paths[0], context) if len(paths) == 1 else None


def _hook_class() -> Any:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

    return AsyncKubernetesHook


def _named(extra: Mapping[str, Any]) -> dict[str, Any]:
    # What a form leaves empty arrives as "", and counts as given for Airflow's hook.
    return {key: value for key, value in extra.items() if value not in ("", None)}


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")
