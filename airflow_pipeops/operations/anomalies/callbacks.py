"""Judge one run when it ends, where its DAG says so itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy

if TYPE_CHECKING:
    from airflow_pipeops.operations.airflow_api import AirflowApi
    from airflow_pipeops.operations.anomalies.verdict import AnomalyVerdict

log = logging.getLogger(__name__)


class JudgeRun:
    """A callback for the last task of a DAG, ``on_success_callback=JudgeRun(...)``: was this run unusually slow or fast?

    It compares the run, as long as it has taken by then, with the earlier runs of its DAG. It never fails a task: what goes
    wrong is logged. A DAG of few runs has few values to compare with; :class:`RunAnomalyOperator` has those of all DAGs.

    The policy's budget is the owner's, over all DAGs: each judges by its share of it, since it sees no run of the others.

    :param then: called with the verdict (JSON) and the context where the run is unusual, for example to notify somebody.
    :param policy: the numbers.
    :param sharing: number of DAGs that share the owner's budget; by default as many as Airflow lists of the DAG's owner.
    :param history: runs of the DAG that are read.
    :param airflow_conn_id: connection of type ``http`` to Airflow's API server.
    """

    def __init__(
        self,
        then: Callable[[Mapping[str, Any], Any], Any] | None = None,
        *,
        policy: AnomalyPolicy | None = None,
        sharing: int | None = None,
        history: int = 200,
        airflow_conn_id: str = "airflow_api",
    ) -> None:
        self.then = then
        self.policy = policy or AnomalyPolicy()
        if sharing is not None:
            at_least(
                "sharing", sharing, 1, f"sharing is {sharing!r}", "Give the number of DAGs, or leave it out."
            )
        self.sharing = sharing
        self.history = history
        self.airflow_conn_id = airflow_conn_id

    def __call__(self, context: Any) -> None:
        """Judge the run of a context."""
        try:
            verdict = self.judged(context["ti"].dag_id, context["ti"].run_id)
            if not verdict.anomalous:
                log.info("%s: %s", verdict.outcome, verdict.reason)
                return
            log.warning("%s", verdict.reason)
            if self.then:
                self.then(verdict.to_json(), context)
        except Exception as error:  # the work is done, and nobody may lose it for a judgement of its duration
            from airflow_pipeops.exceptions import PipeOpsError

            said = str(error) if isinstance(error, PipeOpsError) else type(error).__name__
            log.warning("Nobody can tell whether this run is unusual: %s", said)

    def judged(self, dag_id: str, run_id: str) -> AnomalyVerdict:
        """Judge a run, as long as it has taken by now.

        :param dag_id: its DAG.
        :param run_id: the run.
        :return: the verdict.
        :raises NotFound: if Airflow does not list it among the last runs.
        """
        from airflow_pipeops.base.connections import work_with
        from airflow_pipeops.exceptions import NotFound
        from airflow_pipeops.operations.airflow_api import connected
        from airflow_pipeops.operations.anomalies.judging import AnomalyJudge, replayed
        from airflow_pipeops.operations.anomalies.runs import Dag, measured

        async def read(airflow: AirflowApi) -> Any:
            (found,) = await airflow.dags([dag_id], (), ())
            dag = Dag.of(found)
            owners = [dag.owner] if dag.owner and self.sharing is None else []
            # Airflow lists those of joann, too, where it is asked for ann.
            listed = [Dag.of(one).owner for one in (await airflow.dags((), (), owners) if owners else ())]
            sharing = self.sharing or max(listed.count(dag.owner), 1)
            return dag, await airflow.runs(dag_id, self.history), sharing

        dag, runs, sharing = work_with(connected(self.airflow_conn_id), read)
        now = time.time()
        # The last task still runs while its callback is called, so that the run is listed as running.
        values = measured(dag, runs, now)
        ours = [
            (name, point) for name, point in values.open if point.run == run_id and name.kind == "duration"
        ]
        if not ours:
            raise NotFound(f"run {run_id!r} is not among the last runs of {dag_id} that run")
        judge = AnomalyJudge(self.policy.shared(sharing))
        for _ in replayed(values.closed, judge, now):
            pass
        return judge.see(*ours[0])
