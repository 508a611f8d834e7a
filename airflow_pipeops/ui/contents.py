"""What a browser needs to verify records by itself: each as it was hashed, and its proof."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from airflow_pipeops.delivery.queries.facts import Fact
from airflow_pipeops.delivery.records import STAMPS


def contents(connection: sqlite3.Connection, facts: Sequence[Fact]) -> dict[str, Any]:
    """Return records as they were emitted.

    :param connection: to the index.
    :param facts: the records.
    :return: ``contents`` by id, ``outside``: the names that are no part of what was hashed, and the ``proof`` of the first.
    """
    rows = connection.execute(
        "SELECT id, content FROM records WHERE seq IN (SELECT value FROM json_each(?))",
        (json.dumps([fact.seq for fact in facts]),),
    )
    return {
        "contents": {row[0]: json.loads(row[1]) for row in rows},
        "outside": ["id", *sorted(STAMPS)],
        "proof": None,
    }
