"""How many items, or runs of each, would settle what nobody can tell (Miller, arXiv 2411.00640). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.llm.gate.effects import Effect, Noise

#: Nobody waits for more.
_NEVER = 10_000_000
_MOST_RUNS = 1000


@dataclass(frozen=True)
class Need(JsonForm):
    """What would settle it.

    :param items: in all, with as many runs as there were; ``None`` if no number would.
    :param runs: of each item and arm, with as many items as there were; ``None`` if no number would.
    :param best_runs: the number of runs with which an answer costs least; ``None`` where no item was run twice.
    :param difference: that would be told then.
    :param detectable: the smallest true loss that these items find with the wanted power.
    """

    items: int | None
    runs: int | None
    best_runs: int | None
    difference: float
    detectable: float | None


def quantiles(alpha: float, power: float) -> float:
    """Return the sum of the normal quantiles of an error on one side and of a power."""
    from scipy.special import ndtri

    return -float(ndtri(alpha)) + float(ndtri(power))


def items_needed(noise: Noise, difference: float, alpha: float, power: float, runs: float) -> int | None:
    """Return how many items tell a difference from none.

    :param noise: of the items.
    :param difference: in the metric's unit.
    :param alpha: chance of an error, on one side.
    :param power: chance to find it.
    :param runs: of each item and arm.
    :return: the number; ``None`` if nobody waits for it.
    """
    if difference <= 0:
        return None
    variance = noise.between + (noise.within or 0.0) / runs
    found = quantiles(alpha, power) ** 2 * variance / difference**2
    return max(1, math.ceil(found)) if found < _NEVER else None


def runs_needed(noise: Noise, difference: float, alpha: float, power: float, items: float) -> int | None:
    """Return how many runs of each item tell a difference from none, with so many items; ``None`` if no number does."""
    if difference <= 0 or noise.within is None:
        return None
    left = items * difference**2 / quantiles(alpha, power) ** 2 - noise.between
    if left <= 0:
        return None
    found = max(1, math.ceil(noise.within / left))
    return found if found <= _MOST_RUNS else None


def best_runs(noise: Noise, item_cost: float) -> int | None:
    """Return the number of runs with which a given error costs least.

    Of ``n`` items the cost is ``n * (item_cost + runs)`` and the variance ``(between + within / runs) / n``; their product
    is least at the root of ``item_cost * within / between``. Runs beyond that buy less than items do.

    :return: the number; ``None`` where no item was run twice, or the items do not differ but for chance.
    """
    if noise.within is None:
        return None
    if noise.between <= 0:
        return None if noise.within > 0 else 1
    return max(1, min(_MOST_RUNS, round(math.sqrt(item_cost * noise.within / noise.between))))


def need(effect: Effect, difference: float, alpha: float, power: float, item_cost: float) -> Need:
    """Return what would tell a difference.

    :param effect: as it was measured.
    :param difference: that is to be told from none.
    :param alpha: chance of an error, on one side.
    :param power: chance to tell it.
    :param item_cost: what a further item costs, in runs.
    :return: items and runs.
    """
    error = effect.gain.error
    detectable = quantiles(alpha, power) * error if error else None
    noise = effect.noise
    if noise is None or difference <= 0:
        return Need(None, None, None, difference, detectable)
    # Items that move together are fewer than they look.
    alike = max(1.0, effect.gain.design_effect or 1.0)
    items, runs = effect.gain.rows, None
    wanted = items_needed(noise, difference, alpha, power, noise.runs)
    if wanted is not None:
        wanted = math.ceil(wanted * alike)
        if effect.span and difference < effect.span:
            # Of items that hardly ever differ, so many show that they hardly ever do.
            wanted = max(wanted, math.ceil(math.log(alpha) / math.log1p(-difference / effect.span) * alike))
        wanted = max(wanted, items + 1)
    if alike < 2:
        runs = runs_needed(noise, difference, alpha, power, items / alike)
        runs = runs if runs and runs > noise.runs else None
    return Need(wanted, runs, best_runs(noise, item_cost), difference, detectable)
