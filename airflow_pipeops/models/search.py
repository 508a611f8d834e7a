"""Which parameters a search tries, and which of what it found is the best. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_pipeops.base.arguments import at_least, mapping, not_empty
from airflow_pipeops.base.documents import map_
from airflow_pipeops.exceptions import InvalidInput

#: More trials are no search, and each is a task.
MOST = 1000
_REMEDY = 'Give a list of values, or {"low": 0.01, "high": 10} with "log": true or "whole": true.'
_RANGE = {"low", "high", "log", "whole"}


def drawn(space: Mapping[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
    """Choose the parameters of each trial: all combinations where there are no more than wanted, else drawn by chance.

    :param space: parameter -> values; or ``{low, high}``, drawn evenly between both, by order of magnitude with ``log``, and
        whole numbers with ``whole``.
    :param count: of trials, at most.
    :param seed: of the chance; the same gives the same trials.
    :return: parameter -> value of each trial, no two of them alike.
    :raises InvalidInput: for a space that says nothing, or contradicts itself.
    """
    mapping("space", space, "Give parameter and values.")
    not_empty("space", space, "the space has no parameter", _REMEDY)
    at_least("trials", count, 1, f"{count} trials are none", "Give 1 or more.")
    if count > MOST:
        raise InvalidInput(
            f"{count:,} trials are more than {MOST:,}",
            field="trials",
            value=count,
            remedy="Narrow the space first.",
        )
    for name, values in space.items():
        _check(name, values)
    listed = {name: list(values) for name, values in space.items() if not isinstance(values, Mapping)}
    chance = random.Random(seed)
    given: Iterable[dict[str, Any]]
    if len(listed) == len(space) and math.prod(len(values) for values in listed.values()) <= count:
        given = (dict(zip(listed, chosen, strict=True)) for chosen in itertools.product(*listed.values()))
    else:  # of a small space the same may be drawn again
        given = ({name: _value(values, chance) for name, values in space.items()} for _ in range(20 * count))
    found: list[dict[str, Any]] = []
    for one in given:
        if one not in found:
            found.append(one)
        if len(found) == count:
            break
    return found


def best(trials: Sequence[Mapping[str, Any]], metric: str, *, higher_is_better: bool) -> Mapping[str, Any]:
    """Choose the best trial; of equal ones the first.

    :param trials: what trainings returned.
    :param metric: that decides.
    :param higher_is_better: of the metric.
    :return: the trial.
    :raises InvalidInput: if there is none, or one does not tell the metric.
    """
    not_empty("trials", trials, "no trial has ended", "Raise the budget, or see why the trainings failed.")
    for one in trials:
        if metric not in (told := map_(one.get("metrics"))):
            raise InvalidInput(
                f"a trial does not tell {metric!r}",
                field="metric",
                value=metric,
                remedy=f"It tells {', '.join(told) or 'none: give its training a scorer'}.",
            )
    sign = 1 if higher_is_better else -1
    return max(trials, key=lambda one: sign * float(one["metrics"][metric]))


def _check(name: str, values: Any) -> None:
    def bad(why: str) -> InvalidInput:
        return InvalidInput(f"space: {name!r} {why}", field="space", value=str(values)[:200], remedy=_REMEDY)

    if not isinstance(values, Mapping):
        if not isinstance(values, (list, tuple)) or not values:
            raise bad("has no values")
        return
    numbers = [values.get("low"), values.get("high")]
    if set(values) - _RANGE or not all(
        isinstance(one, (int, float)) and math.isfinite(one) for one in numbers
    ):
        raise bad("is no range of numbers")
    if not values["low"] < values["high"]:
        raise bad(f"begins at {values['low']} and ends at {values['high']}")
    if values.get("whole") and not all(one == round(one) for one in (values["low"], values["high"])):
        raise bad(f"is of whole numbers, and begins at {values['low']} and ends at {values['high']}")
    if values.get("log") and values["low"] <= 0:
        raise bad("cannot be drawn by order of magnitude from zero or below")


def _value(values: Any, chance: random.Random) -> Any:
    if not isinstance(values, Mapping):
        return chance.choice(list(values))
    low, high = values["low"], values["high"]
    if values.get("log"):
        found = math.exp(chance.uniform(math.log(low), math.log(high)))
    elif values.get("whole"):
        return chance.randint(int(low), int(high))
    else:
        found = chance.uniform(low, high)
    found = min(max(found, low), high)
    return round(found) if values.get("whole") else found
