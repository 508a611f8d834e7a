"""A partition that Spark reads: its tasks look at the rows and score them by the same functions as the worker does.

Each task writes a file of its own and answers with figures; of a task that Spark has run twice, one answer counts, and the
file of the other is swept. The tasks need this package, and reach the artifact and the place of the scores by their URIs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import MissingExtra
from airflow_pipeops.serving.batch.rows import conformed
from airflow_pipeops.serving.batch.scan import Looked, Written, look
from airflow_pipeops.serving.batch.worker import Job, Opener, Say, View, scanned

if TYPE_CHECKING:
    from airflow_pipeops.drift.sources import Source


class SparkView:
    """A partition that Spark reads.

    :param side: the partition, as the drift engine opens it.
    :param session: of Spark.
    """

    def __init__(self, side: Any, session: Any) -> None:
        self._side, self._session = side, session
        self.engine, self.known = side.engine, side.schema()

    def identity(self) -> dict[str, Any]:
        """Return what it is read from, without secrets."""
        return dict(self._side.identity())

    def twice(self, key: Sequence[str]) -> int:
        """Count the values of a key that more than one row has."""
        named = _listed(key)
        query = f"SELECT {named} FROM {self._side.relation} GROUP BY {named} HAVING COUNT(*) > 1"
        return int(self._side.rows(f"SELECT COUNT(*) FROM ({query}) AS pipeops_twice")[0][0])

    def look(
        self, kinds: Mapping[str, str], key: Sequence[str], rests_on: Mapping[str, Sequence[str]]
    ) -> Looked:
        """Read all rows once, and say what they are."""

        def task(batches: Iterator[Any]) -> Any:
            found = Looked()
            for batch in batches:
                found = found.plus(look(conformed(batch, kinds), key, rests_on))
            return found.to_json()

        found = Looked()
        for said in self._answers(kinds, task):
            found = found.plus(Looked.from_json(said))
        return found

    def scan(
        self,
        kinds: Mapping[str, str],
        key: Sequence[str],
        rests_on: Mapping[str, Sequence[str]],
        jobs: Sequence[Job],
    ) -> tuple[Looked, list[Written]]:
        """Read all rows once, and score them with each model."""
        from airflow_pipeops.models import storage

        # A model and a path of Airflow do not travel: each task loads and opens its own.
        sent = [replace(job, loaded=None, folder=storage.uri_of(job.folder)) for job in jobs]

        def task(batches: Iterator[Any]) -> Any:
            from airflow_pipeops.models import artifact

            own = [
                replace(
                    job,
                    loaded=artifact.load(job.model.artifact_uri, job.model.sha256, trusted=job.trusted),
                    folder=storage.at(job.folder),
                )
                for job in sent
            ]
            found, written = scanned((conformed(batch, kinds) for batch in batches), key, rests_on, own)
            return {"looked": found.to_json(), "written": [one.to_json() for one in written]}

        looked, written = Looked(), [Written() for _ in jobs]
        for said in self._answers(kinds, task):
            looked = looked.plus(Looked.from_json(said["looked"]))
            written = [
                one.plus(Written.from_json(other))
                for one, other in zip(written, said["written"], strict=True)
            ]
        return looked, written

    def _answers(self, kinds: Mapping[str, str], task: Callable[[Iterator[Any]], Any]) -> list[Any]:
        """Run a function over the batches of each part of the rows; return what it answers, from JSON."""

        def answered(batches: Iterator[Any]) -> Iterator[Any]:
            import pyarrow as pa

            said = task(batch.rename_columns(list(kinds)) for batch in batches)
            yield pa.RecordBatch.from_pydict({"said": [json.dumps(said)]})

        try:
            frame = self._session.sql(f"SELECT {_listed(list(kinds))} FROM {self._side.relation}")
            return [json.loads(row[0]) for row in frame.mapInArrow(answered, "said string").collect()]
        except Exception as error:  # py4j and Spark have many types of error
            raise self._side._error(error, queried=True) from error


def viewed_in_spark(config: Mapping[str, str]) -> Opener:
    """Return what opens partitions in a Spark session.

    :param config: settings of the session, for example ``{"spark.master": "yarn"}``.
    :return: as :func:`~airflow_pipeops.serving.batch.worker.viewed`.
    """

    @contextmanager
    def viewed(source: Source, say: Say) -> Iterator[View]:
        with opened_in_spark(source, config) as (side, session):
            yield SparkView(side, session)

    return viewed


@contextmanager
def opened_in_spark(source: Source, config: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
    """Open a partition in a Spark session.

    :param source: where it comes from.
    :param config: settings of the session.
    :return: the partition, as the drift engine opens it, and the session, while the context lasts.
    """
    from airflow_pipeops.drift.engines.opening import opened

    session = _session(config)
    side: Any = opened(source, "data", duck=None, spark=session)
    try:
        yield side, session
    finally:
        side.close()


def _session(config: Mapping[str, str]) -> Any:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtra("pyspark", "spark") from error
    builder = SparkSession.builder.appName("airflow-pipeops scores")
    for name, value in config.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _listed(columns: Sequence[str]) -> str:
    from airflow_pipeops.drift.engines.sql import identifier

    return ", ".join(identifier(name, "spark") for name in columns)
