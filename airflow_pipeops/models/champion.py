"""May the challenger become the champion? Pure: what was measured in, a decision out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from airflow_pipeops.base.arguments import finite
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.decision import Decision, Outcome, Policy, decide
from airflow_pipeops.models.paired.gain import Gain


def judge(
    challenger: float,
    gain: Gain | None,
    policy: Policy | None = None,
    *,
    floor: float | None = None,
    level: tuple[float, float] | None = None,
    doubt: str = "",
    guards: Sequence[Gain] = (),
    slices: Mapping[str, Gain] | None = None,
    challengers: int = 1,
    uses: int = 1,
    invalid: str = "",
    higher_is_better: bool = True,
) -> Decision:
    """Judge a challenger on held-out data.

    First match wins: worse than the floor, or not known to be no worse, reject; no champion, promote, unless a floor was
    held against rows that tell nothing; else what :func:`~airflow_pipeops.models.paired.decision.decide` says of the gain.

    :param challenger: the challenger's metric.
    :param gain: over the champion on the same rows, or ``None`` while there is none.
    :param policy: what the challenger must show; by default that it is better.
    :param floor: what a model must reach whatever the champion does (at most, where lower is better): the worse end of
        ``level`` is held against it.
    :param level: confidence interval of the challenger's own metric; ``None`` where nobody can tell, and then no floor is
        reached.
    :param doubt: why nobody can tell its level.
    :param guards: as for ``decide``, and so are the parameters after it.
    :param higher_is_better: ``False`` for an error or a loss.
    :return: whether to promote it, and why.
    :raises InvalidInput: for a number that is not finite, or an interval upside down.
    """
    policy = policy or Policy()
    for field, value in (("challenger", challenger), ("floor", floor)):
        finite(field, value)
    if level is not None and not (all(map(math.isfinite, level)) and level[0] <= level[1]):
        raise InvalidInput(f"the level {level} is none", field="level", value=str(level))
    if floor is not None and (short := _short_of(floor, challenger, level, doubt, higher_is_better)):
        outcome, why = short
        return Decision(outcome, False, f"The challenger's {challenger:.4f} {why}.", alpha=policy.alpha)
    if gain is None and floor is not None and invalid:
        why = f"No floor can be held against these rows: {invalid}."
        return Decision("invalid", False, why, alpha=policy.alpha)
    if gain is None:
        why = f"There is no champion yet; the challenger reaches {challenger:.4f}."
        return Decision("better", True, why, alpha=policy.alpha)
    return decide(
        gain, policy, guards=guards, slices=slices, challengers=challengers, uses=uses, invalid=invalid
    )


def _short_of(
    floor: float, value: float, level: tuple[float, float] | None, doubt: str, higher_is_better: bool
) -> tuple[Outcome, str] | None:
    """Say why a floor is not reached for certain; ``None`` if it is."""
    sign, side = (1.0, "below") if higher_is_better else (-1.0, "above")
    if sign * value < sign * floor:
        return "worse", f"is {side} the floor of {floor:.4f}"
    if level is None:
        why = f": {doubt}" if doubt else ""
        return "cannot tell", f"may be {side} the floor of {floor:.4f}, which cannot be told from chance{why}"
    if sign * level[0 if higher_is_better else 1] < sign * floor:
        return "cannot tell", f"({level[0]:.4f} to {level[1]:.4f}) may be {side} the floor of {floor:.4f}"
    return None
