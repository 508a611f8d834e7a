"""Plays Argo CD's application controller on the API server for tests: compares, synchronises, terminates, deletes.

Only what clients can see of it: which fields it writes, in which order, and with times of whole seconds.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Any

from airflow_pipeops.argocd.application import REFRESH
from airflow_pipeops.argocd.clients.requests import RESOURCES_FINALIZER, is_automated
from tests.kubernetes.apiserver import ApiServer

APPLICATIONS = ("argoproj.io", "v1alpha1", "applications")
Application = dict[str, Any]


class Controller:
    """Runs in a thread of its own.

    :param api: where the Applications are.
    """

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: repoURL -> commit that all its branches are at.
        self.heads: dict[str, str] = {}
        #: Names of Applications whose refreshes are never acknowledged.
        self.hung: set[str] = set()
        #: Names of Applications whose operations never end by themselves.
        self.stuck: set[str] = set()
        #: Names of Applications whose operations a closed sync window holds back.
        self.blocked: set[str] = set()
        #: Names of Applications that are compared only when somebody asks.
        self.idle: set[str] = set()
        #: Names of all operations' starts, to count them.
        self.started: list[str] = []

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for found in self._api.all("applications"):
                metadata = found["metadata"]
                self._api.change("applications", metadata["namespace"], metadata["name"], self._step)

    def _step(self, app: Application) -> None:
        """Take the next step of one Application, if there is one."""
        metadata, status = app["metadata"], app.setdefault("status", {})
        if metadata.get("deletionTimestamp"):
            kept = [item for item in metadata.get("finalizers") or [] if item != RESOURCES_FINALIZER]
            metadata["finalizers"] = kept
            return
        if app.get("operation"):
            self._operate(app, status)
            return
        annotations = metadata.get("annotations") or {}
        asked = REFRESH in annotations and metadata["name"] not in self.hung
        first = "sync" not in status and metadata["name"] not in self.idle
        if asked or first or status.pop("_again", False):
            self._compare(app, status)
            if asked:
                del annotations[REFRESH]
        if is_automated(app) and "sync" in status and status["sync"]["status"] == "OutOfSync":
            revision = status["sync"]["revision"]
            app["operation"] = {"initiatedBy": {"automated": True}, "sync": {"revision": revision}}

    def _compare(self, app: Application, status: Application) -> None:
        revision = self._resolve(app, app["spec"]["source"].get("targetRevision") or "HEAD")
        live = status.get("_live")
        status["sync"] = {
            "status": "Synced" if live == revision else "OutOfSync",
            "revision": revision,
            "comparedTo": {"source": app["spec"]["source"], "destination": app["spec"]["destination"]},
        }
        health = "Healthy" if live else "Missing"
        if (status.get("health") or {}).get("status") != health:
            status["health"] = {"status": health, "lastTransitionTime": _now()}
        status["reconciledAt"] = _now()

    def _operate(self, app: Application, status: Application) -> None:
        state = status.get("operationState")
        if state is None:
            self.started.append(app["metadata"]["name"])
            status["operationState"] = {
                "phase": "Running",
                "operation": app["operation"],
                "startedAt": _now(),
                "message": "waiting for healthy state",
            }
            return
        if state["phase"] == "Terminating":
            self._finish(app, state, "Failed", "Operation terminated")
        elif app["metadata"]["name"] in self.blocked:
            state["message"] = "operation is blocked by sync window"
        elif app["metadata"]["name"] not in self.stuck:
            revision = self._resolve(app, app["operation"]["sync"]["revision"])
            state["syncResult"] = {"revision": revision, "source": app["spec"]["source"], "resources": []}
            self._finish(app, state, "Succeeded", "successfully synced (all tasks run)")
            history = status.setdefault("history", [])
            entry = {"id": len(history), "revision": revision, "source": app["spec"]["source"]}
            history.append({**entry, "deployedAt": _now(), "deployStartedAt": state["startedAt"]})
            status["_live"] = revision

    def _finish(self, app: Application, state: Application, phase: str, message: str) -> None:
        state.update(phase=phase, message=message, finishedAt=_now())
        del app["operation"]
        # The comparison that follows is a step of its own: until then sync and health are those from before.
        app["status"]["_again"] = True

    def _resolve(self, app: Application, revision: str) -> str:
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        return self.heads[app["spec"]["source"]["repoURL"]]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
