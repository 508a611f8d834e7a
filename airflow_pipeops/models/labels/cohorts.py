"""How well the predictions of each day, week or month did, once their labels have had the time to come.

Early labels are no fair sample: complaints come fast, and a flight that is still in the air is late. So a cohort is measured
when the label delay has passed for all of it and enough of its labels have come; before that it waits. Meanwhile its metric
may be estimated without labels, from the cohorts that were measured (:mod:`~airflow_pipeops.models.performance.estimates`).
Such an estimate sees that the inputs have moved. It does not see that the same inputs have come to mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import one_of, positive, share
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.joining import AT, LABEL, SCORE, SHA256
from airflow_pipeops.models.paired.units import by_column, too_few
from airflow_pipeops.models.performance.metrics import METRICS, Performance, influence, measure, rarest

if TYPE_CHECKING:
    import pandas as pd

Span = Literal["day", "week", "month"]
#: measured; waiting for its labels; labels that ought to be there are not; too few rows to say anything.
State = Literal["measured", "waiting", "labels missing", "too few labels"]

_PERIODS = {"day": "D", "week": "W", "month": "M"}
_MIN_CLASS_ROWS = 10


@dataclass(frozen=True)
class Ask(JsonForm):
    """What is asked of each cohort.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param by: how long a cohort is: ``day``, ``week`` (from Monday) or ``month``, in UTC.
    :param delay: after which the label of a prediction should be there.
    :param min_coverage: share of the labels that must be there then.
    :param min_rows: labelled rows that a cohort needs.
    :param positive: the label that counts as positive; by default labels are 0 and 1, or numbers.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param estimate: whether the metric of cohorts that wait is estimated without labels.
    """

    metric: str = "roc_auc"
    by: Span = "month"
    delay: timedelta = timedelta(days=1)
    min_coverage: float = 0.8
    min_rows: int = 100
    positive: Any = None
    threshold: float = 0.5
    estimate: bool = False

    def __post_init__(self) -> None:
        demand_types(self)
        one_of("metric", self.metric, tuple(METRICS), called="metric")
        one_of("by", self.by, tuple(_PERIODS), called="length of a cohort")
        positive("delay", self.delay, zero=True)
        share("min_coverage", self.min_coverage, "Use a share above 0 and below 1, such as 0.8.")


@dataclass(frozen=True)
class Cohort(JsonForm):
    """The predictions that one model made in one time.

    :param name: of the time: ``2013-04``, ``2013-04-15``, or the first day of a week.
    :param sha256: of the model.
    :param predictions: that it made.
    :param labelled: of these, those with a label.
    :param state: whether it was measured, or why not.
    :param value: of the metric; ``None`` where it is neither measured nor estimated.
    :param low: of its 95 % interval; ``None`` where nobody can tell.
    :param high: of its interval.
    :param estimated: whether the value is an estimate without labels, which may ask for labels and decides nothing.
    :param reason: in plain words.
    """

    name: str
    sha256: str
    predictions: int
    labelled: int
    state: State
    value: float | None = None
    low: float | None = None
    high: float | None = None
    estimated: bool = False
    reason: str = ""


def cohorts(frame: pd.DataFrame, ask: Ask, now: datetime) -> list[Cohort]:
    """Measure each cohort that can be measured.

    :param frame: what :func:`~airflow_pipeops.models.labels.joining.join` returned.
    :param ask: what is measured.
    :param now: with a zone.
    :return: the cohorts by model and time.
    """
    found = [
        (_cohort(name, sha256, rows, ask, now, ends), rows) for name, sha256, rows, ends in _split(frame, ask)
    ]
    if not ask.estimate:
        return [cohort for cohort, _ in found]
    return [_estimated(cohort, rows, found, ask) for cohort, rows in found]


def _split(frame: pd.DataFrame, ask: Ask) -> Iterator[tuple[str, str, pd.DataFrame, datetime]]:
    periods = frame[AT].dt.tz_localize(None).dt.to_period(_PERIODS[ask.by])
    for (sha256, period), rows in frame.groupby([frame[SHA256], periods], sort=True):
        name = str(period.start_time.date()) if ask.by == "week" else str(period)
        yield name, str(sha256), rows, (period + 1).start_time.tz_localize("UTC").to_pydatetime()


def _cohort(name: str, sha256: str, rows: pd.DataFrame, ask: Ask, now: datetime, ends: datetime) -> Cohort:
    labelled = rows[rows[LABEL].notna()]
    known = (name, sha256, len(rows), len(labelled))
    share_ = len(labelled) / len(rows)
    if now < ends + ask.delay:
        due = (ends + ask.delay).isoformat(timespec="minutes")
        return Cohort(*known, "waiting", reason=f"its labels are due at {due}; {share_:.0%} have come")
    if share_ < ask.min_coverage:
        why = f"{share_:.0%} of its labels have come, and {ask.min_coverage:.0%} should be there by now"
        return Cohort(*known, "labels missing", reason=why)
    labels = truth(labelled[LABEL], ask)
    scores = labelled[SCORE].to_numpy()
    rarer = rarest(ask.metric, labels, scores, threshold=ask.threshold)
    if len(labelled) < ask.min_rows or rarer < _MIN_CLASS_ROWS:
        why = f"{len(labelled):,} labelled rows, {rarer:,} of the rarest class, are too few"
        return Cohort(*known, "too few labels", reason=why)
    value, low, high = level(ask, labels, scores, labelled[AT])
    return Cohort(*known, "measured", value, low, high)


def truth(labels: pd.Series[Any], ask: Ask) -> Any:
    """Return labels as the metric needs them: 0 and 1 for two classes, else as they are."""
    from airflow_pipeops.models.performance.labelled import positives

    values = labels.to_numpy()
    return values if METRICS[ask.metric].task == "multiclass" else positives(values, ask.positive)


def level(ask: Ask, labels: Any, scores: Any, at: pd.Series[Any]) -> tuple[float, float | None, float | None]:
    """Measure a metric. Rows of one day move together, so that days are what is counted.

    :param ask: the metric, and how long a cohort is.
    :param labels: shape (rows,).
    :param scores: shape (rows,).
    :param at: when each was predicted.
    :return: the value, and the ends of its 95 % interval: the wider of that of rows and that of days; ``None`` where
        days are too few.
    """
    from scipy.stats import t

    from airflow_pipeops.models.paired.influence import standard_error

    found = measure(ask.metric, labels, scores, threshold=ask.threshold)
    if ask.by == "day":
        return found.value, found.low, found.high
    units = by_column(at.reset_index(drop=True), AT)
    if too_few(units, len(labels)):
        return found.value, None, None
    value, pulls = influence(ask.metric, labels, scores, threshold=ask.threshold)
    half = standard_error(pulls, units) * float(t.ppf(0.975, units.count - 1))
    return value, min(found.low, value - half), max(found.high, value + half)


def _estimated(
    cohort: Cohort, rows: pd.DataFrame, all_: list[tuple[Cohort, pd.DataFrame]], ask: Ask
) -> Cohort:
    """Estimate a cohort that has no value, from those of the same model that were measured."""
    from dataclasses import replace

    import pandas as pd

    from airflow_pipeops.models.performance import estimates

    if cohort.value is not None:
        return cohort
    if ask.metric not in estimates.CLASSIFIER:
        needs = "needs the features" if ask.metric in estimates.REGRESSOR else "is not known"
        return replace(
            cohort, reason=f"{cohort.reason}; no estimate: one of {ask.metric} without labels {needs}"
        )
    measured = [one for known, one in all_ if known.state == "measured" and known.sha256 == cohort.sha256]
    before = pd.concat(measured) if measured else rows.head(0)
    before = before[before[LABEL].notna()]
    if len(before) < estimates.MIN_REFERENCE:
        why = f"it needs {estimates.MIN_REFERENCE} labelled rows of cohorts that were measured, and there are {len(before)}"
        return replace(cohort, reason=f"{cohort.reason}; no estimate: {why}")
    before = before.assign(**{LABEL: truth(before[LABEL], ask)})
    try:
        found: Performance = estimates.estimate(
            ask.metric, before, rows, label=LABEL, prediction=SCORE, threshold=ask.threshold
        )
    except InvalidInput as error:
        return replace(cohort, reason=f"{cohort.reason}; no estimate: {error.message}")
    why = (
        f"{cohort.reason}; estimated without labels, which is blind to a change of what the same inputs mean"
    )
    return replace(cohort, value=found.value, low=found.low, high=found.high, estimated=True, reason=why)
