"""Whether a consumer makes progress: by time, not by the number of records that wait. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """One look at a member.

    :param now: seconds of any clock that does not jump.
    :param lag: records that wait; ``None`` where nobody could tell.
    :param behind: seconds between the present and the timestamp of the last record that was scored, while some wait;
        NaN where nobody could tell, since none was scored yet.
    :param scored: records since the member began.
    """

    now: float
    lag: int | None
    behind: float
    scored: int


@dataclass(frozen=True)
class Health:
    """A judgement.

    :param state: ``healthy``, ``behind``, or ``unknown``.
    :param reason: one sentence.
    :param behind: seconds that the scores are late; 0 where nothing waits, and NaN where it is unknown.
    :param catch_up: seconds until nothing waits, at the present rates; infinite where it grows.
    """

    state: Literal["healthy", "behind", "unknown"]
    reason: str
    behind: float
    catch_up: float


def judge(samples: Sequence[Sample], *, most_behind: float, most_catch_up: float) -> Health:
    """Judge the progress of a member.

    :param samples: the looks of the last minutes, the oldest first.
    :param most_behind: seconds that scores may be late.
    :param most_catch_up: seconds in which a longer delay must be worked off.
    :return: the judgement.
    """
    if not samples or samples[-1].lag is None:
        return Health("unknown", "nobody could tell yet how many records wait", math.nan, math.nan)
    last = samples[-1]
    assert last.lag is not None
    if last.lag <= 0:
        return Health("healthy", "no record waits", 0.0, 0.0)
    catch_up = _catch_up(samples)
    if math.isnan(last.behind):
        return Health("unknown", "records wait, and none was scored yet", math.nan, catch_up)
    if last.behind <= most_behind:
        return Health("healthy", f"scores are {last.behind:.0f} s late", last.behind, catch_up)
    if catch_up <= most_catch_up:
        reason = f"scores are {last.behind:.0f} s late, and no record will wait in {catch_up:.0f} s"
        return Health("healthy", reason, last.behind, catch_up)
    told = "and ever more records wait" if math.isinf(catch_up) else f"and will be for {catch_up:.0f} s"
    return Health("behind", f"scores are {last.behind:.0f} s late, {told}", last.behind, catch_up)


def _catch_up(samples: Sequence[Sample]) -> float:
    first, last = next((one for one in samples if one.lag is not None), samples[-1]), samples[-1]
    assert first.lag is not None
    assert last.lag is not None
    seconds = last.now - first.now
    falling = (first.lag - last.lag) / seconds if seconds > 0 else 0.0
    return last.lag / falling if falling > 0 else math.inf
