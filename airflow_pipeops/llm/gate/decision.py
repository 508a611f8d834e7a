"""What follows from the effects of a candidate: better, not worse, worse, cannot tell, or invalid. Pure.

One metric decides; all guards must be shown not to lose more than their margins, each by its own interval without a
correction, since all must pass (intersection-union test; Berger, Technometrics 24, 1982). To call a candidate *worse* takes
evidence of harm, with an error that is shared: half of it for the deciding metric, half for guards and slices by Holm's rule
(Scandinavian Journal of Statistics 6, 1979). Without guards and slices the deciding metric has it all. So equal arms are
called worse with at most the stated chance, however many metrics and slices there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.llm.gate.effects import Effect
from airflow_pipeops.llm.gate.policy import RATIOS, GatePolicy
from airflow_pipeops.llm.gate.power import Need, need
from airflow_pipeops.models.paired.decision import Outcome
from airflow_pipeops.models.paired.gain import MIN_UNITS


@dataclass(frozen=True)
class Seen:
    """What is known of a candidate.

    :param primary: the effect by the metric that decides.
    :param guards: the effects by the further metrics.
    :param slices: ``column=value`` -> the deciding metric's effect there.
    :param failed: items that must never fail, and do.
    :param judges: scorer -> why its judge is not good enough to open a gate; empty where it is.
    :param invalid: why the two cannot be compared; empty if they can.
    """

    primary: Effect
    guards: tuple[Effect, ...] = ()
    slices: Mapping[str, Effect] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    invalid: str = ""


@dataclass(frozen=True)
class GateVerdict(JsonForm):
    """What was decided, and why.

    :param outcome: ``better``, ``not worse``, ``worse``, ``cannot tell`` or ``invalid``.
    :param opens: whether that is enough.
    :param reason: one sentence, or a few.
    :param metric: that has decided.
    :param gain: by it; of a cost or a latency, minus the logarithm of the ratio.
    :param interval: where that gain lies; ``None`` where nobody can tell.
    :param method: what that rests on.
    :param alpha: chance of an error on either side.
    :param items: that were compared.
    :param units: how many of them, or of their clusters, count as independent.
    :param failed: items that must never fail, and do.
    :param harmed: guards and slices that got worse beyond doubt.
    :param small: slices of which nobody can tell.
    :param need: what would settle it, where nobody can tell.
    """

    outcome: Outcome
    opens: bool
    reason: str
    metric: str = ""
    gain: float | None = None
    interval: tuple[float, float] | None = None
    method: str = ""
    alpha: float = 0.05
    items: int = 0
    units: int = 0
    failed: tuple[str, ...] = ()
    harmed: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    need: Need | None = None


_Found = tuple[Outcome, str, Need | None]


def decide(seen: Seen, policy: GatePolicy) -> GateVerdict:
    """Judge a candidate. First match wins.

    1. The two cannot be compared: ``invalid``.
    2. An item that must never fail does so: ``worse``, without statistics.
    3. The deciding metric, a guard or a slice got worse by more than its margin, beyond doubt: ``worse``.
    4. A judge was not measured, or is not good enough: ``cannot tell``.
    5. Nobody can tell about the deciding metric, or a guard may have lost more than its margin: ``cannot tell``.
    6. The whole interval of the gain is above ``minimum_gain``: ``better``; above ``-margin``: ``not worse``; below 0:
       ``worse``; else ``cannot tell``.

    :param seen: what is known of the candidate.
    :param policy: what it must show.
    :return: the verdict.
    """
    primary = seen.primary
    several = bool(seen.guards or seen.slices)
    alpha = policy.alpha / 2 if several else policy.alpha
    harmed = _harmed(seen, policy, alpha)
    found = (
        (("invalid", f"The two cannot be compared: {seen.invalid}.", None) if seen.invalid else None)
        or (("worse", _failed(seen.failed), None) if seen.failed else None)
        or _worse(seen, policy, harmed, alpha)
        or _unmeasured(seen)
        or _untold(seen, policy)
        or _primary(primary, policy, alpha)
    )
    outcome, reason, wanted = found
    opens = outcome == "better" or outcome == policy.enough
    return GateVerdict(
        outcome,
        opens,
        reason,
        policy.metric,
        primary.gain.value,
        None if seen.invalid else primary.bounds(policy.alpha),
        primary.method(),
        policy.alpha,
        primary.gain.rows,
        primary.gain.units,
        seen.failed,
        harmed,
        tuple(name for name, effect in seen.slices.items() if effect.doubt),
        wanted,
    )


def both(lost: GateVerdict, won: GateVerdict, missing: str) -> GateVerdict:
    """Return the verdict where scores are missing: what holds if all are lost and if all are won, or none.

    :param lost: the verdict with all missing scores lost by the candidate.
    :param won: the verdict with all of them won.
    :param missing: what is missing, in words.
    :return: the verdict.
    """
    if lost.outcome == won.outcome != "invalid":
        return replace(lost, reason=f"{lost.reason} So it is whatever the {missing} would be.")
    reason = (
        f"The two cannot be compared: {missing} are missing; if all were lost it would be {lost.outcome!r}, if all were "
        f"won {won.outcome!r}. Ask for them again."
    )
    return replace(lost, outcome="invalid", opens=False, reason=reason, interval=None, need=None)


def _failed(items: tuple[str, ...]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return f"What must never fail does: {', '.join(items[:3])}{more}."


def _harmed(seen: Seen, policy: GatePolicy, alpha: float) -> tuple[str, ...]:
    """Return the guards and slices that got worse beyond doubt (Holm)."""
    # What is looked at beyond doubt, whether or not it can be told, has its share of the error.
    left = {one.gain.metric: (one, policy.loss(one.gain.metric)) for one in seen.guards}
    left |= {name: (one, policy.slice_margin) for name, one in seen.slices.items() if not one.doubt}
    harmed: list[str] = []
    while left:
        worst = [name for name, (one, margin) in left.items() if one.below(-margin, alpha / len(left))]
        if not worst:
            break
        harmed.append(worst[0])
        del left[worst[0]]
    return tuple(harmed)


def _worse(seen: Seen, policy: GatePolicy, harmed: tuple[str, ...], alpha: float) -> _Found | None:
    margin = policy.loss(policy.metric)
    if seen.primary.below(-margin, alpha):
        more = f" by more than the {_amount(policy.metric, margin)} that it may lose" if margin else ""
        return "worse", f"{told(seen.primary, alpha)}: worse{more}.", None
    if harmed:
        by_name = {one.gain.metric: one for one in seen.guards} | dict(seen.slices)
        where = f"In {harmed[0]}: " if harmed[0] in seen.slices else ""
        return "worse", f"{where}{told(by_name[harmed[0]], alpha)}: worse beyond doubt.", None
    return None


def _unmeasured(seen: Seen) -> _Found | None:
    for scorer, why in seen.judges.items():
        if why:
            return "cannot tell", f"The judge {scorer!r} opens no gate: {why}.", None
    return None


def _untold(seen: Seen, policy: GatePolicy) -> _Found | None:
    """Say of which metric nobody can tell what it needs."""
    if doubt := seen.primary.doubt or _powerless(seen.primary, policy):
        return (
            "cannot tell",
            f"{told(seen.primary)}, which cannot be told from chance: {doubt}.",
            _lacking(seen, policy),
        )
    for guard in seen.guards:
        margin = policy.loss(guard.gain.metric)
        if guard.doubt:
            return "cannot tell", f"{told(guard)}, which cannot be told from chance: {guard.doubt}.", None
        if not guard.above(-margin, policy.alpha):
            may = f"more than the {_amount(guard.gain.metric, margin)} that it may lose may be lost"
            goal = abs(guard.gain.value + margin)
            wanted = need(guard, goal, policy.alpha, policy.power, policy.item_cost)
            return "cannot tell", f"{told(guard, policy.alpha)}: {may}.{_wanted(wanted)}", wanted
    return None


def _powerless(primary: Effect, policy: GatePolicy) -> str:
    """Say why so few votes cannot win whatever they say; empty where they can, or nobody votes."""
    least = math.ceil(-math.log2(policy.alpha))
    if not primary.votes or primary.gain.units >= least:
        return ""
    what = f"values of {primary.gain.unit!r}" if primary.gain.unit else "items"
    return f"{primary.gain.units} {what} win no vote at {policy.alpha:g}, at least {least} must differ"


def _lacking(seen: Seen, policy: GatePolicy) -> Need | None:
    """Return how many items lack to the least with which anything is told."""
    gain = seen.primary.gain
    least = math.ceil(-math.log2(policy.alpha)) if seen.primary.votes else MIN_UNITS
    if gain.units >= least or not gain.units:
        return None
    return Need(math.ceil(gain.rows * least / gain.units), None, None, 0.0, None)


def _primary(primary: Effect, policy: GatePolicy, harm: float) -> _Found:
    around, margin = told(primary, policy.alpha), policy.loss(policy.metric)
    if primary.above(policy.least, policy.alpha):
        return "better", f"{around}: better.", None
    if margin and primary.above(-margin, policy.alpha):
        return "not worse", f"{around}: not worse by more than {_amount(policy.metric, margin)}.", None
    if primary.below(0.0, harm):
        return "worse", f"{around}: worse.", None
    # The verdict that is nearest, if the gain stays as it was seen.
    value = primary.gain.value
    goal = max(value - policy.least, -value, value + margin if margin else 0.0)
    wanted = need(primary, goal, policy.alpha, policy.power, policy.item_cost)
    return "cannot tell", f"{around}, which may be chance.{_wanted(wanted)}", wanted


def _wanted(wanted: Need) -> str:
    ways = [
        f"about {wanted.items:,} items" if wanted.items else "",
        f"{wanted.runs} runs of each" if wanted.runs else "",
    ]
    found = " or ".join(way for way in ways if way)
    best = f" {wanted.best_runs} runs of each item cost least." if wanted.best_runs else ""
    return f" It would take {found} to tell.{best}" if found else ""


def told(effect: Effect, alpha: float | None = None) -> str:
    """Say an effect in words.

    :param effect: of a candidate.
    :param alpha: of its interval; none is told without it.
    :return: half a sentence.
    """
    gain, around = effect.gain, effect.bounds(alpha) if alpha else None
    if gain.metric in RATIOS:
        share, ends = math.expm1(-gain.value), [math.expm1(-end) for end in (around or ())[::-1]]
        between = f" ({ends[0]:+.1%} to {ends[1]:+.1%})" if ends else ""
        levels = f"{gain.challenger:.4g} to the baseline's {gain.champion:.4g}"
        return f"{gain.metric}: the candidate's {levels} is {share:+.1%}{between}"
    between = f" ({around[0]:+.4f} to {around[1]:+.4f})" if around else ""
    return (
        f"{gain.metric}: the candidate's {gain.challenger:.4f} to the baseline's {gain.champion:.4f} is a gain of "
        f"{gain.value:+.4f}{between}"
    )


def _amount(metric: str, margin: float) -> str:
    return f"{math.expm1(margin):.1%}" if metric in RATIOS else f"{margin:.4g}"
