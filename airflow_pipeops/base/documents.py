"""What others wrote in JSON: nothing of it need be there, or be of the type that is expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

Json = Mapping[str, Any]


def parsed(content: str | bytes, limit: int | None = None) -> Any:
    """Read a JSON text.

    :param content: the text, or its bytes.
    :param limit: characters, or bytes; a longer one is not read.
    :return: whatever JSON can hold.
    :raises ValueError: if it is too long, no JSON, or nested too deeply.
    """
    if limit is not None and len(content) > limit:
        raise ValueError(f"a text of {len(content):,} characters is longer than {limit:,}")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def map_(value: Any) -> Json:
    """Return an object; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def maps(value: Any) -> list[Json]:
    """Return the objects of a list, without anything else that is in it."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []


def text(value: Any, limit: int | None = None) -> str:
    """Read a text.

    :param limit: characters; the text is cut after them.
    :return: the text; an empty one in place of anything else.
    """
    return value[:limit] if isinstance(value, str) else ""


def whole(value: Any) -> int | None:
    """Return a whole number; none in place of anything else, a truth value included."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> float | None:
    """Return a finite number; none in place of anything else, a truth value and what no float can hold included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def time_of(value: Any) -> datetime | None:
    """Return an ISO-8601 time; one without a zone is in UTC; none in place of anything else."""
    try:
        found = datetime.fromisoformat(text(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
