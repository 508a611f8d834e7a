"""What the sync windows of an application say: whether it may be synchronised now, and when that changes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_MOST = 5


def window_lines(windows: Mapping[str, Any] | None, now: float) -> list[str]:
    """Return what a person should know; nothing where no window is assigned.

    :param windows: the answer of ``/syncwindows``.
    :param now: seconds since the epoch.
    """
    assigned = [item for item in (windows or {}).get("assignedWindows") or () if isinstance(item, Mapping)]
    if windows is None or not assigned:
        return []
    lines = [f"  sync windows: a synchronisation is {'' if windows.get('canSync') else 'not '}allowed now"]
    return lines + [f"    {_described(item, now)}" for item in assigned[:_MOST]]


def next_change(schedule: str, duration: str, now: float) -> tuple[bool, float] | None:
    """Return whether a window is open, and when it closes or opens next; ``None`` where that cannot be told.

    :param schedule: cron expression; UTC, since the server does not tell the window's time zone.
    :param duration: as Go writes it, such as ``1h30m``.
    """
    length = _seconds(duration)
    try:
        from croniter import croniter

        moment = datetime.fromtimestamp(now, timezone.utc)
        begun = croniter(schedule, moment + timedelta(seconds=1)).get_prev(datetime)
        if begun.timestamp() + length > now:
            return True, begun.timestamp() + length
        return False, croniter(schedule, moment).get_next(datetime).timestamp()
    except (ImportError, ValueError, KeyError, OverflowError, AttributeError):
        return None


def _described(window: Mapping[str, Any], now: float) -> str:
    schedule, duration = str(window.get("schedule") or "?"), str(window.get("duration") or "?")
    text = f"{window.get('kind', '?')} {schedule} for {duration}"
    change = next_change(schedule, duration, now)
    if change is not None:
        is_open, at = change
        when = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        text += f", open until {when}" if is_open else f", opens next at {when}"
    return text + (", by hand allowed" if window.get("manualSync") else "")


def _seconds(duration: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
