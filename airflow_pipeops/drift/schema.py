"""What the columns of a side are, as its engine knows them, and how the whole is told from its segments."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_pipeops.drift.engines.dialects import family

#: The segment that is the whole.
NO_SEGMENT = ""


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
