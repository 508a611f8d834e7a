"""Evaluations against a real endpoint, with their answers in a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.llm.datasets.dataset import of_rows
from airflow_pipeops.llm.evaluation.asking import Answers, Asker, Expenses
from airflow_pipeops.llm.evaluation.client import Settings
from airflow_pipeops.llm.evaluation.pace import Budget, Pace, Prices
from airflow_pipeops.llm.evaluation.run import Found, Plan, evaluate
from airflow_pipeops.llm.evaluation.scorers.texts import Exact
from airflow_pipeops.llm.evaluation.subjects import Subject
from tests import openai


@pytest.fixture
def model() -> openai.Model:
    """What answers; a test changes it before it asks."""
    return openai.Model()


@pytest.fixture
def url(model: openai.Model) -> Iterator[str]:
    """Where it answers."""
    with openai.serving(model) as found:
        yield found


def rows(count: int) -> list[dict[str, Any]]:
    """Items that ask for a word backwards."""
    return [{"id": f"i{n:04d}", "word": f"word {n}", "expected": f"word {n}"[::-1]} for n in range(count)]


def subject(arm: str = "candidate", **more: Any) -> Subject:
    """A subject that says the word."""
    return Subject(
        **{"arm": arm, "prompt": "{{word}}", "model": "small", "parameters": {"max_tokens": 20}, **more}
    )


def run(
    url: str,
    root: Path,
    plan: Plan,
    *,
    order: str = "order",
    budget: Budget | None = None,
    pace: Pace | None = None,
    prices: Prices | None = None,
    tell: Callable[[str], None] = lambda line: None,
    mask: bool = True,
    **more: Any,
) -> Found:
    """Evaluate, with short pauses."""
    from airflow.sdk import ObjectStoragePath

    place = ObjectStoragePath(root.as_uri())

    def asker_of(endpoints: Any) -> Asker:
        given = {"pause": 0.01, "parallel": 8, **more}
        return Asker(
            endpoints,
            Answers(place / "answers", mask=mask),
            expenses=Expenses(place / "expenses" / order),
            budget=budget,
            pace=pace,
            prices=prices,
            **given,
        )

    plan.check()
    settings = {"": Settings(url, openai.KEY, timeout=10.0)}
    return asyncio.run(evaluate(plan, settings, asker_of, tell))


def plan(count: int = 20, **more: Any) -> Plan:
    """A plan of so many items."""
    given: dict[str, Any] = {"subjects": (subject(),), "scorers": (Exact(),)}
    return Plan(**{"dataset": of_rows(rows(count)), **given, **more})
