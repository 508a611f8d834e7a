"""A gain that is looked at again and again as days are added, with an error that holds at all looks together. Pure.

Who looks at an interval of 95 % each day, and stops when it is above zero, sooner or later promotes one of two equal models
in five. The interval here holds at all times together: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas (Annals of Statistics 52, 2024), sharpest after as many units as were planned, and valid after any other
number. Its normal quantile becomes one of Student's t, since the error is not known but estimated from the same few units.
"""

from __future__ import annotations

import math

#: The interval is made sharpest for this chance on both sides together; for others it holds too, and is little wider.
_TUNED = 0.05


def quantile(alpha: float, units: int, degrees: float, planned: int) -> float:
    """Return by how many errors a gain must be off for the first time at any look, where looking goes on for ever.

    :param alpha: chance that it is, on one side.
    :param units: that there are by now.
    :param degrees: of freedom of the error.
    :param planned: after so many units the interval is sharpest.
    :return: the number of errors.
    """
    from scipy.special import ndtr, stdtrit

    seen = units * _scale(planned)
    far = math.sqrt(2 * (seen + 1) / seen * math.log(math.sqrt(seen + 1) / (2 * alpha)))
    return -float(stdtrit(degrees, ndtr(-far)))


def chance(errors: float, units: int, degrees: float, planned: int) -> float:
    """Return the chance that a gain is ever off by so many errors: the other way round of :func:`quantile`.

    :param errors: by how many errors it is off.
    :return: at most 0.5; the parameters are those of :func:`quantile`.
    """
    from scipy.special import ndtri, stdtr

    if errors <= 0:
        return 0.5
    seen = units * _scale(planned)
    far = -float(ndtri(stdtr(degrees, -errors)))
    return min(0.5, math.sqrt(seen + 1) * math.exp(-(far**2) * seen / (2 * (seen + 1))) / 2)


def _scale(planned: int) -> float:
    return (-2 * math.log(_TUNED) + math.log(-2 * math.log(_TUNED) + 1)) / planned
