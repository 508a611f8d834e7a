"""Content-addressed files and tables in a folder or an object store."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.exceptions import AccessDenied, BadResponse, InvalidInput, NotFound

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.base.delimited import Csv
    from airflow_pipeops.base.tables import Table


def sha256(content: bytes) -> str:
    """Return the hex digest."""
    return hashlib.sha256(content).hexdigest()


def at(uri: str) -> Any:
    """Return the path that a URI names: a local one for ``file://`` or a plain path, else an object-store path."""
    from pathlib import Path

    if uri.startswith("file://"):
        local = uri.removeprefix("file://")
        return Path(local) if Path(local).exists() else Path(unquote(local))
    if "://" not in uri:
        return Path(uri)
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(uri)


def uri_of(path: Any) -> str:
    """Return the URI of a path that :func:`at` or a storage hook gave."""
    text = str(path)
    return text if "://" in text else f"file://{os.path.abspath(text)}"


def put(path: Any, content: bytes) -> None:
    """Write a file whole or not at all. One that is there with the same bytes is left alone."""
    path = at(uri_of(path))
    if path.exists() and path.read_bytes() == content:
        return
    write_whole(path, content)


def get(uri: str, digest: str | None = None) -> bytes:
    """Read a file.

    :param digest: what its bytes must hash to.
    :return: its bytes.
    :raises NotFound: if it is not there.
    :raises AccessDenied: if it may not be read.
    :raises InvalidInput: if its bytes are others.
    """
    try:
        content: bytes = at(uri).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no file {uri}", remedy="Check the URI and the storage connection."
        ) from error
    except PermissionError as error:
        raise AccessDenied(
            f"{uri} may not be read",
            remedy="Give the worker, or the storage connection, the right to read it.",
        ) from error
    if digest is not None:
        demand(uri, sha256(content), digest)
    return content


def demand(uri: str, found: str, wanted: str) -> None:
    """Refuse a file that is another than it was.

    :param found: digest of its bytes.
    :param wanted: what it should be.
    :raises InvalidInput: if they differ.
    """
    if found != wanted:
        raise InvalidInput(
            f"{uri} has been altered: it hashes to {found}, not {wanted}", field="sha256", value=wanted
        )


def read_tables(uris: list[str], options: Csv | None = None) -> tuple[pd.DataFrame, str]:
    """Read files one below the other; return their rows and the digest of their bytes. See :func:`read_table`."""
    found = read_table(uris, options)
    return found.frame, found.digest


def read_table(uris: list[str], options: Csv | None = None, *, field: str = "data") -> Table:
    """Read files one below the other.

    :param options: what CSV files do not say of themselves.
    :param field: the name under which the reader knows them.
    :return: their rows, numbered from 0, and the digests of their bytes.
    :raises InvalidInput: if there is none, one is unreadable, or there are no rows; see :func:`.tables.read`.
    """
    from airflow_pipeops.base import tables

    found = tables.read(uris, field=field, options=options)
    if found.frame.empty:
        raise InvalidInput(f"the {field} has no rows: {', '.join(uris)}", field=field, value=uris)
    return replace(found, frame=found.frame.reset_index(drop=True))


def put_table(frame: pd.DataFrame, root: Any, name: str) -> tuple[str, str]:
    """Store a table as Parquet under its digest, ``<root>/data/<sha256>/<name>.parquet``; return URI and digest."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, engine="pyarrow", compression="zstd")
    content = buffer.getvalue()
    digest = sha256(content)
    path = root / "data" / digest / f"{name}.parquet"
    put(path, content)
    return uri_of(path), digest


def bad_manifest(uri: str, why: str) -> BadResponse:
    """Return the error for a file that makes no sense."""
    return BadResponse(f"{uri} makes no sense: {why}")
