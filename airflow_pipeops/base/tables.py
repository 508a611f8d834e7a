"""Batches of tabular data: Parquet or CSV files, in a folder or an object store, read with pandas."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import files
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
    """

    frame: pd.DataFrame
    digest: str
    files: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.frame)

    @property
    def name(self) -> str:
        """Names of the files, joined: how people call this batch."""
        return "+".join(uri.rsplit("/", 1)[-1] for uri in self.files)


def read(data: str | Sequence[str], *, field: str = "data", storage_conn_id: str | None = None) -> Table:
    """Read one or several files of the same columns.

    :param data: URIs or paths of ``.parquet``, ``.pq``, ``.csv`` or ``.csv.gz`` files.
    :param field: the name under which the reader knows the value, for errors.
    :param storage_conn_id: connection of type ``pipeops_storage``; relative names are below its root.
    :return: their rows, in the order of the files, and what they were read from.
    :raises InvalidInput: for an unknown suffix, a damaged file, or files whose columns differ.
    :raises NotFound: if a file is not there.
    """
    import pandas as pd

    names = files(field, data)
    for name in names:
        _suffix(name, field)
    digests, frames = [], []
    for name in names:
        content = _content(_path(name, storage_conn_id), name, field)
        digests.append(hashlib.sha256(content).hexdigest())
        frames.append(_parse(content, name, field))
    for name, frame in zip(names[1:], frames[1:], strict=True):
        if set(frame.columns) != set(frames[0].columns):
            odd = sorted(set(map(str, frame.columns)) ^ set(map(str, frames[0].columns)))
            raise InvalidInput(
                f"{name} and {names[0]} have different columns: {', '.join(odd[:10])}",
                field=field,
                value=name,
                remedy="Give files of one schema, or read them one by one.",
            )
    digest = (
        digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    )
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return Table(frame, digest, tuple(names))


def exact(table: Any) -> pd.DataFrame:
    """Turn an Arrow table into a frame without changing a value.

    :param table: of Arrow; its decimals become Python's own.
    :return: the frame. Integers beside nulls are pandas' nullable ones: as doubles, those beyond 2**53 would be others.
    """
    import pandas as pd
    import pyarrow as pa

    nullable = {
        getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")()
        for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    }
    frame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and column.type in nullable:
            frame[name] = column.to_pandas(types_mapper=nullable.get)
    return frame


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


def _content(path: ObjectStoragePath, name: str, field: str) -> bytes:
    try:
        content: bytes = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{field}: there is no file {name}", remedy="Check the URI.") from error
    except PermissionError as error:
        raise AccessDenied(f"{field}: {name} may not be read") from error
    except OSError as error:
        raise Unreachable(f"{field}: {name} could not be read ({type(error).__name__})") from error
    return content


def _parse(content: bytes, name: str, field: str) -> Any:
    import pandas as pd

    suffix = _suffix(name, field)
    try:
        if suffix in _PARQUET:
            frame = pd.read_parquet(io.BytesIO(content))
        else:
            frame = pd.read_csv(io.BytesIO(content), compression="gzip" if suffix == ".csv.gz" else None)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()  # not even a header: a batch without columns and rows
    except Exception as error:  # each reader has its own errors; the texts may quote the data
        raise InvalidInput(
            f"{name} is damaged or not {suffix.strip('.')} ({type(error).__name__}, {len(content):,} bytes)",
            field=field,
            value=name,
            remedy="Deliver the file again; write it to another name first and rename it when complete.",
        ) from error
    frame.columns = [str(column) for column in frame.columns]
    return frame
