"""The text of a failed wait, as logs and alerts show it: the decisive line at both ends, repeated traces folded. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from airflow_pipeops.redaction import redacted

#: Bytes; longer texts are cut, since they travel through logs and notifications.
LIMIT = 8 * 1024
_CUT = "  ... (cut)"
#: What differs between two traces of the same error.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


def decisive_last(message: str) -> str:
    """Repeat the first line of a long message at its end, which is what the end of a log and an alert show.

    :param message: its first line says what failed, and why.
    :return: the message.
    """
    first, *rest = message.split("\n")
    return "\n".join([first, *(line for line in rest if line != first), first]) if rest else message


def folded(lines: Sequence[str]) -> list[str]:
    """Fold the stack traces of a log that say the same: a crash loop repeats one until nothing else is seen.

    A trace is a line with the indented ones below it; in Python, from ``Traceback`` to the error. Two are the same whatever
    numbers, addresses and times are in them. The last one is kept, since what follows it belongs to it.

    :param lines: of the log, in order.
    :return: the lines, with how often a trace was there.
    """
    entries: list[list[str]] = []
    in_traceback = False
    for line in lines:
        continues = bool(entries) and (line[:1].isspace() or in_traceback or not line)
        in_traceback = "Traceback (most recent call last)" in line or (in_traceback and line[:1].isspace())
        if continues:
            entries[-1].append(line)
        else:
            entries.append([line])
    keys = [_VARYING.sub("0", "\n".join(entry).strip()) if len(entry) > 1 else "" for entry in entries]
    found: list[str] = []
    for number, (key, entry) in enumerate(zip(keys, entries, strict=True)):
        if key and key in keys[number + 1 :]:
            continue
        times = keys.count(key) if key else 1
        found += [*entry, *([f"(this trace: {times} times)"] if times > 1 else [])]
    return found


def capped(lines: Sequence[str]) -> str:
    """Join lines without secrets, each and all of them of bounded length; the first ones and the last are always there."""
    *body, last = [redacted(line.rstrip())[:1000] for line in lines]
    room, kept = LIMIT - len(last.encode()) - len(_CUT) - 2, []
    for line in body:
        room -= len(line.encode()) + 1
        if room < 0:
            kept.append(_CUT)
            break
        kept.append(line)
    return "\n".join([*kept, last])
