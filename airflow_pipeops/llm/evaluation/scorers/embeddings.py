"""How near an answer is to what is expected, by the vectors of a model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.llm.datasets.dataset import Item
from airflow_pipeops.llm.evaluation.scorers.base import Case, Score, Scorer, Tools
from airflow_pipeops.llm.evaluation.scorers.texts import _needs_text, _wanted


@dataclass(frozen=True)
class Similarity(Scorer):
    """The cosine between the embeddings of an answer and of what is expected; of a list of texts, the nearest counts.

    :param model: of the embeddings, as the endpoint calls it.
    :param least: from which on it is a pass; by default the cosine itself is the score.
    :param llm_conn_id: connection of the endpoint; by default that of the evaluation.
    """

    model: str = ""
    least: float | None = None
    llm_conn_id: str = ""
    kind: ClassVar[str] = "similarity"
    asks: ClassVar[bool] = True

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse a scorer without a model, and an item without an expected text."""
        not_empty("model", self.model, f"the scorer {self.name!r} names no model of embeddings")
        _needs_text(items, self.name)

    async def score(self, case: Case, tools: Tools) -> Score:
        """Ask for the vectors; that of what is expected is asked for once, whoever answers."""
        if not case.text.strip():
            return Score(0.0, "empty")
        texts = [case.text, *_wanted(case.item)]
        bodies = [{"model": self.model, "input": one} for one in texts]
        found = await asyncio.gather(*(tools.ask(self.llm_conn_id, "/embeddings", one, 0) for one in bodies))
        vectors = [one.answer.vector for one in found if one.answer is not None]
        if len(vectors) < len(found):
            return Score(error=next(one.error for one in found if one.answer is None))
        near = [cosine(vectors[0], one) for one in vectors[1:]]
        known = [one for one in near if one is not None]
        if not known:
            return Score(error="cannot tell: the vectors have no direction, or not the same length")
        return Score(max(known)) if self.least is None else Score.yes(max(known) >= self.least)


def cosine(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the cosine of two vectors; ``None`` where they have none."""
    length = math.hypot(*one) * math.hypot(*other)
    if len(one) != len(other) or not length > 0:
        return None
    return sum(a * b for a, b in zip(one, other, strict=True)) / length
