"""Months of a champion's metric, decided about one after the other by a DAG in this process.

Usage: GOVERNOR_MODE=act python governor_dag.py METRIC...: prints the decisions as a JSON line. The database must be
migrated, and this file's folder be the DAGs folder.
"""

from __future__ import annotations

import json
import os
import sys

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, task

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.governor import RetrainPolicy
from airflow_pipeops.governor.operators import ApprovedRetrainOperator, RetrainGovernorOperator

MODE = os.environ["GOVERNOR_MODE"]
model = Deliverable(f"late-flights-{MODE}")

with DAG(
    f"govern_{MODE}", schedule=None, params={"month": 0, "metric": 0.7}, render_template_as_native_obj=True
) as dag:
    decide = RetrainGovernorOperator(
        task_id="decide",
        batch="month {{ params.month }}",
        performance={"value": "{{ params.metric }}"},
        policy=RetrainPolicy(target=0.70, mode=MODE),
        kill_switch="retraining_off",
        deliverable=model,
    )

    @task.short_circuit
    def must_be_asked(decision: dict) -> bool:
        return decision["needs_approval"]

    approve = ApprovalOperator(
        task_id="approve",
        subject="Retrain {{ params.month }}?",
        body="{{ ti.xcom_pull('decide')['reasons'] | join(' ') }}",
    )
    start = ApprovedRetrainOperator(task_id="start", decision=decide.output, deliverable=model)
    must_be_asked(decide.output) >> approve >> start

if __name__ == "__main__":
    found = []
    for month, metric in enumerate(map(float, sys.argv[1:])):
        # A person's approval has no person here: it counts as given.
        run = dag.test(run_conf={"month": month, "metric": metric}, mark_success_pattern=r"^approve$")
        instances = {item.task_id: item for item in run.get_task_instances()}
        decision = instances["decide"].xcom_pull(task_ids="decide", key="return_value")
        states = {name: str(item.state) for name, item in instances.items()}
        found.append({"action": decision["action"], "rule": decision["rule"], "states": states})
    print(json.dumps(found))
