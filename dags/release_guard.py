"""After each release: watch its environment; if it degrades, take it back the way it came, and record the incident.

::

    released ─▶ watch ─┬─▶ steady: nothing to do
                       └─▶ degraded ─┬─▶ of Git: revert (a commit) ─▶ previous state is live ─┬─▶ incident record
                                     ├─▶ applied: undo, and wait ─────────────────────────────┤
                                     └─▶ of Helm: roll back, and wait ────────────────────────┘

What Git brought, by Argo CD or Flux, goes back by a Git commit, so that cluster and repository agree; what was pushed is
pushed back. The record of the release says which. What came after it is never thrown away, and a release that is itself a
way back is not taken back again: two bad states in a row are for a person, and so is what was changed in place. By itself it
watches production; by hand, what its form says.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, task

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor, ArgoCDSteadySensor
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.deploy.apply.operators import UndoManifestsOperator
from airflow_pipeops.deploy.helm.rollback import HelmRollbackOperator
from airflow_pipeops.deploy.steady import PushedSteadySensor
from airflow_pipeops.flux.sensors import FluxReadySensor
from airflow_pipeops.flux.steady import FluxSteadySensor
from airflow_pipeops.git.operators import GitOpsRevertOperator

DESIRED_STATE = "pipeops_gitops_repo"
CLUSTER = "kubernetes_default"
PRODUCTION = "production"
ENVIRONMENTS = ("staging", PRODUCTION)
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Rollout")  # whose releases are RolloutSensor's

service = Deliverable("delay-api", environments=ENVIRONMENTS)
model = Deliverable("flight-delay", environments=ENVIRONMENTS)

# Not that of Argo CD: whoever releases by Flux, or pushes, has none. What has released by it asks for it.
needed = {DESIRED_STATE: "git_repository"}
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
    body = mine[-1].body
    if body.get("kind") in WORKLOADS:
        print(f"{body.get('app')} was changed in place: to take it back is for a person")
        return None
    by_flux = body.get("kind") in ("Kustomization", "HelmRelease")
    pushed = body.get("pushed") or {"by": "flux" if by_flux else "git"}
    named = {"kind": "", "namespace": "", **body}
    return {"record_id": mine[-1].id, **named, **{f"pushed_{part}": value for part, value in pushed.items()}}


@task.branch
def looked_at(by: str, **context) -> str:
    """Watch it where it was delivered."""
    return beside(context, {"git": "watch", "flux": "watch_flux"}.get(by, "watch_pushed"))


@task.short_circuit(multiple_outputs=True, trigger_rule="none_failed_min_one_success")
def degraded(*watches: dict | None, **context) -> dict | None:
    """Go on only if it degraded, and nobody asked for a report alone."""
    (watch,) = filter(None, watches)
    return watch if watch["verdict"] == "degraded" and context["params"]["on_degraded"] == "revert" else None


@task.branch
def taken_back(by: str, **context) -> str:
    """Take it back the way it came."""
    return beside(context, {"git": "revert", "flux": "revert", "manifests": "undo", "helm": "roll_back"}[by])


@task.branch
def looked_at_again(by: str, **context) -> str:
    """Wait for the commit of the revert where the release came from."""
    return beside(context, "recovered_flux" if by == "flux" else "recovered")


@task(multiple_outputs=True, trigger_rule="none_failed_min_one_success")
def restored(*ways: dict | None) -> dict:
    """Say what is there again, whichever way it came."""
    (back,) = filter(None, ways)
    said = back["commit"] or f"revision {back['restored']}" if "restored" in back else back["commit"]
    return {"by": said or "the release before", "record_id": back["record_id"]}


def beside(context: dict, name: str) -> str:
    """Return the id of another task of the same group."""
    return f"{context['ti'].task_id.rpartition('.')[0]}.{name}"


def guard(deliverable: Deliverable, environment: str) -> None:
    """Watch one deliverable in one environment."""
    app = f"{deliverable.name}-{environment}"
    release = released.override(inlets=[deliverable.released(environment)])(deliverable.name, environment)
    steady = {"duration": timedelta(seconds=60), "grace": timedelta(seconds=5)}
    watch = ArgoCDSteadySensor(task_id="watch", app=app, revision=release["revision"], **steady)
    pushed = {"kubernetes_conn_id": CLUSTER, "deliverable": deliverable, "environment": environment}
    watch_pushed = PushedSteadySensor(
        task_id="watch_pushed", pushed=release["pushed"], kubernetes_conn_id=CLUSTER, **steady
    )
    flux = {"kind": release["kind"], "name": release["app"], "namespace": release["namespace"]}
    flux |= {"flux_conn_id": CLUSTER, "git_conn_id": DESIRED_STATE}
    watch_flux = FluxSteadySensor(
        task_id="watch_flux", revision=release["revision"], duration=timedelta(seconds=60), **flux
    )
    looked_at(release["pushed_by"]) >> [watch, watch_flux, watch_pushed]
    bad = degraded(watch.output, watch_flux.output, watch_pushed.output)
    revert = GitOpsRevertOperator(
        task_id="revert",
        git_conn_id=DESIRED_STATE,
        commit=release["revision"],
        reason=bad["reason"],
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
    recovered_flux = FluxReadySensor(
        task_id="recovered_flux",
        revision=revert.output["commit"],
        change=revert.output,
        timeout=timedelta(minutes=10),
        deliverable=deliverable,
        environment=environment,
        parents=[revert.output["record_id"]],
        **flux,
    )
    undo = UndoManifestsOperator(
        task_id="undo",
        name=release["pushed_name"],
        namespace=release["pushed_namespace"],
        of=release["pushed_release"],
        parents=[release["record_id"]],
        timeout=timedelta(minutes=10),
        **pushed,
    )
    roll_back = HelmRollbackOperator(
        task_id="roll_back",
        release=release["pushed_name"],
        namespace=release["pushed_namespace"],
        revision=release["pushed_release"],
        parents=[release["record_id"]],
        timeout=timedelta(minutes=10),
        **pushed,
    )
    back = restored(revert.output, undo.output, roll_back.output)
    incident = RecordOperator(
        task_id="incident",
        kind="incident",
        body={
            "app": release["app"],
            "what": bad["reason"],
            "bad_revision": release["revision"],
            "restored_by": back["by"],
        },
        deliverable=deliverable,
        environment=environment,
        parents=[release["record_id"], back["record_id"]],
    )
    bad >> taken_back(release["pushed_by"]) >> [revert, undo, roll_back]
    revert >> looked_at_again(release["pushed_by"]) >> [recovered, recovered_flux] >> back >> incident


with DAG(
    "release_guard",
    description="Watches production after each release, and takes it back when it degrades.",
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
            values_display={"revert": "take it back", "report": "report only"},
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
