"""How long a service takes to answer those who work with it: measured, looked over, and told when it becomes slow.

::

    by hand, or by a schedule ─▶ ask production ─▶ look: is what is new unusual, beyond chance?
                                 (times are kept)  (an anomaly, with since when: airflow pipeops why says what changed)

The task that asks is slow because its upstream is: no commit of its own explains it. Whoever reads the alarm asks for its
cause by the id of its record, or by this DAG and run. See docs/anomalies.md and docs/what-changed.md.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.operations.anomalies.operators import RunAnomalyOperator
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy

service = Deliverable("delay-api", environments=("staging", "production"))
#: A series needs 12 values, and its kind 30 more, before anything is judged.
ORIGINS, CALLS, TABLES = ("ewr", "jfk", "lga"), 5, 48
needed = {"delay_api_production": "http", "pipeops_timings": "pipeops_storage"}
setup = service.signal("setup-answer-times", MissingConnectionTrigger(needed))

with DAG(
    "answer_times",
    description="Measures how long a service takes to answer, and finds out when it becomes slow.",
    schedule=setup,
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2},
    params={
        "tables": Param(
            TABLES,
            type="number",
            minimum=1,
            maximum=1000,
            title="Tables",
            description=f"How many are made; each asks {len(ORIGINS) * CALLS} times.",
        ),
    },
    tags=["pipeops", "operations"],
    doc_md=__doc__,
) as dag:

    @task
    def ask(**context) -> list[dict]:
        """Make tables of the delays of each airport; return how long each of them took, with those of earlier runs."""
        import json
        import time
        from datetime import datetime, timezone

        import httpx

        from airflow_pipeops.base.connections import read, server_url
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.delivery.operators import no_retry

        with no_retry():
            url = server_url(read("delay_api_production", "http"))
            kept = StorageHook("pipeops_timings").get_conn()
        values = []
        with httpx.Client(base_url=url, timeout=30) as http:
            for _ in range(int(context["params"]["tables"])):
                began, at = time.monotonic(), datetime.now(timezone.utc)
                for origin in ORIGINS * CALLS:
                    http.get(f"/delays/{origin}").raise_for_status()
                values.append([at.isoformat(), time.monotonic() - began])
        (kept / f"{values[0][0].replace(':', '')}.json").write_text(json.dumps(values))
        earlier = sorted((path for path in kept.iterdir() if path.suffix == ".json"), key=str)[-50:]
        every = [value for path in earlier for value in json.loads(path.read_text())]
        return [{"name": f"{service.name}/table", "kind": "duration", "values": every[-1000:]}]

    RunAnomalyOperator(
        task_id="look",
        series=ask(),
        policy=AnomalyPolicy(budget=2),
        deliverable=service,
    )
