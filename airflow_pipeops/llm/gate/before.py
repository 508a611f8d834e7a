"""What a gate would refuse of an evaluation, told before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.baseline import Pin, comparable, pinned, released, stale
from airflow_pipeops.llm.gate.policy import GatePolicy

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from airflow_pipeops.delivery.deliverable import Deliverable
    from airflow_pipeops.delivery.operators import DeliveryOperator
    from airflow_pipeops.delivery.records import Record


class HeldAgainst:
    """The gate that will read an evaluation: what it would refuse asks nothing.

    :param policy: of that gate, or a mapping of its fields.
    """

    def __init__(self, policy: GatePolicy | Mapping[str, Any]) -> None:
        self.policy = GatePolicy.of(policy)

    def assets(self, task: DeliveryOperator) -> list[Asset]:
        """Name what must be among the inlets of the task that evaluates."""
        return watched(task.deliverable, task.environment)

    def check(
        self, task: DeliveryOperator, context: Context, planned: Mapping[str, Any], unpriced: Sequence[str]
    ) -> None:
        """Refuse an evaluation that could open no gate.

        :param task: that evaluates; its deliverable's gate it is, and its environment has the baseline.
        :param context: of that task.
        :param planned: what the evaluation will say of its dataset, arms and scorers.
        :param unpriced: models of its subjects without a price.
        :raises InvalidInput: for costs that nobody will know; and, of one arm, where nothing is known of what is released,
            or that is of another dataset, other scorers, or too old.
        """
        if "cost" in self.policy.metrics and unpriced:
            raise InvalidInput(
                f"the gate compares costs, and the price of {unpriced[0]!r} is not known",
                field="prices",
                value=list(unpriced),
                remedy=f'Give prices={{"{unpriced[0]}": {{"input": ..., "output": ...}}}}, or compare tokens.',
            )
        arms = list(map_(planned.get("arms")))
        if len(arms) > 1:
            return
        records = recorded(context, task.deliverable, self.assets(task))
        live = released(records, task.environment) if task.environment else None
        baseline = pinned(planned, self.policy, live, "baseline")
        comparable(Pin.of({**planned, "shards": 1}, arms[0]), baseline, self.policy.scorers)
        now, max_age = datetime.now(timezone.utc), timedelta(days=self.policy.max_age_days)
        if why := stale(baseline, now, max_age):
            raise InvalidInput(
                why,
                field="baseline",
                value=baseline.at,
                remedy="Evaluate the released version beside the candidate.",
            )


def watched(deliverable: Deliverable | None, environment: str | None) -> list[Asset]:
    """Name the assets whose records tell what is released in an environment, and what gates have said.

    :param deliverable: whose.
    :param environment: in which; without one only what gates have said.
    :return: the assets.
    """
    if deliverable is None:
        return []
    if environment is None:
        return [deliverable.asset("evaluation")]
    # What is released there was promoted from elsewhere, maybe with an approval between.
    places = dict.fromkeys((environment, *deliverable.environments))
    released_by = [
        deliverable.asset(kind, place) for place in places for kind in ("change", "release", "rollback")
    ]
    return [deliverable.asset("evaluation"), deliverable.approval, *released_by]


def recorded(context: Context, deliverable: Deliverable | None, assets: Sequence[Any]) -> list[Record]:
    """Read what is recorded of a deliverable.

    :param context: of the running task.
    :param deliverable: whose.
    :param assets: inlets of the task.
    :return: its records on them, each once, oldest first.
    """
    from airflow_pipeops.delivery.events import records_on

    if deliverable is None:
        return []
    ours = f"pipeops://{deliverable.name}/"
    found = [
        record
        for asset in assets
        if getattr(asset, "uri", "").startswith(ours)
        for record in records_on(context, asset)
    ]
    return sorted({one.id: one for one in found}.values(), key=lambda one: one.at)
