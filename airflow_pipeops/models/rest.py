"""The few calls of MLflow's REST API that the registry needs: bounded in time and size, over TLS that can be configured.

MLflow's own client waits for an answer as long as each byte comes in time, however many there are.
"""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.base.http import asked, bearer, trusting
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_API = "/api/2.0/mlflow"


class Absent(NotFound):
    """MLflow itself says that it knows no such model, version or alias; a server that is none says something else."""


class Exists(Conflict):
    """There is one of that name."""


class RestClient:
    """As much of MLflow's client as the registry calls, for a server.

    :param url: of the server, without a slash at its end.
    :param username: with a password; without one, that is a token.
    :param password: of the user, or a token; empty for neither.
    :param ca_file: PEM file of a private authority.
    :param timeout: seconds for one call, the whole of the answer included.
    """

    def __init__(self, url: str, username: str, password: str, *, ca_file: str, timeout: float) -> None:
        self.url, self.timeout, self.ca_file = url.rstrip("/"), timeout, ca_file
        self._headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
        if username and password:
            basic = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        else:
            self._headers |= bearer(password)

    def search_registered_models(self, max_results: int) -> list[Any]:
        """Return models, one page."""
        answer = self._asked("GET", "registered-models/search", "models", {"max_results": str(max_results)})
        return maps(answer.get("registered_models"))

    def create_registered_model(self, name: str, tags: Mapping[str, str] | None = None) -> None:
        """Make a model.

        :raises Exists: if there is one of that name.
        """
        sent = {"name": name, **({"tags": _pairs(tags)} if tags else {})}
        self._asked("POST", "registered-models/create", f"model {name!r}", sent)

    def get_registered_model(self, name: str) -> Any:
        """Return a model with its tags."""
        found = self._asked("GET", "registered-models/get", f"model {name!r}", {"name": name})
        return SimpleNamespace(name=name, tags=_tags(map_(found.get("registered_model"))))

    def create_model_version(
        self, name: str, *, source: str, tags: Mapping[str, str], run_id: str | None = None
    ) -> Any:
        """Make a version, and return it."""
        sent = {
            "name": name,
            "source": source,
            "tags": _pairs(tags),
            **({"run_id": run_id} if run_id else {}),
        }
        return _version(self._asked("POST", "model-versions/create", f"model {name!r}", sent))

    def search_model_versions(self, filter_string: str) -> list[Any]:
        """Return the versions that a filter names, one page."""
        asked = {"filter": filter_string, "max_results": "1000"}
        answer = self._asked("GET", "model-versions/search", "versions", asked)
        return [_version({"model_version": one}) for one in maps(answer.get("model_versions"))]

    def get_model_version(self, name: str, version: str) -> Any:
        """Return a version."""
        asked = {"name": name, "version": str(version)}
        return _version(self._asked("GET", "model-versions/get", f"version {version} of {name!r}", asked))

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """Return the version that an alias names."""
        asked = {"name": name, "alias": alias}
        return _version(self._asked("GET", "registered-models/alias", f"alias {alias!r} of {name!r}", asked))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        sent = {"name": name, "alias": alias, "version": version}
        self._asked("POST", "registered-models/alias", f"alias {alias!r} of {name!r}", sent)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        sent = {"name": name, "version": version, "key": key, "value": value}
        self._asked("POST", "model-versions/set-tag", f"version {version} of {name!r}", sent)

    def delete_model_version(self, name: str, version: str) -> None:
        """Delete a version."""
        sent = {"name": name, "version": version}
        self._asked("DELETE", "model-versions/delete", f"version {version} of {name!r}", sent)

    def create_experiment(self, name: str) -> str:
        """Make an experiment.

        :return: its id.
        :raises Exists: if there is one of that name.
        """
        answer = self._asked("POST", "experiments/create", f"experiment {name!r}", {"name": name})
        return text(answer.get("experiment_id"))

    def get_experiment_by_name(self, name: str) -> Any:
        """Return an experiment."""
        found = self._asked(
            "GET", "experiments/get-by-name", f"experiment {name!r}", {"experiment_name": name}
        )
        return SimpleNamespace(experiment_id=text(map_(found.get("experiment")).get("experiment_id")))

    def search_runs(self, experiment_ids: list[str], filter_string: str) -> list[Any]:
        """Return the runs that a filter names, one page."""
        asked = {"experiment_ids": experiment_ids, "filter": filter_string}
        return [_run(one) for one in maps(self._asked("POST", "runs/search", "runs", asked).get("runs"))]

    def create_run(self, experiment_id: str, start_time: int, tags: Mapping[str, str]) -> Any:
        """Make a run, and return it."""
        sent = {"experiment_id": experiment_id, "start_time": start_time, "tags": _pairs(tags)}
        return _run(map_(self._asked("POST", "runs/create", "a run", sent).get("run")))

    def log_batch(
        self, run_id: str, points: Sequence[tuple[str, float, int]], parameters: Mapping[str, str], at: int
    ) -> None:
        """Log metrics, as name, value and step at a time in milliseconds, and parameters."""
        metrics = [{"key": key, "value": value, "timestamp": at, "step": step} for key, value, step in points]
        sent = {"run_id": run_id, "metrics": metrics, "params": _pairs(parameters)}
        self._asked("POST", "runs/log-batch", f"run {run_id}", sent)

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run."""
        sent = {"run_id": run_id, "status": status, "end_time": end_time}
        self._asked("POST", "runs/update", f"run {run_id}", sent)

    def _asked(self, method: str, path: str, about: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        sent = {"params" if method == "GET" else "json": dict(given)}
        return asked(
            method,
            self.url,
            f"{_API}/{path}",
            about=about,
            error_of=_error_of,
            headers=self._headers,
            timeout=self.timeout,
            verify=trusting({"ca_file": self.ca_file}),
            **sent,
        )


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _run(found: Mapping[str, Any]) -> Any:
    info = map_(found.get("info"))
    at = str(info.get("start_time") or "0")  # 64 bits, which protobuf writes as a text
    return SimpleNamespace(
        info=SimpleNamespace(run_id=text(info.get("run_id")), start_time=int(at) if at.isdecimal() else 0)
    )


def _version(answer: Mapping[str, Any]) -> Any:
    found = map_(answer.get("model_version"))
    return SimpleNamespace(
        name=text(found.get("name")),
        version=text(found.get("version")),
        source=text(found.get("source")),
        tags=_tags(found),
    )


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return {text(tag.get("key")): text(tag.get("value")) for tag in maps(found.get("tags"))}


def _error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than success into an error of ours."""
    try:
        body = map_(parsed(content))
    except ValueError:
        body = {}
    code, message = text(body.get("error_code")), excerpt(text(body.get("message")), 300)
    said = f"the registry at {url} refused {about} (HTTP {status}): {message or excerpt(content, 200)}"
    if 300 <= status < 400:
        return InvalidInput(
            f"{url} redirects elsewhere (HTTP {status})",
            field="host",
            remedy="Give the final URL, most often https.",
        )
    if status in (401, 403) or code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED"):
        return AccessDenied(said, remedy="Check the login and the password of the connection.")
    if code == "RESOURCE_DOES_NOT_EXIST" or (
        code == "INVALID_PARAMETER_VALUE" and "not found" in message.lower()
    ):
        return Absent(said)
    if code in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_CONFLICT"):
        return Exists(said)
    if status == 429 or status >= 500:
        return Unreachable(said)
    if code:
        return SystemFailure(said)
    return NotFound(said, remedy="Is the URL, with its path, that of an MLflow server?")
