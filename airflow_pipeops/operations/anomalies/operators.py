"""Look over all series of runs and deliveries."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import at_least, positive, texts
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from airflow_pipeops.delivery.records import Record
    from airflow_pipeops.operations.anomalies.look import Look
    from airflow_pipeops.operations.anomalies.runs import Values, Window


class RunAnomalyOperator(DeliveryOperator):
    """Find what is unusual among the runs of DAGs, and among the deliveries of the operator's deliverable.

    It judges what became known since its last look: durations, also of runs that still run, times in the queue, failures,
    runs that did not come; of records, rows, seconds, lead times, waits and costs; and series that are handed to it. What
    hangs together is one alarm. False alarms stay within the policy's budget: see ``docs/anomalies.md``.

    Returns ``{alarms, count, looked, cannot_tell, since, until, open, policy, record_id}``; it records, with a page as
    evidence, where there is an alarm. The same history gives the same verdicts; nothing is kept elsewhere.

    :param dag_ids: DAGs to look at.
    :param tags: look at those that have one of these; without ``dag_ids``, ``tags`` and ``owners``, at none.
    :param owners: look at those of one of these owners.
    :param series: further ones: ``{"name", "kind", "values": [[ISO time, number], ...]}`` for each; templated.
    :param deploys: times in which something was deployed, ``{"start", "end"}`` each: runs of such times are compared with
        each other; templated.
    :param owner: in whose budget deliveries and further series are counted.
    :param policy: the numbers.
    :param history: runs of each DAG that are read.
    :param lookback: how far back the first look goes; each later one goes back to the one before, however long that is ago.
    :param airflow_conn_id: connection of type ``http`` to Airflow's API server.
    """

    template_fields: Sequence[str] = (
        "dag_ids", "tags", "owners", "series", "deploys", *DeliveryOperator.template_fields,
    )  # fmt: skip
    emits: ClassVar[tuple[str, ...]] = ("anomaly",)
    ui_color = "#fde8e8"

    def __init__(
        self,
        *,
        dag_ids: Sequence[str] = (),
        tags: Sequence[str] = (),
        owners: Sequence[str] = (),
        series: Any = (),
        deploys: Any = (),
        owner: str = "",
        policy: AnomalyPolicy | None = None,
        history: int = 300,
        lookback: timedelta = timedelta(days=1),
        airflow_conn_id: str = "airflow_api",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dag_ids = dag_ids
        self.tags = tags
        self.owners = owners
        self.series = series
        self.deploys = deploys
        self.owner = owner
        self.policy = policy or AnomalyPolicy()
        self.history = at_least("history", history, 20, f"history is {history!r}", "Give 20 runs at least.")
        self.lookback = positive("lookback", lookback)
        self.airflow_conn_id = airflow_conn_id
        if self.deliverable is not None:
            read = [asset for asset in self._read() if asset not in self.inlets]
            self.inlets = [*self.inlets, *read]

    def _read(self) -> list[Asset]:
        """Return the assets on whose records deliveries are measured, and of earlier looks."""
        from airflow_pipeops.delivery.records import PER_ENVIRONMENT
        from airflow_pipeops.operations.anomalies.recorded import READ

        assert self.deliverable is not None
        places = self.deliverable.environments
        return [
            self.deliverable.asset(kind, place)
            for kind in (*READ, "anomaly")
            for place in (places if kind in PER_ENVIRONMENT else (None,))
        ]

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, judge, record."""
        from airflow_pipeops.operations.anomalies.look import look
        from airflow_pipeops.operations.anomalies.recorded import given, told_by, values_of
        from airflow_pipeops.operations.anomalies.runs import Values, Window

        with no_retry():
            now = time.time()
            windows = Window.read(_parsed("deploys", self.deploys))
            further = given(_parsed("series", self.series), self.owner)
            records = self._records(context)
            until, told = told_by(record for record in records if record.kind == "anomaly")
            looks = [time for time in (until, *self._looks(context)) if time is not None]
            since = max(looks, default=now - self.lookback.total_seconds())
            runs, parents = self._runs(now, windows)
            delivered = values_of(records, self.owner)
            values = Values.all_of([runs, Values((*delivered, *further))])
            found = look(values, self.policy, since, now, parents, told)
            for group in found.alarms:
                self.log.warning("%s", group.says)
            facts = found.facts(self.policy)
            return {**facts, "record_id": self._record(context, found, facts)}

    def _looks(self, context: Context) -> list[float | None]:
        """Return up to when this task has looked in its earlier runs: a quiet look leaves no record, and this alone."""
        from airflow_pipeops.operations.anomalies.runs import moment

        found = context["ti"].xcom_pull(key="until", include_prior_dates=True)
        return [moment(one) for one in (found if isinstance(found, (list, tuple)) else [found])]

    def _records(self, context: Context) -> list[Record]:
        if self.deliverable is None:
            return []
        from airflow_pipeops.delivery.events import records_on

        return records_on(context, *self._read())

    def _runs(self, now: float, windows: Sequence[Window]) -> tuple[Values, Mapping[str, frozenset[str]]]:
        from airflow_pipeops.base.connections import work_with
        from airflow_pipeops.operations.airflow_api import AirflowApi, connected
        from airflow_pipeops.operations.anomalies.runs import Dag, Values, measured, parents_of

        for name in ("dag_ids", "tags", "owners"):  # a template has made something of them by now
            texts(name, getattr(self, name))
        if not (self.dag_ids or self.tags or self.owners):
            return Values(), {}

        async def read(airflow: AirflowApi) -> tuple[Values, Mapping[str, frozenset[str]]]:
            found = await airflow.dags(list(self.dag_ids), list(self.tags), list(self.owners))
            dags = [Dag.of(one) for one in found]
            several = await airflow.runs_of([dag.dag_id for dag in dags], self.history)
            values = [measured(dag, runs, now, windows) for dag, runs in zip(dags, several, strict=True)]
            return Values.all_of(values), parents_of(await airflow.assets())

        return work_with(connected(self.airflow_conn_id), read)

    def _record(self, context: Context, found: Look, facts: Mapping[str, Any]) -> str | None:
        from airflow_pipeops.operations.anomalies.look import page

        if not found.alarms:
            return None
        kept = [self.keep(context, page(found, self.policy), "anomalies.html", "text/html")]
        whole = json.dumps(found.to_json(), indent=1, ensure_ascii=False)
        kept.append(self.keep(context, whole, "anomalies.json", "application/json"))
        return self.emit(context, "anomaly", facts, evidence=kept)


def _parsed(field: str, value: Any) -> list[Any]:
    """Read what a template made of a list.

    :raises InvalidInput: for what is none.
    """
    from airflow_pipeops.base.documents import parsed
    from airflow_pipeops.exceptions import InvalidInput

    try:
        found = parsed(value) if isinstance(value, str) and value else value
    except ValueError:
        found = value
    if not found:
        return []
    if isinstance(found, (list, tuple)) and all(isinstance(one, Mapping) for one in found):
        return list(found)
    raise InvalidInput(f"{field} is no list of objects", field=field, remedy="Give a list, or JSON of one.")
