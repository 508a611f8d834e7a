"""Say once, where a person looks, which connections nobody has made yet.

A watcher whose connection is missing waits in the triggerer, and its log is the only place that says why. The DAG that
it should start looks idle. An asset that is fed by :class:`MissingConnectionTrigger` starts this DAG once, and its first
task that reads what started it fails with the ids, the types, and the page that explains them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Any

from airflow_pipeops.base.arguments import interval, mapping
from airflow_pipeops.base.connections import aread
from airflow_pipeops.base.watchers import Watcher
from airflow_pipeops.exceptions import NotConfigured


class MissingConnectionTrigger(Watcher):
    """Fire once where a connection is missing, with payload ``{missing, key}``: the ids, with their types.

    For an :class:`~airflow.sdk.AssetWatcher`, beside the one whose news start the DAG::

        schedule=pushed | service.signal("setup", MissingConnectionTrigger({"pipeops_app_repo": "git_repository"}))

    It fires again when the DAG is switched on again or the triggerer restarts, and when a connection went away after all
    were there. While some are missing it looks with growing pauses, up to five minutes.

    :param connections: connection id -> the type that it should have.
    :param poll_interval: time between two looks while all are there.
    """

    arguments = ("connections", "poll_interval")

    def __init__(
        self, connections: Mapping[str, str], poll_interval: timedelta | float = timedelta(minutes=1)
    ) -> None:
        super().__init__()
        remedy = 'For example {"argocd_default": "argocd"}.'
        self.connections = dict(mapping("connections", connections, remedy))
        self.poll_interval = interval("poll_interval", poll_interval)
        self._told = 0

    @property
    def subject(self) -> str:
        """The connections."""
        return f"the connections {', '.join(self.connections)}"

    async def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the missing ones, unless this was said already."""
        missing = {}
        for conn_id, conn_type in self.connections.items():
            try:
                await aread(conn_id, conn_type)
            except NotConfigured as error:
                missing.update(error.connections)
        if missing and not self._told:
            self.log.warning("%s", NotConfigured(missing))
            yield self.keyed({"missing": missing}, missing)
        self._told = self._told + 1 if missing else 0

    def interval(self) -> float:
        """Return the seconds until the next look."""
        return self.grown(self._told) if self._told else self.poll_interval
