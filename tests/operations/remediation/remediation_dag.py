"""A finding, answered and verified by a DAG in this process. Used by the tests.

Usage: python remediation_dag.py FINDING_JSON JUDGEMENTS...: the judge says one after the other, and then the last one for
ever. Prints the states of the tasks, what they returned and the records as a JSON line.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.models.asset import AssetEvent
from airflow.sdk import DAG
from airflow.settings import Session
from sqlalchemy import select

from airflow_pipeops import Deliverable, RemediateOperator, VerifyRemediationOperator

SAID = Path(os.environ["AIRFLOW_HOME"]) / "said"
POLICY = {
    "mode": "act",
    "rules": [
        {"name": "out", "finding": "failed_gate", "action": "quarantine_batch", "patience": 1, "window": 1}
    ],
}
delays = Deliverable("delays")


def judge(finding: Any) -> str:
    """Say the next thing."""
    assert finding["target"]["batch"]
    first, *rest = SAID.read_text().split()
    SAID.write_text(" ".join(rest or [first]))
    return first


with DAG("remedy", schedule=None, params={"finding": {}}, render_template_as_native_obj=True) as dag:
    done = RemediateOperator(
        task_id="remediate",
        finding="{{ params.finding }}",
        policy=POLICY,
        deliverable=delays,
        environment="production",
    )
    VerifyRemediationOperator(
        task_id="verify",
        remediation=done.output,
        judge=judge,
        interval=timedelta(seconds=0.5),
        policy=POLICY,
        deliverable=delays,
        environment="production",
    )

if __name__ == "__main__":
    SAID.write_text(" ".join(sys.argv[2:]))
    run = dag.test(run_conf={"finding": json.loads(sys.argv[1])})
    states = {item.task_id: str(item.state) for item in run.get_task_instances()}
    returned = {
        item.task_id: item.xcom_pull(task_ids=item.task_id, key="return_value")
        for item in run.get_task_instances()
    }
    emitted = select(AssetEvent.extra).where(AssetEvent.source_run_id == run.run_id).order_by(AssetEvent.id)
    print(json.dumps({"states": states, "returned": returned, "emitted": list(Session().scalars(emitted))}))
