"""How an operation's progress is written into ``status.operationState`` and the history."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.demo.sandbox import spec
from airflow_pipeops.demo.sandbox.store import Application
from airflow_pipeops.demo.sandbox.wire import now

_HISTORY_LIMIT = 10


def begin(document: Application) -> None:
    """Write that the operation runs."""
    document["status"]["operationState"] = {
        "operation": document["operation"],
        "phase": "Running",
        "startedAt": now(),
        "message": "",
    }


def begin_attempt(document: Application) -> None:
    """Write that the next attempt runs; with ``retry.refresh`` it takes the newest commit."""
    state = document["status"]["operationState"]
    state.pop("finishedAt", None)
    state.pop("syncResult", None)
    sync = document["operation"].get("sync") or {}
    if (document["operation"].get("retry") or {}).get("refresh"):
        sync.pop("revision", None)


def begin_result(document: Application, revision: str, sync: dict[str, Any]) -> None:
    """Write what is being synced. After a restart at the same commit, what was done is not done again."""
    state = document["status"]["operationState"]
    before = state.get("syncResult") or {}
    state["syncResult"] = {
        "revision": revision,
        "source": dict(sync.get("source") or spec.source(document)),
        "resources": before.get("resources", []) if before.get("revision") == revision else [],
    }


def set_message(document: Application, text: str) -> None:
    """Write what the operation waits for."""
    document["status"]["operationState"]["message"] = text


def fail_hook(document: Application, entry: dict[str, Any]) -> None:
    """Write that a hook was ended."""
    for item in document["status"]["operationState"]["syncResult"]["resources"]:
        if item == entry:
            item["hookPhase"], item["message"] = "Failed", "terminated"


def remember(document: Application, state: dict[str, Any]) -> None:
    """Add to the history; partial syncs (self-healing among them) and dry runs leave none."""
    sync = state["operation"].get("sync") or {}
    if sync.get("dryRun") or sync.get("resources") is not None:
        return
    history = document["status"].setdefault("history", [])
    result = state["syncResult"]
    history.append(
        {
            "id": history[-1]["id"] + 1 if history else 0,
            "revision": result["revision"],
            "deployStartedAt": state["startedAt"],
            "deployedAt": state["finishedAt"],
            "initiatedBy": state["operation"].get("initiatedBy", {}),
            "source": result["source"],
        }
    )
    del history[: -int(document["spec"].get("revisionHistoryLimit") or _HISTORY_LIMIT)]
