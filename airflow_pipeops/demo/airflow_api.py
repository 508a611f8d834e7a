"""A small client of Airflow's REST API, as much as the story needs."""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import quote

import httpx

from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    NotFound,
    SystemFailure,
    Unreachable,
)

_TRIES = 4
#: Seconds for one answer.
PATIENCE = 30


class AirflowApi:
    """Talks to one API server as one user.

    :param url: base URL of the API server.
    :param user: user name.
    :param password: of that user.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._credentials = {"username": user, "password": password}
        self._client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def login(self) -> None:
        """Get a token for the calls to come."""
        answer = self._client.post("/auth/token", json=self._credentials)
        if answer.status_code != 201:
            raise AccessDenied(f"Airflow refused the login of {self._credentials['username']!r}")
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def delivery(self, path: str) -> Any:
        """Ask what the Delivery page asks."""
        return self.call("GET", f"/api/{path}", below="/pipeops")

    def call(self, method: str, path: str, *, below: str = "/api/v2", **kwargs: Any) -> Any:
        """Call the API; a read is tried again while the server is busy or away."""
        tries = _TRIES if method == "GET" else 1
        for attempt in range(1, tries + 1):
            try:
                answer = self._client.request(method, f"{below}{path}", **kwargs)
            except httpx.HTTPError as error:
                if attempt == tries:
                    raise Unreachable(f"Airflow does not answer {method} {path}: {error}") from error
            else:
                if answer.status_code < 500 or attempt == tries:
                    return self._read(method, path, answer)
            time.sleep(attempt)
        raise AssertionError("unreachable")

    def _read(self, method: str, path: str, answer: httpx.Response) -> Any:
        if answer.status_code == 404:
            raise NotFound(f"Airflow has no {path}")
        if answer.status_code in (401, 403):
            raise AccessDenied(f"Airflow answered {answer.status_code} to {method} {path}")
        if answer.is_error:
            kind: type[SystemFailure] = Unreachable if answer.status_code >= 500 else BadResponse
            if answer.status_code == 409:
                kind = Conflict
            raise kind(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:300]}")
        return answer.json() if answer.content else None

    def health(self) -> dict[str, str]:
        """Return the status of each component."""
        return {
            name: (part or {}).get("status") or ""
            for name, part in self.call("GET", "/monitor/health").items()
        }

    def scheduler_beat(self) -> str:
        """Return when the scheduler last said that it lives, which it does between two rounds of its work."""
        found = self.call("GET", "/monitor/health")["scheduler"]
        return str(found.get("latest_scheduler_heartbeat"))

    def dags(self) -> list[str]:
        """Return the ids of all DAGs that Airflow knows."""
        return [dag["dag_id"] for dag in self.call("GET", "/dags", params={"limit": 100})["dags"]]

    def import_errors(self) -> list[str]:
        """Return what kept DAG files from being read."""
        return [error["stack_trace"] for error in self.call("GET", "/importErrors")["import_errors"]]

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return the connections by id; Airflow hides what is secret in them."""
        found = self.call("GET", "/connections", params={"limit": 100})["connections"]
        return {connection["connection_id"]: connection for connection in found}

    def unpause(self, dag: str) -> None:
        """Let a DAG run, and let its file be read again: from then on what it watches is watched."""
        found = self.call("PATCH", f"/dags/{dag}", json={"is_paused": False})
        with contextlib.suppress(Conflict):  # it is asked for already
            self.call("PUT", f"/parseDagFile/{found['file_token']}")

    def trigger(self, dag: str, conf: dict[str, Any] | None = None, run: str = "") -> str:
        """Start a run and return its id; one that has an id of ours can be started again without harm: see ``Conflict``."""
        body = {"logical_date": None, "conf": conf or {}, **({"dag_run_id": run} if run else {})}
        made = self.call("POST", f"/dags/{dag}/dagRuns", json=body)
        return str(made["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return a DAG's runs, oldest first."""
        found = self.call("GET", f"/dags/{dag}/dagRuns", params={"limit": 100, "order_by": "run_after"})
        return list(found["dag_runs"])

    def run(self, dag: str, run: str) -> dict[str, Any]:
        """Return one run."""
        return dict(self.call("GET", f"/dags/{dag}/dagRuns/{quote(run, safe='')}"))

    def task_instances(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances"
        return list(self.call("GET", path, params={"limit": 100})["task_instances"])

    def task_instance(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """Return one task instance of a run."""
        return dict(self.call("GET", f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}"))

    def xcom(self, dag: str, run: str, task: str, map_index: int = -1) -> Any:
        """Return what a task returned, or ``None`` where it returned nothing."""
        path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}/xcomEntries/return_value"
        try:
            return self.call("GET", path, params={"deserialize": "true", "map_index": map_index})["value"]
        except NotFound:
            return None

    def upstream(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Return the asset events that started a run."""
        path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/upstreamAssetEvents"
        return list(self.call("GET", path)["asset_events"])

    def asset_state(self, name: str) -> list[dict[str, Any]]:
        """Return what a watcher keeps in the state store of its asset; empty before its first look."""
        assets = self.call("GET", "/assets", params={"name_pattern": name, "limit": 100})["assets"]
        found = [asset["id"] for asset in assets if asset["name"] == name]
        page = self.call("GET", f"/assets/{found[0]}/state-store") if found else {}
        return next((value for value in page.values() if isinstance(value, list)), [])

    def respond(self, dag: str, run: str, task: str, option: str) -> None:
        """Answer a task that asks a person."""
        path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, json={"chosen_options": [option], "params_input": {}})
