"""Airflow connection -> :class:`GitRepository`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_pipeops.base.connections import aread, only, read, seconds, without_id
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_pipeops.git.repository import GitRepository

#: What the extra of a connection may hold.
EXTRAS = (
    "branch", "author_name", "author_email", "private_key", "private_key_passphrase", "signing_private_key",
    "signing_private_key_passphrase", "known_hosts", "ca_file", "timeout",
)  # fmt: skip


class GitHook(BaseHook):
    """A Git repository and one branch of it.

    :param git_conn_id: connection of type ``git_repository``.
    :param patience: time without progress after which Git is ended, instead of the connection's ``timeout``.
    """

    conn_name_attr = "git_conn_id"
    default_conn_name = "pipeops_gitops_repo"
    conn_type = "git_repository"
    hook_name = "Git repository"

    def __init__(
        self, git_conn_id: str = default_conn_name, *, patience: timedelta | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.patience = patience

    def get_conn(self) -> GitRepository:
        """Open the repository.

        :return: the repository.
        :raises InvalidInput: if a field of the connection cannot be used.
        """
        return repository(self.git_conn_id, read(self.git_conn_id, self.conn_type), self.patience)

    async def aget_conn(self) -> GitRepository:
        """Return the repository; for triggers, which must not block."""
        return repository(self.git_conn_id, await aread(self.git_conn_id, self.conn_type), self.patience)

    def test_connection(self) -> tuple[bool, str]:
        """Read the tip of the branch, and ask whether this credential may write."""
        try:
            client = self.get_conn()
            tip = client.tip()
        except Exception as error:  # whatever it is, the person at the form must see it
            return False, without_id(self.git_conn_id, error)
        try:
            writing = "may be written" if client.may_write() else "may not be written, with this credential"
        except PipeOpsError as error:
            writing = f"may not be written: {error}"
        return True, f"Branch {client.branch} of {client.display_url} is at {tip[:12]}; it {writing}"


def repository(conn_id: str, connection: Any, given: timedelta | None = None) -> GitRepository:
    """Open the repository that a connection names.

    :param given: patience instead of the connection's.
    :return: the repository.
    :raises InvalidInput: naming the field that cannot be used.
    """
    from datetime import timedelta

    from airflow_pipeops.git.credentials import Credentials
    from airflow_pipeops.git.repository import Author, GitRepository

    extra = connection.extra_dejson
    only(conn_id, extra, *EXTRAS)
    patience = seconds(conn_id, "timeout", extra.get("timeout"), 60.0)
    try:
        credentials = Credentials(
            username=connection.login or "",
            password=connection.password or "",
            private_key=extra.get("private_key") or "",
            known_hosts=extra.get("known_hosts") or "",
            ca_file=extra.get("ca_file") or "",
            private_key_passphrase=extra.get("private_key_passphrase") or "",
            signing_private_key=extra.get("signing_private_key") or "",
            signing_private_key_passphrase=extra.get("signing_private_key_passphrase") or "",
        )
        default = Author()
        author = Author(extra.get("author_name") or default.name, extra.get("author_email") or default.email)
        return GitRepository(
            _url(connection), credentials=credentials, branch=extra.get("branch") or "main", author=author,
            timeout=given or timedelta(seconds=patience),
        )  # fmt: skip
    except InvalidInput as error:
        raise InvalidInput(
            f"connection {conn_id!r}: {error.message}",
            field=f"{conn_id}.{error.field}",
            value=error.value,
            remedy=error.remedy,
        ) from None


def _url(connection: Any) -> str:
    """Return the URL; a connection given as a URI may have it in parts."""
    host = connection.host or ""
    scheme = connection.schema or ""
    if host and "://" not in host and scheme in ("https", "http", "ssh", "file"):
        server, slash, path = host.partition("/")
        return f"{scheme}://{server}" + (f":{connection.port}" if connection.port else "") + slash + path
    return str(host)
