"""Release a model to a stream: from an offset on, in Git, until the consumers are proven to score by it.

::

    model is released, ─▶ version ─▶ announce ─▶ all have it ─▶ begin ────────▶ live by the committed offsets ─▶ record
    or the form                      (Git)       (the group)    (Git: offsets)  (the group, deferred)

By itself it takes the version that production serves, and lets it score what comes from now on. The form names another
version, or an offset from which records are scored again: a replay. A rollback is a run with the version before; what was
scored in between stays, with its release in the header. See docs/stream.md.
"""

from __future__ import annotations

import json
from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.serving.batch.operators import PromotedModelOperator
from airflow_pipeops.serving.stream.operators import StreamAnnounceOperator, StreamBeginOperator
from airflow_pipeops.serving.stream.sensors import StreamLiveSensor

PRODUCTION = "production"
ENVIRONMENTS = ("staging", PRODUCTION)
TOPIC = "flights"
ENV = "spec.template.spec.containers[name=server].env"

model = Deliverable("flight-delay", environments=ENVIRONMENTS)
# A deliverable of its own: its releases are not those of the endpoint, which start this DAG.
scores = Deliverable("flight-delay-stream", environments=ENVIRONMENTS)
needed = {"kafka_default": "kafka", "mlflow_default": "mlflow", "pipeops_gitops_repo": "git_repository"}
setup = scores.signal("setup-model-to-stream", MissingConnectionTrigger(needed))


def release(environment: str, version: dict, start: dict) -> TaskGroup:
    """Release a version to the stream of an environment, from an offset on."""
    about = {"deliverable": scores, "environment": environment}
    file = f"apps/{scores.name}/overlays/{environment}/releases.yaml"
    stream = {"group": f"{scores.name}-{environment}", "topic": TOPIC}
    with TaskGroup(environment) as group:
        announce = StreamAnnounceOperator(
            task_id="announce",
            file=file,
            model=model.name,
            version=version["version"],
            artifact_uri=version["artifact_uri"],
            sha256=version["sha256"],
            parents=[version["record_id"]],
            **about,
        )
        ready = StreamLiveSensor(
            task_id="ready",
            stage="ready",
            file=file,
            release=announce.output["release"],
            timeout=timedelta(minutes=20),
            deferrable=True,
            **stream,
        )
        begin = StreamBeginOperator(
            task_id="begin",
            file=file,
            release=announce.output["release"],
            start=start["start"],
            rescore="{{ params.scored_before == 'again' }}",
            parents=[announce.output["record_id"]],
            **stream,
            **about,
        )
        live = StreamLiveSensor(
            task_id="live",
            file=file,
            release=announce.output["release"],
            output_topic=f"{scores.name}-{environment}",
            timeout=timedelta(hours=1),
            deferrable=True,
            parents=[begin.output["record_id"]],
            **stream,
            **about,
        )
        announce >> ready >> begin >> live
    return group


with DAG(
    "model_to_stream",
    description="Releases a model to a stream from an offset on, and waits until the consumers are proven to score by it.",
    schedule=(model.released(PRODUCTION) | setup),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    params={
        "version": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="Version in the registry, for example 3; to take a release back, the one before. Empty: what "
            "production serves.",
        ),
        "environment": Param(
            PRODUCTION,
            type="string",
            enum=[PRODUCTION, "staging"],
            title="Environment",
            description="Whose stream it scores.",
        ),
        "start": Param(
            None,
            type=["null", "string"],
            title="From offset",
            description='First offset of each partition, as JSON, for example {"0": 1200, "1": 1180}. Empty: from now on.',
        ),
        "scored_before": Param(
            "refuse",
            type="string",
            enum=["refuse", "again"],
            values_display={"refuse": "refuse such an offset", "again": "score them again (replay)"},
            title="Records that are scored already",
            description="What to do where the offset lies before what the group has scored.",
        ),
    },
    tags=["pipeops", "model", "stream"],
    doc_md=__doc__,
) as dag:

    @task.short_circuit(multiple_outputs=True)
    def asked(**context) -> dict | None:
        """Return from which offsets on it shall score."""
        from airflow_pipeops.delivery.events import started_by

        if started_by(context).by_nothing:
            return None
        text = context["params"]["start"] or "now"
        try:
            start = text if text.strip() == "now" else json.loads(text)
        except ValueError:
            start = None
        if start != "now" and not (isinstance(start, dict) and start):
            raise AirflowFailException(
                f"the offset {text!r} is no JSON as {{partition: offset}}; nothing was changed"
            )
        return {"start": start}

    @task.branch
    def which(**context) -> str:
        """Take the version of the form, or what is promoted."""
        return "named" if context["params"]["version"] else "promoted"

    @task
    def named(**context) -> dict:
        """Find the version of the form."""
        from airflow_pipeops.models.hook import MLflowHook

        registry = MLflowHook("mlflow_default").get_registry()
        found = registry.version(model.name, context["params"]["version"])
        if found.blocked:
            raise AirflowFailException(
                f"version {found.version} was taken back: {found.blocked}; nothing was changed"
            )
        return {
            "version": found.version,
            "artifact_uri": found.artifact_uri,
            "sha256": found.sha256,
            "record_id": None,
        }

    @task(multiple_outputs=True, trigger_rule="none_failed_min_one_success")
    def version(*found: dict | None) -> dict:
        """Return the one that was found."""
        (one,) = filter(None, found)
        return {part: one[part] for part in ("version", "artifact_uri", "sha256", "record_id")}

    @task.branch
    def where(**context) -> str:
        """Release it to the stream of the form."""
        return f"{context['params']['environment']}.announce"

    promoted = PromotedModelOperator(
        task_id="promoted",
        model=model.name,
        file=f"apps/{model.name}/overlays/{PRODUCTION}/model.yaml",
        digest_at=f"{ENV}[name=MODEL_SHA256].value",
        version_at=f"{ENV}[name=MODEL_VERSION].value",
        deliverable=model,
        inlets=[model.model],
    )
    by_form = named()
    chosen = version(promoted.output, by_form)
    start = asked()
    start >> which() >> [promoted, by_form]
    chosen >> where() >> [release(environment, chosen, start) for environment in ENVIRONMENTS]
