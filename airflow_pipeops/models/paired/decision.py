"""What follows from the gains of a challenger: better, not worse, worse, or nobody can tell. Pure.

One metric decides (``primary``); the others, and the slices, must not get worse by more than a stated margin. Each guard is
held against its own interval without a correction, since all must pass (intersection-union test; Berger, Technometrics 24,
1982). To *fail* a challenger by a slice takes evidence of harm, with Holm's correction (Scandinavian Journal of Statistics
6, 1979), since of many slices one looks bad by chance. Being "not worse" first and "better" then on one interval costs
nothing (closed testing; Marcus, Peritz and Gabriel, Biometrika 63, 1976).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_pipeops.base.arguments import at_least, finite, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.gain import MIN_UNITS, Gain

Outcome = Literal["better", "not worse", "worse", "cannot tell", "invalid"]
#: What is enough for a promotion.
Enough = Literal["better", "not worse"]


@dataclass(frozen=True)
class Policy(JsonForm):
    """What a challenger must show.

    :param minimum_gain: smallest gain of the primary metric that is worth a release; the whole interval must be above it.
    :param margin: how much of the primary metric may be lost by one that is "not worse"; 0 where none may, and then nothing
        is "not worse".
    :param guards: metric -> how much of it may be lost.
    :param slice_margin: how much of the primary metric a slice may lose.
    :param enough: which outcome promotes: ``better`` only; or ``not worse``, where fresher or cheaper is reason enough.
    :param alpha: chance of a wrong promotion, on one side.
    :param max_uses: so many challengers may be judged on the same rows; after that, what was learned from the verdicts is a
        way to learn from the rows themselves (Dwork and others, Science 349, 2015), and no correction helps.
    """

    minimum_gain: float = 0.0
    margin: float = 0.0
    guards: Mapping[str, float] = field(default_factory=dict)
    slice_margin: float = 0.0
    enough: Enough = "better"
    alpha: float = 0.025
    max_uses: int = 20

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("enough", self.enough, ("better", "not worse"), called="outcome that is enough")
        numbers: dict[str, Any] = {
            "minimum_gain": self.minimum_gain,
            "margin": self.margin,
            "slice_margin": self.slice_margin,
            **{f"guards[{name}]": value for name, value in self.guards.items()},
        }
        for name, value in numbers.items():
            finite(name, value)
            if value < 0:
                raise InvalidInput(f"{name} is {value}", field=name, value=value, remedy="Use zero or more.")
        if not 0 < self.alpha < 0.5:
            raise InvalidInput(
                f"alpha is {self.alpha}", field="alpha", value=self.alpha, remedy="For example 0.025."
            )
        at_least(
            "max_uses", self.max_uses, 1, f"max_uses is {self.max_uses}", "At least the challenger itself."
        )
        if self.enough == "not worse" and not self.margin:
            raise InvalidInput(
                "margin is 0, so nothing can be shown to be not worse",
                field="margin",
                value=self.margin,
                remedy="Say how much of the metric may be lost for a fresher model, for example 0.005.",
            )


@dataclass(frozen=True)
class Decision(JsonForm):
    """What was decided, and why.

    :param outcome: of the comparison.
    :param promote: whether that is enough.
    :param reason: one sentence.
    :param interval: where the primary metric's gain lies; ``None`` where nobody can tell.
    :param alpha: chance on either side of that interval, after the correction for many challengers.
    :param harmed: slices that got worse beyond doubt.
    :param small: slices of which nobody can tell.
    :param further_units: about how many more units (days, rows) would tell, if the gain stays as it was seen; ``None`` where
        the outcome is known, or no number that anybody waits for would tell.
    """

    outcome: Outcome
    promote: bool
    reason: str
    interval: tuple[float, float] | None = None
    alpha: float = 0.025
    harmed: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    further_units: int | None = None


def decide(
    primary: Gain,
    policy: Policy,
    *,
    guards: Sequence[Gain] = (),
    slices: Mapping[str, Gain] | None = None,
    challengers: int = 1,
    uses: int = 1,
    invalid: str = "",
) -> Decision:
    """Judge a challenger. First match wins.

    1. The comparison is none, or the rows have judged more than ``max_uses``: ``invalid``.
    2. The primary metric, a guard or a slice got worse by more than its margin, beyond doubt: ``worse``.
    3. Nobody can tell about the primary metric, or a guard may have lost more than its margin: ``cannot tell``.
    4. The whole interval of the gain is above ``minimum_gain``: ``better``; above ``-margin``: ``not worse``; below 0:
       ``worse``; else ``cannot tell``.

    :param primary: the gain that decides.
    :param policy: what must be shown.
    :param guards: the gains of the metrics named in the policy's ``guards``.
    :param slices: the primary metric's gain in each slice.
    :param challengers: how many are tried at once on these rows, this one included: the chance of a wrong promotion is
        shared out among them (Bonferroni), since the best of many looks better than it is.
    :param uses: how many were judged on these rows so far, this one included; where they are more than ``challengers``, each
        further one has the square of its number as its share, so that all together have less than 1.65 of ``alpha``.
    :param invalid: why the two cannot be compared; empty if they can.
    :return: the decision.
    :raises InvalidInput: for a guard without a margin or the other way round, and for less than one challenger.
    """
    slices = slices or {}
    _check(policy, guards, challengers)
    alpha = policy.alpha / (uses**2 if uses > challengers else challengers)
    if uses > policy.max_uses:
        invalid = invalid or (
            f"these rows have judged {uses - 1} challengers, {policy.max_uses} are the most, and newer rows are needed"
        )
    bounds = primary.bounds(alpha)
    small = tuple(name for name, found in slices.items() if found.error is None)
    harmed = _harmed(slices, policy.slice_margin, alpha)
    found = (
        (("invalid", f"The two cannot be compared: {invalid}.", None) if invalid else None)
        or _worse(primary, policy, guards, alpha)
        or (("worse", f"In {harmed[0]}: {_told(slices[harmed[0]], alpha)}: worse.", None) if harmed else None)
        or _guarded(primary, policy, guards, alpha)
        or _primary(primary, policy, alpha)
    )
    outcome, reason, further = found
    if uses > 1 and outcome != "invalid":
        reason += f" It is challenger {uses} on these rows, so the chance of an error is {alpha:.2g} on either side."
    promote = outcome == "better" or outcome == policy.enough
    return Decision(outcome, promote, reason, bounds, alpha, harmed, small, further)


#: So many times the error that is needed, squared so many times the units: nobody waits for that.
_NEVER = 100.0
#: An outcome, its reason, and how many more units would tell.
_Found = tuple[Outcome, str, int | None]


def _worse(primary: Gain, policy: Policy, guards: Sequence[Gain], alpha: float) -> _Found | None:
    """Say which metric got worse by more than its margin, beyond doubt."""
    for found in (primary, *guards):
        margin = policy.margin if found is primary else policy.guards[found.metric]
        around = found.bounds(alpha)
        if around and around[1] < -margin:
            more = f" by more than the {margin:.4f} that it may lose" if margin else ""
            return "worse", f"{_told(found, alpha)}: worse{more}.", None
    return None


def _guarded(primary: Gain, policy: Policy, guards: Sequence[Gain], alpha: float) -> _Found | None:
    """Say of which metric nobody can tell what it needs."""
    if primary.error is None:
        return (
            "cannot tell",
            f"{_told(primary, alpha)}, which cannot be told from chance: {primary.doubt}.",
            _lacking(primary),
        )
    for guard in guards:
        around, margin = guard.bounds(alpha), policy.guards[guard.metric]
        if around is None:
            return (
                "cannot tell",
                f"{_told(guard, alpha)}, which cannot be told from chance: {guard.doubt}.",
                None,
            )
        if around[0] <= -margin:
            may = f"more than the {margin:.4f} that it may lose may be lost"
            return (
                "cannot tell",
                f"{_told(guard, alpha)}: {may}.",
                _further(guard, guard.value + margin, alpha),
            )
    return None


def _primary(primary: Gain, policy: Policy, alpha: float) -> _Found:
    bounds, told = primary.bounds(alpha), _told(primary, alpha)
    assert bounds is not None
    if bounds[0] > policy.minimum_gain:
        if primary.trimmed is not None and primary.trimmed <= policy.minimum_gain:
            return (
                "cannot tell",
                f"{told}, but {primary.trimmed:+.4f} without the rows that differ most.",
                None,
            )
        return "better", f"{told}.", None
    if policy.margin and bounds[0] > -policy.margin:
        return "not worse", f"{told}: not worse by more than {policy.margin:.4f}.", None
    if bounds[1] < 0:
        return "worse", f"{told}: worse.", None
    fresher = policy.enough == "not worse"
    goal = primary.value + policy.margin if fresher else primary.value - policy.minimum_gain
    worth = (
        f"be less than the {policy.minimum_gain:.4f} that a release is worth"
        if policy.minimum_gain
        else "be chance"
    )
    return "cannot tell", f"{told}, which may {worth}.", _further(primary, goal, alpha)


def _check(policy: Policy, guards: Sequence[Gain], challengers: int) -> None:
    given, named = {each.metric for each in guards}, set(policy.guards)
    if given != named:
        raise InvalidInput(
            f"guards were measured for {sorted(given)} and are named for {sorted(named)}",
            field="guards",
            value=sorted(given ^ named),
            remedy="Give each guard a margin, and measure each.",
        )
    if challengers < 1:
        raise InvalidInput(
            f"challengers is {challengers}",
            field="challengers",
            value=challengers,
            remedy="At least this one.",
        )


def _harmed(slices: Mapping[str, Gain], margin: float, alpha: float) -> tuple[str, ...]:
    """Return the slices that got worse beyond doubt, the surest first (Holm)."""
    measured = {name: found.chance(-margin) for name, found in slices.items()}
    chances = {name: chance for name, chance in measured.items() if chance is not None}
    harmed: list[str] = []
    for name in sorted(chances, key=lambda one: chances[one]):
        if chances[name] > alpha / (len(chances) - len(harmed)):
            break
        harmed.append(name)
    return tuple(harmed)


def _further(found: Gain, distance: float, alpha: float, power: float = 0.8) -> int | None:
    """Return about how many more units are needed to tell a distance from zero, four times in five."""
    from scipy.stats import norm

    if not found.error or distance <= 0:
        return None
    factor = (found.quantile(alpha) + float(norm.ppf(power))) * found.error / distance
    return max(1, math.ceil(found.units * (factor**2 - 1))) if factor < _NEVER else None


def _lacking(found: Gain) -> int | None:
    """Return how many units lack to the least with which anything is told; ``None`` if it is not for them."""
    return MIN_UNITS - found.units if found.unit and found.units < MIN_UNITS else None


def _told(found: Gain, alpha: float) -> str:
    bounds = found.bounds(alpha)
    around = f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else ""
    return (
        f"{found.metric}: the challenger's {found.challenger:.4f} against the champion's {found.champion:.4f} is a gain of "
        f"{found.value:+.4f}{around}"
    )
