"""What can be measured of an answer without asking anybody: one row for each call, which drift compares as any table.

Rates are texts, ``yes`` and ``no``, so that they are compared as the categories they are. The language is guessed by
py3langid where the extra ``text`` is installed; else the script is told that most letters are of.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns, mapping
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

#: What is compared as a category with two values.
RATES = ("refused", "empty", "truncated", "repetitive", "schema_failed", "failed")
#: Those that are always a fault, whoever asked what.
HARD = ("failed", "empty", "schema_failed")
NUMBERS = ("input_length", "answer_length", "tokens_in", "tokens_out", "latency", "cost")
TEXTS = ("input_language", "answer_language", "finish_reason")
COLUMNS = (*NUMBERS, *TEXTS, *RATES)

#: From this share of repeated word groups on, an answer goes round in circles.
_REPETITIVE = 0.5
_LOOKED_AT = 4000
_GUESSED_FROM = 500

#: How models decline, in the first sentences of an answer. A rule of words: it sees usual refusals of six languages.
_REFUSAL = re.compile(
    r"(?i)\b(?:I(?:['’]m| am) (?:sorry|unable|not able)|I (?:can(?:no|['’])t|won['’]t|must decline)|as an AI\b"
    r"|(?:es )?tut mir leid|ich kann (?:das |dir |ihnen |dabei )?(?:leider )?nicht|je suis désolée?|je ne peux pas"
    r"|lo siento|no puedo|mi dispiace|non posso|desculpe|não posso|het spijt me|ik kan (?:dat |u |je )?niet)"
)


def measure(frame: pd.DataFrame, output_schema: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Measure calls.

    :param frame: as :func:`~airflow_pipeops.llm.production.store.calls` gives it.
    :param output_schema: JSON Schema of an answer; without it, nothing is said of schemas.
    :return: the columns :data:`COLUMNS`, a row for each call. Of a call that failed, the answer is not measured.
    :raises InvalidInput: for a table of something else, or a schema that is none.
    """
    import pandas as pd

    has_columns("calls", frame.columns, ("input", "answer", "finish_reason", "error", "latency", "cost"))
    fits = _checker(output_schema) if output_schema else None
    language = _language()
    rows = []
    for one in frame.itertuples(index=False):
        answer, asked, failed = one.answer or "", one.input or "", bool(one.error)
        said = not failed and bool(answer.strip())
        rows.append(
            {
                "input_length": len(asked),
                "answer_length": len(answer) if not failed else None,
                "tokens_in": one.tokens_in,
                "tokens_out": one.tokens_out,
                "latency": one.latency,
                "cost": one.cost,
                "input_language": language(asked),
                "answer_language": language(answer) if said else "",
                "finish_reason": one.finish_reason or "",
                "refused": _yes(said and refused(answer, one.finish_reason or "")),
                "empty": _yes(not failed and not said and one.finish_reason != "tool_calls"),
                "truncated": _yes(one.finish_reason in ("length", "max_tokens")),
                "repetitive": _yes(said and repetition(answer) >= _REPETITIVE),
                "schema_failed": _yes(bool(fits) and not failed and not fits(answer)) if fits else None,
                "failed": _yes(failed),
            }
        )
    numbers = dict.fromkeys(NUMBERS, float)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(numbers)


def hard(measured: pd.DataFrame) -> pd.Series[bool]:
    """Tell which calls have failed in a way that is nobody's taste.

    :param measured: what :func:`measure` gave.
    :return: whether there is an error, no answer, or one against its schema.
    """
    found: pd.Series[bool] = (measured[list(HARD)] == "yes").any(axis=1)
    return found


def refused(answer: str, finish_reason: str = "") -> bool:
    """Tell whether an answer declines, by its first words or by what the endpoint says."""
    return finish_reason in ("content_filter", "refusal") or bool(_REFUSAL.search(answer[:300]))


def repetition(answer: str) -> float:
    """Return the share of groups of four words that have come before; of short answers 0."""
    words = answer[:_LOOKED_AT].lower().split()
    groups = Counter(zip(*(words[skip:] for skip in range(4)), strict=False))
    total = sum(groups.values())
    return 1 - len(groups) / total if total >= 12 else 0.0


def script(text: str) -> str:
    """Return the script that most letters of a text are of, such as ``LATIN``; empty without letters."""
    counted = Counter(_script_of(letter) for letter in text[:_GUESSED_FROM] if letter.isalpha())
    return max(sorted(counted), key=lambda name: counted[name]) if counted else ""


@lru_cache(4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "OTHER").partition(" ")[0]


@lru_cache(1)
def _language() -> Any:
    """Return what guesses the language of a text; its model takes a second to load."""
    from airflow_pipeops.drift.text import DESCRIPTORS
    from airflow_pipeops.exceptions import MissingExtra

    try:
        guess = DESCRIPTORS["language"]()
    except MissingExtra:
        return script
    known = lru_cache(8192)(guess)
    return lambda text: known(text[:_GUESSED_FROM]) if text.strip() else ""


def _checker(output_schema: Mapping[str, Any]) -> Any:
    """Return what tells whether an answer is JSON of a schema; a fence of Markdown around it is no fault."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    known = mapping("output_schema", output_schema, "Give a JSON Schema.")
    kind = validator_for(known)
    try:
        kind.check_schema(known)
    except SchemaError as error:
        raise InvalidInput(
            f"output_schema is no JSON Schema: {error.message[:200]}",
            field="output_schema",
            remedy="Check it with a validator.",
        ) from error
    validator = kind(known)

    def fits(answer: str) -> bool:
        bare = re.sub(r"^\s*```(?:json)?\s*\n|\n```\s*$", "", answer)
        try:
            return bool(validator.is_valid(json.loads(bare)))
        except (ValueError, RecursionError):
            return False

    return fits


def _yes(value: bool) -> str:
    return "yes" if value else "no"
