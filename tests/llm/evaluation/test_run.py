"""Evaluations against an endpoint that goes wrong: each answer is asked for once, paid once, and none is made up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable
from airflow_pipeops.llm import results
from airflow_pipeops.llm.datasets.dataset import of_rows
from airflow_pipeops.llm.evaluation.pace import Budget, Pace, Prices
from airflow_pipeops.llm.evaluation.scorers.judges import RubricJudge
from airflow_pipeops.llm.evaluation.scorers.texts import Exact
from airflow_pipeops.llm.evaluation.subjects import Subject
from airflow_pipeops.llm.prompts.prompt import Prompt
from tests import openai
from tests.llm.evaluation.conftest import plan, rows, run, subject


def test_each_question_is_asked_once_and_found_again(model: openai.Model, url: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    model.delay = lambda number, body: (
        chance.random() / 50
    )  # answers come in another order than questions went
    told: list[str] = []
    asked = plan(30, subjects=(subject("baseline"), subject("candidate", prompt="Say: {{word}}")), runs=2)
    found = run(url, tmp_path, asked, tell=told.append)
    assert (found.outcome, len(model.asked), found.facts["asked"]) == ("complete", 120, 120)
    assert model.most_running <= 8
    frame = results.table(found.rows)
    assert len(frame) == 120
    means = frame.groupby("arm")["value"].mean().to_dict()
    assert means == {"baseline": 1.0, "candidate": 0.0}
    assert "60 of 60" in told[-1]
    again = run(url, tmp_path, asked)
    assert (len(model.asked), again.facts["found"], again.facts["asked"]) == (120, 120, 0)
    assert results.to_bytes(results.table(again.rows)) == results.to_bytes(frame)
    # Another scorer or expectation asks nothing; another prompt, parameter or repetition does.
    run(url, tmp_path, plan(30, subjects=(subject("baseline"),), runs=2, scorers=(Exact(compare="exact"),)))
    assert len(model.asked) == 120
    run(url, tmp_path, plan(30, subjects=(subject("baseline"),), runs=3))
    assert len(model.asked) == 150


def test_what_is_asked_for_anew_is_not_what_an_endpoint_remembers(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    """One that honours the key of a call would give its old answer, as if it were of now."""
    model.remembers, released = True, subject("baseline")
    run(url, tmp_path, plan(3, subjects=(released,)))
    old = {path: json.loads(path.read_text()) for path in (tmp_path / "answers").rglob("*.json")}
    for path, answer in old.items():
        path.write_text(json.dumps(answer | {"at": answer["at"] - 7200}))
    aged = {path: path.read_text() for path in old}
    model.answers = lambda body: "otherwise"
    both = plan(3, subjects=(released, subject(prompt="Say: {{word}}")))
    for _ in range(2):  # the second as the retry of a worker that was killed before it had stored them
        for path, content in aged.items():
            path.write_text(content)
        frame = results.table(run(url, tmp_path, both).rows)
        assert frame["output_digest"].nunique() == 1
    assert sorted(model.paid.values()) == [1, 1, 1, 2, 2, 2], (
        "each is paid once for each time that it was wanted"
    )


def test_the_schema_of_the_answer_is_sent(model: openai.Model, url: str, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    given = {
        "name": "say.it", "model": "small", "template": "{{word}}", "variables": {"word": "string"},
        "parameters": {"max_tokens": 20}, "output_schema": schema,
    }  # fmt: skip
    run(url, tmp_path, plan(1, subjects=(Subject("candidate", given),)))
    form = {"type": "json_schema", "json_schema": {"name": "say-it", "schema": schema}}
    assert model.asked[-1]["response_format"] == form
    own = Subject("candidate", given, parameters={"response_format": {"type": "json_object"}})
    run(url, tmp_path, plan(1, subjects=(own,)))
    assert model.asked[-1]["response_format"] == {"type": "json_object"}
    run(url, tmp_path, plan(1))
    assert "response_format" not in model.asked[-1]


def test_an_expected_answer_in_the_prompt_is_a_leak_and_a_class_is_none() -> None:
    answer = "the moon is made of green cheese and dust"
    given = [
        {"id": f"i{n}", "word": f"word {n}", "expected": ["not enough information given", f"{answer} {n}"][:1 + n % 2]}
        for n in range(4)
    ]  # fmt: skip
    labels = subject(prompt="Answer, or say: not enough information given. {{word}}")
    assert plan(dataset=of_rows(given), subjects=(labels,)).check() == {"candidate": "clean"}
    quoting = subject(prompt=f"For example: {answer} 1. {{{{word}}}}")
    with pytest.raises(
        InvalidInput, match=r"item 'i1' stands in the prompt of subject 'candidate' by its 'expected\[1\]'"
    ):
        plan(dataset=of_rows(given), subjects=(quoting,)).check()
    assert plan(dataset=of_rows(given), subjects=(quoting,), allow_leaks=True).check() == {
        "candidate": "not compared"
    }


def test_arms_that_are_the_same_do_not_share_answers(model: openai.Model, url: str, tmp_path: Path) -> None:
    asked = plan(5, subjects=(subject("baseline"), subject("candidate")), runs=2)
    found = run(url, tmp_path, asked)
    assert (len(model.asked), found.facts["asked"]) == (20, 20)


def faults(*first: openai.Fault) -> Callable[[int, openai.Body], openai.Fault]:
    return lambda number, body: first[number] if number < len(first) else ""


@pytest.mark.parametrize("fault", ["busy", "down", "cut", "page", "twice"])
def test_what_a_network_or_a_busy_server_spoils_is_tried_again(
    fault: openai.Fault, model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.fault = faults(*[fault] * 5)
    found = run(url, tmp_path, plan(8))
    assert (found.outcome, found.facts["calls"], len(model.asked)) == ("complete", 13, 13)


def test_an_answer_without_usage_has_no_cost_but_counts(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.fault = lambda number, body: "silent"
    prices = Prices({"small": {"input": 1.0, "output": 2.0}})
    found = run(url, tmp_path, plan(3), prices=prices, budget=Budget(cost=1.0))
    frame = results.table(found.rows)
    assert frame["cost"].isna().all()
    assert frame["tokens_in"].isna().all()
    assert found.facts["cost"] > 3 * 20 * 2 / 1e6  # at least the bound of each answer


def test_a_question_that_is_refused_is_missing_and_no_loss(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.fault = lambda number, body: "refused" if "word 3" in body["messages"][0]["content"] else ""
    found = run(url, tmp_path, plan(8))
    bad = [row for row in found.rows if row["value"] is None]
    assert (found.outcome, [row["item"] for row in bad]) == ("incomplete", ["i0003"])
    assert "the question is too long" in bad[0]["error"]
    assert len(model.asked) == 8  # a refusal is not tried again
    model.fault = faults()
    assert run(url, tmp_path, plan(8)).outcome == "complete"
    assert len(model.asked) == 9


def test_a_longer_answer_than_any_is_not_read(model: openai.Model, url: str, tmp_path: Path) -> None:
    model.fault = lambda number, body: "endless"
    found = run(url, tmp_path, plan(1))
    assert "more than 4 MB" in found.rows[0]["error"]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("empty", AccessDenied, "has no quota left"),
        ("unknown", NotFound, "knows no such model"),
        ("down", Unreachable, "with 503"),
    ],
)
def test_what_concerns_all_questions_ends_the_task(
    fault: openai.Fault, error: type[Exception], said: str, model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.fault = lambda number, body: fault if number >= 10 else ""
    with pytest.raises(error, match=said) as caught:
        run(url, tmp_path, plan(200), tries=2)
    assert openai.KEY not in str(caught.value)
    assert len(model.asked) < 60
    model.fault = faults()
    before = len(model.asked)
    assert run(url, tmp_path, plan(200)).facts["found"] == 10
    assert len(model.asked) - before == 190


def test_a_server_that_wants_to_be_left_alone_is(model: openai.Model, url: str, tmp_path: Path) -> None:
    model.fault, model.retry_after = faults("", "", "", "busy"), "1"
    run(url, tmp_path, plan(12), parallel=1)
    gaps = [after - before for before, after in zip(model.times, list(model.times)[1:], strict=False)]
    assert gaps[3] >= 1.0
    model.fault, model.retry_after = lambda number, body: "busy", "3600"
    with pytest.raises(Unreachable):
        run(url, tmp_path, plan(50))


def test_a_budget_is_never_exceeded_and_nearly_used(model: openai.Model, url: str, tmp_path: Path) -> None:
    model.answers = lambda body: " ".join(["word"] * 20)
    found = run(url, tmp_path, plan(100), budget=Budget(tokens=1000))
    assert found.outcome == "budget"
    assert model.tokens == found.facts["tokens"] <= 1000
    assert model.tokens > 800  # what is set aside for one call is all that stays
    missing = [row for row in found.rows if row["value"] is None]
    assert len(found.rows) == 100
    assert {row["error"] for row in missing} == {"not asked: the budget is spent"}
    # The same order has spent it, and another one has not.
    asked = len(model.asked)
    assert run(url, tmp_path, plan(100), budget=Budget(tokens=1000)).facts["asked"] == 0
    assert len(model.asked) == asked
    assert run(url, tmp_path, plan(100), budget=Budget(tokens=1000), order="next").facts["asked"] > 10
    assert model.tokens <= 2000


def test_a_rate_is_kept(model: openai.Model, url: str, tmp_path: Path) -> None:
    found = run(url, tmp_path, plan(8), pace=Pace(requests_per_minute=600))
    assert found.facts["seconds"] >= 0.7


def test_shards_are_all_of_it_and_nothing_twice(model: openai.Model, url: str, tmp_path: Path) -> None:
    parts = [run(url, tmp_path, plan(30, shard=number, shards=4), order=str(number)) for number in range(4)]
    together = results.table(row for part in parts for row in part.rows)
    assert len(model.asked) == 30
    pytest.importorskip("pandas").testing.assert_frame_equal(
        together[["item", "value"]], results.table(run(url, tmp_path, plan(30)).rows)[["item", "value"]]
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"subjects": ()}, "there is no subject"),
        ({"scorers": ()}, "there is no scorer"),
        ({"subjects": (subject("a"), subject("a"))}, "subjects has 'a' twice"),
        ({"scorers": (Exact(), Exact())}, "scorers has 'exact' twice"),
        ({"runs": 0}, "runs is 0"),
        ({"shard": 4, "shards": 4}, "shard is 4"),
        ({"subjects": (subject(prompt="{{nothing}}"),)}, "item 'i0000' does not fit subject 'candidate'"),
        ({"subjects": (subject(recorded="answer"),)}, "has no recorded answer 'answer'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_asked(
    more: dict, said: str, model: openai.Model, url: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=said):
        run(url, tmp_path, plan(3, **more))
    assert not model.asked


@pytest.mark.parametrize(
    ("more", "cost", "tokens", "said"),
    [
        ({}, 1.0, None, "the price of 'small' is not known, and a cost budget is set"),
        ({"subjects": (subject(parameters={}),)}, None, 1000, "may answer without end"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(more: dict, cost: float, tokens: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plan(3, **more).check_budget(Prices({}), cost, tokens)


def test_a_prompt_that_quotes_an_item_is_refused_by_its_name(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    asks = "how many moons does the planet Mars have in all"
    given = [*rows(3), {"id": "mars", "word": asks, "expected": "2"}]
    quoting = subject(prompt=f"Q: {asks}? A: two.\nQ: {{{{word}}}}")
    leaking = plan(dataset=of_rows(given), subjects=(quoting,))
    with pytest.raises(
        InvalidInput, match="item 'mars' stands in the prompt of subject 'candidate' by its 'word'"
    ):
        run(url, tmp_path, leaking)
    assert not model.asked
    run(url, tmp_path, replace(leaking, allow_leaks=True))
    assert len(model.asked) == 4


def test_a_prompt_of_git_brings_its_model_and_parameters(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    prompt = Prompt.read(
        "{name: say, model: small, template: '{{word}}', variables: {word: string}, parameters: {max_tokens: 9}}"
    )
    found = run(url, tmp_path, plan(3, subjects=(Subject("candidate", prompt),)))
    assert [row["value"] for row in found.rows] == [1.0] * 3
    assert {(body["model"], body["max_tokens"]) for body in model.asked} == {("small", 9)}


def test_recorded_answers_are_scored_and_nothing_is_asked(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    given = [{**row, "answer": row["expected"] if place else "no"} for place, row in enumerate(rows(4))]
    found = run(url, tmp_path, plan(dataset=of_rows(given), subjects=(subject(recorded="answer"),)))
    assert sorted(row["value"] for row in found.rows) == [0.0, 1.0, 1.0, 1.0]
    assert not model.asked


LEAKY = "Write to anna.smith@example.com from 203.0.113.7, with the key sk-live-0123456789abcdefghij"


def stored(root: Path) -> str:
    return "".join(path.read_text() for path in (root / "answers").rglob("*.json"))


def test_secrets_and_personal_data_are_masked_before_an_answer_is_stored(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.answers = lambda body: LEAKY if "word 1" in str(body) else "drow"
    judge = RubricJudge(model="judge", rubric="Is it polite?", parameters={"max_tokens": 20})
    asked = plan(3, scorers=(Exact(), judge))
    found = run(url, tmp_path, asked)
    for secret in ("anna.smith", "203.0.113.7", "sk-live"):
        assert secret not in stored(tmp_path)
        assert secret not in str(found.rows)
    assert "<EMAIL_1> from <IP_1>, with the key <SECRET_1>" in stored(tmp_path)
    judged = [body for body in model.asked if body["model"] == "judge"]
    assert any("EMAIL_1" in str(body) for body in judged)
    assert not any("anna.smith" in str(body) for body in judged)
    assert found.facts["masked"] == {"EMAIL": 1, "IP": 1, "SECRET": 1}
    # What was taken out may be what is looked for: texts cannot tell, and are no loss.
    (row,) = [row for row in found.rows if row["item"] == "i0001" and row["scorer"] == "exact"]
    assert row["value"] is None
    assert "EMAIL, IP, SECRET was masked" in row["error"]
    # An answer that is found again is the one that was scored.
    calls = len(model.asked)
    again = run(url, tmp_path, asked)
    assert (again.rows, len(model.asked)) == (found.rows, calls)


def test_what_was_stored_as_it_came_is_masked_and_what_was_masked_is_asked_anew(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    model.answers = lambda body: LEAKY
    open_ = run(url, tmp_path, plan(1, mask=False), mask=False)
    assert "anna.smith@example.com" in stored(tmp_path)
    assert (open_.rows[0]["value"], open_.facts["masked"]) == (0.0, {})
    shut = run(url, tmp_path, plan(1))
    assert len(model.asked) == 1
    assert "anna.smith" not in stored(tmp_path)
    assert shut.rows[0]["value"] is None
    run(url, tmp_path, plan(1, mask=False), mask=False)
    assert len(model.asked) == 2


def test_an_item_that_expects_what_is_masked_is_refused_before_anything_is_asked(
    model: openai.Model, url: str, tmp_path: Path
) -> None:
    items = of_rows([{"id": "a", "word": "x", "expected": ["nobody", "anna.smith@example.com"]}])
    with pytest.raises(
        InvalidInput, match=r"item 'a' expects what would be masked in an answer \(EMAIL\)"
    ) as caught:
        run(url, tmp_path, plan(dataset=items))
    assert (caught.value.field, model.asked) == ("mask", [])
    plan(dataset=items, mask=False).check()
    recorded = of_rows([{"id": "a", "said": "x", "expected": "anna.smith@example.com"}])
    plan(
        dataset=recorded, subjects=(subject(recorded="said", prompt="", model=""),)
    ).check()  # nothing is stored of it
