"""Decide whether an application is live and healthy at the expected revision, will never be, or may still become so.

One pure function, :func:`decide`: what was observed, what is expected, what is remembered, and the time, to a verdict
and a new memory. The rules stand in :data:`~airflow_pipeops.gitops.rules.RULES` in the order in which they apply; the
first that speaks decides. Green needs all of: the controller has *compared* an acceptable revision and finds it
*applied*, nothing is in flight, the comparison began after the last operation ended (in whole seconds of the server's
clock, so equal is not after), and the health has held for the settle window.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from airflow_pipeops.gitops.expectation import Expectation, Memory, Verdict
from airflow_pipeops.gitops.look import Look
from airflow_pipeops.gitops.observed import Observed, Trouble, is_sha
from airflow_pipeops.gitops.rules import RULES, details_of, seconds

__all__ = ["Expectation", "Memory", "Verdict", "decide", "questions"]

_REFRESH_FIRST, _REFRESH_MOST = 2.0, 120.0


def decide(
    observed: Observed | Trouble, expectation: Expectation, memory: Memory, now: float
) -> tuple[Verdict, Memory]:
    """Judge one look.

    :param observed: what was seen, or why nothing could be seen.
    :param expectation: what must come true.
    :param memory: what the last call returned; ``Memory()`` at first.
    :param now: seconds on any clock that does not jump; a step back counts as no time at all.
    :return: the verdict, and the memory for the next call.
    """
    now = max(now, memory.now) if math.isfinite(now) else memory.now
    started = now if memory.started_at is None else memory.started_at
    memory = replace(memory, now=now, started_at=started)
    if isinstance(observed, Trouble):
        verdict, memory = _troubled(observed, expectation, memory)
        details: dict[str, Any] = {"trouble": observed.kind, "message": observed.message}
    else:
        memory = replace(memory, acknowledged=memory.acknowledged + observed.refreshed)
        memory = _remember(Look(observed, expectation, memory))
        look = Look(observed, expectation, memory)
        verdict = next(filter(None, (rule(look) for rule in RULES)))
        details = details_of(look)
    same = verdict.rule == memory.rule
    memory = replace(
        memory, rule=verdict.rule, rule_since=memory.rule_since if same else now, reason=verdict.reason
    )
    details["rule_held"] = round(now - memory.rule_since, 3)
    if verdict.state == "wait" and expectation.timeout is not None and now - started >= expectation.timeout:
        waited = f"waited {seconds(now - started)}, for the last {seconds(now - memory.rule_since)} because "
        details["last_rule"] = verdict.rule
        verdict = Verdict("failed", "deadline", waited + verdict.reason)
    elif verdict.refresh:
        verdict, memory = _ask(verdict, memory)
    return replace(verdict, details={**details, **verdict.details}), memory


def questions(observed: Observed, expectation: Expectation) -> list[tuple[str, str]]:
    """Return the pairs (expected, revision) that :attr:`Expectation.contained` does not answer yet."""
    if expectation.match != "contains" or not expectation.oracle:
        return []
    look = Look(observed, expectation, Memory())
    asked: dict[tuple[str, str], None] = {}
    for index, wanted in look.wanted.items():
        seen = [
            observed.desired,
            look.operation.at if look.operation else (),
            tuple(s.target for s in observed.sources),
        ]
        for revision in (revisions[index] for revisions in seen if index < len(revisions)):
            if (
                is_sha(revision)
                and revision != wanted
                and f"{wanted}..{revision}" not in expectation.contained
            ):
                asked[wanted, revision] = None
    return list(asked)


def _remember(look: Look) -> Memory:
    observed, memory = look.o, look.m
    active = [f"health:{look.state}"] if look.fresh else []
    if observed.condition("ComparisonError", "UnknownError"):
        active.append("comparison")
    if look.e.operation_id and not look.ours:
        active.append("invisible")
    since = {name: memory.since.get(name, memory.now) for name in active}
    ended = look.operation.finished_at if look.operation else None
    asks = 0 if ended != memory.finished_at else memory.asks
    lost = memory.lost_after
    if look.desired_ok:
        lost = None
    elif memory.met and lost is None:
        lost = memory.acknowledged
    return replace(
        memory,
        uid=memory.uid or observed.uid,
        looked=True,
        first_compared_at=memory.first_compared_at if memory.looked else observed.compared_at,
        first_operation_at=memory.first_operation_at
        if memory.looked
        else (observed.operation.started_at if observed.operation else None),
        finished_at=ended,
        lost_after=lost,
        met=memory.met or (look.desired_ok and bool(look.wanted)),
        own_seen=memory.own_seen or look.ours,
        asks=asks,
        troubles=0,
        since=since,
    )


def _ask(verdict: Verdict, memory: Memory) -> tuple[Verdict, Memory]:
    """Ask for a refresh at most every 2, 4, 8, ... 120 seconds: each costs the controller a comparison."""
    pause = (
        min(_REFRESH_FIRST * 2.0 ** min(memory.asks, 10), _REFRESH_MOST)
        if memory.asked_at is not None
        else 0.0
    )
    if memory.asked_at is not None and memory.now - memory.asked_at < pause:
        return replace(verdict, refresh=False), memory
    return verdict, replace(memory, asks=memory.asks + 1, asked_at=memory.now)


def _troubled(trouble: Trouble, e: Expectation, memory: Memory) -> tuple[Verdict, Memory]:
    message = trouble.message or trouble.kind
    if trouble.kind in ("denied", "missing"):
        memory = replace(memory, troubles=memory.troubles + 1, since={})
        rule = (
            "access_denied"
            if trouble.kind == "denied"
            else "app_deleted"
            if memory.looked
            else "app_not_found"
        )
        # Once may be a hiccup of a proxy or of an API server that has just started; twice is an answer.
        return Verdict("failed" if memory.troubles >= 2 else "wait", rule, message), memory
    since = memory.since.get("unreachable", memory.now)
    memory = replace(memory, troubles=0, since={"unreachable": since})
    lasted = memory.now - since
    state = "failed" if lasted >= e.transport_grace else "wait"
    return Verdict(state, "unreachable", f"no usable answer for {seconds(lasted)}: {message}"), memory
