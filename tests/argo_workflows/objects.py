"""Workflows as the API sends them, for tests that need no server."""

from __future__ import annotations

from typing import Any

COMPLETED = {"workflows.argoproj.io/completed": "true"}


def workflow(phase: str = "", **more: Any) -> dict[str, Any]:
    """Return a workflow in a phase.

    :param more: ``uid``, ``labels``, ``spec``; all else is part of its status.
    """
    labels = dict(more.pop("labels", COMPLETED if phase in ("Succeeded", "Failed", "Error") else {}))
    metadata = {"name": "train", "namespace": "argo", "uid": more.pop("uid", "u1"), "labels": labels}
    if more.pop("deleting", False):
        metadata["deletionTimestamp"] = "2026-11-29T12:00:00Z"
    status: dict[str, Any] = {"phase": phase, "startedAt": None, "finishedAt": None}
    if phase not in ("", "Pending"):
        status["startedAt"] = "2026-11-29T10:00:00Z"
    if phase in ("Succeeded", "Failed", "Error"):
        status["finishedAt"] = "2026-11-29T11:00:00Z"
    return {"metadata": metadata, "spec": more.pop("spec", {}), "status": {**status, **more}}


def node(name: str, phase: str, **more: Any) -> dict[str, Any]:
    """Return a node."""
    given = {
        "id": f"train-{abs(hash(name)) % 10**6}",
        "name": f"train.{name}",
        "displayName": name,
        "type": "Pod",
    }
    outputs = {"exitCode": str(more.pop("exit_code"))} if "exit_code" in more else {}
    return {**given, "templateName": "step", "phase": phase, "outputs": outputs, "finishedAt": None, **more}


def nodes(*given: dict[str, Any]) -> dict[str, Any]:
    """Return the table of some nodes."""
    return {one["id"]: one for one in given}
