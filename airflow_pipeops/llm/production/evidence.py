"""Evidence against a new prompt that may be looked at again and again: e-processes of yes and no. Pure.

An e-process is the money of somebody who bets that the prompt is worse, at odds that would be fair if it were not: it grows
beyond ``1/alpha`` with a chance of at most ``alpha``, whenever it is looked at (Ville 1939; Ramdas, Grünwald, Vovk and
Shafer, Statistical Science 38, 2023). Here it bets on several worse rates at once, with equal parts of its money.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm

#: Odds ratios, over the one that is allowed, that are bet on: from a quarter worse to sixteen times as bad.
_STRONGER = (1.25, 1.6, 2.0, 3.0, 4.5, 8.0, 16.0)


@dataclass(frozen=True)
class Block(JsonForm):
    """Conversations that are held against each other: one with the new prompt, and some with the one before.

    :param new: whether that of the new prompt was bad.
    :param bad: how many of all were, the new one included.
    :param size: how many there are, the new one included.
    """

    new: bool
    bad: int
    size: int

    def chance(self, odds: float) -> float:
        """Return the chance that one of the bad is the new prompt's.

        Which of a block was bad is, given how many were, what the odds ratio of both prompts alone decides: the rest, such
        as the hour of the day, falls out (the conditional logistic model; Breslow and Day 1980, chapter 7).

        :param odds: of being bad, by which the new prompt exceeds the one before; 1 where both are alike.
        :return: the chance.
        """
        others = self.size - 1
        here, there = odds * self.bad, others - self.bad + 1
        return here / (here + there)


def against(blocks: Iterable[Block], margin: float = 1.0) -> float:
    """Return the evidence that the new prompt has more than ``margin`` times the odds of the one before to be bad.

    :param blocks: in an order that nobody chose by their outcome.
    :param margin: the odds ratio that is allowed.
    :return: the logarithm of the e-process at its end.
    """
    steps = [block for block in blocks if 0 < block.bad < block.size]
    return _mixed(_bet(steps, margin, margin * stronger) for stronger in _STRONGER)


def above(bad: int, total: int, limit: float) -> float:
    """Return the evidence that a rate is above a limit, from how many of a count were bad.

    :param bad: that were.
    :param total: all of them, each independent of the others.
    :param limit: the rate that is allowed.
    :return: the logarithm of the e-process.
    """
    allowed = limit / (1 - limit)

    def bet(odds: float) -> float:
        rate = odds / (1 + odds)
        return bad * math.log(rate / limit) + (total - bad) * math.log((1 - rate) / (1 - limit))

    return _mixed(bet(allowed * stronger) for stronger in _STRONGER)


def odds(blocks: Sequence[Block]) -> float | None:
    """Estimate the odds ratio.

    :param blocks: as for :func:`against`.
    :return: the likeliest; ``None`` where no block tells, and infinite or 0 where all say the same.
    """
    steps = [block for block in blocks if 0 < block.bad < block.size]
    seen = sum(block.new for block in steps)
    if not steps:
        return None
    if seen in (0, len(steps)):
        return 0.0 if not seen else math.inf
    low, high = 1e-6, 1e6
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sum(each.chance(middle) for each in steps) < seen else (low, middle)
    return math.sqrt(low * high)


def at_least(blocks: Sequence[Block], alpha: float) -> float:
    """Return the odds ratio that the new prompt has at least, with an error that holds at all looks together.

    :param blocks: as for :func:`against`.
    :param alpha: chance that it has less.
    :return: the greatest margin that the evidence is against; 0 where there is none.
    """
    bar = math.log(1 / alpha)
    low, high = 1e-3, 1e3
    if against(blocks, low) < bar:
        return 0.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if against(blocks, middle) >= bar else (low, middle)
    return low


def _bet(steps: Sequence[Block], margin: float, worse: float) -> float:
    won = 0.0
    for block in steps:
        fair, bold = block.chance(margin), block.chance(worse)
        won += math.log(bold / fair) if block.new else math.log((1 - bold) / (1 - fair))
    return won


def _mixed(bets: Iterable[float]) -> float:
    logs = list(bets)
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))
