"""A partition that this process reads and scores, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.rows import Columns, Partition, opened
from airflow_pipeops.serving.batch.scan import Looked, Scorer, Writer, Written, look

if TYPE_CHECKING:
    from airflow_pipeops.drift.columns import Column
    from airflow_pipeops.drift.sources import Source
    from airflow_pipeops.models.artifact import Loaded

#: Seconds between two lines of progress.
TOLD_EVERY = 10.0
#: Says a line in the task's log.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What one model is to do in a scan.

    :param model: which it is.
    :param loaded: the model itself; ``None`` on the way to a task of Spark, which loads its own.
    :param columns: that are read; the key and what is kept are written.
    :param kinds: column -> type.
    :param folder: path where the file is to be.
    :param attempt: names the file.
    :param fallback: score of a row that the model refuses.
    :param edges: of the histograms, by output.
    :param trusted: further types that its artifact may hold.
    :param shadow: whether it is a challenger's, whose failure fails nothing.
    """

    model: Pinned
    loaded: Loaded | None
    columns: Columns
    kinds: Mapping[str, str]
    folder: Any
    attempt: str
    fallback: float | None = None
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    trusted: tuple[str, ...] = ()
    shadow: bool = False


class View(Protocol):
    """An opened partition, whatever reads it."""

    engine: str
    known: tuple[Column, ...]

    def identity(self) -> dict[str, Any]:
        """Return what it is read from, without secrets."""
        ...

    def twice(self, key: Sequence[str]) -> int:
        """Count the values of a key that more than one row has."""
        ...

    def look(
        self, kinds: Mapping[str, str], key: Sequence[str], rests_on: Mapping[str, Sequence[str]]
    ) -> Looked:
        """Read all rows once, and say what they are."""
        ...

    def scan(
        self,
        kinds: Mapping[str, str],
        key: Sequence[str],
        rests_on: Mapping[str, Sequence[str]],
        jobs: Sequence[Job],
    ) -> tuple[Looked, list[Written]]:
        """Read all rows once, and score them with each model."""
        ...


#: Opens a partition; for Spark, another one than that of this process.
Opener = Callable[["Source", Say], AbstractContextManager[View]]


class WorkerView:
    """A partition that this process reads.

    :param partition: the partition, opened.
    :param say: says a line in the task's log.
    """

    def __init__(self, partition: Partition, say: Say) -> None:
        self._partition, self._say = partition, say
        self.engine, self.known = partition.engine, partition.known

    def identity(self) -> dict[str, Any]:
        """Return what it is read from, without secrets."""
        return self._partition.identity()

    def twice(self, key: Sequence[str]) -> int:
        """Count the values of a key that more than one row has."""
        return self._partition.twice(key)

    def look(
        self, kinds: Mapping[str, str], key: Sequence[str], rests_on: Mapping[str, Sequence[str]]
    ) -> Looked:
        """Read all rows once, and say what they are."""
        found, told = Looked(), Told(self._say, "looked at")
        for batch in self._partition.batches(kinds):
            found = found.plus(look(batch, key, rests_on))
            told(found.rows)
        return found

    def scan(
        self,
        kinds: Mapping[str, str],
        key: Sequence[str],
        rests_on: Mapping[str, Sequence[str]],
        jobs: Sequence[Job],
    ) -> tuple[Looked, list[Written]]:
        """Read all rows once, and score them with each model."""
        told = Told(self._say, "scored")
        return scanned(self._partition.batches(kinds), key, rests_on, jobs, told)


class Told:
    """Tells from time to time how far a scan is."""

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what, self._began = say, what, time.monotonic()
        self._last = self._began

    def __call__(self, rows: int) -> None:
        now = time.monotonic()
        if now - self._last >= TOLD_EVERY:
            self._last = now
            self._say(f"{self._what} {rows:,} rows, {rows / (now - self._began):,.0f} each second")


def scanned(
    batches: Iterator[Any],
    key: Sequence[str],
    rests_on: Mapping[str, Sequence[str]],
    jobs: Sequence[Job],
    told: Callable[[int], None] = lambda rows: None,
) -> tuple[Looked, list[Written]]:
    """Score batches with each model; where that fails, nothing is left of the files.

    :param batches: of rows.
    :param key: the columns that name a row.
    :param rests_on: model's digest -> the columns that its scores rest on.
    :param jobs: one for each model.
    :param told: is called with the rows that are done.
    :return: what the rows are, and what was written for each model.
    """
    found = Looked()
    writers = [
        Writer(Scorer(job.loaded, job.fallback), job.columns, job.kinds, job.folder, job.attempt, job.edges)
        for job in jobs
        if job.loaded is not None
    ]
    failed: dict[int, str] = {}
    try:
        for batch in batches:
            found = found.plus(look(batch, key, rests_on))
            for number, (writer, job) in enumerate(zip(writers, jobs, strict=True)):
                if number in failed:
                    continue
                try:
                    writer.add(batch)
                except PipeOpsError as error:
                    if not job.shadow:
                        raise
                    failed[number] = str(error)
                    writer.drop()
            told(found.rows)
        written = [
            Written(failed=failed[number]) if number in failed else writer.end()
            for number, writer in enumerate(writers)
        ]
    except BaseException:
        for writer in writers:
            writer.drop()
        raise
    return found, written


@contextmanager
def viewed(source: Source, say: Say) -> Iterator[View]:
    """Open a partition in this process.

    :param source: where it comes from.
    :param say: says a line in the task's log.
    :return: the partition, while the context lasts.
    """
    with opened(source) as partition:
        yield WorkerView(partition, say)
