"""Notice a push."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.git.hook import GitHook

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository


class GitPushTrigger(Watcher):
    """Fire once for each new tip of a branch, with payload
    ``{commit, previous, branch, git_conn_id, key}``.

    Several pushes between two looks are one event, for the newest; ``previous`` names the tip of the event before, so that
    nothing in between is lost. A force-push is an event like any other. The last tip is kept in the asset's state store,
    so a restart, or a repository that was away, neither loses nor repeats an event. If the triggerer is killed before
    Airflow has stored the event, it is told again, with the same ``key``.

    The first time ever, the present tip is only remembered: switching a DAG on does not release what was pushed long ago.
    With ``fire_on_start=True`` it fires for the present tip too.

    :param git_conn_id: connection of the repository.
    :param branch: the connection's branch by default.
    :param poll_interval: time between two looks; one look is one ``ls-remote``.
    :param fire_on_start: whether to fire for the tip that is there the first time.
    """

    arguments = ("git_conn_id", "branch", "poll_interval", "fire_on_start")

    def __init__(
        self,
        git_conn_id: str,
        branch: str | None = None,
        poll_interval: timedelta | float = timedelta(seconds=10),
        fire_on_start: bool = False,
    ) -> None:
        super().__init__()
        self.git_conn_id = git_conn_id
        self.branch = branch
        self.poll_interval = interval("poll_interval", poll_interval)
        self.fire_on_start = fire_on_start
        self._client: GitRepository | None = None
        self._was_absent = False

    @property
    def subject(self) -> str:
        """The connection."""
        return self.git_conn_id

    async def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the tip if it is another than the last one known."""
        try:
            branch, tip = await self._tip()
        except Exception:
            self._client = None  # the token in the connection may have been renewed
            raise
        memory, _ = await self.recall(self._cursor)
        known, told = text(map_(memory).get("tip")) or None, told_before(memory)
        if tip != known and (known is not None or self.fire_on_start or self._was_absent):
            payload = {"commit": tip, "previous": known, "branch": branch, "git_conn_id": self.git_conn_id}
            # Two force pushes back and forth are told alike, and are two happenings: they differ by the count.
            yield self.keyed(payload, payload, told)
            told += 1
        self.remember(self._cursor, {"tip": tip, "told": told})

    async def _tip(self) -> tuple[str, str]:
        if self._client is None:
            self._client = await GitHook(self.git_conn_id).aget_conn()
        branch = self.branch or self._client.branch
        try:
            return branch, await self._client.atip(branch)
        except NotFound:
            self._was_absent = True  # so that the first commit of a new branch is a push like any other
            raise

    @property
    def _cursor(self) -> str:
        return f"git_push.{self.git_conn_id}.{self.branch or 'default'}"
