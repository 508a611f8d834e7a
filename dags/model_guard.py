"""When labels come: if the release is worse than the model before it, take it back in Git and in the registry.

::

    new labels ─▶ join to predictions ─▶ hold release and predecessor against each other ─▶ worse, beyond doubt?
                                         (on the same rows, by days)                                │
    alias and record ◀─ verify with real requests ◀─ production is live ◀─ roll back ◀─ approve ◀───┘
                                                                        (Git commit)  (person or form)

Predictions lie under pipeops_predictions: key, at, sha256 (of the model), score; rows of the model before beside those of
the released one. Labels lie under pipeops_labels: key, at, label. A metric that has fallen is no evidence: the model before
may have fallen further. See docs/model-guard.md.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.models.desired import ModelInGit
from airflow_pipeops.models.operators import (
    FinishModelRollbackOperator,
    JoinLabelsOperator,
    ModelGuardOperator,
    ModelRollbackOperator,
)
from airflow_pipeops.models.rollback.guard import GuardPolicy
from airflow_pipeops.serving.api.operators import VerifyModelOperator
from airflow_pipeops.validation.triggers import DataBatchTrigger

PRODUCTION = "production"

model = Deliverable("flight-delay", environments=("staging", PRODUCTION))
env = "spec.template.spec.containers[name=server].env"
desired = ModelInGit(
    f"apps/{model.name}/overlays/{PRODUCTION}/model.yaml",
    {
        f"{env}[name=MODEL_URI].value": "artifact_uri",
        f"{env}[name=MODEL_SHA256].value": "sha256",
        f"{env}[name=MODEL_VERSION].value": "version",
    },
)
came = model.signal("labels", DataBatchTrigger(storage_conn_id="pipeops_labels", poll_interval=10))
needed = {
    "pipeops_labels": "pipeops_storage",
    "pipeops_predictions": "pipeops_storage",
    "pipeops_data": "pipeops_storage",
    "pipeops_artifacts": "pipeops_storage",
    "mlflow_default": "mlflow",
    "pipeops_gitops_repo": "git_repository",
    "argocd_default": "argocd",
    "flight_delay_production": "http",
}
setup = model.signal("setup-model-guard", MissingConnectionTrigger(needed))
delivered = {"deliverable": model, "environment": PRODUCTION}

with DAG(
    "model_guard",
    description="Joins labels that come late, and takes a release back that is worse than the model before it.",
    schedule=(came | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "mode": Param(
            "propose",
            type="string",
            enum=["propose", "act", "observe"],
            values_display={"propose": "ask a person", "act": "take it back", "observe": "say so only"},
            title="If the release is worse",
            description="What to do.",
        ),
        "before": Param(
            None,
            type=["null", "string"],
            title="Version before",
            description="Version to hold the release against, for example 3. Empty: the last other one that was live.",
        ),
    },
    tags=["pipeops", "model", "guard"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit(multiple_outputs=True)
    def files(**context) -> dict | None:
        """Return all predictions and labels that were kept, and the newest batch of data."""
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.delivery.events import started_by

        kept = {}
        for name in ("predictions", "labels", "data"):
            folder = StorageHook(f"pipeops_{name}").get_conn()
            kept[name] = sorted(str(path) for path in folder.iterdir() if path.suffix == ".parquet")
        missing = [name for name in ("predictions", "labels") if not kept[name]]
        for name in missing:
            print(f"Nothing is judged: no Parquet file lies under the connection pipeops_{name} yet")
        if started_by(context).by_nothing or missing:
            return None
        return {**kept, "data": kept["data"][-1:]}

    @task.short_circuit(ignore_downstream_trigger_rules=True)
    def worse(guard: dict, **context) -> bool:
        """Go on only with a release that is worse beyond doubt."""
        return guard["verdict"] == "worse" and context["params"]["mode"] != "observe"

    @task.branch
    def who_decides(**context) -> str:
        """Ask a person, unless the form says to act."""
        return "approve_by_form" if context["params"]["mode"] == "act" else "approve"

    found = files()
    join = JoinLabelsOperator(
        task_id="join",
        predictions=found["predictions"],
        labels=found["labels"],
        delay=timedelta(days=1),  # a flight has landed by then
        deliverable=model,
    )
    guard = ModelGuardOperator(
        task_id="guard",
        model=model.name,
        labelled=join.output,
        desired=desired,
        # Replayed flights, as those of the demo, have another clock than Git: from when on do they count?
        since="{{ var.value.get('model_guard_since', 'release') }}",
        before="{{ params.before or '' }}",
        policy=GuardPolicy(metric="roc_auc", mode="act"),
        parents=[join.output["record_id"]],
        **delivered,
    )
    question = f"Take the release of {model.name} back?"
    approve = RecordedApprovalOperator(
        task_id="approve",
        subject=question,
        body="{{ ti.xcom_pull('guard')['reason'] }}",
        fail_on_reject=True,
        parents=[guard.output["record_id"]],
        **delivered,
    )
    approve_by_form = RecordOperator(
        task_id="approve_by_form",
        kind="approval",
        body={
            "subject": question,
            "body": "{{ ti.xcom_pull('guard')['reason'] }}",
            "answer": "Approve",
            "approved": True,
            "approved_by": "policy",
            "policy": "the form says: act, where a release is worse beyond doubt",
        },
        parents=[guard.output["record_id"]],
        **delivered,
    )
    roll_back = ModelRollbackOperator(
        task_id="roll_back",
        order=guard.output["order"],
        desired=desired,
        data=found["data"],
        parents=[
            guard.output["record_id"],
            approve.output["record_id"],
            approve_by_form.output["record_id"],
        ],
        trigger_rule="none_failed_min_one_success",
        **delivered,
    )
    live = ArgoCDAppSensor(
        task_id="production_is_live",
        app=f"{model.name}-{PRODUCTION}",
        revision=roll_back.output["commit"],
        change=roll_back.output,
        git_conn_id="pipeops_gitops_repo",
        timeout=timedelta(minutes=10),
        parents=[roll_back.output["record_id"]],
        **delivered,
    )
    verify = VerifyModelOperator(
        task_id="verify",
        http_conn_id="flight_delay_production",
        model=model.name,
        version=roll_back.output["version"],
        artifact_uri=roll_back.output["artifact_uri"],
        sha256=roll_back.output["sha256"],
        data=found["data"],
    )
    finish = FinishModelRollbackOperator(
        task_id="finish",
        rollback=roll_back.output,
        proof=verify.output,
        desired=desired,
        parents=[roll_back.output["record_id"], live.output["record_id"]],
        **delivered,
    )

    join >> guard >> worse(guard.output) >> who_decides() >> [approve, approve_by_form] >> roll_back
    roll_back >> live >> verify >> finish
