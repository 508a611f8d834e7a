"""Scorers that look at the text of an answer, and ask nobody."""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from airflow_pipeops.base.arguments import function, mapping, one_of
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.dataset import Item
from airflow_pipeops.llm.evaluation.scorers.base import Case, Score, Scorer, Tools
from airflow_pipeops.llm.evaluation.scorers.referee import TooSlow

#: How two texts are compared.
Compare = Literal["exact", "folded"]
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)


def fenced(text: str) -> str:
    """Return the content of the last fenced block of an answer, or the whole of one that has none."""
    blocks = _FENCE.findall(text)
    return blocks[-1] if blocks else text


def same_form(text: str, how: Compare) -> str:
    """Write a text as it is compared.

    :param text: of an answer, or expected.
    :param how: ``exact``: in NFC, without white space around it; ``folded``: without case, outer punctuation and runs of
        white space, too.
    :return: it. What is all punctuation keeps it: nothing would be left that an answer could fail to be.
    """
    found = unicodedata.normalize("NFC", text)
    if how == "exact":
        return found.strip()
    folded = " ".join(found.casefold().split())
    return folded.strip(" .,;:!?\"'`*") or folded


def _needs_text(items: tuple[Item, ...], name: str) -> None:
    for item in items:
        wanted = item.expected if isinstance(item.expected, list) else [item.expected]
        if not wanted or not all(isinstance(one, (str, int, float)) for one in wanted):
            raise InvalidInput(
                f"item {item.id!r} has no expected text, which the scorer {name!r} compares with",
                field="dataset",
                value=item.id,
                remedy="Give it in 'expected': a text, or a list of texts of which one is enough.",
            )


def _wanted(item: Item) -> list[str]:
    return [str(one) for one in (item.expected if isinstance(item.expected, list) else [item.expected])]


@dataclass(frozen=True)
class Exact(Scorer):
    """Whether an answer is what is expected; of a list of texts, one is enough.

    :param compare: ``exact``, but for white space around it; ``folded`` also without case and outer punctuation.
    """

    compare: Compare = "folded"
    kind: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("compare", self.compare, get_args(Compare))

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse an item without an expected text."""
        _needs_text(items, self.name)

    async def score(self, case: Case, tools: Tools) -> Score:
        """Compare."""
        found = same_form(case.text, self.compare)
        return Score.yes(any(found == same_form(one, self.compare) for one in _wanted(case.item)))


@dataclass(frozen=True)
class Contains(Exact):
    """Whether an answer contains what is expected, as whole words; of a list of texts, one is enough."""

    kind: ClassVar[str] = "contains"

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse an item without an expected text, and one whose text is empty."""
        super().check(items)
        for item in items:
            if not all(one.strip() for one in _wanted(item)):
                raise InvalidInput(
                    f"item {item.id!r} expects an empty text, which stands everywhere",
                    field="dataset",
                    value=item.id,
                    remedy="Give the words that a good answer contains.",
                )

    async def score(self, case: Case, tools: Tools) -> Score:
        """Look for it."""
        found = same_form(case.text, self.compare)
        for one in _wanted(case.item):
            wanted = re.escape(same_form(one, self.compare))
            if re.search(rf"(?<!\w){wanted}(?!\w)", found):
                return Score.yes(True)
        return Score.yes(False)


@dataclass(frozen=True)
class Matches(Scorer):
    """Whether a regular expression is found in an answer; it has five seconds, in a process of its own.

    :param pattern: the expression; by default the item's ``expected``.
    :param wanted: whether it should be found, or must not be.
    """

    pattern: str = ""
    wanted: bool = True
    kind: ClassVar[str] = "regex"

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse an expression that is none."""
        for pattern, where in (
            [(self.pattern, "")] if self.pattern else [(one.expected, one.id) for one in items]
        ):
            try:
                re.compile(pattern)
            except (re.error, TypeError, RecursionError) as error:
                raise InvalidInput(
                    f"{pattern!r}{f' of item {where!r}' * bool(where)} is no regular expression: {error}",
                    field="pattern",
                    value=pattern,
                    remedy="Correct it.",
                ) from error

    async def score(self, case: Case, tools: Tools) -> Score:
        """Look for it."""
        pattern = self.pattern or case.item.expected
        found = await _judged(tools, {"do": "regex", "pattern": pattern, "text": case.text})
        return found if found.value is None else Score.yes((found.value == 1.0) == self.wanted)


@dataclass(frozen=True)
class Schema(Scorer):
    """Whether an answer, or the fenced block in it, is JSON that a schema allows.

    :param schema: JSON Schema; by default the item's ``expected``. It refers to nothing outside itself.
    """

    schema: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "json_schema"

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse what is no schema."""
        import jsonschema

        for schema in [self.schema] if self.schema else [item.expected for item in items]:
            given = mapping(
                "schema", schema, "Give a JSON Schema, to the scorer or in each item's 'expected'."
            )
            try:
                jsonschema.validators.validator_for(given, jsonschema.Draft202012Validator).check_schema(
                    given
                )
            except jsonschema.SchemaError as error:
                raise InvalidInput(
                    f"the schema is no JSON Schema: {error.message}", field="schema", remedy="Correct it."
                ) from error
            if remote := [one for one in _references(given) if not one.startswith("#")]:
                raise InvalidInput(
                    f"the schema refers to {remote[0]!r}: nothing is fetched",
                    field="schema",
                    value=remote[0],
                    remedy="Put it into '$defs'.",
                )

    async def score(self, case: Case, tools: Tools) -> Score:
        """Hold the answer against the schema."""
        schema = self.schema or case.item.expected
        return await _judged(tools, {"do": "schema", "schema": schema, "text": fenced(case.text)})


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [one for name, one in value.items() if name in ("$ref", "$dynamicRef") and isinstance(one, str)]
        return own + [one for item in value.values() for one in _references(item)]
    return [one for item in value for one in _references(item)] if isinstance(value, (list, tuple)) else []


async def _judged(tools: Tools, question: dict[str, Any]) -> Score:
    try:
        found = await asyncio.to_thread(tools.referee.judge, question)
    except TooSlow as error:
        return Score(error=f"cannot tell: {error}")
    if "error" in found:
        return Score(error=f"cannot tell: {found['error']}")
    return Score(1.0 if found["passed"] else 0.0, found.get("label") or None)


@dataclass(frozen=True)
class Numeric(Scorer):
    """Whether the last number of an answer is what is expected, within a tolerance.

    :param absolute: how far it may be off.
    :param relative: how far it may be off, as a share of what is expected; the larger of both counts.
    """

    absolute: float = 1e-9
    relative: float = 0.0
    kind: ClassVar[str] = "numeric"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise InvalidInput(f"{name} is {value!r}", field=name, value=value, remedy="Give 0 or more.")

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse an item without an expected number."""
        for item in items:
            if number(item.expected) is None:
                raise InvalidInput(
                    f"item {item.id!r} has no expected number, which the scorer {self.name!r} compares with",
                    field="dataset",
                    value=item.id,
                    remedy="Give a finite number in 'expected'.",
                )

    async def score(self, case: Case, tools: Tools) -> Score:
        """Compare; an answer without a number is wrong."""
        found, wanted = number(case.text), number(case.item.expected)
        if found is None or wanted is None:
            return Score(0.0, "no number")
        return Score.yes(abs(found - wanted) <= max(self.absolute, self.relative * abs(wanted)))


def number(value: Any) -> float | None:
    """Return a number, or the last one in a text; ``None`` where there is none that is finite."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = _NUMBER.findall(value.replace("\u2212", "-"))
        value = float(found[-1].replace(",", "")) if found else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


@dataclass(frozen=True)
class Function(Scorer):
    """What a function of yours says: ``function(answer, item)`` returns a number, a truth value, or ``None``.

    ``item`` is a mapping with ``id``, ``inputs``, ``expected``, ``cluster`` and ``tags``. It runs in the task itself.

    :param function: as ``package.module:name``.
    """

    function: str = ""
    kind: ClassVar[str] = "function"

    def check(self, items: tuple[Item, ...]) -> None:
        """Refuse a function that cannot be imported."""
        function(self.function, "function")

    async def score(self, case: Case, tools: Tools) -> Score:
        """Call it."""
        item = case.item
        given = {
            "id": item.id,
            "inputs": dict(item.inputs),
            "expected": item.expected,
            "cluster": item.cluster,
            "tags": dict(item.tags),
        }
        try:
            found = await asyncio.to_thread(function(self.function, "function"), case.text, given)
        except Exception as error:  # of somebody else's code; what it says may quote the answer
            return Score(error=f"{self.function} failed: {type(error).__name__}")
        if found is None:
            return Score(error=f"{self.function} cannot tell")
        if isinstance(found, (bool, int, float)) and math.isfinite(found):
            return Score(float(found))
        return Score(error=f"{self.function} returned no number, but {type(found).__name__}")
