"""Compare what a model says now with what it said on its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_pipeops.drift.operators.base import ComparisonOperator


class PredictionDriftOperator(ComparisonOperator):
    """Compare the predictions of a model, and nothing else: the earliest sign that needs no labels.

    One drifted prediction column is drift. The other arguments and the result are those of :class:`ComparisonOperator`.

    :param predictions: the columns that the model wrote: a score, a class, or several.
    """

    subject = "predictions"

    def __init__(self, *, predictions: str | Sequence[str], **kwargs: Any) -> None:
        names = [predictions] if isinstance(predictions, str) else list(predictions)
        super().__init__(columns=names, critical=names, **kwargs)
