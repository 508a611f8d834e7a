"""By how much a candidate is better than its baseline by one metric, and how sure that is. Pure.

The unit is the item, or the cluster of items that share a document, a conversation or a person; repeated samples of one item
are averaged, and are no further items. Three methods, by what there is:

- many units that differ: the mean of the items' differences with its clustered error, and Student's t;
- few of them: the interval of :mod:`airflow_pipeops.models.performance.intervals`, which few units cannot make collapse;
- for yes and no, and for marks that have an order only, where few units differ: the exact sign test on the votes of the
  units (McNemar, Psychometrika 12, 1947). Where anybody may look again, it is an e-process instead: a mixture of likelihood
  ratios over all chances of a win above one half, which is ever above ``1 / alpha`` with chance ``alpha`` (Ville 1939).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.models.paired import sequential
from airflow_pipeops.models.paired.gain import MIN_UNITS, Gain
from airflow_pipeops.models.performance.intervals import Part, bounded

#: With fewer units that differ, the law of their mean is not yet Student's.
FEW = 25
#: So many degrees of freedom are those of an error that is known.
_KNOWN = 10**9


@dataclass(frozen=True)
class Noise(JsonForm):
    """What the differences of the items vary by (Miller, arXiv 2411.00640).

    :param between: variance of the items' true differences; of single runs it is all there is.
    :param within: of one run of an item, of both arms together; ``None`` where no item was run twice.
    :param runs: of each item and arm; of arms that differ, their harmonic mean.
    """

    between: float
    within: float | None
    runs: float

    @property
    def total(self) -> float:
        """Variance of the difference of an item, as it was measured."""
        return self.between + (self.within or 0.0) / self.runs


@dataclass(frozen=True)
class Effect(JsonForm):
    """A gain, and what it rests on.

    :param gain: the difference; ``challenger`` is the candidate's value and ``champion`` the baseline's.
    :param differing: units on which the two differ.
    :param wins: units whose vote is for the candidate.
    :param losses: units whose vote is for the baseline.
    :param votes: whether scores are yes and no, or marks that have an order only.
    :param span: the greatest difference that an item can have, either way; ``None`` where there is none.
    :param effective: how many units of one size tell as much (Kish 1965).
    :param noise: what it varies by.
    """

    gain: Gain
    differing: int = 0
    wins: int = 0
    losses: int = 0
    votes: bool = False
    span: float | None = None
    effective: int = 0
    noise: Noise | None = None

    @property
    def few(self) -> bool:
        """Whether too few units differ for Student's t."""
        return self.differing < FEW and self.span is not None

    @property
    def doubt(self) -> str:
        """Why nobody can tell, whatever the number; empty where one can."""
        if self.gain.doubt:
            return self.gain.doubt
        what = f"values of {self.gain.unit!r}" if self.gain.unit else "items"
        if self.span is None and self.differing < MIN_UNITS:
            return f"the two differ on {self.differing} of {self.gain.units:,} {what}, at least {MIN_UNITS} are needed"
        if self.gain.units < MIN_UNITS and not self.votes:
            return f"there are {self.gain.units} {what}, at least {MIN_UNITS} are needed"
        return ""

    def method(self) -> str:
        """Name what the interval and the verdict rest on."""
        how = "e-process" if self.gain.planned else "exact sign test"
        if self.few:
            return f"{how} on {self.wins + self.losses} votes" if self.votes else "bounded mean"
        return (
            "confidence sequence" if self.gain.planned else f"t with {self.gain.degrees} degrees of freedom"
        )

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Return where the gain lies.

        :param alpha: the chance that it lies below the lower end, and again that it lies above the upper one.
        :return: both ends; ``None`` where nobody can tell.
        """
        if self.doubt:
            return None
        if not self.few:
            return self.gain.bounds(alpha)
        assert self.span is not None
        if self.gain.planned:
            from scipy.special import ndtr

            far = sequential.quantile(alpha, self.gain.units, _KNOWN, self.gain.planned)
            alpha = float(ndtr(-far))
        value, size = self.gain.value, max(1, self.effective)
        step = Part(
            size, (value + self.span) / (size + 1), (self.span - value) / (size + 1), self._variance()
        )
        return bounded(value, [step], 1 - 2 * alpha, least=-self.span, most=self.span)

    def above(self, least: float, alpha: float) -> bool:
        """Whether the gain is above this beyond doubt."""
        around = self.bounds(alpha)
        if around is None:
            return False
        if self.few and self.votes and not least:
            return self._likely(self.wins, self.losses, alpha)
        return around[0] > least

    def below(self, most: float, alpha: float) -> bool:
        """Whether the gain is below this beyond doubt."""
        around = self.bounds(alpha)
        if around is None:
            return False
        if self.few and self.votes and not most:
            return self._likely(self.losses, self.wins, alpha)
        return around[1] < most

    def _variance(self) -> float:
        return (self.gain.error or 0.0) ** 2

    def _likely(self, ours: int, theirs: int, alpha: float) -> bool:
        """Whether votes are so one-sided that equal arms give them with a chance of at most alpha."""
        from scipy.special import betainc, betaln

        both = ours + theirs
        if self.gain.planned is None:
            return both > 0 and float(betainc(ours, theirs + 1, 0.5) if ours else 1.0) <= alpha
        upper = 1.0 - float(betainc(ours + 1, theirs + 1, 0.5))
        if upper <= 0:
            return False
        log = (both + 1) * math.log(2) + float(betaln(ours + 1, theirs + 1)) + math.log(upper)
        return log >= -math.log(alpha)
