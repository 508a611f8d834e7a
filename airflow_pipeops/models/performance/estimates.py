"""Performance before the labels are there: NannyML's estimates.

A classifier's metric is estimated from its calibrated scores (CBPE, confidence-based performance estimation), a regressor's
from a model of its errors (DLE, direct loss estimation). Both see covariate shift and are blind to concept drift: where
the same inputs come to mean something else, only labels tell.
"""

from __future__ import annotations

import os
import warnings
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import at_least, has_columns
from airflow_pipeops.exceptions import InvalidInput, MissingExtra
from airflow_pipeops.models.performance.metrics import METRICS, Performance

if TYPE_CHECKING:
    import pandas as pd

#: Our name of a metric -> NannyML's.
CLASSIFIER = {
    "roc_auc": "roc_auc",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
}
REGRESSOR = {"mae": "mae", "mse": "mse", "rmse": "rmse"}

#: With fewer labelled rows neither the calibration nor the model of the errors can be trusted.
MIN_REFERENCE = 300


def estimate(
    metric: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    label: str,
    prediction: str,
    features: tuple[str, ...] = (),
    threshold: float = 0.5,
    confidence: float = 0.95,
) -> Performance:
    """Estimate a metric on rows without labels.

    :param metric: one of :data:`CLASSIFIER` (the prediction is a score from 0 to 1) or :data:`REGRESSOR`.
    :param reference: labelled rows that the model was not trained on; columns ``label``, ``prediction`` and ``features``.
    :param current: rows to estimate for; columns ``prediction`` and ``features``.
    :param features: what the errors of a regressor depend on.
    :param confidence: of the interval, which covers the sampling error only, and not an error of the method.
    :return: the estimate, with its interval.
    :raises MissingExtra: without NannyML.
    :raises InvalidInput: for a metric that has no estimate, missing columns, or too few rows.
    """
    classifier = metric in CLASSIFIER
    _check(metric, reference, current, [prediction, *features], label)
    os.environ.setdefault("NML_DISABLE_USAGE_LOGGING", "1")
    try:
        import nannyml
    except ImportError as error:
        raise MissingExtra("nannyml", "nannyml") from error
    before, after = reference.reset_index(drop=True), current.reset_index(drop=True)
    common = {"y_true": label, "metrics": [(CLASSIFIER | REGRESSOR)[metric]], "chunk_number": 1}
    if classifier:
        before = before.assign(_class=(before[prediction] >= threshold).astype(int))
        after = after.assign(_class=(after[prediction] >= threshold).astype(int))
        estimator: Any = nannyml.CBPE(
            y_pred_proba=prediction, y_pred="_class", problem_type="classification_binary", **common
        )
    else:
        estimator = nannyml.DLE(feature_column_names=list(features), y_pred=prediction, **common)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(before)
        result = estimator.estimate(after.drop(columns=[label], errors="ignore"))
    row = result.filter(period="analysis").to_df()[(CLASSIFIER | REGRESSOR)[metric]].iloc[0]
    value = float(row["value"])
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * float(row["sampling_error"])
    low, high = max(0.0, value - half), value + half
    return Performance(
        metric,
        value,
        low,
        min(1.0, high) if classifier else high,
        len(after),
        confidence,
        METRICS[metric].higher_is_better,
        None,
        estimated=True,
    )


def _check(
    metric: str, reference: pd.DataFrame, current: pd.DataFrame, columns: list[str], label: str
) -> None:
    if metric not in CLASSIFIER and metric not in REGRESSOR:
        raise InvalidInput(
            f"metric {metric!r} cannot be estimated without labels",
            field="metric",
            value=metric,
            remedy=f"Use one of {', '.join([*CLASSIFIER, *REGRESSOR])}, or wait for labels.",
        )
    if metric in REGRESSOR and len(columns) < 2:
        raise InvalidInput(
            "the errors of a regressor are estimated from its features",
            field="features",
            remedy="Name the columns that the model reads.",
        )
    for side, frame, needed in (("reference", reference, [*columns, label]), ("current", current, columns)):
        has_columns(side, frame.columns, needed)
    if metric in CLASSIFIER and reference[label].nunique() < 2:
        raise InvalidInput(
            "all labels of the reference are the same, so nothing can be calibrated by them",
            field="reference",
            remedy="Give labelled rows of a time with both kinds.",
        )
    rows = len(reference)
    message, remedy = (
        f"the reference has {rows:,} labelled rows",
        f"An estimate needs at least {MIN_REFERENCE}.",
    )
    at_least("reference", rows, MIN_REFERENCE, message, remedy)
    at_least("current", len(current), 1, "current has no rows", "Give the batch that is served.")
