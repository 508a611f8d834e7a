"""A model that a Job or a workflow trains is what it is on the worker; a retry finds it, and errors keep their type."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.build import elsewhere
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators import TrainModelOperator
from tests.argo_workflows.conftest import Store
from tests.argo_workflows.conftest import connect as connect_argo
from tests.argo_workflows.running import TICK, Play, run
from tests.argo_workflows.server import serving_argo
from tests.build.cluster.running import container, environment, words
from tests.build.cluster.test_backends import connect, fired
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import playing
from tests.warm import programs

IMAGE = "registry.example.com/train@sha256:" + "1" * 64
DOMAIN = "airflow_pipeops.demo.flights"
#: Of the process or of the moment, and not of the model.
OWN = ("seconds", "training_uri", "training_sha256", "record_id", "run_in", "image", "image_ran")


@pytest.fixture
def data(tmp_path: Path) -> str:
    frame = flights.features(flights.month(1, 1200))
    frame.to_parquet(tmp_path / "features.parquet")
    return (tmp_path / "features.parquet").as_uri()


@pytest.fixture
def train(connections: Any, context: Any, data: str) -> Callable[..., TrainModelOperator]:
    context["task_state_store"] = Store()

    def made(**more: Any) -> TrainModelOperator:
        given = {
            "task_id": "train",
            "trainer": f"{DOMAIN}:train",
            "scorer": f"{DOMAIN}:score",
            "data": data,
            "name": "flight-delay",
            "time_column": "day",
            "target": "late",
            "deliverable": Deliverable("flight-delay"),
        }
        return TrainModelOperator(**{**given, **more})

    return made


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with serving() as server:
        connect(monkeypatch, server)
        yield server


def really(command: list[str], env: Mapping[str, str], answer: Path) -> tuple[int, str]:
    """Run a container's command on this machine; its exit code, and its last word."""
    done = programs().run(*command[1:], **{**os.environ, **env, "PIPEOPS_ANSWER": str(answer)})
    return done.returncode, answer.read_text(encoding="utf-8") if answer.exists() else done.stderr


def job_options(**more: Any) -> dict[str, Any]:
    given = {"image": IMAGE, "secrets": ["pipeops-connections"], "poll_interval": timedelta(seconds=0.05)}
    return {**given, **more}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_trains_once_and_gives_what_the_worker_gives(
    api: ApiServer, train: Callable[..., Any], context: Any, tmp_path: Path, deferrable: bool
) -> None:
    here = train().execute(context)
    task = train(run_in="kubernetes", run_options=job_options(deferrable=deferrable))
    pod = elsewhere.KubernetesWork(task.work(), image=IMAGE).composed(task.arguments())
    main = container({"spec": {"initContainers": [], **pod["spec"]}}, "main")
    code, word = really(words(main), environment(main), tmp_path / "answer.json")
    assert code == 0, word
    assert len(word) < 4096, "a container's last word is cut there"

    left_alone = threading.Event()  # it has not ended when the task first looks
    script = (pods.runs(), *([pods.waits(left_alone)] if deferrable else []), pods.ends(message=word))
    with playing(api, lambda pod: script) as cluster:
        if deferrable:
            with pytest.raises(TaskDeferred) as left:
                task.execute(context)
            left_alone.set()
            waiting = SimpleNamespace(trigger=left.value.trigger)
            again = train(run_in="kubernetes", run_options=job_options(deferrable=True))
            there = again.resume(context, fired(waiting), **left.value.kwargs)  # type: ignore[arg-type]
        else:
            there = task.execute(context)
        assert train(run_in="kubernetes", run_options=job_options(deferrable=False)).execute(context) == {
            **there, "record_id": context["outlet_events"][Deliverable("flight-delay").asset("training")].extra["id"],
        }  # fmt: skip
        assert len(api.all("jobs")) == 1
    assert cluster
    assert {key: there[key] for key in there if key not in OWN} == {
        key: here[key] for key in here if key not in OWN
    }
    assert there["image"] == "sha256:" + "1" * 64
    assert there["run_in"] == "kubernetes"
    extra = context["outlet_events"][Deliverable("flight-delay").asset("training")].extra
    assert (extra["kind"], extra["body"]["run_in"]) == ("training", "kubernetes")
    # What the kubelet says that it ran, whatever was asked for.
    assert there["image_ran"] == extra["body"]["image_ran"] == IMAGE


def test_an_error_in_the_pod_keeps_its_type_and_is_not_tried_in_vain(
    api: ApiServer, train: Callable[..., Any], context: Any, tmp_path: Path
) -> None:
    task = train(
        run_in="kubernetes", run_options=job_options(deferrable=False), target="late", trainer="nowhere:train"
    )
    pod = elsewhere.KubernetesWork(task.work(), image=IMAGE).composed(task.arguments())
    main = container({"spec": {"initContainers": [], **pod["spec"]}}, "main")
    code, word = really(words(main), environment(main), tmp_path / "answer.json")
    assert code == 1
    with (
        playing(api, lambda pod: (pods.runs(), pods.ends(1, message=word))),
        pytest.raises(
            AirflowFailException, match=r"InvalidInput: Job .*trainer 'nowhere:train' cannot be imported"
        ),
    ):
        task.execute(context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_workflow_gives_what_the_worker_gives(
    train: Callable[..., Any], context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    here = train().execute(context)
    options = {"image": IMAGE, "deferrable": deferrable, "poll_interval": TICK}
    task = train(run_in="argo", run_options=options, timeout=timedelta(seconds=120))
    with serving_argo() as argo:
        connect_argo(monkeypatch, argo.url)

        def trained(name: str) -> None:
            spec = argo.one(name)["spec"]
            main = spec["templates"][1]["container"]
            (arguments,) = spec["arguments"]["parameters"]
            command = [
                word.replace("{{inputs.parameters.arguments}}", arguments["value"])
                for word in main["command"]
            ]
            env = {one["name"]: one["value"] for one in main["env"]}
            code, word = really(command, env, tmp_path / "answer.json")
            assert code == 0, word
            argo.begin(name)
            argo.finish(name, outputs={elsewhere.OUTPUT: word})

        with Play(argo, trained):
            there = run(task, context)
    assert {key: there[key] for key in there if key not in OWN} == {
        key: here[key] for key in here if key not in OWN
    }
    assert (there["run_in"], there["image"]) == ("argo", "sha256:" + "1" * 64)


@pytest.mark.parametrize("on_failure", ["fail", "retry_failed_nodes"])
@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"error": "DataRejected", "message": "bad rows", "retryable": False}, "DataRejected: .*: bad rows"),
        ({"error": "Conflict", "message": "changed", "retryable": True}, "Argo .*: changed"),
        ({}, "ended with status 1"),
    ],
)
def test_a_workflow_that_failed_says_what_its_container_said_and_a_refusal_is_not_tried_again(
    train: Callable[..., Any],
    context: Any,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, Any],
    error: str,
    on_failure: str,
) -> None:
    options = {"image": IMAGE, "deferrable": False, "poll_interval": TICK, "on_failure": on_failure}
    task = train(run_in="argo", run_options=options, timeout=timedelta(seconds=120))
    with serving_argo() as argo:
        connect_argo(monkeypatch, argo.url)

        def refused(name: str) -> None:
            argo.begin(name)
            outputs = {"answer": json.dumps(told)} if told else {}
            message = "it ended with status 1"
            argo.node(name, "train", "Failed", message=message, exit_code=1, outputs=outputs)
            argo.finish(name, "Failed", message=message)

        with Play(argo, refused), pytest.raises(Exception, match=error) as caught:
            run(task, context)
    again = told.get("retryable", True) and on_failure == "retry_failed_nodes"
    assert isinstance(caught.value, AirflowFailException) is not again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run_in": "moon"}, "run_in is 'moon'"),
        ({"timeout": timedelta(0)}, "timeout is"),
    ],
)
def test_bad_places_are_refused_when_the_dag_is_read(
    train: Callable[..., Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        train(**options)


@pytest.mark.parametrize("where", ["kubernetes", "argo"])
def test_options_that_are_none_are_refused(train: Callable[..., Any], context: Any, where: str) -> None:
    with pytest.raises(AirflowFailException, match="run_options are not those of"):
        train(run_in=where, run_options={"image": IMAGE, "imagee": 1}).execute(context)
    with pytest.raises(AirflowFailException, match="none was named"):
        train(run_in=where).execute(context)
    for odd, said in (
        ({"secrets": "one"}, "secrets is 'one'"),
        ({"env": {"A": 1}}, r"env\['A'\] is no text"),
    ):
        with pytest.raises(AirflowFailException, match=said):
            train(run_in=where, run_options={"image": IMAGE, **odd}).execute(context)
    with pytest.raises(AirflowFailException, match="the arguments are longer than 120 KiB"):
        train(run_in=where, run_options={"image": IMAGE}, data=["x" * 1000] * 130).execute(context)


def test_what_a_container_says_last_is_read_or_refused(train: Callable[..., Any]) -> None:
    from airflow_pipeops.exceptions import BadResponse, Unreachable

    work = train().work()
    said = {"training_uri": "u", "seconds": 1}
    assert elsewhere.answered(work, said, "it") == said
    with pytest.raises(BadResponse, match="it does not say"):
        elsewhere.answered(work, {}, "it")
    with pytest.raises(Unreachable, match="it: away") as caught:
        elsewhere.answered(work, {"error": "Unreachable", "message": "away", "retryable": True}, "it")
    assert caught.value.retryable
    for odd in ("KINDS", "MissingExtra", "redacted"):
        with pytest.raises(Exception, match="it: odd"):
            elsewhere.answered(work, {"error": odd, "message": "odd"}, "it")
    made = elsewhere.workflow(work, {"a": "{{b}}"}, elsewhere.Surroundings(IMAGE), timedelta(hours=1))
    assert json.loads(json.dumps(made)) == made
