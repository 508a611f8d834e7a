"""What a retrain is expected to win, against what it costs.

Two kinds of evidence say what staying with the champion loses on each batch, and the larger one counts:

- the **shortfall**: how far the metric was below its reference in the last ``n`` measured batches, less ``confidence``
  times the standard error of that mean. It notices a world that changed.
- **ageing**: wherever the model before the champion was scored on the same batches, the difference between the two is
  free of how hard a batch is. Divided by the difference of their ages it is a loss for each batch of age, which times
  the champion's age says what a fresh model would win. It notices a slow decay that hides in the noise, and it starts
  from ``policy.decay``, which a backtest on the reference history gives (:mod:`airflow_pipeops.governor.calibration`).

The gain is expected to last for ``horizon`` batches; by default for half as long as the champion has served. Under a steady
decay of ``d`` a batch this says: retrain when ``d * age**2 / 2`` reaches the cost, the age at which the sum of staleness
and retraining is least. Whatever the decay, a young model needs a larger loss than an old one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.governor.history import (
    DECLINED,
    FAILED,
    REJECTED,
    RETRAIN,
    ROLLBACK,
    Observation,
    since_retrain,
)
from airflow_pipeops.governor.policy import RetrainPolicy

#: ``policy.decay`` weighs as much as this number of batches on which two models one batch of age apart were compared.
_PRIOR = 1000.0


@dataclass(frozen=True)
class Forecast(JsonForm):
    """What a retrain is expected to win.

    :param shortfall: certain loss against the reference, for each batch, in units of the metric.
    :param ageing: loss against a fresh model, for each batch, as far as paired comparisons tell.
    :param recovery: share of such a loss that a retrain is expected to win back.
    :param gain: what is won on each batch.
    :param horizon: number of batches that it is won on.
    :param worth: all of that, in the unit of the cost; ``None`` if it is valued by rows and they are not known.
    :param cost: of a retrain; ``None`` if the policy states none.
    """

    shortfall: float
    ageing: float
    recovery: float
    gain: float
    horizon: float
    worth: float | None
    cost: float | None

    @property
    def pays(self) -> bool:
        """Whether a retrain is worth its cost; without a cost, always."""
        return self.cost is None or (self.worth is not None and self.worth >= self.cost)

    @property
    def ageing_pays(self) -> bool:
        """Whether what ageing costs is alone worth the stated cost."""
        if self.cost is None or self.worth is None or self.ageing <= 0:
            return False
        return self.worth * self.ageing / max(self.ageing, self.shortfall) >= self.cost

    def told(self) -> str:
        """Return what is won in plain words."""
        worth = 0.0 if self.worth is None else self.worth
        batches = "batch" if self.horizon == 1 else "batches"
        return f"{self.gain:.3g} a batch for {self.horizon:g} {batches}, worth {worth:.3g}"


def forecast(
    past: Sequence[Observation],
    current: Observation,
    losses: Sequence[float],
    policy: RetrainPolicy,
) -> Forecast:
    """Say what a retrain after ``current`` is expected to win.

    :param past: deduplicated, oldest first.
    :param losses: of the measured batches since the last retrain, ``current`` included, oldest first.
    :return: the gain, and what it was worked out from.
    """
    since = len(since_retrain(past)) + 1
    error = current.performance_error if current.performance is not None else None
    shortfall = _shortfall(losses, error, policy)
    recovery = recovered(past, policy)
    aged = max(0.0, decay(past, current, policy)) * _age(past)
    gain = max(shortfall, aged) * recovery
    horizon = max(1.0, since / 2) if policy.horizon is None else policy.horizon
    volume = _volume([*past[-policy.n :], current]) if policy.value_per == "row" else 1.0
    worth = None if volume is None else gain * horizon * volume * policy.value
    return Forecast(shortfall, aged, recovery, gain, horizon, worth, policy.retrain_cost)


def _shortfall(losses: Sequence[float], error: float | None, policy: RetrainPolicy) -> float:
    recent = losses[-policy.n :]
    if error is None:  # nobody said it: what the batches say, which takes two of them
        error = stdev(recent) if len(recent) > 1 else math.inf if policy.confidence else 0.0
    if not recent or error == math.inf:
        return 0.0
    # A reference of the model's own was itself measured once, on about as much data; a level that was agreed is exact.
    own = 0.0 if policy.target is not None else 1.0
    noise = error * math.sqrt(1 / len(recent) + own)
    return max(0.0, math.fsum(recent) / len(recent) - policy.confidence * noise)


def _volume(recent: Sequence[Observation]) -> float | None:
    rows = [item.rows for item in recent if item.rows is not None]
    return sum(rows) / len(rows) if rows else None


def _trained(past: Sequence[Observation]) -> list[int]:
    """Return after which batches the models were trained that a rollback could still reach; the last one serves."""
    stack = [-1]
    for number, item in enumerate(past):
        if item.action == ROLLBACK:
            stack = stack[:-1] or [-1]
        elif item.changed_the_model:
            stack.append(number)
    return stack


def _age(past: Sequence[Observation]) -> int:
    return len(past) - _trained(past)[-1]


def decay(past: Sequence[Observation], current: Observation, policy: RetrainPolicy) -> float:
    """Return the loss for each batch of age, from all batches on which two models were measured, and the prior."""
    weight = 0.0 if policy.decay is None else _PRIOR
    total = weight * (policy.decay or 0.0)
    stack = [-1]
    for number, item in enumerate([*past, current]):
        difference = better(item, policy)
        if difference is not None and len(stack) > 1:
            gap = stack[-1] - stack[-2]
            total += gap * difference
            weight += gap * gap
        if item.action == ROLLBACK:
            stack = stack[:-1] or [-1]
        elif item.changed_the_model:
            stack.append(number)
    return total / weight if weight else 0.0


def better(item: Observation, policy: RetrainPolicy) -> float | None:
    """Return by how much the champion is better than its predecessor on a batch; ``None`` where nobody can say."""
    if not item.quality_passed or item.performance is None or item.predecessor_performance is None:
        return None
    difference = item.performance - item.predecessor_performance
    return round(difference if policy.higher_is_better else -difference, 9)


def helped(past: Sequence[Observation], policy: RetrainPolicy) -> list[tuple[int, bool]]:
    """Find the earlier retrains whose outcome is known.

    A rejected or failed challenger did not. A promoted one did if, on the batches since, it was better than the model
    before on average; while nothing was compared, it did if it was promoted. What a person declined was no retrain.

    :return: for each the number of its batch, and whether it helped.
    """
    found: list[tuple[int, bool]] = []
    retrains = [number for number, item in enumerate(past) if item.action in (RETRAIN, ROLLBACK)]
    for place, number in enumerate(retrains):
        item = past[number]
        if item.action == ROLLBACK or item.outcome == DECLINED:
            continue
        ended = retrains[place + 1] if place + 1 < len(retrains) else len(past) - 1
        gains = [
            gain for after in past[number + 1 : ended + 1] if (gain := better(after, policy)) is not None
        ]
        if item.outcome in (REJECTED, FAILED):
            found.append((number, False))
        elif gains:
            found.append((number, math.fsum(gains) > 0))
        elif item.outcome:
            found.append((number, True))
    return found


def recovered(past: Sequence[Observation], policy: RetrainPolicy) -> float:
    """Return which share of a loss a retrain may be expected to win back: what earlier ones did, and the policy's prior."""
    known = [won for _, won in helped(past, policy)]
    return (policy.recovery + sum(known)) / (1 + len(known))
