"""What the governor looks at: the facts of a history, each worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from airflow_pipeops.governor.forecast import Forecast, forecast, helped
from airflow_pipeops.governor.history import Observation, in_order, since_retrain
from airflow_pipeops.governor.policy import RetrainPolicy


@dataclass(frozen=True)
class Look:
    """What the rules look at, each worked out once.

    :param past: the earlier batches, oldest first, one observation for each.
    :param current: the batch to decide about.
    :param policy: the numbers.
    :param now: the time of the decision, with a zone.
    """

    past: Sequence[Observation]
    current: Observation
    policy: RetrainPolicy
    now: datetime

    @cached_property
    def since(self) -> list[Observation]:
        """The batches after the last retrain."""
        return since_retrain(self.past)

    @cached_property
    def last(self) -> Observation | None:
        """The batch after which the last retrain was decided."""
        return self.past[-len(self.since) - 1] if len(self.since) < len(self.past) else None

    @cached_property
    def window(self) -> list[tuple[Observation, float]]:
        """The measured batches since the last retrain, in the order of their data, with the loss of each."""
        items = in_order((*self.since, self.current))
        return [(item, loss) for item in items if (loss := self.loss(item)) is not None]

    @cached_property
    def twin(self) -> Observation | None:
        """An earlier batch of another name with the same data."""
        digest = self.current.digest
        return next((item for item in self.past if digest and item.digest == digest), None)

    @cached_property
    def futile(self) -> int:
        """The number of last retrains in a row that did not help; what is long past is forgiven."""
        oldest = len(self.past) - self.policy.memory
        count = 0
        for number, won in reversed(helped(self.past, self.policy)):
            if won or number < oldest:
                break
            count += 1
        return count

    @cached_property
    def hurts(self) -> bool:
        """Whether the metric was too low in k of n batches, and has not come back since."""
        k, n = self.policy.k + self.futile, self.policy.n + self.futile
        on = False
        losses = [loss for _, loss in self.window]
        for number, loss in enumerate(losses):
            low = sum(item > self.policy.max_drop for item in losses[max(0, number - n + 1) : number + 1])
            on = (low >= k and loss > self.policy.max_drop) or (on and loss > self.policy.clear)
        return on and self.measured and self.current.quality_passed

    @cached_property
    def measured(self) -> bool:
        """Whether the loss on the batch in question is known."""
        return any(item is self.current for item, _ in self.window)

    @cached_property
    def enough(self) -> bool:
        """Whether enough batches were measured."""
        return self.measured and len(self.window) >= max(self.policy.min_batches, self.policy.k)

    @cached_property
    def forecast(self) -> Forecast | None:
        """What a retrain is expected to win."""
        if not self.measured:
            return None
        return forecast(self.past, self.current, [loss for _, loss in self.window], self.policy)

    @cached_property
    def ages(self) -> bool:
        """Whether a retrain pays for what ageing costs alone."""
        found = self.forecast
        if found is None or found.cost is None or not self.enough:
            return False
        return found.ageing > 0 and found.ageing_pays

    @cached_property
    def due(self) -> bool:
        """Whether there is reason for a retrain, whatever stands against it."""
        return self.hurts or (self.ages and self.current.quality_passed)

    def loss(self, item: Observation) -> float | None:
        """Return how far the metric is on the wrong side of its reference; ``None`` where nobody can say."""
        reference = self.reference(item)
        if not item.quality_passed or item.metric is None or reference is None:
            return None
        # Rounded, so that .70 - .68 is not more than .02 by the last bit.
        return round((reference - item.metric) * (1 if self.policy.higher_is_better else -1), 9)

    def reference(self, item: Observation) -> float | None:
        """Return what the metric should have been on a batch, in its season."""
        reference = item.reference_performance if self.policy.target is None else self.policy.target
        if reference is None or not self.policy.seasonal or not item.season:
            return reference
        return reference + self._seasonal_shift(item)

    def _seasonal_shift(self, item: Observation) -> float:
        seasons: dict[str, list[float]] = {}
        for earlier in self.past:
            if earlier.batch == item.batch:
                break
            if earlier.quality_passed and earlier.performance is not None and earlier.season:
                seasons.setdefault(earlier.season, []).append(earlier.performance)
        if item.season not in seasons or len(seasons) < 2:
            return 0.0
        means = {name: math.fsum(values) / len(values) for name, values in seasons.items()}
        return means[item.season] - math.fsum(means.values()) / len(means)

    def moved(self) -> float | None:
        """Return the share of columns that moved, weighed where the policy weighs them."""
        total = math.fsum(self.policy.importance.values())
        if not total or self.current.drift_share is None:
            return self.current.drift_share
        return math.fsum(self.policy.importance.get(name, 0.0) for name in set(self.current.drifted)) / total

    def moves(self) -> bool:
        """Whether columns are said to have moved."""
        share = self.moved()
        return share is not None and share >= self.policy.drift_share

    def told(self, item: Observation) -> str:
        """Return a batch with its metric and reference."""
        how = " (estimated)" if item.performance is None else ""
        return f"{item.batch} {item.metric:.3f}{how} against {self.reference(item):.3f}"

    def consequence(self) -> str:
        """Return what the last batches say, in one sentence."""
        k, n = self.policy.k + self.futile, self.policy.n + self.futile
        recent = self.window[-n:]
        low = [item for item, loss in recent if loss > self.policy.max_drop]
        over = f"more than {self.policy.max_drop:g} worse than its reference"
        told = "; ".join(self.told(item) for item in (low or [item for item, _ in recent]))
        known = f" ({told})" if told else ""
        count = f"in {len(low)} of the last {len(recent)} measured batches"
        if self.hurts:
            return f"The metric was {over} {count}{known}."
        if len(low) < k:
            return f"The metric was {over} {count}, {k} of {n} are needed{known}."
        return f"The metric is back within {self.policy.clear:g} of its reference in {self.current.batch}."

    def remarks(self) -> list[str]:
        """Return what is told beside the rules."""
        found: list[str] = []
        if self.twin:
            return found
        if self.hurts:
            found.append(self.consequence())
        cast = self.forecast
        if self.due and cast is not None and cast.cost is not None and cast.pays:
            found.append(f"A retrain is expected to win {cast.told()}, and costs {cast.cost:g}.")
        if self.moves():
            share = self.moved()
            weighed = ", weighed by importance," if self.policy.importance else ""
            moved = f"{share:.0%} of the columns of {self.current.batch}{weighed} moved"
            found.append(f"{moved} too." if self.hurts else f"{moved}; movement alone never retrains.")
        return found
