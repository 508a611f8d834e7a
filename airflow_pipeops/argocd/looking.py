"""Look at applications through the stream that all waits and watchers of a triggerer share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.stream import watch_of
from airflow_pipeops.waits.status import Observed

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef
    from airflow_pipeops.waits.streams.board import Ticket

log = logging.getLogger(__name__)


class Lookout:
    """The place of one watcher at the shared stream. Use it as ``with``.

    :param argocd_conn_id: the connection.
    :param project: what is watched; empty for the connection's.
    :param interval: seconds between two looks, where it comes to asking for each application by name.
    """

    def __init__(self, argocd_conn_id: str, project: str, interval: float) -> None:
        self._stream = watch_of(argocd_conn_id, project)
        self._interval = interval
        self._tickets: dict[AppRef, Ticket] = {}
        self._said: dict[AppRef, str] = {}

    def __enter__(self) -> Lookout:
        self._stream.enter()
        return self

    def __exit__(self, *error: object) -> None:
        for ticket in self._tickets.values():
            self._stream.leave(ticket)
        self._tickets.clear()
        self._stream.exit()

    def look(self, ref: AppRef) -> Observed | None:
        """Return an application as it is known now; ``None`` where nothing can be said for the moment.

        :raises PipeOpsError: where the stream has ended, for example because the token is no good.
        """
        ticket = self._tickets.get(ref)
        if ticket is None:
            ticket = self._tickets[ref] = self._stream.join(ref, self._interval, _nothing)
        sight = self._stream.sight(ticket)
        if sight is None:
            return None
        if isinstance(sight.seen, Observed):
            self._said.pop(ref, None)
            return sight.seen
        if self._said.get(ref) != sight.seen.kind:
            self._said[ref] = sight.seen.kind
            log.warning("Looking at %s failed: %s", ref, sight.seen.message or sight.seen.kind)
        return None


def _nothing(_: Any) -> None:
    """A watcher looks at its own pace; nobody need wake it."""
