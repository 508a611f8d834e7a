"""A search for parameters: trials as mapped tasks, within a budget, all of them recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.models.operators.arguments import UI_COLOR
from airflow_pipeops.models.search import best, drawn

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanTrialsOperator(DeliveryOperator):
    """Choose the parameters that a search tries, and until when. Returns ``[{parameters, until}, ...]``.

    Expand a training over them: ``TrainModelOperator.partial(...).expand_kwargs(plan.output)``. A retry, or the same seed
    another time, gives the same trials.

    :param space: parameter -> list of values, or ``{"low": 0.01, "high": 10}`` with ``"log": True`` or ``"whole": True``;
        templated.
    :param trials: at most.
    :param budget: time from now on after which no further trial begins.
    :param seed: of the chance by which trials are drawn.
    """

    template_fields: Sequence[str] = ("space", *DeliveryOperator.template_fields)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        space: Mapping[str, Any],
        trials: int = 20,
        budget: timedelta = timedelta(hours=1),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", False)
        super().__init__(**kwargs)
        self.space = space
        self.trials = trials
        self.budget = positive("budget", budget)
        self.seed = seed

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Draw them."""
        with no_retry():
            found = drawn(self.space, self.trials, self.seed)
        until = (datetime.now(timezone.utc) + self.budget).isoformat(timespec="seconds")
        return [{"parameters": one, "until": until} for one in found]


class ChooseTrialOperator(DeliveryOperator):
    """Choose the best trial of a search, and record how many there were.

    The best of twenty looks better than it is: the number of trials goes with the model, and ``EvaluateModelOperator`` holds
    as many challengers against it. Returns what the training returned, and ``trials``.

    :param trials: what the mapped trainings returned; those that were skipped are left out; templated.
    :param metric: that decides.
    :param higher_is_better: of the metric.
    """

    template_fields: Sequence[str] = ("trials", *DeliveryOperator.template_fields)
    emits = ("training",)
    ui_color = UI_COLOR

    def __init__(
        self, *, trials: Any, metric: str = "auc", higher_is_better: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.trials = trials
        self.metric = metric
        self.higher_is_better = higher_is_better

    def execute(self, context: Context) -> dict[str, Any]:
        """Choose, and record."""
        with no_retry():
            ended = [one for one in self.trials or () if isinstance(one, Mapping)]
            found = dict(best(ended, self.metric, higher_is_better=self.higher_is_better))
            own = found.pop("record_id", None)
            found["trials"] = len(ended)
            parents = [one["record_id"] for one in ended if one.get("record_id")]
            record_id = self.emit(context, "training", found, parents=parents)
        self.log.info("The best of %d trials: %s", len(ended), found.get("parameters"))
        return {**found, "record_id": record_id or own}
