"""Notice that a run takes too long while it still runs, waits too long in the queue, or does not come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_pipeops.base.arguments import at_least, interval, not_empty, texts
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.watchers import Watcher
from airflow_pipeops.operations.airflow_api import AirflowApi, aconnected
from airflow_pipeops.operations.anomalies.judging import AnomalyJudge, replayed
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.recorded import key_of
from airflow_pipeops.operations.anomalies.runs import Dag, Values, measured

#: So often the past is read anew, in seconds; in between, only the last runs of each DAG are.
_REFRESH = 3600.0
_LAST = 10


class RunAnomalyTrigger(Watcher):
    """Fire once for each run that still runs for too long, waits too long in the queue, or does not come.

    Its payload is ``{subject, kind, finding, reason, run, at, seen, expected, chance, alpha, owner, airflow_conn_id,
    key}``.

    It costs no false alarms of its own: what it tells of would be an alarm when it has ended, too. What it told of is kept
    in the asset's state store, so that a restart repeats nothing.

    :param dag_ids: DAGs to look at.
    :param tags: or those that have one of these tags.
    :param owners: or those of one of these owners.
    :param policy: the fields of an :class:`~airflow_pipeops.operations.anomalies.policy.AnomalyPolicy`, or one.
    :param history: runs of each DAG that are read.
    :param poll_interval: time between two looks.
    :param airflow_conn_id: connection of type ``http`` to Airflow's API server.
    """

    arguments = ("dag_ids", "tags", "owners", "policy", "history", "poll_interval", "airflow_conn_id")

    def __init__(
        self,
        dag_ids: Sequence[str] = (),
        tags: Sequence[str] = (),
        owners: Sequence[str] = (),
        policy: AnomalyPolicy | Mapping[str, Any] | None = None,
        history: int = 300,
        poll_interval: timedelta | float = timedelta(minutes=1),
        airflow_conn_id: str = "airflow_api",
    ) -> None:
        super().__init__()
        for name, value in (("dag_ids", dag_ids), ("tags", tags), ("owners", owners)):
            texts(name, value)
        self.dag_ids, self.tags, self.owners = list(dag_ids), list(tags), list(owners)
        remedy = "Give dag_ids, tags or owners."
        not_empty("dag_ids", [*dag_ids, *tags, *owners], "no DAG is named", remedy)
        self._policy = policy if isinstance(policy, AnomalyPolicy) else AnomalyPolicy.from_json(policy)
        self.policy = self._policy.to_json()
        self.history = at_least("history", history, 20, f"history is {history!r}", "Give 20 runs at least.")
        self.poll_interval = interval("poll_interval", poll_interval)
        self.airflow_conn_id = airflow_conn_id
        self._judge = AnomalyJudge(self._policy)
        self._dags: list[Dag] = []
        self._read_at = 0.0

    @property
    def subject(self) -> str:
        """The connection."""
        return self.airflow_conn_id

    async def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is unusual about runs that have not ended, each once."""
        async with await aconnected(self.airflow_conn_id) as airflow:
            values = await self._values(airflow)
        memory, _ = await self.recall(self._cursor)
        before = map_(memory).get("told")
        told = set(before if isinstance(before, list) else ())
        growing = set()
        for name, point in values.open:
            verdict = self._judge.still(name, point).to_json()
            key = key_of(verdict)
            growing.add(key)
            if verdict["outcome"] != "anomalous" or key in told:
                continue
            said = (
                "subject",
                "kind",
                "variant",
                "finding",
                "reason",
                "run",
                "at",
                "seen",
                "expected",
                "chance",
                "alpha",
                "owner",
            )
            payload = {part: verdict[part] for part in said}
            yield self.keyed({**payload, "airflow_conn_id": self.airflow_conn_id}, self.airflow_conn_id, key)
            told.add(key)
            self.remember(self._cursor, {"told": sorted(told)})
        # What has ended is forgotten, so that the memory does not grow.
        self.remember(self._cursor, {"told": sorted(told & growing)})

    async def _values(self, airflow: AirflowApi) -> Values:
        now = time.time()
        anew = not self._read_at or now - self._read_at >= _REFRESH
        if anew:
            found = await airflow.dags(self.dag_ids, self.tags, self.owners)
            self._dags = [Dag.of(one) for one in found]
        names = [dag.dag_id for dag in self._dags]
        several = await airflow.runs_of(names, self.history if anew else _LAST)
        values = Values.all_of(
            measured(dag, runs, now) for dag, runs in zip(self._dags, several, strict=True)
        )
        if anew:
            # Other triggers wait on the same loop, and thousands of runs take seconds.
            self._judge = await asyncio.to_thread(_learned, values, self._policy)
            self._read_at = now
        return values

    @property
    def _cursor(self) -> str:
        return f"run_anomaly.{self.airflow_conn_id}"


def _learned(values: Values, policy: AnomalyPolicy) -> AnomalyJudge:
    judge = AnomalyJudge(policy)
    for _ in replayed(values.closed, judge, float("inf")):
        pass
    return judge
