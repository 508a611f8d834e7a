"""Which columns are compared, and as what. What cannot be compared becomes a finding: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from airflow_pipeops.base.arguments import imported, not_empty
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.drift.settings import AskedKind
from airflow_pipeops.exceptions import InvalidInput

#: What is said of a column.
ColumnVerdict: TypeAlias = Literal[
    "drift", "no drift", "missing", "extra", "retyped", "all null", "unsupported", "undecided"
]

KINDS = ("numerical", "categorical")


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


def wanted(given: str | Iterable[str] | Mapping[str, str] | None) -> dict[str, AskedKind] | None:
    """Read which columns to compare.

    :param given: names; or name -> ``numerical`` | ``categorical``; or ``"module:name"`` of either; ``None`` for all.
    :return: name -> kind, empty where it shall be inferred; ``None`` for all columns.
    """
    found = imported(given, "columns") if isinstance(given, str) else given
    if found is None:
        return None
    asked = dict(found) if isinstance(found, Mapping) else {name: "" for name in found}
    for name, kind in asked.items():
        if not isinstance(name, str) or kind not in ("", *KINDS):
            raise InvalidInput(
                f"columns: {name!r} as {kind!r} is not understood",
                field="columns",
                value=name,
                remedy=f"Give names, or a mapping of names to {' or '.join(KINDS)}.",
            )
    not_empty("columns", asked, "columns names no column")
    return cast("dict[str, AskedKind]", asked)
