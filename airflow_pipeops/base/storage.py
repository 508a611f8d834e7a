"""Connection to a folder or an object-store prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_pipeops.base.connections import only, read, without_id
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


class StorageHook(BaseHook):
    """A folder (``file:///srv/data``) or an object-store prefix (``s3://bucket/prefix``).

    :param storage_conn_id: connection of type ``pipeops_storage``.
    """

    conn_name_attr = "storage_conn_id"
    default_conn_name = "pipeops_data"
    conn_type = "pipeops_storage"
    hook_name = "Folder or object storage"

    def __init__(self, storage_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.storage_conn_id = storage_conn_id

    def get_conn(self) -> ObjectStoragePath:
        """Return the root of the storage."""
        return root(self.storage_conn_id, read(self.storage_conn_id, self.conn_type))

    def below(self, uri: Any) -> bool:
        """Tell whether a URI names a file right in the root, written as :meth:`get_conn` writes it.

        :param uri: what an event has named; of any type.
        :return: whether it does; nothing else should be fetched.
        """
        name = uri.rpartition("/")[2] if isinstance(uri, str) else ""
        return name not in ("", ".", "..") and uri == str(self.get_conn() / name)

    def test_connection(self) -> tuple[bool, str]:
        """List the root once."""
        try:
            path = self.get_conn()
            if not path.exists():
                return False, f"{path} does not exist"
            next(iter(path.iterdir()), None)
        except Exception as error:
            return False, without_id(self.storage_conn_id, error)
        return True, f"{path} can be listed"


def root(conn_id: str, connection: Any) -> ObjectStoragePath:
    """Read the root that a connection names.

    :return: its path.
    :raises InvalidInput: if the connection names no URI with a scheme.
    """
    from airflow.sdk import ObjectStoragePath

    only(conn_id, connection.extra_dejson, "storage_conn_id", "uri")
    uri = connection.host or connection.extra_dejson.get("uri") or ""
    if "://" not in uri:
        raise InvalidInput(
            f"connection {conn_id!r} has no storage URI in its host field",
            field=f"{conn_id}.host",
            value=uri or None,
            remedy="Set the host to a URI such as file:///srv/data or s3://bucket/prefix.",
        )
    try:
        return ObjectStoragePath(uri, conn_id=connection.extra_dejson.get("storage_conn_id") or None)
    except ValueError as error:  # for example s3://[bucket
        raise InvalidInput(
            f"connection {conn_id!r} has a URI that cannot be read: {error}",
            field=f"{conn_id}.host",
            value=uri,
            remedy="Set the host to a URI such as file:///srv/data or s3://bucket/prefix.",
        ) from error
