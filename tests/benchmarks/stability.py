"""The policy that docs/stability.md advises, in every scenario: its margins, its parts switched off, and its cooldown.

Usage: python -m tests.benchmarks.stability MODE [RUNS] [SCENARIO ...], of the functions at the end.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from statistics import fmean

from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.operations.simulation.incidents import remedy
from airflow_pipeops.operations.simulation.loop import Policies
from airflow_pipeops.operations.simulation.plant import SCENARIOS, Plant, oscillating
from airflow_pipeops.operations.simulation.policy import advised
from airflow_pipeops.operations.simulation.study import (
    NAIVE,
    bound,
    later,
    measured,
    stronger,
    study,
    table,
    without,
)

PLANT = Plant(batches=500)
#: For figures of many policies.
SHORT = Plant(batches=600)
ADVISED = replace(advised(PLANT).policies(), knob=None)
PERIODS = (14, 30, 60, 120, 200)
ALL = [*SCENARIOS.known, *(f"oscillating-{period}" for period in PERIODS)]
#: What is switched off is advised; what is not is told apart.
WITH = replace(ADVISED, remedy=remedy(PLANT.label_delay, PLANT.deploy))
#: What a remediation would be that takes back on a level alone, and before there are labels.
HASTY = {"evidence": False, "interlock": False}
#: All loops there are.
TOGETHER = replace(WITH, knob=advised(PLANT).policies().knob)


def told(name: str, policies: Policies, plant: Plant, scenarios: list[str], runs: int) -> None:
    cells = []
    for scenario in scenarios:
        found = measured(policies, plant, SCENARIOS[scenario], range(runs))
        cells.append(f"{fmean(one.cost for one in found):.2f} ({fmean(one.retrains for one in found):.1f})")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def heading(scenarios: list[str]) -> None:
    print(f"| | {' | '.join(scenarios)} |\n|---|{'---|' * len(scenarios)}")


def scenarios(runs: int, *names: str) -> None:
    rows = []
    for name in names or ALL:
        rows += study(ADVISED, PLANT, [SCENARIOS[name]], range(runs))
        print(name, *rows[-1].faults, file=sys.stderr, flush=True)
    print(table(rows))


def remediation(runs: int, *names: str) -> None:
    print(
        "| | cost | without | rollbacks | calls | false alarms per 1,000 | circles (x2 delay) |\n|---"
        + "|---" * 6
        + "|"
    )
    for name in names or ALL:
        alone = measured(ADVISED, PLANT, SCENARIOS[name], range(runs))
        both = measured(WITH, PLANT, SCENARIOS[name], range(runs))
        late = measured(WITH, later(PLANT), SCENARIOS[name], range(runs))
        means = [fmean(one.cost for one in of) for of in (both, alone)]
        means += [
            fmean(getattr(one, part) for one in both) for part in ("rollbacks", "calls", "false_alarms")
        ]
        cells = [f"{mean:.2f}" if place < 2 else f"{mean:.1f}" for place, mean in enumerate(means)]
        circles = f"{sum(one.cycles for one in both)} ({sum(one.cycles for one in late)})"
        print(f"| {name} | {' | '.join(cells)} | {circles} |", flush=True)


def together(runs: int, *names: str) -> None:
    """All loops at once, beside them without one part, and with a remediation that takes back without evidence."""
    print(
        "| | policies | cost | rollbacks | calls | moves | reversals | circles (x2 delay) |\n"
        + "|---" * 8
        + "|"
    )
    off = without(TOGETHER)
    cases = {
        "all": TOGETHER,
        **{f"without {part}": off[part] for part in ("knob", "remediation", "evidence")},
        "without evidence and interlock": replace(TOGETHER, **HASTY),
    }
    for name in names or ALL:
        for case, policies in cases.items():
            found = measured(policies, PLANT, SCENARIOS[name], range(runs))
            late = measured(policies, later(PLANT), SCENARIOS[name], range(runs))
            of = ("cost", "rollbacks", "calls", "moves", "reversals")
            cells = [f"{fmean(getattr(one, part) for one in found):.{1 + (part == 'cost')}f}" for part in of]
            circles = f"{sum(one.cycles for one in found)} ({sum(one.cycles for one in late)})"
            print(f"| {name} | {case} | {' | '.join(cells)} | {circles} |", flush=True)


def parts(runs: int) -> None:
    names = [
        "stationary",
        "step",
        "outliers",
        "bad-data",
        "retrain-worse",
        "beyond-repair",
        "adversary",
        "oscillating-60",
    ]
    heading(names)
    told("advised", ADVISED, SHORT, names, runs)
    for part, policies in without(ADVISED).items():
        told(f"without {part}", policies, SHORT, names, runs)
    told("with remediation", WITH, SHORT, names, runs)
    told("with remediation, without its evidence", replace(WITH, evidence=False), SHORT, names, runs)
    told("with remediation, without evidence and interlock", replace(WITH, **HASTY), SHORT, names, runs)
    delays = {"label_delay_batches": SHORT.label_delay, "release_batches": SHORT.deploy}
    told("defaults, delays stated", Policies(RetrainPolicy(target=PLANT.level, **delays)), SHORT, names, runs)
    told("defaults of RetrainPolicy", Policies(RetrainPolicy(target=PLANT.level)), SHORT, names, runs)
    told("naive loop", NAIVE, SHORT, names, runs)


def cooldown(runs: int) -> None:
    names = ["step", "ramp", "deploy-stuck", "label-delay", "oscillating-60"]
    for delay in (7,):
        plant = replace(SHORT, label_delay=delay)
        print(f"\nlabels after {delay} batches, release after {plant.deploy}")
        heading(names)
        for batches in (0, 2, delay + plant.deploy, 2 * (delay + plant.deploy), 60):
            assert ADVISED.governor is not None
            governor = replace(
                ADVISED.governor, cooldown_batches=batches, budget=None, label_delay_batches=0, release_batches=0,
                futile_memory=90,
            )  # fmt: skip
            told(f"cooldown {batches}", replace(ADVISED, governor=governor), plant, names, runs)


def memory(runs: int) -> None:
    names = ["beyond-repair", "retrain-worse", "step", "ramp"]
    heading(names)
    assert ADVISED.governor is not None
    for delay in (1, 7, 14):
        plant = replace(SHORT, label_delay=delay)
        for times in (1, 3, 10, 30):
            delays = {"label_delay_batches": delay, "release_batches": plant.deploy}
            count = times * (delay + plant.deploy)
            governor = replace(ADVISED.governor, futile_memory=count, budget=None, **delays)
            told(
                f"labels after {delay}, memory {count}",
                replace(ADVISED, governor=governor),
                plant,
                names,
                runs,
            )


def periods(runs: int) -> None:
    assert ADVISED.governor is not None
    worst = {"advised": (0.0, 0), "gain x 2": (0.0, 0), "delay x 2": (0.0, 0), "naive": (0.0, 0)}
    most = 0
    for period in range(2, 201, 6):
        scenario = oscillating(period)
        for name, policies, plant in (
            ("advised", ADVISED, SHORT),
            ("gain x 2", stronger(ADVISED), SHORT),
            ("delay x 2", ADVISED, later(SHORT)),
            ("naive", NAIVE, SHORT),
        ):
            found = measured(policies, plant, scenario, range(runs))
            still = SHORT.batches * 0.08 / 2 * 2 / 3.14159  # what a model costs that is never retrained
            worst[name] = max(worst[name], (fmean(one.cost for one in found) / still, period))
            if name == "advised":
                most = max(most, *(one.retrains for one in found))
    limit = bound(ADVISED.governor, SHORT.batches)
    print(
        f"most retrains {most} of at most {limit}; highest cost against never retraining, and its period: {worst}"
    )


if __name__ == "__main__":
    called = sys.argv[1] if len(sys.argv) > 1 else "scenarios"
    modes = (scenarios, remediation, together, parts, cooldown, memory, periods)
    {mode.__name__: mode for mode in modes}[called](
        int(sys.argv[2]) if len(sys.argv) > 2 else 3, *sys.argv[3:]
    )
