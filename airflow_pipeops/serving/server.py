"""Serve one model over HTTP by the Open Inference Protocol v2: ``python -m airflow_pipeops.serving.server``.

Set by the environment: ``MODEL_URI`` (folder of the artifact), ``MODEL_SHA256`` (its digest), ``MODEL_NAME``,
``MODEL_VERSION``, ``HOST`` (127.0.0.1), ``PORT`` (8080), ``MODEL_TRUSTED`` (further types to trust, comma-separated),
``MODEL_MAX_BYTES`` (of a request, 8 MiB). The digest is checked before the model is deserialised, and the port opens
after that; a wrong digest or setting ends the process with status 2 and one line. SIGTERM lets requests in flight end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.models.outputs import outputs_of
from airflow_pipeops.serving import protocol

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_pipeops.models.artifact import Loaded

#: Seconds that requests in flight have to end after SIGTERM.
DRAIN_SECONDS = 20


@dataclass(frozen=True)
class Settings:
    """The environment, checked.

    :param uri: where the artifact of the model is (``MODEL_URI``).
    :param sha256: its digest, without which nothing is loaded (``MODEL_SHA256``).
    :param name: of the model, as requests name it (``MODEL_NAME``).
    :param version: of the model, as its metadata and answers name it (``MODEL_VERSION``).
    :param host: the address to listen on (``HOST``).
    :param port: the port to listen on; 0 is any free one (``PORT``).
    :param trusted: further types that an artifact may hold (``MODEL_TRUSTED``).
    :param max_bytes: the largest request body (``MODEL_MAX_BYTES``).
    """

    uri: str
    sha256: str
    name: str
    version: str
    host: str = "127.0.0.1"
    port: int = 8080
    trusted: tuple[str, ...] = ()
    max_bytes: int = 8 * 2**20


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment.

    :return: what the server shall serve, and where.
    :raises InvalidInput: naming the variable that is missing or wrong.
    """
    required = {}
    for variable in ("MODEL_URI", "MODEL_SHA256", "MODEL_NAME", "MODEL_VERSION"):
        required[variable] = environment.get(variable, "").strip()
        if not required[variable]:
            raise InvalidInput(f"{variable} is not set", field=variable)
    numbers = {}
    for variable, default, high in (("PORT", 8080, 65535), ("MODEL_MAX_BYTES", 8 * 2**20, 2**31)):
        text = environment.get(variable) or str(default)
        if not text.isdecimal() or int(text) > high:
            raise InvalidInput(
                f"{variable} is {text!r}, not a number up to {high}", field=variable, value=text
            )
        numbers[variable] = int(text)
    return Settings(
        uri=required["MODEL_URI"],
        sha256=required["MODEL_SHA256"],
        name=required["MODEL_NAME"],
        version=required["MODEL_VERSION"],
        host=environment.get("HOST") or "127.0.0.1",
        port=numbers["PORT"],
        trusted=tuple(
            item.strip() for item in environment.get("MODEL_TRUSTED", "").split(",") if item.strip()
        ),
        max_bytes=numbers["MODEL_MAX_BYTES"],
    )


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error
        super().__init__(error)


class Service:
    """The endpoints of one loaded model."""

    def __init__(self, loaded: Loaded, configured: Settings) -> None:
        self._loaded, self._settings = loaded, configured
        self._parameters = {"sha256": loaded.sha256}

    def _outputs(self) -> dict[str, str]:
        return outputs_of(self._loaded.model)

    def routes(self) -> list[Any]:
        """Return the routes; each model route exists with and without the version."""
        from starlette.routing import Route

        found = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
        ]
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                Route(model, self.model),
                Route(f"{model}/ready", self.model_ready),
                Route(f"{model}/infer", self.infer, methods=["POST"]),
            ]
        return found

    async def server(self, request: Request) -> Response:
        """Describe the server."""
        from airflow_pipeops import __version__

        return _json({"name": "airflow-pipeops", "version": __version__, "extensions": []})

    async def live(self, request: Request) -> Response:
        """Answer while the process runs."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Answer while the model can be asked: the port opens only after it was verified and loaded."""
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        """Describe the model: inputs, version and digest."""
        self._check(request)
        at = self._settings
        features = self._loaded.manifest.features
        return _json(protocol.metadata(at.name, at.version, features, self._outputs(), self._parameters))

    async def model_ready(self, request: Request) -> Response:
        """Answer for this model and version."""
        self._check(request)
        return _json({"name": self._settings.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Predict."""
        from starlette.concurrency import run_in_threadpool

        self._check(request)
        body = await self._body(request)
        return _json(await run_in_threadpool(self._predict, body))

    def _predict(self, body: bytes) -> dict[str, Any]:
        features = self._loaded.manifest.features
        identifier, columns, _ = protocol.read_request(body, features, self._outputs())
        values = predicted(self._loaded.model, columns, features)
        at = self._settings
        return protocol.write_response(at.name, at.version, identifier, values, self._parameters)

    def _check(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version")
        if name != self._settings.name:
            raise _Refused(404, f"there is no model {name!r} here; there is {self._settings.name!r}")
        if version not in (None, self._settings.version):
            raise _Refused(404, f"there is no version {version!r} here; there is {self._settings.version!r}")

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.max_bytes
        too_large = _Refused(413, f"the body is larger than {limit} bytes")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)


def predicted(
    model: Any, columns: Mapping[str, list[Any]], features: Mapping[str, str]
) -> dict[str, list[float]]:
    """Return what the model gives for each row, output by output; see :func:`airflow_pipeops.models.outputs.outputs_of`.

    :raises InvalidInput: for values that the model does not take, and where it gives no number.
    """
    import numpy as np
    import pandas as pd

    from airflow_pipeops.models.artifact import DTYPES

    names = list(outputs_of(model))
    frame = pd.DataFrame(
        {name: pd.Series(columns[name], dtype=DTYPES[kind]) for name, kind in features.items()}
    )
    try:
        found = model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)
        values = np.asarray(found, dtype=float).reshape(len(frame), -1)
    except ValueError as error:  # scikit-learn's word for data that it does not take
        nulls = [
            name
            for name, kind in features.items()
            if kind == "FP64" and any(value != value for value in columns[name])
        ]
        of = f" (there is null in {', '.join(nulls)})" if nulls else ""
        said = (str(error).splitlines() or [""])[0]
        raise InvalidInput(f"the model does not take these values{of}: {said}", field="inputs") from error
    values = values[:, -len(names) :]  # of two classes, the positive one alone
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InvalidInput(f"the model gives no finite number for row {row}", field="inputs", value=row)
    return {name: values[:, number].tolist() for number, name in enumerate(names)}


def application(loaded: Loaded, configured: Settings) -> Starlette:
    """Return the ASGI application of a loaded model."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, _Refused)
        return _json({"error": error.error}, error.status)

    async def invalid(request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 400)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": error.detail}, error.status_code)

    async def failed(request: Request, error: Exception) -> Response:
        return _json({"error": "the model failed on this request"}, 500)

    return Starlette(
        routes=Service(loaded, configured).routes(),
        exception_handlers={_Refused: refused, InvalidInput: invalid, HTTPException: http, Exception: failed},
    )


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    began = time.monotonic()
    # Requests run side by side already; on a busy machine, threads inside one request wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        configured = settings(os.environ)
        from airflow_pipeops.models import artifact

        loaded = artifact.load(configured.uri, configured.sha256, trusted=configured.trusted)
    except PipeOpsError as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 2
    import uvicorn

    config = uvicorn.Config(
        application(loaded, configured),
        host=configured.host,
        port=configured.port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        limit_concurrency=200,
    )
    try:
        listening = config.bind_socket()
    except SystemExit:
        return 1  # uvicorn has said why: the port is taken, or not ours to take
    listening.listen(128)  # from here on a connection waits instead of being refused
    port = listening.getsockname()[1]
    print(
        f"serving {configured.name} version {configured.version} ({loaded.sha256[:12]}) "
        f"on http://{configured.host}:{port}, loaded in {time.monotonic() - began:.1f} s",
        flush=True,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn puts its own handlers in place, and raises the signal again when it is done: an end that was asked
        # for is status 0.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])
    return 0


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)


if __name__ == "__main__":
    sys.exit(main())
