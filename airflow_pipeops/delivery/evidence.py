"""Keep a file that backs a record: content-addressed, in a folder or object store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_pipeops.base.files import write_whole
from airflow_pipeops.delivery.records import Evidence, file_name

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def store(
    content: bytes,
    name: str,
    *,
    media_type: str = "application/octet-stream",
    base_uri: str | None = None,
    dag_id: str = "",
) -> Evidence:
    """Store ``content`` under its digest. Storing it again changes nothing, but for a file that was damaged meanwhile.

    :param content: the bytes.
    :param name: file name, for example ``drift.html``; no slashes, no control characters, at most 255 bytes.
    :param media_type: for example ``text/html``.
    :param base_uri: folder or object-store prefix; by default ``[pipeops] evidence_uri``.
    :param dag_id: whoever may read this DAG may read the file in Airflow; by default nobody may.
    :return: what it is, and where.
    """
    file_name(name)
    digest = hashlib.sha256(content).hexdigest()
    folder = _folder(digest, base_uri)
    target = folder / name
    if not (target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == digest):
        write_whole(target, content)
    if dag_id and not (reader := folder / _reader(dag_id)).exists():
        write_whole(reader, dag_id.encode())
    return Evidence(name=name, uri=str(target), sha256=digest, media_type=media_type)


def read(digest: str, name: str, *, dag_id: str, base_uri: str | None = None) -> bytes | None:
    """Read a stored file.

    :param digest: SHA-256, in hex; without a slash.
    :param name: file name; without a slash.
    :return: its bytes; ``None`` if it is not there, no task of that DAG stored it, or it was tampered with.
    """
    if not (_folder(digest, base_uri) / _reader(dag_id)).exists():
        return None
    return kept(digest, name, base_uri=base_uri)


def kept(digest: str, name: str, *, base_uri: str | None = None) -> bytes | None:
    """Read a stored file, whichever DAG stored it: for a task that goes on with it, and shows it to nobody.

    :param digest: SHA-256, in hex; without a slash.
    :param name: file name; without a slash.
    :return: its bytes; ``None`` if it is not there, or was tampered with.
    """
    target = _folder(digest, base_uri) / name
    if "/" in digest + name or not target.is_file():
        return None
    content: bytes = target.read_bytes()
    return content if hashlib.sha256(content).hexdigest() == digest else None


def url(evidence: Evidence, dag_id: str) -> str:
    """Return the address under which Airflow shows a file that was stored with this ``dag_id``."""
    from airflow.sdk.configuration import conf

    server = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{server}/pipeops/evidence/{quote(dag_id, safe='')}/{evidence.sha256}/{quote(evidence.name)}"


def _folder(digest: str, base_uri: str | None) -> ObjectStoragePath:
    from airflow.sdk import ObjectStoragePath

    from airflow_pipeops.base.configuration import evidence_uri

    return ObjectStoragePath(base_uri or evidence_uri()) / digest[:2] / digest


def _reader(dag_id: str) -> str:
    """Return the name of the mark that says which DAG's readers may read the folder; no evidence starts with a dot."""
    return f".dag-{hashlib.sha256(dag_id.encode()).hexdigest()}"
