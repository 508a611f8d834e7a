"""Live state that differs from Git becomes an event, and is healed or reported.

::

    Argo CD: OutOfSync at an unchanged revision ─▶ record what differs ─▶ policy ─┬─▶ report
                                                                                 └─▶ sync ─▶ live again? ─▶ record it

The watcher fires once for each new difference, not for as long as it lasts. The DAG's parameter ``policy`` is ``heal``
or ``report``; with ``report`` a person decides what becomes of it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_pipeops.argocd.operators import ArgoCDDiffOperator, ArgoCDSyncOperator
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator

service = Deliverable("delay-api", environments=("staging", "production"))
APP = f"{service.name}-production"
DESIRED_STATE = "pipeops_gitops_repo"
drifted = service.signal(
    "live-drift", ArgoCDDriftTrigger(argocd_conn_id="argocd_default", apps=[APP], poll_interval=3)
)
needed = {"argocd_default": "argocd", DESIRED_STATE: "git_repository"}
setup = service.signal("setup-desired-state-drift", MissingConnectionTrigger(needed))

with DAG(
    "desired_state_drift",
    description="Live state that differs from Git is recorded, then healed or reported by policy.",
    schedule=(drifted | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={"policy": Param("heal", enum=["heal", "report"], description="What to do about a difference.")},
    tags=["pipeops", "infrastructure"],
    doc_md=__doc__,
) as dag:

    @task
    def difference(**context) -> dict:
        """Return the newest difference the watcher saw; a run by hand looks at the application now."""
        from airflow_pipeops.argocd.hook import ArgoCDHook
        from airflow_pipeops.delivery.events import started_by

        started = started_by(context)
        if started.by_nothing:
            raise AirflowSkipException("; ".join(started.left_out))
        seen = started.signals[-1] if started.signals else ArgoCDHook().difference(APP)
        verdict = "different" if seen["resources"] else "clean" if seen.get("sync") == "Synced" else "unknown"
        return {"app": APP, "verdict": verdict, "revision": seen["revision"], "resources": seen["resources"]}

    @task.short_circuit
    def should_heal(found: dict, **context) -> bool:
        """Heal, if there is a difference and the policy says so."""
        return bool(found["resources"]) and context["params"]["policy"] == "heal"

    found = difference()
    record = RecordOperator(
        task_id="record",
        kind="differences",
        body={name: found[name] for name in ("app", "verdict", "revision", "resources")},
        deliverable=service,
    )
    # Others commit to the same repository meanwhile: what contains the commit will do.
    heal = ArgoCDSyncOperator(task_id="heal", app=APP, revision=found["revision"], git_conn_id=DESIRED_STATE)
    healed = ArgoCDAppSensor(
        task_id="healed",
        app=APP,
        revision=found["revision"],
        git_conn_id=DESIRED_STATE,
        timeout=timedelta(minutes=10),
    )
    clean = ArgoCDDiffOperator(task_id="clean", app=APP, deliverable=service)
    record >> should_heal(found) >> heal >> healed >> clean
