"""Run one example DAG to its end in this process, and print what became of its tasks as JSON.

Usage: python run_dag.py DAG_ID [CONF_JSON [PAYLOADS_JSON]], where payloads are those of a batch watcher's events that start
the run, or records that did. A DAG of a test's own is named by its path, without the suffix.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from airflow.models.asset import AssetEvent, AssetModel, association_table
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG
from airflow.settings import Session
from sqlalchemy import event, insert, select

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.provider.examples import example_dags


def run(dag_id: str, conf: str = "{}", payloads: str = "[]") -> None:
    """Run it, and print what became of it."""
    found = runpy.run_path(str(example_dags() / f"{dag_id}.py"))
    dag = next(item for item in found.values() if isinstance(item, DAG) and item.dag_id == Path(dag_id).name)

    @event.listens_for(DagRun, "after_insert")
    def start_by_events(mapper, connection, run: DagRun) -> None:
        """Let the run be started by events, as the scheduler does it: ``dag.test()`` knows runs by hand only."""
        for payload in json.loads(payloads):
            name, extra = "flight-delay.batch", {"from_trigger": True, "payload": payload}
            if "schema" in payload:
                record = Record.from_extra(payload)
                name = Deliverable(record.deliverable).asset(record.kind, record.environment).name
                extra = payload
            asset = select(AssetModel.id).where(AssetModel.name == name).scalar_subquery()
            added = connection.execute(insert(AssetEvent).values(asset_id=asset, extra=extra))
            one = {"dag_run_id": run.id, "event_id": added.inserted_primary_key[0]}
            connection.execute(association_table.insert().values(**one))

    # A person's approval has no person here: it counts as given.
    ran = dag.test(run_conf=json.loads(conf), mark_success_pattern=r"^(.+\.)?approve$")
    states = {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in ran.get_task_instances()
    }
    emitted = select(AssetEvent.extra).where(AssetEvent.source_run_id == ran.run_id).order_by(AssetEvent.id)
    print(json.dumps({"state": str(ran.state), "tasks": states, "emitted": list(Session().scalars(emitted))}))


if __name__ == "__main__":
    run(*sys.argv[1:])
