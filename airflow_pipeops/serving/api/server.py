"""Serve models over HTTP by the Open Inference Protocol v2: ``python -m airflow_pipeops.serving.api.server``.

What is served, and how much the server takes on, is set by the environment: see :mod:`airflow_pipeops.serving.api.settings`
and ``docs/serving.md``. Digests are checked before a model is deserialised, and the port opens after that; a wrong digest
or setting ends the process with status 2 and one line. SIGTERM lets requests in flight end, and writes the samples.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.models.outputs import outputs_of, predicted
from airflow_pipeops.models.samples import Scored
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api.limits import Limits, Refused
from airflow_pipeops.serving.api.metrics import Metrics
from airflow_pipeops.serving.api.sampling import Sampler
from airflow_pipeops.serving.api.settings import Served, Settings, settings
from airflow_pipeops.serving.api.shadow import Shadows

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_pipeops.models.artifact import Loaded

#: Seconds for the shadows' last requests, and then for the last samples.
SHADOW_SECONDS, SAMPLE_SECONDS = 2, 10


@dataclass(frozen=True)
class Model:
    """A version that answers.

    :param served: what it is called.
    :param loaded: its verified artifact.
    """

    served: Served
    loaded: Loaded

    @property
    def parameters(self) -> dict[str, str]:
        """What its metadata and each of its answers say of it."""
        return {"sha256": self.loaded.sha256}

    @property
    def outputs(self) -> dict[str, str]:
        """Its outputs, with the class of each."""
        return outputs_of(self.loaded.model)


class Service:
    """The endpoints of loaded models.

    :param loaded: the artifacts of the models that answer, in the order of the settings.
    :param configured: what is served, and how much the server takes on.
    """

    def __init__(self, loaded: Sequence[Loaded], configured: Settings) -> None:
        answering = [one for one in configured.models if one.role != "shadow"]
        self._models = {
            (served.name, served.version): Model(served, one)
            for served, one in zip(answering, loaded, strict=True)
        }
        self._defaults = {one.name: one.version for one in answering if one.role == "default"}
        self._settings = configured
        self._limits = Limits(configured.at_once, configured.waiting, configured.seconds)
        self.metrics = Metrics()
        for one in answering:
            self.metrics.loaded(one)
        self._sampler: Sampler | None = None
        self._shadows: Shadows | None = None
        if configured.sampling is not None:
            self._sampler = Sampler(configured.sampling, self.metrics)
            self._keep(self._sampler)

    def _keep(self, sampler: Sampler) -> None:
        for one in self._models.values():
            sampler.add(one.served, one.loaded.manifest.features, one.outputs)
        shadows = [one for one in self._settings.models if one.role == "shadow"]
        if shadows:
            self._shadows = Shadows(shadows, self._settings.trusted, sampler, self.metrics)
            asked = {
                name: self._models[name, version].loaded.manifest.features
                for name, version in self._defaults.items()
            }
            self._shadows.load(asked)
        sampler.start({name for one in self._models.values() for name in one.loaded.manifest.features})

    @property
    def busy(self) -> int:
        """How many requests have a place now; one that was late has it until the model ends."""
        return self._limits.inside

    def routes(self) -> list[Any]:
        """Return the routes; each model route exists with and without the version."""
        from starlette.routing import Route

        found = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/metrics", self.figures),
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
        """Answer while the models can be asked: the port opens only after they were verified and loaded."""
        return _json({"ready": True})

    async def figures(self, request: Request) -> Response:
        """Give the metrics."""
        from starlette.responses import Response as Plain

        text, kind = self.metrics.text()
        return Plain(text, media_type=kind)

    async def model(self, request: Request) -> Response:
        """Describe a model: inputs, versions and digest."""
        one = self._asked(request)
        others = [
            version
            for name, version in self._models
            if name == one.served.name and version != one.served.version
        ]
        versions = [one.served.version, *others]
        features = one.loaded.manifest.features
        return _json(protocol.metadata(one.served.name, versions, features, one.outputs, one.parameters))

    async def model_ready(self, request: Request) -> Response:
        """Answer for this model and version."""
        return _json({"name": self._asked(request).served.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Predict."""
        one, at = self._asked(request), int(time.time() * 1000)
        outcome, rows = "failed", 0

        def answer(body: bytes) -> tuple[int, Response]:
            return self._answered(one, body, at)

        with self.metrics.request(one.served):
            try:
                rows, found = await self._limits.run(lambda: self._body(request), answer)
                outcome = "ok"
                return found
            except InvalidInput:
                outcome = "refused"
                raise
            except Refused as error:
                outcome = error.outcome
                raise
            finally:
                self.metrics.outcome(one.served, outcome, rows)

    def _answered(self, one: Model, body: bytes, at: int) -> tuple[int, Response]:
        features = one.loaded.manifest.features
        asked = protocol.read_request(body, features, one.outputs)
        values = predicted(one.loaded.model, asked.columns, features)
        identifier = asked.id or uuid.uuid4().hex  # labels that come later are joined by it
        self._kept(one.served, Scored(identifier, at, asked.columns, values, asked.rows), len(body))
        wanted = {name: values[name] for name in asked.outputs}
        served = one.served
        return asked.rows, _json(
            protocol.write_response(served.name, served.version, identifier, wanted, one.parameters)
        )

    def _kept(self, served: Served, scored: Scored, size: int) -> None:
        if self._sampler is None or not self._sampler.chosen():
            return
        self._sampler.offer(served, scored, size)
        if self._shadows is not None and served.role == "default":
            self._shadows.offer(served.name, scored, size)

    def _asked(self, request: Request) -> Model:
        name, version = request.path_params["name"], request.path_params.get("version")
        if name not in self._defaults:
            there = ", ".join(map(repr, self._defaults))
            raise Refused(404, f"there is no model {name!r} here; there is {there}")
        found = self._models.get((name, self._defaults[name] if version is None else version))
        if found is None:
            there = ", ".join(repr(one) for of, one in self._models if of == name)
            raise Refused(404, f"there is no version {version!r} here; there is {there}")
        return found

    async def _body(self, request: Request) -> bytes:
        from starlette.requests import ClientDisconnect

        limit = self._settings.max_bytes
        too_large = Refused(413, f"the body is larger than {limit} bytes")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
        except ClientDisconnect as error:
            raise Refused(400, "the client has gone", "gone") from error
        return bytes(body)

    def close(self) -> int:
        """End what goes on beside the answers, and write the samples.

        :return: how many requests are still at work.
        """
        left = self._limits.close()
        if self._shadows is not None:
            self._shadows.close(SHADOW_SECONDS)
        if self._sampler is not None and (lost := self._sampler.close(SAMPLE_SECONDS)):
            print(f"{lost} rows of samples are lost", file=sys.stderr, flush=True)
        return left


def application(service: Service) -> Starlette:
    """Return the ASGI application of a service."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        again = {"retry-after": "1"} if error.status == 503 else None
        return _json({"error": error.error}, error.status, again)

    async def invalid(request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 400)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": error.detail}, error.status_code)

    async def failed(request: Request, error: Exception) -> Response:
        return _json({"error": "the model failed on this request"}, 500)

    return Starlette(
        routes=service.routes(),
        exception_handlers={
            Refused: refused,
            InvalidInput: invalid,
            HTTPException: http,
            Exception: failed,
        },
    )


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    began = time.monotonic()
    # Requests run side by side already; on a busy machine, threads inside one request wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        configured = settings(os.environ)
        from airflow_pipeops.models.features.sets import to_serve

        answering = [one for one in configured.models if one.role != "shadow"]
        loaded = [to_serve(one.uri, one.sha256, trusted=configured.trusted) for one in answering]
        service = Service(loaded, configured)
    except PipeOpsError as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 2
    import uvicorn

    config = uvicorn.Config(
        application(service),
        host=configured.host,
        port=configured.port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=configured.drain_seconds,
    )
    try:
        listening = config.bind_socket()
    except SystemExit:
        service.close()
        return 1  # uvicorn has said why: the port is taken, or not ours to take
    listening.listen(128)  # from here on a connection waits instead of being refused
    port = listening.getsockname()[1]
    names = ", ".join(f"{one} ({one.sha256[:12]})" for one in answering)
    print(
        f"serving {names} on http://{configured.host}:{port}, loaded in {time.monotonic() - began:.1f} s",
        flush=True,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn puts its own handlers in place, and raises the signal again when it is done: an end that was asked
        # for is status 0.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])
    if left := service.close():
        print(f"{left} requests were cut after {configured.drain_seconds} s", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # a model that does not come back would keep the process
    return 0


def _json(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status, headers)


if __name__ == "__main__":
    sys.exit(main())
