"""Predictions and the labels that came later, joined by key. What does not join is counted, never left out in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Labelled:
    """The rows that have both.

    :param labels: shape (rows,).
    :param predictions: shape (rows,).
    :param predicted: rows with a prediction.
    :param unlabelled: of these, rows that wait for their label.
    :param orphans: labels without a prediction.
    :param unpredicted: rows whose prediction is null.
    """

    labels: Any
    predictions: Any
    predicted: int
    unlabelled: int
    orphans: int
    unpredicted: int

    @property
    def coverage(self) -> float:
        """Share of the predictions that have a label by now."""
        return len(self.labels) / self.predicted if self.predicted else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "labelled": len(self.labels),
            "predicted": self.predicted,
            "unlabelled": self.unlabelled,
            "orphans": self.orphans,
            "unpredicted": self.unpredicted,
            "coverage": round(self.coverage, 6),
        }


def join(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None,
    *,
    key: Sequence[str],
    prediction: str,
    label: str,
) -> Labelled:
    """Join labels to predictions.

    :param predictions: columns ``key`` and ``prediction``; also ``label``, where ``labels`` is ``None``.
    :param labels: columns ``key`` and ``label``.
    :return: the pairs, and how many rows of each side found no partner.
    :raises InvalidInput: if a key was predicted twice, or has two labels that differ: nobody knows which one counts; or if
        the keys are of unlike types.
    """
    known = predictions[predictions[prediction].notna()]
    unpredicted, predicted, orphans = len(predictions) - len(known), len(known), 0
    both = known
    if labels is None:
        both = known[known[label].notna()]
    else:
        wanted = labels[labels[label].notna()][[*key, label]].drop_duplicates()
        # As in SQL, a key that is null is equal to no other.
        known, orphans = known[known[key].notna().all(axis=1)], len(wanted)
        wanted = wanted[wanted[key].notna().all(axis=1)]
        _unique(known, key, "predictions", "was predicted more than once")
        _unique(wanted, key, "labels", "has labels that differ")
        left, right = known[[*key, prediction]].copy(), wanted.copy()
        for name in key:
            left[name], right[name] = alike(left[name], right[name], name)
        both = left.merge(right, on=list(key), how="inner")
        orphans -= len(both)
    return Labelled(
        _values(both[label]),
        _values(both[prediction]),
        predicted,
        predicted - len(both),
        orphans,
        unpredicted,
    )


def _values(series: pd.Series) -> Any:
    """Return values that are not null as an array; decimals as doubles, which metrics compute with."""
    from pandas.api.types import infer_dtype

    return series.to_numpy(dtype=float if infer_dtype(series) == "decimal" else None)


def alike(
    left: pd.Series, right: pd.Series, name: str, *, other: str = "labels"
) -> tuple[pd.Series, pd.Series]:
    """Bring both sides of a key into one type.

    :param left: of the predictions.
    :param right: of the labels, or what else is joined to them.
    :param name: of the key.
    :param other: what the reader knows the right side as.
    :return: both sides.
    :raises InvalidInput: if their types are unlike: made equal, a value would meet others than its own.
    """
    left, right = (
        one.astype(one.cat.categories.dtype) if one.dtype == "category" else one for one in (left, right)
    )
    kinds = _kind(left), _kind(right)
    if "empty" not in kinds and kinds[0] != kinds[1]:
        raise InvalidInput(
            f"key {name!r} is {kinds[0]} in the predictions and {kinds[1]} in the {other}",
            field="key",
            value=name,
            remedy="Write it in one type on both sides, for example by a CAST in a query.",
        )
    if left.dtype == right.dtype or left.dtype.kind == right.dtype.kind == "i":
        return left, right
    # Python's own values: unsigned beside signed integers would meet as doubles.
    return left.astype(object), right.astype(object)


def _kind(series: pd.Series) -> str:
    """Return what a key is, as far as two of them can be equal."""
    from pandas.api.types import infer_dtype

    found = infer_dtype(series) if len(series) else "empty"
    if found == "floating":
        return str(series.dtype)
    if found in ("datetime", "datetime64"):
        zones = {value.tzinfo is not None for value in series.head(1)}
        return "a timestamp with time zone" if True in zones else "a timestamp"
    if found == "mixed":
        return " or ".join(sorted({type(value).__name__ for value in series}))
    return {"string": "text", "integer": "an integer", "decimal": "a decimal"}.get(found, str(found))


def _unique(frame: pd.DataFrame, key: Sequence[str], field: str, what: str) -> None:
    twice = int(frame.duplicated(list(key)).sum())
    if twice:
        raise InvalidInput(
            f"{twice:,} times a key of {', '.join(key)} {what}",
            field=field,
            value=list(key),
            remedy="Give a key that names one prediction, or keep the row that counts before joining.",
        )


def positives(values: Any, positive: Any) -> Any:
    """Read labels as 0 and 1.

    :param positive: the label that counts as 1; ``None`` if they are numbers or booleans already.
    :return: an array of 0 and 1.
    :raises InvalidInput: if they are not, or if there are two labels and more and none of them is the positive one: a day
        without any positive has one label, and is a day like others.
    """
    import numpy as np
    import pandas as pd

    series = pd.Series(values)
    if positive is not None:
        found: Any = (series == positive).to_numpy()
        kinds = list(dict.fromkeys(series))
        if not found.any() and len(kinds) > 1:
            seen = ", ".join(map(repr, kinds[:5]))
            raise InvalidInput(
                f"no label is {positive!r}; there are {seen}",
                field="positive",
                value=positive,
                remedy="Name the label that counts as positive.",
            )
        return found.astype(float)
    try:
        return np.asarray(series, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "the labels are no numbers",
            field="label",
            remedy="Say with positive= which label counts as 1.",
        ) from error
