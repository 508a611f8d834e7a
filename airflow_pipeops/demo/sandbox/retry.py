"""When a failed operation is tried again. Pure, but for the present moment."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.demo.sandbox.wire import parse_time

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(value: Any, default: float) -> float:
    """Return the seconds of a Go duration (``1m30s``) or a number of seconds; ``default`` where it is neither."""
    text = str(value or "")
    if text.isdigit():
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return default
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def wants_retry(state: dict[str, Any]) -> bool:
    """Say whether the operation has an attempt left; a negative limit means for ever."""
    limit = (state["operation"].get("retry") or {}).get("limit", 0)
    limit = int(limit) if str(limit).lstrip("-").isdigit() else 0
    return limit < 0 or int(state.get("retryCount", 0)) < limit


def retry_at(state: dict[str, Any]) -> datetime:
    """Return when the next attempt begins: 5 s after the first, doubling, 3 minutes at most, by default."""
    backoff = (state["operation"].get("retry") or {}).get("backoff") or {}
    first, most = duration(backoff.get("duration"), 5), duration(backoff.get("maxDuration"), 180)
    factor = float(backoff.get("factor") or 2)
    done = max(0, int(state.get("retryCount", 1)) - 1)
    return parse_time(state["finishedAt"]) + timedelta(seconds=min(first * factor**done, most))


def seconds_until(moment: datetime) -> float:
    """Return how far away a moment is; negative where it has passed."""
    return (moment - datetime.now(timezone.utc)).total_seconds()
