"""What a controller adds to the judgement of a wait: its rules, and what they need to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.waits.expectation import Expectation, Memory
from airflow_pipeops.waits.rules import Rule
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed


def _nothing_lasts(_: Look) -> list[str]:
    return []


def _no_attempts(_: Look) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Rulebook:
    """How looks at what one controller says are judged. All of it is pure.

    :param rules: in the order in which they apply; the first that speaks decides, and the last one always speaks.
    :param details: the facts behind a verdict, as JSON of bounded size.
    :param certain: failures that no further comparison can take back. All others are confirmed by an acknowledged refresh
        first.
    :param confirms: whether this controller compares anew when it is asked to, so that a failure can be confirmed; one that
        says of which spec and revision it speaks needs no confirmation.
    :param lasting: names what is so now and may become decisive by lasting.
    :param attempts: the failed attempts at what is expected, and when each was first seen, where a controller tries for
        ever.
    :param look: makes the look that all of these are asked about; a controller that has more to it has one of its own.
    """

    rules: tuple[Rule, ...]
    details: Callable[[Any], dict[str, Any]]
    certain: frozenset[str] = frozenset()
    confirms: bool = True
    lasting: Callable[[Any], list[str]] = _nothing_lasts
    attempts: Callable[[Any], Mapping[str, float]] = _no_attempts
    look: Callable[[Observed, Expectation, Memory], Look] = Look


def facts_of(look: Look) -> dict[str, Any]:
    """Return the facts behind a verdict that every controller has."""
    observed = look.observed
    op = observed.operation
    operation = None
    if op is not None:
        operation = {
            "phase": op.phase,
            "message": op.message[:500],
            "retries": op.retries,
            "initiated_by": op.initiated_by,
            "ours": look.ours,
        }
    return {
        "expected": {str(index): revision for index, revision in look.asked.items()},
        "match": "exact" if look.exact_only else look.expectation.match,
        "desired": list(observed.desired),
        "applied": list(observed.applied),
        "sync": observed.sync,
        "health": observed.health,
        "operation": operation,
        "fresh": look.fresh,
    }
