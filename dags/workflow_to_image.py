"""A commit is built and tested on Argo Workflows, and becomes a release.

::

    git push ─▶ commit ─▶ build ──────────▶ test ───────────▶ promote to staging ─▶ staging is live ─▶ smoke test
                          (a workflow:      (a workflow:      (Git commit)                                 │
                           BuildKit, then    in that image)                                                ▼
                           the registry)                                            a person approves ◀────┘
                                                                                           │
                                  release record ◀─ production is live ◀─ promote to production (Git commit)

The worker needs no container engine and no source: it composes what the workflow is told, and reads the digest back from
the registry. The templates of the workflows come with the chart. From the promotion on, this is ``code_to_release``:
switch one of the two on, since both follow the same repository.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.build.operators import BuildImageOperator, RunTestsOperator, SmokeTestOperator
from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.git.operators import GitOpsCommitOperator, ResolveCommitOperator
from airflow_pipeops.git.triggers import GitPushTrigger

CODE, DESIRED_STATE = "pipeops_app_repo", "pipeops_gitops_repo"
WORKFLOWS, REGISTRY = "argo_workflows_default", "container_registry_default"

service = Deliverable("delay-api", environments=("staging", "production"))
pushed = service.signal("push", GitPushTrigger(git_conn_id=CODE, poll_interval=2))
needed = {
    CODE: "git_repository",
    DESIRED_STATE: "git_repository",
    WORKFLOWS: "argo_workflows",
    REGISTRY: "container_registry",
    "argocd_default": "argocd",
    "delay_api_staging": "http",
}
setup = service.signal("setup-workflow-to-image", MissingConnectionTrigger(needed))


def promote(environment: str, image: BuildImageOperator, **kwargs) -> GitOpsCommitOperator:
    """Commit the image's digest to an environment's overlay."""
    return GitOpsCommitOperator(
        task_id=f"promote_to_{environment}",
        git_conn_id=DESIRED_STATE,
        file=f"apps/{service.name}/overlays/{environment}/kustomization.yaml",
        set={
            f"images[name={service.name}].digest": image.output["digest"],
            f"replicas[name={service.name}].count": 1,
        },
        message=f"Deploy {service.name} {{{{ ti.xcom_pull('commit')['commit'][:8] }}}} to {environment}",
        deliverable=service,
        environment=environment,
        **kwargs,
    )


def live(environment: str, change: GitOpsCommitOperator) -> ArgoCDAppSensor:
    """Wait until the change is live in an environment, and record the release."""
    return ArgoCDAppSensor(
        task_id=f"{environment}_is_live",
        app=f"{service.name}-{environment}",
        revision=change.output["commit"],
        change=change.output,
        git_conn_id=DESIRED_STATE,
        timeout=timedelta(minutes=10),
        deliverable=service,
        environment=environment,
        parents=[change.output["record_id"]],
    )


with DAG(
    "workflow_to_image",
    description="A commit is built and tested on Argo Workflows, promoted through Git, verified, approved and released.",
    schedule=(pushed | setup),
    catchup=False,
    max_active_runs=1,  # one release train at a time; commits that arrive meanwhile go with the next
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "revision": Param(
            None,
            type=["null", "string"],
            title="Commit",
            description="What to ship: a commit id, a branch or a tag of the code. Empty: the newest push, else the tip.",
        ),
        "environment": Param(
            "production",
            type="string",
            enum=["staging", "production"],
            values_display={"staging": "staging only", "production": "staging, then production"},
            title="Environment",
            description="How far to go. Production asks a person.",
        ),
    },
    tags=["pipeops", "code", "argo-workflows"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit
    def to_production_too(**context) -> bool:
        """Go on after staging, if the form says so."""
        return context["params"]["environment"] == "production"

    commit = ResolveCommitOperator(
        task_id="commit", git_conn_id=CODE, revision="{{ params.revision or '' }}", deliverable=service
    )
    build = BuildImageOperator(
        task_id="build",
        git_conn_id=CODE,
        commit=commit.output["commit"],
        image=service.name,
        registry_conn_id=REGISTRY,
        builder="auto",
        backend="argo_workflows",
        backend_options={"argo_workflows_conn_id": WORKFLOWS},
        deliverable=service,
        parents=[commit.output["record_id"]],
    )
    test = RunTestsOperator(
        task_id="test",
        git_conn_id=CODE,
        commit=commit.output["commit"],
        image=build.output["reference"],
        command=["python", "-m", "pytest", "-q", "--junitxml", "{junit}"],
        backend="argo_workflows",
        backend_options={"argo_workflows_conn_id": WORKFLOWS, "checkout": True},
        deliverable=service,
        parents=[build.output["record_id"]],
    )

    to_staging = promote("staging", build, parents=[build.output["record_id"], test.output["record_id"]])
    staging = live("staging", to_staging)
    smoke_test = SmokeTestOperator(
        task_id="smoke_test",
        http_conn_id="delay_api_staging",
        checks=[{"path": "/healthz", "status": 200}, {"path": "/version", "status": 200}],
    )
    approve = RecordedApprovalOperator(
        task_id="approve",
        subject=f"Release {service.name} {{{{ ti.xcom_pull('commit')['commit'][:8] }}}} to production?",
        body="**{{ ti.xcom_pull('commit')['subject'] }}** by {{ ti.xcom_pull('commit')['author'] }}\n\n"
        "{{ ti.xcom_pull('test')['passed'] }} tests passed in its image; healthy in staging and answering.",
        fail_on_reject=True,  # a rejection is not a green run
        deliverable=service,
        environment="production",
        parents=[staging.output["record_id"]],
    )
    to_production = promote(
        "production", build, parents=[staging.output["record_id"], approve.output["record_id"]]
    )
    production = live("production", to_production)

    build >> test >> to_staging >> staging >> smoke_test >> to_production_too() >> approve
    approve >> to_production >> production
