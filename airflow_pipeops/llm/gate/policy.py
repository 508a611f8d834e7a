"""What a candidate must show before a gate opens. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.arguments import finite, mapping, one_of, share
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.decision import Enough
from airflow_pipeops.models.paired.gain import MIN_UNITS

#: Columns of the results that are metrics, too: less is better, and what counts is the ratio of the two.
RATIOS = ("cost", "latency", "tokens_in", "tokens_out")


@dataclass(frozen=True)
class GatePolicy(JsonForm):
    """What opens a gate.

    :param metric: the scorer that decides; or one of :data:`RATIOS`, where cheaper or faster is what is wanted.
    :param minimum_gain: smallest gain that is worth a release; the whole interval must be above it.
    :param margin: how much may be lost by one that is "not worse"; 0 where none may, and then nothing is "not worse". Of
        :data:`RATIOS` it is a share: 0.1 allows 10 % more.
    :param enough: which verdict opens: ``better`` only; or ``not worse``, too.
    :param guards: further scorers, or :data:`RATIOS` -> how much of each may be lost.
    :param slices: columns of the results; in none of their values may the deciding metric get worse beyond doubt.
    :param slice_margin: how much of it a slice may lose.
    :param alpha: chance of an error on either side: of "better" where the candidate is not, of "not worse" where it loses
        the margin; and of "worse", by whatever metric, guard or slice, where both are equal.
    :param power: chance with which the number of items that would settle it does so.
    :param hard_share: share of an item's runs in which one that must never fail has to fail, to close the gate; 0 for a
        single one of them, however many there are.
    :param passing: a score from here on passes: of items that must never fail, and for the vote of an item's runs.
    :param scale: scorer -> its lowest and its highest score; by default 0 and 1; an empty list where it has no ends.
    :param lower_is_better: scorers of errors or distances.
    :param ordinal: scorers whose values have an order, but no distances, as those of a pairwise judge or of marks: only the
        direction of an item counts, and margins are shares of items.
    :param judges: scorers that are the opinion of a model, besides those of which the evaluation says so. They open nothing
        before they were measured.
    :param kappa: least agreement of a judge with people, beyond chance: the lower end of its 95 % interval.
    :param flips: greatest share of equal answers that a judge may score differently when asked twice: the upper end.
    :param position_flips: greatest share of pairs in which a judge may change its mind with the order: the upper end.
    :param max_age_days: recorded answers of a baseline that are older are not held against new ones.
    :param planned: where items come in batches and are judged after each, after about how many units (items, or clusters of
        them) a decision is wanted. The error then holds however often anybody looks.
    :param item_cost: what a further item costs in runs of one item, for the number of runs that is cheapest.
    """

    metric: str
    minimum_gain: float = 0.0
    margin: float = 0.0
    enough: Enough = "better"
    guards: Mapping[str, float] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    slice_margin: float = 0.0
    alpha: float = 0.05
    power: float = 0.8
    hard_share: float = 0.0
    passing: float = 0.5
    scale: Mapping[str, Sequence[float]] = field(default_factory=dict)
    lower_is_better: tuple[str, ...] = ()
    ordinal: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    kappa: float = 0.4
    flips: float = 0.1
    position_flips: float = 0.2
    max_age_days: float = 7.0
    planned: int | None = None
    item_cost: float = 1.0

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("enough", self.enough, ("better", "not worse"), called="outcome that is enough")
        self._check_numbers()
        self._check_names()
        if self.enough == "not worse" and not self.margin:
            _refuse("margin", 0, "margin is 0, so nothing can be shown to be not worse", "For example 0.05.")
        if self.planned is not None and self.planned < MIN_UNITS:
            _refuse("planned", self.planned, f"planned is {self.planned}", f"{MIN_UNITS} are the fewest.")

    @classmethod
    def of(cls, given: Any) -> GatePolicy:
        """Return a policy, or what a mapping of its fields says.

        :param given: either.
        :return: the policy.
        :raises InvalidInput: for an unknown field, and for what is neither.
        """
        if isinstance(given, cls):
            return given
        known = mapping("policy", given, "Give GatePolicy(metric), or a mapping of its fields.")
        # A margin that is misspelt would otherwise be none.
        for name in known:
            one_of("policy", name, tuple(cls.__dataclass_fields__), called="field of a policy")
        return cls.from_json({"metric": "", **known})

    @property
    def metrics(self) -> tuple[str, ...]:
        """The deciding metric, and its guards."""
        return (self.metric, *self.guards)

    @property
    def scorers(self) -> tuple[str, ...]:
        """Those of :attr:`metrics` that are scorers."""
        return tuple(name for name in self.metrics if name not in RATIOS)

    def ends(self, scorer: str) -> tuple[float, float] | None:
        """Return the lowest and the highest score; ``None`` where there are none."""
        found = tuple(self.scale.get(scorer, (0.0, 1.0)))
        return (found[0], found[1]) if found else None

    def can_fail(self, scorer: str) -> bool:
        """Whether a scale has scores on both sides of :attr:`passing`."""
        if (ends := self.ends(scorer)) is None:
            return True
        low, high = ends
        return low <= self.passing < high if scorer in self.lower_is_better else low < self.passing <= high

    def loss(self, metric: str) -> float:
        """Return how much of a metric may be lost, in the unit in which its gain is measured."""
        allowed = self.margin if metric == self.metric else self.guards[metric]
        return math.log1p(allowed) if metric in RATIOS else allowed

    @property
    def least(self) -> float:
        """The smallest gain that is worth it, in the unit in which it is measured."""
        return -math.log1p(-self.minimum_gain) if self.metric in RATIOS else self.minimum_gain

    def _check_numbers(self) -> None:
        for name in ("alpha", "power"):
            share(name, getattr(self, name), "For example 0.05, and a power of 0.8.")
        if self.alpha >= 0.5 or self.power <= 0.5:
            _refuse("alpha", self.alpha, f"alpha is {self.alpha} and power is {self.power}", "0.05 and 0.8.")
        numbers = {
            name: getattr(self, name)
            for name in ("minimum_gain", "margin", "slice_margin", "max_age_days", "item_cost", "passing")
        } | {f"guards[{name}]": value for name, value in self.guards.items()}
        for name, value in numbers.items():
            finite(name, value)
            if value < 0 and name != "passing":
                _refuse(name, value, f"{name} is {value}", "Use zero or more.")
        for name in ("hard_share", "kappa", "flips", "position_flips"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                _refuse(name, value, f"{name} is {value}", "Use a share, from 0 to 1.")
        if self.metric in RATIOS and self.minimum_gain >= 1:
            _refuse("minimum_gain", self.minimum_gain, f"nothing is {self.minimum_gain:.0%} cheaper", "0.1?")
        for name, value in self.guards.items():
            if not value:
                _refuse(
                    "guards",
                    name,
                    f"nothing of {name} may be lost, which no number of items can show",
                    "Give it a margin, such as 0.02; of cost and latency a share, such as 0.1.",
                )

    def _check_names(self) -> None:
        if not self.metric:
            _refuse("metric", self.metric, "metric names no scorer", "Name the one that decides.")
        if self.metric in self.guards:
            _refuse("guards", self.metric, f"{self.metric!r} decides, and is its own guard", "Leave it out.")
        for name in ("scale", "lower_is_better", "ordinal", "judges"):
            for one in getattr(self, name):
                if one not in self.scorers:
                    _refuse(
                        name,
                        one,
                        f"{name} names {one!r}, which is neither the deciding scorer nor a guard",
                        f"The scorers are {', '.join(self.scorers) or 'none'}.",
                    )
        for one, ends in self.scale.items():
            if len(ends) not in (0, 2) or (ends and not -math.inf < ends[0] < ends[1] < math.inf):
                _refuse("scale", one, f"the scale of {one!r} is {list(ends)}", "Give its lowest and highest.")


def _refuse(field: str, value: object, message: str, remedy: str) -> None:
    raise InvalidInput(message, field=field, value=value, remedy=remedy)
