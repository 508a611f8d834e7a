"""One scan of a partition: what its rows are, and what each model gives for them. Batches in, figures and files out.

The same functions run on the worker, in a pod, and in the tasks of Spark, whose results are added up.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.outputs import outputs_of, values_of
from airflow_pipeops.serving.batch.contract import BINS, Scored
from airflow_pipeops.serving.batch.digests import Tally, tally
from airflow_pipeops.serving.batch.rows import FEATURES, Columns, schema_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from airflow_pipeops.models.artifact import Loaded

    Array = np.ndarray[Any, Any]

#: Says of a row whether the model refused it.
FALLBACK = "fallback"
#: Rows that a model scores twice before all else: one that does not repeat itself has no result to keep.
REPEATED = 1000
#: Differences up to this are rounding: a matrix product may differ in its last bits between two cuts of the same rows.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Looked(JsonForm):
    """What the rows of a partition are.

    :param rows: how many.
    :param tallies: of the columns that each model's scores rest on, by the model's digest.
    :param keys: of the columns that name a row.
    :param nulls: column -> how many are null.
    """

    rows: int = 0
    tallies: Mapping[str, Any] = field(default_factory=dict)
    keys: Tally = field(default_factory=Tally)
    nulls: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Looked) -> Looked:
        """Return what the rows of both parts are."""
        nulls = {
            name: self.nulls.get(name, 0) + other.nulls.get(name, 0) for name in {**self.nulls, **other.nulls}
        }
        tallies = {
            name: self.tally(name).plus(other.tally(name)).to_json()
            for name in {**self.tallies, **other.tallies}
        }
        return Looked(self.rows + other.rows, tallies, self.keys.plus(other.keys), nulls)

    def tally(self, sha256: str) -> Tally:
        """Return that of a model."""
        return Tally.from_json(self.tallies.get(sha256))


def look(batch: pa.RecordBatch, key: Sequence[str], rests_on: Mapping[str, Sequence[str]]) -> Looked:
    """Look at rows.

    :param batch: of the types of :mod:`~airflow_pipeops.serving.batch.rows`.
    :param key: the columns that name a row.
    :param rests_on: model's digest -> the columns that its scores rest on.
    :return: what they are.
    """
    names = batch.schema.names
    nulls = {name: column.null_count for name, column in zip(names, batch.columns, strict=True)}
    known: dict[tuple[str, ...], Tally] = {}
    tallies = {}
    for sha256, columns in rests_on.items():
        of = tuple(sorted(columns))
        if of not in known:
            known[of] = tally(batch.select(list(of)))
        tallies[sha256] = known[of].to_json()
    return Looked(batch.num_rows, tallies, tally(batch.select(list(key))), nulls)


class Scorer:
    """A model that scores batches.

    :param loaded: the model.
    :param fallback: score of a row that it refuses; ``None`` for none.
    """

    def __init__(self, loaded: Loaded, fallback: float | None = None) -> None:
        self.model, self.features, self._fallback = loaded.model, loaded.manifest.features, fallback
        self.outputs = tuple(outputs_of(loaded.model))
        self.probabilities = hasattr(loaded.model, "predict_proba")
        self._repeats = False

    @property
    def kinds(self) -> dict[str, str]:
        """The columns that it writes, and their types."""
        return {**dict.fromkeys(self.outputs, "double"), FALLBACK: "bool"}

    def score(self, batch: pa.RecordBatch) -> tuple[Array, Array]:
        """Score rows.

        :param batch: with the features.
        :return: the scores, one column for each output, NaN for none; and which rows the model refused.
        :raises InvalidInput: for a model that gives another score for the same row, or takes none of the rows.
        """
        import numpy as np

        frame, whole = self._frame(batch)
        self._check_repeats(frame, whole)
        values = np.full((batch.num_rows, len(self.outputs)), np.nan)
        if whole.any():
            values[whole] = self._predicted(frame if whole.all() else frame[whole])
        refused: Array = np.asarray(~np.isfinite(values).all(axis=1))
        values[refused] = np.nan if self._fallback is None else self._fallback
        return values, refused

    def _frame(self, batch: pa.RecordBatch) -> tuple[pd.DataFrame, Array]:
        """Return the features as the model has learned from them, and which rows it can be asked for."""
        import numpy as np
        import pandas as pd
        import pyarrow.compute as pc

        types = {
            one.name: one for one in schema_of({name: FEATURES[kind] for name, kind in self.features.items()})
        }
        whole, columns = np.ones(batch.num_rows, dtype=bool), {}
        for name, kind in self.features.items():
            column = batch.column(batch.schema.get_field_index(name))
            if kind == "INT64" and column.null_count:  # no whole number says that there is none
                whole &= column.is_valid().to_numpy(zero_copy_only=False)
                column = pc.fill_null(column, 0)
            if column.type != types[name].type:  # another model wants it so
                column = column.cast(types[name].type)
            values = column.to_numpy(zero_copy_only=False)
            columns[name] = pd.Series(values, dtype="object") if kind == "BYTES" else pd.Series(values)
        return pd.DataFrame(columns, columns=list(self.features), copy=False), whole

    def _predicted(self, frame: pd.DataFrame) -> Array:
        """Ask the model; where it refuses a batch, for the rows without a null alone."""
        import numpy as np

        try:
            return values_of(self.model, frame)
        except ValueError as error:
            known = frame.notna().all(axis=1).to_numpy()
            values = np.full((len(frame), len(self.outputs)), np.nan)
            if known.all():
                raise self._refused(error) from error
            try:
                if known.any():
                    values[known] = values_of(self.model, frame[known])
            except ValueError as again:
                raise self._refused(again) from again
            return values

    def _check_repeats(self, frame: pd.DataFrame, whole: Array) -> None:
        import numpy as np

        if self._repeats or not whole.any():
            return
        sample = frame[whole].head(REPEATED)
        one, two = self._predicted(sample), self._predicted(sample)
        if not np.allclose(one, two, rtol=0, atol=ROUNDING, equal_nan=True):
            moved = float(np.nanmax(np.abs(one - two)))
            raise InvalidInput(
                f"the model gives other scores for the same rows: they differ by up to {moved:.3g}",
                field="model",
                remedy="Find what is random in it, or fix its seed: a retry must give the same.",
            )
        self._repeats = True

    @staticmethod
    def _refused(error: ValueError) -> InvalidInput:
        said = (str(error).splitlines() or [""])[0]
        return InvalidInput(f"the model does not take these rows: {said}", field="data")


@dataclass(frozen=True)
class Written(JsonForm):
    """What a scan has written for one model.

    :param rows: how many lines.
    :param scored: output -> what was given.
    :param lines: their tally, as they were handed to the file.
    :param files: of the lines.
    :param failed: why there are none; of a challenger, whose failure is no failure of the task.
    """

    rows: int = 0
    scored: Mapping[str, Scored] = field(default_factory=dict)
    lines: Tally = field(default_factory=Tally)
    files: tuple[str, ...] = ()
    failed: str = ""

    def plus(self, other: Written) -> Written:
        """Return what was written for both parts."""
        scored = {
            name: (self.scored.get(name) or Scored()).plus(other.scored.get(name) or Scored())
            for name in {**self.scored, **other.scored}
        }
        return Written(
            self.rows + other.rows,
            scored,
            self.lines.plus(other.lines),
            (*self.files, *other.files),
            self.failed or other.failed,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "rows": self.rows,
            "scored": {name: one.to_json() for name, one in self.scored.items()},
            "lines": self.lines.to_json(),
            "files": list(self.files),
            "failed": self.failed,
        }

    @classmethod
    def from_json(cls, data: Any) -> Written:
        """Read the JSON form."""
        scored = {name: Scored.from_json(one) for name, one in data["scored"].items()}
        return cls(data["rows"], scored, Tally.from_json(data["lines"]), tuple(data["files"]), data["failed"])


class Writer:
    """Scores batches with one model, and writes the lines into one file.

    :param scorer: the model.
    :param columns: what is read; the key and what is kept are written.
    :param kinds: column -> type.
    :param folder: where the file is to be.
    :param attempt: names the file, which nobody else writes.
    :param edges: of the histograms, by output.
    """

    def __init__(
        self,
        scorer: Scorer,
        columns: Columns,
        kinds: Mapping[str, str],
        folder: Any,
        attempt: str,
        edges: Mapping[str, Sequence[float]],
    ) -> None:
        self._scorer, self._columns, self._folder = scorer, columns, folder
        self._schema = schema_of({**{name: kinds[name] for name in columns.written}, **scorer.kinds})
        self._name = f"part-{attempt}-{uuid.uuid4().hex[:8]}.parquet"
        self._edges, self._written = dict(edges), Written()
        self._stream: Any = None
        self._file: Any = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Score rows, and write their lines."""
        import pyarrow as pa

        if not batch.num_rows:
            return
        values, refused = self._scorer.score(batch)
        arrays = [batch.column(batch.schema.get_field_index(name)) for name in self._columns.written]
        arrays += [pa.array(values[:, place], from_pandas=True) for place in range(values.shape[1])]
        lines = pa.RecordBatch.from_arrays([*arrays, pa.array(refused)], schema=self._schema)
        self._opened().write_batch(lines)
        scored = {
            name: self._seen(name, values[:, place], refused)
            for place, name in enumerate(self._scorer.outputs)
        }
        self._written = self._written.plus(Written(batch.num_rows, scored, tally(lines)))

    def end(self) -> Written:
        """Close the file."""
        self._closed()
        files = (self._name,) if self._written.rows else ()
        return replace(self._written, files=files)

    def drop(self) -> None:
        """Close the file, and take it away."""
        self._closed()
        if (self._folder / self._name).exists():
            (self._folder / self._name).unlink()

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._stream = (self._folder / self._name).open("wb")
            self._file = pq.ParquetWriter(self._stream, self._schema, compression="zstd")
        return self._file

    def _closed(self) -> None:
        for one in (self._file, self._stream):
            if one is not None:
                one.close()
        self._file = self._stream = None

    def _seen(self, name: str, values: Array, refused: Array) -> Scored:
        import numpy as np

        known = values[np.isfinite(values)]
        if not self._edges.get(name) and len(known):
            self._edges[name] = edges_of(known, self._scorer.probabilities)
        edges = tuple(float(one) for one in self._edges.get(name, ()))
        counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
        return Scored(
            len(values),
            len(values) - len(known),
            int(refused.sum()),
            float(known.min()) if len(known) else None,
            float(known.max()) if len(known) else None,
            float(known.sum()),
            edges,
            tuple(int(one) for one in counts) if edges else (),
        )


def edges_of(values: Array, probabilities: bool) -> list[float]:
    """Choose the inner edges of a histogram: even ones for probabilities, quantiles of the first scores for numbers."""
    import numpy as np

    if probabilities:
        return [number / BINS for number in range(1, BINS)]
    return [float(one) for one in np.unique(np.quantile(values, np.arange(1, BINS) / BINS))]


def read_back(
    folder: Any, files: Sequence[str], key: Sequence[str]
) -> tuple[Tally, Tally, list[dict[str, Any]]]:
    """Read what was written, as readers will.

    :param folder: of the files.
    :param files: their names.
    :param key: the columns that name a row.
    :return: the tally of all lines, that of their keys, and name, rows and digest of each file.
    """
    import hashlib

    import pyarrow.parquet as pq

    from airflow_pipeops.serving.batch.rows import BATCH

    lines, keys, parts = Tally(), Tally(), []
    for name in sorted(files):
        with (folder / name).open("rb") as stream:
            running = hashlib.sha256()
            while block := stream.read(1 << 20):
                running.update(block)
            stream.seek(0)
            with pq.ParquetFile(stream) as file:
                for batch in file.iter_batches(BATCH):
                    lines, keys = lines.plus(tally(batch)), keys.plus(tally(batch.select(list(key))))
                parts.append({"name": name, "rows": file.metadata.num_rows, "sha256": running.hexdigest()})
    return lines, keys, parts
