"""What the tasks that compare two models ask, what their record says, and which comparisons the records tell of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least
from airflow_pipeops.models.paired.decision import Policy
from airflow_pipeops.models.paired.gain import MIN_UNITS

if TYPE_CHECKING:
    from airflow_pipeops.models.paired.comparison import Compared, Question
    from airflow_pipeops.models.paired.decision import Decision
    from airflow_pipeops.models.paired.gain import Gain

#: So many slices that are too small to say are named in a record.
_NAMED = 20


def policy_of(task: Any) -> Policy:
    """Return what a challenger must show.

    :param task: that compares two models, with the arguments by which it was made.
    :return: the policy.
    :raises InvalidInput: for one that makes no sense.
    """
    return Policy(
        task.minimum_gain,
        task.margin,
        task.guards,
        task.slice_margin,
        task.enough,
        max_uses=task.max_uses,
    )


def question_of(task: Any, target: str, cluster: str | Sequence[str] | None) -> Question:
    """Return what is to be compared.

    :param task: see :func:`policy_of`.
    :param target: name of the label's column.
    :param cluster: columns by which rows move together.
    :return: the question.
    """
    from airflow_pipeops.models.paired.comparison import Question

    return Question(
        task.metric,
        target,
        tuple(task.guards),
        task.slices,
        cluster,
        task.positive,
        task.threshold,
        task.planned_units,
    )


def check_planned(planned: int | None) -> None:
    """Refuse a plan of so few units that they tell nothing.

    :raises InvalidInput: naming it.
    """
    if planned is not None:
        few = f"planned_units is {planned}"
        at_least("planned_units", planned, MIN_UNITS, few, f"At least {MIN_UNITS} tell anything.")


def told(
    metric: str, measured: Compared, verdict: Decision, unit: Sequence[str], challengers: int
) -> dict[str, Any]:
    """Return the body of the record.

    :param metric: that decides.
    :param measured: both models.
    :param verdict: that follows.
    :param unit: columns by which rows move together.
    :param challengers: that were tried on these rows.
    :return: plain facts.
    """
    gain = measured.gain
    return {
        "promote": verdict.promote,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "metric": metric,
        "challenger": measured.challenger,
        "challenger_interval": list(measured.level) if measured.level else None,
        "champion": gain.champion if gain else None,
        "gain": gain.value if gain else None,
        "interval": list(verdict.interval) if verdict.interval else None,
        "alpha": verdict.alpha,
        "error": gain.error if gain else None,
        "error_by_rows": gain.error_by_rows if gain else None,
        "units": gain.units if gain else None,
        "unit": ", ".join(unit) or None,
        "challengers": challengers,
        "guards": [_short(one) for one in measured.guards],
        "harmed": list(verdict.harmed),
        "small": list(verdict.small)[:_NAMED],
        "further_units": verdict.further_units,
    }


def looks(earlier: Sequence[Mapping[str, Any]], body: Mapping[str, Any], planned: bool) -> int:
    """Count the looks at rows that grow, this one included.

    :param earlier: the bodies of the evaluations so far.
    :param body: of this one: its ``challenger_sha256``, ``data_digest`` and ``partitions``.
    :param planned: whether the interval holds at all looks at one challenger together; else each is one more.
    :return: challengers, or challengers on other rows, that were judged on rows of these partitions.
    """

    def look(of: Mapping[str, Any]) -> tuple[Any, ...]:
        return (of["challenger_sha256"],) if planned else (of["challenger_sha256"], of.get("data_digest"))

    wanted = set(body["partitions"])
    found = {
        look(one)
        for one in earlier
        if one.get("challenger_sha256") and wanted & set(one.get("partitions") or ())
    }
    return len(found | {look(body)})


def _short(gain: Gain) -> dict[str, Any]:
    """Return what a record keeps of a guard."""
    kept = ("metric", "challenger", "champion", "value", "error")
    return {name: getattr(gain, name) for name in kept}
