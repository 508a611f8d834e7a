"""Routes about the server and who is asking: session, permissions, version, health."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_pipeops import __version__
from airflow_pipeops.demo.sandbox import wire
from airflow_pipeops.demo.sandbox.service import Service

#: The Argo CD whose API is spoken here, and by whom.
API_VERSION = f"v3.5.1+airflow-pipeops-sandbox.{__version__}"


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def user_info(request: Request) -> Response:
        try:
            role = service.role(request)
        except wire.ApiError:
            return JSONResponse({"loggedIn": False})
        return JSONResponse({"loggedIn": True, "username": role, "iss": "argocd", "groups": [f"role:{role}"]})

    async def can_i(request: Request) -> Response:
        path = request.path_params
        allowed = service.access.may(service.role(request), path["resource"], path["action"], path["target"])
        return JSONResponse({"value": "yes" if allowed else "no"})

    async def version(request: Request) -> Response:
        answer = {"Version": API_VERSION}
        try:
            service.role(request)
        except wire.ApiError:
            return JSONResponse(answer)
        return JSONResponse({**answer, "Platform": "sandbox", "HelmVersion": "", "Compiler": "python"})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok")

    return [
        Route("/api/v1/session/userinfo", user_info, methods=["GET"]),
        Route("/api/v1/account/can-i/{resource}/{action}/{target:path}", can_i, methods=["GET"]),
        Route("/api/version", version, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
    ]
