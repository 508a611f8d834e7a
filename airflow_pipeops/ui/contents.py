"""What a browser needs to verify records by itself: each as it was hashed, and the proof that the ledger holds it."""

from __future__ import annotations

import json
import logging
import sqlite3
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from airflow_pipeops.base.configuration import ledger_path
from airflow_pipeops.delivery.ledger.checkpoints import Checkpoint, newest
from airflow_pipeops.delivery.ledger.files import WIDTH, Ledger
from airflow_pipeops.delivery.ledger.hook import configured
from airflow_pipeops.delivery.ledger.signatures import PublicKey
from airflow_pipeops.delivery.queries.facts import Fact
from airflow_pipeops.delivery.records import STAMPS

log = logging.getLogger(__name__)


def contents(connection: sqlite3.Connection, facts: Sequence[Fact]) -> dict[str, Any]:
    """Return records as they were emitted.

    :param connection: to the index.
    :param facts: the records.
    :return: ``contents`` by id, and ``outside``: the names that are no part of what was hashed.
    """
    rows = connection.execute(
        "SELECT id, content FROM records WHERE seq IN (SELECT value FROM json_each(?))",
        (json.dumps([fact.seq for fact in facts]),),
    )
    return {
        "contents": {row[0]: json.loads(row[1]) for row in rows},
        "outside": ["id", *sorted(STAMPS)],
    }


def checkpoint() -> str:
    """Return the newest checkpoint of the ledger; empty where there is none, or the ledger cannot be read."""
    try:
        return newest(Ledger.open(ledger_path()))
    except Exception as error:
        log.warning("The checkpoint of the ledger cannot be read: %s", error)
        return ""


def proof(seq: int, note: str) -> dict[str, Any] | None:
    """Return the proof that the ledger holds an entry.

    :param seq: number of the entry.
    :param note: the checkpoint that it leads to.
    :return: the line of the entry, the way from it to the root, and the key; none where the checkpoint is older.
    """
    size = Checkpoint.read(note).size if note else 0
    if seq > size:
        return None
    ledger = Ledger.open(ledger_path())
    key = _key()
    return {
        "line": ledger.lines((seq - 1) // WIDTH)[(seq - 1) % WIDTH].decode(),
        "index": seq - 1,
        "size": size,
        "path": [one.hex() for one in ledger.proof(seq, size)],
        "checkpoint": note,
        "signer": key.name if key else "",
        "key": b64encode(key.raw).decode() if key else "",
        "id": key.id if key else "",
    }


@lru_cache(maxsize=1)
def _key() -> PublicKey | None:
    """Return the public key of the ledger; none where nothing signs it."""
    signer = configured()
    return signer.public if signer else None
