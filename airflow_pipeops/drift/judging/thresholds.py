"""Thresholds from history: how far apart were windows in which nothing was wrong?

A threshold that somebody chose knows neither the column's seasons nor its noise. Windows of the past do. The threshold of
each column is the order statistic that a further window of the same kind exceeds with a stated chance at most: if past and
new windows are exchangeable, that is exact for any distribution (conformal prediction: Vovk, Gammerman and Shafer 2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from airflow_pipeops.base.arguments import at_least, share
from airflow_pipeops.drift.judging.compatible import outcome
from airflow_pipeops.drift.judging.robust import findings
from airflow_pipeops.drift.settings import COMPATIBLE_METHODS, ROBUST, Settings
from airflow_pipeops.drift.statistics.aggregates import (
    Aggregate,
    CategoricalAggregate,
    NumericAggregate,
    merged,
    merged_categories,
)
from airflow_pipeops.exceptions import InvalidInput

Window = Mapping[str, Aggregate]


@dataclass(frozen=True)
class Calibrated:
    """Thresholds and how they came about.

    :param thresholds: by column.
    :param rate: chance that a column alarms in a window in which nothing is wrong: what was asked for or less.
    :param scores: by column, of each window of the past, in their order: what the thresholds rest on.
    """

    thresholds: Mapping[str, float]
    rate: float
    scores: Mapping[str, tuple[float, ...]]

    def applied(self, settings: Settings) -> Settings:
        """Return the settings with these thresholds; those that a person gave for a column are kept."""
        return replace(settings, thresholds={**self.thresholds, **settings.thresholds})


def calibrate(
    windows: Sequence[Window],
    settings: Settings | None = None,
    *,
    reference: Window | None = None,
    rate: float = 0.05,
    least: float = 0.0,
) -> Calibrated:
    """Choose each column's threshold from windows in which nothing was wrong.

    :param windows: aggregates of the past, each of about as many rows as the windows to come.
    :param settings: the mode and methods that will be used.
    :param reference: what the windows are compared with; ``None`` for all the other windows together.
    :param rate: chance of a false alarm per column and window.
    :param least: no threshold is below.
    :return: the thresholds, and what they rest on.
    :raises InvalidInput: if there are too few windows for the rate, or for a method whose score is a p-value.
    """
    settings = settings or Settings()
    share("rate", rate, "Give a share between 0 and 1.")
    needed = max(2, math.ceil(1 / rate - 1 - 1e-9))
    message = f"{len(windows)} windows cannot tell a false-alarm rate of {rate:g}"
    remedy = f"Give at least {needed} windows, or a rate of at least {1 / (len(windows) + 1):.3g}."
    at_least("windows", len(windows), needed, message, remedy)
    place = min(len(windows), math.ceil((len(windows) + 1) * (1 - rate) - 1e-9))
    scores, thresholds = {}, {}
    for column in _common(windows, reference):
        found = tuple(_scores(column, [window[column] for window in windows], reference, settings))
        if len(found) < len(windows):
            continue  # a window without a usable value: nothing is learned
        scores[column] = found
        # An alarm is "at least the threshold": the next double above the order statistic.
        thresholds[column] = max(least, math.nextafter(sorted(found)[place - 1], math.inf))
    return Calibrated(thresholds, 1 - place / (len(windows) + 1), scores)


def _common(windows: Sequence[Window], reference: Window | None) -> list[str]:
    every = [*windows, reference] if reference is not None else list(windows)
    return [
        column
        for column, first in every[0].items()
        if all(column in window and type(window[column]) is type(first) for window in every)
    ]


def _scores(
    column: str, windows: list[Aggregate], reference: Window | None, settings: Settings
) -> list[float]:
    found = []
    for index, window in enumerate(windows):
        against = reference[column] if reference is not None else _others(windows, index)
        if min(_present(window), _present(against)) == 0:
            continue
        found.append(_score(column, against, window, settings))
    return found


def _others(windows: list[Aggregate], index: int) -> Aggregate:
    return reduce(_both, windows[:index] + windows[index + 1 :])


def _both(first: Aggregate, second: Aggregate) -> Aggregate:
    if isinstance(first, NumericAggregate) and isinstance(second, NumericAggregate):
        return merged(first, second)
    assert isinstance(first, CategoricalAggregate)
    assert isinstance(second, CategoricalAggregate)
    return merged_categories(first, second)


def _present(one: Aggregate) -> int:
    return one.finite if isinstance(one, NumericAggregate) else one.present


def _score(column: str, reference: Aggregate, current: Aggregate, settings: Settings) -> float:
    if settings.mode == ROBUST:
        return findings(column, reference, current, settings)[0].excess.value
    found = outcome(column, reference, current, settings)
    if found.method in COMPATIBLE_METHODS and COMPATIBLE_METHODS[found.method][2] in ("<", "<="):
        raise InvalidInput(
            f"column {column!r} is compared by the p-value of {found.method}",
            field="settings",
            value=found.method,
            remedy="A p-value states its false-alarm rate itself. Choose a distance to calibrate.",
        )
    return found.score.value
