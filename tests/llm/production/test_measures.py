"""What is measured of an answer, by examples."""

from __future__ import annotations

import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production.measures import COLUMNS, hard, measure, refused, repetition, script

SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


def one(
    answer: str | None, finish: str = "stop", error: str = "", asked: str = "Which city has the most delays?"
) -> dict:
    row = {
        "input": asked,
        "answer": answer,
        "finish_reason": finish,
        "error": error,
        "latency": 1.0,
        "cost": None,
    }
    frame = pd.DataFrame([{**row, "tokens_in": 3, "tokens_out": None}])
    measured = measure(frame, SCHEMA)
    assert tuple(measured.columns) == COLUMNS
    return {**measured.iloc[0].to_dict(), "hard": bool(hard(measured).iloc[0])}


@pytest.mark.parametrize(
    ("answer", "finish", "error", "wanted"),
    [
        ('{"city": "Bonn"}', "stop", "", {"schema_failed": "no", "hard": False, "refused": "no"}),
        ('```json\n{"city": "Bonn"}\n```', "stop", "", {"schema_failed": "no"}),
        ('{"town": "Bonn"}', "stop", "", {"schema_failed": "yes", "hard": True}),
        ('{"city": "Bo', "length", "", {"schema_failed": "yes", "truncated": "yes"}),
        ("I'm sorry, but I can't help with that.", "stop", "", {"refused": "yes", "schema_failed": "yes"}),
        ("", "content_filter", "", {"empty": "yes", "hard": True}),
        ("  \n", "stop", "", {"empty": "yes", "hard": True}),
        ("", "tool_calls", "", {"empty": "no"}),
        (None, "", "rate limited", {"failed": "yes", "empty": "no", "schema_failed": "no", "hard": True}),
        ("the same again and " * 40, "stop", "", {"repetitive": "yes"}),
    ],
)  # fmt: skip
def test_an_answer(answer: str | None, finish: str, error: str, wanted: dict) -> None:
    found = one(answer, finish, error)
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("I cannot provide medical advice.", True),
        ("As an AI language model I have no opinion.", True),
        ("Es tut mir leid, dabei kann ich nicht helfen.", True),
        ("Je ne peux pas répondre à cette question.", True),
        ("Lo siento, no puedo ayudar con eso.", True),
        ("The airport cannot be reached by train.", False),
        ("Can I help? I can.", False),
    ],
)
def test_a_refusal(answer: str, wanted: bool) -> None:
    assert refused(answer) is wanted


def test_languages_and_scripts() -> None:
    assert one("Die meisten Verspätungen hat der Flughafen Newark im Juli.")["answer_language"] == "de"
    assert one("x")["input_language"] == "en"
    assert [script(text) for text in ("Привет, мир", "こんにちは", "hello", "42!")] == [
        "CYRILLIC",
        "HIRAGANA",
        "LATIN",
        "",
    ]


def test_repetition_is_of_long_answers() -> None:
    assert repetition("one two three four") == 0
    assert repetition(" ".join(map(str, range(100)))) == 0
    assert repetition("a b c d e " * 50) > 0.9


def test_without_a_schema_nothing_is_said_of_it() -> None:
    row = {"input": "a", "answer": "b", "finish_reason": "", "error": "", "latency": 1, "cost": 0}
    frame = pd.DataFrame([{**row, "tokens_in": 1, "tokens_out": 1}])
    assert measure(frame)["schema_failed"].isna().all()
    assert list(hard(measure(frame))) == [False]


def test_what_is_no_schema_or_no_call() -> None:
    with pytest.raises(InvalidInput, match="no JSON Schema"):
        measure(
            pd.DataFrame(columns=["input", "answer", "finish_reason", "error", "latency", "cost"]),
            {"type": 5},
        )
    with pytest.raises(InvalidInput, match="no column"):
        measure(pd.DataFrame({"a": [1]}))
