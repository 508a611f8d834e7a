"""Metrics of a classifier of any number of classes: means over the classes, each with its influence by row. Pure.

Per class a metric is a ratio of two means over the rows, ``F = T / B``, so by the delta method a row that adds ``t`` to the
one and ``b`` to the other pulls it by ``(t - F * b) / B``. Only a row's own two classes, that of its label and that of its
prediction, add anything, so all of it is had from three counts per class. A ratio over no rows is 0, as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.intervals import Part

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def codes(labels: Any, predictions: Any) -> tuple[Array, Array]:
    """Number the classes of both, of any type.

    :param labels: shape (rows,).
    :param predictions: shape (rows,).
    :return: the numbers of the labels' classes, and of the predictions'.
    :raises InvalidInput: for a class that is null, or if both are written in two ways: not one class is in both, and they
        are of unlike types, or the same texts but for case and space. That not one is in both is a day like others.
    """
    import numpy as np
    import pandas as pd

    both = pd.Series(np.concatenate([np.asarray(labels, object), np.asarray(predictions, object)]))
    numbered, _ = pd.factorize(both)
    y, p = numbered[: len(labels)], numbered[len(labels) :]
    for name, found in (("labels", y), ("predictions", p)):
        if (found < 0).any():
            raise InvalidInput(
                f"{int((found < 0).sum()):,} {name} are null",
                field=name,
                remedy="Leave rows without a label out before measuring.",
            )
    if not np.isin(y, p).any() and _written_in_two_ways(both[: len(labels)], both[len(labels) :]):
        raise InvalidInput(
            f"labels and predictions have no class in common: {both.iloc[0]!r} against {both.iloc[-1]!r}",
            field="predictions",
            value=both.iloc[-1],
            remedy="Write the classes in one way: this metric wants the predicted class, and no score.",
        )
    return y, p


def _written_in_two_ways(labels: Any, predictions: Any) -> bool:
    """Whether classes of which none is in both cannot be the same kind of thing."""
    kinds = [sorted({_kind(value) for value in one.unique()}) for one in (labels, predictions)]
    if kinds[0] != kinds[1]:
        return True
    plain = [{str(value).strip().casefold() for value in one.unique()} for one in (labels, predictions)]
    return bool(plain[0] & plain[1])


def _kind(value: Any) -> str:
    """Return what a class is, as far as two of them can be equal: a whole number is one however it is stored."""
    from numbers import Number

    if isinstance(value, Number):
        return "a whole number" if value == value // 1 else "a fraction"  # type: ignore[operator]
    return "text" if isinstance(value, str) else type(value).__name__


@dataclass(frozen=True)
class Counts:
    """Rows per class.

    :param hits: shape (classes,); rows whose label and prediction are this class.
    :param labelled: rows of which it is the label.
    :param predicted: rows for which it was predicted.
    """

    hits: Array
    labelled: Array
    predicted: Array

    @classmethod
    def of(cls, y: Array, p: Array) -> Counts:
        """Count."""
        import numpy as np

        size = int(max(y.max(), p.max())) + 1
        hits, labelled, predicted = (
            np.bincount(some, minlength=size).astype(float) for some in (y[y == p], y, p)
        )
        return cls(hits, labelled, predicted)


def accuracy(y: Array, p: Array) -> tuple[float, Array]:
    """Share of the rows whose class was told."""
    hit = (y == p).astype(float)
    return float(hit.mean()), hit - hit.mean()


def balanced_accuracy(y: Array, p: Array) -> tuple[float, Array]:
    """Recall, as the mean over the classes that are labels."""
    counts = Counts.of(y, p)
    known = counts.labelled > 0
    return _recall(y, p, counts, known / known.sum())


def recall_macro(y: Array, p: Array) -> tuple[float, Array]:
    """Recall, as the mean over all classes."""
    counts = Counts.of(y, p)
    return _recall(y, p, counts, _even(counts.hits))


def precision_macro(y: Array, p: Array) -> tuple[float, Array]:
    """Precision, as the mean over all classes."""
    counts = Counts.of(y, p)
    precision, inverse = _ratio(counts.hits, counts.predicted)
    parts = [((y == p) - precision[p]) * inverse[p] / len(precision)]
    return _mean(precision, _even(precision), parts, len(y))


def f1_macro(y: Array, p: Array) -> tuple[float, Array]:
    """F1, as the mean over all classes."""
    f1, parts = _f1(y, p, None)
    return _mean(f1, _even(f1), parts, len(y))


def f1_weighted(y: Array, p: Array) -> tuple[float, Array]:
    """F1, as the mean over all classes by their share of the labels."""
    share = Counts.of(y, p).labelled / len(y)
    f1, parts = _f1(y, p, share)
    value, influence = _mean(f1, share, parts, len(y))
    return value, influence + f1[y] - value  # the shares are estimated, too


def rarest(y: Array, p: Array) -> int:
    """Return the rows of the rarest label."""
    labelled = Counts.of(y, p).labelled
    return int(labelled[labelled > 0].min())


Shares = list[tuple[float, float, float]]


def balanced_shares(y: Array, p: Array) -> Shares:
    """Return the proportions whose mean :func:`balanced_accuracy` is: weight, hits and trials."""
    counts = Counts.of(y, p)
    known = counts.labelled > 0
    return _shares(known / known.sum(), counts.hits, counts.labelled)


def recall_shares(y: Array, p: Array) -> Shares:
    """Return the proportions whose mean :func:`recall_macro` is."""
    counts = Counts.of(y, p)
    return _shares(_even(counts.hits), counts.hits, counts.labelled)


def precision_shares(y: Array, p: Array) -> Shares:
    """Return the proportions whose mean :func:`precision_macro` is."""
    counts = Counts.of(y, p)
    return _shares(_even(counts.hits), counts.hits, counts.predicted)


def _shares(weight: Array, hits: Array, trials: Array) -> Shares:
    return [
        (float(one), float(two), float(three)) for one, two, three in zip(weight, hits, trials, strict=True)
    ]


def f1_parts(y: Array, p: Array, value: float, influence: Array) -> list[Part]:
    """Return the classes that :func:`f1_macro` rests on."""
    counts = Counts.of(y, p)
    return _f1_parts(counts, _even(counts.hits))


def f1_weighted_parts(y: Array, p: Array, value: float, influence: Array) -> list[Part]:
    """Return the classes that :func:`f1_weighted` rests on."""
    counts = Counts.of(y, p)
    return _f1_parts(counts, counts.labelled / len(y))


def _f1_parts(counts: Counts, weight: Array) -> list[Part]:
    """One class and another share the rows that were mixed up, so the chance in them is left to the influence."""
    hits, rows = counts.hits, counts.labelled + counts.predicted - counts.hits

    def f1(hits: Array, rows: Array) -> Array:
        found: Array = 2 * hits / (rows + hits)
        return found

    now = f1(hits, rows)
    down, up = weight * (now - f1(hits, rows + 1)), weight * (f1(hits + 1, rows + 1) - now)
    return [Part(int(n), float(one), float(other)) for n, one, other in zip(rows, down, up, strict=True)]


def _recall(y: Array, p: Array, counts: Counts, weight: Array) -> tuple[float, Array]:
    recall, inverse = _ratio(counts.hits, counts.labelled)
    return _mean(recall, weight, [((y == p) - recall[y]) * inverse[y] * weight[y]], len(y))


def _f1(y: Array, p: Array, weight: Array | None) -> tuple[Array, list[Array]]:
    counts = Counts.of(y, p)
    f1, inverse = _ratio(2 * counts.hits, counts.labelled + counts.predicted)
    scaled = inverse * (_even(f1) if weight is None else weight)
    return f1, [2 * (y == p) * scaled[y], -f1[y] * scaled[y], -f1[p] * scaled[p]]


def _ratio(top: Array, bottom: Array) -> tuple[Array, Array]:
    """Return the ratio per class, and one over its denominator; 0 where that is 0."""
    import numpy as np

    inverse = np.divide(1.0, bottom, out=np.zeros_like(bottom), where=bottom > 0)
    return top * inverse, inverse


def _even(values: Array) -> Array:
    import numpy as np

    return np.full(len(values), 1 / len(values))


def _mean(values: Array, weight: Array, parts: list[Array], rows: int) -> tuple[float, Array]:
    """Return the weighted mean, and the influence; the denominators were counts, and means are meant."""
    import numpy as np

    return float((values * weight).sum()), np.sum(parts, axis=0) * rows
