"""How a rule speaks (three states, a policy between them, the words of several rules), and the rules of all controllers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from airflow_pipeops.waits.expectation import Policy, Verdict
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed, Operation, Resource

#: Speaks of a look of its controller, or leaves the word to the next rule.
Rule = Callable[[Any], Verdict | None]


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


def seconds(value: float) -> str:
    """Return a duration as people say it."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def names(items: Iterable[object], nothing: str) -> str:
    """Return at most five of these."""
    return ", ".join(str(item) for item in list(items)[:5]) or nothing


def deleting(look: Look) -> Verdict | None:
    """It is being deleted."""
    if not look.observed.deleting:
        return None
    condition = look.observed.condition("DeletionError")
    return fail(
        "deleting",
        f"{look.observed.called} is being deleted" + (f": {condition.message}" if condition else ""),
    )


def recreated(look: Look) -> Verdict | None:
    """It is another one of the same name."""
    if not look.observed.uid or look.observed.uid == look.memory.uid:
        return None
    return fail(
        "recreated",
        f"{look.observed.called} was deleted and created again during the wait; start the wait anew",
    )
