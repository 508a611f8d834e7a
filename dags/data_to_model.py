"""A batch of data, or a decision to retrain, becomes a model in production.

::

    new batch, or ─▶ plan ─▶ validate ─▶ features ─▶ train ─▶ evaluate against the champion ─▶ better? ─▶ register
    retrain decision                                                                             │          │
                                                        recorded, not promoted ◀─────────────────┘          ▼
                                                                                  promote to staging (Git commit)
    champion alias ◀─ production is live ◀─ promote to production ◀─ approve ◀─ verify with real requests ◀─┘
                                            (Git commit)        (policy or person)

Training runs on the worker, or in a pod: PIPEOPS_TRAIN_IN=kubernetes or argo, PIPEOPS_TRAIN_IMAGE=an image with this code.
The champion is what production runs. A new batch starts training only while nothing is in production; after that the
retrain policy decides (see ``drift_to_retrain``), or a person who triggers this DAG.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.git.operators import GitOpsCommitOperator
from airflow_pipeops.models.operators import (
    BuildFeaturesOperator,
    EvaluateModelOperator,
    RegisterModelOperator,
    SetModelAliasOperator,
    TrainModelOperator,
)
from airflow_pipeops.serving.api.operators import VerifyModelOperator
from airflow_pipeops.validation.operators import ValidateDataOperator
from airflow_pipeops.validation.triggers import DataBatchTrigger

DOMAIN = "airflow_pipeops.demo.flights"
DESIRED_STATE = "pipeops_gitops_repo"
BATCHES = 3  # months of data: a model learns from two, and is judged by the days of the third
TRAIN_IN = os.environ.get("PIPEOPS_TRAIN_IN", "worker")
TRAIN_OPTIONS = {
    "image": os.environ.get("PIPEOPS_TRAIN_IMAGE", ""),
    "secrets": ["pipeops-connections"],  # storage; the chart makes it
    "deferrable": True,
}

model = Deliverable("flight-delay", environments=("staging", "production"))
arrived = model.signal("batch", DataBatchTrigger(storage_conn_id="pipeops_data", poll_interval=2))
needed = {
    "pipeops_data": "pipeops_storage",
    "pipeops_artifacts": "pipeops_storage",
    "mlflow_default": "mlflow",
    DESIRED_STATE: "git_repository",
    "argocd_default": "argocd",
    "flight_delay_staging": "http",
}
setup = model.signal("setup-data-to-model", MissingConnectionTrigger(needed))


def promote(environment: str, registered: RegisterModelOperator, **kwargs) -> GitOpsCommitOperator:
    """Commit the model's address, version and digest to an environment's overlay."""
    overlay = f"apps/{model.name}/overlays/{environment}"
    env = "spec.template.spec.containers[name=server].env"
    return GitOpsCommitOperator(
        task_id=f"promote_to_{environment}",
        git_conn_id=DESIRED_STATE,
        file=f"{overlay}/model.yaml",
        set={
            f"{env}[name=MODEL_URI].value": registered.output["artifact_uri"],
            f"{env}[name=MODEL_SHA256].value": registered.output["sha256"],
            f"{env}[name=MODEL_VERSION].value": registered.output["version"],
            "spec.replicas": 1,
        },
        message=f"Deploy {model.name} version {{{{ ti.xcom_pull('register')['version'] }}}} to {environment}",
        deliverable=model,
        environment=environment,
        **kwargs,
    )


def live(environment: str, change: GitOpsCommitOperator) -> ArgoCDAppSensor:
    """Wait until the change is live in an environment, and record the release."""
    return ArgoCDAppSensor(
        task_id=f"{environment}_is_live",
        app=f"{model.name}-{environment}",
        revision=change.output["commit"],
        change=change.output,
        git_conn_id=DESIRED_STATE,
        timeout=timedelta(minutes=10),
        deliverable=model,
        environment=environment,
        parents=[change.output["record_id"]],
    )


with DAG(
    "data_to_model",
    description="Data becomes a model: validated, trained, compared with the champion, promoted through Git.",
    schedule=(arrived | model.retrain | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "approval": Param("policy", enum=["policy", "person"], description="Who approves production."),
        "policy_gain": Param(0.01, type="number", description="The policy approves from this gain on."),
    },
    tags=["pipeops", "model"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit(multiple_outputs=True, inlets=[model.released("production")])
    def plan(**context) -> dict | None:
        """Return the data to learn from: if a policy or a person asks, or while no model is in production."""
        from airflow_pipeops.base.storage import StorageHook
        from airflow_pipeops.delivery.events import records_on, started_by
        from airflow_pipeops.operations.remediation.marks import kept_out

        started, released = started_by(context), records_on(context, model.released("production"))
        decisions = [record for record in started.records if record.kind == "decision"]
        if started.by_nothing or (started.signals and not decisions and released):
            return None  # the batch waits for the retrain policy
        files = StorageHook("pipeops_data").get_conn().iterdir()
        batches = sorted(str(path) for path in files if path.suffix == ".parquet")
        print(f"Kept out: {(out := kept_out(batches)) or 'nothing'}")
        last = [one for one in batches if one not in out]
        return {"data": last[-BATCHES:], "parents": [one.id for one in decisions]}

    @task.short_circuit(ignore_downstream_trigger_rules=True)
    def better(evaluation: dict) -> bool:
        """Stop here unless the challenger is better; the evaluation is recorded either way."""
        return evaluation["promote"]

    @task.branch
    def who_approves(evaluation: dict, **context) -> str:
        """Let the policy approve a clear gain; ask a person otherwise."""
        gain = evaluation["gain"]
        clear = gain is None or gain >= context["params"]["policy_gain"]
        return "approve_by_policy" if context["params"]["approval"] == "policy" and clear else "approve"

    planned = plan()
    validate = ValidateDataOperator(
        task_id="validate",
        data=planned["data"],
        expectations=f"{DOMAIN}:EXPECTATIONS",
        deliverable=model,
        parents=[planned["parents"]],
    )
    features = BuildFeaturesOperator(task_id="features", data=planned["data"], transform=f"{DOMAIN}:features")
    train = TrainModelOperator(
        task_id="train",
        run_in=TRAIN_IN,
        run_options=TRAIN_OPTIONS if TRAIN_IN != "worker" else None,
        deliverable=model,
        parents=[validate.output["dataset_record_id"]],
        trainer=f"{DOMAIN}:train",
        data=features.output["uri"],
        name=model.name,
        target="late",
        time_column="day",
        holdout=1 / 3,  # the last month: days, not flights, are what a gain is told by
        scorer=f"{DOMAIN}:score",
    )
    evaluate = EvaluateModelOperator(
        task_id="evaluate",
        model=model.name,
        challenger=train.output,
        metric="roc_auc",
        cluster="day",
        minimum_gain=0.005,
        deliverable=model,
        inlets=[model.asset("evaluation")],
        parents=[validate.output["record_id"]],
    )
    register = RegisterModelOperator(
        task_id="register",
        model=model.name,
        challenger=train.output,
        deliverable=model,
        parents=[evaluate.output["record_id"], validate.output["dataset_record_id"]],
    )
    to_staging = promote("staging", register, parents=[register.output["record_id"]])
    staging = live("staging", to_staging)
    verify = VerifyModelOperator(
        task_id="verify",
        http_conn_id="flight_delay_staging",
        model=model.name,
        version=register.output["version"],
        artifact_uri=register.output["artifact_uri"],
        sha256=register.output["sha256"],
        data=train.output["holdout_uri"],
    )
    question = f"Release {model.name} version {{{{ ti.xcom_pull('register')['version'] }}}} to production?"
    approve = RecordedApprovalOperator(
        task_id="approve",
        subject=question,
        body="{{ ti.xcom_pull('evaluate')['reason'] }}",
        fail_on_reject=True,
        deliverable=model,
        environment="production",
        parents=[staging.output["record_id"]],
    )
    approve_by_policy = RecordOperator(
        task_id="approve_by_policy",
        kind="approval",
        body={
            "subject": question,
            "answer": "Approve",
            "approved": True,
            "approved_by": "policy",
            "policy": "a gain of at least {{ params.policy_gain }}, or no model before it",
        },
        deliverable=model,
        environment="production",
        parents=[staging.output["record_id"]],
    )
    agreed = (approve.output["record_id"], approve_by_policy.output["record_id"])
    to_production = promote(
        "production",
        register,
        parents=[staging.output["record_id"], *agreed],
        trigger_rule="none_failed_min_one_success",
    )
    production = live("production", to_production)
    champion = SetModelAliasOperator(
        task_id="champion",
        model=model.name,
        version=register.output["version"],
        alias="champion",
        deliverable=model,
        parents=[production.output["record_id"]],
    )

    validate >> features >> train
    evaluate >> better(evaluate.output) >> register >> to_staging >> staging >> verify
    verify >> who_approves(evaluate.output) >> [approve, approve_by_policy] >> to_production
    to_production >> production >> champion
