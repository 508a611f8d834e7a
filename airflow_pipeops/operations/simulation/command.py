"""What ``airflow pipeops simulate`` does: read a policy, run it in every scenario, print."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.delivery.commands.answers import NOT_WELL, WELL, shown
from airflow_pipeops.governor.command import read_document
from airflow_pipeops.governor.policy import too_short
from airflow_pipeops.operations.simulation.plant import SCENARIOS
from airflow_pipeops.operations.simulation.policy import SimulationPolicy
from airflow_pipeops.operations.simulation.study import study, table

#: Periods of an oscillating world that are run unless scenarios are named.
_PERIODS = (2, 14, 30, 60, 120, 200)


def simulate_command(args: Any) -> int:
    """Simulate, and print what came of it."""
    policy = SimulationPolicy.read(read_document(args.policy, "policy"))
    remedy = "Give --runs with a number from 1 to 1000."
    runs = at_least("runs", args.runs, 1, f"--runs is {args.runs}", remedy)
    names = args.scenario or [*SCENARIOS.known, *(f"oscillating-{period}" for period in _PERIODS)]
    scenarios = [SCENARIOS[name] for name in names]
    rows = study(policy.policies(), policy.plant, scenarios, range(min(runs, 1000)))
    short = too_short(policy.governor, policy.plant.label_delay, policy.plant.deploy)
    warnings = [
        f"cooldown_batches {short}. State label_delay_batches and release_batches, and leave cooldown_batches out."
    ] if short else []  # fmt: skip
    faults = [f"{row.scenario}: {fault}" for row in rows for fault in row.faults]
    found = {
        "rows": [row.to_json() for row in rows],
        "faults": faults,
        "warnings": warnings,
        "policy": policy.to_json(),
    }
    if not shown(found, "json" if args.json else ""):
        print(table(rows))
        print(
            f"\n{policy.plant.batches:,} batches, {runs} runs of each scenario.", *faults, *warnings, sep="\n"
        )
    return NOT_WELL if faults else WELL
