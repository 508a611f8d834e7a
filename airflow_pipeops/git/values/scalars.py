"""Write one scalar so that every YAML reader reads the same value. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from airflow_pipeops.exceptions import InvalidInput

Scalar = str | int | float | bool

#: What YAML 1.1 or YAML 1.2 reads as something else than a string. Both are out there: Kubernetes reads 1.1.
_OTHER_TYPE = re.compile(
    r"""
    (?i:y|n|yes|no|on|off|true|false|null|~|=|<<)
    | [-+]?[0-9][0-9_]*
    | [-+]?0(?i:x)[0-9a-fA-F_]+ | [-+]?0(?i:o)[0-7_]+ | [-+]?0(?i:b)[01_]+
    | [-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?
    | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?
    | [-+]?\.(?i:inf) | \.(?i:nan)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\s].*)?
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(r"[A-Za-z0-9_/.](?:[A-Za-z0-9_/.@:+= -]*[A-Za-z0-9_/.@+=-])?")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def check(path: str, value: Any) -> Scalar:
    """Refuse a value that cannot be written.

    :return: the value.
    :raises InvalidInput: if it is not a string, a whole number, a finite number or a boolean.
    """
    problem = ""
    if not isinstance(value, (str, int, float, bool)):
        problem = f"is a {type(value).__name__}"
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"is {value}"
    elif isinstance(value, str) and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        problem = "is not valid Unicode"
    if problem:
        raise InvalidInput(
            f"the value for {path!r} {problem}",
            field=path,
            value=value,
            remedy="Give a string, a number or a boolean; an empty result of an earlier task is often the cause.",
        )
    return value  # type: ignore[no-any-return]


def plain_is_safe(value: str) -> bool:
    """Whether a string, written without quotes, is read as this very string by every reader."""
    return (
        _PLAIN.fullmatch(value) is not None
        and _OTHER_TYPE.fullmatch(value) is None
        and ": " not in value
        and not value.startswith("...")
    )


def render(value: Scalar, style: str | None) -> str:
    """Write a value as YAML.

    :param value: the value; its Python type decides the type that is written.
    :param style: ``None`` to leave out quotes where that is safe, else the quote to prefer, ``'`` or ``"``.
    :return: the text of one value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        mantissa, mark, exponent = repr(value).partition("e")
        return (mantissa if "." in mantissa else f"{mantissa}.0") + mark + exponent
    if style is None and plain_is_safe(value):
        return value
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return '"' + "".join(_escape(character) for character in value) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)  # never \\x: JSON does not know it
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
