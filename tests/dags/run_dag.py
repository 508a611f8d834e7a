"""Run one example DAG to its end in this process, and print what became of its tasks as JSON.

Usage: python run_dag.py DAG_ID [CONF_JSON [PAYLOADS_JSON]], where payloads are those of a batch watcher's events that start
the run, or records that did. A DAG of a test's own is named by its path, without the suffix.

Or: python run_dag.py --warm [MODULE...], which loads Airflow and these modules once, and then runs a DAG in a fork of itself
for each line on standard input: {"words": as above, "env": {}, "folder": ""}. What it printed is in the folder's out and
err; when it has ended, its exit code is in code. To load all that takes ten times as long as a short run.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
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


def serve(modules: Sequence[str]) -> None:
    """Load all once, then fork for each line."""
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    for name in modules:
        importlib.import_module(name)
    # Makes the models of each version of Airflow's API for tasks, else done with the first call.
    getattr(in_process_api_server().app, "_cadwyn_initialize", lambda: None)()
    assert threading.active_count() == 1, f"no fork has these: {threading.enumerate()}"
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        if (child := os.fork()) == 0:
            _forked(asked["words"], asked["env"], Path(asked["folder"]))
        code = Path(asked["folder"], "ended")
        code.write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), encoding="utf-8")
        code.rename(code.with_name("code"))


def _forked(words: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
    code = 1
    try:
        for number, path in enumerate((os.devnull, folder / "out", folder / "err")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(env)
        run(*words)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[2:]) if sys.argv[1] == "--warm" else run(*sys.argv[1:])
