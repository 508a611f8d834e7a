"""The embedded engine: DuckDB over files, frames and object storage, within a memory limit that holds."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.tables import exact
from airflow_pipeops.drift.columns import Column
from airflow_pipeops.drift.engines.files import Listed, listed
from airflow_pipeops.drift.engines.sessions import Cancelled, unique
from airflow_pipeops.drift.sources import Files, Frame
from airflow_pipeops.exceptions import InvalidInput, MissingExtra, PipeOpsError, Unreachable

if TYPE_CHECKING:
    import pandas as pd

#: What DuckDB may take for itself. The process needs some 110 MB besides, of Python, NumPy and DuckDB's own code.
MEMORY_LIMIT = "96MB"
MAX_THREADS = 4
#: What it may take while rows themselves are read: those of a sample, all columns at once.
ROWS_MEMORY = "1GB"

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

    def __init__(self, source: Files | Frame, field: str, database: Database) -> None:
        import duckdb

        self.engine = f"duckdb {duckdb.__version__}"
        self._source, self._field, self._database = source, field, database
        self._files: Listed | None = None
        self._columns: tuple[Column, ...] | None = None
        self._running: Any = database.connection
        self._name = database.name()
        self.relation = self._opened()

    def _opened(self) -> str:
        if isinstance(self._source, Frame):
            return self._registered(arrow(self._source.data, self._field))
        if self._source.format in ("delta", "iceberg"):
            return self._registered(_lake(self._source, self._field))
        self._files = listed(self._source, self._field)
        if self._files.filesystem is not None:
            self._database.filesystem(self._files.filesystem)
        return _scan(self._source.format, self._files.paths)

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
            if self._files is not None and len(self._files.paths) > 1:
                self._of_one_schema(self._files.paths)
            described = self.rows(f"DESCRIBE SELECT * FROM {self.relation}")
            columns = [Column.of(str(row[0]), str(row[1]).strip('"'), self.dialect) for row in described]
            self._columns = unique(columns, self._field)
        return self._columns

    def _of_one_schema(self, paths: tuple[str, ...]) -> None:
        """Refuse files whose columns differ, before DuckDB reads all of them by the first one's."""
        source = self._source.format if isinstance(self._source, Files) else ""
        found: dict[str, dict[str, str]] = {}
        for path in paths:
            described = self.rows(f"DESCRIBE SELECT * FROM {_scan(source, (path,))}")
            # What a reader guesses of a text file may differ from file to file; its header may not.
            found[path] = {str(row[0]): str(row[1]) if source == "parquet" else "" for row in described}
        first, *others = paths
        for path in others:
            differing = sorted(name for name, _ in set(found[first].items()) ^ set(found[path].items()))
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
            return InvalidInput(
                f"{self._field} needs more than the memory limit of {self._database.memory_limit}",
                field="memory_limit",
                value=self._database.memory_limit,
                remedy="Raise memory_limit, lower threads, or give the temporary folder more room.",
            )
        if self._files is None:
            return InvalidInput(f"{self._field} could not be read ({kind})", field=self._field)
        if self._files.filesystem is not None and isinstance(error, OSError):
            return Unreachable(f"{self._field} could not be read ({kind})")
        broken = self._broken()
        if broken:
            return InvalidInput(
                f"{_short(broken)} is damaged or not {self._files.format} ({kind})",
                field=self._field,
                value=_short(broken),
                remedy="Deliver the file again; write it to another name first and rename it when complete.",
            )
        return InvalidInput(
            f"{self._field}: {self._source.name} could not be read ({kind})",
            field=self._field,
            value=self._source.name,
            remedy="Check that the files are complete and of one schema.",
        )

    def _broken(self) -> str:
        """Find the file that cannot be read to its end, by reading them one by one."""
        assert self._files is not None
        for path in self._files.paths:
            try:
                self._running.execute(
                    f"SELECT * FROM {_scan(self._files.format, (path,))} LIMIT 0"
                ).fetchall()
                self._running.execute(
                    f"SELECT MAX(COLUMNS(*)) FROM {_scan(self._files.format, (path,))}"
                ).fetchall()
            except Exception as error:
                if type(error).__name__ not in (
                    "InterruptException",
                    "OutOfMemoryException",
                    "BinderException",
                ):
                    return path
        return ""

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
        if self.relation == self._name and self._database._connection is not None:
            self._database.connection.unregister(self._name)


def _bytes(amount: str) -> float:
    number, unit, binary = _AMOUNT.fullmatch(amount).groups()  # type: ignore[union-attr]  # checked when it was given
    return float(number) * (1024.0 if binary else 1000.0) ** ("KMGT".index(unit) + 1)


def _scan(format: str, paths: tuple[str, ...]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    if format == "csv":
        return f"read_csv([{quoted}], header = true)"
    # Each file by its own names: a folder called day=1 is no column unless its owner says so.
    return f"read_parquet([{quoted}], hive_partitioning = false)"


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def arrow(data: Any, field: str) -> Any:
    """Return what DuckDB can register: it knows pandas and Arrow; all else that has an Arrow stream goes through Arrow."""
    kind = type(data).__module__.split(".")[0]
    names = [str(name) for name in getattr(data, "column_names", getattr(data, "columns", ()))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:  # DuckDB would rename the second one in silence
        raise InvalidInput(
            f"{field} has two columns named {twice!r}", field=field, value=twice, remedy="Rename one of them."
        )
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


class _Rescanned:
    """A scan of Iceberg, begun anew by each query: its reader gives its rows once."""

    def __init__(self, scan: Any) -> None:
        self._scan = scan

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._scan.to_arrow_batch_reader().__arrow_c_stream__(requested_schema)


def _lake(source: Files, field: str) -> Any:
    from airflow_pipeops.exceptions import NotFound

    path = source.paths[0]
    try:
        if source.format == "delta":
            from deltalake import DeltaTable

            return DeltaTable(path).to_pyarrow_dataset()
        from pyiceberg.table import StaticTable

        return _Rescanned(StaticTable.from_metadata(path).scan())
    except ImportError as error:
        library = "deltalake" if source.format == "delta" else "pyiceberg"
        raise MissingExtra(library, source.format) from error
    except Exception as error:
        raise NotFound(
            f"{field}: no {source.format} table could be read at {Path(path).name} ({type(error).__name__})",
            remedy="Check the URI and the credentials.",
        ) from error
