"""Keep a file that backs a record: content-addressed, in a folder or object store."""

from __future__ import annotations

import hashlib

from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.exceptions import InvalidInput


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
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return Evidence(name=name, uri=str(target), sha256=digest, media_type=media_type)
