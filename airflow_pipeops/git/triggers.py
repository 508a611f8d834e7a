"""Notice a push."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.git.hook import GitHook

if TYPE_CHECKING:
    from airflow_pipeops.git.repository import GitRepository

#: The longest pause between two looks at a repository that does not answer, in seconds.
_LONGEST_PAUSE = 300.0


class GitPushTrigger(BaseEventTrigger):
    """Fire once for each new tip of a branch, with payload ``{commit, previous, branch, git_conn_id}``.

    Several pushes between two looks are one event, for the newest; ``previous`` names the tip of the event before, so that
    nothing in between is lost. A force-push is an event like any other. The last tip is kept in the asset's state store,
    so a restart, or a repository that was away, neither loses nor repeats an event. If the process is killed in the very
    moment of firing, the event is rather repeated than lost.

    The first time ever, the present tip is only remembered: switching a DAG on does not release what was pushed long ago.
    With ``fire_on_start=True`` it fires for the present tip too.

    :param git_conn_id: connection of the repository.
    :param branch: the connection's branch by default.
    :param poll_interval: time between two looks; one look is one ``ls-remote``.
    :param fire_on_start: whether to fire for the tip that is there the first time.
    """

    def __init__(
        self,
        git_conn_id: str,
        branch: str | None = None,
        poll_interval: timedelta | float = timedelta(seconds=10),
        fire_on_start: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.git_conn_id = git_conn_id
        self.branch = branch
        self.poll_interval = interval("poll_interval", poll_interval)
        self.fire_on_start = fire_on_start
        self._client: GitRepository | None = None
        self._known: str | None = None
        self._stored: str | None = None
        self._asked = self._was_absent = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments; the interval in seconds."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "git_conn_id": self.git_conn_id,
                "branch": self.branch,
                "poll_interval": self.poll_interval,
                "fire_on_start": self.fire_on_start,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, compare, fire; for ever."""
        failures = 0
        while True:
            try:
                event = await self._look()
                if event is not None:
                    yield event
                await self._remember()
            except Exception as error:  # a watcher that ends would be silent for ever
                if failures == 0:
                    self.log.warning("Cannot look at %s; trying on: %s", self.git_conn_id, error)
                failures += 1
                self._client = None  # the token in the connection may have been renewed
            else:
                if failures:
                    self.log.info("%s answers again after %d failed looks", self.git_conn_id, failures)
                failures = 0
            await asyncio.sleep(self._pause(failures))

    async def _look(self) -> TriggerEvent | None:
        """Return an event if the tip is another than the last one known."""
        if not self._asked:
            self._known = self._stored = await self._remembered()
            self._asked = True
        if self._client is None:
            self._client = await GitHook(self.git_conn_id).aget_conn()
        branch = self.branch or self._client.branch
        try:
            tip = await self._client.atip(branch)
        except NotFound:
            self._was_absent = True  # so that the first commit of a new branch is a push like any other
            raise
        previous, self._known = self._known, tip
        if tip == previous or (previous is None and not (self.fire_on_start or self._was_absent)):
            return None
        return TriggerEvent(  # type: ignore[no-untyped-call]
            {"commit": tip, "previous": previous, "branch": branch, "git_conn_id": self.git_conn_id}
        )

    def _pause(self, failures: int) -> float:
        grown: float = self.poll_interval * 2.0 ** min(failures, 10)
        return min(grown, max(_LONGEST_PAUSE, self.poll_interval)) * random.uniform(0.9, 1.0)

    # The state store belongs to an asset. Two assets may share one trigger, and then each has a store of its own.

    def _stores(self) -> list[Any]:
        store = self.asset_state_store
        if store is None:
            return []
        named = [*getattr(store, "_by_name", {}).values(), *getattr(store, "_by_uri", {}).values()]
        return named or [store]

    @property
    def _cursor(self) -> str:
        return f"git_push.{self.git_conn_id}.{self.branch or 'default'}"

    async def _remembered(self) -> str | None:
        for store in self._stores():
            value = await store.aget(self._cursor)
            if isinstance(value, str) and value:
                return value
        return None

    async def _remember(self) -> None:
        """Store the tip, after its event has left; if that fails, it is tried again at the next look."""
        if self._known is None or self._known == self._stored:
            return
        for store in self._stores():
            await store.aset(self._cursor, self._known)
        self._stored = self._known
