"""Run one example DAG to its end in this process, and print what became of its tasks as JSON.

Usage: python run_dag.py DAG_ID [CONF_JSON]
"""

from __future__ import annotations

import json
import runpy
import sys

from airflow.sdk import DAG

from airflow_pipeops.provider.examples import example_dags

dag_id, conf = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
found = runpy.run_path(str(example_dags() / f"{dag_id}.py"))
dag = next(item for item in found.values() if isinstance(item, DAG) and item.dag_id == dag_id)
# A person's approval has no person here: it counts as given.
run = dag.test(run_conf=conf, mark_success_pattern=r"^approve$")
states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
print(json.dumps({"state": str(run.state), "tasks": states}))
