"""Connection to an MLflow registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_pipeops.base.connections import aread, only, read, seconds, without_id
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.models.registry import Registry


class MLflowHook(BaseHook):
    """An MLflow tracking store with a model registry: ``sqlite:////abs/mlflow.db`` or the URL of a server.

    Credentials are in the environment of the process for the time of one call only, and never in the URI.

    :param mlflow_conn_id: connection of type ``mlflow``.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id

    def get_registry(self) -> Registry:
        """Open the registry; nothing is contacted yet.

        :return: the registry.
        :raises InvalidInput: if the connection names none.
        """
        return self._registry(read(self.mlflow_conn_id, self.conn_type))

    async def aget_registry(self) -> Registry:
        """Open the registry; for triggers, which must not block."""
        return self._registry(await aread(self.mlflow_conn_id, self.conn_type))

    def _registry(self, connection: Any) -> Registry:
        from airflow_pipeops.models.registry import Registry

        if connection.conn_type == self.conn_type:
            only(self.mlflow_conn_id, connection.extra_dejson, "ca_file", "timeout")
        uri = connection.host or ""
        if "://" not in uri and uri and connection.conn_type in ("http", "https"):
            uri = f"{connection.conn_type}://{uri}"
        if "@" in uri.partition("://")[2].partition("/")[0]:
            raise InvalidInput(
                f"connection {self.mlflow_conn_id!r} has credentials inside its URI",
                field=f"{self.mlflow_conn_id}.host",
                remedy="Put them into the login and password fields.",
            )
        if not uri:
            raise InvalidInput(
                f"connection {self.mlflow_conn_id!r} has no tracking URI in its host field",
                field=f"{self.mlflow_conn_id}.host",
                remedy="Set the host to sqlite:////absolute/path/mlflow.db or the URL of a server.",
            )
        extra = connection.extra_dejson
        return Registry(
            uri,
            username=connection.login,
            password=connection.password,
            ca_file=str(extra.get("ca_file") or ""),
            timeout=seconds(self.mlflow_conn_id, "timeout", extra.get("timeout"), 30.0),
        )

    def get_conn(self) -> Registry:
        """Return the registry."""
        return self.get_registry()

    def test_connection(self) -> tuple[bool, str]:
        """Ask the registry for its models once."""
        try:
            registry = self.get_registry()
            count = registry.ping()
        except Exception as error:
            return False, without_id(self.mlflow_conn_id, error)
        return True, f"{registry.tracking_uri} answers; registered models: {count}"
