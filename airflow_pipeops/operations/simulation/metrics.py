"""What a run was worth: against an oracle that knew everything, and as a controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.governor.history import RETRAIN, ROLLBACK
from airflow_pipeops.operations.simulation.loop import START, Trace
from airflow_pipeops.operations.simulation.plant import Plant, Scenario

#: A loss below this is none.
_WELL = 0.02
#: An act that is taken back within so many batches was a reversal.
_SOON = 60


@dataclass(frozen=True)
class Figures(JsonForm):
    """Figures of one deliverable in one run.

    :param cost: loss of the metric over all batches, and what the retrains cost.
    :param oracle: the least that anybody could have paid who had known the world, with the same delays.
    :param retrains: that were started.
    :param rollbacks: that were started.
    :param calls: of a person by the remediator.
    :param false_alarms: anomalies for each 1,000 batches that were as well as those of ``false_acts``.
    :param false_acts: acts for each 1,000 batches in which what served was well, and was so on all that was known.
    :param stable: number of those batches.
    :param repair: most batches from a shock until the loss was below .02 again; ``None`` without a shock.
    :param unrepaired: shocks after which it never was.
    :param reversals: acts that were taken back soon; moves of the knob that were.
    :param settled: batches from the last shock to the last act after it; ``None`` without a shock.
    :param most_acts: most acts within 60 batches.
    :param outage_acts: acts while labels that ought to be there were not.
    :param moves: of the knob.
    :param variation: how far the knob has gone, to and fro.
    :param overshoot: by how much of its way the knob went too far, at most.
    :param cycles: whether models or the knob go round in a circle that the world does not.
    """

    cost: float
    oracle: float
    retrains: int
    rollbacks: int
    calls: int
    false_alarms: float
    false_acts: float
    stable: int
    repair: int | None
    unrepaired: int
    reversals: int
    settled: int | None
    most_acts: int
    outage_acts: int
    moves: int
    variation: float
    overshoot: float
    cycles: bool


def figures(trace: Trace, scenario: Scenario, plant: Plant) -> Figures:
    """Work out the figures of a run.

    :param trace: what happened.
    :param scenario: what the world did.
    :param plant: what there was to live with.
    :return: the figures.
    """
    acts = trace.acts
    retrains = sum(act.kind == RETRAIN for act in acts)
    well = [
        loss < _WELL / 2 and scenario.beyond_repair(batch) == 0 for batch, loss in enumerate(trace.losses)
    ]
    stable = [_all_well(well, batch, plant) for batch in range(len(well))]
    false_acts = sum(stable[act.batch] for act in acts)
    false_alarms = sum(stable[batch] for batch in trace.alarms)
    shocks = [shock for shock in scenario.shocks if shock < len(well)]
    repairs = [_repaired(trace.losses, shock) for shock in shocks]
    known = [repair for repair in repairs if repair is not None]
    moves = [after - before for before, after in pairwise(trace.thresholds) if after != before]
    after_last = [act.batch - shocks[-1] for act in acts if act.batch >= shocks[-1]] if shocks else []
    return Figures(
        cost=round(sum(trace.losses) + plant.retrain_cost * retrains, 4),
        oracle=round(oracle(trace, plant), 4),
        retrains=retrains,
        rollbacks=sum(act.kind == ROLLBACK for act in acts),
        calls=trace.calls,
        false_alarms=round(1000 * false_alarms / max(1, sum(stable)), 2),
        false_acts=round(1000 * false_acts / max(1, sum(stable)), 2),
        stable=sum(stable),
        repair=max(known, default=None),
        unrepaired=len(repairs) - len(known),
        reversals=_reversals(trace) + sum(one * other < 0 for one, other in pairwise(moves)),
        settled=max(after_last, default=0) if shocks else None,
        most_acts=max((_within(trace, act.batch) for act in acts), default=0),
        outage_acts=sum(_out(scenario, act.batch, plant) for act in acts)
        + sum(step.acts and _out(scenario, (step.when - START).days, plant) for step in trace.steps),
        moves=len(moves),
        variation=round(sum(map(abs, moves)), 4),
        overshoot=round(_overshoot(trace), 4),
        cycles=_circles([model.place for model in trace.models], trace.world)
        or _circles(trace.thresholds, trace.world),
    )


def _all_well(well: Sequence[bool], batch: int, plant: Plant) -> bool:
    """Whether it was well now, and on all batches that a decision could have rested on."""
    return all(well[max(0, batch - plant.label_delay - 5) : batch + 1])


def _repaired(losses: Sequence[float], shock: int) -> int | None:
    hurt = [batch for batch in range(shock, min(shock + 5, len(losses))) if losses[batch] >= _WELL]
    if not hurt:
        return 0
    return next((batch - shock for batch in range(hurt[0], len(losses)) if losses[batch] < _WELL), None)


def _reversals(trace: Trace) -> int:
    """Count rollbacks soon after a release, and retrains soon after a rollback."""
    return sum(
        ROLLBACK in (earlier.kind, later.kind)
        and earlier.kind != later.kind
        and later.batch - earlier.batch <= _SOON
        for earlier, later in pairwise(trace.acts)
    )


def _within(trace: Trace, start: int) -> int:
    return sum(start <= act.batch < start + _SOON for act in trace.acts)


def _out(scenario: Scenario, batch: int, plant: Plant) -> bool:
    """Whether the labels that should have come then are missing."""
    labelled = batch - plant.label_delay
    return labelled >= 0 and scenario.no_labels(labelled)


def _overshoot(trace: Trace) -> float:
    """By how much of its whole way the threshold was beyond where it ended, in the direction of that way."""
    if not trace.thresholds:
        return 0.0
    first, last = trace.thresholds[0], trace.thresholds[-1]
    way = last - first
    if abs(way) < 1e-9:
        return 0.0
    most = max((item - last) / way for item in trace.thresholds)
    return max(0.0, most)


def _circles(series: Sequence[float], world: Sequence[float]) -> bool:
    """Whether a series, after a third of the time, comes back to itself again and again; not where the world turns, too."""
    start = len(series) // 3
    return _turns(world[start:]) < 2 and _periodic(series[start:])


def _turns(series: Sequence[float]) -> int:
    moves = [after - before for before, after in pairwise(series) if after != before]
    return sum(one * other < 0 for one, other in pairwise(moves))


def _periodic(series: Sequence[float]) -> bool:
    """Whether the autocorrelation, once it has fallen below zero, comes back above a half; few moves are no cycle."""
    if _turns(series) < 4:
        return False
    mean = sum(series) / len(series)
    centred = [item - mean for item in series]
    whole = sum(item * item for item in centred)
    fallen = False
    for lag in range(1, len(series) // 2):
        peak = sum(one * other for one, other in zip(centred, centred[lag:], strict=False)) / whole
        peak *= len(series) / (len(series) - lag)
        fallen = fallen or peak < 0
        if fallen and peak > 0.5:
            return True
    return False


def oracle(trace: Trace, plant: Plant) -> float:
    """Return what the best schedule of retrains would have cost.

    It knows the world beforehand, and has the same label delay and the same time to a release; none of its retrains fails.

    :param trace: with the world.
    :param plant: the delays and what a retrain costs.
    :return: the cost.
    """
    import numpy as np

    world = np.asarray(trace.world)
    count, deploy = len(world), plant.deploy
    places = np.concatenate([[0.0], world[np.maximum(0, np.arange(count) - plant.label_delay)]])
    # sums[i][t]: loss over the batches before t, were they all served by the model that was trained at i - 1.
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    final = np.inf
    for model in range(count + 1):
        if model:
            best[model] += plant.retrain_cost
        start = 0 if model == 0 else min(count, model - 1 + deploy)
        sums = np.concatenate([[0.0], np.cumsum(np.abs(world[start:] - places[model]))])
        final = min(final, best[model] + sums[-1])
        # Another retrain, decided at t, takes over at t + deploy.
        after = np.arange(model + 1, count + 1)
        stops = np.minimum(count, after - 1 + deploy) - start
        best[after] = np.minimum(best[after], best[model] + sums[stops])
    return float(final)
