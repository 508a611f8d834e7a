"""The sensor, the drift and the guard on calls that were sampled as in production, to records and verdicts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops import (
    AnswerDriftOperator,
    Deliverable,
    GitOpsCommitOperator,
    GitOpsRevertOperator,
    PromptGuardOperator,
    PromptLiveSensor,
    PromptPolicy,
    SampleTracesOperator,
)
from airflow_pipeops.exceptions import InvalidInput, NotJudged
from airflow_pipeops.llm.production import look
from airflow_pipeops.llm.production.calls import Call
from airflow_pipeops.llm.production.liveness import Expected
from airflow_pipeops.llm.production.triggers import PromptLiveTrigger
from tests.git.conftest import Remote, git
from tests.llm.production.spans import NOON, at

NEW, OLD = "n" * 64, "o" * 64
DESK = Deliverable("desk", environments=("production",))


def iso(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def sample(store: Path, logged: Callable[[list[Call]], str], context: dict) -> Callable[..., dict]:
    """Sample calls of seconds after noon, as the DAG does."""

    def run(calls: list[Call], first: float, last: float, **more: object) -> dict:
        asked = {"app": "desk", "source": logged(calls), "start": iso(first), "end": iso(last), **more}
        return SampleTracesOperator(task_id="s", format="jsonl", **asked).execute(context)  # type: ignore[arg-type]

    return run


def calls(digest: str, first: int, last: int, step: int = 2) -> list[Call]:
    return [
        Call(f"{digest[0]}{n}", at(n), f"c{n}", prompt_digest=digest, input="Hi", answer="Ho")
        for n in range(first, last, step)
    ]


def sensor(**more: object) -> PromptLiveSensor:
    asked = {"app": "desk", "digest": NEW, "released": iso(0), "before": OLD, "revision": "a" * 40, "least": 10,
             "poll_interval": timedelta(seconds=0.1), "deliverable": DESK, "environment": "production", **more}  # fmt: skip
    return PromptLiveSensor(task_id="live", **asked)  # type: ignore[arg-type]


# --- live ---------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_live_when_the_samples_say_so(sample, context) -> None:
    sample(calls(OLD, -300, 40) + calls(NEW, 40, 300), -300, 300)
    found = sensor(deferrable=False).execute(context)
    assert (found["rule"], found["calls"], found["prompt_digest"]) == ("live", 60, NEW)
    record = context["outlet_events"][DESK.released("production")].extra
    assert record["body"]["revision"] == "a" * 40
    assert record["id"] == found["record_id"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (calls(NEW, 0, 100), "last_rule|cache|before the end of the first window"),
        (calls(NEW, 0, 300) + calls(OLD, 299, 300), "another prompt"),
        ([replace(one, prompt_digest="") for one in calls(NEW, 0, 300)], "nobody can tell"),
        (calls(NEW, 0, 300, step=60), "are needed"),
    ],
)
def test_else_it_fails_at_its_deadline_and_says_why(made, said, sample, context) -> None:
    last = 100 if made[-1].at < at(101) else 300
    sample(made, 0, last)
    with pytest.raises(AirflowFailException, match=said) as error:
        sensor(deferrable=False, timeout=timedelta(seconds=0.3)).execute(context)
    assert "WaitTimeout" in str(error.value)
    assert not list(context["outlet_events"])


def test_that_a_later_prompt_took_its_place_says_nothing_against_it(sample, context) -> None:
    sample(calls("x" * 64, 0, 300), 0, 300)
    with pytest.raises(AirflowFailException, match="were made with another prompt") as error:
        sensor(deferrable=False).execute(context)
    assert isinstance(error.value.__cause__, NotJudged)


def test_without_any_sample_nothing_is_live(store, context) -> None:
    with pytest.raises(AirflowFailException, match="no calls have been sampled"):
        sensor(deferrable=False, timeout=timedelta(seconds=0.2)).execute(context)


def test_the_triggerer_goes_on_until_the_next_sample(sample, context, monkeypatch) -> None:
    sample(calls(NEW, 0, 120), 0, 120)
    with pytest.raises(TaskDeferred) as deferred:
        sensor(deferrable=True).execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path.endswith("PromptLiveTrigger")
    assert json.loads(json.dumps(arguments)) == arguments
    trigger = PromptLiveTrigger(**{**arguments, "dwell": 0.0})

    async def watch() -> dict:
        return (await anext(trigger.run())).payload

    told: list[dict] = []
    looked, real = threading.Event(), look.judged

    def judged(*given: Any) -> Any:
        try:
            return real(*given)
        finally:
            looked.set()

    monkeypatch.setattr(look, "judged", judged)
    watcher = threading.Thread(target=lambda: told.append(asyncio.run(watch())))
    watcher.start()
    assert looked.wait(60)
    assert watcher.is_alive()
    sample(calls(NEW, 120, 300), 120, 300)
    watcher.join(60)
    found = sensor(deferrable=True).execute_complete(context, told[0])
    assert (found["rule"], found["app"]) == ("live", "desk")


def test_a_gap_between_samples_is_no_evidence(sample, store) -> None:
    expected = Expected(NEW, at(0) / 1000, least=5)
    sample(calls(NEW, 0, 100), 0, 100)
    sample(calls(NEW, 160, 200), 160, 200)
    seen = look.look(store, "desk", expected)
    assert (seen.since, seen.until) == (at(160) / 1000, at(200) / 1000)
    assert look.judged(store, "desk", expected, 0, print).rule == "cache"
    sample(calls(NEW, 100, 160), 100, 160)
    assert look.judged(store, "desk", expected, 0, print).rule == "live"


def test_of_two_sources_both_must_have_been_sampled(sample, store, tmp_path) -> None:
    expected = Expected(NEW, at(0) / 1000, least=5)
    sample(calls(NEW, 0, 300), 0, 300)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(calls(OLD, 0, 1)[0].to_json()) + "\n")
    sample([], 0, 100, source=str(other))
    assert look.judged(store, "desk", expected, 0, print).rule == "cache"
    sample([], 100, 300, source=str(other))
    assert look.judged(store, "desk", expected, 0, print).rule == "live"


def test_a_damaged_manifest_is_waited_for_and_told_at_the_deadline(sample, store) -> None:
    sample(calls(NEW, 0, 300), 0, 300)
    next(store.rglob("*_*.json")).write_text("{")
    expected = Expected(NEW, at(0) / 1000)
    waiting = look.judged(store, "desk", expected, 0, print)
    assert (waiting.state, waiting.rule) == ("wait", "unreadable")
    assert "makes no sense" in waiting.reason
    assert look.judged(store, "desk", expected, expected.timeout, print).state == "failed"


# --- drift --------------------------------------------------------------------------------------------------------------


def answers(count: int, refusals: int, name: str) -> list[Call]:
    said = "The flight leaves at noon from the second gate and arrives in the evening, about an hour late"
    words = said.split()
    return [
        Call(
            f"{name}{n}", at(n % 3000), f"{name}{n}", prompt_digest=NEW, latency=1 + n % 7, finish_reason="stop",
            input="When does my flight leave, and from which gate?" + " please" * (n % 3),
            answer="I'm sorry, but I can't help with that." if n < refusals else " ".join(words[: 7 + n % 11]),
        )
        for n in range(count)
    ]  # fmt: skip


def test_a_rate_that_moves_is_drift(sample, context) -> None:
    reference, same, worse = (
        sample(answers(400, refusals, name), 0, 3600, app=name)
        for name, refusals in (("a", 8), ("b", 9), ("c", 60))
    )
    kept = {"deliverable": DESK, "report": False}
    quiet = AnswerDriftOperator(task_id="d", reference=reference, current=same, **kept).execute(context)
    assert quiet["verdict"] == "no drift", quiet["reasons"]
    found = AnswerDriftOperator(task_id="d", reference=reference, current=worse, **kept).execute(context)
    assert found["verdict"] == "drift"
    assert "refused" in [each["column"] for each in found["columns"] if each["drifted"]]
    assert "sorry" not in json.dumps(found)
    record = context["outlet_events"][DESK.asset("drift")].extra
    assert record["body"]["subject"] == "answers"
    assert record["body"]["drifted"] is True
    with pytest.raises(AirflowFailException, match="altered"):
        AnswerDriftOperator(
            task_id="d", reference={**reference, "sha256": "0" * 64}, current=same, **kept
        ).execute(context)


# --- the guard ----------------------------------------------------------------------------------------------------------


def canary(count: int, bad: str) -> tuple[list[Call], pd.DataFrame]:
    """Every third conversation has the new prompt; half of those of ``bad`` get a thumb down, a day later."""
    made = [
        Call(
            f"r{n}",
            at(n * 20),
            f"c{n}",
            prompt_digest=OLD if n % 3 else NEW,
            input="Hi",
            answer="Ho",
            finish_reason="stop",
        )
        for n in range(count)
    ]
    down = [one for number, one in enumerate([one for one in made if one.prompt_digest == bad]) if number % 2]
    thumbs = pd.DataFrame(
        {
            "request_id": [one.request_id for one in down],
            "thumb": "down",
            "at": [pd.Timestamp(one.at, unit="ms", tz="UTC") + pd.Timedelta(hours=20) for one in down],
        }
    )
    return made, thumbs


@pytest.fixture
def guarded(sample, context, tmp_path) -> Callable[..., dict]:
    def run(bad: str, feedback: bool = True, **more: object) -> dict:
        made, thumbs = canary(300, bad)
        sample(made, 0, 7000)
        thumbs.to_parquet(tmp_path / "thumbs.parquet")
        asked = {"app": "desk", "new": NEW, "before": OLD, "since": iso(0), "commit": "b" * 40,
                 "policy": PromptPolicy(share=1 / 3, mode="act"), "deliverable": DESK,
                 "feedback": str(tmp_path / "thumbs.parquet") if feedback else None, **more}  # fmt: skip
        return PromptGuardOperator(task_id="g", **asked).execute(context)  # type: ignore[arg-type]

    return run


def test_a_worse_prompt_names_the_commit_to_take_back(guarded, context) -> None:
    found = guarded(NEW)
    assert (found["verdict"], found["act"], found["revert"]) == ("worse", True, "b" * 40)
    assert found["at_least"] > 1
    assert {one["prompt_digest"]: one["down"] for one in found["rates"]} == {NEW: 50, OLD: 0}
    assert found["counts"]["labelled"] == 50
    body = context["outlet_events"][DESK.asset("evaluation")].extra["body"]
    assert (body["subject"], body["verdict"]) == ("prompt guard", "worse")


def test_one_that_is_no_worse_stays(guarded) -> None:
    found = guarded(OLD)
    assert (found["verdict"], found["act"], found["revert"]) == ("wait", False, "")


def test_without_feedback_hard_failures_are_judged_alone(guarded) -> None:
    found = guarded(NEW, feedback=False)
    assert found["verdict"] == "wait"
    assert set(found["evidence"]) == {"failures"}
    assert found["needed"] == pytest.approx(20)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"before": NEW}, "two prompts"),
        ({"since": ""}, "since is empty"),
        ({"app": "../x"}, "name of an application"),
    ],
)
def test_bad_input_of_the_guard(more, said, store, context) -> None:
    asked = {"app": "desk", "new": NEW, "before": OLD, "since": iso(0), **more}
    with pytest.raises(AirflowFailException, match=said):
        PromptGuardOperator(task_id="g", **asked).execute(context)


def test_prompts_that_nobody_has_called_cannot_be_told(store, context) -> None:
    found = PromptGuardOperator(task_id="g", app="desk", new=NEW, before=OLD, since=iso(0)).execute(context)
    assert (found["verdict"], found["act"]) == ("cannot tell", False)


def test_a_moment_of_the_future_is_no_release(sample, context) -> None:
    sample(calls(NEW, 0, 300), 0, 300)
    with pytest.raises(AirflowFailException, match="no calls have been sampled"):
        sensor(deferrable=False, released="", timeout=timedelta(seconds=0.2)).execute(context)
    with pytest.raises(InvalidInput):
        sensor(cache=timedelta(seconds=-1))


def test_from_a_worse_prompt_to_the_commit_that_takes_it_back(
    guarded, tmp_path, monkeypatch, context
) -> None:
    """With a real repository: the digest that applications read is again that of the prompt before."""
    remote = Remote(tmp_path / "remote.git", tmp_path / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    file = "prompts/desk/production.yaml"
    remote.put(file, f"prompt:\n  digest: {OLD}\n")
    remote.commit("first")
    named = json.dumps({"conn_type": "git_repository", "host": str(remote.path)})
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", named)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    change = GitOpsCommitOperator(task_id="c", file=file, set={"prompt.digest": NEW}, message="Release desk")
    made = change.execute(context)["commit"]
    assert NEW in remote.show(file)
    found = guarded(NEW, commit=made)
    assert found["act"]
    back = GitOpsRevertOperator(task_id="b", commit=found["revert"], reason=found["reason"]).execute(context)
    assert back["reverts"] == made
    assert OLD in remote.show(file)
    assert any("times the odds of a thumb down" in line for line in remote.log("%B"))
