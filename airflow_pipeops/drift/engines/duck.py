"""The embedded engine: DuckDB over files, frames and object storage, within a memory limit that holds."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_pipeops.base.delimited import (
    Layout,
    complaint,
    distinct,
    layout,
    pattern_free,
    texts,
    typed,
    types_of,
)
from airflow_pipeops.base.tables import exact
from airflow_pipeops.drift.columns import Column, Unmeasured
from airflow_pipeops.drift.engines.files import Listed, listed
from airflow_pipeops.drift.engines.sessions import Cancelled, unique
from airflow_pipeops.drift.engines.sql import identifier
from airflow_pipeops.drift.sources import Files, Frame
from airflow_pipeops.exceptions import InvalidInput, MissingExtra, NotFound, PipeOpsError, Unreachable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: What DuckDB may take for itself. The process needs some 110 MB besides, of Python, NumPy and DuckDB's own code.
MEMORY_LIMIT = "96MB"
MAX_THREADS = 4
#: What it may take while rows themselves are read: those of a sample, all columns at once.
ROWS_MEMORY = "1GB"

#: The name under which pandas writes the numbers of rows.
_NUMBERING = re.compile(r"__index_level_\d+__")

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B")

#: What of Arrow can be read as often as it is asked.
_READ_AGAIN = ("Table", "Dataset", "InMemoryDataset", "FileSystemDataset", "UnionDataset")

#: Keys of 16 bits are counted in a plain array instead of a hash table: half the time of a numeric column.
_PERFECT_BITS = 17


class Database:
    """One in-memory DuckDB for both sides; its temporary files go when it is closed, whatever happened.

    :param memory_limit: as DuckDB writes it, such as ``128MB`` or ``4GB``.
    :param threads: by default one for each core, at most four; each needs some memory of its own.
    """

    def __init__(self, memory_limit: str = MEMORY_LIMIT, threads: int | None = None) -> None:
        if not _AMOUNT.fullmatch(memory_limit):
            raise InvalidInput(
                f"memory_limit {memory_limit!r} is no amount of memory",
                field="memory_limit",
                value=memory_limit,
                remedy="Write it as 256MB or 4GB.",
            )
        self.memory_limit = memory_limit
        self.threads = threads or max(1, min(MAX_THREADS, len(os.sched_getaffinity(0))))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._connection: Any = None
        self._names = 0
        self._filesystems: set[int] = set()

    @property
    def folder(self) -> Path:
        """Where temporary files may be; it goes when this is closed."""
        assert self.connection is not None
        assert self._folder is not None
        return Path(self._folder.name)

    @property
    def connection(self) -> Any:
        """The connection, opened when it is first needed."""
        if self._connection is None:
            import duckdb

            self._folder = tempfile.TemporaryDirectory(prefix="pipeops-drift-")
            self._connection = duckdb.connect(
                config={
                    "memory_limit": self.memory_limit,
                    "threads": str(self.threads),
                    "temp_directory": self._folder.name,
                    "autoinstall_known_extensions": "false",  # nothing is fetched behind the reader's back
                }
            )
            self._connection.execute(f"SET perfect_ht_threshold = {_PERFECT_BITS}")
            self._connection.execute(
                "SET parquet_metadata_cache = true"
            )  # a thousand columns: one footer, not thousands
            self._connection.execute("SET enable_progress_bar = false")
            self._connection.execute("SET TimeZone = 'UTC'")
        return self._connection

    def for_rows(self) -> None:
        """Make room for rows, and read in one thread from now on, so that a sample is the same at every look."""
        if self._connection is None:
            return
        self._connection.execute("SET threads = 1")
        if _bytes(self.memory_limit) < _bytes(ROWS_MEMORY):
            self.memory_limit = ROWS_MEMORY
            self._connection.execute(f"SET memory_limit = '{ROWS_MEMORY}'")

    def name(self) -> str:
        """Return a name that no relation has yet."""
        self._names += 1
        return f"side_{self._names}"

    def filesystem(self, found: Any) -> None:
        """Let DuckDB read through an fsspec file system."""
        if id(found) not in self._filesystems:
            self.connection.register_filesystem(found)
            self._filesystems.add(id(found))

    def close(self) -> None:
        """Close the connection and remove its temporary files."""
        try:
            if self._connection is not None:
                self._connection.close()
        finally:
            self._connection = None
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DuckSide:
    """Files or a frame, as a relation of DuckDB."""

    dialect = "duckdb"

    def __init__(
        self,
        source: Files | Frame,
        field: str,
        database: Database,
        like: Sequence[Column] = (),
        only: Sequence[str] = (),
    ) -> None:
        import duckdb

        self.engine = f"duckdb {duckdb.__version__}"
        self._source, self._field, self._database = source, field, database
        self._files: Listed | None = None
        self._columns: tuple[Column, ...] | None = None
        self._running: Any = database.connection
        self._name = database.name()
        #: Columns that all files must have alike; by default all.
        self._only = frozenset(only)
        self._like = {column.name: column.family for column in like}
        self._csv: tuple[Layout, ...] = ()
        #: Columns without a value, of which no type can be told.
        self._nulls: frozenset[str] = frozenset()
        #: A scan of Iceberg, whose reader gives its rows once.
        self._scanned: Any = None
        self._relation = self._opened()

    def _opened(self) -> str:
        """Return how the rows are named, but for files, which are looked into by the first query."""
        if isinstance(self._source, Frame):
            return self._registered(arrow(self._source.data, self._field))
        if self._source.format in ("delta", "iceberg"):
            found, names = _lake(self._source, self._field)
            distinct(names, self._field)
            if self._source.format == "delta":
                return self._registered(found)
            self._scanned = found
            return ""
        self._files = listed(self._source, self._field)
        if self._files.filesystem is not None:
            self._database.filesystem(self._files.filesystem)
        return ""

    @property
    def relation(self) -> str:
        """How the rows are named in a ``FROM``."""
        if self._scanned is not None and not self._relation:
            self._relation = self._copied()
        if not self._relation:
            assert self._files is not None
            self._relation = (
                self._texts() if self._files.format == "csv" else self._parquet(self._files.paths)
            )
        return self._relation

    def _copied(self) -> str:
        """Scan once, into a file of DuckDB's own: each column is asked for by queries of its own."""
        place = f"{self._name}_scanned"
        try:
            self._registered(self._scanned.to_arrow_batch_reader())
        except PipeOpsError:
            raise
        except Exception as error:
            raise _unread("iceberg", self._source.name, self._field, error) from error
        try:
            self._execute(f"ATTACH {_literal(str(self._database.folder / place))} AS {place}")
            self._execute(f"CREATE TABLE {place}.lake AS SELECT * FROM {self._name}")
        finally:
            self._database.connection.unregister(self._name)
        return f"{place}.lake"

    def _parquet(self, paths: tuple[str, ...]) -> str:
        found = self.rows(f"SELECT name, num_children FROM parquet_schema({_path(paths[0])})")
        names, below = [], 0
        for name, children in found[1:]:  # the first one is the root
            if not below:
                names.append(str(name))
            else:
                below -= 1
            below += int(children or 0)
        distinct(names, self._field)
        # What pandas numbers rows by is no column.
        numbering = [identifier(name, self.dialect) for name in names if _NUMBERING.fullmatch(name)]
        left_out = f" EXCLUDE ({', '.join(numbering)})" if numbering else ""
        return f"(SELECT *{left_out} FROM {_scan(paths)}) AS pipeops_rows" if numbering else _scan(paths)

    def _texts(self) -> str:
        """Read the headers of CSV files, and tell the types from all of their values."""
        assert self._files is not None
        assert isinstance(self._source, Files)
        options, found = self._source.csv, []
        for path in self._files.paths:
            one = layout(path, self._opener(path), options, _short(path), self._field, self._database.folder)
            if one is None:
                raise InvalidInput(f"{self._field} has no columns", field=self._field, value=_short(path))
            found.append(one)
        self._csv = tuple(found)
        for one in found[1:]:
            self._same(sorted(set(one.names) ^ set(found[0].names)), one.path, found[0].path)
        rows, name = texts(found, options), self._source.name
        types = types_of(self.rows, rows, found[0].names, options, self._like, name, self._field)
        self._nulls = frozenset(name for name, kind in types.items() if kind == "null")
        return typed(rows, types, options)

    def _opener(self, path: str) -> Callable[[], IO[bytes]]:
        remote = self._files.filesystem if self._files is not None else None
        return lambda: open(path, "rb") if remote is None else remote.open(path, "rb")

    def _registered(self, data: Any) -> str:
        try:
            self._database.connection.register(self._name, data)
        except Exception as error:
            raise InvalidInput(
                f"{self._field} cannot be read as a table ({type(data).__name__}: {type(error).__name__})",
                field=self._field,
                value=type(data).__name__,
                remedy="Give a pandas or polars frame, or an Arrow table.",
            ) from error
        return self._name

    def schema(self) -> tuple[Column, ...]:
        """Return the columns; of Parquet, after comparing the footers of all files."""
        if self._columns is None:
            if self._files is not None and self._files.format == "parquet" and len(self._files.paths) > 1:
                self._of_one_schema(self._files.paths)
            described = self.rows(f"DESCRIBE SELECT * FROM {self.relation}")
            types = {str(row[0]): str(row[1]).strip('"') for row in described}
            columns = [
                Column.of(name, "NULL" if name in self._nulls else kind, self.dialect)
                for name, kind in types.items()
            ]
            self._columns = unique(columns, self._field)
        return self._columns

    def _of_one_schema(self, paths: tuple[str, ...]) -> None:
        """Refuse files whose columns differ, before DuckDB reads all of them by the first one's."""
        found: dict[str, dict[str, str]] = {}
        for path in paths:
            described = self.rows(f"DESCRIBE SELECT * FROM {_scan((path,))}")
            kinds = {str(row[0]): str(row[1]) for row in described}
            found[path] = {name: kinds[name] for name in kinds if not self._only or name in self._only}
        first, *others = paths
        for path in others:
            self._same(
                sorted(name for name, _ in set(found[first].items()) ^ set(found[path].items())), path, first
            )

    def _same(self, differing: Sequence[str], path: str, first: str) -> None:
        if differing:
            listed_names = ", ".join(dict.fromkeys(differing[:10]))
            raise InvalidInput(
                f"{_short(path)} and {_short(first)} differ in the columns {listed_names}",
                field=self._field,
                value=_short(path),
                remedy="Give files of one schema, or compare them one by one.",
            )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        found: list[tuple[Any, ...]] = self._execute(sql).fetchall()
        return found

    def table(self, sql: str) -> dict[str, Any]:
        """Run a query; return masked arrays."""
        try:
            found: dict[str, Any] = self._execute(sql).fetchnumpy()
        except PipeOpsError:
            raise
        except Exception as error:
            raise self._error(error) from error
        return found

    def frame(self, sql: str) -> pd.DataFrame:
        """Run a query; return its rows as they are."""
        found = self._execute(sql)
        try:
            with warnings.catch_warnings():  # of a copy: what rows are read is small
                warnings.simplefilter("ignore", UserWarning)
                # DuckDB 1 has another name for it.
                table = (
                    found.to_arrow_table if hasattr(found, "to_arrow_table") else found.fetch_arrow_table
                )()
        except Exception as error:
            raise self._error(error) from error
        return exact(table)

    def batches(self, sql: str, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Run a query; give its rows as they come, in the order of the files."""
        try:
            found = self._running.sql(sql)
            # DuckDB 1 has another name for it.
            read = found.to_arrow_reader if hasattr(found, "to_arrow_reader") else found.fetch_arrow_reader
            reader = read(size)
            yield from (batch.rename_columns(list(columns)) for batch in reader)
        except GeneratorExit:
            raise
        except Exception as error:
            raise self._error(error) from error

    def _execute(self, sql: str) -> Any:
        try:
            return self._running.execute(sql)
        except Exception as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> PipeOpsError:
        """Turn DuckDB's error into one of ours, without its text where that may quote the data."""
        kind = type(error).__name__
        if kind == "InterruptException":
            return Cancelled("the comparison was cancelled")
        if kind == "OutOfMemoryException":
            return Unmeasured(
                f"{self._field} needs more than the memory limit of {self._database.memory_limit}",
                field="memory_limit",
                value=self._database.memory_limit,
                remedy="Raise memory_limit, lower threads, or give the temporary folder more room.",
            )
        if self._files is None:
            return Unmeasured(f"{self._field} could not be read ({kind})", field=self._field)
        if self._files.filesystem is not None and isinstance(error, OSError):
            return Unreachable(f"{self._field} could not be read ({kind})")
        broken, why = self._broken()
        if broken:
            said = complaint(why, _short(broken), self._field) if why is not None and self._csv else None
            return said or InvalidInput(
                f"{_short(broken)} is damaged or not {self._files.format} ({kind})",
                field=self._field,
                value=_short(broken),
                remedy="Deliver the file again; write it to another name first and rename it when complete.",
            )
        return Unmeasured(
            f"{self._field}: {self._source.name} could not be read ({kind})",
            field=self._field,
            value=self._source.name,
            remedy="Check that the files are complete and of one schema.",
        )

    def _broken(self) -> tuple[str, Exception | None]:
        """Find the file that cannot be read to its end, by reading them one by one."""
        assert self._files is not None
        assert isinstance(self._source, Files)
        scans = [(one.path, texts([one], self._source.csv)) for one in self._csv] or [
            (path, _scan((path,))) for path in self._files.paths
        ]
        for path, scan in scans:
            try:
                self._running.execute(f"SELECT * FROM {scan} LIMIT 0").fetchall()
                self._running.execute(f"SELECT MAX(COLUMNS(*)) FROM {scan}").fetchall()
            except Exception as error:
                if type(error).__name__ not in (
                    "InterruptException",
                    "OutOfMemoryException",
                    "BinderException",
                ):
                    return path, error
        return "", None

    def identity(self) -> dict[str, Any]:
        """Return names, and of files what tells their content."""
        if self._files is None:
            return {
                "kind": "frame" if isinstance(self._source, Frame) else "table",
                "name": self._source.name,
            }
        return {"kind": "files", "name": self._source.name, **self._files.identity()}

    def cancel(self) -> None:
        """Interrupt the running query."""
        self._running.interrupt()

    def close(self) -> None:
        """Forget the frame."""
        if self._relation == self._name and self._database._connection is not None:
            self._database.connection.unregister(self._name)


def _bytes(amount: str) -> float:
    number, unit, binary = _AMOUNT.fullmatch(amount).groups()  # type: ignore[union-attr]  # checked when it was given
    return float(number) * (1024.0 if binary else 1000.0) ** ("KMGT".index(unit) + 1)


def _path(path: str) -> str:
    return _literal(pattern_free(path))


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _scan(paths: Sequence[str]) -> str:
    # Each file by its own names: a folder called day=1 is no column unless its owner says so.
    return f"read_parquet([{', '.join(map(_path, paths))}], hive_partitioning = false)"


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def arrow(data: Any, field: str) -> Any:
    """Return what DuckDB can register: it knows pandas and Arrow; all else that has an Arrow stream goes through Arrow."""
    kind = type(data).__module__.split(".")[0]
    names = [str(name) for name in getattr(data, "column_names", getattr(data, "columns", ()))]
    distinct(names, field)  # DuckDB would rename the second one in silence
    # A reader of Arrow is read once: the second query would see no rows.
    if kind == "pandas" or type(data).__name__ in _READ_AGAIN:
        return data
    if hasattr(data, "collect") and kind == "polars":
        data = data.collect()
    if hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        return pyarrow.table(data)
    raise InvalidInput(
        f"{field} is no frame ({type(data).__name__})",
        field=field,
        value=type(data).__name__,
        remedy="Give a pandas or polars frame, or an Arrow table.",
    )


def _lake(source: Files, field: str) -> tuple[Any, list[str]]:
    """Open a table of Delta or Iceberg; return what reads it, and the names of its columns."""
    path = source.paths[0]
    try:
        if source.format == "delta":
            from deltalake import DeltaTable

            dataset = DeltaTable(path).to_pyarrow_dataset()
            return dataset, list(dataset.schema.names)
        from pyiceberg.table import StaticTable

        scan = StaticTable.from_metadata(path).scan()
        return scan, [one.name for one in scan.projection().fields]
    except ImportError as error:
        library = "deltalake" if source.format == "delta" else "pyiceberg"
        raise MissingExtra(library, source.format) from error
    except Exception as error:
        raise _unread(source.format, Path(path).name, field, error) from error


def _unread(format: str, name: str, field: str, error: Exception) -> NotFound:
    return NotFound(
        f"{field}: no {format} table could be read at {name} ({type(error).__name__})",
        remedy="Check the URI and the credentials.",
    )
