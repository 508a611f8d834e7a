"""By how much a challenger is better than the champion on the same rows, and the error of that. Pure.

Each metric comes with its influence by row (:mod:`airflow_pipeops.models.performance.metrics`). The difference of two
models' influences on the same rows is what the difference of their metrics varies by, so its error needs no resampling:

- rows that are independent: the standard error of a mean;
- rows that move together (days, users, documents): sums by unit, with the factor of few units (CR1: Liang and Zeger,
  Biometrika 73, 1986; Cameron and Miller, Journal of Human Resources 50, 2015);
- units that follow each other in time: also their covariances up to a lag of ``1.3 * sqrt(units)`` (Newey and West,
  Econometrica 55, 1987; the lag of Lazarus, Lewis, Stock and Watson 2018). Of twenty days these show too little: where
  neighbours are correlated by .5, a test of 5 % errs in 13 %. So there is a third error, of as many units as the correlation
  of neighbours leaves (Bayley and Hammersley, Supplement to the Journal of the Royal Statistical
  Society 8, 1946), with that correlation corrected for its bias in short series (Kendall, Biometrika 41, 1954). The largest
  of the three counts.

Quantiles are those of Student's t with as many degrees of freedom as there are units, less one; and at most as many as the
rarest class has rows, since three positives cannot say what a fourth looks like.

A gain that is looked at each time days are added (:mod:`airflow_pipeops.models.paired.sequential`) has fewer degrees where
days follow each other: 1.5 for each stretch of lags, as the window of Newey and West leaves (Sun, Journal of Econometrics
178, 2014). A look too many at an error that is too small would otherwise be found sooner or later.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.models.paired.gain import MIN_UNITS, Gain
from airflow_pipeops.models.paired.units import Units, each_row, too_few
from airflow_pipeops.models.performance.metrics import METRICS, influence, rarest

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Of losses without a bound, this share of the rows that differ most is left out for a second look.
TRIMMED = 0.01
#: How far back in time units are taken to resemble each other: so often the square root of their number.
_LAGS = 1.3
#: Units that resemble each other more than this are one observation, about.
_MOST_ALIKE = 0.95
#: Differences up to this are rounding.
_EQUAL = 1e-12
#: A quantile of Student's t for half a chance of 2.5 % or less, in those for all of it, from 9 degrees of freedom on.
_FOLDED = 1.19
#: Metrics that a few rows can carry.
_UNBOUNDED = frozenset(name for name, kind in METRICS.items() if kind.task == "regression") | {"log_loss"}


def gain(
    metric: str,
    labels: Any,
    challenger: Any,
    champion: Any,
    *,
    units: Units | None = None,
    threshold: float = 0.5,
    planned: int | None = None,
) -> Gain:
    """Measure both models on the same rows.

    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param labels: shape (rows,).
    :param challenger: shape (rows,); its scores, classes or numbers, as the metric needs them.
    :param champion: the same of the champion.
    :param units: which rows move together; by default none.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param planned: where the rows grow and are looked at each time, about how many units are planned; see
        :class:`~airflow_pipeops.models.paired.gain.Gain`.
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
    found = Gain(metric, new, old, value, None, 0, rows, units.count, units.name, planned=planned)
    if doubt := too_few(units, rarer) or _too_alike(units, differences):
        return replace(found, doubt=doubt)
    trimmed = None
    if metric in _UNBOUNDED:
        far = np.abs(differences)
        trimmed = value + float(differences[far <= np.quantile(far, 1 - TRIMMED)].mean())
    return replace(
        found,
        error=_folded_error(pulls, others, units)
        if METRICS[metric].folded
        else standard_error(differences, units),
        degrees=min(rarer - 1, degrees_of(differences, units, planned)),
        error_by_rows=standard_error(differences, each_row(rows)),
        trimmed=trimmed,
    )


def _folded_error(new: Array, old: Array, units: Units) -> float:
    """Return the error of a gain in the sizes of two deviations.

    Near zero, chance alone decides the sign of a deviation and so which way it moves with the other one: the larger of both
    ways counts, and since each can err on its own, by as much more as a quantile for half the chance is larger.
    """
    return _FOLDED * max(standard_error(new - old, units), standard_error(new + old, units))


def standard_error(pulls: Array, units: Units) -> float:
    """Return the standard error of a number that rows pull away from its value.

    Of rows that move together in two ways, as by day and by user, the variances add up, less that of the rows which share
    both (Cameron, Gelbach and Miller, Journal of Business and Economic Statistics 29, 2011); the largest one counts.

    :param pulls: shape (rows,); the influence of each row, with a mean of zero.
    :param units: which rows move together.
    :return: the error; the larger of two where units follow each other in time.
    """
    if units.also is None:
        return math.sqrt(_variance(pulls, units)) / len(pulls)
    one, other = _variance(pulls, units), _variance(pulls, units.also)
    return math.sqrt(max(one, other, one + other - _variance(pulls, units.shared()))) / len(pulls)


def _variance(pulls: Array, units: Units) -> float:
    """Return the variance of the pulls' sum."""
    import numpy as np

    sums, count = units.sums(pulls), units.count
    spread = apart = float((sums**2).sum())
    inflated = 1.0
    if units.in_time:
        inflated = _inflated(sums)
        lags = _lags(count)
        for lag in range(1, lags + 1):
            spread += 2 * (1 - lag / (lags + 1)) * float(np.dot(sums[lag:], sums[:-lag]))
    return max(spread, apart * inflated) * count / (count - 1)


def _inflated(sums: Array) -> float:
    """Return how many units that resemble their neighbours count as one that does not.

    :param sums: shape (units,); in the order of time.
    :return: 1 or more.
    """
    apart, count = sums - sums.mean(), len(sums)
    squares = float(apart @ apart)
    alike = float(apart[1:] @ apart[:-1]) / squares if squares else 0.0
    alike = min(_MOST_ALIKE, max(0.0, alike + (1 + 3 * alike) / count))
    return (1 + alike) / (1 - alike)


def _lags(count: int) -> int:
    return min(int(_LAGS * math.sqrt(count)), count - 1)


def degrees_of(pulls: Array, units: Units, planned: int | None = None) -> int:
    """Return the degrees of freedom of the error (Satterthwaite, Biometrics 2, 1946): few where few units make it all up.

    :param pulls: shape (rows,); the influence of each row, with a mean of zero.
    :param units: which rows move together.
    :param planned: as for :func:`gain`.
    :return: at least 1.
    """
    sums, count = units.sums(pulls), units.count
    second, fourth = float((sums**2).mean()), float((sums**4).mean())
    excess = fourth / second**2 - 1 if second else 0.0
    found = min(count - 1, int(2 * count / excess)) if excess > 0 else count - 1
    if units.in_time:
        found = min(found, int(count / _inflated(sums) - 1))
    if planned is not None and units.in_time:
        found = min(found, int(1.5 * count / (_lags(count) + 1)))
    also = degrees_of(pulls, units.also, planned) if units.also else found
    return max(1, min(found, also))


def _too_alike(units: Units, differences: Array) -> str:
    """Say why two models that differ so seldom, or everywhere by the same, tell nothing; empty where they do."""
    import numpy as np

    what = f"values of {units.name!r}" if units.name else "rows"
    differing = int(
        np.count_nonzero(np.abs(units.sums(np.abs(differences - np.median(differences)))) > _EQUAL)
    )
    if differing < MIN_UNITS:
        return f"the two models differ on {differing} of {units.count:,} {what} only, at least {MIN_UNITS} are needed"
    if np.abs(units.sums(differences)).max() <= _EQUAL:
        return f"the gain is the same in all {units.count:,} {what}, which does not say what it is in others"
    return _too_alike(units.also, differences) if units.also else ""
