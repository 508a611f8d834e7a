"""Judges that a verification asks again: Airflow about runs, Argo CD about a release. What they say is pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import Json, text
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.operations.remediation.findings import Finding, moment
from airflow_pipeops.operations.remediation.verification import Seen

if TYPE_CHECKING:
    from airflow_pipeops.operations.airflow_api import AirflowApi
    from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
    from airflow_pipeops.operations.anomalies.runs import Values
    from airflow_pipeops.operations.anomalies.series import Name
    from airflow_pipeops.operations.anomalies.verdict import AnomalyVerdict


def run_seen(run: str, found: Json | None) -> Seen:
    """Say whether a run that has failed is well by now.

    :param run: its id.
    :param found: the run, as Airflow's API tells it; none where there is none.
    :return: what is seen.
    """
    state = text((found or {}).get("state"))
    sights: Mapping[str, Any] = {"success": "clear", "failed": "still"}
    return Seen(sights.get(state, "cannot tell"), f"The run {run} is {state or 'not there any more'}.")


def runs_seen(
    values: Values, series: str, since: float, policy: AnomalyPolicy | None = None, variant: str = ""
) -> Seen:
    """Ask the judge of anomalies about what came after a finding: the newest value of the same series counts.

    :param values: of the runs of one DAG, with their past.
    :param series: kind of the series that was unusual; empty: any.
    :param since: of the finding, in seconds since 1970; what was known by then is not asked about again.
    :param policy: the numbers of the judge.
    :param variant: of the series: a run that somebody starts by hand says nothing of those that come by themselves.
    :return: what is seen: ``clear`` only by a value that the judge calls ordinary.
    """
    from airflow_pipeops.operations.anomalies.judging import AnomalyJudge, replayed

    def asked(one: Name | AnomalyVerdict) -> bool:
        return not series or (one.kind, one.variant) == (series, variant)

    judge = AnomalyJudge(policy)
    said = [one for one in replayed(values.closed, judge, since) if asked(one)]
    growing = [judge.still(name, point) for name, point in values.open if asked(name)]
    for one in growing:
        if one.anomalous:
            return Seen("still", one.reason)
    told = [one for one in said if one.outcome in ("ordinary", "anomalous")]
    if not told:
        return Seen("cannot tell", "Nothing that can be judged came since.")
    newest = max(told, key=lambda one: one.at)
    return Seen("still" if newest.anomalous else "clear", newest.reason)


def application_seen(health: str, sync: str) -> Seen:
    """Say whether a release that went bad is well by now. Whatever is known not to be well, is not.

    :param health: of the application, as Argo CD reports it.
    :param sync: whether it is what Git says.
    :return: what is seen.
    """
    said = f"The application is {health} and {sync}."
    if health in ("Degraded", "Missing", "Progressing"):
        return Seen("still", said)
    return Seen("clear" if health == "Healthy" and sync == "Synced" else "cannot tell", said)


def seen_in_airflow(
    finding: Mapping[str, Any],
    *,
    policy: AnomalyPolicy | None = None,
    history: int = 300,
    airflow_conn_id: str = "airflow_api",
) -> dict[str, Any]:
    """Look at the runs again: for a ``failed_run`` at that run, else at those that came since.

    :param finding: with ``dag`` in its target, and ``run``, or ``series`` and its ``variant``.
    :param policy: by which anomalies are judged.
    :param history: runs that are read; for a ``failed_run``, it alone is.
    :param airflow_conn_id: connection of type ``http`` to Airflow's API server.
    :return: what a judge returns.
    """
    from airflow_pipeops.base.connections import work_with
    from airflow_pipeops.operations.airflow_api import connected
    from airflow_pipeops.operations.anomalies.runs import Dag, measured

    found = Finding.of(finding)
    dag_id = text(found.target.get("dag"))
    if found.kind == "failed_run":
        run = text(found.target.get("run"))
        try:
            failed = work_with(connected(airflow_conn_id), lambda airflow: airflow.run(dag_id, run))
        except NotFound:
            failed = None
        return run_seen(run, failed).to_json()

    async def read(airflow: AirflowApi) -> tuple[Json, list[Json]]:
        (dag,) = await airflow.dags([dag_id], (), ())
        return dag, await airflow.runs(dag_id, history)

    dag, runs = work_with(connected(airflow_conn_id), read)
    values = measured(Dag.of(dag), runs, time.time())
    since = moment("at", found.at).timestamp()
    series, variant = (text(found.target.get(name)) for name in ("series", "variant"))
    return runs_seen(values, series, since, policy, variant).to_json()


def seen_in_argocd(app: str, *, argocd_conn_id: str = "argocd_default") -> dict[str, Any]:
    """Look at an application again.

    :param app: its name.
    :param argocd_conn_id: connection of type ``argocd``.
    :return: what a judge returns.
    """
    from airflow_pipeops.argocd.application import observe
    from airflow_pipeops.argocd.hook import ArgoCDHook

    seen = observe(ArgoCDHook(argocd_conn_id).application(app))
    return application_seen(seen.health, seen.sync).to_json()
