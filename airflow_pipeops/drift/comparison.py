"""A comparison: how the data are read for it, how far it is, and what it found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_pipeops.drift.engines.duck import MEMORY_LIMIT
from airflow_pipeops.drift.engines.gatherer import CATEGORIES
from airflow_pipeops.drift.engines.sessions import Cancellation
from airflow_pipeops.drift.engines.sql import RESOLUTION
from airflow_pipeops.drift.judging.verdicts import DatasetVerdict
from airflow_pipeops.drift.results import ColumnResult
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

#: Columns that are done, columns in all (of both sides), and the name of the last one.
Progress: TypeAlias = "Callable[[int, int, str], None]"

#: Seconds between two lines of progress in the log.
_LOG_EVERY = 10.0


@dataclass(frozen=True)
class Engine:
    """How the data are read.

    :param memory_limit: of the embedded DuckDB, see :class:`~airflow_pipeops.drift.engines.duck.Database`.
    :param threads: of the embedded DuckDB.
    :param spark: a Spark session that files, and tables without a connection, are read with instead.
    :param timeout: seconds for one query in a warehouse.
    :param resolution: fine bins of a numeric column.
    :param categories: as many of the most frequent ones are told apart; the rest is put together as "other".
    :param refine: settle a verdict that the aggregates leave open by counting single values where it is open. In a
        warehouse it is the one query that returns values of numbers, so it can be forbidden.
    """

    memory_limit: str = MEMORY_LIMIT
    threads: int | None = None
    spark: Any = None
    timeout: float = 3600.0
    resolution: int = RESOLUTION
    categories: int = CATEGORIES
    refine: bool = True

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("resolution", self.resolution, 64, 16384),
            ("categories", self.categories, 2, 100_000),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidInput(
                    f"{name} {value!r} is not between {low} and {high:,}", field=name, value=value
                )


class Steps:
    """Counts columns, tells of them, and stops where somebody asked for it."""

    def __init__(self, progress: Progress | None, cancellation: Cancellation) -> None:
        self.total = 0
        self._done, self._progress, self._cancellation = 0, progress, cancellation
        self._logged = time.monotonic()

    def __call__(self, name: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self.total, name)
        if time.monotonic() - self._logged >= _LOG_EVERY:
            self._logged = time.monotonic()
            log.info("measured %d of %d columns, the last one %s", self._done, self.total, name)
        self._cancellation.check()


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of both sides, drawn where they were compared: what a page plots.

    :param reference: of the reference.
    :param current: of the other side, with the same columns.
    """

    reference: pd.DataFrame
    current: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """How far one side is from the other, and all that is needed to repeat the verdict.

    :param columns: one result for each column (and segment), in the order of the columns.
    :param dataset: the verdict of the whole, without its segments.
    :param reference: what the reference was: kind, name, digests, engine; see ``identity()`` of a source.
    :param current: the same of the other side.
    :param rows: by side and segment; the empty segment is the whole.
    :param settings: how it was judged and read, as plain JSON.
    :param segments: the verdict of each segment.
    :param refined: columns whose open verdict was settled by looking up values.
    :param seconds: that it took.
    :param sample: rows of both sides, where they were asked for and both have some; it is in no JSON.
    """

    columns: tuple[ColumnResult, ...]
    dataset: DatasetVerdict
    reference: Mapping[str, Any]
    current: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, int]]
    settings: Mapping[str, Any]
    segments: Mapping[str, DatasetVerdict] = field(default_factory=dict)
    refined: tuple[str, ...] = ()
    seconds: float = 0.0
    sample: Sample | None = field(default=None, repr=False, compare=False)

    @property
    def drifted(self) -> bool:
        """Whether the data set drifted for certain."""
        return self.dataset.drifted

    @property
    def share(self) -> float:
        """Weight of the drifted features among those that were judged."""
        return self.dataset.share

    @property
    def whole(self) -> tuple[ColumnResult, ...]:
        """The results that are of no segment."""
        return tuple(item for item in self.columns if not item.segment)

    @property
    def telling(self) -> tuple[ColumnResult, ...]:
        """The results that are of no segment, the drifted ones first."""
        return tuple(sorted(self.whole, key=lambda item: not item.drifted))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.dataset.to_json(),
            "columns": [item.to_json() for item in self.columns],
            "reference": dict(self.reference),
            "current": dict(self.current),
            "rows": {side: dict(rows) for side, rows in self.rows.items()},
            "settings": dict(self.settings),
            "segments": {name: verdict.to_json() for name, verdict in self.segments.items()},
            "refined": list(self.refined),
            "seconds": round(self.seconds, 3),
        }
