"""Keep a file that backs a record: content-addressed, in a folder or object store."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def store(
    content: bytes, name: str, *, media_type: str = "application/octet-stream", base_uri: str | None = None
) -> Evidence:
    """Store ``content`` under its digest and say where it is. Storing it again changes nothing.

    :param content: the bytes.
    :param name: file name, for example ``drift.html``; no slashes.
    :param media_type: for example ``text/html``.
    :param base_uri: folder or object-store prefix; by default ``[pipeops] evidence_uri``.
    """
    from airflow.sdk import ObjectStoragePath

    if not name or "/" in name or name.startswith("."):
        raise InvalidInput(f"evidence name {name!r} is not a plain file name", field="name", value=name)
    if base_uri is None:
        from airflow_pipeops.settings import evidence_uri

        base_uri = evidence_uri()
    digest = hashlib.sha256(content).hexdigest()
    folder = ObjectStoragePath(base_uri) / digest[:2] / digest
    target = folder / name
    if not (target.exists() and target.stat().st_size == len(content)):
        folder.mkdir(parents=True, exist_ok=True)
        _write(target, content)
    return Evidence(name=name, uri=str(target), sha256=digest, media_type=media_type)


def _write(target: ObjectStoragePath, content: bytes) -> None:
    """Write whole or not at all: object stores do so themselves, a folder needs a rename."""
    if target.protocol != "file":
        target.write_bytes(content)
        return
    final = Path(target.path)
    unfinished = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)
