"""The demo's language model answers by the examples that it is given, so its prompts are as good as the story says."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml

from airflow_pipeops.demo import seeds
from airflow_pipeops.demo.aircraft import items, write_items
from airflow_pipeops.demo.language_model import UNKNOWN, LanguageModel, answer
from airflow_pipeops.demo.notice_service import maker
from airflow_pipeops.llm.prompts.leakage import leakage
from airflow_pipeops.llm.prompts.prompt import Prompt


def prompt(number: int) -> Prompt:
    file = seeds.SEEDS / "prompt" / str(number) / "prompts" / seeds.PROMPT / "prompt.yaml"
    return Prompt.from_json(yaml.safe_load(file.read_text()))


def right(number: int) -> int:
    asked = prompt(number)
    return sum(
        item["expected"].lower() in answer(asked.render({"aircraft": item["aircraft"]}).to_json()).lower()
        for item in items()
    )


def test_the_second_prompt_is_truly_worse_and_the_third_truly_better() -> None:
    shares = {number: right(number) / len(items()) for number in seeds.PROMPTS}
    assert shares[2] < 0.65 < 0.8 < shares[1] < shares[3] - 0.05 < 0.95, shares


@pytest.mark.parametrize("number", sorted(seeds.PROMPTS))
def test_no_prompt_quotes_an_item(number: int) -> None:
    texts = [(item["id"], {"aircraft": item["aircraft"]}) for item in items()]
    found = leakage(prompt(number), [dict(inputs) for _, inputs in texts])
    assert found.verdict == "clean", found.reason


def test_it_knows_nothing_but_what_stands_in_the_messages() -> None:
    asked = {"role": "user", "content": "Who wrote Hamlet?"}
    assert answer([asked]) == UNKNOWN
    assert answer([{"role": "system", "content": "Shakespeare wrote Hamlet."}, asked]) == UNKNOWN
    examples = [
        {"role": "user", "content": "Who wrote Faust?"},
        {"role": "assistant", "content": "Goethe"},
        {"role": "user", "content": "Who wrote hamlets?"},
        {"role": "assistant", "content": "Nobody"},
    ]
    assert answer([*examples, asked]) == "Nobody"
    assert answer([*examples[:2], asked]) == "Goethe"


def test_an_application_asks_it_as_it_asks_any_endpoint(tmp_path: Path) -> None:
    model = LanguageModel()
    try:
        assert maker(prompt(1), "N33103: 737-3TO of 1990, 2 engines, 149 seats", model.url) == "Boeing"
        assert httpx.post(f"{model.url}/embeddings", json={"input": "x"}).status_code == 404
    finally:
        model.close()
    with pytest.raises(httpx.HTTPError):
        maker(prompt(1), "N33103", model.url)
    write_items(tmp_path / "items.jsonl")
    lines = (tmp_path / "items.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == items()
    assert len({item["id"] for item in items()}) == len(items()) > 100
