"""What is found about one column, with all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.drift.settings import Role

#: Where a column may have changed: how its values lie, how many are missing, and how many the reference never had.
Dimension: TypeAlias = Literal["distribution", "missing", "unseen"]


#: What is said of a column.
ColumnVerdict: TypeAlias = Literal[
    "drift", "no drift", "missing", "extra", "retyped", "all null", "unsupported", "undecided"
]


@dataclass(frozen=True)
class ColumnDrift(JsonForm):
    """What was found about one column.

    :param column: its name.
    :param verdict: ``drift``, ``no drift``, ``missing`` (in the current data), ``extra`` (not in the reference),
        ``retyped``, ``all null``, ``unsupported`` or ``undecided``.
    :param score: the statistic; ``None`` where there is none.
    :param threshold: what the score was held against.
    :param method: the statistic's name.
    :param detail: why, in plain words.
    :param nulls: share of nulls in the reference and in the current data.
    """

    column: str
    verdict: ColumnVerdict
    score: float | None = None
    threshold: float | None = None
    method: str = ""
    detail: str = ""
    nulls: tuple[float | None, float | None] = (None, None)

    @property
    def drifted(self) -> bool:
        """Whether it counts as drifted; a column that is gone or changed its type does."""
        return self.verdict == "drift" or self.broken

    @property
    def broken(self) -> bool:
        """Whether the schema is broken here."""
        return self.verdict in ("missing", "retyped", "all null")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**super().to_json(), "drifted": self.drifted}


@dataclass(frozen=True)
class ColumnResult(ColumnDrift):
    """What was found about one column, and what it rests on.

    :param segment: of which segment; empty for the whole.
    :param low: the score is certainly not below.
    :param high: the score is certainly not above.
    :param noise: the score that chance alone gives.
    :param excess: the score over that; it is what the threshold is for in the robust mode.
    :param p_value: adjusted for all columns and dimensions, of the dimension that decided.
    :param dimension: the one that decided: ``distribution``, ``missing`` or ``unseen``.
    :param rows: of the reference and of the current side.
    :param role: ``feature``, ``target`` or ``prediction``.
    :param weight: of the column in the share of drifted ones.
    :param refine: where the verdict is open for want of sharpness: the intervals of values to look up.
    :param dimensions: all of them, as plain JSON.
    """

    segment: str = ""
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    excess: float | None = None
    p_value: float | None = None
    dimension: Dimension | Literal[""] = ""
    rows: tuple[int, int] = (0, 0)
    role: Role = "feature"
    weight: float = 1.0
    refine: tuple[tuple[float, float], ...] = ()
    dimensions: tuple[dict[str, Any], ...] = ()

    @property
    def open(self) -> bool:
        """Whether it is undecided only because the aggregate is too coarse: looking up values would settle it."""
        return self.verdict == "undecided" and bool(self.refine)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without the intervals to look up."""
        return {name: plain(value) for name, value in super().to_json().items() if name != "refine"}


def plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
