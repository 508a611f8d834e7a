"""By how much a challenger is better than the champion on the same rows, and the error of that. Pure.

Each metric comes with its influence by row (:mod:`airflow_pipeops.models.performance.metrics`). The difference of two
models' influences on the same rows is what the difference of their metrics varies by, so its error needs no resampling:

- rows that are independent: the standard error of a mean;
- rows that move together (days, users, documents): sums by unit, with the factor of few units (CR1: Liang and Zeger,
  Biometrika 73, 1986; Cameron and Miller, Journal of Human Resources 50, 2015);
- units that follow each other in time: also their covariances up to a lag of ``1.3 * sqrt(units)`` (Newey and West,
  Econometrica 55, 1987; the lag of Lazarus, Lewis, Stock and Watson 2018), and the larger error of the two.

Quantiles are those of Student's t with as many degrees of freedom as there are units, less one; and at most as many as the
rarest class has rows, since three positives cannot say what a fourth looks like.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.units import Units, each_row
from airflow_pipeops.models.performance.metrics import METRICS, influence, rarest

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: With fewer units, or fewer rows of the rarest class, nobody can tell anything (Cameron and Miller 2015, section VI).
MIN_UNITS = 10
#: Of losses without a bound, this share of the rows that differ most is left out for a second look.
TRIMMED = 0.01
#: How far back in time units are taken to resemble each other: so often the square root of their number.
_LAGS = 1.3
#: Differences up to this are rounding.
_EQUAL = 1e-12
#: Metrics that a few rows can carry.
_UNBOUNDED = frozenset({"mae", "mse", "rmse", "r2", "log_loss"})


def gain(
    metric: str,
    labels: Any,
    challenger: Any,
    champion: Any,
    *,
    units: Units | None = None,
    threshold: float = 0.5,
) -> Gain:
    """Measure both models on the same rows.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param labels: shape (rows,).
    :param challenger: shape (rows,); its scores, classes or numbers, as the metric needs them.
    :param champion: the same of the champion.
    :param units: which rows move together; by default none.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :return: the gain, with its error, or with a doubt.
    :raises InvalidInput: for an unknown metric, values that are not finite, or shapes that differ.
    """
    import numpy as np

    new, pulls = influence(metric, labels, challenger, threshold=threshold)
    old, others = influence(metric, labels, champion, threshold=threshold)
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    value, differences = sign * (new - old), sign * (pulls - others)
    rows = len(differences)
    units = units or each_row(rows)
    rarer = min(rarest(metric, labels, each, threshold=threshold) for each in (challenger, champion))
    found = Gain(metric, new, old, value, None, 0, rows, units.count, units.name)
    if doubt := _too_few(units, rarer, differences):
        return replace(found, doubt=doubt)
    trimmed = None
    if metric in _UNBOUNDED:
        far = np.abs(differences)
        trimmed = value + float(differences[far <= np.quantile(far, 1 - TRIMMED)].mean())
    return replace(
        found,
        error=standard_error(differences, units),
        degrees=min(rarer - 1, _degrees(units.sums(differences))),
        error_by_rows=standard_error(differences, each_row(rows)),
        trimmed=trimmed,
    )


def standard_error(pulls: Array, units: Units) -> float:
    """Return the standard error of a number that rows pull away from its value.

    :param pulls: shape (rows,); the influence of each row, with a mean of zero.
    :param units: which rows move together.
    :return: the error; the larger of two where units follow each other in time.
    """
    import numpy as np

    sums, rows, count = units.sums(pulls), len(pulls), units.count
    spread = apart = float((sums**2).sum())
    if units.in_time:
        lags = int(_LAGS * math.sqrt(count))
        for lag in range(1, min(lags, count - 1) + 1):
            spread += 2 * (1 - lag / (lags + 1)) * float(np.dot(sums[lag:], sums[:-lag]))
    return math.sqrt(max(spread, apart) * count / (count - 1)) / rows


def _degrees(sums: Array) -> int:
    """Return the degrees of freedom of the error (Satterthwaite, Biometrics 2, 1946): few where few units make it all up."""
    count = len(sums)
    second, fourth = float((sums**2).mean()), float((sums**4).mean())
    excess = fourth / second**2 - 1
    return max(1, min(count - 1, int(2 * count / excess)) if excess > 0 else count - 1)


def _too_few(units: Units, rarer: int, differences: Array) -> str:
    """Say why nobody can tell; empty where there is enough to go by."""
    import numpy as np

    rows = len(differences)
    if rarer < MIN_UNITS:
        of_a_class = " of the rarest class" if rarer < rows else ""
        return f"{rarer:,} rows{of_a_class} among {rows:,} are too few, at least {MIN_UNITS} are needed"
    if units.count < MIN_UNITS:
        few = f"{units.count} values of {units.name!r}, whose rows move together, are too few"
        return f"{few}, at least {MIN_UNITS} are needed"
    differing = int(
        np.count_nonzero(np.abs(units.sums(np.abs(differences - np.median(differences)))) > _EQUAL)
    )
    if differing < MIN_UNITS:
        what = f"values of {units.name!r}" if units.name else "rows"
        return f"the two models differ on {differing} of {units.count:,} {what} only, at least {MIN_UNITS} are needed"
    return ""
