"""Decide whether to retrain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.drift.governor import (
    RETRAIN,
    Observation,
    RetrainPolicy,
    decide,
    decided,
    deduplicated,
)
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context


class RetrainGovernorOperator(DeliveryOperator):
    """Decide whether to retrain, by a policy over this batch and the decisions before it.

    Returns ``{action, rule, reasons, observation, record_id}``. The decision is recorded, whatever it is: on the
    deliverable's ``retrain`` asset if the action is ``retrain``, which starts what is scheduled on it, else on its
    ``decision`` asset. What follows reads the history back from both, so each decision carries its own observation.

    :param quality: return value of :class:`~airflow_pipeops.validation.operators.ValidateDataOperator`; ``None`` counts
        as passed.
    :param drift: return value of :class:`~airflow_pipeops.drift.operators.data.DataDriftOperator`; ``None`` if the batch
        was not compared.
    :param performance: the champion's metric on the batch: a number, or ``{"value", "reference"}``, where
        ``performance`` and ``reference_performance`` are understood too; ``None`` while there are no labels.
    :param policy: the numbers.
    :param batch: name of the batch; by default that of ``quality`` or ``drift``, else the run's id.
    :param history: earlier observations as JSON, oldest first, instead of those that were recorded.
    :raises InvalidInput: if a value is of no known form.
    """

    template_fields: Sequence[str] = (
        "quality",
        "drift",
        "performance",
        "batch",
        "history",
        *DeliveryOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("decision",)

    def __init__(
        self,
        *,
        quality: Any = None,
        drift: Any = None,
        performance: Any = None,
        policy: RetrainPolicy | None = None,
        batch: str | None = None,
        history: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quality = quality
        self.drift = drift
        self.performance = performance
        self.policy = policy or RetrainPolicy()
        self.batch = batch
        self.history = history
        if self.deliverable is not None:
            assets = [self.deliverable.decision, self.deliverable.retrain]
            self.outlets = [*self.outlets, self.deliverable.retrain]
            self.inlets = [*self.inlets, *(asset for asset in assets if asset not in self.inlets)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide and record."""
        with no_retry():
            now = datetime.now(timezone.utc)
            current = self.observed(context, now)
            past = [item for item in self.past(context) if item.batch != current.batch]
            decision = decide([*past, current], self.policy, now)
            for reason in decision.reasons:
                self.log.info("%s: %s", decision.action, reason)
            observation = decided(current, decision).to_json()
            body = {**decision.to_json(), "observation": observation, "policy": self.policy.to_json()}
            return {**decision.to_json(), "observation": observation, "record_id": self.record(context, body)}

    def record(self, context: Context, body: dict[str, Any]) -> str | None:
        """Emit the decision on the one asset that it belongs to."""
        if self.deliverable is None:
            return None
        chosen, other = self.deliverable.decision, self.deliverable.retrain
        if body["action"] == RETRAIN:
            chosen, other = other, chosen
        # Airflow emits an event for every outlet of a task that succeeds, touched or not: without this, each decision
        # to hold would start a training.
        self.outlets = [asset for asset in self.outlets if asset != other]
        return self.emit(context, "decision", body, asset=chosen)

    def observed(self, context: Context, now: datetime) -> Observation:
        """Put together what is known about this batch."""
        quality, drift = _mapping(self.quality, "quality"), _mapping(self.drift, "drift")
        value, reference = _performance(self.performance)
        share = drift.get("share")
        return Observation(
            batch=str(self.batch or quality.get("batch") or drift.get("batch") or context["ti"].run_id),
            at=now.isoformat(timespec="seconds"),
            quality_passed=bool(quality.get("passed", True)),
            drift_share=None if share is None else float(share),
            performance=value,
            reference_performance=reference,
        )

    def past(self, context: Context) -> list[Observation]:
        """Return the earlier observations, oldest first, one for each batch."""
        if self.history is not None:
            given: Iterable[Any] = json.loads(self.history) if isinstance(self.history, str) else self.history
            items = [item if isinstance(item, Observation) else Observation.from_json(item) for item in given]
            return deduplicated(items)
        if self.deliverable is None:
            return []
        from airflow_pipeops.delivery.events import records_on

        records = records_on(context, self.deliverable.decision, self.deliverable.retrain)
        found = []
        for record in records:
            observation = record.body.get("observation")
            if record.kind == "decision" and isinstance(observation, Mapping):
                found.append(Observation.from_json(observation))
        return deduplicated(found)


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{field} is not the output of its task",
            field=field,
            value=type(value).__name__,
            remedy="Pass task.output.",
        )
    return value


def _performance(given: Any) -> tuple[float | None, float | None]:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return float(given), None
    found = _mapping(given, "performance")
    value = found.get("value", found.get("performance"))
    reference = found.get("reference", found.get("reference_performance"))
    for number in (value, reference):
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
            raise InvalidInput(
                "performance holds something that is no number",
                field="performance",
                value=type(number).__name__,
                remedy='Pass a number, or {"value": number, "reference": number}.',
            )
    return (None if value is None else float(value)), (None if reference is None else float(reference))
