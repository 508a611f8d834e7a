"""Names of images: registry, repository, tag and digest. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.exceptions import InvalidInput

#: The registry of names without one, and where its API is.
HUB, HUB_API = "docker.io", "registry-1.docker.io"
#: Under these names, too, it stands in files and connections.
_HUBS = ("index.docker.io", HUB_API, HUB)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_FORM = (
    "registry.example.com/team/shop:1.0, or with a digest: registry.example.com/team/shop@sha256:<64 digits>"
)


@dataclass(frozen=True)
class Reference:
    """The name of an image.

    :param host: its registry, with a port if one was given.
    :param repository: its path there.
    :param tag: empty where none was given.
    :param digest: empty where none was given.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository with its registry."""
        return f"{self.host}/{self.repository}"

    @property
    def asked(self) -> str:
        """What the registry is asked for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> str:
        """Return the name of this repository's image of a digest."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str, field: str = "image") -> Reference:
    """Read a name as engines do: without a registry it is one of Docker Hub.

    :param field: the name under which the reader knows the value.
    :return: the reference.
    :raises InvalidInput: for what is none.
    """
    rest = text.strip() if isinstance(text, str) else ""
    rest, _, digest = rest.partition("@")
    head, slash, tail = rest.partition("/")
    if slash and (set(".:[") & set(head) or head == "localhost"):
        host, rest = canonical(head), tail
    else:
        host = HUB
    repository, _, tag = rest.partition(":")
    if host == HUB and "/" not in repository:
        repository = f"library/{repository}"
    good = (
        _HOST.fullmatch(host)
        and REPOSITORY.fullmatch(repository)
        and len(repository) <= 255
        and (TAG.fullmatch(tag) or ":" not in rest)
        and (DIGEST.fullmatch(digest) or "@" not in text)
    )
    if not good:
        raise InvalidInput(
            f"{field} {text!r} is no name of an image", field=field, value=text, remedy=f"Write {_FORM}."
        )
    return Reference(host, repository, tag, digest)


def by_digest(text: str, field: str = "image") -> Reference:
    """Read a name that must tell exactly one image.

    :param field: the name under which the reader knows the value.
    :return: the reference.
    :raises InvalidInput: for a name with a tag only: what it means may change.
    """
    found = parse(text, field)
    if found.digest:
        return found
    raise InvalidInput(
        f"{field} {text!r} names a tag, which may be another image tomorrow; a digest is needed",
        field=field,
        value=text,
        remedy='Pass the "reference" that BuildImageOperator returned, or write <repository>@sha256:<64 digits>.',
    )


def tag(text: str, field: str) -> str:
    """Refuse what is no tag.

    :return: the tag.
    :raises InvalidInput: for anything else.
    """
    remedy = "Use letters, digits, dots, dashes and underscores; at most 128."
    return matching(field, text, TAG, "a tag", remedy)


def canonical(host: str) -> str:
    """Return the one name of a registry that has several."""
    return HUB if host.lower() in _HUBS else host.lower()
