"""What goes wrong is explained, answered within a policy, proven by the judge that found it, and undone if it did not help.

::

    a run hangs, anomalies were found ─▶ found ─▶ explain ─▶ remediate ─┬─▶ done ─▶ verify ─┬─▶ helped
    by hand: a form ─▶ look at the runs ───┘     (suspects)  (policy)   ├─▶ only told       └─▶ undone, a person is called
                                                                        └─▶ proposed ─▶ approve ─▶ remediate ─▶ verify

The policy lies beside this file; until the form, or PIPEOPS_REMEDIATION_MODE, says ``act``, it is a dry run: a record says
what would be done. Production's releases go back only after a person's yes. No explanation decides anything: a person reads
it. Whoever is called is called once; name them as ``notifiers``. See docs/remediation.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.operations.anomalies.operators import RunAnomalyOperator
from airflow_pipeops.operations.anomalies.watchers import RunAnomalyTrigger
from airflow_pipeops.operations.changes.operators import ExplainOperator
from airflow_pipeops.operations.remediation.operators import RemediateOperator, VerifyRemediationOperator

AIRFLOW, HISTORY, DESIRED_STATE = "airflow_api", "pipeops_remediation", "pipeops_gitops_repo"
POLICY = os.environ.get("PIPEOPS_REMEDIATION_POLICY") or str(Path(__file__).with_suffix(".yaml"))
MODE = os.environ.get("PIPEOPS_REMEDIATION_MODE") or "observe"
PRODUCTION = "production"
ENVIRONMENTS = ("staging", PRODUCTION)
#: Whose runs are about what.
RUNS = {"delay-api": ["code_to_release"], "flight-delay": ["data_to_model", "drift_to_retrain"]}

deliverables = [Deliverable(name, environments=ENVIRONMENTS) for name in RUNS]
service, model = deliverables
hangs = [one.signal("hangs", RunAnomalyTrigger(dag_ids=RUNS[one.name])) for one in deliverables]
# Not that of Argo CD: whoever deploys otherwise has none. What was released by it asks for it.
needed = {AIRFLOW: "http", HISTORY: "pipeops_storage", DESIRED_STATE: "git_repository"}
setup = service.signal("setup-anomaly-to-remedy", MissingConnectionTrigger(needed))


def judge(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the judge that finds such a fault once more: Argo CD about a release, else Airflow about the runs."""
    from airflow_pipeops.operations.remediation.judges import seen_in_airflow, seen_in_argocd

    if finding["kind"] == "degraded_release":
        return seen_in_argocd(f"{finding['deliverable']}-{finding['environment']}")
    return seen_in_airflow(finding, airflow_conn_id=AIRFLOW)


@task.short_circuit
def meant(name: str, environment: str, **context) -> bool:
    """Go on where the form says so; by itself, in production, with what is about the deliverable."""
    from airflow_pipeops.delivery.events import started_by

    started, params = started_by(context), context["params"]
    if not context["triggering_asset_events"]:
        return (params["deliverable"], params["environment"]) == (name, environment)
    told = [record.deliverable for record in started.records]
    told += [name for signal in started.signals if signal.get("subject") in RUNS[name]]
    return environment == PRODUCTION and name in told


@task.branch
def looked_for(**context) -> str:
    """Look at the runs where somebody wants to know whether anything is wrong."""
    by_hand = not context["triggering_asset_events"]
    group = context["ti"].task_id.rpartition(".")[0]
    return f"{group}.{'look' if by_hand and context['params']['finding'] == 'anomaly' else 'found'}"


@task.short_circuit(trigger_rule="none_failed_min_one_success")
def found(name: str, environment: str, looked: dict | None, **context) -> dict | None:
    """Return what is wrong: what woke this run, what the look has found, or what the form says."""
    from airflow_pipeops.delivery.events import records_on, started_by
    from airflow_pipeops.operations.remediation.findings import Finding
    from airflow_pipeops.operations.remediation.recorded import alarmed, degraded, found_in, hanging

    started, params = started_by(context), context["params"]
    at, what = context["dag_run"].run_after.isoformat(), params["what"] or ""
    if context["triggering_asset_events"]:
        mine = [one for one in started.records if one.deliverable == name]
        mine = [one for one in mine if one.source["dag"] != context["dag"].dag_id]
        findings = [finding for one in mine for finding in found_in(one, environment)]
        findings += hanging(started.signals, RUNS[name], name, environment, at)
    elif params["finding"] == "anomaly":
        findings = list(alarmed(looked, name, environment, looked["record_id"] or ""))
    elif params["finding"] == "degraded_release":
        known = records_on(context, *context["task"].inlets)
        known = [one for one in known if str(one.body.get("revision") or "").startswith(what)]
        if not known:
            raise AirflowFailException(f"{name} has no release {what} in {environment} to be taken back")
        reason = "a person says that it went bad"
        findings = [degraded(name, environment, at, known[-1].body["revision"], reason, known[-1].id)]
    else:
        dag_id, _, run = what.partition("/")
        if dag_id not in RUNS[name] or not run:
            raise AirflowFailException(f"{what!r} is not DAG/RUN of one of {', '.join(RUNS[name])}")
        target = {"dag": dag_id, "run": run}
        findings = [Finding("failed_run", name, environment, at, f"{run} has failed", target)]
    print(f"{len(findings)} findings, of which the first is answered: {[one.reason for one in findings]}")
    return findings[0].to_json() if findings else None


@task.branch
def asked(answer: dict, **context) -> str:
    """Ask a person where the policy says so; else see what became of it."""
    group = context["ti"].task_id.rpartition(".")[0]
    return f"{group}.{'approve' if answer['outcome'] == 'propose' else 'answer'}"


@task(trigger_rule="none_failed_min_one_success")
def answer(first: dict, approved: dict | None) -> dict:
    """Return what became of it at last."""
    return approved or first


def respond(deliverable: Deliverable, environment: str) -> None:
    """Answer what is wrong with one deliverable in one environment."""
    name, here = deliverable.name, {"deliverable": deliverable, "environment": environment}
    hands = {"policy": POLICY, "storage_conn_id": HISTORY, "airflow_conn_id": AIRFLOW, **here}
    hands |= {"git_conn_id": DESIRED_STATE}
    look = RunAnomalyOperator(
        task_id="look", dag_ids=RUNS[name], owner=name, airflow_conn_id=AIRFLOW, deliverable=deliverable
    )
    finding = found.override(inlets=[deliverable.released(environment)])(name, environment, look.output)
    explain = ExplainOperator(
        task_id="explain",
        ref=f"{name}@{environment}@{{{{ ti.xcom_pull('{finding.operator.task_id}')['at'] }}}}",
        deliverable=deliverable,
        trigger_rule="all_success",
    )
    remediate = RemediateOperator(
        task_id="remediate",
        finding=finding,
        mode="{{ params.mode }}",
        parents=[explain.output["record_id"]],
        trigger_rule="all_done",  # what nobody can explain is answered all the same
        **hands,
    )
    decided = asked(remediate.output)
    approve = RecordedApprovalOperator(
        task_id="approve",
        subject=f"{{{{ ti.xcom_pull('{remediate.task_id}')['action'] }}}}: {name} in {environment}?",
        body=f"{{{{ ti.xcom_pull('{remediate.task_id}')['finding']['reason'] }}}}. "
        f"{{{{ (ti.xcom_pull('{explain.task_id}') or {{}}).get('reason', 'Nobody can explain it.') }}}}",
        parents=[remediate.output["record_id"]],
        **here,
    )
    agreed = RemediateOperator(
        task_id="remediate_as_agreed",
        finding=finding,
        approval=approve.output,
        mode="{{ params.mode }}",
        parents=[approve.output["record_id"]],
        **hands,
    )
    result = answer(remediate.output, agreed.output)
    VerifyRemediationOperator(
        task_id="verify",
        remediation=result,
        judge=judge,
        interval=timedelta(seconds=30),
        **hands,
    )
    meant(name, environment) >> looked_for() >> [look, finding]
    look >> finding >> explain >> remediate
    finding >> decided  # what could not be found out is seen
    decided >> [approve, result]
    approve >> agreed


with DAG(
    "anomaly_to_remedy",
    description="Explains what went wrong, answers it within a policy, and proves that it helped.",
    schedule=(hangs[0] | hangs[1] | service.asset("anomaly") | model.asset("anomaly") | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "finding": Param(
            "anomaly",
            type="string",
            enum=["anomaly", "degraded_release", "failed_run"],
            values_display={
                "anomaly": "nobody knows: look for anomalies",
                "degraded_release": "a release went bad",
                "failed_run": "a run failed",
            },
            title="What is wrong",
            description="What is to be answered.",
        ),
        "what": Param(
            None,
            type=["null", "string"],
            title="Which one",
            description="Of a release its commit, or the first digits of it (empty: the newest); of a run DAG/RUN.",
        ),
        "deliverable": Param(
            service.name,
            type="string",
            enum=list(RUNS),
            title="Deliverable",
            description="What it is about.",
        ),
        "environment": Param(
            PRODUCTION,
            type="string",
            enum=list(ENVIRONMENTS),
            title="Environment",
            description="Where it is answered.",
        ),
        "mode": Param(
            MODE,
            type="string",
            enum=["observe", "propose", "act"],
            values_display={
                "observe": "say what would be done",
                "propose": "ask a person first",
                "act": "do what the policy allows",
            },
            title="What may be done",
            description="It narrows the policy, and never widens it.",
        ),
    },
    tags=["pipeops", "operations"],
    doc_md=__doc__,
) as dag:
    for deliverable in deliverables:
        for environment in ENVIRONMENTS:
            where = "" if environment == PRODUCTION else f"_{environment}"
            with TaskGroup(deliverable.name.replace("-", "_") + where):
                respond(deliverable, environment)
