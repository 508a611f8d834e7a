"""What a service is told by its environment: read once, in one form of words."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_pipeops.exceptions import InvalidInput


def whole(
    environment: Mapping[str, str], variable: str, default: int, *, low: int = 1, high: int = 2**31
) -> int:
    """Read a whole number.

    :param default: where the variable is empty, or not there.
    :return: the number.
    :raises InvalidInput: for anything else, and for a number below or above these.
    """
    text = environment.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidInput(
            f"{variable} is {text!r}, not a whole number from {low} to {high}",
            field=variable,
            value=text,
            remedy="Give such a number, or leave the variable out.",
        )
    return int(text)


def names(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(item.strip() for item in environment.get(variable, "").split(",") if item.strip())
