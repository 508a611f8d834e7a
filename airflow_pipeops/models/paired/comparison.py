"""Compare two models on held-out rows: the metric that decides, its guards, and its slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least, has_columns
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.influence import degrees_of, gain, standard_error
from airflow_pipeops.models.paired.predictions import labels, predictions
from airflow_pipeops.models.paired.units import Units, columns_of, of_columns, too_few
from airflow_pipeops.models.performance.metrics import METRICS, influence, measure

if TYPE_CHECKING:
    import pandas as pd

#: A column of more values than this names rows and not slices.
MAX_SLICES = 200
#: What a model says of each row, in the form that a metric needs.
Says = Callable[[str], Any]


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`; it decides.
    :param target: name of the label's column.
    :param guards: further metrics.
    :param slices: columns; each of their values is a slice.
    :param cluster: column, or two of them, whose equal values mark rows that move together; times count by their day.
    :param positive: the label that counts as positive; by default labels are 0 and 1.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param planned: where the rows grow and are judged each time, about how many units (days) are planned; ``None`` where
        they are judged once.
    """

    metric: str
    target: str
    guards: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    cluster: str | Sequence[str] | None = None
    positive: Any = None
    threshold: float = 0.5
    planned: int | None = None


@dataclass(frozen=True)
class Compared:
    """What was measured.

    :param challenger: the challenger's value of the metric.
    :param level: 95 % interval of that value; ``None`` where nobody can tell, or nobody asked.
    :param gain: over the champion; ``None`` without one.
    :param guards: gains of the further metrics.
    :param slices: ``column=value`` -> the metric's gain there.
    :param doubt: why nobody can tell the level.
    """

    challenger: float
    level: tuple[float, float] | None
    gain: Gain | None = None
    guards: tuple[Gain, ...] = ()
    slices: Mapping[str, Gain] = field(default_factory=dict)
    doubt: str = ""


def compare(challenger: Any, champion: Any | None, frame: pd.DataFrame, question: Question) -> Compared:
    """Measure both models on the same rows. Each predicts each row once for each kind of metric.

    :param challenger: a fitted model that knows the names of its features.
    :param champion: the same; ``None`` without one.
    :param frame: held-out rows, with features, label, clusters and slices.
    :param question: what is compared.
    :return: what was measured.
    :raises InvalidInput: for missing columns, labels or predictions that the metric cannot be had from, no rows,
        or too many slices.
    """
    new = _says(challenger, frame, question.positive)
    return compare_said(
        new, None if champion is None else _says(champion, frame, question.positive), frame, question
    )


def compare_said(
    challenger: Says, champion: Says | None, frame: pd.DataFrame, question: Question
) -> Compared:
    """Measure two models by what they have said of the same rows.

    :param challenger: what it says of each row of the frame, for a metric.
    :param champion: the same; ``None`` without one.
    :param frame: the rows, with label, clusters and slices.
    :param question: what is compared.
    :return: what was measured.
    :raises InvalidInput: as for :func:`compare`.
    """
    has_columns("data", frame.columns, [*question.slices, *columns_of(question.cluster)])
    at_least("data", len(frame), 1, "the held-out data have no rows", "Give labelled rows.")
    frame = frame.reset_index(drop=True)
    units = of_columns(frame, question.cluster)
    slices = _slices(frame, question.slices)
    truth = labels(question.metric, frame, question.target, question.positive)
    new = challenger(question.metric)
    value, level, doubt = _level(question, truth, new, units)
    if champion is None:
        return Compared(value, level, doubt=doubt)
    old = champion(question.metric)

    how: dict[str, Any] = {"threshold": question.threshold, "planned": question.planned}

    def gained(rows: Any = slice(None), part: Units | None = None) -> Gain:
        return gain(question.metric, truth[rows], new[rows], old[rows], units=part or units, **how)

    guards = []
    for metric in question.guards:
        y = labels(metric, frame, question.target, question.positive)
        guards.append(gain(metric, y, challenger(metric), champion(metric), units=units, **how))
    by_slice = {name: _of_slice(gained, rows, units) for name, rows in slices.items()}
    return Compared(value, level, gained(), tuple(guards), by_slice, doubt)


def _says(model: Any, frame: pd.DataFrame, positive: Any) -> Says:
    """Let a model predict each row once for each kind of metric."""
    known: dict[Any, Any] = {}

    def said(metric: str) -> Any:
        asked = METRICS[metric].task, METRICS[metric].needs
        if asked not in known:
            known[asked] = predictions(metric, model, frame, positive)
        return known[asked]

    return said


def _of_slice(gained: Any, rows: Any, units: Units) -> Gain:
    """Measure a slice; one in which the metric has no value is too small to say."""
    try:
        found: Gain = gained(rows, units.part(rows))
    except InvalidInput as error:
        return Gain("", 0.0, 0.0, 0.0, None, 0, int(rows.sum()), 0, doubt=error.message)
    return found


def _slices(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """Return the rows of each slice, by name."""
    found: dict[str, Any] = {}
    for column in columns:
        values = frame[column].dropna().unique()
        if len(values) > MAX_SLICES:
            raise InvalidInput(
                f"{column!r} has {len(values):,} values",
                field="slices",
                value=column,
                remedy=f"Name columns of at most {MAX_SLICES} values, such as a region; group numbers first.",
            )
        found |= {
            f"{column}={value}": (frame[column] == value).to_numpy() for value in sorted(values, key=str)
        }
    return found


def _level(
    question: Question, truth: Any, new: Any, units: Units, alpha: float = 0.025
) -> tuple[float, tuple[float, float] | None, str]:
    """Return the challenger's own value and interval: the wider of the exact one of rows, and that of the units.

    The last is why there is no interval: of rows that move together, as few units tell as little as they do of a gain.
    """
    found = measure(question.metric, truth, new, threshold=question.threshold, confidence=1 - 2 * alpha)
    if not units.name and question.planned is None:
        return found.value, (found.low, found.high), ""
    if doubt := too_few(units, len(truth)):
        return found.value, None, doubt
    value, pulls = influence(question.metric, truth, new, threshold=question.threshold)
    error, degrees = standard_error(pulls, units), degrees_of(pulls, units, question.planned)
    alone = Gain(
        question.metric,
        value,
        value,
        value,
        error,
        degrees,
        len(truth),
        units.count,
        planned=question.planned,
    )
    low, high = alone.bounds(alpha) or (value, value)
    return value, (min(found.low, low), max(found.high, high)), ""
