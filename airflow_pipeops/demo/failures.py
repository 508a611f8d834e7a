"""What a person needs when the story breaks: which task, where its log is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_pipeops.exceptions import PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.demo.stack import Stack

#: States of a task that is not over, or that ended in a way that the story may not have wanted.
_OPEN = (
    "failed",
    "upstream_failed",
    "up_for_retry",
    "running",
    "deferred",
    "queued",
    "scheduled",
    "awaiting_input",
)


def explain(stack: Stack, error: Exception | None = None) -> list[str]:
    """Return the lines that tell why the story ended, with the tasks in question, their logs, and the next step.

    :param error: what ended it; ``None`` where it was told to its end.
    :return: the lines.
    """
    told = [f"✗ The story ended: {error}", ""] if error is not None else []
    try:
        tasks = [task for dag in stack.api.dags() for task in _newest(stack, dag)]
    except PipeOpsError as problem:
        told.append(f"Airflow cannot say which task it was: {problem}")
        tasks = []
    for task in suspects(tasks):
        log = latest_log(stack.home / "airflow" / "logs", task)
        told.append(f"  {task['dag_id']}.{named(task)} is {task['state']} (try {task['try_number']})")
        told.append(f"    log:  {log or 'none was written yet'}")
        told.append(f"    page: {page(stack.url, task)}")
    told += [
        f"  what each process said: {stack.home / 'logs'}",
        "",
        'Next: read the log of the first task above; "Clear" on its page runs it again, and what follows it.',
    ]
    return told


def named(task: dict[str, Any]) -> str:
    """Return how people call a task instance: one of several of a task by what it is about."""
    index = task.get("map_index", -1)
    return task["task_id"] if index < 0 else f"{task['task_id']}[{task.get('rendered_map_index') or index}]"


def suspects(tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tasks that are in the way, failed ones first; what waits behind a failed task is left out."""
    found = [task for task in tasks if task["state"] in _OPEN and task["state"] != "upstream_failed"]
    return sorted(found, key=lambda task: (_OPEN.index(task["state"]), task["dag_id"], task["task_id"]))[:8]


def latest_log(folder: Path, task: dict[str, Any]) -> Path | None:
    """Return the newest log of a task instance, as Airflow lays them out."""
    place = (
        folder / f"dag_id={task['dag_id']}" / f"run_id={task['dag_run_id']}" / f"task_id={task['task_id']}"
    )
    if (index := task.get("map_index", -1)) >= 0:
        place /= f"map_index={index}"
    logs = [path for path in place.rglob("*.log*") if path.is_file()]
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def page(url: str, task: dict[str, Any]) -> str:
    """Return the address of a task instance's page in Airflow."""
    run, name = quote(task["dag_run_id"], safe=""), quote(task["task_id"], safe="")
    mapped = f"/mapped/{index}" if (index := task.get("map_index", -1)) >= 0 else ""
    return f"{url}/dags/{task['dag_id']}/runs/{run}/tasks/{name}{mapped}"


def _newest(stack: Stack, dag: str) -> list[dict[str, Any]]:
    runs = stack.api.runs(dag)
    return stack.api.task_instances(dag, runs[-1]["dag_run_id"]) if runs else []
