"""The rules of the governor, one function each: ``None`` where a rule does not apply."""

from __future__ import annotations

from collections.abc import Callable

from airflow_pipeops.governor.forecast import better
from airflow_pipeops.governor.history import DECLINED, HOLD, INVESTIGATE, RETRAIN, ROLLBACK, Action, in_order
from airflow_pipeops.governor.situation import Look

#: The action, the rule's name, and the reason in plain words.
Ruled = tuple[Action, str, str]


def _quality(look: Look) -> Ruled | None:
    if look.current.quality_passed:
        return None
    batch = look.current.batch
    text = f"The data of {batch} did not pass its quality gate: bad data never retrains, somebody must look."
    return INVESTIGATE, "quality", text


def _known(look: Look) -> Ruled | None:
    twin = look.twin
    if twin is None:
        return None
    decided = f", about which it was decided: {twin.action}" if twin.action else ""
    return (
        HOLD,
        "known",
        f"The data of {look.current.batch} are those of {twin.batch}{decided}. They count once.",
    )


def _rollback(look: Look) -> Ruled | None:
    policy = look.policy
    if policy.rollback_drop is None or not look.current.quality_passed or look.last is None:
        return None
    items = in_order((*look.since, look.current))
    pairs = [(item, gain) for item in items if (gain := better(item, policy)) is not None]
    recent = pairs[-policy.n :]
    worse = [(item, gain) for item, gain in recent if gain < -policy.rollback_drop]
    if (
        len(worse) < policy.k
        or worse[-1][0] is not pairs[-1][0]
        or all(item is not look.current for item, _ in pairs)
    ):
        return None
    told = "; ".join(
        f"{item.batch} {item.performance:.3f} against {item.predecessor_performance:.3f}" for item, _ in worse
    )
    return (
        ROLLBACK,
        "rollback",
        (
            f"The model before the champion would be more than {policy.rollback_drop:g} better in {len(worse)} of the last"
            f" {len(recent)} batches ({told}): going back costs no training."
        ),
    )


def _evidence(look: Look) -> Ruled | None:
    policy, current = look.policy, look.current
    if not current.quality_passed or look.enough:
        return None
    blind = 0
    for item in (current, *reversed(look.past)):
        if look.loss(item) is not None:
            break
        blind += 1
    if policy.blind_batches is not None and blind >= policy.blind_batches and look.moves():
        text = f"Columns moved, and nobody knows the metric of the last {blind} batches: somebody must look."
        return INVESTIGATE, "blind", text
    if not look.measured:
        what = "its metric" if current.metric is None else "the reference of its metric"
        return HOLD, "evidence", f"Not enough evidence: {what} is not known for {current.batch}."
    needed = max(policy.min_batches, policy.k)
    return (
        HOLD,
        "evidence",
        (
            f"Not enough evidence: {len(look.window)} of {needed} measured batches since the beginning or the last retrain"
            f" ({look.told(current)})."
        ),
    )


def _steady(look: Look) -> Ruled | None:
    if look.hurts or look.ages or not look.enough or not look.current.quality_passed:
        return None
    return HOLD, "steady", look.consequence()


def _cooldown(look: Look) -> Ruled | None:
    policy, last = look.policy, look.last
    if last is None or not look.due:
        return None
    batches = len(look.since) + 1
    if batches <= policy.dwell:
        text = f"batch {batches} of the {policy.dwell} that follow the {last.action} after {last.batch}"
    elif policy.cooldown and look.now - last.when < policy.cooldown:
        passed = look.now - last.when
        text = (
            f"the {last.action} after {last.batch} was decided {passed} ago, {policy.cooldown} are required"
        )
    else:
        return None
    return HOLD, "cooldown", f"Cooldown: {text}."


def _budget(look: Look) -> Ruled | None:
    policy = look.policy
    if policy.budget is None or not look.due:
        return None
    spent = sum(
        item.action == RETRAIN and item.outcome != DECLINED and look.now - item.when < policy.budget_window
        for item in look.past
    )
    if spent < policy.budget:
        return None
    text = f"Budget: {spent} retrains in the last {policy.budget_window}, {policy.budget} are allowed."
    return HOLD, "budget", text


def _gain(look: Look) -> Ruled | None:
    found = look.forecast
    if found is None or found.cost is None or not look.due or found.pays:
        return None
    if found.worth is None:
        text = "the rows of the last batches are not known, so nobody can say what a retrain is worth"
    else:
        text = f"a retrain is expected to win {found.told()}, less than the {found.cost:g} that it costs"
    return HOLD, "gain", f"Expected gain: {text}."


def _outcome(look: Look) -> Ruled | None:
    if not look.due or look.futile < look.policy.max_futile:
        return None
    times = f"the last {look.futile} retrains" if look.futile > 1 else "the last retrain"
    return (
        INVESTIGATE,
        "outcome",
        f"Earlier retrains: {times} did not help; somebody must look before a further one.",
    )


def _retrain(look: Look) -> Ruled | None:
    if not look.due or not look.enough or not look.current.quality_passed:
        return None
    if look.hurts:
        return RETRAIN, "consequence", look.consequence()
    return RETRAIN, "ageing", "The model ages: fresher ones were better on the same batches."


#: In their order: see :mod:`airflow_pipeops.governor.decision`.
RULES: tuple[Callable[[Look], Ruled | None], ...] = (
    _quality,
    _known,
    _rollback,
    _evidence,
    _steady,
    _cooldown,
    _budget,
    _gain,
    _outcome,
    _retrain,
)
