"""MLflow's registry behind HTTP: its real SQLite store and its own messages, without the server's web framework."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.protos import model_registry_pb2 as messages
from mlflow.protos import service_pb2 as tracking
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from mlflow.utils.proto_json_utils import message_to_json, parse_dict

API = "/api/2.0/mlflow/"


def _version(kind: Any) -> Callable[[Any], Any]:
    return lambda found: kind.Response(model_version=found.to_proto())


#: Method and path -> the message that is asked with, what the store does, and its answer.
CALLS: dict[tuple[str, str], tuple[Any, Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    ("GET", "registered-models/search"): (
        messages.SearchRegisteredModels,
        lambda store, asked: store.search_registered_models(max_results=asked.max_results),
        lambda found: messages.SearchRegisteredModels.Response(
            registered_models=[one.to_proto() for one in found]
        ),
    ),
    ("POST", "registered-models/create"): (
        messages.CreateRegisteredModel,
        lambda store, asked: store.create_registered_model(
            asked.name, [RegisteredModelTag.from_proto(tag) for tag in asked.tags]
        ),
        lambda found: messages.CreateRegisteredModel.Response(registered_model=found.to_proto()),
    ),
    ("GET", "registered-models/get"): (
        messages.GetRegisteredModel,
        lambda store, asked: store.get_registered_model(asked.name),
        lambda found: messages.GetRegisteredModel.Response(registered_model=found.to_proto()),
    ),
    ("POST", "model-versions/create"): (
        messages.CreateModelVersion,
        lambda store, asked: store.create_model_version(
            asked.name,
            asked.source,
            asked.run_id or None,
            tags=[ModelVersionTag.from_proto(tag) for tag in asked.tags],
        ),
        _version(messages.CreateModelVersion),
    ),
    ("GET", "model-versions/search"): (
        messages.SearchModelVersions,
        lambda store, asked: store.search_model_versions(asked.filter, max_results=asked.max_results),
        lambda found: messages.SearchModelVersions.Response(model_versions=[one.to_proto() for one in found]),
    ),
    ("GET", "model-versions/get"): (
        messages.GetModelVersion,
        lambda store, asked: store.get_model_version(asked.name, asked.version),
        _version(messages.GetModelVersion),
    ),
    ("GET", "registered-models/alias"): (
        messages.GetModelVersionByAlias,
        lambda store, asked: store.get_model_version_by_alias(asked.name, asked.alias),
        _version(messages.GetModelVersionByAlias),
    ),
    ("POST", "registered-models/alias"): (
        messages.SetRegisteredModelAlias,
        lambda store, asked: store.set_registered_model_alias(asked.name, asked.alias, asked.version),
        lambda found: messages.SetRegisteredModelAlias.Response(),
    ),
    ("POST", "model-versions/set-tag"): (
        messages.SetModelVersionTag,
        lambda store, asked: store.set_model_version_tag(
            asked.name, asked.version, ModelVersionTag(asked.key, asked.value)
        ),
        lambda found: messages.SetModelVersionTag.Response(),
    ),
    ("DELETE", "model-versions/delete"): (
        messages.DeleteModelVersion,
        lambda store, asked: store.delete_model_version(asked.name, asked.version),
        lambda found: messages.DeleteModelVersion.Response(),
    ),
}

#: The same of trainings, which another store keeps.
TRACKING: dict[tuple[str, str], tuple[Any, Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    ("POST", "experiments/create"): (
        tracking.CreateExperiment,
        lambda store, asked: store.create_experiment(asked.name),
        lambda found: tracking.CreateExperiment.Response(experiment_id=found),
    ),
    ("GET", "experiments/get-by-name"): (
        tracking.GetExperimentByName,
        lambda store, asked: store.get_experiment_by_name(asked.experiment_name),
        lambda found: tracking.GetExperimentByName.Response(experiment=found.to_proto()),
    ),
    ("POST", "runs/search"): (
        tracking.SearchRuns,
        lambda store, asked: store.search_runs(list(asked.experiment_ids), asked.filter, 1),
        lambda found: tracking.SearchRuns.Response(runs=[one.to_proto() for one in found]),
    ),
    ("POST", "runs/create"): (
        tracking.CreateRun,
        lambda store, asked: store.create_run(
            asked.experiment_id, "", asked.start_time, [RunTag.from_proto(tag) for tag in asked.tags], ""
        ),
        lambda found: tracking.CreateRun.Response(run=found.to_proto()),
    ),
    ("POST", "runs/log-batch"): (
        tracking.LogBatch,
        lambda store, asked: store.log_batch(
            asked.run_id,
            [Metric.from_proto(one) for one in asked.metrics],
            [Param.from_proto(one) for one in asked.params],
            [],
        ),
        lambda found: tracking.LogBatch.Response(),
    ),
    ("POST", "runs/update"): (
        tracking.UpdateRun,
        lambda store, asked: store.update_run_info(asked.run_id, asked.status, asked.end_time, None),
        lambda found: tracking.UpdateRun.Response(),
    ),
}


@contextmanager
def registry_server(database: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a store.

    :param database: its SQLite URI.
    :return: the server's URL, and the ``Authorization`` of each call.
    """
    store, trainings, seen = SqlAlchemyStore(database), TrackingStore(database, "/nowhere"), []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(self.headers.get("Authorization", ""))
            name = (self.command, url.path.removeprefix(API))
            call, asks = CALLS.get(name), store
            if name in TRACKING:
                call, asks = TRACKING[name], trainings
            if call is None or not url.path.startswith(API):
                self.reply(404, "<h1>404 Not Found</h1>")
                return
            asked = call[0]()
            given: dict[str, Any] = json.loads(content or b"{}") | dict(parse_qsl(url.query))
            if "max_results" in given:
                given["max_results"] = int(given["max_results"])
            parse_dict(given, asked)
            try:
                self.reply(200, message_to_json(call[2](call[1](asks, asked))))
            except MlflowException as error:
                self.reply(error.get_http_status_code(), error.serialize_as_json())

        def reply(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
