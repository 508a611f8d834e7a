"""DORA's five metrics, and their counterparts for models. Pure: what was deployed goes in, figures come out.

Each is of one deliverable in one environment; DORA warns against blending several. Each has its denominator, and where
nothing was counted, it says so in place of a number. See ``docs/cli.md`` for the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_pipeops.base.serialisation import JsonForm


@dataclass(frozen=True)
class Deployment(JsonForm):
    """A version that went live where another one, or none, was live before; or one that was to, and never did.

    :param record: id of its release record, or of the failure.
    :param at: when it was live, or has failed, in UTC.
    :param commits: when each commit that it brought was committed, in UTC; none if nobody knows what it brought.
    :param failed: whether it needed somebody at once: it never went live, an incident names it, or it was rolled back or
        reverted.
    :param rework: whether it was made because of an incident: it rolls back, reverts, or was made from an incident.
    :param recovered: when what was live after it was whole again; empty if it did not fail, or that has not come yet.
    :param live: whether it went live at all.
    """

    record: str
    at: str
    commits: tuple[str, ...] | None = None
    failed: bool = False
    rework: bool = False
    recovered: str = ""
    live: bool = True


@dataclass(frozen=True)
class Spread(JsonForm):
    """Durations, in seconds.

    :param count: of the durations.
    :param median: of them; none without any.
    :param p90: nine of ten are not above it; none without any.
    """

    count: int
    median: float | None = None
    p90: float | None = None


@dataclass(frozen=True)
class Share(JsonForm):
    """A share, with its denominator.

    :param count: of what is counted.
    :param of: among so many.
    """

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; none of nothing."""
        return self.count / self.of if self.of else None

    def to_json(self) -> dict[str, float | int | None]:
        """Return the JSON form."""
        return {"count": self.count, "of": self.of, "value": self.value}


@dataclass(frozen=True)
class Dora(JsonForm):
    """DORA's metrics of a deliverable in an environment, in a time.

    :param start: of the time.
    :param end: of the time.
    :param deployments: in it, that went live.
    :param never_live: deployments that failed before they were live; they count where failures are counted.
    :param per_week: deployment frequency.
    :param between: time from a deployment to the next one.
    :param lead_time: change lead time: from each commit to its deployment.
    :param unknown_commits: deployments of which nobody knows what they brought; they are in no lead time.
    :param recovery_time: failed deployment recovery time.
    :param unrecovered: failed deployments that nothing has mended yet.
    :param change_fail_rate: deployments that failed.
    :param rework_rate: deployments that were made because of an incident.
    """

    start: str
    end: str
    deployments: int
    per_week: float | None
    between: Spread
    lead_time: Spread
    unknown_commits: int
    recovery_time: Spread
    unrecovered: int
    change_fail_rate: Share
    rework_rate: Share
    never_live: int = 0


@dataclass(frozen=True)
class Retrain(JsonForm):
    """A decision to retrain, and what came of it.

    :param record: id of the decision.
    :param at: when it was taken, in UTC.
    :param drifted: when the data that it was taken on were found to have drifted; empty if they were not.
    :param outcome: ``promoted``, ``rejected``, or empty while unknown.
    :param released: when a model that was made of it was live in production first; empty if none was.
    :param helped: whether the new model was better on what came later; none if nobody can tell.
    """

    record: str
    at: str
    drifted: str = ""
    outcome: str = ""
    released: str = ""
    helped: bool | None = None


@dataclass(frozen=True)
class ModelFigures(JsonForm):
    """How a model is kept fresh, in a time.

    :param start: of the time.
    :param end: of the time.
    :param data_age: seconds from the newest data that the live model was made from to the end of the time; none if nobody
        can tell.
    :param retrains: that were decided on.
    :param drift_to_fix: from found drift to the release of a model that was made because of it.
    :param unfixed: retrains for drift from which no release has come yet.
    :param rejected: challengers that were not better, among those that were judged.
    :param helped: retrains whose model was better on what came later, among those of which that is known.
    """

    start: str
    end: str
    data_age: float | None
    retrains: int
    drift_to_fix: Spread
    unfixed: int
    rejected: Share
    helped: Share


def dora(deployments: Iterable[Deployment], start: str, end: str) -> Dora:
    """Work out DORA's metrics.

    :param deployments: of one deliverable in one environment, in any order; those outside of the time are left out.
    :param start: of the time, in UTC.
    :param end: of the time, in UTC.
    :return: the metrics.
    """
    within = sorted((one for one in deployments if start <= one.at < end), key=lambda one: one.at)
    went = [one for one in within if one.live]
    times = [one.at for one in went]
    weeks = seconds(start, end) / timedelta(weeks=1).total_seconds()
    failed = [one for one in within if one.failed]
    return Dora(
        start,
        end,
        len(went),
        len(went) / weeks if weeks > 0 else None,
        spread(seconds(first, second) for first, second in pairwise(times)),
        spread(seconds(commit, one.at) for one in went for commit in one.commits or ()),
        sum(one.commits is None for one in went),
        spread(seconds(one.at, one.recovered) for one in failed if one.recovered),
        sum(not one.recovered for one in failed),
        Share(len(failed), len(within)),
        Share(sum(one.rework for one in within), len(within)),
        len(within) - len(went),
    )


def model_figures(
    retrains: Iterable[Retrain], start: str, end: str, *, challengers: Share, newest_data: str = ""
) -> ModelFigures:
    """Work out the figures of a model.

    :param retrains: in any order; those outside of the time are left out.
    :param start: of the time, in UTC.
    :param end: of the time, in UTC.
    :param challengers: that were rejected in the time, among those that were judged.
    :param newest_data: when the newest data that the live model was made from were recorded; empty if unknown.
    :return: the figures.
    """
    within = [one for one in retrains if start <= one.at < end]
    for_drift = [one for one in within if one.drifted]
    told = [one for one in within if one.helped is not None]
    return ModelFigures(
        start,
        end,
        seconds(newest_data, end) if newest_data else None,
        len(within),
        spread(seconds(one.drifted, one.released) for one in for_drift if one.released),
        sum(not one.released for one in for_drift),
        challengers,
        Share(sum(one.helped is True for one in told), len(told)),
    )


def spread(durations: Iterable[float]) -> Spread:
    """Return the middle and the upper end of durations; negative ones, of clocks that differ, count as nothing."""
    ordered = sorted(max(0.0, duration) for duration in durations)
    if not ordered:
        return Spread(0)
    return Spread(len(ordered), _middle(ordered), ordered[math.ceil(0.9 * len(ordered)) - 1])


def seconds(start: str, end: str) -> float:
    """Return the seconds between two ISO-8601 times."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
