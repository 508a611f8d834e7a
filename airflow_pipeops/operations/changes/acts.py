"""What machines changed: steps of a tuner, and acts of a remediation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, maps, number, text
from airflow_pipeops.delivery.queries.facts import Fact

#: What a step of a tuner does that moves a knob, and the mode in which nothing is moved.
_MOVES, _SHADOW, _APPLY = ("move", "revert"), "shadow", "apply"
#: Actions of a remediation that change nothing.
_NO_CHANGE = ("", "notify")


@dataclass(frozen=True)
class Act:
    """A change that a machine made.

    :param kind: tuning or remediation.
    :param by: the record that says so.
    :param what: in a few words.
    :param thing: what was changed, by which earlier acts on the same are found.
    :param before: what was there before; empty if nobody says.
    :param size: how large it is; none if nobody can tell.
    :param undone: when it was taken back; empty if it was not.
    """

    kind: Literal["tuning", "remediation"]
    by: Fact
    what: str
    thing: str
    before: str = ""
    size: float | None = None
    undone: str = ""


def acts(facts: Sequence[Fact]) -> Iterator[Act]:
    """Read what machines changed.

    What was committed to Git for it has a record of kind ``change`` of its own, and is left to that: one change is one
    candidate. A step in shadow, a proposal that nobody was seen to merge, and an answer that did nothing, are no change.

    :param facts: of one deliverable, the oldest first.
    :return: the acts.
    """
    changes = [one for one in facts if one.kind == "change"]
    yield from _tuned([one for one in facts if one.kind == "tuning"], changes)
    yield from _remediated([one for one in facts if one.kind == "remediation"], changes)


def _tuned(looks: Sequence[Fact], changes: Sequence[Fact]) -> Iterator[Act]:
    steps = [(look, *step) for look in looks for step in _steps(look)]
    for place, (look, knob, step) in enumerate(steps):
        value, to = number(step.get("value")), number(step.get("to"))
        if step.get("action") not in _MOVES or step.get("mode") == _SHADOW or value is None or to is None:
            continue
        later = [(at, other) for at, name, other in steps[place + 1 :] if name == knob and at.at > look.at]
        if not _came(step, later) or _committed(changes, look, knob, to):
            continue
        back = (at.at for at, other in later if other.get("action") == "revert" and other.get("to") == value)
        yield Act(
            "tuning", look, f"{knob}: {to:g}, {value:g} before", f"knob {knob}", f"{value:g}",
            abs(to - value) / max(abs(value), 1e-9), next(back, ""),
        )  # fmt: skip


def _steps(look: Fact) -> Iterable[tuple[str, dict[str, Any]]]:
    for one in maps(look.body.get("decisions")):
        name = text(map_(one.get("knob")).get("name"), 60)
        if name:
            yield name, dict(map_(one.get("step")))


def _came(step: dict[str, Any], later: Sequence[tuple[Fact, dict[str, Any]]]) -> bool:
    """Whether the value came, by what the looks after it found; what is applied is believed until one found another."""
    if step.get("mode") == _APPLY:
        return not later or later[0][1].get("value") == step.get("to")
    return any(other.get("value") == step.get("to") for _, other in later)


def _committed(changes: Sequence[Fact], look: Fact, knob: str, to: Any) -> bool:
    path = f"knobs[name={knob}].value"
    return any(one.at >= look.at and map_(one.body.get("set")).get(path) == to for one in changes)


def _remediated(answers: Sequence[Fact], changes: Sequence[Fact]) -> Iterator[Act]:
    committed = {text(one.body.get("operation")) for one in changes}
    met: set[str] = set()
    for one in answers:
        name, action = text(one.body.get("operation")), text(one.body.get("action"), 60)
        if not name or name in met or name in committed or action in _NO_CHANGE:
            continue
        if one.body.get("state") != "acted" and not one.body.get("result"):
            continue  # it was refused, or is a proposal
        met.add(name)
        target = map_(map_(one.body.get("finding")).get("target"))
        on = ", ".join(
            f"{key} {text(target[key], 40)}" for key in sorted(target) if isinstance(target[key], str)
        )
        same = (other for other in answers if text(other.body.get("operation")) == name)
        yield Act(
            "remediation", one, f"{action}{f' of {on}' if on else ''}"[:100], f"{action} in {one.environment}",
            undone=next(filter(None, (text(other.body.get("undone")) for other in same)), ""),
        )  # fmt: skip
