"""What was decided about knobs, and what that says: since when a value holds, who reverses whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import combinations, pairwise
from typing import Final, Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.operations.tuning.evidence import Evidence
from airflow_pipeops.operations.tuning.knob import SHADOW, Knob, Mode, moment

Action = Literal["hold", "move", "revert", "stop", "cannot tell"]
HOLD: Final = "hold"
MOVE: Final = "move"
REVERT: Final = "revert"
STOP: Final = "stop"
CANNOT_TELL: Final = "cannot tell"

#: So many reversals of each of two knobs, taking turns, are a fight.
_FIGHT = 2
#: So many reversals in a row of one knob are an oscillation.
_OSCILLATION = 3


@dataclass(frozen=True)
class Step(JsonForm):
    """What was decided about a knob.

    :param knob: its name.
    :param at: when, ISO-8601 with a zone.
    :param value: that Git held then.
    :param action: ``hold``, ``move``, ``revert``, ``stop`` (somebody must look) or ``cannot tell``.
    :param rule: that decided: see :mod:`airflow_pipeops.operations.tuning.decision`.
    :param to: the value that it should have.
    :param reason: one sentence.
    :param mode: of the knob then.
    :param evidence: what it was decided from.
    """

    knob: str
    at: str
    value: float
    action: Action
    rule: str
    to: float
    reason: str
    mode: Mode
    evidence: Evidence

    @cached_property
    def when(self) -> datetime:
        """``at`` as a time."""
        return moment(self.at, "at")

    @property
    def moves(self) -> bool:
        """Whether the value is to change, or would be if this were no shadow."""
        return self.action in (MOVE, REVERT)

    @property
    def acts(self) -> bool:
        """Whether the value is to change."""
        return self.moves and self.mode != SHADOW


def counted(past: Sequence[Step], knob: Knob) -> list[Step]:
    """Return the steps that count: those since the knob was released.

    :param past: of all knobs of the deliverable, oldest first.
    :param knob: which one.
    :return: the steps.
    """
    released = knob.released
    return [step for step in past if released is None or step.when >= released]


def in_force(past: Sequence[Step], knob: Knob, now: datetime) -> datetime:
    """Say since when all knobs of the deliverable have the values that they have now, as far as the steps have seen.

    A proposal takes effect when somebody merges it, and a person may set a value without asking: so what counts is the first
    step that saw the value, and not the decision. Of a knob that was never looked at, nobody knows, but by its ``since``.

    :param past: of all knobs of the deliverable, oldest first.
    :param knob: with the value that Git holds now.
    :param now: the time of the decision.
    :return: the time of the last change.
    """
    since = knob.released
    seen: dict[str, float] = {}
    for step in counted(past, knob):
        if seen.get(step.knob) != step.value and (step.knob in seen or step.knob == knob.name):
            since = step.when if since is None else max(since, step.when)
        seen[step.knob] = step.value
    if since is None or seen.get(knob.name, knob.value) != knob.value:
        return now  # this is the first look at this value
    return since


def moved_from(past: Sequence[Step], knob: Knob) -> Step | None:
    """Return the move that brought the present value; ``None`` if a person did, or another knob has moved since.

    :param past: of all knobs of the deliverable, oldest first.
    :param knob: with the value that Git holds now.
    :return: the step.
    """
    last = next((step for step in reversed(counted(past, knob)) if step.acts), None)
    if last is None or last.knob != knob.name or last.action != MOVE or last.to != knob.value:
        return None
    return last


def reversals(past: Sequence[Step], name: str, window: timedelta) -> list[Step]:
    """Return the moves of a knob that went back on the one before, soon.

    :param past: oldest first.
    :param name: of the knob.
    :param window: what soon means.
    :return: the steps.
    """
    acts = [step for step in past if step.acts and step.knob == name]
    return [
        later
        for earlier, later in pairwise(acts)
        if (later.to - later.value) * (earlier.to - earlier.value) < 0 and later.when - earlier.when <= window
    ]


def fighting(past: Sequence[Step], knob: Knob) -> str:
    """Say which knob this one fights: each goes back after the other has moved, again and again.

    :param past: of all knobs of the deliverable, oldest first.
    :param knob: which one.
    :return: the other's name; its own if it goes to and fro by itself; empty if neither.
    """
    steps = counted(past, knob)
    acts = [step for step in steps if step.acts]
    turned = {name: reversals(acts, name, knob.reversal_window) for name in {step.knob for step in acts}}
    own = [step for step in acts if step.knob == knob.name]
    if len(own) > _OSCILLATION and own[-_OSCILLATION:] == turned[knob.name][-_OSCILLATION:]:
        return knob.name
    for one, other in combinations(sorted(turned), 2):
        if knob.name in (one, other) and _take_turns(acts, turned, one, other):
            return other if knob.name == one else one
    return ""


def _take_turns(acts: Sequence[Step], turned: dict[str, list[Step]], one: str, other: str) -> bool:
    """Whether, among the last acts of two knobs, each has reversed after a move of the other."""
    both = [step for step in acts if step.knob in (one, other)][-4 * _FIGHT :]
    counts = {one: 0, other: 0}
    for earlier, later in pairwise(both):
        if later.knob != earlier.knob and any(later is step for step in turned[later.knob]):
            counts[later.knob] += 1
    return min(counts.values()) >= _FIGHT
