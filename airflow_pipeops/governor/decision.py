"""When to retrain: a pure decision over what was observed, batch by batch.

The rules stand in this order; the first that applies names the action, and every one that applies is told:

1. ``kill_switch``: while it is on, nothing starts.
2. ``quality``: bad data never retrains; somebody must look.
   ``known``: the same data came under another name before; they count once, and no other rule is asked.
3. ``rollback``: the model before would be better than the champion, on the same batches, in k of n.
4. ``blind``: columns moved, and for too long nobody knows the metric; somebody must look.
   ``evidence``: too few batches were measured since the last retrain.
5. ``consequence``: the metric was too far below its reference in k of the last n batches, and is so now; or
   ``ageing``: fresher models were better by so much that a retrain pays. Without either, ``steady``.
   Movement: columns that moved, without a consequence, never retrain.
6. ``cooldown``: the last retrain is too recent.
7. ``budget``: there were as many retrains as are allowed.
8. ``gain``: what a retrain is expected to win is less than what it costs.
9. ``outcome``: the last retrains did not help; somebody must look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.forecast import Forecast
from airflow_pipeops.governor.history import (
    HOLD,
    RETRAIN,
    ROLLBACK,
    Action,
    Observation,
    deduplicated,
)
from airflow_pipeops.governor.policy import ACT, OBSERVE, PROPOSE, Mode, RetrainPolicy
from airflow_pipeops.governor.rules import RULES
from airflow_pipeops.governor.situation import Look


@dataclass(frozen=True)
class Decision(JsonForm):
    """What to do, and why.

    :param action: ``hold``, ``retrain``, ``investigate`` or ``rollback``.
    :param rule: the rule that decided: see the module.
    :param reasons: every rule that applied, in plain words; the deciding one first. Never empty.
    :param mode: of the policy: ``observe``, ``propose`` or ``act``.
    :param needs_approval: a person must agree before the action starts.
    :param forecast: what a retrain is expected to win, where the metric is known.
    """

    action: Action
    rule: str
    reasons: tuple[str, ...]
    mode: Mode = ACT
    needs_approval: bool = False
    forecast: Forecast | None = None

    @property
    def acts(self) -> bool:
        """Whether something starts now, without anybody being asked."""
        return self.action in (RETRAIN, ROLLBACK) and self.mode == ACT and not self.needs_approval


def decide(
    history: Sequence[Observation], policy: RetrainPolicy, now: datetime, *, killed: bool = False
) -> Decision:
    """Decide about the last observation of a history.

    :param history: oldest first; the last is the batch to decide about, the others carry their ``action``. Several
        observations of one batch count once.
    :param policy: the numbers.
    :param now: with a zone.
    :param killed: whether the kill switch is on.
    :return: what to do, and why.
    :raises InvalidInput: if the history is empty or ``now`` has no zone.
    """
    not_empty("history", history, "there is nothing to decide about", "Give at least one batch.")
    if now.tzinfo is None:
        raise InvalidInput("now has no time zone", field="now", value=str(now))
    *past, current = history
    look = Look(deduplicated(item for item in past if item.batch != current.batch), current, policy, now)
    ruled = [found for rule in RULES if (found := rule(look)) is not None]
    if look.twin:
        ruled = [found for found in ruled if found[1] in ("quality", "known")]
    if killed:
        ruled.insert(0, (HOLD, "kill_switch", "The kill switch is on: nothing starts until it is off."))
    action, rule, _ = ruled[0]
    reasons = list(dict.fromkeys([*(text for _, _, text in ruled), *look.remarks()]))
    starts = action in (RETRAIN, ROLLBACK)
    if starts and policy.mode == OBSERVE:
        reasons.append("The policy only observes: nothing is started.")
    asks = starts and policy.mode != OBSERVE and (policy.needs_approval or policy.mode == PROPOSE)
    if asks:
        reasons.append("A person must agree first.")
    return Decision(action, rule, tuple(reasons), policy.mode, asks, look.forecast)


def decided(current: Observation, decision: Decision) -> Observation:
    """Return the observation with what was decided about it, as the next decision will find it."""
    return replace(current, action=decision.action, mode="" if decision.mode == ACT else decision.mode)
