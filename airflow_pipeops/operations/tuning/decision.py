"""Whether a knob moves: a pure decision over what came of its value.

The rules stand in this order; the first that applies decides:

1. ``off``: the kill switch is on.
2. ``busy``: the governor, the guard or a remediation acts on the deliverable. Two loops never chase one signal.
3. ``stopped``: two knobs fight, one goes to and fro, or too many moves went back. Somebody must look, and set ``since``.
4. ``dwell``: some knob of the deliverable has changed, and the labels of what came since are not due, or too few.
5. ``labels``: too many labels that ought to be there are not: nobody can tell.
6. ``worse``: the last move made it worse, at one look when its dwell is over: it goes back.
7. ``band``: the interval of the share meets the dead band around the target.
8. ``budget``: there were as many moves in seven days as are allowed.
9. ``bound``: the value is at its bound.
10. ``move``: by ``gain`` of the distance, at most one step.

Evidence begins anew with each change, so a move never answers what the value before has done: with labels that are late,
that is what makes adaptive thresholds swing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any, NamedTuple

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.evidence import Counts, Evidence, Outcome, gather
from airflow_pipeops.operations.tuning.knob import SHADOW, Knob, moment
from airflow_pipeops.operations.tuning.steps import (
    CANNOT_TELL,
    HOLD,
    MOVE,
    REVERT,
    STOP,
    Action,
    Step,
    counted,
    fighting,
    in_force,
    moved_from,
)

_WEEK = timedelta(days=7)
#: Rules before the one look at a move's outcome.
_NOT_YET = frozenset(("off", "busy", "stopped", "dwell", "labels"))


class _Ruled(NamedTuple):
    action: Action
    rule: str
    to: float
    reason: str


def look(outcomes: Sequence[Outcome], knob: Knob, past: Sequence[Step], now: datetime) -> Evidence:
    """Gather what a decision is made from.

    :param outcomes: oldest first.
    :param knob: with the value that Git holds now.
    :param past: what was decided about all knobs of the deliverable, oldest first.
    :param now: with a zone.
    :return: the evidence.
    """
    since = in_force(past, knob, now)
    move = moved_from(past, knob)
    earlier = None if move is None else (moment(move.evidence.since, "since"), move.when)
    return gather(outcomes, knob, since, now, earlier)


def decide(
    knob: Knob,
    evidence: Evidence,
    past: Sequence[Step],
    now: datetime,
    *,
    busy: str = "",
    off: bool = False,
) -> Step:
    """Decide about a knob.

    :param knob: with the value that Git holds now.
    :param evidence: as :func:`look` gathered it.
    :param past: what was decided about all knobs of the deliverable, oldest first.
    :param now: with a zone.
    :param busy: what else acts on the deliverable; empty if nothing does.
    :param off: whether the kill switch is on.
    :return: what to do, and why.
    :raises InvalidInput: for evidence of another time, or a time without a zone.
    """
    if now.tzinfo is None:
        raise InvalidInput("now has no time zone", field="now", value=str(now))
    since = in_force(past, knob, now)
    if moment(evidence.since, "since") != since:
        said = f"the evidence begins at {evidence.since}, and the value holds since {since.isoformat()}"
        raise InvalidInput(said, field="evidence", remedy="Gather it with the same history.")
    ruled = (
        _stands_still(knob, past, busy, off)
        or _waits(knob, evidence, past, since, now)
        or _worse(knob, evidence, past, since)
        or _moves(knob, evidence.now, past, now)
    )
    return Step(knob.name, now.isoformat(), knob.value, *ruled, knob.mode, evidence)


def _stands_still(knob: Knob, past: Sequence[Step], busy: str, off: bool) -> _Ruled | None:
    if off:
        return _Ruled(HOLD, "off", knob.value, "The kill switch is on: nothing moves until it is off.")
    if busy:
        return _Ruled(HOLD, "busy", knob.value, f"Nothing moves while {busy}.")
    why, other = "", fighting(past, knob)
    back = sum(step.knob == knob.name and step.action == REVERT for step in counted(past, knob))
    if back >= knob.max_reverts:
        why = f"{back} of its moves made things worse, and went back"
    elif other == knob.name:
        why = "it goes to and fro by itself, as with a slope that is wrong"
    elif other:
        why = f"it and {other} take turns in reversing: they follow one thing"
    if not why:
        return None
    return _Ruled(STOP, "stopped", knob.value, f"{knob.name} is stopped: {why}. Look, and set since.")


def _waits(
    knob: Knob, evidence: Evidence, past: Sequence[Step], since: datetime, now: datetime
) -> _Ruled | None:
    last = next((step for step in reversed(counted(past, knob)) if step.moves), None)
    start = since if last is None else max(since, last.when)
    found = evidence.now
    if now < start + knob.quiet:
        told = f"Since the last change at {start.isoformat()} not {knob.quiet} have passed."
        return _Ruled(HOLD, "dwell", knob.value, told)
    if found.coverage < knob.min_coverage:
        told = f"{found.labels} of the {found.due} labels that are due are there: nobody can tell."
        return _Ruled(CANNOT_TELL, "labels", knob.value, told)
    if found.labels < knob.min_labels:
        told = f"There are {found.labels} labels since the last change; {knob.min_labels} are needed."
        return _Ruled(HOLD, "dwell", knob.value, told)
    return None


def _worse(knob: Knob, evidence: Evidence, past: Sequence[Step], since: datetime) -> _Ruled | None:
    move = moved_from(past, knob)
    after, before = evidence.now, evidence.before
    if move is None or before.labels < knob.min_labels or before.coverage < knob.min_coverage:
        return None
    looked = any(
        step.knob == knob.name and step.when >= since and step.rule not in _NOT_YET
        for step in counted(past, knob)
    )
    if looked:  # once: who looks each day finds it worse some day
        return None
    more, error, what = _loss(after, before, knob)
    if more <= NormalDist().inv_cdf(1 - knob.worse) * error:
        return None
    told = (
        f"{what} by {more:.4g} (standard error {error:.4g}) since it moved from {move.value:g}: it goes back."
    )
    return _Ruled(REVERT, "worse", knob.bounded(move.value), told)


def _loss(after: Counts, before: Counts, knob: Knob) -> tuple[float, float, str]:
    """Return how much worse it is, with its standard error: what outcomes cost, else the distance from the target."""
    if after.loss is not None and before.loss is not None:
        error = math.hypot(after.loss_error or 0.0, before.loss_error or 0.0)
        return after.loss - before.loss, error, "An outcome costs more"
    more = abs(after.share - knob.target) - abs(before.share - knob.target)
    # Agresti's two added, so that no share has no error.
    variances = [
        (item.hits + 2) * (item.labels - item.hits + 2) / (item.labels + 4) ** 3 for item in (after, before)
    ]
    return more, math.sqrt(sum(variances)), f"The share is further from {knob.target:.3g}"


def _moves(knob: Knob, found: Counts, past: Sequence[Step], now: datetime) -> _Ruled:
    low, high = found.interval(knob.confidence)
    least, most = knob.target * (1 - knob.band), knob.target * (1 + knob.band)
    told = f"{found.share:.3%} of {found.labels} are hits ({low:.3%} to {high:.3%}), {knob.target:.3%} are wanted"
    if low <= most and high >= least:
        return _Ruled(
            HOLD, "band", knob.value, f"{told}: not beyond doubt outside {least:.3%} to {most:.3%}."
        )
    spent = sum(
        step.knob == knob.name and step.action == MOVE and now - step.when < _WEEK and step.mode == knob.mode
        for step in past
    )
    if spent >= knob.max_moves:
        return _Ruled(HOLD, "budget", knob.value, f"{told}; there were {spent} moves in seven days.")
    to = knob.bounded(knob.value - knob.gain * (found.share - knob.target) / knob.slope)
    if to == knob.value:
        return _Ruled(HOLD, "bound", knob.value, f"{told}; {knob.value:g} cannot move further that way.")
    would = "would move" if knob.mode == SHADOW else "moves"
    return _Ruled(MOVE, "move", to, f"{told}: {knob.name} {would} from {knob.value:g} to {to:g}.")


def replay(bodies: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Decide again what records say was decided.

    :param bodies: of the records of kind ``tuning`` of a deliverable, oldest first.
    :return: a step for each decision: the same as theirs, unless a record or the rules have changed.
    """
    steps: list[Step] = []
    for body in bodies:
        busy, off = str(body.get("busy") or ""), bool(body.get("off"))
        for knob, told in told_in(body):
            steps.append(decide(knob, told.evidence, steps, told.when, busy=busy, off=off))
    return steps


def told_in(body: Mapping[str, Any]) -> list[tuple[Knob, Step]]:
    """Read the decisions of a record.

    :param body: of a record of kind ``tuning``.
    :return: each knob, with what was decided about it.
    :raises InvalidInput: if it cannot be read, for example since a later version wrote it.
    """
    try:
        return [(Knob.from_json(one["knob"]), Step.from_json(one["step"])) for one in body["decisions"]]
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"a tuning record cannot be read: {error!r}", field="history") from error


def recorded(decisions: Sequence[tuple[Knob, Step]], *, busy: str = "", off: bool = False) -> dict[str, Any]:
    """Return the body of a record, from which :func:`replay` decides the same.

    :param decisions: each knob that was decided about, with what was decided.
    :param busy: what else acted on the deliverable.
    :param off: whether the kill switch was on.
    :return: JSON.
    """
    told = [{"knob": knob.to_json(), "step": step.to_json()} for knob, step in decisions]
    return {"decisions": told, "busy": busy, "off": off}
