"""Decide whether an application is live and healthy at the expected revision, will never be, or may still become so.

One pure function, :func:`decide`: what was observed, what is expected, what is remembered, and the time, to a verdict
and a new memory. The rules stand in the controller's :class:`~airflow_pipeops.waits.rulebook.Rulebook`, in their order; the
first that speaks decides. Green needs all of: the controller has *compared* an acceptable revision and finds it
*applied*, nothing is in flight, the comparison began after the last operation ended (in whole seconds of the server's
clock, so equal is not after), and the health has held for the settle window. Red that a further comparison could take
back is said only of a look that answers a refresh.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from airflow_pipeops.waits.expectation import Expectation, Memory, State, Verdict
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.rules import seconds, wait
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed, Trouble

__all__ = ["Expectation", "Memory", "Verdict", "decide", "questions"]

_REFRESH_FIRST, _REFRESH_MOST = 2.0, 120.0
_GOOD = ("Healthy", "Suspended")

#: For so long (seconds) a failure waits for the refresh that confirms it; a controller may acknowledge none.
CONFIRM_WITHIN = 60.0


def decide(
    observed: Observed | Trouble,
    expectation: Expectation,
    memory: Memory,
    now: float,
    rulebook: Rulebook,
) -> tuple[Verdict, Memory]:
    """Judge one look.

    :param observed: what was seen, or why nothing could be seen.
    :param expectation: what must come true.
    :param memory: what the last call returned; ``Memory()`` at first.
    :param now: seconds on any clock that does not jump; a step back counts as no time at all.
    :param rulebook: how what this controller says is judged.
    :return: the verdict, and the memory for the next call.
    """
    now = max(now, memory.now) if math.isfinite(now) else memory.now
    started = now if memory.started_at is None else memory.started_at
    memory = replace(memory, now=now, started_at=started)
    details: dict[str, Any]
    if isinstance(observed, Trouble):
        verdict, memory = _troubled(observed, expectation, memory)
        details = {"trouble": observed.kind, "message": observed.message}
    elif expectation.gone:
        verdict = _still_there(observed, memory)
        memory = replace(memory, uid=memory.uid or observed.uid, looked=True, troubles=0, since=_kept(memory))
        details = {"health": observed.health, "finalizers": list(observed.finalizers)}
    else:
        verdict, memory, details = _looked(observed, expectation, memory, rulebook)
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


def questions(
    observed: Observed, expectation: Expectation, memory: Memory | None = None, *, rulebook: Rulebook
) -> list[tuple[str, str]]:
    """Return the pairs (expected, revision) that :attr:`Expectation.contained` does not answer yet.

    :param memory: what is remembered; with a source hydrator, it knows of commits that were rendered earlier.
    :param rulebook: how what this controller says is judged.
    :return: the pairs, none of them twice.
    """
    if expectation.match == "any" or not expectation.oracle or expectation.gone:
        return []
    return list(rulebook.look(observed, expectation, memory or Memory()).asks())


def _looked(
    observed: Observed, expectation: Expectation, memory: Memory, rulebook: Rulebook
) -> tuple[Verdict, Memory, dict[str, Any]]:
    if memory.uid and observed.uid not in ("", memory.uid) and expectation.on_recreated == "restart":
        memory = Memory(now=memory.now, started_at=memory.started_at)
    if _older(observed, memory):
        # Watches, caches and reverse proxies repeat themselves; what was true then is neither held for nor against it.
        verdict = Verdict("wait", "older_look", "an answer that is older than one before it", refresh=True)
        return verdict, memory, rulebook.details(rulebook.look(observed, expectation, memory))
    before = memory.since
    memory = replace(memory, acknowledged=memory.acknowledged + observed.refreshed)
    memory = _remember(rulebook.look(observed, expectation, memory), rulebook)
    look = rulebook.look(observed, expectation, memory)
    verdict = next(filter(None, (rule(look) for rule in rulebook.rules)))
    unsure = (
        verdict.state == "failed" and verdict.rule not in rulebook.certain and expectation.require_refresh
    )
    if rulebook.confirms and unsure and not observed.refreshed:
        verdict, memory = _confirm(verdict, memory, before.get(f"unconfirmed:{verdict.rule}"))
    return verdict, memory, rulebook.details(look)


def _still_there(observed: Observed, memory: Memory) -> Verdict:
    """Judge a look that found an application. That it is missing is judged where looks that failed are."""
    if memory.uid and observed.uid and observed.uid != memory.uid:
        return Verdict("done", "gone", "the application is gone; another one of that name was created since")
    condition = observed.condition("DeletionError")
    if observed.deleting:
        if condition:
            return wait("deletion_error", f"its objects cannot be deleted yet: {condition.message}")
        left = f"; still there: {', '.join(observed.finalizers)}" if observed.finalizers else ""
        return wait("deleting", f"the application is being deleted{left}")
    return wait("not_deleting", "the application is there, and nobody has asked for its deletion")


def _older(observed: Observed, memory: Memory) -> bool:
    seen, newest = observed.compared_at, memory.compared_at
    return (
        seen is not None
        and newest is not None
        and seen < newest
        and not observed.refreshed
        and observed.uid in ("", memory.uid)
        and not observed.deleting
    )


def _confirm(verdict: Verdict, memory: Memory, since: float | None) -> tuple[Verdict, Memory]:
    """Turn a failure into a wait for the refresh that confirms it, for a while.

    :param since: since when it has been waited for.
    """
    if since is None:
        since, memory = memory.now, replace(memory, asks=0, asked_at=None)
    if memory.now - since >= CONFIRM_WITHIN:
        return verdict, memory
    memory = replace(memory, since={**memory.since, f"unconfirmed:{verdict.rule}": since})
    return replace(verdict, state="wait", refresh=True), memory


def _remember(look: Look, rulebook: Rulebook) -> Memory:
    observed, memory = look.observed, look.memory
    since = {name: memory.since.get(name, memory.now) for name in _spells(look, rulebook)}
    if look.fresh and observed.health in _GOOD:
        # The server says since when, in whole seconds; so a difference of two of its times is uncertain by one.
        spell = f"health:{look.state}"
        since[spell] = min(since[spell], memory.now - max(0.0, look.settled_by_server() - 1.0))
    ended = look.operation.finished_at if look.operation else None
    lost = memory.lost_after
    if look.desired_ok:
        lost = None
    elif memory.met and lost is None and look.settled:
        lost = memory.acknowledged
    begun = observed.operation.started_at if observed.operation else None
    spec_after = memory.acknowledged if memory.spec_after is None else memory.spec_after
    return replace(
        look.remember(memory),
        uid=memory.uid or observed.uid,
        looked=True,
        compared_at=memory.compared_at if observed.compared_at is None else observed.compared_at,
        first_compared_at=memory.first_compared_at if memory.looked else observed.compared_at,
        first_operation_at=memory.first_operation_at if memory.looked else begun,
        finished_at=ended,
        lost_after=lost,
        met=memory.met or (look.desired_ok and look.compared and bool(look.wanted)),
        own_seen=memory.own_seen or look.ours,
        asks=0 if ended != memory.finished_at else memory.asks,
        troubles=0,
        since=since,
        spec_after=spec_after if observed.other_spec else None,
        attempts=rulebook.attempts(look),
    )


def _spells(look: Look, rulebook: Rulebook) -> list[str]:
    """What is so now, and is counted for how long it has been without a gap."""
    observed = look.observed
    active = [] if look.ended_at is None else [look.ended]
    # Where the server says since when health is so, it may be seen before a comparison confirms it: no other spell of it
    # is taken for this one.
    dated = observed.health in _GOOD and observed.health_since is not None
    if look.fresh or dated:
        active.append(f"health:{look.state}")
    if look.fresh and observed.sync == "OutOfSync":
        active.append("differs")
    if observed.condition("ComparisonError", "UnknownError"):
        active.append("comparison")
    if look.expectation.operation_id and not look.ours:
        active.append("invisible")
    if look.absent and not look.desired_ok:
        active.append(f"absent:{','.join(look.tips)}")
    return active + rulebook.lasting(look)


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


def _troubled(trouble: Trouble, expectation: Expectation, memory: Memory) -> tuple[Verdict, Memory]:
    message = trouble.message or trouble.kind
    if trouble.kind in ("denied", "missing"):
        memory = replace(memory, troubles=memory.troubles + 1, since=_kept(memory))
        # Once may be a hiccup of a proxy or of an API server that has just started; twice is an answer.
        answered = memory.troubles >= 2
        if trouble.kind == "missing" and expectation.gone:
            return Verdict("done" if answered else "wait", "gone", "the application is gone"), memory
        missing = "app_deleted" if memory.looked else "app_not_found"
        rule = "access_denied" if trouble.kind == "denied" else missing
        return Verdict("failed" if answered else "wait", rule, message), memory
    since = memory.since.get("unreachable", memory.now)
    memory = replace(memory, troubles=0, since={**_kept(memory), "unreachable": since})
    lasted = memory.now - since
    state: State = "failed" if lasted >= expectation.transport_grace else "wait"
    return Verdict(state, "unreachable", f"no usable answer for {seconds(lasted)}: {message}"), memory


def _kept(memory: Memory) -> dict[str, float]:
    """Return the spells that nobody has to see all the time: the server says since when health is what it is."""
    return {
        name: since
        for name, since in memory.since.items()
        if name.startswith("ended:") or (name.startswith("health:") and not name.endswith("|None"))
    }
