"""Items that stand in the prompt are found by their words; what is too short is said to be so."""

from __future__ import annotations

import random

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.prompts.leakage import leakage
from airflow_pipeops.llm.prompts.prompt import Prompt

SAID = (
    "Answer the passenger. Example: My flight to Boston was cancelled an hour ago, what can I do now?\n"
    "Answer: Call 123. Question: {{question}} Please be kind to whoever asks."
)


def prompt(text: str) -> Prompt:
    return Prompt.from_json(
        {"name": "a", "model": "m", "template": text, "variables": {"question": "string"}}
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("my FLIGHT to Boston was cancelled, an hour ago - what can I do now", "leaks"),
        ("Hello, my flight to Boston was cancelled an hour ago and I am cross", "leaks"),
        ("My flight to Denver was cancelled an hour ago; what should I do then?", "clean"),
        ("be kind to whoever", "leaks"),
        ("be kind to somebody", "clean"),
        ("Call 123", "cannot tell"),
        ("123 Question Please be", "clean"),  # a variable stands between
        ("", "cannot tell"),
    ],
)
def test_a_quoted_item_is_found(text, verdict):
    found = leakage(prompt(SAID), [{"question": text}])
    assert found.verdict == verdict, found.reason
    assert found.items == 1


def test_each_item_is_named_by_the_text_that_is_quoted_most():
    items = [
        {"question": "Where is my bag, it was black?", "expected": "please be kind to whoever asks"},
        {"question": "What is the weather like in Rome today?", "expected": "ok"},
    ]
    found = leakage(prompt(SAID), items)
    (leak,) = found.leaks
    assert (leak.item, leak.field, leak.words, leak.share) == (0, "expected", 6, 1.0)
    assert "item 0 by its expected: 'please be kind" in found.reason
    assert leakage(prompt(SAID), items, fields=["question"]).verdict == "clean"
    with pytest.raises(InvalidInput, match="by chance"):
        leakage(prompt(SAID), items, run=3)


def test_a_script_without_spaces_is_compared_by_its_letters():
    text = prompt("例: 私の飛行機は一時間前に欠航になりました。 {{question}}")
    assert leakage(text, [{"question": "飛行機は一時間前に欠航"}]).verdict == "leaks"
    assert leakage(text, [{"question": "荷物はどこで受け取れますか"}]).verdict == "clean"


def test_none_is_missed_and_none_is_invented():
    """Of random items, those that were put into the prompt are found, and they alone."""
    chance = random.Random(7)
    words = [f"w{number}" for number in range(400)]
    for _ in range(30):
        items = [" ".join(chance.choices(words, k=chance.randint(8, 30))) for _ in range(60)]
        inside = set(chance.sample(range(60), chance.randint(0, 4)))
        text = " . ".join([*(items[one].title() for one in inside), "{{question}}"])
        found = leakage(prompt(text), [{"question": item} for item in items])
        assert {leak.item for leak in found.leaks} == inside
        assert found.verdict == ("leaks" if inside else "clean")
