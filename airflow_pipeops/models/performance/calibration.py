"""How far probabilities are from what they say: two deviations, of their level and of their spread. Pure.

The *bias* is by how much the mean probability is off the share of positives. The *slope* is that of a logistic regression of
the labels on the logits of the probabilities: 1 where they are right, less where they are too sure of themselves, as those
of a model that has learned by heart are (Cox, Biometrika 45, 1958). The error of calibration over bins is not offered: its
value depends on the bins, and is above zero for probabilities that are right.

Both are sizes of a deviation, so that less is better. Their signs are lost, and where a deviation is next to nothing its
size does not vary as its influence says: see :mod:`airflow_pipeops.models.paired.influence`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.intervals import Part, bounded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Probabilities nearer to 0 or 1 than this count as if they were so near.
_NEAREST = 1e-6
#: From this condition number on, a regression has no solution.
_LARGEST = 1e12
#: Newton's steps until a slope is found; on rows that have one, ten are many.
_STEPS = 50


def probabilities(metric: str, p: Array) -> None:
    """Refuse predictions that are no probabilities.

    :param metric: that needs them.
    :param p: shape (rows,).
    :raises InvalidInput: for one below 0 or above 1.
    """
    if ((p < 0) | (p > 1)).any():
        raise InvalidInput(
            f"{metric} needs probabilities", field="predictions", remedy="Give shares from 0 to 1."
        )


def bias(y: Array, p: Array) -> tuple[float, Array]:
    """Return by how much the mean probability is off the share of positives, and the influence of each row."""
    probabilities("calibration_bias", p)
    value = float((p - y).mean())
    return _folded(value, p - y - value)


def slope_error(y: Array, p: Array) -> tuple[float, Array]:
    """Return by how much the slope of calibration is off 1, and the influence of each row."""
    import numpy as np

    probabilities("calibration_slope_error", p)
    clipped = np.clip(p, _NEAREST, 1 - _NEAREST)
    logits = np.log(clipped) - np.log1p(-clipped)
    x = np.column_stack([np.ones(len(y)), logits])
    found = np.zeros(2)
    with np.errstate(over="ignore"):
        for _ in range(_STEPS):
            said = 1 / (1 + np.exp(-(x @ found)))
            known = (x * (said * (1 - said))[:, None]).T @ x
            if np.linalg.cond(known) > _LARGEST:
                return math.nan, logits  # all probabilities are one, or they part the labels without an error
            step = np.linalg.solve(known, x.T @ (y - said))
            found = found + step
            if abs(step).max() < 1e-10 * max(1.0, abs(found).max()):
                pulls = len(y) * (x * (y - said)[:, None]) @ np.linalg.inv(known)[:, 1]
                return _folded(float(found[1]) - 1, pulls)
    return math.nan, logits


def _folded(deviation: float, pulls: Array) -> tuple[float, Array]:
    return abs(deviation), pulls if deviation >= 0 else -pulls


def interval(metric: str, y: Array, value: float, influence: Array, confidence: float) -> tuple[float, float]:
    """Return the interval of the size of a deviation: that of the deviation, without its sign.

    :param metric: one of this module's.
    :param y: labels of 0 or 1.
    :param value: of the metric.
    :param influence: of each row.
    :param confidence: of the interval.
    :return: both ends, of which none is below 0.
    """
    from scipy.stats import t

    rows, variance = len(y), float((influence**2).mean()) / len(y)
    if metric == "calibration_bias":
        part = Part(rows, (1 + value) / (rows + 1), (1 - value) / (rows + 1), variance)
        low, high = bounded(value, [part], confidence, least=-1.0)
    else:
        degrees = max(1, int(min(y.sum(), rows - y.sum())) - 1)
        half = float(t.ppf(0.5 + confidence / 2, degrees)) * math.sqrt(variance * rows / max(1, rows - 2))
        low, high = value - half, value + half
    return max(low, 0.0), max(high, -low)
