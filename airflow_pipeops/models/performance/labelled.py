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
    :raises InvalidInput: if a key was predicted twice, or has two labels that differ: nobody knows which one counts.
    """
    known = predictions[predictions[prediction].notna()]
    unpredicted = len(predictions) - len(known)
    if labels is None:
        joined, orphans = known, 0
    else:
        _unique(known, key, "predictions", "was predicted more than once")
        wanted = labels[labels[label].notna()][[*key, label]].drop_duplicates()
        _unique(wanted, key, "labels", "has labels that differ")
        joined = known[[*key, prediction]].merge(wanted, on=list(key), how="outer", indicator=True)
        orphans = int((joined["_merge"] == "right_only").sum())
        joined = joined[joined["_merge"] != "right_only"]
    both = joined[joined[label].notna()]
    return Labelled(
        both[label].to_numpy(),
        both[prediction].to_numpy(),
        len(joined),
        len(joined) - len(both),
        orphans,
        unpredicted,
    )


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
    """Return labels as 0 and 1.

    :param positive: the label that counts as 1; ``None`` if they are numbers or booleans already.
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
