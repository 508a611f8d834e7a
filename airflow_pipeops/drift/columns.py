"""The columns of a side: what its engine knows of them, which ones are compared, and as what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from airflow_pipeops.base.arguments import imported, not_empty
from airflow_pipeops.drift.engines.dialects import family
from airflow_pipeops.drift.settings import AskedKind
from airflow_pipeops.exceptions import InvalidInput

#: The segment that is the whole.
NO_SEGMENT = ""


class Unmeasured(InvalidInput):
    """A query about a column failed, which says nothing about the other columns."""


@dataclass(frozen=True)
class Column:
    """A column as its engine knows it.

    :param name: of the column.
    :param type: as the engine writes it.
    :param family: how it can be compared, see :mod:`airflow_pipeops.drift.engines.dialects`.
    """

    name: str
    type: str
    family: str

    @classmethod
    def of(cls, name: str, type_name: str, dialect: str) -> Column:
        """Make one from what an engine says."""
        return cls(name, type_name, family(type_name, dialect))


KINDS = ("numerical", "categorical")


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
