"""Batches of tabular data: Parquet or CSV files, in a folder or an object store, as frames of pandas."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import files
from airflow_pipeops.base.delimited import Csv, Layout, complaint, distinct, layout, texts, typed, types_of
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import ObjectStoragePath

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz")


@dataclass(frozen=True)
class Table:
    """What was read.

    :param frame: the rows of all files, in the order of the files.
    :param digest: SHA-256 of the file's bytes; of several files, SHA-256 of their sorted hex digests, one a line.
    :param files: the URIs.
    :param digests: URI -> SHA-256 of the file's bytes.
    """

    frame: pd.DataFrame
    digest: str
    files: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.frame)

    @property
    def name(self) -> str:
        """Names of the files, joined: how people call this batch."""
        return "+".join(uri.rsplit("/", 1)[-1] for uri in self.files)


def read(
    data: str | Sequence[str],
    *,
    field: str = "data",
    storage_conn_id: str | None = None,
    options: Csv | Mapping[str, Any] | None = None,
) -> Table:
    """Read one or several files of the same columns.

    :param data: URIs or paths of ``.parquet``, ``.pq``, ``.csv`` or ``.csv.gz`` files.
    :param field: the name under which the reader knows the value, for errors.
    :param storage_conn_id: connection of type ``pipeops_storage``; relative names are below its root.
    :param options: what CSV files do not say of themselves; see :mod:`~airflow_pipeops.base.delimited`, which reads them.
    :return: their rows, in the order of the files, and what they were read from.
    :raises InvalidInput: for an unknown suffix, a damaged file, files whose columns differ, or columns of one name.
    :raises NotFound: if a file is not there.
    """
    import pandas as pd

    names = files(field, data)
    for name in names:
        _suffix(name, field)
    contents = {name: content_of(name, field, storage_conn_id) for name in dict.fromkeys(names)}
    digests = [hashlib.sha256(contents[name]).hexdigest() for name in names]
    csv = {name: content for name, content in contents.items() if _suffix(name, field) in _CSV}
    found = {
        **_delimited(csv, field, Csv.of(options)),
        **{name: _parquet(content, name, field) for name, content in contents.items() if name not in csv},
    }
    frames = [found[name] for name in names]
    _of_one_schema({name: list(frame.columns) for name, frame in found.items()}, names, field)
    digest = (
        digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    )
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return Table(frame, digest, tuple(names), dict(zip(names, digests, strict=True)))


def exact(table: Any, *, doubles: bool = False) -> pd.DataFrame:
    """Turn an Arrow table into a frame without changing a value.

    :param table: of Arrow; its decimals become Python's own.
    :param doubles: leave integers beside nulls as doubles, which most libraries want, where no value changes by it.
    :return: the frame. Integers beside nulls are pandas' nullable ones: as doubles, those beyond 2**53 would be others.
    """
    import pandas as pd
    import pyarrow as pa

    nullable = {
        getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")()
        for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    }
    frame = table.to_pandas(date_as_object=False)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in frame.columns or not column.null_count or column.type not in nullable:
            continue
        if not doubles or frame[name].abs().max() >= 2**53:
            frame[name] = column.to_pandas(types_mapper=nullable.get).set_axis(frame.index)
    return frame


def _of_one_schema(columns: Mapping[str, Collection[str]], names: Sequence[str], field: str) -> None:
    for name in names[1:]:
        if odd := sorted(set(columns[name]) ^ set(columns[names[0]])):
            raise InvalidInput(
                f"{name} and {names[0]} have different columns: {', '.join(odd[:10])}",
                field=field,
                value=name,
                remedy="Give files of one schema, or read them one by one.",
            )


def _damaged(name: str, kind: str, field: str, error: Exception, size: int) -> InvalidInput:
    """Return the error for a file that cannot be read; the reader's own text may quote the data."""
    return InvalidInput(
        f"{name} is damaged or not {kind} ({type(error).__name__}, {size:,} bytes)",
        field=field,
        value=name,
        remedy="Deliver the file again; write it to another name first and rename it when complete.",
    )


def _suffix(name: str, field: str) -> str:
    for suffix in (*_PARQUET, *_CSV):
        if name.lower().endswith(suffix):
            return suffix
    raise InvalidInput(
        f"{name} is of no known format",
        field=field,
        value=name,
        remedy=f"Use files that end in {', '.join((*_PARQUET, *_CSV))}.",
    )


def _path(name: str, storage_conn_id: str | None) -> ObjectStoragePath:
    from airflow.sdk import ObjectStoragePath

    if storage_conn_id is None:
        return ObjectStoragePath(name if "://" in name else Path(name).expanduser().absolute().as_uri())
    from airflow_pipeops.base.storage import StorageHook

    root = StorageHook(storage_conn_id).get_conn()
    return ObjectStoragePath(name, conn_id=root.conn_id) if "://" in name else root / name


def content_of(name: str, field: str, storage_conn_id: str | None = None, most: int | None = None) -> bytes:
    """Read the bytes of a file.

    :param name: its URI or path.
    :param field: the name under which the reader knows the value, for errors.
    :param storage_conn_id: as for :func:`read`.
    :param most: bytes that it may have; ``None`` for any number.
    :return: its bytes.
    :raises NotFound: if it is not there.
    :raises InvalidInput: if it is larger.
    """
    path = _path(name, storage_conn_id)
    try:
        if most is not None and (size := path.stat().st_size) > most:
            raise InvalidInput(
                f"{name} has {size:,} bytes, more than {most:,}", field=field, value=name, remedy="Sample it."
            )
        content: bytes = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{field}: there is no file {name}", remedy="Check the URI.") from error
    except PermissionError as error:
        raise AccessDenied(f"{field}: {name} may not be read") from error
    except OSError as error:
        raise Unreachable(f"{field}: {name} could not be read ({type(error).__name__})") from error
    return content


def _parquet(content: bytes, name: str, field: str) -> pd.DataFrame:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except Exception as error:  # each reader has its own errors; the texts may quote the data
        raise _damaged(name, "parquet", field, error, len(content)) from error
    distinct(table.column_names, name)
    frame = exact(table, doubles=True)
    # What pandas numbers rows by is no column; an index with a name is one.
    named = [level for level in frame.index.names if level is not None]
    frame = frame.reset_index(level=named).reset_index(drop=True) if named else frame.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    return frame


def _delimited(contents: Mapping[str, bytes], field: str, options: Csv) -> dict[str, pd.DataFrame]:
    """Read CSV files, with the types that their values have together."""
    if not contents:
        return {}
    import duckdb
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="pipeops-csv-") as folder, duckdb.connect() as connection:
        place = Path(folder)
        layouts: dict[str, Layout | None] = {}
        for number, (name, content) in enumerate(contents.items()):
            path = place / f"{number}-given{_suffix(name, field)}"
            path.write_bytes(content)
            layouts[name] = layout(str(path), partial(io.BytesIO, content), options, name, field, place)
        known = {name: one for name, one in layouts.items() if one is not None}
        _of_one_schema({name: one.names for name, one in known.items()}, list(known), field)

        def asked(sql: str) -> Any:
            try:
                return connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                name = next(
                    (name for name, one in known.items() if one.path in str(error)), next(iter(known))
                )
                said = complaint(error, name, field)
                raise said or _damaged(name, "csv", field, error, len(contents[name])) from error

        frames = {}
        if known:
            connection.execute("SET TimeZone = 'UTC'")
            every = list(known.values())
            types = types_of(
                lambda sql: [tuple(row.values()) for row in asked(sql).to_pylist()],
                texts(every, options),
                every[0].names,
                options,
                {},
                "+".join(known),
                field,
            )
            for name, one in known.items():
                own = {column: types[column] for column in one.names}
                frames[name] = exact(
                    asked(f"SELECT * FROM {typed(texts([one], options), own, options)}"), doubles=True
                )
        # Not even a header: a batch without columns and rows.
        return {name: frames.get(name, pd.DataFrame()) for name in contents}
