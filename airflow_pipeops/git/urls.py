"""The URL of a Git repository: https, ssh, file, ``git@host:path`` or an absolute path. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_SCP_LIKE = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_.-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*):(?!//)(?P<path>[^\s:]\S*)"
)


@dataclass(frozen=True)
class RepositoryUrl:
    """Where a repository is.

    :param scheme: in lower case; ``ssh`` for ``git@host:path``, ``file`` for a path.
    :param host: in lower case; empty for a file.
    :param port: if it is named.
    :param path: on that host.
    :param user: empty if none is named.
    :param password: empty if none is named.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and port, without what opens it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port is None else f"{self.scheme}://{host}:{self.port}"


def parse(url: str) -> RepositoryUrl | None:
    """Read the URL of a repository.

    :param url: as a person, a connection or a controller wrote it.
    :return: its parts, or ``None`` if it is the URL of none.
    """
    if not url or url.startswith("-") or any(ord(character) <= 32 for character in url):
        return None
    if "://" not in url:
        if url.startswith("/"):
            return RepositoryUrl("file", "", None, url)
        match = _SCP_LIKE.fullmatch(url)
        if match is None or "::" in url:
            return None
        return RepositoryUrl("ssh", match["host"].lower(), None, match["path"], match["user"] or "")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    return RepositoryUrl(parts.scheme, host, port, parts.path, parts.username or "", parts.password or "")
