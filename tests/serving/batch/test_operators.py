"""The operators: what is promoted by Git and the registry, and a partition scored, recorded and found again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from kubernetes.client import models as k8s

from airflow_pipeops.build import elsewhere
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import Conflict, InvalidInput
from airflow_pipeops.models import storage
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.serving.batch import pod
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.manifest import Manifest, Pinned
from airflow_pipeops.serving.batch.operators import BatchScoreOperator, PromotedModelOperator
from airflow_pipeops.serving.batch.scoring import Order, score
from tests.argo_workflows.conftest import Store
from tests.argo_workflows.conftest import connect as connect_argo
from tests.argo_workflows.running import TICK, Play
from tests.argo_workflows.running import run as run_task
from tests.argo_workflows.server import serving_argo
from tests.build.cluster.test_backends import connect, fired
from tests.git.conftest import Remote, remote
from tests.kubernetes import workloads
from tests.kubernetes.apiserver import serving
from tests.kubernetes.workloads import playing
from tests.ledgers import event
from tests.openapi import problems
from tests.warm import programs

__all__ = ["remote"]

MODEL = Deliverable("flight-delay")
FILE = "apps/flight-delay/model.yaml"
IMAGE = "registry.example.com/score@sha256:" + "1" * 64


def scoring(champion: Pinned, february: Path, **more: Any) -> BatchScoreOperator:
    given = {"partition": "2013-02", "data": str(february), "model": champion.to_json(), "key": "flight"}
    return BatchScoreOperator(task_id="score", **{"deliverable": MODEL, **given, **more})


@pytest.fixture(autouse=True)
def evidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Evidence lies beside the scores."""
    place = (tmp_path / "evidence").as_uri()
    monkeypatch.setattr("airflow_pipeops.base.configuration.evidence_uri", lambda: place)


def test_a_partition_is_scored_and_recorded_with_its_parents(
    connections: Any, context: Any, champion: Pinned, challenger: Pinned, february: Path
) -> None:
    parents = ["a" * 64, "b" * 64]
    facts = scoring(champion, february, shadows=[challenger.to_json()], parents=parents).execute(context)
    assert (facts["outcome"], facts["rows"], facts["shown"]) == ("scored", 3000, True)
    record = context["outlet_events"][MODEL.scores].extra
    assert (record["id"], record["kind"], record["parents"]) == (facts["record_id"], "scores", parents)
    assert record["body"]["manifest"] == facts["manifest"]
    (kept,) = record["evidence"]
    manifest = Manifest.from_bytes(storage.get(kept["uri"], kept["sha256"]), kept["uri"])
    assert manifest.model.sha256 == champion.sha256
    assert {one.outcome for one in (*manifest.before, *manifest.after)} == {"passed"}
    again = scoring(champion, february).execute(context)
    assert (again["outcome"], again["output_digest"]) == ("found", facts["output_digest"])


def test_what_no_retry_mends_is_not_retried(
    connections: Any, context: Any, champion: Pinned, february: Path
) -> None:
    with pytest.raises(AirflowFailException, match=r"DataRejected: .*it has 3,000 rows, and 1 to 10 are"):
        scoring(champion, february, contract={"rows": [1, 10]}).execute(context)
    assert MODEL.scores not in list(context["outlet_events"])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"key": ()}, "key"),
        ({"rescore": "maybe"}, "rescore"),
        ({"rescore": "since"}, "since"),
        ({"run_in": "space"}, "run_in"),
        ({"contract": {"shape": 1}}, "contract"),
    ],
)
def test_what_contradicts_itself_is_refused_while_the_dag_is_read(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        BatchScoreOperator(task_id="t", **{"partition": "p", "data": "d", "model": {}, "key": "k", **given})
    assert caught.value.field == field


@pytest.mark.parametrize("model", ["champion", {"name": "m", "alias": "champion"}])
def test_no_name_and_no_alias_is_scored_by(
    model: Any, connections: Any, context: Any, champion: Pinned, february: Path
) -> None:
    with pytest.raises(AirflowFailException, match="an alias may change meanwhile"):
        scoring(champion, february, model=model).execute(context)


# ---- what is promoted ----------------------------------------------------------------------------------------------------


@pytest.fixture
def desired(remote: Remote, connections: Any) -> Callable[[str], str]:
    """Let the desired state name a digest."""
    connections("gitops", "git_repository", str(remote.path))

    def want(digest: str) -> str:
        remote.put(FILE, f"model:\n  sha256: {digest}\n")
        return remote.commit(f"Deploy {digest[:7]}")

    return want


def promoted(**more: Any) -> PromotedModelOperator:
    given = {"model": "flight-delay", "file": FILE, "digest_at": "model.sha256", "git_conn_id": "gitops"}
    return PromotedModelOperator(task_id="pin", **{**given, **more})


def test_what_git_and_the_registry_say_is_pinned(
    desired: Callable[[str], str], context: Any, champion: Pinned, challenger: Pinned
) -> None:
    registry = MLflowHook().get_registry()
    one, two = (
        registry.register("flight-delay", each.artifact_uri, each.sha256) for each in (champion, challenger)
    )
    with pytest.raises(AirflowFailException, match=r"NotFound"):
        promoted().execute(context)
    first = desired(champion.sha256)
    with pytest.raises(AirflowFailException, match="has no 'champion' in the registry"):
        promoted().execute(context)
    registry.set_alias("flight-delay", "champion", one.version)
    found = promoted().execute(context)
    assert (found["version"], found["sha256"], found["commit"]) == ("1", champion.sha256, first)
    assert Pinned.of(found).artifact_uri == champion.artifact_uri

    second = desired(challenger.sha256)
    with pytest.raises(Conflict, match=f"Git wants {challenger.sha256[:12]} .* 'champion' is version 1"):
        promoted().execute(context)
    assert promoted(revision=first).execute(context)["version"] == "1"
    registry.set_alias("flight-delay", "champion", two.version)
    assert promoted().execute(context)["commit"] == second


def test_the_record_of_the_version_is_a_parent(
    desired: Callable[[str], str], context: Any, champion: Pinned
) -> None:
    from airflow_pipeops.delivery.records import Record

    desired(champion.sha256)
    registry = MLflowHook().get_registry()
    registry.register("flight-delay", champion.artifact_uri, champion.sha256)
    registry.set_alias("flight-delay", "champion", "1")
    record = Record("model", MODEL.name, {"name": MODEL.name, "version": "1", "sha256": champion.sha256})
    context["inlet_events"] = {MODEL.model: [event(record.to_extra(), 1, MODEL.model)]}
    assert promoted(deliverable=MODEL, inlets=[MODEL.model]).execute(context)["record_id"] == record.id


# ---- in a cluster --------------------------------------------------------------------------------------------------------


def command_of(made: dict[str, Any]) -> list[str]:
    """What the container runs, as the kubelet reads it."""
    return [sys.executable, *(word.replace("$$", "$") for word in made["command"][1:])]


def really(command: list[str], answer: Path) -> tuple[int, str]:
    """Run a container's command on this machine; its exit code, and its answer."""
    env = {**os.environ, elsewhere.ANSWER: str(answer), "OMP_NUM_THREADS": "1"}
    done = programs().run(*(word.replace("$$", "$") for word in command[1:]), **env)
    return done.returncode, answer.read_text(encoding="utf-8") if answer.exists() else done.stderr[-3000:]


def test_the_command_of_a_job_gives_the_same_scores(
    connections: Any, champion: Pinned, february: Path, tmp_path: Path
) -> None:
    task = scoring(champion, february)
    work = elsewhere.KubernetesWork(task.work(), image=IMAGE, secrets=["pipeops-connections"])
    made = work.composed(task.arguments())
    assert problems({"apiVersion": "v1", "kind": "Pod", **made}, k8s.V1Pod) == []
    (main,) = made["spec"]["containers"]
    assert main["envFrom"] == [{"secretRef": {"name": "pipeops-connections"}}]
    code, answer = really(main["command"], tmp_path / "answer.json")
    assert code == 0, answer
    there, here = json.loads(answer), score(task._order(), tmp_path / "here", print)
    assert (there["outcome"], here["outcome"]) == ("scored", "scored")
    for part in ("key", "input_digest", "output_digest"):
        assert there[part] == here[part]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_workflow_gives_the_same_scores(
    connections: Any,
    context: Any,
    champion: Pinned,
    february: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
) -> None:
    context["task_state_store"] = Store()
    here = score(scoring(champion, february)._order(), tmp_path / "here", print)
    options = {"image": IMAGE, "deferrable": deferrable, "poll_interval": TICK}
    task = scoring(champion, february, run_in="argo", run_options=options, timeout=timedelta(seconds=120))
    with serving_argo() as argo:
        connect_argo(monkeypatch, argo.url)

        def scored(name: str) -> None:
            spec = argo.one(name)["spec"]
            (given,) = spec["arguments"]["parameters"]
            named = "{{inputs.parameters.arguments}}"
            command = [
                word.replace(named, given["value"]) for word in spec["templates"][1]["container"]["command"]
            ]
            code, answer = really(command, tmp_path / "answer.json")
            assert code == 0, answer
            argo.begin(name)
            argo.finish(name, outputs={elsewhere.OUTPUT: answer})

        with Play(argo, scored):
            there = run_task(task, context)
    assert (there["outcome"], there["rows"], there["shown"]) == ("scored", 3000, True)
    for part in ("key", "input_digest", "output_digest"):
        assert there[part] == here[part]
    assert context["outlet_events"][MODEL.scores].extra["id"] == there["record_id"]


def test_a_container_says_what_no_retry_mends(
    connections: Any, ordered: Callable[..., Order], tmp_path: Path
) -> None:
    order, result = ordered(contract=ScoreContract(rows=(1, 2))), tmp_path / "last-word"
    assert pod.main(json.dumps(order.to_json()), result) == 64
    assert json.loads(result.read_text())["error"] == "DataRejected"
    assert pod.main("[]", result) == 64
    assert json.loads(result.read_text())["error"] == "InvalidInput"


@pytest.mark.parametrize(
    ("told", "code", "error"),
    [
        ({"error": "DataRejected", "message": "bad rows", "retryable": False}, 64, "DataRejected"),
        ({"error": "Conflict", "message": "changed", "retryable": True}, 1, "Job .*: changed"),
        ({}, 137, "ended with status 137"),
        ({"manifest": "file:///m"}, 137, "ended with status 137"),
        ({}, 0, "does not say what became of its work"),
    ],
)
def test_last_words_are_what_the_task_says_and_only_a_refusal_is_left_for_a_retry_to_find(
    told: dict[str, Any],
    code: int,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    connections: Any,
    context: Any,
    champion: Pinned,
    february: Path,
) -> None:
    with serving() as server:
        connect(monkeypatch, server)
        options = {"image": IMAGE, "deferrable": False}
        task = scoring(champion, february, run_in="kubernetes", run_options=options)
        steps = [workloads.runs(), workloads.ends(code, message=json.dumps(told) if told else "")]
        with playing(server, lambda pod: steps), pytest.raises(Exception, match=error) as caught:
            task.execute(context)
        refused = told.get("retryable") is False
        assert isinstance(caught.value, Conflict) is bool(told.get("retryable"))
        assert len(server.all("jobs")) == refused


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_job_scores_and_the_task_records(
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
    connections: Any,
    context: Any,
    run: Any,
    champion: Pinned,
    february: Path,
) -> None:
    facts = run()  # what the Job's container does; here its last words are played
    with serving() as server:
        connect(monkeypatch, server)
        last = json.dumps({key: value for key, value in facts.items() if key not in ("notes", "shadows")})
        options = {"image": IMAGE, "deferrable": deferrable}
        operator = scoring(champion, february, run_in="kubernetes", run_options=options)
        steps = [workloads.runs(), workloads.says("scored"), workloads.ends(message=last)]
        with playing(server, lambda pod: steps):
            step, given = operator.execute, {}
            while True:
                try:
                    found = step(context, **given)
                    break
                except TaskDeferred as deferred:
                    given = {"event": fired(deferred), **json.loads(json.dumps(deferred.kwargs))}
                    step = getattr(operator, deferred.method_name)
    assert (found["output_digest"], found["notes"]) == (facts["output_digest"], [])
    assert context["outlet_events"][MODEL.scores].extra["body"]["key"] == facts["key"]


def test_the_image_may_come_from_the_task_that_built_it(champion: Pinned, february: Path) -> None:
    task = scoring(champion, february, run_in="kubernetes", run_options={"image": "{{ built }}"})
    task.render_template_fields({"built": IMAGE})  # type: ignore[typeddict-unknown-key]
    assert task.run_options == {"image": IMAGE}


@pytest.mark.parametrize("where", ["kubernetes", "argo"])
def test_an_order_without_an_image_is_refused(
    where: Any, connections: Any, context: Any, champion: Pinned, february: Path
) -> None:
    with pytest.raises(AirflowFailException, match="none was named"):
        scoring(champion, february, run_in=where).execute(context)
