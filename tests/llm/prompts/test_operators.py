"""A prompt on its way through Git to a registry and back, by the operators, on real repositories and servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from mlflow import MlflowClient

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.git.operators import GitOpsCommitOperator, GitOpsRevertOperator
from airflow_pipeops.llm.evaluation.subjects import Subject
from airflow_pipeops.llm.prompts.agreement import PromptDisagreementTrigger
from airflow_pipeops.llm.prompts.desired import PromptInGit
from airflow_pipeops.llm.prompts.langfuse import LangfusePrompts
from airflow_pipeops.llm.prompts.operators import (
    ReadPromptOperator,
    ReleasePromptOperator,
    RenderPromptOperator,
)
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.llm.prompts.registry import MLflowPrompts
from tests.git.conftest import Remote
from tests.llm.prompts.conftest import DESIRED, FILE, TEXT, prompt

NOTICE = Deliverable("notice")
HERE = {"deliverable": NOTICE, "environment": "production"}
ONE, TWO = prompt(), prompt("{{flight}} is late. " + "Long story. " * 60)


def emitted(context: dict[str, Any], kind: str, environment: str | None = None) -> Record:
    return Record.from_extra(context["outlet_events"][NOTICE.asset(kind, environment)].extra)


def commit(context: dict[str, Any], wanted: Prompt, task: str) -> dict[str, Any]:
    """Let production want a prompt, as a task does."""
    context["ti"].task_id = task
    done: dict[str, Any] = GitOpsCommitOperator(
        task_id=task, file=FILE, set=DESIRED.values(wanted.canonical, wanted.sha256), message="Deploy", **HERE
    ).execute(context)
    return done


def release(context: dict[str, Any], **given: Any) -> dict[str, Any]:
    task = ReleasePromptOperator(
        **{"task_id": "release", "projection": MLflowPrompts(), "desired": DESIRED, **HERE, **given}
    )
    done: dict[str, Any] = task.execute(context)
    return done


def test_a_prompt_is_read_at_its_commit_and_recorded(desired: Remote, context):
    desired.put("prompts/notice/prompt.yaml", json.dumps(ONE.to_json(), indent=1))
    first = desired.commit("Write a prompt")
    desired.put("prompts/notice/prompt.yaml", "name: notice\n")
    desired.commit("Break it")
    given = {"task_id": "read", "file": "prompts/notice/prompt.yaml", "git_conn_id": "pipeops_gitops_repo"}
    read = ReadPromptOperator(commit=first, deliverable=NOTICE, **given).execute(context)
    assert (read["name"], read["sha256"], read["commit"]) == ("notice", ONE.sha256, first)
    assert Prompt.of(read) == ONE
    record = emitted(context, "prompt")
    assert (record.body["sha256"], record.body["variables"], record.commit) == (ONE.sha256, ["flight"], first)
    subject = Subject.of({"arm": "candidate", "prompt": read})
    assert (subject.prompt, subject.model, subject.parameters) == (ONE, "small-1", ONE.parameters)
    with pytest.raises(AirflowFailException, match="the prompt has no template"):
        ReadPromptOperator(**given).execute(context)


ITEMS = [
    {"id": "a", "flight": "AB 1", "expected": "Sorry for the delay of your flight today, dear passenger."},
    {
        "id": "b",
        "flight": "CD 2",
        "note": "is no variable",
        "expected": "Your flight leaves at noon, not now.",
    },
]


@pytest.mark.parametrize(
    ("change", "text", "quotes", "says"),
    [
        ({}, "{{flight}} is late", "refuse", ""),
        (
            {"flight": 7},
            "{{flight}} is late",
            "refuse",
            "1 of 2 items do not fit the prompt: item 'b'.*type string",
        ),
        (
            {"flight": None},
            "{{flight}} is late",
            "refuse",
            "item 'b': the prompt 'notice' has no value for flight",
        ),
        ({}, "{{flight}}. Your flight leaves at noon - not now!", "refuse", "quotes items 'b'"),
        ({}, "{{flight}}. Your flight leaves at noon - not now!", "tell", ""),
    ],
)
def test_each_item_is_rendered_before_anybody_pays(tmp_path, context, change, text, quotes, says):
    (tmp_path / "items.jsonl").write_text(
        "\n".join(json.dumps(one) for one in [ITEMS[0], {**ITEMS[1], **change}])
    )
    task = RenderPromptOperator(
        task_id="render", prompt=prompt(text).canonical, dataset=str(tmp_path / "items.jsonl"), quotes=quotes,
        deliverable=NOTICE,
    )  # fmt: skip
    if says:
        with pytest.raises(AirflowFailException, match=says):
            task.execute(context)
        return
    done = task.execute(context)
    assert (done["passed"], done["items"]) == (True, 2)
    assert done["leakage"]["verdict"] == ("leaks" if quotes == "tell" else "clean")
    record = emitted(context, "validation")
    assert record.body["rendered_sha256"] == done["rendered_sha256"]
    assert "AB 1" not in json.dumps(record.body), "nothing that was rendered is kept"


def test_what_is_too_short_to_tell_is_refused(tmp_path, context):
    (tmp_path / "items.jsonl").write_text('{"id": 1, "flight": "AB 1", "expected": "no"}\n')
    task = RenderPromptOperator(task_id="render", prompt=ONE.canonical, dataset=str(tmp_path / "items.jsonl"))
    with pytest.raises(AirflowFailException, match="cannot be told"):
        task.execute(context)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("where", ["mlflow", "langfuse"])
def test_git_decides_and_the_registry_follows_there_and_back(request, desired: Remote, context, where):
    request.getfixturevalue(where)
    here = {"projection": LangfusePrompts() if where == "langfuse" else MLflowPrompts()}
    place = here["projection"].opened()
    with pytest.raises(AirflowFailException, match="Git wants no prompt for production"):
        release(context, prompt=ONE, **here)
    first = commit(context, ONE, "one")
    seen = {"app": "notice-production", "revision": first["commit"], "health": "Healthy", "sync": "Synced"}
    shown = release(context, prompt=ONE, commit=first["commit"], live=seen, **here)
    told = emitted(context, "release", "production").body
    assert (told["health"], told["sync"], told["proven_by"]) == ("Healthy", "Synced", "notice-production")
    for unseen in (None, {**seen, "revision": "another"}, {**seen, "health": None, "sync": ""}):
        shown = release(context, prompt=ONE, commit=first["commit"], live=unseen, **here)
        assert "health" not in emitted(context, "release", "production").body, "nobody has seen it live"
    assert (shown["version"], shown["sha256"], shown["revision"]) == ("1", ONE.sha256, first["commit"])
    assert "follow within 60 s" in shown["reason"]
    assert emitted(context, "release", "production").body["app"] == shown["app"]
    second = commit(context, TWO, "two")
    told = emitted(context, "change", "production").body
    assert told["set"][TEXT].startswith("sha256:"), "a record names the digest of a long text"
    assert desired.show(FILE).count(TWO.sha256) == 2
    assert release(context, commit=second["commit"], **here)["version"] == "2", "the one that Git wants"
    with pytest.raises(AirflowFailException, match=f"Git wants {TWO.sha256[:12]} for production"):
        release(context, prompt=ONE, **here)  # cleared, long after
    assert place.named("notice", "production").sha256 == TWO.sha256
    context["ti"].task_id = "back"
    back = GitOpsRevertOperator(task_id="back", commit=second["commit"], reason="worse", **HERE).execute(
        context
    )
    assert release(context, commit=back["commit"], **here)["version"] == "1"
    assert place.named("notice", "production").sha256 == ONE.sha256


def test_a_digest_that_is_another_prompts_is_refused(desired: Remote, context, mlflow, tmp_path):
    commit(context, ONE, "one")
    git = GitHook("pipeops_gitops_repo").get_conn()
    assert DESIRED.wanted(git) == ONE
    git.commit_edit(FILE, {TEXT: TWO.canonical}, "Edit by hand", key="hand")
    with pytest.raises(AirflowFailException, match=f"data.sha256 of {FILE} is '{ONE.sha256[:12]}"):
        release(context)
    with pytest.raises(InvalidInput, match="not exactly one field"):
        PromptInGit(FILE, {"data.sha256": "sha256"})
    with pytest.raises(InvalidInput, match="part of a prompt 'model' is unknown"):
        PromptInGit(FILE, {"data.model": "model"})
    with pytest.raises(InvalidInput, match="nobody says which prompt"):
        ReleasePromptOperator(task_id="r", projection=MLflowPrompts())


@pytest.mark.timeout(300)
def test_an_edit_in_the_registry_is_told_once(desired: Remote, context, mlflow):
    commit(context, ONE, "one")
    watcher = PromptDisagreementTrigger(
        prompt="notice", desired=DESIRED, projection=MLflowPrompts(), grace=0.001, poll_interval=0.001
    )
    kind, arguments = watcher.serialize()
    assert kind.endswith("PromptDisagreementTrigger")
    watcher = PromptDisagreementTrigger(**json.loads(json.dumps(arguments)))

    def told(looks: int = 3) -> list[dict[str, Any]]:
        async def run() -> list[dict[str, Any]]:
            return [payload for _ in range(looks) async for payload in watcher.look(None)]

        return asyncio.run(run())

    (absent,) = told()
    assert (absent["prompt"], absent["liar"]) == ("notice", "git"), "nobody has released it"
    release(context)
    assert told() == []
    client = MlflowClient(mlflow, mlflow)._get_registry_client()
    client.set_model_version_tag("notice", "1", "mlflow.prompt.text", "Be rude.")
    (edited,) = told()
    assert (edited["liar"], edited["alias_sha256"]) == ("git", "edited v1")
    assert "mlflow.prompt.text of version 1 was changed" in edited["reason"]
    release(context)
    assert told() == []
    client.set_registered_model_alias("notice", "production", "1")
    (moved,) = told()
    assert (moved["liar"], moved["git"]) == ("alias", ONE.sha256)
    assert moved["key"] != edited["key"]
    git = GitHook("pipeops_gitops_repo").get_conn()
    git.commit_edit(FILE, {TEXT: TWO.canonical}, "Edit by hand", key="hand")
    assert told(1) == [], "what Git wants cannot be told, and nobody lies"
