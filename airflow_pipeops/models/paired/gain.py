"""By how much a challenger is better than the champion, and how sure that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm


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

    @property
    def design_effect(self) -> float | None:
        """How many rows that move together count as one: the ratio of the variances by unit and by row (Kish 1965)."""
        if not self.error or not self.error_by_rows:
            return None
        return (self.error / self.error_by_rows) ** 2

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Return where the gain lies.

        :param alpha: the chance that it lies below the lower end, and again that it lies above the upper one.
        :return: both ends; ``None`` where nobody can tell.
        """
        from scipy.stats import t

        if self.error is None:
            return None
        half = self.error * float(t.ppf(1 - alpha, self.degrees))
        return self.value - half, self.value + half
