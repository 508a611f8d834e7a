"""Each new batch of data is compared with the champion's reference; a policy decides whether to retrain.

::

    new batches ─┬─▶ of each: quality (gate) ─┬─▶ drift ────────────┐
                 └─▶ champion? ───────────────┴─▶ champion's score ─┴─▶ policy ─▶ hold | investigate | retrain
                                                                                                       │
                                                                                    starts data_to_model

Drift alone never retrains: bad data vetoes, and a measured loss counts more than a moved column. A run may stand for several
batches, since Airflow merges events. Each is judged and recorded for itself: one that cannot be read fails alone.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.drift.operators import DataDriftOperator
from airflow_pipeops.governor import RetrainPolicy
from airflow_pipeops.governor.operators import RetrainGovernorOperator
from airflow_pipeops.models.operators import MeasureModelOperator
from airflow_pipeops.validation.operators import ValidateDataOperator
from airflow_pipeops.validation.triggers import DataBatchTrigger

DOMAIN = "airflow_pipeops.demo.flights"
#: How Airflow calls each task of a batch.
NAME = "{{ ti.xcom_pull('new_batches', map_indexes=-1)[ti.map_index].rpartition('/')[2] }}"

model = Deliverable("flight-delay", environments=("staging", "production"))
arrived = model.signal("batch", DataBatchTrigger(storage_conn_id="pipeops_data", poll_interval=2))
needed = {"pipeops_data": "pipeops_storage", "mlflow_default": "mlflow"}
setup = model.signal("setup-drift-to-retrain", MissingConnectionTrigger(needed))

with DAG(
    "drift_to_retrain",
    description="Compares each new batch with the champion's reference and decides whether to retrain.",
    schedule=(arrived | setup),
    catchup=False,
    max_active_runs=1,  # each decision sees the ones before it
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "batch": Param(
            None,
            type=["null", "string"],
            title="Batch",
            description="Name of a file under pipeops_data, for example flights-2013-03.parquet. Empty: the newest.",
        ),
        "version": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="Of the model in the registry to hold the batch against, for example 3. Empty: the champion.",
        ),
    },
    tags=["pipeops", "model", "drift"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit
    def new_batches(**context) -> list[str]:
        """Return the batches that started this run; a run by hand looks at the one of its form, or the newest."""
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.delivery.events import started_by

        started, batch = started_by(context), context["params"]["batch"]
        if started.signals or started.by_nothing:
            return list(dict.fromkeys(str(signal["uri"]) for signal in started.signals if "uri" in signal))
        folder = StorageHook("pipeops_data").get_conn()
        stored = sorted(str(path) for path in folder.iterdir() if path.suffix == ".parquet")
        if batch and str(folder / batch) not in stored:
            raise AirflowFailException(f"there is no batch {batch!r} in {folder}; the newest: {stored[-3:]}")
        return [str(folder / batch)] if batch else stored[-1:]

    @task.short_circuit(multiple_outputs=True)
    def champion(**context) -> dict | None:
        """Return the reference of the champion, or of the version of the form; without a champion there is none."""
        from airflow_pipeops.models.hook import MLflowHook

        registry, version = MLflowHook().get_registry(), context["params"]["version"]
        found = (
            registry.version(model.name, version) if version else registry.by_alias(model.name, "champion")
        )
        return {"reference": found.reference_uri, "version": found.version} if found else None

    @task_group(default_args={"map_index_template": NAME})
    def judge(uri):
        """Judge one batch."""

        @task
        def batch(uri) -> str:
            """Refuse what lies elsewhere, since an event alone names it, and what the remediator keeps out."""
            from airflow_pipeops.base.storage import StorageHook
            from airflow_pipeops.delivery.operators import no_retry
            from airflow_pipeops.operations.remediation.marks import demand_admitted

            if not (storage := StorageHook("pipeops_data")).below(uri):
                raise AirflowFailException(f"{uri!r} is not a file right in {storage.get_conn()}")
            with no_retry():
                demand_admitted(uri)
            return uri

        # A short circuit in a mapped group skips nothing: Airflow looks for its decision under no map index.
        @task
        def usable(found: dict) -> None:
            """Do not compare data that failed its gate; the policy vetoes it."""
            if not found["passed"]:
                raise AirflowSkipException("the batch failed its gate")

        data = batch(uri)
        quality = ValidateDataOperator(
            task_id="quality",
            data=data,
            expectations=f"{DOMAIN}:EXPECTATIONS",
            on_failure="record",
            deliverable=model,
        )
        drift = DataDriftOperator(
            task_id="drift",
            reference=compared["reference"],
            current=data,
            columns=f"{DOMAIN}:FEATURES",
            deliverable=model,
            parents=[quality.output["record_id"]],
        )
        score = MeasureModelOperator(
            task_id="champion_score",
            model=model.name,
            version=compared["version"],
            data=data,
            scorer=f"{DOMAIN}:score",
            deliverable=model,
            parents=[quality.output["record_id"]],
        )
        decide = RetrainGovernorOperator(
            task_id="decide",
            quality=quality.output,
            drift=drift.output,
            performance=score.output,
            policy=RetrainPolicy(target=0.70),  # the AUC that was agreed on
            deliverable=model,
            parents=[quality.output["record_id"], drift.output["record_id"], score.output["record_id"]],
            trigger_rule="none_failed",
            max_active_tis_per_dagrun=1,  # each decision sees the ones before it
        )
        quality >> usable(quality.output) >> [drift, score] >> decide
        # Direct ones: only so is what was mapped before the champion's answer skipped by it.
        compared >> [score, decide]

    batches, compared = new_batches(), champion()
    batches >> compared
    judge.expand(uri=batches)
    # Without a champion the last tasks are skipped: the run is red all the same where a batch could not be read.
    dag.get_task("judge.quality") >> EmptyOperator(task_id="every_batch_was_read")
