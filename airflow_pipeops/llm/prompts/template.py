"""The language of templates: named variables in double braces, and nothing else. Pure.

``{{ name }}`` stands for a value. Nothing is executed, a value is never read as a template, and MLflow's and Langfuse's own
clients fill in the same names in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.exceptions import InvalidInput

_VARIABLE = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")
#: What other readers of the same text would execute or replace: Jinja's tags, and references between Langfuse's prompts.
_FOREIGN = ("{%", "{#", "@@@langfusePrompt:")


def variables(text: str, field: str) -> tuple[str, ...]:
    """Name the variables of a template.

    :param text: the template.
    :param field: what the reader calls it.
    :return: each name once, in the order in which they come.
    :raises InvalidInput: for double braces around anything else, and for what another reader would execute.
    """
    for foreign in _FOREIGN:
        if (place := text.find(foreign)) >= 0:
            raise InvalidInput(
                f"line {_line(text, place)} of {field} has {foreign!r}, which other readers of the prompt would execute",
                field=field,
                value=foreign,
                remedy="A template has variables in double braces and no logic: decide in the application.",
            )
    if (place := _VARIABLE.sub(lambda found: "." * len(found[0]), text).find("{{")) >= 0:
        raise InvalidInput(
            f"line {_line(text, place)} of {field} opens double braces around no variable: {text[place : place + 30]!r}",
            field=field,
            value=text[place : place + 30],
            remedy="Write {{name}} with letters, digits and '_'; put a space between two braces that are meant as such.",
        )
    return tuple(dict.fromkeys(_VARIABLE.findall(text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of the variables, in one pass: braces within a value stay as they are.

    :param text: a template whose :func:`variables` all have a value.
    :param values: name -> text.
    :return: the text.
    """
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def fixed(text: str) -> str:
    """Return what of a template is the same for all values: a mark in place of each variable."""
    return _VARIABLE.sub(" \0 ", text)


def written(value: Any) -> str:
    """Write a value as the prompt shows it: a text as it is, anything else as compact JSON with its names in order."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
