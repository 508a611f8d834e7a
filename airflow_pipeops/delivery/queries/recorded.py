"""What a DAG, one of its runs, or one of its tasks has recorded."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from airflow_pipeops.delivery.queries.facts import (
    Fact,
    Page,
    key_of,
    listed,
    paged,
    scope,
    seen,
    select,
)


def recorded(
    connection: sqlite3.Connection,
    dag: str,
    *,
    run: str = "",
    task: str = "",
    map_index: int = -1,
    allowed: Collection[str] | None = None,
    limit: int = 100,
    after: str = "",
) -> Page[Fact]:
    """Read what a DAG has recorded, the newest first, with what is not believed.

    :param connection: to the index.
    :param dag: its id.
    :param run: of this run alone.
    :param task: of this task alone, in this run.
    :param map_index: of this one of the task's instances alone; -1 for all.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: facts of a page.
    :param after: what the page before said.
    :return: a page.
    :raises InvalidInput: if no page has said so.
    """
    wanted = " AND run_id = :run" if run else ""
    wanted += " AND task_id = :task" if run and task else ""
    wanted += " AND map_index = :map_index" if run and task and map_index >= 0 else ""
    by = "by_run" if run else "by_dag"
    found = select(
        connection,
        f"""seq IN (
            SELECT seq FROM records INDEXED BY {by} WHERE dag_id = :dag{wanted}{seen(allowed)}
            AND (:after = 0 OR seq < :after) ORDER BY seq DESC LIMIT :limit
        ) ORDER BY seq DESC""",
        {
            "dag": dag,
            "run": run,
            "task": task,
            "map_index": map_index,
            "after": key_of(after)["seq"],
            "limit": limit + 1,
            **scope(allowed),
        },
    )
    return paged(found, limit)


def told_by(connection: sqlite3.Connection, dags: Collection[str]) -> frozenset[str]:
    """Name the deliverables that any of these DAGs has recorded something about."""
    rows = connection.execute(
        """
        WITH RECURSIVE pairs(dag, name) AS (
            SELECT value, (SELECT min(deliverable) FROM records INDEXED BY by_dag WHERE dag_id = value) FROM json_each(?)
            UNION ALL
            SELECT dag, (
                SELECT min(deliverable) FROM records INDEXED BY by_dag WHERE dag_id = dag AND deliverable > name
            ) FROM pairs WHERE name IS NOT NULL
        )
        SELECT DISTINCT name FROM pairs WHERE name IS NOT NULL
        """,
        (listed(dags),),
    )
    return frozenset(row[0] for row in rows)


def backed_by(
    connection: sqlite3.Connection, digest: str, *, allowed: Collection[str] | None = None, limit: int = 20
) -> tuple[Fact, ...]:
    """Read the records that a stored file backs, the newest first.

    :param connection: to the index.
    :param digest: of the file, SHA-256 in hex.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: records at most.
    :return: the records.
    """
    found = select(
        connection,
        f"""seq IN (SELECT seq FROM names WHERE name = :name ORDER BY seq DESC LIMIT :limit){seen(allowed)}
        ORDER BY seq DESC""",
        {"name": f"evidence:{digest}", "limit": limit, **scope(allowed)},
    )
    return tuple(found)
