"""When an act on an application has taken effect: a refresh, the end of an operation, a deletion. Pure.

These ask less than a release does, and must not be confused by what is wrong with the application otherwise: an operation
can be terminated, and an application deleted, that cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from airflow_pipeops.argocd.situation import in_progress
from airflow_pipeops.waits.status import Observed, Trouble, shorts


@dataclass(frozen=True)
class Act:
    """What must take effect.

    :param kind: ``refreshed``, ``ended`` (no operation in progress, or another one than it was) or ``gone``.
    :param timeout: seconds.
    :param hard: of a refresh: also drop the cache of rendered manifests.
    :param mark: when the operation that must end was started, by the server's clock.
    :param uid: of the application that must go.
    :param transport_grace: seconds for which there may be no usable answer.
    """

    kind: str
    timeout: float = 600.0
    hard: bool = False
    mark: float | None = None
    uid: str = ""
    transport_grace: float = 300.0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Act:
        """Read the JSON form; unknown names are left out."""
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})


@dataclass(frozen=True)
class ActMemory:
    """What one look must know of those before it; the caller's ``now``."""

    now: float = 0.0
    started_at: float | None = None
    refused: int = 0
    blind_since: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ActMemory:
        """Read the JSON form; unknown names are left out."""
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})


@dataclass(frozen=True)
class Effect:
    """Where an act stands.

    :param state: ``wait``, ``done`` or ``failed``.
    :param rule: stable name of the rule that decided.
    :param reason: one sentence that a person can act on.
    """

    state: str
    rule: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def judge(observed: Observed | Trouble, act: Act, memory: ActMemory, now: float) -> tuple[Effect, ActMemory]:
    """Judge one look.

    :param memory: what the last call returned; ``ActMemory()`` at first.
    :param now: seconds on any clock that does not jump.
    """
    now = max(now, memory.now) if math.isfinite(now) else memory.now
    started = now if memory.started_at is None else memory.started_at
    memory = replace(memory, now=now, started_at=started)
    if isinstance(observed, Trouble):
        effect, memory = _troubled(observed, act, memory)
    else:
        memory = replace(memory, refused=0, blind_since=None)
        effect = {"refreshed": _refreshed, "ended": _ended, "gone": _gone}[act.kind](observed, act)
    if effect.state == "wait" and now - started >= act.timeout:
        waited = f"waited {now - started:.0f} s; at the end because {effect.reason}"
        effect = Effect("failed", "deadline", waited)
    return effect, memory


def _refreshed(observed: Observed, act: Act) -> Effect:
    if observed.refreshed:
        return Effect("done", "acknowledged", f"compared with {shorts(observed.desired)}")
    if observed.ignored:
        return Effect(
            "failed", "skip_reconcile", f"the controller ignores this application: {observed.ignored}"
        )
    return Effect(
        "wait", "not_acknowledged", "the controller has not acknowledged the refresh; it may be down or busy"
    )


def _ended(observed: Observed, act: Act) -> Effect:
    operation = observed.operation
    if operation is None or not in_progress(operation, observed.compared_at):
        how = f" as {operation.phase}: {operation.message or '-'}" if operation and operation.phase else ""
        return Effect("done", "ended", f"no operation is in progress; the last one ended{how}")
    if act.mark is not None and operation.started_at is not None and operation.started_at != act.mark:
        return Effect("done", "followed", f"it ended, and another one at {shorts(operation.at)} has followed")
    at = f"the operation at {shorts(operation.at)} is {operation.phase or 'queued'}: {operation.message or '-'}"
    return Effect("wait", "in_progress", at)


def _gone(observed: Observed, act: Act) -> Effect:
    if act.uid and observed.uid and observed.uid != act.uid:
        return Effect("done", "recreated", "it is gone, and another application of that name was created")
    condition = observed.condition("DeletionError")
    if condition is not None:
        return Effect("wait", "deletion_error", f"its objects cannot be deleted yet: {condition.message}")
    if not observed.deleting:
        return Effect("wait", "not_deleting", "the deletion does not show yet")
    left = [str(item) for item in observed.resources]
    names = f": {', '.join(left[:5])}" if left else ""
    return Effect("wait", "deleting", f"{len(left)} of its objects were known at the last look{names}")


def _troubled(trouble: Trouble, act: Act, memory: ActMemory) -> tuple[Effect, ActMemory]:
    message = trouble.message or trouble.kind
    if trouble.kind in ("missing", "denied"):
        memory = replace(memory, refused=memory.refused + 1, blind_since=None)
        done = trouble.kind == "missing" and act.kind == "gone"
        # Once may be a hiccup of a proxy; twice is an answer.
        state = "wait" if memory.refused < 2 else "done" if done else "failed"
        return Effect(state, "gone" if done else trouble.kind, "it is gone" if done else message), memory
    since = memory.now if memory.blind_since is None else memory.blind_since
    memory = replace(memory, refused=0, blind_since=since)
    lasted = memory.now - since
    state = "failed" if lasted >= act.transport_grace else "wait"
    return Effect(state, "unreachable", f"no usable answer for {lasted:.0f} s: {message}"), memory
