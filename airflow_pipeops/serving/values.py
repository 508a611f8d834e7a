"""Which values a model takes, wherever they come from: a request or a record, in JSON. Standard library only."""

from __future__ import annotations

import math
from typing import Any

_INT64 = 2**63


def value_of(datatype: str, value: Any) -> Any:
    """Read one value of a feature.

    :param datatype: of the feature: ``BYTES``, ``INT64`` or ``FP64``.
    :param value: as JSON has it.
    :return: the value as the model takes it; ``null`` for a number of ``FP64`` is NaN.
    :raises ValueError: for one that is none of this datatype.
    """
    if datatype == "BYTES" and is_text(value):
        return value
    if datatype == "INT64" and type(value) is int and -_INT64 <= value < _INT64:
        return value
    if datatype == "FP64":
        if value is None:
            return math.nan
        if type(value) in (int, float):
            try:
                number = float(value)
            except OverflowError:  # JSON has whole numbers of any length
                number = math.inf
            if math.isfinite(number):
                return number
    raise ValueError(f"no {datatype}")


def is_text(value: Any) -> bool:
    """Whether it is a text that can be written: JSON can escape halves of characters, which no file and no answer holds."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
