"""Is the challenger better than the champion? Pure: plain numbers in, a verdict out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_pipeops.base.arguments import finite
from airflow_pipeops.exceptions import InvalidInput


@dataclass(frozen=True)
class Verdict:
    """What was decided about a challenger.

    :param promote: whether it may replace the champion.
    :param reason: one sentence.
    :param gain: challenger minus champion, positive where the challenger is better; ``None`` without a champion.
    :param interval: where the gain lies with the stated confidence, if that was computed.
    """

    promote: bool
    reason: str
    gain: float | None = None
    interval: tuple[float, float] | None = None


def judge(
    challenger: float,
    champion: float | None,
    *,
    minimum_gain: float = 0.0,
    floor: float | None = None,
    interval: tuple[float, float] | None = None,
    level: tuple[float, float] | None = None,
    doubt: str = "",
    higher_is_better: bool = True,
) -> Verdict:
    """Judge a challenger by a metric that both models have on the same held-out data.

    First match wins: worse than the floor, or not known to be no worse, reject; no champion, promote; a gain that is not
    above zero or is below ``minimum_gain``, reject; a gain that cannot be told from chance (there is no interval) or may be
    chance (the interval reaches zero), reject; else promote.

    :param challenger: the challenger's metric.
    :param champion: the champion's, or ``None`` while there is none.
    :param minimum_gain: smallest gain worth a release; zero or more.
    :param floor: what a model must reach whatever the champion does (at most, where lower is better): the worse end of
        ``level`` is held against it.
    :param interval: confidence interval of the gain (challenger minus champion, turned so that positive is better);
        ``None`` where nobody can tell, and then nothing is promoted over a champion.
    :param level: confidence interval of the challenger's own metric; ``None`` where nobody can tell, and then no floor is
        reached.
    :param doubt: why nobody can tell.
    :param higher_is_better: ``False`` for an error or a loss.
    :return: whether to promote it, and why.
    :raises InvalidInput: for a number that is not finite, a negative ``minimum_gain``, or an interval upside down.
    """
    _check(challenger, champion, minimum_gain, floor, interval, level)
    sign = 1.0 if higher_is_better else -1.0
    if floor is not None and (short := _short_of(floor, challenger, level, doubt, higher_is_better)):
        return Verdict(False, f"The challenger's {challenger:.4f} {short}.")
    if champion is None:
        return Verdict(True, f"There is no champion yet; the challenger reaches {challenger:.4f}.")
    gain = sign * (challenger - champion)
    told = f"The challenger's {challenger:.4f} against the champion's {champion:.4f} is a gain of {gain:+.4f}"
    if gain <= 0:
        return Verdict(False, f"{told}: not better.", gain, interval)
    if gain < minimum_gain:
        return Verdict(
            False, f"{told}, less than the {minimum_gain:.4f} that a release is worth.", gain, interval
        )
    if interval is None:
        why = f": {doubt}" if doubt else ""
        return Verdict(False, f"{told}, which cannot be told from chance{why}.", gain)
    told = f"{told} ({interval[0]:+.4f} to {interval[1]:+.4f})"
    if interval[0] <= 0:
        return Verdict(False, f"{told}, which may be chance.", gain, interval)
    return Verdict(True, f"{told}.", gain, interval)


def _short_of(
    floor: float, value: float, level: tuple[float, float] | None, doubt: str, higher_is_better: bool
) -> str:
    """Say why a floor is not reached for certain; empty if it is."""
    sign, side = (1.0, "below") if higher_is_better else (-1.0, "above")
    if sign * value < sign * floor:
        return f"is {side} the floor of {floor:.4f}"
    if level is None:
        why = f": {doubt}" if doubt else ""
        return f"may be {side} the floor of {floor:.4f}, which cannot be told from chance{why}"
    if sign * level[0 if higher_is_better else 1] < sign * floor:
        return f"({level[0]:.4f} to {level[1]:.4f}) may be {side} the floor of {floor:.4f}"
    return ""


def _check(
    challenger: float,
    champion: float | None,
    minimum_gain: float,
    floor: float | None,
    interval: tuple[float, float] | None,
    level: tuple[float, float] | None,
) -> None:
    numbers = {"challenger": challenger, "champion": champion, "minimum_gain": minimum_gain, "floor": floor}
    for field, value in numbers.items():
        finite(field, value)
    if minimum_gain < 0:
        raise InvalidInput(
            f"minimum_gain is {minimum_gain}",
            field="minimum_gain",
            value=minimum_gain,
            remedy="Use zero or more: a worse model is never promoted.",
        )
    for field, found in (("interval", interval), ("level", level)):
        if found is not None and not (
            math.isfinite(found[0]) and math.isfinite(found[1]) and found[0] <= found[1]
        ):
            raise InvalidInput(f"the {field} {found} is none", field=field, value=str(found))
