"""Try a policy on what happened, before it is switched on.

:func:`replay` runs a policy over a recorded history. Its metrics are those of the models that served then: from the first
batch on which the policy decides otherwise, they are what the policy would have seen of a world that it did not change.
:func:`simulate` runs it where every model can be scored on every batch, as in a backtest: there the policy's decisions
have their consequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_pipeops.governor.decision import Decision, decide, decided
from airflow_pipeops.governor.history import ACTIONS, RETRAIN, ROLLBACK, Observation, deduplicated
from airflow_pipeops.governor.policy import RetrainPolicy


@dataclass(frozen=True)
class Step:
    """One batch of a replay.

    :param observation: what was seen, with what the policy decided.
    :param decision: what the policy decided, with its reasons.
    :param recorded: what was decided at the time; empty if nothing was.
    """

    observation: Observation
    decision: Decision
    recorded: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.decision.to_json(),
            "recorded": self.recorded,
            "observation": self.observation.to_json(),
        }


def replay(history: Sequence[Observation], policy: RetrainPolicy) -> list[Step]:
    """Decide about each batch of a history in turn, each decision seeing the ones that the policy took before.

    :param history: oldest first; the actions in it are told beside the policy's, and do not bind it.
    :return: a step for each batch.
    """
    steps: list[Step] = []
    for item in deduplicated(history):
        recorded = item.action
        past = [step.observation for step in steps]
        decision = decide([*past, replace(item, action="")], policy, item.when)
        seen = decided(item, decision)
        if seen.action != recorded:
            seen = replace(seen, outcome="")  # of a retrain that was another's
        steps.append(Step(seen, decision, recorded))
    return steps


def simulate(
    batches: int,
    observe: Callable[[int, int, int | None], Observation],
    policy: RetrainPolicy,
) -> list[Step]:
    """Decide about each batch in turn, where a decision changes which model the next batches see.

    :param batches: number of batches.
    :param observe: ``observe(batch, trained, before)``: what is seen of a batch (0, 1, ...) that is served by the model
        trained after the batch ``trained`` (-1: the first model), and ``before`` the one that it replaced, if any.
    :return: a step for each batch.
    """
    steps: list[Step] = []
    past: list[Observation] = []
    models = [-1]
    for batch in range(batches):
        item = observe(batch, models[-1], models[-2] if len(models) > 1 else None)
        decision = decide([*past, item], policy, item.when)
        past.append(decided(item, decision))
        steps.append(Step(past[-1], decision))
        if decision.action == RETRAIN:
            models.append(batch)
        elif decision.action == ROLLBACK and len(models) > 1:
            models.pop()
    return steps


def totals(steps: Sequence[Step], policy: RetrainPolicy) -> dict[str, Any]:
    """Return how often each action was decided, how often that differs from the record, and what the retrains cost."""
    counts: dict[str, int] = {
        action: sum(step.decision.action == action for step in steps) for action in ACTIONS
    }
    differ = sum(bool(step.recorded) and step.recorded != step.decision.action for step in steps)
    spent = None if policy.retrain_cost is None else counts[RETRAIN] * policy.retrain_cost
    return {"batches": len(steps), **counts, "differ": differ, "cost": spent}
