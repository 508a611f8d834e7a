"""When a retrain is worth it: the numbers that people agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput

#: What a decision leads to: a record, a question to a person, or an action.
Mode = Literal["observe", "propose", "act"]
OBSERVE: Final = "observe"
PROPOSE: Final = "propose"
ACT: Final = "act"
MODES: tuple[Mode, ...] = (OBSERVE, PROPOSE, ACT)

#: Batches, where no delay is stated: right where labels are there at once and batches are of months.
_COOLDOWN, _MEMORY = 2, 12
#: So many times both delays is a retrain that did not help remembered: else it is forgiven before a second can fail, too.
_TIMES = 10


def least_cooldown(label_delay: int, release: int) -> int:
    """Return the batches after a retrain whose labels are of the model before, or of nothing yet.

    :param label_delay: batches that come before the labels of one are there.
    :param release: batches that come between a decision to retrain and the release.
    :return: both together.
    """
    return label_delay + release


def least_memory(label_delay: int, release: int) -> int:
    """Return the batches for which a retrain that did not help should be remembered, as docs/stability.md measures it.

    :param label_delay: batches that come before the labels of one are there.
    :param release: batches that come between a decision to retrain and the release.
    :return: ten times the delays.
    """
    return _TIMES * least_cooldown(label_delay, release)


def too_short(policy: RetrainPolicy, label_delay: int, release: int) -> str:
    """Say what is wrong with a cooldown that ends before the first labels of the model that was retrained are there.

    A cooldown by time (``cooldown``) may be as long; nobody can tell how many batches that are, so nothing is said then.

    :param policy: with the cooldown.
    :param label_delay: batches that come before the labels of one are there.
    :param release: batches that come between a decision to retrain and the release.
    :return: it in words; empty where it is long enough.
    """
    least = least_cooldown(label_delay, release)
    if policy.cooldown or policy.dwell >= least:
        return ""
    return (
        f"of the retrain policy is {policy.dwell}, and labels ({label_delay}) and a release ({release}) take {least} "
        "batches: it would retrain for what the model before has lost"
    )


@dataclass(frozen=True)
class RetrainPolicy(JsonForm):
    """How much loss, for how long, is worth a retrain.

    :param target: service level of the metric; given, it replaces each observation's own reference. A model's score on
        a few held-out days is an easy or a hard week: prefer a level that people agreed on.
    :param max_drop: largest loss against the reference that is accepted, in units of the metric.
    :param k: number of batches, of the last ``n`` measured ones, that must be below.
    :param n: number of measured batches looked at.
    :param min_batches: number of measured batches needed at all, after the last retrain.
    :param cooldown_batches: number of batches after a retrain in which nothing can retrain. By default it follows the
        delays (:func:`least_cooldown`), and is two where none is stated.
    :param cooldown: time after a retrain in which nothing can retrain.
    :param drift_share: from this share on, columns are said to have moved. It is told, and never retrains.
    :param higher_is_better: false for an error.
    :param mode: ``observe`` records what would be done, ``propose`` asks a person, ``act`` acts.
    :param needs_approval: a person must agree before a retrain or rollback starts, in mode ``act`` too.
    :param clear_drop: a loss that was more than ``max_drop`` in k of n batches is over once a batch is within this;
        ``max_drop`` by default. Smaller, it keeps an alarm from flickering.
    :param seasonal: shift the reference by how much earlier batches of the same season differed from all of that model.
    :param importance: column -> weight; given, the share of what moved is weighed, and columns that are not named weigh
        nothing.
    :param blind_batches: limit of batches in a row without a metric or an estimate; at it somebody must look, if columns
        moved. ``None``: never.
    :param budget: limit of retrains within ``budget_window``; ``None`` for none.
    :param budget_window: see ``budget``.
    :param max_futile: limit of retrains in a row that did not help; at it somebody must look instead of a further one.
        Each of them before asks for one more batch of evidence.
    :param futile_memory: number of batches after which a retrain that did not help is forgiven. By default it follows the
        delays (:func:`least_memory`), and is 12 where none is stated.
    :param rollback_drop: the model before must be better by more than this in k of n batches for a rollback; ``None``:
        never.
    :param retrain_cost: what a retrain costs, all in; given, it must be earned. In the unit of ``value``.
    :param value: what one whole unit of the metric is worth on one batch (or on one row: ``value_per``).
    :param value_per: ``batch`` or ``row``.
    :param horizon: number of batches for which the gain of a retrain is expected to last; by default half of the model's
        age, which is right for a steady decay, and at least one.
    :param recovery: share of a loss that a retrain is expected to win back, while nothing is known of earlier ones: a
        part of it is a hard batch, which no model masters.
    :param decay: loss of the metric for each batch of the model's age, from a backtest on the reference history.
    :param confidence: number of its standard errors that a loss must be above to count.
    :param label_delay_batches: number of batches that come before the labels of one are there.
    :param release_batches: number of batches that come between a decision to retrain and the release.
    :raises InvalidInput: for numbers that make no sense.
    """

    target: float | None = None
    max_drop: float = 0.02
    k: int = 2
    n: int = 3
    min_batches: int = 2
    cooldown_batches: int | None = None
    cooldown: timedelta = timedelta(0)
    drift_share: float = 0.5
    higher_is_better: bool = True
    mode: Mode = ACT
    needs_approval: bool = False
    clear_drop: float | None = None
    seasonal: bool = False
    importance: Mapping[str, float] = field(default_factory=dict)
    blind_batches: int | None = None
    budget: int | None = None
    budget_window: timedelta = timedelta(days=365)
    max_futile: int = 2
    futile_memory: int | None = None
    rollback_drop: float | None = 0.02
    retrain_cost: float | None = None
    value: float = 1.0
    value_per: Literal["batch", "row"] = "batch"
    horizon: float | None = None
    recovery: float = 0.5
    decay: float | None = None
    confidence: float = 1.0
    label_delay_batches: int = 0
    release_batches: int = 0

    def __post_init__(self) -> None:
        demand_types(self)
        for name, value in asdict(self).items():
            for number in value.values() if isinstance(value, Mapping) else [value]:
                if isinstance(number, float) and not math.isfinite(number):
                    raise InvalidInput(
                        f"{name} of the retrain policy is {number}", field=name, value=str(number)
                    )
        for name, sound in self._checks().items():
            if not sound:
                raise InvalidInput(
                    f"{name} {getattr(self, name)!r} of the retrain policy is out of range",
                    field=name,
                    value=getattr(self, name),
                    remedy="Use 1 <= k <= n, shares from 0 to 1, no negative numbers, and the words that are documented.",
                )
        short = too_short(self, self.label_delay_batches, self.release_batches)
        if short:
            raise InvalidInput(
                f"cooldown_batches {short}",
                field="cooldown_batches",
                value=self.cooldown_batches,
                remedy="Leave cooldown_batches out: it follows label_delay_batches and release_batches.",
            )

    def _checks(self) -> dict[str, bool]:
        return {
            "k": 1 <= self.k <= self.n,
            "max_drop": self.max_drop >= 0,
            "min_batches": self.min_batches >= 1,
            "cooldown_batches": self.cooldown_batches is None or self.cooldown_batches >= 0,
            "cooldown": self.cooldown >= timedelta(0),
            "drift_share": 0 <= self.drift_share <= 1,
            "mode": self.mode in MODES,
            "clear_drop": self.clear_drop is None or self.clear_drop <= self.max_drop,
            "importance": all(weight >= 0 for weight in self.importance.values()),
            "blind_batches": self.blind_batches is None or self.blind_batches >= 1,
            "budget": self.budget is None or self.budget >= 0,
            "budget_window": self.budget_window > timedelta(0),
            "max_futile": self.max_futile >= 1,
            "futile_memory": self.futile_memory is None or self.futile_memory >= 1,
            "rollback_drop": self.rollback_drop is None or self.rollback_drop >= 0,
            "retrain_cost": self.retrain_cost is None or self.retrain_cost >= 0,
            "value": self.value > 0,
            "value_per": self.value_per in ("batch", "row"),
            "horizon": self.horizon is None or self.horizon > 0,
            "recovery": 0 <= self.recovery <= 1,
            "confidence": self.confidence >= 0,
            "label_delay_batches": self.label_delay_batches >= 0,
            "release_batches": self.release_batches >= 0,
        }

    @property
    def dwell(self) -> int:
        """Batches after a retrain in which nothing can retrain."""
        if self.cooldown_batches is not None:
            return self.cooldown_batches
        return max(_COOLDOWN, least_cooldown(self.label_delay_batches, self.release_batches))

    @property
    def memory(self) -> int:
        """Batches after which a retrain that did not help is forgiven."""
        if self.futile_memory is not None:
            return self.futile_memory
        return max(_MEMORY, least_memory(self.label_delay_batches, self.release_batches))

    @property
    def clear(self) -> float:
        """The loss within which an alarm is over."""
        return self.max_drop if self.clear_drop is None else self.clear_drop

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RetrainPolicy:
        """Read the JSON form.

        :param data: the fields of a policy; what is left out has its default.
        :return: the policy.
        :raises InvalidInput: for a name that is unknown, since a misspelt limit would be no limit, or a wrong value.
        """
        mapping(
            "policy",
            data,
            "Give the fields of a policy.",
            message="a policy is an object of names and values",
        )
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            raise InvalidInput(
                f"a retrain policy has no {', '.join(unknown)}",
                field=unknown[0],
                remedy=f"Use {', '.join(cls.__dataclass_fields__)}.",
            )
        return super().from_json(data)
