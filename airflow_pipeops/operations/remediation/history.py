"""What the remediator has done, and what of it is still open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.serialisation import JsonForm

#: ``intended``: said, and perhaps done. ``acted``: done, and not proven. ``unhelped``: it did not help, and is to be undone.
#: ``undone``: to be handed over. The others are ends: ``helped``, ``stopped`` (never done), ``handed_over``.
State = Literal["intended", "acted", "unhelped", "undone", "helped", "stopped", "handed_over"]
OPEN: Final = frozenset({"intended", "acted", "unhelped", "undone"})
#: Budgets, and what was answered, are remembered for so long.
MEMORY: Final = timedelta(days=30)
#: Acts of a rule over which its success is looked at.
LATEST: Final = 20


@dataclass(frozen=True)
class Operation(JsonForm):
    """One answer to one finding.

    :param id: of the operation; the finding's key, so that a finding is answered once.
    :param rule: of the policy.
    :param action: that was chosen.
    :param deliverable: that it is about.
    :param environment: in which.
    :param at: when it was intended.
    :param state: see :data:`State`.
    :param changed: when it came into this state.
    :param owner: the task that does it.
    :param finding: that is answered, in its JSON form.
    :param parameters: of the action.
    :param inverse: action that takes it back; empty if none does.
    :param plan: what there was before the act, and what it is to become.
    :param affected: deliverables that it touches.
    :param acted: when it was done, or may have been; empty if it never was.
    :param undoer: the task that takes it back.
    :param undone: when it was taken back; empty if it was not.
    :param result: what the act has returned.
    :param patience: seconds that it has to show.
    :param window: seconds for which the fault must stay away.
    :param clear_since: since when the fault is away; empty if it is not.
    :param helped: whether it did; ``None`` as long as nobody knows, or it was never done.
    :param reason: of its state.
    :param approved_by: who agreed.
    :param told: number of the call that told a person of it; 0 for none.
    """

    id: str
    rule: str
    action: str
    deliverable: str
    environment: str
    at: str
    state: State
    changed: str
    owner: str = ""
    finding: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inverse: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    affected: tuple[str, ...] = ()
    acted: str = ""
    undoer: str = ""
    undone: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    patience: float = 0.0
    window: float = 0.0
    clear_since: str = ""
    helped: bool | None = None
    reason: str = ""
    approved_by: str = ""
    told: int = 0

    @property
    def open(self) -> bool:
        """Whether it is not at its end."""
        return self.state in OPEN

    @property
    def target(self) -> Mapping[str, Any]:
        """What is acted on."""
        return map_(self.finding.get("target"))

    @property
    def place(self) -> str:
        """What it is about, in words."""
        return place(self.deliverable, self.environment)

    def set(self, state: State, now: datetime, reason: str, **facts: Any) -> Operation:
        """Return it in another state."""
        return replace(self, state=state, changed=now.isoformat(), reason=reason, **facts)


@dataclass(frozen=True)
class Reset(JsonForm):
    """A person has looked, and lets it go on.

    :param scope: a rule (``rule:NAME``), a deliverable (``NAME@ENVIRONMENT``) or a mark (``batch URI``).
    :param at: when.
    :param by: who.
    """

    scope: str
    at: str
    by: str


@dataclass(frozen=True)
class Call(JsonForm):
    """A person was called, or is about to be.

    :param number: of the call, from 1.
    :param at: when it was decided.
    :param owner: the task that calls.
    :param sent: whether it was sent.
    """

    number: int
    at: str
    owner: str
    sent: bool = False


@dataclass(frozen=True)
class History(JsonForm):
    """All that a decision looks back at.

    :param operations: oldest first.
    :param resets: newest of each scope.
    :param calls: the newest ones.
    :param marks: what is held (``promotion NAME@ENVIRONMENT``) or kept out (``batch URI``) -> the operation that did it.
    """

    operations: tuple[Operation, ...] = ()
    resets: tuple[Reset, ...] = ()
    calls: tuple[Call, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)

    def get(self, operation: str) -> Operation | None:
        """Return the operation of an id."""
        return next((one for one in reversed(self.operations) if one.id == operation), None)

    def with_operation(self, operation: Operation) -> History:
        """Return it with this operation, new or changed."""
        kept = tuple(operation if one.id == operation.id else one for one in self.operations)
        return replace(self, operations=kept if self.get(operation.id) else (*kept, operation))

    def reset(self, scope: str) -> str:
        """Return when a person has last reset a scope; empty if nobody has."""
        return next((one.at for one in self.resets if one.scope == scope), "")

    def with_reset(self, given: Reset) -> History:
        """Return it with what a person said; a mark that is named is taken away."""
        marks = {name: one for name, one in self.marks.items() if name != given.scope}
        kept = (one for one in self.resets if one.scope != given.scope)
        return replace(self, resets=(*kept, given), marks=marks)

    def with_person(self, deliverable: str, environment: str) -> Operation | None:
        """Return the operation by which a person has this deliverable; ``None`` if none has it."""
        since = self.reset(place(deliverable, environment))
        return next(
            (
                one
                for one in reversed(self.operations)
                if one.state == "handed_over"
                and (one.deliverable, one.environment) == (deliverable, environment)
                and one.changed > since
            ),
            None,
        )

    def pruned(self, now: datetime) -> History:
        """Return it without what no decision looks at any more."""
        since = (now - MEMORY).isoformat()
        of_rule: dict[str, int] = {}
        kept: list[Operation] = []
        for one in reversed(self.operations):
            judged = one.helped is not None
            of_rule[one.rule] = of_rule.get(one.rule, 0) + judged
            marked = one.id in self.marks.values()
            latched = one.state == "handed_over" and one.changed > self.reset(one.place)
            if (
                one.changed >= since
                or one.open
                or latched
                or marked
                or (judged and of_rule[one.rule] <= LATEST)
            ):
                kept.append(one)
        return replace(self, operations=tuple(reversed(kept)), calls=self.calls[-5:])


def place(deliverable: str, environment: str) -> str:
    """Return what an operation is about, in words: the scope of a reset, too."""
    return f"{deliverable}@{environment}"
