"""MLflow's registry and Langfuse show what was released, once for each prompt, and say what was edited there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry.prompt_version import PromptVersion

from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.llm.prompts.langfuse import LangfusePrompts
from airflow_pipeops.llm.prompts.projections import Place, form_of, projection_of
from airflow_pipeops.llm.prompts.registry import MLflowPrompts
from tests.llm.prompts.conftest import prompt
from tests.llm.prompts.langfuse_server import Langfuse

ROOT = Path(__file__).parents[3]
ONE, TWO = prompt(), prompt("{{flight}} is late, sorry.")
TEXT = prompt(template="Flight {{flight}}?", output_schema={"type": "object"}, tools=[{"name": "find"}])
COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    """A retry need not wait here."""
    monkeypatch.setattr("airflow_pipeops.base.retries.pause", lambda *_: 0.01)


@pytest.fixture(params=["sqlite", "mlflow", "langfuse"])
def place(request, connections) -> Place:
    """Each place: MLflow's own store by its client, the same behind HTTP, and Langfuse."""
    if request.param == "sqlite":
        connections("mlflow_default", "mlflow", request.getfixturevalue("database"))
    else:
        request.getfixturevalue(request.param)
    projection = LangfusePrompts() if request.param == "langfuse" else MLflowPrompts()
    return projection_of(form_of(projection)).opened()


@pytest.mark.timeout(300)
def test_a_prompt_is_released_once_and_read_back(place: Place):
    assert place.named("notice", "production") is None
    assert not place.has("notice", ONE.sha256)
    first = place.release(ONE, "staging", COMMIT)
    assert (first.version, first.sha256, first.commit, first.why) == ("1", ONE.sha256, COMMIT, "")
    assert place.release(ONE, "staging", COMMIT) == first, "a retry"
    assert place.release(ONE, "production", "d" * 40) == first, "promoted: the same version"
    second = place.release(TWO, "staging", COMMIT)
    assert (second.version, second.sha256) == ("2", TWO.sha256)
    assert place.named("notice", "production") == first
    assert place.has("notice", TWO.sha256)
    third = place.release(TEXT, "production", COMMIT)
    assert (third.version, third.sha256) == ("3", TEXT.sha256)
    assert place.release(ONE, "production", COMMIT) == first, "a revert finds what was there"
    with pytest.raises(InvalidInput, match="not a label"):
        place.release(ONE, "latest", COMMIT)


@pytest.mark.timeout(300)
def test_two_that_release_at_once_leave_one_label_on_one_digest(place: Place):
    errors: list[PipeOpsError] = []

    def release() -> None:
        try:
            place.release(ONE, "production", COMMIT)
        except Conflict as error:  # a retry of the task mends it
            errors.append(error)

    threads = [threading.Thread(target=release) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(errors) < 4
    shown = place.release(ONE, "production", COMMIT)
    assert shown.sha256 == ONE.sha256
    assert place.named("notice", "production") == shown


class TestMLflow:
    @pytest.fixture
    def edit(self, mlflow) -> Callable[..., None]:
        """What a person does in the registry, by MLflow's own store."""
        client = MlflowClient(mlflow, mlflow)._get_registry_client()

        def tag(version: str, key: str, value: str) -> None:
            client.set_model_version_tag("notice", version, key, value)

        return tag

    def test_mlflows_own_reader_gets_the_prompt(self, mlflow):
        MLflowPrompts().opened().release(ONE, "production", COMMIT)
        found = MlflowClient(mlflow, mlflow).get_prompt_version_by_alias("notice", "production")
        assert isinstance(found, PromptVersion)
        assert found.template == [dict(vars(one)) for one in ONE.messages]
        assert found.model_config == {"model_name": "small-1", "temperature": 0, "max_tokens": 100}
        filled = found.format(flight="X 1")
        assert filled == ONE.render({"flight": "X 1"}).to_json()
        assert found.tags["pipeops.sha256"] == ONE.sha256

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("mlflow.prompt.text", "Be rude.", "mlflow.prompt.text of version 1 was changed"),
            (
                "_mlflow_prompt_model_config",
                '{"model_name": "big"}',
                "_mlflow_prompt_model_config of version 1",
            ),
            ("_mlflow_prompt_response_format", "{}", "_mlflow_prompt_response_format of version 1"),
            ("pipeops.prompt", "{}", "the tag pipeops.prompt of version 1 was changed"),
            ("pipeops.prompt", TWO.canonical, "mlflow.prompt.text of version 1 was changed"),
        ],
    )
    def test_what_was_edited_is_seen_and_released_anew(self, edit, key, value, says):
        place = MLflowPrompts().opened()
        place.release(ONE, "production", COMMIT)
        edit("1", key, value)
        shown = place.named("notice", "production")
        assert (shown.version, shown.sha256) == ("1", "")
        assert says in shown.why
        again = place.release(ONE, "production", COMMIT)
        assert (again.version, again.sha256) == ("2", ONE.sha256)

    def test_a_twin_that_a_dead_process_left_is_taken_back(self, mlflow):
        place = MLflowPrompts().opened()
        place.release(ONE, "staging", COMMIT)
        client = MlflowClient(mlflow, mlflow)._get_registry_client()
        tags = client.get_model_version("notice", "1").tags
        client.create_model_version("notice", "prompt-template", tags=tags)
        assert place.release(ONE, "production", COMMIT).version == "1"
        assert len(place._versions(ONE)) == 1

    def test_a_model_of_that_name_is_left_alone(self, mlflow):
        MlflowClient(mlflow, mlflow).create_registered_model("notice")
        with pytest.raises(InvalidInput, match="is a model in the registry"):
            MLflowPrompts().opened().release(ONE, "production", COMMIT)


class TestLangfuse:
    def opened(self) -> Place:
        return LangfusePrompts().opened()

    def test_a_reader_gets_the_prompt(self, langfuse: Langfuse):
        self.opened().release(TEXT, "production", COMMIT)
        (made,) = langfuse.versions["notice"]
        assert (made["type"], made["prompt"], made["config"]["model"]) == (
            "text",
            "Flight {{flight}}?",
            "small-1",
        )
        assert made["config"]["tools"] == [{"name": "find"}]
        assert made["labels"] == ["latest", "production"]
        assert langfuse.calls[-2:] == ["PATCH /notice/versions/1", "GET /notice"]

    @pytest.mark.parametrize(
        "faults",
        [
            [503],
            [429, 429],
            ["lose"],
            [None, None, "lose"],  # the version was made, and nobody heard
            [None, None, None, "lose"],  # the label was set, and nobody heard
            [None, None, None, None, 502],
        ],
    )
    def test_whatever_goes_wrong_on_the_way_one_version_is_made(self, langfuse: Langfuse, faults):
        langfuse.faults[:] = faults
        shown = self.opened().release(ONE, "production", COMMIT)
        assert (shown.version, shown.sha256) == ("1", ONE.sha256)
        assert len(langfuse.versions["notice"]) == 1
        assert langfuse.faults == []

    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("call", range(5))
    def test_a_process_that_is_killed_at_any_call_leaves_nothing_to_be_done_twice(
        self, langfuse: Langfuse, call
    ):
        """The server has acted, and the process that asked it is dead before it hears of that."""
        code = (
            "import sys; from airflow_pipeops.llm.prompts.langfuse import LangfusePlace;"
            "from airflow_pipeops.llm.prompts.prompt import Prompt;"
            "place = LangfusePlace(sys.argv[1], 'pk-lf-1', 'sk-lf-0123456789abcdefghij');"
            "place.release(Prompt.read(sys.argv[2]), 'production', sys.argv[3])"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, langfuse.url, ONE.canonical, COMMIT]
        begun = threading.Event()

        def kill() -> None:
            begun.wait(60)
            process.kill()
            process.wait(60)

        langfuse.faults[:] = [*[None] * call, kill]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        begun.set()
        assert process.wait(120) == -signal.SIGKILL
        shown = self.opened().release(ONE, "production", COMMIT)
        assert (shown.version, shown.sha256) == ("1", ONE.sha256)
        assert len(langfuse.versions["notice"]) == 1

    def test_one_that_does_not_come_back_is_given_up(self, langfuse: Langfuse):
        langfuse.faults[:] = [500] * 50
        with pytest.raises(Unreachable, match="HTTP 500"):
            self.opened().release(ONE, "production", COMMIT)
        assert len(langfuse.calls) == 4

    @pytest.mark.parametrize(
        "edit",
        [
            {"prompt": [{"role": "user", "content": "Be rude to {{flight}}"}]},
            {"config": {}},
            {"type": "text", "prompt": "Flight {{flight}} is late."},
        ],
    )
    def test_what_was_edited_is_seen_and_released_anew(self, langfuse: Langfuse, edit):
        place = self.opened()
        place.release(ONE, "production", COMMIT)
        by_hand = {"labels": [], **json.loads(json.dumps(langfuse.versions["notice"][0])), **edit}
        langfuse.create({**by_hand, "labels": ["production"]})
        shown = place.named("notice", "production")
        assert (shown.version, shown.sha256) == ("2", "")
        assert "version 2" in shown.why
        again = place.release(ONE, "production", COMMIT)
        assert (again.version, again.sha256) == ("1", ONE.sha256), "the label goes back to what Git wants"

    def test_who_moves_the_label_at_the_same_time_is_a_conflict(self, langfuse: Langfuse):
        place = self.opened()
        place.release(ONE, "production", COMMIT)
        langfuse.rival = 1
        with pytest.raises(Conflict, match="shows version 1 of 'notice' as 'production', and not version 2"):
            place.release(TWO, "production", COMMIT)

    @pytest.mark.parametrize(
        ("fields", "error", "says"),
        [
            ({"password": "sk-lf-wrong-0000000000000"}, AccessDenied, "HTTP 401"),
            ({"password": ""}, InvalidInput, "no keys"),
            ({"host": "http://127.0.0.1:9"}, Unreachable, "does not answer"),
        ],
    )
    def test_a_wrong_connection_is_told_without_its_secret(self, langfuse, connections, fields, error, says):
        given: dict[str, Any] = {
            "host": langfuse.url,
            "login": "pk-lf-1",
            "password": "sk-lf-0123456789abcdefghij",
        }
        host = (given | fields).pop("host")
        connections(
            "langfuse_default", "http", host, **{k: v for k, v in (given | fields).items() if k != "host"}
        )
        with pytest.raises(error, match=says) as refused:
            self.opened().named("notice", "production")
        assert "sk-lf" not in str(refused.value)

    def test_another_server_is_told(self, langfuse: Langfuse, connections):
        connections(
            "langfuse_default",
            "http",
            langfuse.url + "/x",
            login="pk-lf-1",
            password="sk-lf-0123456789abcdefghij",
        )
        with pytest.raises(NotFound, match="HTTP 404"):
            self.opened().named("notice", "production")
        langfuse.faults[:] = [400]
        with pytest.raises(SystemFailure, match="HTTP 400"):
            LangfusePrompts().opened()._asked("GET", "", "x")


def test_a_projection_is_read_from_its_json():
    with pytest.raises(InvalidInput, match="kind of projection is 's3'"):
        projection_of({"kind": "s3"})
    with pytest.raises(InvalidInput, match="not complete, or has too much"):
        projection_of({"kind": "mlflow", "conn_id": "x"})
    assert projection_of({"kind": "mlflow", "mlflow_conn_id": "x"}) == MLflowPrompts("x")
