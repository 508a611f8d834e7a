"""After each release: watch its environment; if it degrades, revert by Git, verify, and record the incident.

::

    released ─▶ watch ─┬─▶ steady: nothing to do
                       └─▶ degraded ─▶ revert (Git commit) ─▶ previous state is live ─▶ incident record

A rollback is a Git commit, so that cluster and repository agree. A release that is itself a revert is not reverted
again: two bad states in a row are for a person. By itself it watches production; by hand, what its form says.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor, ArgoCDSteadySensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.git.operators import GitOpsRevertOperator

DESIRED_STATE = "pipeops_gitops_repo"
PRODUCTION = "production"
ENVIRONMENTS = ("staging", PRODUCTION)

service = Deliverable("delay-api", environments=ENVIRONMENTS)
model = Deliverable("flight-delay", environments=ENVIRONMENTS)

needed = {DESIRED_STATE: "git_repository", "argocd_default": "argocd"}
setup = service.signal("setup-release-guard", MissingConnectionTrigger(needed))


@task.short_circuit(multiple_outputs=True)
def released(name: str, environment: str, **context) -> dict | None:
    """Return the newest release of one deliverable in one environment that started this run, unless there is nothing to
    revert: it was itself a revert, or its task had nothing to change, and its commit is somebody else's.

    A run by hand looks at the release that its form names, or the newest of all.
    """
    from airflow_pipeops.delivery.events import records_on, started_by

    started = started_by(context)
    if started.by_nothing or context["params"]["environment"] != environment:
        return None
    found = [item for item in started.records if item.kind == "release"]
    found = found or records_on(context, *context["task"].inlets)
    wanted, revision = context["params"]["deliverable"], context["params"]["revision"] or ""
    mine = [item for item in found if item.deliverable == name and wanted in ("all", name)]
    mine = [item for item in mine if str(item.body.get("revision")).startswith(revision)]
    if not mine or mine[-1].source["dag"] == context["dag"].dag_id or mine[-1].body.get("changed") is False:
        return None
    return {"record_id": mine[-1].id, **mine[-1].body}


@task.short_circuit
def degraded(watch: dict, **context) -> bool:
    """Go on only if it degraded, and nobody asked for a report alone."""
    return watch["verdict"] == "degraded" and context["params"]["on_degraded"] == "revert"


def guard(deliverable: Deliverable, environment: str) -> None:
    """Watch one deliverable in one environment."""
    app = f"{deliverable.name}-{environment}"
    release = released.override(inlets=[deliverable.released(environment)])(deliverable.name, environment)
    watch = ArgoCDSteadySensor(
        task_id="watch",
        app=app,
        revision=release["revision"],
        duration=timedelta(seconds=60),
        grace=timedelta(seconds=5),
    )
    revert = GitOpsRevertOperator(
        task_id="revert",
        git_conn_id=DESIRED_STATE,
        commit=release["revision"],
        reason=watch.output["reason"],
        deliverable=deliverable,
        environment=environment,
        parents=[release["record_id"]],
    )
    recovered = ArgoCDAppSensor(
        task_id="recovered",
        app=app,
        revision=revert.output["commit"],
        change=revert.output,
        git_conn_id=DESIRED_STATE,
        timeout=timedelta(minutes=10),
        deliverable=deliverable,
        environment=environment,
        parents=[revert.output["record_id"]],
    )
    incident = RecordOperator(
        task_id="incident",
        kind="incident",
        body={
            "app": app,
            "what": watch.output["reason"],
            "bad_revision": release["revision"],
            "restored_by": revert.output["commit"],
        },
        deliverable=deliverable,
        environment=environment,
        parents=[release["record_id"], revert.output["record_id"]],
    )
    watch >> degraded(watch.output) >> revert >> recovered >> incident


with DAG(
    "release_guard",
    description="Watches production after each release, and reverts by Git when it degrades.",
    schedule=(service.released(PRODUCTION) | model.released(PRODUCTION) | setup),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "deliverable": Param(
            "all",
            type="string",
            enum=["all", service.name, model.name],
            title="Deliverable",
            description="Whose release to watch.",
        ),
        "environment": Param(
            PRODUCTION,
            type="string",
            enum=list(ENVIRONMENTS),
            title="Environment",
            description="Where to watch it, and to revert it if it degrades.",
        ),
        "revision": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="Commit of the desired state that the release brought, or its first digits. Empty: the newest.",
        ),
        "on_degraded": Param(
            "revert",
            type="string",
            enum=["revert", "report"],
            values_display={"revert": "revert by a commit", "report": "report only"},
            title="If it degrades",
            description="What to do.",
        ),
    },
    tags=["pipeops", "guard"],
    doc_md=__doc__,
) as dag:
    for deliverable in (service, model):
        for environment in ENVIRONMENTS:
            where = "" if environment == PRODUCTION else f"_{environment}"
            with TaskGroup(deliverable.name.replace("-", "_") + where):
                guard(deliverable, environment)
