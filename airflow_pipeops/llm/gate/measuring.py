"""From the scores of two arms to the effect of one over the other: arrays in, numbers out. Pure.

Scores have the shape (items, runs), with NaN where an item has fewer runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_pipeops.llm.gate.effects import Effect, Noise
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.influence import degrees_of, standard_error
from airflow_pipeops.models.paired.units import Units, each_row

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Differences up to this are rounding.
_EQUAL = 1e-12
#: Resamples of units for the error of a quantile.
_RESAMPLES = 500
_QUANTILE = 0.95


def mean_effect(
    metric: str,
    new: Array,
    old: Array,
    units: Units,
    *,
    sign: float = 1.0,
    ends: tuple[float, float] | None = (0.0, 1.0),
    passing: float = 0.5,
    planned: int | None = None,
) -> Effect:
    """Measure the difference of two means.

    :param metric: its name.
    :param new: the candidate's scores.
    :param old: the baseline's.
    :param units: which items move together.
    :param sign: 1 where more is better, else -1.
    :param ends: lowest and highest score; ``None`` where there are none.
    :param passing: from here on a score of yes or no is a yes.
    :param planned: where items come in batches; see :class:`~airflow_pipeops.llm.gate.policy.GatePolicy`.
    :return: the effect.
    """
    import numpy as np

    yes_no = all(bool(np.isin(each[~np.isnan(each)], (0.0, 1.0)).all()) for each in (new, old))
    means = np.nanmean(new, axis=1), np.nanmean(old, axis=1)
    votes = [np.sign(_share(each, passing) - 0.5) for each in (new, old)] if yes_no else list(means)
    return _effect(
        metric,
        (float(means[0].mean()), float(means[1].mean())),
        sign * (means[0] - means[1]),
        sign * (votes[0] - votes[1]),
        units,
        votes=yes_no,
        span=ends[1] - ends[0] if ends else None,
        noise=_noise(new, old),
        planned=planned,
    )


def direction_effect(
    metric: str, new: Array, old: Array, units: Units, *, sign: float = 1.0, planned: int | None = None
) -> Effect:
    """Measure the share of items that the candidate wins, less that of those it loses: for scores without distances.

    An item is won where more pairs of its runs are won than lost. The parameters are those of :func:`mean_effect`.

    :return: the effect; its values are shares of items that each arm wins.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):
        pairs = np.sign(new[:, :, None] - old[:, None, :])
    ways = sign * np.sign(np.nansum(pairs, axis=(1, 2)))
    shares = float((ways > 0).mean()), float((ways < 0).mean())
    return _effect(metric, shares, ways, ways, units, votes=True, span=1.0, noise=None, planned=planned)


def ratio_effect(metric: str, new: Array, old: Array, units: Units, *, planned: int | None = None) -> Effect:
    """Measure by how much less the candidate costs: minus the logarithm of the ratio of the means.

    The parameters are those of :func:`mean_effect`.

    :return: the effect.
    """
    import numpy as np

    means = np.nanmean(new, axis=1), np.nanmean(old, axis=1)
    levels = float(means[0].mean()), float(means[1].mean())
    if min(levels) <= 0:
        return without(metric, levels, units, "one arm's is zero, which has no ratio")
    pulls = -(means[0] / levels[0] - means[1] / levels[1])
    value = -math.log(levels[0] / levels[1])
    return _effect(
        metric, levels, pulls + value, pulls, units, votes=False, span=None, noise=None, planned=planned
    )


def quantile_effect(
    metric: str, new: Array, old: Array, units: Units, *, planned: int | None = None
) -> Effect:
    """Measure by how much the slowest answers are faster: minus the logarithm of the ratio of the 95 % quantiles.

    The error is that of resampled units (paired bootstrap). The parameters are those of :func:`mean_effect`.

    :return: the effect.
    """
    import numpy as np

    arms = []
    for values in (new, old):
        rows, _ = there = np.nonzero(~np.isnan(values))
        order = np.argsort(values[there], kind="stable")
        arms.append((values[there][order], units.codes[rows][order]))
    random = np.random.default_rng(0)
    drawn = [np.ones(units.count)] + [
        np.bincount(random.integers(units.count, size=units.count), minlength=units.count)
        for _ in range(_RESAMPLES)
    ]
    found = np.array([[_weighted(*arm, weights) for arm in arms] for weights in drawn])
    if (found <= 0).any():
        return without(metric, (found[0][0], found[0][1]), units, "one arm's is zero, which has no ratio")
    logs = -np.log(found[:, 0] / found[:, 1])
    means = np.nanmean(new, axis=1) - np.nanmean(old, axis=1)
    differing = int(np.count_nonzero(np.abs(units.sums(means)) > _EQUAL))
    error = float(logs[1:].std(ddof=1)) or None
    gain = Gain(
        metric,
        float(found[0][0]),
        float(found[0][1]),
        float(logs[0]),
        error,
        max(1, units.count - 1),
        len(new),
        units.count,
        units.name,
        planned=planned,
        doubt="" if error else "the slowest answers are the same ones",
    )
    return Effect(gain, differing, effective=units.count)


def predicted_effect(
    metric: str, judged: Array, labelled: Array, human: Array, units: Units, *, sign: float = 1.0
) -> Effect:
    """Correct the difference that a judge sees by what people say of a part of the items (PPI++, arXiv 2311.01453).

    :param metric: its name.
    :param judged: shape (items,); the judge's difference of each item.
    :param labelled: whether people have labelled both answers of an item, chosen at random.
    :param human: shape (items,); their difference where ``labelled``.
    :param units: which items move together.
    :param sign: 1 where more is better, else -1.
    :return: the effect; its error is that of the labelled and of the unlabelled items together.
    """
    import numpy as np

    n, rest = int(labelled.sum()), int((~labelled).sum())
    seen, true = sign * judged, sign * human[labelled]
    varies = float(np.var(seen[labelled], ddof=1)) if n > 1 else 0.0
    weight = 0.0
    if rest and varies > 0:
        together = float(np.cov(seen[labelled], true, ddof=1)[0, 1])
        weight = min(1.0, max(0.0, together / ((1 + n / rest) * float(np.var(seen, ddof=1)))))
    corrected = true - weight * seen[labelled]
    value = float(corrected.mean()) + (weight * float(seen[~labelled].mean()) if rest else 0.0)
    pulls = np.zeros(len(seen))
    pulls[labelled] = (corrected - corrected.mean()) * len(seen) / n
    if rest:
        pulls[~labelled] = weight * (seen[~labelled] - seen[~labelled].mean()) * len(seen) / rest
    found = _effect(metric, (value, 0.0), pulls + value, pulls, units, votes=False, span=None, noise=None)
    gain = found.gain
    degrees = max(1, min(gain.degrees, units.part(labelled).count - 1))
    differing = int(np.count_nonzero(np.abs(true) > _EQUAL))
    # The mean of the pulls is zero by parts, and the value stands beside it.
    made = Gain(
        metric, value, 0.0, value, gain.error, degrees, n, units.part(labelled).count, units.name,
        error_by_rows=gain.error_by_rows,
    )  # fmt: skip
    # Labels are what is dear: it is their number that would settle it.
    noise = Noise((gain.error or 0.0) ** 2 * n, None, 1.0)
    return Effect(made, differing, effective=n, noise=noise)


def _effect(
    metric: str,
    levels: tuple[float, float],
    differences: Array,
    votes_of: Array,
    units: Units,
    *,
    votes: bool,
    span: float | None,
    noise: Noise | None,
    planned: int | None = None,
) -> Effect:
    import numpy as np

    rows = len(differences)
    value = float(differences.mean())
    pulls = differences - value
    sums = units.sums(votes_of)
    differing = int(np.count_nonzero(np.abs(units.sums(np.abs(differences))) > _EQUAL))
    error = standard_error(pulls, units) if units.count > 1 else None
    alone = standard_error(pulls, each_row(rows)) if rows > 1 else None
    gain = Gain(
        metric,
        *levels,
        value,
        error,
        degrees_of(pulls, units) if units.count > 1 else 1,
        rows,
        units.count,
        units.name,
        error_by_rows=alone,
        planned=planned,
    )
    sizes = units.sums(np.ones(rows))
    if noise is None and rows > 1:
        noise = Noise(float(np.var(differences, ddof=1)), None, 1.0)
    return Effect(
        gain,
        differing,
        int((sums > _EQUAL).sum()),
        int((sums < -_EQUAL).sum()),
        votes,
        span,
        int(rows**2 / float((sizes**2).sum())),
        noise,
    )


def without(metric: str, levels: tuple[float, float], units: Units, doubt: str) -> Effect:
    """Return what is known of a metric of which nobody can tell.

    :param metric: its name.
    :param levels: the candidate's and the baseline's value.
    :param units: which items move together.
    :param doubt: why nobody can tell.
    :return: the effect.
    """
    new, old = float(levels[0]), float(levels[1])
    rows = len(units.codes)
    return Effect(Gain(metric, new, old, 0.0, None, 1, rows, units.count, units.name, doubt=doubt))


def _share(values: Array, passing: float) -> Array:
    """Return the share of an item's runs that pass."""
    import numpy as np

    known = ~np.isnan(values)
    passed: Array = ((values >= passing) & known).sum(axis=1)
    share: Array = passed / np.maximum(1, known.sum(axis=1))
    return share


def _noise(new: Array, old: Array) -> Noise | None:
    """Part the variance of the differences into that of the items and that of their runs."""
    import numpy as np

    if len(new) < 2:
        return None
    total = float(np.var(np.nanmean(new, axis=1) - np.nanmean(old, axis=1), ddof=1))
    within, share, counts = 0.0, 0.0, []
    for values in (new, old):
        runs = (~np.isnan(values)).sum(axis=1)
        counts.append(1 / float((1 / np.maximum(1, runs)).mean()))
        several = runs > 1
        if not several.any():
            return Noise(total, None, 1 / float(np.mean([1 / one for one in counts])))
        variance = float(np.nanvar(values[several], axis=1, ddof=1).mean())
        within += variance
        share += variance / counts[-1]
    runs_of_both = within / share if share else min(counts)
    return Noise(max(0.0, total - share), within, runs_of_both)


def _weighted(values: Array, codes: Array, weights: Array) -> float:
    import numpy as np

    heights = np.cumsum(weights[codes])
    at = int(np.searchsorted(heights, _QUANTILE * heights[-1])) if heights[-1] else 0
    return float(values[min(at, len(values) - 1)])
