"""Set a policy's numbers from a history in which nothing was wrong, instead of by taste."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from statistics import NormalDist, fmean, stdev

from airflow_pipeops.base.arguments import at_least, not_empty, share
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.history import RETRAIN, Observation
from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.governor.replay import simulate
from airflow_pipeops.governor.situation import Look

#: With fewer losses, their spread is not known well enough to promise a rate.
MIN_BATCHES = 8
_START = datetime(2000, 1, 1, tzinfo=timezone.utc)


def calibrated(
    history: Sequence[Observation], policy: RetrainPolicy, *, false_alarms: float = 0.05
) -> RetrainPolicy:
    """Find the smallest ``max_drop`` that keeps to a rate of false alarms.

    A false alarm is a batch on which the rule k of n is met although nothing is wrong. The losses of the reference
    history are taken as independent draws: the share of them above the threshold where there are enough, a normal
    tail, widened for the few that were seen, beyond.

    :param history: of a time in which the model was good, under this policy's ``target`` or with references of its own.
    :param false_alarms: accepted share of batches with a false alarm.
    :return: the policy with it.
    :raises InvalidInput: for fewer than eight measured batches, or a rate that is none.
    """
    share("false_alarms", false_alarms, "Use a share of batches between 0 and 1, for example 0.05.")
    losses = [loss for loss in _losses(history, policy) if loss is not None]
    message = f"{len(losses)} measured batches are too few to calibrate on"
    remedy = f"Give at least {MIN_BATCHES} batches with a metric and a reference."
    at_least("history", len(losses), MIN_BATCHES, message, remedy)
    return replace(
        policy, max_drop=max(0.0, _quantile(losses, _exceedance(policy.k, policy.n, false_alarms)))
    )


def _losses(history: Sequence[Observation], policy: RetrainPolicy) -> list[float | None]:
    now = datetime.now(timezone.utc)
    return [Look(history[:number], item, policy, now).loss(item) for number, item in enumerate(history)]


def alarm_rate(exceeds: float, k: int, n: int) -> float:
    """Return how often a batch and k - 1 of the n - 1 before it exceed, if each does with a chance of its own."""
    return exceeds * math.fsum(
        math.comb(n - 1, low) * exceeds**low * (1 - exceeds) ** (n - 1 - low) for low in range(k - 1, n)
    )


def _exceedance(k: int, n: int, rate: float) -> float:
    """Return the chance of a single batch to exceed at which the rule k of n has a rate."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if alarm_rate(middle, k, n) < rate else (low, middle)
    return low


def _quantile(losses: Sequence[float], exceeds: float) -> float:
    """Return the loss that a batch exceeds with a chance."""
    count = len(losses)
    normal = fmean(losses) + NormalDist().inv_cdf(1 - exceeds) * stdev(losses) * (1 + 1 / (2 * count))
    if exceeds * count < 5:  # too few lie beyond it to count them
        return normal
    return sorted(losses)[min(count - 1, math.ceil((1 - exceeds) * (count + 1)) - 1)]


def cheapest(
    scores: Mapping[tuple[int, int], float],
    policies: Iterable[RetrainPolicy],
    *,
    errors: Mapping[tuple[int, int], float] | None = None,
) -> RetrainPolicy:
    """Find the policy that would have cost least over a backtest: what was lost in the metric, and its retrains.

    Each policy is run over the batches in turn, beginning with the oldest model, and its decisions have their
    consequences. Between policies that cost the same, the first one is taken.

    :param scores: ``(trained after batch, measured on batch) -> metric``, of a model trained after every batch but the
        last, on every batch after it; batches without a gap.
    :param policies: with a ``retrain_cost`` in units of the metric (``value`` 1 for each batch).
    :param errors: standard errors of the scores.
    :return: the policy.
    :raises InvalidInput: for a score that is missing, or a policy without a cost.
    """
    not_empty("scores", scores, "there are no scores to choose by", "Run a backtest first.")
    oldest, last = min(trained for trained, _ in scores), max(batch for _, batch in scores)
    models = range(oldest, last)
    missing = [(model, batch) for model in models for batch in range(model + 1, last + 1)]
    missing = [at for at in missing if at not in scores]
    if missing:
        raise InvalidInput(
            f"the model trained after batch {missing[0][0]} was not measured on batch {missing[0][1]}",
            field="scores",
            remedy="Measure every model on every batch after it.",
        )
    found = [(_cost(scores, errors or {}, oldest, last, policy), policy) for policy in policies]
    return min(found, key=lambda item: item[0])[1]


def _cost(
    scores: Mapping[tuple[int, int], float],
    errors: Mapping[tuple[int, int], float],
    oldest: int,
    last: int,
    policy: RetrainPolicy,
) -> float:
    if policy.retrain_cost is None or policy.value_per != "batch":
        raise InvalidInput(
            "a policy without retrain_cost, or with a value per row, has no cost that could be compared",
            field="policies",
            remedy="Set retrain_cost, and value for each batch.",
        )
    sign, served = (1.0 if policy.higher_is_better else -1.0), []

    def observe(batch: int, trained: int, before: int | None) -> Observation:
        at, model = oldest + 1 + batch, oldest + 1 + trained
        served.append(sign * scores[model, at])
        return Observation(
            f"batch {at}",
            (_START + timedelta(days=at)).isoformat(),
            quality_passed=True,
            performance=scores[model, at],
            performance_error=errors.get((model, at)),
            predecessor_performance=None if before is None else scores[oldest + 1 + before, at],
        )

    steps = simulate(last - oldest, observe, policy)
    # After the last batch there is nobody left whom a retrain could help.
    retrains = sum(step.decision.action == RETRAIN for step in steps[:-1])
    return policy.retrain_cost * retrains - policy.value * math.fsum(served)


def decay(
    scores: Mapping[tuple[int, int], float], *, higher_is_better: bool = True, confidence: float = 1.0
) -> float:
    """Measure the loss for each batch of age in a backtest: what ``policy.decay`` should be.

    Only scores on the same batch are compared, so it does not matter how hard a batch is. The standard error is that of
    leaving out one batch at a time (jackknife).

    :param scores: ``(trained after batch, measured on batch) -> metric``, for at least two models on one batch.
    :param confidence: number of standard errors taken off; what is then below zero is zero.
    :return: the loss, zero or more.
    :raises InvalidInput: if no two models were measured on the same batch.
    """
    by_batch: dict[int, list[tuple[int, float]]] = {}
    for (trained, batch), score in scores.items():
        if trained >= batch:
            raise InvalidInput(
                f"the model trained after batch {trained} was measured on batch {batch}, which it knows",
                field="scores",
                value=(trained, batch),
                remedy="Measure a model on later batches only.",
            )
        by_batch.setdefault(batch, []).append((trained, score if higher_is_better else -score))
    parts = [part for models in by_batch.values() if (part := _slope(models))[1]]
    if not parts:
        raise InvalidInput(
            "no two models were measured on the same batch",
            field="scores",
            remedy="Train at least two models at different times, and measure both on the batches after.",
        )
    total, weight = math.fsum(part[0] for part in parts), math.fsum(part[1] for part in parts)
    found, count = total / weight, len(parts)
    if count == 1:
        return max(0.0, found)
    without = [(total - part) / (weight - share) for part, share in parts]
    middle = fmean(without)
    error = math.sqrt((count - 1) / count * math.fsum((other - middle) ** 2 for other in without))
    return max(0.0, found - confidence * error)


def _slope(models: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return numerator and denominator of the slope of score over age, from all pairs of models on one batch."""
    pairs = [(new - old, better - worse) for old, worse in models for new, better in models if new > old]
    return math.fsum(gap * gain for gap, gain in pairs), math.fsum(gap * gap for gap, _ in pairs)
