"""Sampled calls are a dataset: what was answered is scored, a candidate is asked the same, and a gate compares them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops import (
    EvaluateOperator,
    EvaluationGateOperator,
    GatePolicy,
    SampleTracesOperator,
    Subject,
)
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.reading import read
from airflow_pipeops.llm.evaluation.scorers.texts import Matches
from airflow_pipeops.llm.production.calls import Call
from airflow_pipeops.llm.prompts.prompt import Prompt
from tests import openai
from tests.llm.production.spans import NOON, at

PROMPT = {
    "name": "desk", "model": "small", "template": "Be kind. {{input}}", "variables": {"input": "string"},
    "parameters": {"max_tokens": 20},
}  # fmt: skip
DIGEST = Prompt.of(PROMPT).sha256


def calls(digest: str = DIGEST) -> list[Call]:
    """Of sixty, two in a conversation, every third was answered with a refusal; and some that are no item of their own."""
    found = [
        Call(
            f"r{n}", at(n), f"c{n // 2}", prompt_digest=digest, model="small-1", input=f"What is {n}?",
            answer="I cannot help" if n % 3 == 0 else f"It is {n}",
        )
        for n in range(60)
    ]  # fmt: skip
    failed = Call("r60", at(60), "c30", prompt_digest=digest, input="What is 60?", error="rate limited")
    twice = Call("r61", at(61), "", prompt_digest=digest, input="Hi", answer="Hello")
    return [*found, failed, twice, Call("r62", at(62), "", prompt_digest=digest, input="Hi ", answer="Hello")]


@pytest.fixture
def sampled(store, logged, context) -> Any:
    def sample(given: list[Call]) -> dict[str, Any]:
        window = {"start": NOON.isoformat(), "end": (NOON + timedelta(hours=1)).isoformat()}
        return SampleTracesOperator(
            task_id="sample", app="desk", source=logged(given), format="jsonl", **window
        ).execute(context)

    return sample


def test_calls_are_items_each_once(sampled) -> None:
    dataset = read(sampled(calls())["uri"])
    items = {one.id: one for one in dataset.items}
    assert len(items) == 61, "one was not answered, and one is there twice"
    first, hello = items["r1"], items["r61"]
    assert first.inputs == {"input": "What is 1?", "answer": "It is 1"}
    assert (first.cluster, first.tags) == ("c0", {"prompt_digest": DIGEST, "model": "small-1"})
    assert hello.cluster.startswith("asks ")
    # One request of an application may call two prompts.
    both = [Call("r1", at(1), input="Hi", answer="Ho", prompt_digest=name * 64) for name in "ab"]
    both[1] = Call("r1", at(1), input="Hi", answer="Hu", prompt_digest="b" * 64)
    chained = read(sampled(both)["uri"]).items
    assert {one.id for one in chained} == {f"r1 {'a' * 12}", f"r1 {'b' * 12}"}
    assert len({one.cluster for one in chained}) == 1, "they ask the same"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"answer": None}, r"row 2 of the dataset is no call, as the first one is: it has no 'answer'"),
        ({"id": "x"}, r"row 2 of the dataset has an 'id', and the first has none"),
    ],
)
def test_a_file_of_calls_holds_nothing_else(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    call = {"request_id": "r1", "conversation": "c", "input": "Hi", "answer": "Ho"}
    odd = {name: one for name, one in {**call, **more}.items() if one is not None}
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (call, odd)))
    with pytest.raises(InvalidInput, match=said):
        read(path.as_uri())


def test_live_traffic_is_evaluated_and_gated(sampled, context, monkeypatch) -> None:
    model = openai.Model(answers=lambda body: f"It is so: {body['messages'][-1]['content']}")
    released = Subject("baseline", PROMPT, recorded="answer")

    def evaluated(uri: str, *subjects: Subject) -> dict[str, Any]:
        return EvaluateOperator(
            task_id="evaluate",
            dataset=uri,
            subjects=list(subjects),
            scorers=[Matches(name="answers", pattern="(?i)cannot help", wanted=False)],
            llm_conn_id="llm",
        ).execute(context)

    with openai.serving(model) as url:
        monkeypatch.setenv(
            "AIRFLOW_CONN_LLM", json.dumps({"conn_type": "pydanticai", "host": url, "password": openai.KEY})
        )
        uri = sampled(calls())["uri"]
        candidate = Subject("candidate", {**PROMPT, "template": "Always answer. {{input}}"})
        found = evaluated(uri, released, candidate)
        assert (found["items"], found["outcome"], len(model.asked)) == (61, "complete", 61)
        assert found["arms"]["baseline"] == Subject("other", PROMPT).sha256, "it is told by what has answered"
        said = EvaluationGateOperator(
            task_id="gate", evaluation=found, policy=GatePolicy("answers", slices=("model",))
        ).execute(context)
        assert (said["outcome"], said["opens"], said["units"]) == ("better", True, 31)
        with pytest.raises(
            AirflowFailException, match="item 'r0' was answered by the prompt aaaaaaaaaaaa, and"
        ):
            evaluated(sampled(calls("a" * 64))["uri"], released)
    assert len(model.asked) == 61
