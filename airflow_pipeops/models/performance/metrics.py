"""How well predictions did against their labels: a metric with its confidence interval. Pure.

Each metric is computed together with its *influence*: by how much each row pulls the metric away from its value, so that
the metric's variance is the influence's over the rows (the delta method; van der Vaart, Asymptotic Statistics, 1998,
chapter 20). For the ROC AUC this is the estimator of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988). That alone
says nothing while rows are few: three positives may all lie where a strong model puts them, and vary by nothing. What is
added for it is in :mod:`airflow_pipeops.models.performance.intervals`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import one_of, share
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance import calibration, classes
from airflow_pipeops.models.performance.intervals import Part, bounded, mean_of_proportions, proportion

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Performance(JsonForm):
    """A metric, and how sure it is.

    :param metric: its name.
    :param value: the metric.
    :param low: lower end of the confidence interval.
    :param high: upper end of the confidence interval.
    :param rows: rows with a prediction and a label.
    :param confidence: of the interval, for example 0.95.
    :param higher_is_better: ``False`` for an error or a loss.
    :param baseline: the share of positives, the labels' mean, or the share of the most frequent class: what a model that
        knows nothing would go by.
    :param estimated: computed without labels; see :mod:`airflow_pipeops.models.performance.estimates`.
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int
    confidence: float
    higher_is_better: bool
    baseline: float | None
    estimated: bool = False

    def worse_than(self, reference: float) -> bool:
        """Whether the whole interval is on the wrong side of a reference: the loss is no chance."""
        return self.high < reference if self.higher_is_better else self.low > reference


@dataclass(frozen=True)
class Metric:
    """One metric.

    :param task: ``binary`` (labels 0 or 1), ``multiclass`` (labels of any type) or ``regression``.
    :param needs: ``score`` (a probability or ranking), ``class`` (0 or 1, or a score that a threshold cuts), ``label`` (the
        class itself) or ``number``.
    :param higher_is_better: ``False`` for an error or a loss.
    :param measure: labels and predictions to the value and its influence by row.
    :param share: where it is a proportion of rows, whose interval is exact: its hits and trials.
    :param of_share: the metric from that proportion, where it is not the proportion itself.
    :param shares: where it is a weighted mean of proportions: weight, hits and trials of each.
    :param parts: where it lies between 0 and 1: the classes it rests on, from labels, predictions, value and influence.
    :param rests_on: the rows of the rarest class that it rests on; by default all.
    :param folded: whether it is the size of a deviation, whose sign is lost.
    """

    task: Literal["binary", "multiclass", "regression"]
    needs: Literal["score", "class", "label", "number"]
    higher_is_better: bool
    measure: Callable[[Array, Array], tuple[float, Array]]
    share: Callable[[Array, Array], tuple[float, float]] | None = None
    of_share: Callable[[float], float] = float
    shares: Callable[[Array, Array], list[tuple[float, float, float]]] | None = None
    parts: Callable[[Array, Array, float, Array], list[Part]] | None = None
    rests_on: Callable[[Array, Array], int] = lambda y, p: len(y)
    folded: bool = False


def measure(
    metric: str, labels: Any, predictions: Any, *, threshold: float = 0.5, confidence: float = 0.95
) -> Performance:
    """Measure a metric.

    :param metric: one of :data:`METRICS`.
    :param labels: shape (rows,); 0 or 1 for a classifier of two classes, of any type for one of more, else numbers.
    :param predictions: shape (rows,); scores, classes or numbers, as the metric needs them.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param confidence: of the interval, for example 0.95.
    :return: its value, with its interval.
    :raises InvalidInput: for an unknown metric, values that are not finite, labels of one kind only where both are needed.
    """
    import numpy as np

    kind = METRICS[one_of("metric", metric, tuple(METRICS), called="metric")]
    share("confidence", confidence, "For example 0.95.")
    y, p = _read(kind, labels, predictions, threshold)
    value, pulls = _measured(metric, y, p)
    low, high = _interval(metric, y, p, value, pulls, confidence)
    several = kind.task == "multiclass"
    baseline = float(np.bincount(y).max() / len(y) if several else np.mean(y))
    return Performance(metric, value, low, high, len(y), confidence, kind.higher_is_better, baseline)


def influence(metric: str, labels: Any, predictions: Any, *, threshold: float = 0.5) -> tuple[float, Array]:
    """Return a metric, and by how much each row pulls it away from its value.

    :param metric: one of :data:`METRICS`; the other parameters are those of :func:`measure`.
    :return: the value; and shape (rows,), with a mean of zero.
    """
    kind = METRICS[one_of("metric", metric, tuple(METRICS), called="metric")]
    return _measured(metric, *_read(kind, labels, predictions, threshold))


def _measured(metric: str, y: Array, p: Array) -> tuple[float, Array]:
    value, pulls = METRICS[metric].measure(y, p)
    if not math.isfinite(value):
        raise InvalidInput(
            f"{metric} is not defined on these rows",
            field="metric",
            value=metric,
            remedy="It divides by zero here, or is infinite: wait for more labels, or use another metric.",
        )
    return value, pulls


def rarest(metric: str, labels: Any, predictions: Any, *, threshold: float = 0.5) -> int:
    """Return how many rows the rarest class has that a metric rests on; 0 where the metric has no value.

    :param metric: one of :data:`METRICS`; the other parameters are those of :func:`measure`.
    :return: the number of rows.
    """
    kind = METRICS[one_of("metric", metric, tuple(METRICS), called="metric")]
    return kind.rests_on(*_read(kind, labels, predictions, threshold))


def _read(kind: Metric, labels: Any, predictions: Any, threshold: float) -> tuple[Array, Array]:
    """Return both as numbers, or as the codes of classes."""
    import numpy as np

    shapes = np.shape(labels), np.shape(predictions)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or not shapes[0][0]:
        raise InvalidInput(
            f"labels have the shape {shapes[0]} and predictions {shapes[1]}",
            field="labels",
            remedy="Give one label and one prediction a row, and at least one row.",
        )
    if kind.task == "multiclass":
        return classes.codes(labels, predictions)
    y, p = _numbers("labels", labels), _numbers("predictions", predictions)
    _check(kind, y, p)
    return y, (p >= threshold).astype(float) if kind.needs == "class" else p


def _numbers(field: str, values: Any) -> Array:
    import numpy as np

    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{field} are no numbers",
            field=field,
            remedy="Give numbers, or use a metric of several classes, such as multiclass_accuracy.",
        ) from error


def _check(kind: Metric, y: Array, p: Array) -> None:
    import numpy as np

    for name, values in (("labels", y), ("predictions", p)):
        if not np.isfinite(values).all():
            raise InvalidInput(
                f"{int((~np.isfinite(values)).sum()):,} {name} are no finite numbers",
                field=name,
                remedy="Leave rows without a label out before measuring.",
            )
    if kind.task == "binary" and not np.isin(y, (0.0, 1.0)).all():
        raise InvalidInput(
            "labels of a classifier are 0 or 1",
            field="labels",
            remedy="Say which label is the positive one, or use a metric of more classes, or of numbers.",
        )


def _interval(
    metric: str, y: Array, p: Array, value: float, influence: Array, confidence: float
) -> tuple[float, float]:
    kind = METRICS[metric]
    if kind.share is not None:
        low, high = proportion(*kind.share(y, p), confidence)
        # Rounding alone can put the value outside.
        return min(value, kind.of_share(low)), max(value, kind.of_share(high))
    if kind.shares is not None:
        low, high = mean_of_proportions(kind.shares(y, p), confidence)
        return min(value, low), max(value, high)
    if kind.parts is not None:
        parts = kind.parts(y, p, value, influence)
        known = math.fsum(part.variance for part in parts)
        variance = 0.0 if known else float((influence**2).mean()) / len(y)
        return bounded(value, parts, confidence, variance=variance)
    if kind.folded:
        return calibration.interval(metric, y, value, influence, confidence)
    if metric == "r2":
        return _of_logarithm(value, influence, confidence)
    if metric == "rmse":
        low, high = _of_losses(value**2, 2 * value * influence, confidence, math.inf)
        return math.sqrt(low), math.sqrt(high)
    return _of_losses(value, influence, confidence, 1.0 if metric == "brier_score" else math.inf)


def _of_losses(value: float, influence: Array, confidence: float, most: float) -> tuple[float, float]:
    """Return the interval of a mean of losses, none of which is below 0; they are its value and its influence, row by row.

    What has no bound above is taken to have the largest loss that was seen, and a little more while there are few.
    """
    rows = len(influence)
    most = min(most, (value + float(influence.max())) * (1 + 1 / rows))
    part = Part(rows, value / (rows + 1), (most - value) / (rows + 1), float((influence**2).mean()) / rows)
    return bounded(value, [part], confidence, most=most)


def _of_logarithm(value: float, influence: Array, confidence: float) -> tuple[float, float]:
    """Return the interval of R2, by the logarithm of what it leaves unexplained: so it never passes 1."""
    from scipy.stats import t

    rest, rows = 1 - value, len(influence)
    if rest <= 0 or rows < 2:
        return value, value
    factor = math.exp(
        float(t.ppf(0.5 + confidence / 2, rows - 1)) * float(influence.std(ddof=1)) / math.sqrt(rows) / rest
    )
    return 1 - rest * factor, 1 - rest / factor


# ---- the metrics ----------------------------------------------------------------------------------------------------


def _roc_auc(y: Array, p: Array) -> tuple[float, Array]:
    import numpy as np
    from scipy.stats import rankdata

    positive = y == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if not (m and n):
        raise InvalidInput(
            "all labels are the same, so nothing can be ranked",
            field="labels",
            remedy="Wait for labels of both kinds.",
        )
    ranks = rankdata(p)
    above = np.empty(
        len(y)
    )  # of a positive: the share of negatives below it; of a negative: of positives above it
    above[positive] = (ranks[positive] - rankdata(p[positive])) / n
    above[~positive] = 1 - (ranks[~positive] - rankdata(p[~positive])) / m
    value = float(above[positive].mean())
    return value, (above - value) * np.where(positive, len(y) / m, len(y) / n)


def _by_label(y: Array, p: Array, value: float, influence: Array) -> list[Part]:
    """Return the parts of a mean over the pairs of a positive and a negative row."""
    found = []
    for label in (0.0, 1.0):
        pulls = influence[y == label]
        further = len(pulls) + 1
        variance = float((pulls**2).sum()) / len(y) ** 2
        found.append(Part(len(pulls), value / further, (1 - value) / further, variance))
    return found


def _rarer(y: Array, p: Array) -> int:
    return int(min((y == 1).sum(), (y == 0).sum()))


def _mean(values: Array) -> tuple[float, Array]:
    value = float(values.mean())
    return value, values - value


def _hits(y: Array, p: Array) -> tuple[float, float]:
    return float((y == p).sum()), float(len(y))


def _ratio(top: Array, bottom: Array) -> tuple[float, Array]:
    below = float(bottom.mean())
    if below == 0:
        return math.nan, top
    value = float(top.mean()) / below
    return value, (top - value * bottom) / below


def _log_loss(y: Array, p: Array) -> tuple[float, Array]:
    import numpy as np

    calibration.probabilities("log_loss", p)
    tiny = np.finfo(float).eps
    q = np.clip(p, tiny, 1 - tiny)
    return _mean(-(y * np.log(q) + (1 - y) * np.log1p(-q)))


def _pinball(y: Array, p: Array, share: float) -> tuple[float, Array]:
    import numpy as np

    return _mean(np.maximum(share * (y - p), (share - 1) * (y - p)))


def _rmse(y: Array, p: Array) -> tuple[float, Array]:
    mse, influence = _mean((y - p) ** 2)
    value = math.sqrt(mse)
    return value, influence / (2 * value) if value else influence


def _r2(y: Array, p: Array) -> tuple[float, Array]:
    errors, spread = (y - p) ** 2, (y - y.mean()) ** 2
    a, b = float(errors.mean()), float(spread.mean())
    if b == 0:
        return math.nan, errors
    return 1 - a / b, a * (spread - b) / b**2 - (errors - a) / b


#: Every metric by its name, as scikit-learn calls it where it has it.
METRICS: Mapping[str, Metric] = {
    "roc_auc": Metric("binary", "score", True, _roc_auc, parts=_by_label, rests_on=_rarer),
    "log_loss": Metric("binary", "score", False, _log_loss),
    "brier_score": Metric("binary", "score", False, lambda y, p: _mean((y - p) ** 2)),
    "calibration_bias": Metric("binary", "score", False, calibration.bias, rests_on=_rarer, folded=True),
    "calibration_slope_error": Metric(
        "binary", "score", False, calibration.slope_error, rests_on=_rarer, folded=True
    ),
    "accuracy": Metric("binary", "class", True, classes.accuracy, _hits),
    "precision": Metric(
        "binary",
        "class",
        True,
        lambda y, p: _ratio(y * p, p),
        lambda y, p: (float((y * p).sum()), float(p.sum())),
        rests_on=lambda y, p: min(_rarer(y, p), int(p.sum())),
    ),
    "recall": Metric(
        "binary",
        "class",
        True,
        lambda y, p: _ratio(y * p, y),
        lambda y, p: (float((y * p).sum()), float(y.sum())),
        rests_on=_rarer,
    ),
    # Of the rows that are positive or were said to be, F1 is 2 s / (1 + s) of the share s that is both.
    "f1": Metric(
        "binary",
        "class",
        True,
        lambda y, p: _ratio(2 * y * p, y + p),
        lambda y, p: (float((y * p).sum()), float((y + p > 0).sum())),
        of_share=lambda share: 2 * share / (1 + share),
        rests_on=_rarer,
    ),
    "multiclass_accuracy": Metric("multiclass", "label", True, classes.accuracy, _hits),
    "balanced_accuracy": Metric(
        "multiclass",
        "label",
        True,
        classes.balanced_accuracy,
        shares=classes.balanced_shares,
        rests_on=classes.rarest,
    ),
    "precision_macro": Metric(
        "multiclass",
        "label",
        True,
        classes.precision_macro,
        shares=classes.precision_shares,
        rests_on=classes.rarest,
    ),
    "recall_macro": Metric(
        "multiclass",
        "label",
        True,
        classes.recall_macro,
        shares=classes.recall_shares,
        rests_on=classes.rarest,
    ),
    "f1_macro": Metric(
        "multiclass", "label", True, classes.f1_macro, parts=classes.f1_parts, rests_on=classes.rarest
    ),
    "f1_weighted": Metric("multiclass", "label", True, classes.f1_weighted, parts=classes.f1_weighted_parts),
    "mae": Metric("regression", "number", False, lambda y, p: _mean(abs(y - p))),
    "mse": Metric("regression", "number", False, lambda y, p: _mean((y - p) ** 2)),
    "rmse": Metric("regression", "number", False, _rmse),
    # The loss of a quantile, by its percent.
    **{
        f"pinball_loss_{percent}": Metric(
            "regression", "number", False, functools.partial(_pinball, share=percent / 100)
        )
        for percent in (1, 5, 10, 25, 50, 75, 90, 95, 99)
    },
    "r2": Metric("regression", "number", True, _r2, rests_on=lambda y, p: len(y) if y.min() < y.max() else 0),
}
