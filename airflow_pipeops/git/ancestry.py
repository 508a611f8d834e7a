"""Answer from a Git repository whether one commit contains another, and what became of a chart in it."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.waits.wait import Decided, Oracle


def git_oracle(git_conn_id: str | None) -> Oracle | None:
    """Make an oracle that asks the repository of a connection.

    :param git_conn_id: connection of the repository that holds the desired state.
    :return: the oracle; ``None`` without a connection.
    """
    if not git_conn_id:
        return None

    async def contains(expected: str, revision: str) -> bool:
        from asgiref.sync import sync_to_async

        # Reading the connection and running Git both block; asgiref's threads may talk to the triggerer's supervisor.
        return await sync_to_async(contains_commit, thread_sensitive=False)(git_conn_id, expected, revision)

    return contains


def contains_commit(git_conn_id: str, expected: str, revision: str) -> bool:
    """Ask the repository of a connection whether ``revision`` contains the commit ``expected``.

    :return: whether it does; a commit that the repository does not have, also after a fetch, is in no other one.
    :raises NotFound: if it does not have ``revision``.
    """
    from airflow_pipeops.git.hook import GitHook

    repository = GitHook(git_conn_id).get_conn()
    try:
        return bool(repository.is_ancestor(expected, revision))
    except NotFound:
        repository.resolve(revision)
        return False


#: Tells which commit changed a chart's files after its version was set; empty if none did: ``(path, revision) -> commit``.
ChartHistory = Callable[[str, str], Awaitable[str]]


def chart_history(git_conn_id: str | None) -> ChartHistory | None:
    """Make what tells from the repository of a connection whether a chart was changed without a new version.

    :param git_conn_id: connection of the repository that holds the desired state.
    :return: asked with a path and a revision; ``None`` without a connection.
    """
    if not git_conn_id:
        return None
    known: dict[tuple[str, str], str] = {}

    async def changed(path: str, revision: str) -> str:
        from asgiref.sync import sync_to_async

        if (path, revision) not in known:
            ask = sync_to_async(changed_without_version, thread_sensitive=False)
            known[path, revision] = await ask(git_conn_id, path, revision)
        return known[path, revision]

    return changed


def changed_without_version(git_conn_id: str, path: str, revision: str) -> str:
    """Ask the repository of a connection which commit changed a chart after the one that set its version.

    :param git_conn_id: the connection.
    :param path: of the chart in the repository.
    :param revision: where to look.
    :return: the newest such commit; empty if there is none.
    """
    from airflow_pipeops.git.hook import GitHook

    repository, folder = GitHook(git_conn_id).get_conn(), posixpath.normpath(path).lstrip("/")
    versioned = repository.last_change(f"{folder}/Chart.yaml", revision, of_lines="^version:")
    changed = repository.last_change(folder, revision)
    return "" if changed == versioned else changed


def demand_set(git_conn_id: str | None, decided: Decided, live: Any, change: Any = None) -> None:
    """Refuse a release whose commit is contained in what is live, while what it set was taken back since.

    :param git_conn_id: connection of the repository of the desired state; without one, only the commit itself is green.
    :param decided: the wait, which is over.
    :param live: the revision that is live, or several, one for each source.
    :param change: what the operator returned that wrote the commit, if that is known.
    :raises ReleaseFailed: naming what is lost, and the later commit.
    """
    newer = newer_than_expected(decided, str(live))
    if not git_conn_id or not newer:
        return
    from airflow_pipeops.git.hook import GitHook

    repository = GitHook(git_conn_id).get_conn()
    for commit, revision in newer.items():
        repository.demand_set(commit, revision, change if isinstance(change, Mapping) else None)


def newer_than_expected(decided: Decided, live: str) -> dict[str, str]:
    """Return the live revision that contains an expected commit, by that commit; none where it is live itself."""
    found: dict[str, str] = {}
    for answer, contained in decided.expectation.contained.items():
        commit, _, revision = answer.partition("..")
        # With a source hydrator what is live has another name; the newest commit that was asked about is the one.
        hydrated = commit not in live and found.get(commit, "..") not in live
        if contained and (revision in live or hydrated):
            found[commit] = revision
    return found
