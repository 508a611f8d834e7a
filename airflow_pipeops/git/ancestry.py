"""Answer from a Git repository whether one commit contains another."""

from __future__ import annotations

from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.waits.wait import Oracle


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
    repository.resolve(revision)
    try:
        return bool(repository.is_ancestor(expected, revision))
    except NotFound:
        return False
