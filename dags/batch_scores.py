"""Score each month of data by the model that is promoted: once, and again when another model is promoted.

::

    new batch, or ─▶ months ─▶ pin what Git and the registry agree on ─▶ features, by month ─▶ score, by month
    new release

A month that the promoted version has scored is found and not scored again. What readers see of a month is the newest entry
of its history: after a rollback, that of the model before, without scoring anything. See docs/batch.md.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.models.operators import BuildFeaturesOperator
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.operators import BatchScoreOperator, PromotedModelOperator
from airflow_pipeops.validation.triggers import DataBatchTrigger

PRODUCTION = "production"
ENV = "spec.template.spec.containers[name=server].env"

model = Deliverable("flight-delay", environments=("staging", PRODUCTION))
arrived = model.signal("month", DataBatchTrigger(storage_conn_id="pipeops_data", poll_interval=10))
needed = {
    "pipeops_data": "pipeops_storage",
    "pipeops_artifacts": "pipeops_storage",
    "mlflow_default": "mlflow",
    "pipeops_gitops_repo": "git_repository",
}
setup = model.signal("setup-batch-scores", MissingConnectionTrigger(needed))

with DAG(
    "batch_scores",
    description="Scores each month of data by the model that is promoted, once for each content and model.",
    schedule=(arrived | model.released(PRODUCTION) | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "batch": Param(
            None,
            type=["null", "string"],
            title="Batch",
            description="Name of a file under pipeops_data, for example flights-2013-03.parquet. Empty: each month.",
        )
    },
    tags=["pipeops", "model", "batch"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit
    def months(**context) -> list[dict]:
        """Return the months that are there, by the names of their files, or the one of the form; none that is kept out."""
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.delivery.events import started_by
        from airflow_pipeops.operations.remediation.marks import kept_out

        if started_by(context).by_nothing:
            return []
        folder = StorageHook("pipeops_data").get_conn()
        files = sorted(path for path in folder.iterdir() if path.suffix == ".parquet")
        if batch := context["params"]["batch"]:
            stored, files = files, [path for path in files if path.name == batch]
            if not files:
                newest = [path.name for path in stored[-3:]]
                raise AirflowFailException(f"there is no batch {batch!r} in {folder}; the newest: {newest}")
        out = kept_out(map(str, files))
        print(f"Kept out: {out or 'nothing'}")
        files = [path for path in files if str(path) not in out]
        return [{"partition": path.stem.removeprefix("flights-"), "data": str(path)} for path in files]

    @task(inlets=[model.asset("batch"), model.asset("validation")])
    def partitions(found: list[dict], built: list[dict], pinned: dict, **context) -> list[dict]:
        """Put each month together with its features, and with what was recorded of these very bytes and of the model."""
        from airflow_pipeops.delivery.events import records_on

        # The newest judgement of them; or else that they have come.
        said = {
            record.body.get("digest"): record.id
            for kind in ("batch", "validation")
            for record in records_on(context, model.asset(kind))
        }
        return [
            {
                "partition": one["partition"],
                "data": made["uri"],
                "parents": [said.get(made["data_digest"]), pinned["record_id"]],
            }
            for one, made in zip(found, built, strict=True)
        ]

    found = months()
    pin = PromotedModelOperator(
        task_id="pin",
        model=model.name,
        file=f"apps/{model.name}/overlays/{PRODUCTION}/model.yaml",
        digest_at=f"{ENV}[name=MODEL_SHA256].value",
        version_at=f"{ENV}[name=MODEL_VERSION].value",
        deliverable=model,
        inlets=[model.model],
    )
    features = BuildFeaturesOperator.partial(
        task_id="features", transform="airflow_pipeops.demo.flights:numbered"
    ).expand(data=found.map(lambda one: one["data"]))
    BatchScoreOperator.partial(
        task_id="score",
        model=pin.output,
        key="flight",
        carry=["day"],
        contract=ScoreContract(rows=(500, None), shift=0.5),
        rescore="all",
        deliverable=model,
    ).expand_kwargs(partitions(found, features.output, pin.output))
    found >> pin
