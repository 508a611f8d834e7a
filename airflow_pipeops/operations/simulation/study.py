"""A policy in all scenarios, beside the naive loop, beside itself with parts switched off, and at its margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import fmean, stdev
from typing import Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.operations.simulation.loop import Policies, run
from airflow_pipeops.operations.simulation.metrics import Figures, figures
from airflow_pipeops.operations.simulation.plant import Plant, Scenario

#: What retrains at each batch below its reference, and never waits.
NAIVE = Policies(None, None)


@dataclass(frozen=True)
class Row(JsonForm):
    """A scenario: means over runs, or the worst of them where it says so.

    :param scenario: its name.
    :param cost: of the policy.
    :param oracle: what an oracle pays in the same world.
    :param naive: what the naive loop pays.
    :param retrains: that were started.
    :param naive_retrains: that the naive loop started.
    :param rollbacks: that were started.
    :param false_alarms: anomalies, for each 1,000 stable batches; 0 where nothing answers them.
    :param calls: of a person by the remediator.
    :param cost_error: half of the interval that holds the mean cost with 95 %; ``None`` for one run.
    :param most_retrains: of one deliverable in one run.
    :param false_acts: for each 1,000 stable batches.
    :param stable: number of stable batches, in all runs together.
    :param repair: batches until a shock is repaired, at worst.
    :param unrepaired: shocks that never were, in all runs together.
    :param reversals: acts and moves that were taken back.
    :param most_acts: within 60 batches, at worst.
    :param outage_acts: while labels were missing, in all runs together.
    :param moves: of the knob.
    :param variation: of the knob.
    :param overshoot: of the knob, at worst.
    :param cycles: runs that go round in a circle of their own.
    :param cycles_gain: the same with all gains doubled.
    :param cycles_delay: the same with all delays doubled, which the policy is not told.
    """

    scenario: str
    cost: float
    oracle: float
    naive: float
    retrains: float
    naive_retrains: float
    rollbacks: float
    false_alarms: float
    calls: float
    cost_error: float | None
    most_retrains: int
    false_acts: float
    stable: int
    repair: int | None
    unrepaired: int
    reversals: float
    most_acts: int
    outage_acts: int
    moves: float
    variation: float
    overshoot: float
    cycles: int
    cycles_gain: int
    cycles_delay: int

    @property
    def faults(self) -> list[str]:
        """What must never be, in words."""
        found = []
        if self.outage_acts:
            found.append(f"{self.outage_acts} acts while labels were missing")
        for count, when in (
            (self.cycles, ""),
            (self.cycles_gain, " with gains doubled"),
            (self.cycles_delay, " with delays doubled"),
        ):
            if count:
                found.append(f"{count} runs go round in a circle{when}")
        return found


def study(policies: Policies, plant: Plant, scenarios: Iterable[Scenario], seeds: Sequence[int]) -> list[Row]:
    """Run a policy in scenarios.

    :param policies: all that is decided by.
    :param plant: what there is to live with.
    :param scenarios: what the world does.
    :param seeds: one run for each.
    :return: a row for each scenario.
    """
    return [_row(policies, plant, scenario, seeds) for scenario in scenarios]


def measured(policies: Policies, plant: Plant, scenario: Scenario, seeds: Sequence[int]) -> list[Figures]:
    """Run a policy in one scenario.

    :param policies: all that is decided by.
    :param plant: what there is to live with.
    :param scenario: what the world does.
    :param seeds: one run for each.
    :return: the figures of each deliverable of each run.
    """
    return [
        figures(trace, scenario, plant) for seed in seeds for trace in run(scenario, policies, plant, seed)
    ]


def _row(policies: Policies, plant: Plant, scenario: Scenario, seeds: Sequence[int]) -> Row:
    own = measured(policies, plant, scenario, seeds)
    naive = measured(NAIVE, plant, scenario, seeds)
    gain = measured(stronger(policies), plant, scenario, seeds)
    delay = measured(policies, later(plant), scenario, seeds)
    repairs = [one.repair for one in own if one.repair is not None]

    def mean(of: Sequence[Figures], name: str) -> float:
        return round(fmean(getattr(one, name) for one in of), 3)

    return Row(
        scenario=scenario.name,
        cost=mean(own, "cost"),
        oracle=mean(own, "oracle"),
        naive=mean(naive, "cost"),
        retrains=mean(own, "retrains"),
        naive_retrains=mean(naive, "retrains"),
        rollbacks=mean(own, "rollbacks"),
        false_alarms=mean(own, "false_alarms"),
        calls=mean(own, "calls"),
        cost_error=_half([one.cost for one in own], len(seeds)),
        most_retrains=max(one.retrains for one in own),
        false_acts=mean(own, "false_acts"),
        stable=sum(one.stable for one in own),
        repair=max(repairs, default=None),
        unrepaired=sum(one.unrepaired for one in own),
        reversals=mean(own, "reversals"),
        most_acts=max(one.most_acts for one in own),
        outage_acts=sum(one.outage_acts for one in own),
        moves=mean(own, "moves"),
        variation=mean(own, "variation"),
        overshoot=max(one.overshoot for one in own),
        cycles=sum(one.cycles for one in own),
        cycles_gain=sum(one.cycles for one in gain),
        cycles_delay=sum(one.cycles for one in delay),
    )


def _half(costs: Sequence[float], runs: int) -> float | None:
    """Return half of the 95 % interval of the mean, by Student's t; deliverables of one run are one value."""
    if runs < 2:
        return None
    from scipy.stats import t

    each = len(costs) // runs
    means = [fmean(costs[start : start + each]) for start in range(0, len(costs), each)]
    return round(float(t.ppf(0.975, runs - 1)) * stdev(means) / math.sqrt(runs), 3)


def stronger(policies: Policies) -> Policies:
    """Return the policies with all gains doubled: half the loss is enough, and a knob goes twice as far.

    :param policies: all that is decided by.
    :return: the others.
    """
    governor, knob = policies.governor, policies.knob
    if governor is not None:
        clear = None if governor.clear_drop is None else governor.clear_drop / 2
        rollback = None if governor.rollback_drop is None else governor.rollback_drop / 2
        governor = replace(
            governor, max_drop=governor.max_drop / 2, clear_drop=clear, rollback_drop=rollback,
            confidence=governor.confidence / 2,
        )  # fmt: skip
    if knob is not None:
        step = min(2 * knob.max_step, knob.high - knob.low)
        knob = replace(knob, slope=knob.slope / 2, max_step=step)
    return replace(policies, governor=governor, knob=knob)


def later(plant: Plant) -> Plant:
    """Return the plant with all delays doubled.

    :param plant: the delays.
    :return: the other.
    """
    return replace(plant, label_delay=2 * plant.label_delay, deploy=2 * plant.deploy, answer=2 * plant.answer)


def without(policies: Policies) -> Mapping[str, Policies]:
    """Return the policies with one part after the other switched off.

    :param policies: all that is decided by.
    :return: name of the part -> the policies without it.
    """
    governor = policies.governor or RetrainPolicy()
    parts: dict[str, dict[str, Any]] = {
        "cooldown": {
            "cooldown_batches": 0,
            "cooldown": timedelta(0),
            "label_delay_batches": 0,
            "release_batches": 0,
            "futile_memory": governor.memory,
        },
        "k of n": {"k": 1, "n": 1, "min_batches": 1},
        "limit of futile retrains": {"max_futile": 1_000_000},
        "budget": {"budget": None},
        "rollback": {"rollback_drop": None},
    }
    found = {
        name: replace(policies, governor=replace(governor, **changed)) for name, changed in parts.items()
    }
    found["guard"] = replace(policies, guard=None)
    if policies.knob is not None:
        found["knob"] = replace(policies, knob=None)
    if policies.remedy is not None:
        found["remediation"] = replace(policies, remedy=None)
        found["evidence"] = replace(policies, evidence=False)
    if policies.remedy is not None or policies.knob is not None:
        found["interlock"] = replace(policies, interlock=False)
    return found


def bound(policy: RetrainPolicy, batches: int) -> int:
    """Return the most retrains that a policy can start, whatever is seen: a cooldown lies between any two of them.

    :param policy: when to retrain.
    :param batches: number of batches.
    :return: the number.
    """
    return math.ceil(batches / (max(policy.dwell, policy.min_batches - 1, policy.k - 1) + 1))


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table for people.

    :param rows: of a study.
    :return: Markdown.
    """
    head = (
        "scenario", "cost", "oracle", "naive loop", "retrains", "naive", "rollbacks", "false acts", "repair", "reversals",
        "knob moves", "circles (x2 gain, x2 delay)",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for row in rows:
        repair = "never" if row.unrepaired else "-" if row.repair is None else str(row.repair)
        circles = f"{row.cycles} ({row.cycles_gain}, {row.cycles_delay})"
        figures = (
            row.cost,
            row.oracle,
            row.naive,
            row.retrains,
            row.naive_retrains,
            row.rollbacks,
            row.false_acts,
        )
        told = [f"{item:.2f}" if number < 3 else f"{item:.1f}" for number, item in enumerate(figures)]
        told[0] += "" if row.cost_error is None else f" ± {row.cost_error:.2f}"
        told[3] += "" if row.cost_error is None else f", at most {row.most_retrains}"
        lines.append((row.scenario, *told, repair, f"{row.reversals:.1f}", f"{row.moves:.1f}", circles))
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
