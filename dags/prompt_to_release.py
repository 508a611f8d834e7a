"""A commit to a prompt becomes a release: rendered, evaluated, gated, promoted through Git, shown where it is read.

::

    git push ─▶ commit ─▶ read ─▶ render each item ─▶ evaluate beside production's ─▶ gate ─▶ promote to staging
                                  (no item is quoted)   (none yet: no gate)                   (Git commit)   │
    label in the registry ◀─ production is live ◀─ promote to production ◀─ approve ◀─ staging is live ◀─────┘
    (read back, recorded)                          (Git commit)       (policy or person)

A prompt is the same in each environment, as an image is: its canonical form and its digest stand in a ConfigMap of each
overlay, and the digest in the pod's template, so that the rollout which the controller reports is the proof that pods work
with it. The registry follows Git, and never the other way around. See docs/prompts.md.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.git.operators import GitOpsCommitOperator, ResolveCommitOperator
from airflow_pipeops.git.triggers import GitPushTrigger
from airflow_pipeops.llm.evaluation.operators import EvaluateOperator
from airflow_pipeops.llm.evaluation.scorers.texts import Contains
from airflow_pipeops.llm.gate.operators import EvaluationGateOperator
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.prompts.desired import PromptInGit
from airflow_pipeops.llm.prompts.operators import (
    ReadPromptOperator,
    ReleasePromptOperator,
    RenderPromptOperator,
)
from airflow_pipeops.llm.prompts.registry import MLflowPrompts

PROMPTS, DESIRED_STATE, ITEMS, MODEL = (
    "pipeops_prompt_repo", "pipeops_gitops_repo", "pipeops_prompt_items", "pydanticai_default",
)  # fmt: skip

notice = Deliverable("flight-notice", environments=("staging", "production"))
pushed = notice.signal("push", GitPushTrigger(git_conn_id=PROMPTS, poll_interval=10))
needed = {
    PROMPTS: "git_repository",
    DESIRED_STATE: "git_repository",
    ITEMS: "pipeops_storage",
    MODEL: "pydanticai",
    "mlflow_default": "mlflow",
    "argocd_default": "argocd",
}
setup = notice.signal("setup-prompt-to-release", MissingConnectionTrigger(needed))


def desired(environment: str) -> PromptInGit:
    """Say where an environment's overlay names the prompt."""
    data = f"ConfigMap/{notice.name}:data"
    env = f"Deployment/{notice.name}:spec.template.spec.containers[name=server].env"
    return PromptInGit(
        f"apps/{notice.name}/overlays/{environment}/prompt.yaml",
        {f"{data}['prompt.json']": "content", f"{env}[name=PROMPT_SHA256].value": "sha256"},
    )


def promote(environment: str, read: ReadPromptOperator, **kwargs) -> GitOpsCommitOperator:
    """Commit the prompt and its digest to an environment's overlay."""
    wanted = desired(environment)
    return GitOpsCommitOperator(
        task_id=f"promote_to_{environment}",
        git_conn_id=DESIRED_STATE,
        file=wanted.file,
        set=wanted.values(read.output["content"], read.output["sha256"]),
        message=f"Deploy the prompt {{{{ ti.xcom_pull('read')['sha256'][:12] }}}} to {environment}",
        deliverable=notice,
        environment=environment,
        **kwargs,
    )


def live(environment: str, change: GitOpsCommitOperator) -> ArgoCDAppSensor:
    """Wait until the change is live in an environment, and record the release."""
    return ArgoCDAppSensor(
        task_id=f"{environment}_is_live",
        app=f"{notice.name}-{environment}",
        revision=change.output["commit"],
        change=change.output,
        git_conn_id=DESIRED_STATE,
        timeout=timedelta(minutes=10),
        deliverable=notice,
        environment=environment,
        parents=[change.output["record_id"]],
    )


with DAG(
    "prompt_to_release",
    description="A prompt becomes a release: rendered, evaluated, promoted through Git, shown where it is read.",
    schedule=(pushed | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "revision": Param(
            None,
            type=["null", "string"],
            title="Commit or branch",
            description="Commit to release, for example one from before a bad one. Empty: the newest.",
        ),
        "approval": Param(
            "person",
            type="string",
            enum=["person", "policy"],
            values_display={"person": "a person", "policy": "the gate alone"},
            title="Who approves production",
            description="The first version of a prompt has no gate to pass.",
        ),
    },
    tags=["pipeops", "prompt"],
    doc_md=__doc__,
) as dag:
    commit = ResolveCommitOperator(
        task_id="commit", git_conn_id=PROMPTS, revision="{{ params.revision or '' }}", deliverable=notice
    )
    read = ReadPromptOperator(
        task_id="read",
        git_conn_id=PROMPTS,
        file=f"prompts/{notice.name}/prompt.yaml",
        commit=commit.output["commit"],
        deliverable=notice,
        parents=[commit.output["record_id"]],
    )
    render = RenderPromptOperator(
        task_id="render",
        prompt=read.output,
        dataset=f"{notice.name}.jsonl",
        storage_conn_id=ITEMS,
        deliverable=notice,
        parents=[read.output["record_id"]],
    )

    @task
    def subjects(prompt: dict) -> list[dict]:
        """Return the arms: what production has, if it has any, and what was committed."""
        from airflow_pipeops.git.hook import GitHook

        released = desired("production").wanted(GitHook(DESIRED_STATE).get_conn())
        candidate = {"arm": "candidate", "prompt": prompt}
        return [*([{"arm": "baseline", "prompt": released.to_json()}] if released else []), candidate]

    arms = subjects(read.output)
    evaluate = EvaluateOperator(
        task_id="evaluate",
        dataset=f"{notice.name}.jsonl",
        dataset_sha256=render.output["dataset_sha256"],
        subjects=arms,
        scorers=[Contains(compare="folded")],
        llm_conn_id=MODEL,
        data_conn_id=ITEMS,
        deliverable=notice,
        parents=[read.output["record_id"], render.output["record_id"]],
    )

    @task.branch
    def compared(evaluation: dict) -> str:
        """Hold the prompt against production's; the first one that there is has nothing to be held against."""
        return "gate" if "baseline" in evaluation["arms"] else "first_of_all"

    gate = EvaluationGateOperator(
        task_id="gate",
        evaluation=evaluate.output,
        policy=GatePolicy("contains", margin=0.05, enough="not worse"),
        deliverable=notice,
        environment="production",
        parents=[evaluate.output["record_id"]],
    )
    first_of_all = EmptyOperator(task_id="first_of_all")
    to_staging = promote(
        "staging",
        read,
        parents=[read.output["record_id"], evaluate.output["record_id"], gate.output["record_id"]],
        trigger_rule="none_failed_min_one_success",
    )
    staging = live("staging", to_staging)

    @task.branch
    def who_approves(**context) -> str:
        """Ask a person, unless the form says that the gate is enough."""
        return "approve_by_policy" if context["params"]["approval"] == "policy" else "approve"

    question = "Release the prompt {{ ti.xcom_pull('read')['sha256'][:12] }} to production?"
    approve = RecordedApprovalOperator(
        task_id="approve",
        subject=question,
        body="{{ ti.xcom_pull('evaluate')['reason'] }}",
        fail_on_reject=True,
        deliverable=notice,
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
            "policy": "the gate is enough, as the form says",
        },
        deliverable=notice,
        environment="production",
        parents=[staging.output["record_id"]],
    )
    agreed = (approve.output["record_id"], approve_by_policy.output["record_id"])
    to_production = promote(
        "production",
        read,
        parents=[staging.output["record_id"], gate.output["record_id"], *agreed],
        trigger_rule="none_failed_min_one_success",
    )
    production = live("production", to_production)
    show = ReleasePromptOperator(
        task_id="show",
        projection=MLflowPrompts(),
        desired=desired("production"),
        git_conn_id=DESIRED_STATE,
        prompt=read.output,
        commit=to_production.output["commit"],
        live=production.output,
        deliverable=notice,
        environment="production",
        parents=[production.output["record_id"]],
    )

    commit >> read >> render >> arms >> evaluate
    evaluate >> compared(evaluate.output) >> [gate, first_of_all] >> to_staging >> staging
    staging >> who_approves() >> [approve, approve_by_policy] >> to_production >> production >> show
