"""Is the released model worse than the one before it, beyond doubt? Pure.

Both have predicted the same rows, and days are what is counted. A metric that has fallen is no evidence: the model before
may have fallen further. An estimate without labels is none either: it can only ask for labels.

Who looks each day finds "worse" some day by chance. So there are a few looks, after 20, 40 and 80 days by default, each on
exactly the first so many days; and each may be wrong half as often as the one before: alpha/2, alpha/4, ... Together they
are wrong at most with chance alpha, however the looks depend on each other (Boole's inequality; alpha spending: Lan and
DeMets, Biometrika 70, 1983). How often the guard runs, and when, changes nothing. After the last look the release is
cleared, and what comes then is the governor's: is another training worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_pipeops.base.arguments import finite, one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.gain import Gain

#: What the guard does about a release that is worse: say so; ask a person; roll back.
Mode = Literal["observe", "propose", "act"]
Verdict = Literal["worse", "no worse", "wait", "labels missing", "ask for labels", "cannot tell"]


@dataclass(frozen=True)
class GuardPolicy(JsonForm):
    """When a release goes back.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param margin: how much of it the release may lose against the model before.
    :param alpha: chance that a release that is no worse goes back, over all looks together.
    :param first: days of the first look; each further one takes twice as many.
    :param looks: how many there are; after the last one the release is cleared.
    :param mode: ``observe``, ``propose`` (a person is asked) or ``act``.
    """

    metric: str = "roc_auc"
    margin: float = 0.0
    alpha: float = 0.05
    first: int = 20
    looks: int = 3
    mode: Mode = "propose"

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("mode", self.mode, ("observe", "propose", "act"), called="mode")
        finite("margin", self.margin)
        for field, value, sound, remedy in (
            ("margin", self.margin, self.margin >= 0, "Use zero or more."),
            ("alpha", self.alpha, 0 < self.alpha < 0.5, "For example 0.05."),
            (
                "first",
                self.first,
                self.first >= 10,
                "Fewer than 10 days tell nothing; neighbours resemble each other.",
            ),
            ("looks", self.looks, 1 <= self.looks <= 10, "Use 1 to 10."),
        ):
            if not sound:
                raise InvalidInput(f"{field} is {value}", field=field, value=value, remedy=remedy)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Days of each look."""
        return tuple(self.first * 2**number for number in range(self.looks))

    def alpha_of(self, look: int) -> float:
        """Return the chance to be wrong that a look may take.

        :param look: its number, the first being 0.
        :return: the chance.
        """
        return float(self.alpha / 2 ** (look + 1))


@dataclass(frozen=True)
class Seen(JsonForm):
    """What is known of a release.

    :param days: whose labels are due and there, without a gap from the first one on.
    :param gains: the release's gain over the model before, one for each look that so many days allow.
    :param missing: why labels that ought to be there are not; empty if they are.
    :param estimated: the release's metric, estimated without labels; ``None`` where nobody has estimated.
    :param expected: what the metric should be, which an estimate is held against.
    :param unfit: why the two cannot be compared at all; empty if they can.
    :param higher_is_better: ``False`` for an error or a loss.
    :param since: from when on days are counted; empty for all.
    """

    days: int
    gains: tuple[Gain, ...] = ()
    missing: str = ""
    estimated: float | None = None
    expected: float | None = None
    unfit: str = ""
    higher_is_better: bool = True
    since: str = ""


@dataclass(frozen=True)
class GuardDecision(JsonForm):
    """What was decided about a release.

    :param verdict: ``worse``, ``no worse`` (cleared), ``wait``, ``labels missing``, ``ask for labels`` or ``cannot tell``.
    :param act: whether it shall go back now.
    :param propose: whether a person shall be asked.
    :param reason: one sentence.
    :param look: that decided, from 1; 0 while there was none.
    :param days: that it looked at.
    :param next_look: days that the next look needs; ``None`` after the last one.
    :param alpha: chance to be wrong of this look.
    :param value: the release's gain over the model before, in the metric; ``None`` without a look.
    :param interval: where that gain lies.
    :param release: the release's metric on these days.
    :param before: the metric of the model before, on the same rows.
    :param rows: that both were measured on.
    """

    verdict: Verdict
    act: bool
    propose: bool
    reason: str
    look: int = 0
    days: int = 0
    next_look: int | None = None
    alpha: float | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    release: float | None = None
    before: float | None = None
    rows: int = 0


def judge(seen: Seen, policy: GuardPolicy) -> GuardDecision:
    """Decide about a release. First match wins.

    1. The two cannot be compared: ``cannot tell``.
    2. In a look that was reached, the whole interval of the gain is below ``-margin``: ``worse``.
    3. Labels that ought to be there are not: ``labels missing``. A broken join looks like a broken model.
    4. All looks are made: ``no worse``, or ``cannot tell`` where the last one has no interval.
    5. An estimate is worse than what is expected: ``ask for labels``.
    6. ``wait`` for the next look.

    :param seen: what is known.
    :param policy: when a release goes back.
    :return: the decision.
    """
    reached = list(zip(policy.sizes, seen.gains, strict=False))
    coming = next((size for size in policy.sizes[len(reached) :]), None)
    if seen.unfit:
        return GuardDecision("cannot tell", False, False, f"{seen.unfit}.", next_look=coming)
    for look, (size, gain) in enumerate(reached):
        bounds = gain.bounds(policy.alpha_of(look))
        if bounds is not None and bounds[1] < -policy.margin:
            more = f" by more than the {policy.margin:.4f} that it may lose" if policy.margin else ""
            why = f"{_told(gain, bounds, size, seen.since)}: worse{more}."
            act, propose = policy.mode == "act", policy.mode == "propose"
            return _of_look("worse", why, policy, look, size, gain, coming, act=act, propose=propose)
    if seen.missing:
        why = f"Labels are missing: {seen.missing}."
        return GuardDecision("labels missing", False, False, why, next_look=coming)
    if reached:
        look, (size, gain) = len(reached) - 1, reached[-1]
        bounds = gain.bounds(policy.alpha_of(look))
        told = _told(gain, bounds, size, seen.since)
        if coming is None and bounds is None:
            why = f"{told}, which cannot be told from chance: {gain.doubt}."
            return _of_look("cannot tell", why, policy, look, size, gain, None)
        if coming is None:
            return _of_look("no worse", f"{told}: not worse beyond doubt.", policy, look, size, gain, None)
    asked = _asks(seen)
    if asked:
        return GuardDecision("ask for labels", False, False, asked, days=seen.days, next_look=coming)
    so_far = f"{told}; " if reached else ""
    why = f"{so_far}{seen.days} days have their labels, and the next look takes {coming}."
    if reached:
        return _of_look("wait", why, policy, look, size, gain, coming)
    return GuardDecision("wait", False, False, why[0].upper() + why[1:], days=seen.days, next_look=coming)


def _of_look(
    verdict: Verdict,
    reason: str,
    policy: GuardPolicy,
    look: int,
    size: int,
    gain: Gain,
    coming: int | None,
    *,
    act: bool = False,
    propose: bool = False,
) -> GuardDecision:
    """Return a decision with what its look has seen."""
    alpha = policy.alpha_of(look)
    return GuardDecision(
        verdict,
        act,
        propose,
        reason,
        look + 1,
        size,
        coming,
        alpha,
        gain.value,
        gain.bounds(alpha),
        gain.challenger,
        gain.champion,
        gain.rows,
    )


def _asks(seen: Seen) -> str:
    """Say why labels are wanted sooner; empty where an estimate gives no reason."""
    if seen.estimated is None or seen.expected is None:
        return ""
    sign = 1 if seen.higher_is_better else -1
    if sign * seen.estimated >= sign * seen.expected:
        return ""
    return (
        f"Without labels the metric is estimated at {seen.estimated:.4f}, and {seen.expected:.4f} is expected: labels of a "
        "random sample would tell. An estimate takes nothing back."
    )


def _told(gain: Gain, bounds: tuple[float, float] | None, size: int, since: str) -> str:
    around = f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else ""
    first = f"first {size} days since {since}" if since else f"first {size} days"
    return (
        f"{gain.metric} of the {first}: the release's {gain.challenger:.4f} against {gain.champion:.4f} of the "
        f"model before, on the same {gain.rows:,} rows, is {gain.value:+.4f}{around}"
    )


def sizes_reached(days: int, policy: GuardPolicy) -> Sequence[int]:
    """Return the looks that so many days allow."""
    return [size for size in policy.sizes if size <= days]
