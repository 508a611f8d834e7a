"""How a rule speaks: the three states, a policy between them, and the words that several rules use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from airflow_pipeops.waits.expectation import Policy, Verdict
from airflow_pipeops.waits.status import Observed, Operation, Resource

#: Speaks of a look of its controller, or leaves the word to the next rule.
Rule = Callable[[Any], Verdict | None]


#: What differs between two traces of the same error.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


def wait(rule: str, reason: str, *, refresh: bool = False) -> Verdict:
    """It may still come true.

    :param refresh: another comparison would tell more.
    :return: the verdict.
    """
    return Verdict("wait", rule, reason, refresh=refresh)


def fail(rule: str, reason: str) -> Verdict:
    """It will not come true by itself."""
    return Verdict("failed", rule, reason)


def by(policy: Policy, rule: str, reason: str, *, refresh: bool = False) -> Verdict | None:
    """Apply a policy; ``None`` for ``accept``: the next rules decide."""
    if policy == "accept":
        return None
    return fail(rule, reason) if policy == "fail" else wait(rule, reason, refresh=refresh)


def first_failure(operation: Operation) -> str:
    """Return the first resource or hook of an operation that failed, and what it says."""
    for item in operation.resources:
        if item.sync == "SyncFailed" or item.phase in ("Failed", "Error"):
            hook = f" {item.hook} hook" if item.hook else ""
            return f"{item}{hook} failed: {item.message}"
    return ""


def unhealthy(observed: Observed) -> str:
    """Return which resources are not healthy, worst first, at most five."""
    found: list[Resource] = [item for item in observed.resources if item.health not in ("", "Healthy")]
    found.sort(key=lambda item: item.health not in ("Degraded", "Missing"))
    listed = [
        f"{item} {item.health}{': ' + item.message[:200] if item.message else ''}" for item in found[:5]
    ]
    return "; ".join(listed) or "no resource says why"


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


def seconds(value: float) -> str:
    """Return a duration as people say it."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def names(items: Iterable[object], nothing: str) -> str:
    """Return at most five of these."""
    return ", ".join(str(item) for item in list(items)[:5]) or nothing
