"""Files that are there whole, or not at all. It knows nothing of Airflow, which a model's server would load for it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import Unsupported

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: Object stores that create an object only where there is none, in one step.
_CREATING = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})


def write_whole(target: ObjectStoragePath | Path, content: bytes) -> None:
    """Write a file whole or not at all: object stores do so themselves, a folder needs a rename.

    :param target: whose folder is made where it is not there.
    :param content: of the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if getattr(target, "protocol", "file") != "file":  # a plain path has none
        target.write_bytes(content)
        return
    final = Path(str(getattr(target, "path", target)))
    unfinished = final.with_name(f".{uuid.uuid4().hex}")  # not longer than the name itself may be
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)


def create(target: ObjectStoragePath | Path, content: bytes) -> bool:
    """Write a file whole, unless there is one of this name: of several that do so at once, one succeeds.

    :param target: whose folder is made where it is not there.
    :param content: of the file; it differs for each caller, or callers do not mind who was first.
    :return: whether the file that is there now is this one.
    :raises Unsupported: for an object store that cannot do this in one step.
    """
    protocol = getattr(target, "protocol", "file")  # a plain path has none
    if protocol in ("file", "local", ""):
        target.parent.mkdir(parents=True, exist_ok=True)
        final = Path(str(getattr(target, "path", target)))
        unfinished = final.with_name(f".{uuid.uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, final)
        except FileExistsError:
            return final.read_bytes() == content
        finally:
            unfinished.unlink(missing_ok=True)
        return True
    if protocol not in _CREATING:
        raise Unsupported(
            f"{protocol}:// cannot create a file only where there is none",
            field="storage",
            value=str(target),
            remedy=f"Use a folder, or one of {', '.join(sorted(_CREATING - {'memory'}))}.",
        )
    remote: Any = target
    try:
        remote.fs.pipe_file(remote.path, content, mode="create")
    except OSError:
        # It is there; or it is ours, and the answer to the first try was lost. What is there tells.
        remote.fs.invalidate_cache()
        if not remote.exists():
            raise
        return bool(remote.read_bytes() == content)
    return True
