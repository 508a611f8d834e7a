"""By how much a challenger is better than the champion, and how sure that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.models.paired import sequential

#: With fewer units, or fewer rows of the rarest class, nobody can tell anything (Cameron and Miller 2015, section VI).
MIN_UNITS = 10


@dataclass(frozen=True)
class Gain(JsonForm):
    """The difference of two models' metrics on the same rows.

    :param metric: its name.
    :param challenger: the challenger's value.
    :param champion: the champion's value.
    :param value: challenger minus champion, turned so that positive is better.
    :param error: standard error of the value; ``None`` where nobody can tell.
    :param degrees: of freedom of that error.
    :param rows: rows that both were measured on.
    :param units: how many of them, or of their groups, count as independent.
    :param unit: the column that groups them; empty where each row stands for itself.
    :param error_by_rows: what the error would be if all rows were independent.
    :param trimmed: the value without the rows that differ most, for metrics that a few rows can carry; else ``None``.
    :param doubt: why nobody can tell, in plain words.
    :param planned: where it is looked at again as units are added, after about how many of them a decision is wanted; its
        bounds then hold at all looks together. ``None`` where it is looked at once.
    """

    metric: str
    challenger: float
    champion: float
    value: float
    error: float | None
    degrees: int
    rows: int
    units: int
    unit: str = ""
    error_by_rows: float | None = None
    trimmed: float | None = None
    doubt: str = ""
    planned: int | None = None

    @property
    def design_effect(self) -> float | None:
        """How many rows that move together count as one: the ratio of the variances by unit and by row (Kish 1965)."""
        if not self.error or not self.error_by_rows:
            return None
        return (self.error / self.error_by_rows) ** 2

    def quantile(self, alpha: float) -> float:
        """Return by how many errors it may be off.

        :param alpha: chance that it is off by more, on one side.
        :return: the number of errors.
        """
        from scipy.special import stdtrit

        if self.planned is None:
            return -float(stdtrit(self.degrees, alpha))
        return sequential.quantile(alpha, self.units, self.degrees, self.planned)

    def chance(self, truth: float) -> float | None:
        """Return the chance of a gain as low as this.

        :param truth: what the gain is then in truth.
        :return: ``None`` where nobody can tell.
        """
        from scipy.special import stdtr

        if not self.error:
            return None
        errors = (truth - self.value) / self.error
        if self.planned is None:
            return float(stdtr(self.degrees, -errors))
        return sequential.chance(errors, self.units, self.degrees, self.planned)

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Return where the gain lies.

        :param alpha: the chance that it lies below the lower end, and again that it lies above the upper one.
        :return: both ends; ``None`` where nobody can tell.
        """
        if self.error is None:
            return None
        half = self.error * self.quantile(alpha)
        return self.value - half, self.value + half
