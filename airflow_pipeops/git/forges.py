"""Where a person reads a commit: its page at the forge that keeps the repository. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.git.urls import parse

#: What a host's name says about the forge, and how that forge names a commit.
_FORGES: tuple[tuple[str, str], ...] = (
    ("github", "commit"),
    ("gitlab", "-/commit"),
    ("gitea", "commit"),
    ("forgejo", "commit"),
    ("codeberg", "commit"),
    ("bitbucket.org", "commits"),
)


def commit_url(repository: str, revision: str) -> str:
    """Find the page of a commit.

    :param repository: the URL of the repository as Argo CD has it: https, ssh, or ``git@host:path``.
    :param revision: full commit id.
    :return: its URL; empty for an unknown forge, or a revision that is no commit id.
    """
    where = _where(repository)
    if where is None or not is_sha(revision):
        return ""
    base, host, path = where
    azure = _azure(host, path)
    if azure:
        return f"{azure}/commit/{revision}"
    if host.startswith("bitbucket.") and host != "bitbucket.org":
        return _bitbucket_server(base, path, revision)
    word = next((word for name, word in _FORGES if name in host), "")
    return f"{base}/{quote(path, safe='/~')}/{word}/{revision}" if word and path.count("/") >= 1 else ""


def first_commit_url(repositories: Sequence[str], revisions: Sequence[str]) -> str:
    """Find the page of the first source's commit that has one.

    :param repositories: one per source.
    :param revisions: one per source, in the same order.
    :return: its URL; empty where no commit has one.
    """
    pages = (
        commit_url(repository, revision)
        for repository, revision in zip(repositories, revisions, strict=False)
    )
    return next(filter(None, pages), "")


def _where(repository: str) -> tuple[str, str, str] | None:
    """Return the forge's base URL, its host, and the repository's path there."""
    where = parse(repository)
    if where is None or where.scheme not in ("http", "https", "ssh", "git") or not where.host:
        return None
    # The port of SSH says nothing about where the pages are.
    web = where.origin if where.scheme in ("http", "https") else f"https://{where.host}"
    return web, where.host, where.path.strip("/").removesuffix(".git").strip("/")


def _azure(host: str, path: str) -> str:
    parts = path.split("/")
    if host == "ssh.dev.azure.com" and len(parts) == 4 and parts[0] == "v3":
        return "https://dev.azure.com/" + "/".join((parts[1], parts[2], "_git", parts[3]))
    if host == "dev.azure.com" and "_git" in parts:
        return f"https://dev.azure.com/{path}"
    if host.endswith(".visualstudio.com") and "_git" in parts:
        return f"https://{host}/{path}"
    return ""


def _bitbucket_server(base: str, path: str, revision: str) -> str:
    parts = path.split("/")
    if parts and parts[0] == "scm":
        parts = parts[1:]
    if len(parts) != 2:
        return ""
    owner = f"users/{parts[0][1:]}" if parts[0].startswith("~") else f"projects/{parts[0].upper()}"
    return f"{base}/{owner}/repos/{parts[1]}/commits/{revision}"
