"""From an Airflow connection to an Argo CD client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.argocd.client import AppRef, ArgoCDClient

Result = TypeVar("Result")

#: What each permission is needed for.
PERMISSIONS = {"get": "to wait and to watch", "sync": "for ArgoCDSyncOperator"}


class ArgoCDHook(BaseHook):
    """Connects to Argo CD.

    :param argocd_conn_id: the connection.
    :param project: project of the applications; by default that of the connection.
    :param app_namespace: namespace of the applications, where it is not Argo CD's own.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.argocd_conn_id = argocd_conn_id
        self._project = project
        self._namespace = app_namespace
        self._settings: dict[str, Any] | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the client. Holds the token: never log it, never hand it on."""
        if self._settings is None:
            connection = self.get_connection(self.argocd_conn_id)
            self._use(connection, connection.extra_dejson)
        assert self._settings is not None
        return self._settings

    async def asettings(self) -> dict[str, Any]:
        """Return the same where an event loop runs (a triggerer)."""
        if self._settings is None:
            from airflow.providers.common.compat.connection import (
                get_async_connection,
                get_async_extra_dejson,
            )

            connection = await get_async_connection(self.argocd_conn_id)
            self._use(connection, await get_async_extra_dejson(connection))
        assert self._settings is not None
        return self._settings

    def _use(self, connection: Any, extra: Mapping[str, Any]) -> None:
        field = f"connection {self.argocd_conn_id}"
        if not connection.host:
            raise InvalidInput(
                f"{field} has no host", field="host", remedy="Set it to the server's URL, with https://."
            )
        self._project = self._project or str(extra.get("project") or "")
        self._settings = {
            "url": _url(connection),
            "token": connection.password or "",
            "verify_tls": _flag(extra.get("verify_tls"), field),
            "ca_file": str(extra.get("ca_file") or ""),
            "timeout": _timeout(extra.get("timeout"), field),
        }

    def client(self, **options: Any) -> ArgoCDClient:
        """Return a client, for use in ``async with``.

        :param options: arguments of the client that replace those of the connection.
        """
        from airflow_pipeops.argocd.client import ArgoCDClient

        return ArgoCDClient(**{**self.settings(), **options})

    async def aclient(self) -> ArgoCDClient:
        """Return a client where an event loop runs."""
        from airflow_pipeops.argocd.client import ArgoCDClient

        return ArgoCDClient(**await self.asettings())

    def ref(self, app: str) -> AppRef:
        """Return which application is meant; call it after the connection was read, since that may name the project."""
        from airflow_pipeops.argocd.client import AppRef

        if not app or not isinstance(app, str):
            raise InvalidInput(f"{app!r} is no application", field="app", value=app, remedy="Give its name.")
        return AppRef(app, self._project, self._namespace)

    def run(self, work: Callable[[ArgoCDClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with a client, from code that is not asynchronous.

        :param options: as for :meth:`client`.
        """

        async def inside() -> Result:
            async with client as opened:
                return await work(opened)

        client = self.client(**options)
        return asyncio.run(inside())

    def application(self, app: str) -> dict[str, Any]:
        """Return an Application as JSON."""
        self.settings()
        return self.run(lambda client: client.get(self.ref(app)))

    def difference(self, app: str) -> dict[str, Any]:
        """Return how live state differs from the desired state now.

        :return: ``{app, revision, sync, resources, fingerprint}``; no resources where nothing differs.
        """
        from airflow_pipeops.argocd.drift import differences, payload
        from airflow_pipeops.argocd.observe import observe

        self.settings()
        ref = self.ref(app)

        async def look(client: ArgoCDClient) -> dict[str, Any]:
            application = await client.refresh(ref) or await client.get(ref)
            return payload(observe(application), differences(await client.managed_resources(ref)))

        return self.run(look)

    def test_connection(self) -> tuple[bool, str]:
        """Reach the server, ask who the token is, and name the permissions that it lacks."""
        try:
            return self.run(self._test)
        except PipeOpsError as error:
            return False, str(error)

    async def _test(self, client: ArgoCDClient) -> tuple[bool, str]:
        version = await client.version()
        who = await client.userinfo()
        if not who.get("loggedIn"):
            return False, f"Argo CD {version} answers, but the token is missing, expired or not accepted"
        project = self._project or "*"
        lacking = [
            f"'applications, {action}' on {project}/* ({purpose})"
            for action, purpose in PERMISSIONS.items()
            if not await client.can_i(action, project=project)
        ]
        name = who.get("username") or "somebody"
        if not lacking:
            return True, f"Argo CD {version}, logged in as {name}; the token can look and sync"
        # Looking is all that the sensors need, so a token without more is a good one for them.
        works = not lacking[0].startswith("'applications, get'")
        return works, f"Argo CD {version}, logged in as {name}; the token lacks {' and '.join(lacking)}"


def _url(connection: Any) -> str:
    host = str(connection.host)
    if "://" in host:
        return host
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    port = f":{connection.port}" if connection.port else ""
    name, slash, path = host.partition("/")
    return f"{scheme}://{name}{port}{slash}{path}"


def _flag(value: Any, field: str) -> bool:
    if value is None or value == "":
        return True
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise InvalidInput(
        f"verify_tls of {field} is {value!r}", field="verify_tls", value=value, remedy="Use true or false."
    )


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
