"""Model versions in an MLflow registry, registered once each and named by the digest of their artifact."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.base.http import base_url
from airflow_pipeops.base.retries import jittered
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    MissingExtra,
    ModelRejected,
    NotFound,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.models.rest import Absent, Exists, RestClient
from airflow_pipeops.redaction import excerpt, remember

_PREFIX = "pipeops."
_ATTEMPTS = 5
#: Points of metrics and parameters that MLflow takes at once, and characters of a parameter.
_POINTS, _PARAMETERS, _LONGEST = 1000, 100, 500
#: MLflow reads credentials from the environment of the process, so calls of different connections must not overlap.
_ENVIRONMENT = threading.RLock()

_ERRORS: dict[str, type[SystemFailure]] = {
    "RESOURCE_DOES_NOT_EXIST": Absent,
    "ENDPOINT_NOT_FOUND": NotFound,
    "UNAUTHENTICATED": AccessDenied,
    "CUSTOMER_UNAUTHORIZED": AccessDenied,
    "PERMISSION_DENIED": AccessDenied,
    "RESOURCE_CONFLICT": Conflict,
    "RESOURCE_ALREADY_EXISTS": Exists,
}


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    :param name: of the model.
    :param version: as MLflow counts, from ``"1"``.
    :param artifact_uri: folder of the artifact.
    :param sha256: digest of the artifact.
    :param reference_uri: the data that it was trained on.
    :param holdout_uri: the data that it was measured on.
    :param metrics: metric -> value there.
    :param key: under which it was registered.
    :param blocked: why it must not be promoted again, once it was taken back; empty while it may.
    """

    name: str
    version: str
    artifact_uri: str
    sha256: str
    reference_uri: str | None = None
    holdout_uri: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    key: str | None = None
    blocked: str = ""


@dataclass(frozen=True)
class Run:
    """What a tracking server shows of a training.

    :param parameters: name -> value.
    :param metrics: name -> value.
    :param curves: name -> ``[round, value]`` for each of its rounds.
    :param tags: name -> text; ``sha256`` names the model.
    """

    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[Sequence[float]]]
    tags: Mapping[str, str]


class Registry:
    """The registry at a tracking URI.

    :param tracking_uri: ``sqlite:////absolute/mlflow.db``, ``http(s)://...``; no credentials inside.
    :param username: of a server; with a password alone, that is a token.
    :param password: of a server.
    :param ca_file: PEM file of a private authority that a server's certificate is checked with.
    :param timeout: seconds for one call to a server, the whole of its answer included.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str = "",
        timeout: float = 30.0,
    ) -> None:
        _check_uri(tracking_uri)
        remember(password or "")
        self.tracking_uri = tracking_uri
        self._environment = _credentials(username, password)
        self._made: Any = None
        if tracking_uri.startswith(("http://", "https://")):
            self._made = RestClient(
                tracking_uri, username or "", password or "", ca_file=ca_file, timeout=timeout
            )

    def register(
        self,
        name: str,
        artifact_uri: str,
        sha256: str,
        *,
        key: str | None = None,
        reference_uri: str | None = None,
        holdout_uri: str | None = None,
        metrics: Mapping[str, float] | None = None,
        training_uri: str | None = None,
        run: Run | None = None,
    ) -> ModelVersion:
        """Register an artifact, unless it is registered already.

        Of two callers at the same moment both may create a version; each then looks again, and all but the lowest of
        the same digest are taken back. So a crash between any two steps, or a retry, leaves one.

        :param key: idempotency key of the caller, kept for audit.
        :param training_uri: file that says what it was made from.
        :param run: what is logged of its training, once for each artifact.
        :return: its version.
        """
        known = self.find(name, sha256)
        if known is None:
            tags = {
                "sha256": sha256,
                "key": key,
                "reference_uri": reference_uri,
                "holdout_uri": holdout_uri,
                "metrics": json.dumps(dict(metrics or {}), sort_keys=True),
                "training_uri": training_uri,
            }
            run_id = self.log(name, run) if run else None
            self._create_model(name)
            self.call(
                lambda client: client.create_model_version(
                    name,
                    source=artifact_uri,
                    run_id=run_id,
                    tags={_PREFIX + tag: value for tag, value in tags.items() if value},
                )
            )
            known = self.find(name, sha256)
        if known is None:
            raise Unreachable(f"the registry does not show the version of {name!r} that it has just made")
        self._take_back_duplicates(known)
        return known

    def log(self, name: str, run: Run) -> str:
        """Log a training as a run of the experiment that is called like its model, once for each artifact.

        :param name: of the model.
        :param run: what is logged; logging the same again changes nothing.
        :return: the id of the run.
        """
        experiment = self._experiment(name)
        tags = {_PREFIX + tag: value for tag, value in run.tags.items() if value}
        wanted = f"tags.`{_PREFIX}sha256` = '{run.tags['sha256']}'"
        known = self.call(lambda client: client.search_runs([experiment], wanted))
        now = round(time.time() * 1000)
        found = known[0] if known else self.call(lambda client: client.create_run(experiment, now, tags))
        run_id, at = str(found.info.run_id), int(found.info.start_time)
        points = [(metric, value, 0) for metric, value in run.metrics.items()]
        points += [(curve, value, int(step)) for curve, of in run.curves.items() for step, value in of]
        told = {key: str(value)[:_LONGEST] for key, value in run.parameters.items() if value is not None}
        items = list(told.items())
        parts: list[tuple[list[Any], dict[str, str]]] = [
            ([], dict(items[start : start + _PARAMETERS])) for start in range(0, len(items), _PARAMETERS)
        ]
        parts += [(points[start : start + _POINTS], {}) for start in range(0, len(points), _POINTS)]
        for some, given in parts:
            self.call(partial(_logged, run_id=run_id, points=some, parameters=given, at=at))
        self.call(lambda client: client.set_terminated(run_id, "FINISHED", at))
        return run_id

    def _experiment(self, name: str) -> str:
        try:
            return str(self.call(lambda client: client.create_experiment(name)))
        except Exists:
            return str(self.call(lambda client: client.get_experiment_by_name(name)).experiment_id)

    def find(self, name: str, sha256: str) -> ModelVersion | None:
        """Return the lowest version of an artifact digest."""
        found = self._with_digest(name, sha256)
        return found[0] if found else None

    def version(self, name: str, version: str) -> ModelVersion:
        """Find one version.

        :return: the version.
        :raises NotFound: if there is none.
        """
        return _read(self.call(lambda client: client.get_model_version(name, version)))

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that an alias names, or ``None`` where the alias or the model is not there."""
        try:
            return _read(self.call(lambda client: client.get_model_version_by_alias(name, alias)))
        except Absent:
            return None

    def page(self, name: str, version: str) -> str:
        """Return the address at which people see a version; empty for a registry that has no pages."""
        if not self.tracking_uri.startswith(("http://", "https://")):
            return ""
        return f"{self.tracking_uri.rstrip('/')}/#/models/{quote(name, safe='')}/versions/{quote(version, safe='')}"

    def set_alias(self, name: str, alias: str, version: str) -> str | None:
        """Let an alias name a version.

        :return: the version that it named before; ``None`` if none.
        :raises NotFound: if there is no such version.
        :raises ModelRejected: if it was taken back.
        """
        demand_free(self.version(name, version))
        before = self.by_alias(name, alias)
        if before is None or before.version != str(version):
            self.call(lambda client: client.set_registered_model_alias(name, alias, str(version)))
        return before.version if before else None

    def block(self, name: str, version: str, reason: str) -> None:
        """Say that a version was taken back: it is neither registered again nor named by an alias until it is unblocked.

        :param reason: in plain words; empty to unblock it.
        :raises NotFound: if there is no such version.
        """
        if self.version(name, version).blocked != reason:
            tag = _PREFIX + "blocked"
            self.call(lambda client: client.set_model_version_tag(name, version, tag, reason))

    def ping(self) -> int:
        """Return how many models there are (one page at most), to prove that the registry answers."""
        return len(self.call(lambda client: client.search_registered_models(max_results=100)))

    def _create_model(self, name: str) -> None:
        with contextlib.suppress(Exists):
            self.call(lambda client: client.create_registered_model(name))

    def _with_digest(self, name: str, sha256: str) -> list[ModelVersion]:
        def look(client: Any) -> list[Any]:
            quoted = name.replace("'", "")
            return list(
                client.search_model_versions(f"name = '{quoted}' and tags.`{_PREFIX}sha256` = '{sha256}'")
            )

        return sorted((_read(item) for item in self.call(look)), key=lambda item: int(item.version))

    def _take_back_duplicates(self, keep: ModelVersion) -> None:
        for item in self._with_digest(keep.name, keep.sha256):
            if item.version == keep.version:
                continue
            try:
                self._delete(item)
            except NotFound:
                continue  # its own maker was faster

    def _delete(self, item: ModelVersion) -> None:
        self.call(lambda client: client.delete_model_version(item.name, item.version))

    def call(self, act: Callable[[Any], Any]) -> Any:
        """Run one call on the client, and again after a transient error.

        :param act: is called with MLflow's client, or with a :class:`~airflow_pipeops.models.rest.RestClient`.
        :return: what it returned.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _ENVIRONMENT, _environment(self._environment):
                    return act(self._client())
            except Exception as error:
                failure = error if isinstance(error, PipeOpsError) else _failure(error, self.tracking_uri)
                if isinstance(failure, Exists) or not failure.retryable or attempt == _ATTEMPTS:
                    # Without MLflow's own error, whose text is what the server sent, secrets and all.
                    raise failure from None
                time.sleep(jittered(0.1 * 2**attempt, 0.0))
        raise AssertionError("unreachable")

    def _client(self) -> Any:
        if self._made is None:
            try:
                from mlflow import MlflowClient
            except ImportError as error:
                raise MissingExtra("mlflow", "mlflow") from error
            with _making_tables(self.tracking_uri):
                client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
                client.search_registered_models(max_results=1)
            self._made = client
        return self._made


def _logged(
    client: Any,
    *,
    run_id: str,
    points: Sequence[tuple[str, float, int]],
    parameters: Mapping[str, str],
    at: int,
) -> None:
    """Log points of metrics and parameters; at the time of the run, so that a point that is logged again is the same."""
    if isinstance(client, RestClient):
        client.log_batch(run_id, points, parameters, at)
        return
    from mlflow.entities import Metric, Param

    metrics = [Metric(key, value, at, step) for key, value, step in points]
    client.log_batch(run_id, metrics=metrics, params=[Param(*item) for item in parameters.items()])


@contextmanager
def _making_tables(uri: str) -> Iterator[None]:
    """Let one process at a time make a new SQLite store: two at once leave a database that no one can open."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    import fcntl

    with open(uri.removeprefix("sqlite:///") + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(found: Any) -> ModelVersion:
    tags = {key.removeprefix(_PREFIX): value for key, value in found.tags.items() if key.startswith(_PREFIX)}
    try:
        metrics = parsed(tags.get("metrics", "{}"))
    except ValueError as error:
        raise SystemFailure(
            f"the tag {_PREFIX}metrics of version {found.version} of {found.name!r} is no JSON: {error}",
            remedy="Somebody changed it in the registry: correct or delete it.",
        ) from error
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        artifact_uri=found.source or "",
        sha256=tags.get("sha256", ""),
        reference_uri=tags.get("reference_uri"),
        holdout_uri=tags.get("holdout_uri"),
        metrics=map_(metrics),
        key=tags.get("key"),
        blocked=tags.get("blocked", ""),
    )


def demand_free(version: ModelVersion) -> ModelVersion:
    """Refuse a version that was taken back.

    :return: the version.
    :raises ModelRejected: with the reason for which it was taken back.
    """
    if version.blocked:
        raise ModelRejected(
            f"version {version.version} of {version.name!r} was taken back: {version.blocked}",
            remedy="Train another one; or empty its tag pipeops.blocked in the registry, if it was wronged.",
        )
    return version


def _failure(error: Exception, uri: str) -> SystemFailure:
    code = getattr(error, "error_code", None)
    kind = _ERRORS.get(str(code))
    said = excerpt(str(error).splitlines()[0], 300) if str(error) else type(error).__name__
    if kind is not None:
        return kind(f"the registry at {uri} refused: {said}")
    if code == "INVALID_PARAMETER_VALUE":
        # An alias that is not there; so is a malformed name.
        kind = Absent if "not found" in said.lower() else NotFound
        return kind(f"the registry at {uri} does not know that: {said}")
    return Unreachable(f"the registry at {uri} did not answer as it should: {said}")


def _check_uri(uri: str) -> None:
    remedy = "Use sqlite:////absolute/path/mlflow.db, or the http(s) URL of a server."
    if not uri.startswith(("sqlite:////", "http://", "https://", "postgresql", "mysql", "databricks")):
        raise InvalidInput(f"{uri!r} is no tracking URI", field="host", value=uri or None, remedy=remedy)
    if uri.startswith(("http://", "https://")):
        base_url(uri, field="host", of="an MLflow server")


def _credentials(username: str | None, password: str | None) -> dict[str, str]:
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    if username and password:
        settings |= {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
    elif password:
        settings["MLFLOW_TRACKING_TOKEN"] = password
    return settings


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the time of one call, and put back what was there."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
