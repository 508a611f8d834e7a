"""The files that a source names: found, checked for being there, and told apart from others."""

from __future__ import annotations

import glob
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_pipeops.drift.sources import Files
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable

_ENDS = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".csv.gz")}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Listed:
    """Files in the order of their names.

    :param paths: as DuckDB reads them.
    :param sizes: in bytes.
    :param format: ``parquet`` or ``csv``.
    :param filesystem: of fsspec; ``None`` for local files.
    :param digest: of their content, if it was asked for.
    """

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    format: str
    filesystem: Any = None
    digest: str = ""

    def identity(self) -> dict[str, Any]:
        """Return how many files, their bytes, and a digest of names and sizes (and of the content, if asked for)."""
        named = "\n".join(f"{path}\t{size}" for path, size in zip(self.paths, self.sizes, strict=True))
        found = {
            "files": len(self.paths),
            "bytes": sum(self.sizes),
            "listing": hashlib.sha256(named.encode()).hexdigest(),
        }
        return {**found, "sha256": self.digest} if self.digest else found


def listed(source: Files, field: str) -> Listed:
    """Find the files.

    :raises NotFound: if there are none.
    """
    found: dict[str, int] = {}
    remote: Any = None
    for name in source.paths:
        filesystem, path, pattern, protocol = _located(name, source.storage_conn_id)
        for one, size in _matching(filesystem, path, pattern, name, source.format, field).items():
            found[f"{protocol}://{one.lstrip('/')}" if protocol else one] = size
        if protocol:
            remote = filesystem
    paths = tuple(sorted(found))
    if remote is not None and any(path.startswith("/") for path in paths):
        raise InvalidInput(f"{field} mixes local and remote files", field=field, value=list(source.paths))
    digest = _checksum(paths, remote, field) if source.checksum else ""
    return Listed(paths, tuple(found[path] for path in paths), source.format, remote, digest)


def _located(name: str, storage_conn_id: str | None) -> tuple[Any, str, str, str]:
    """Return the file system, the path in it, the same as a pattern, and its protocol, which is empty for local files.

    Only what a person wrote is a pattern: not the root of a connection, nor the folder in which this process stands.
    """
    if (
        storage_conn_id is None and "://" not in name
    ):  # Airflow takes seconds to import, and is not needed for this
        from fsspec.implementations.local import LocalFileSystem

        given = Path(name).expanduser()
        here = "" if given.is_absolute() else glob.escape(str(Path.cwd())) + "/"
        return LocalFileSystem(), str(given.absolute()), here + str(given), ""
    from airflow.sdk import ObjectStoragePath

    if storage_conn_id is None:
        path = ObjectStoragePath(name)
        pattern = path.path
    else:
        from airflow_pipeops.base.storage import StorageHook

        root = StorageHook(storage_conn_id).get_conn()
        path = ObjectStoragePath(name, conn_id=root.conn_id) if "://" in name else root / name
        pattern = path.path if "://" in name else f"{glob.escape(root.path).rstrip('/')}/{name}"
    return path.fs, path.path, pattern, "" if path.protocol in ("file", "local", "") else path.protocol


def _matching(filesystem: Any, path: str, pattern: str, name: str, format: str, field: str) -> dict[str, int]:
    ends = _ENDS[format]
    try:
        # What is there by this very name is that, and no pattern.
        if set("*?[") & set(name) and not filesystem.exists(path):
            found = filesystem.glob(pattern, detail=True)
        elif filesystem.isdir(path):
            every = filesystem.find(path, detail=True)
            found = {
                one: facts
                for one, facts in every.items()
                if one.lower().endswith(ends) and not _hidden(one.removeprefix(path))
            }
        else:
            found = {path: filesystem.info(path)}
    except FileNotFoundError as error:
        raise NotFound(f"{field}: there is no file {name}", remedy="Check the URI.") from error
    except PermissionError as error:
        raise AccessDenied(f"{field}: {name} may not be read") from error
    except OSError as error:
        raise Unreachable(f"{field}: {name} could not be listed ({type(error).__name__})") from error
    sizes = {
        one: int(facts.get("size") or 0) for one, facts in found.items() if facts.get("type") != "directory"
    }
    if not sizes:
        raise NotFound(f"{field}: no {format} file matches {name}", remedy="Check the URI.")
    return sizes


def _hidden(path: str) -> bool:
    """Whether it is what writers keep beside the data, such as ``_temporary/``."""
    return any(part.startswith(("_", ".")) for part in path.split("/") if part)


def _checksum(paths: tuple[str, ...], filesystem: Any, field: str) -> str:
    """SHA-256 of the file's bytes; of several files, of their sorted hex digests, one a line."""
    digests = []
    for path in paths:
        running = hashlib.sha256()
        try:
            with open(path, "rb") if filesystem is None else filesystem.open(path, "rb") as stream:
                while block := stream.read(_BLOCK):
                    running.update(block)
        except OSError as error:
            raise Unreachable(f"{field}: a file could not be read ({type(error).__name__})") from error
        digests.append(running.hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    )
