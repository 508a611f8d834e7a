"""A small page per application, where a link from Airflow leads; also a list of all. Read only, and without a login.

The addresses are those of Argo CD. The page says no more than who sits at this machine may know: the state, what runs, and
what is wrong; no manifest, no variable, no log.
"""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from airflow_pipeops.demo.sandbox import spec
from airflow_pipeops.demo.sandbox.service import Service
from airflow_pipeops.demo.sandbox.store import Application

_FRAME = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>{title}</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}
table{{border-collapse:collapse;width:100%}}
th,td{{text-align:left;vertical-align:top;padding:.3em 1em .3em 0;border-bottom:1px solid #ddd}}
</style>
<h1>{title}</h1>{body}<p><small>A sandbox for demos and tests, not an Argo CD. Read anew every 5 seconds.</small></p></html>
"""
#: Nothing is loaded, and no page may show this one in a frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def overview(_: Request) -> Response:
        return HTMLResponse(overview_page(service.store.all()), headers=_HEADERS)

    async def one(request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params.get("namespace")
        found = service.store.get(name)
        if found is None or namespace not in (None, found["metadata"].get("namespace", "argocd")):
            missing = _frame(
                "There is no such application", '<p><a href="/applications">All applications</a></p>'
            )
            return HTMLResponse(missing, status_code=404, headers=_HEADERS)
        return HTMLResponse(application_page(found), headers=_HEADERS)

    return [
        Route("/", overview, methods=["GET"]),
        Route("/applications", overview, methods=["GET"]),
        Route("/applications/{name}", one, methods=["GET"]),
        Route("/applications/{namespace}/{name}", one, methods=["GET"]),
    ]


def overview_page(applications: list[Application]) -> str:
    """Return the page of all applications."""
    rows = []
    for application in sorted(applications, key=lambda one: str(one["metadata"]["name"])):
        metadata, status = application["metadata"], application.get("status") or {}
        name, namespace = escape(metadata["name"]), escape(metadata.get("namespace", "argocd"))
        link = f'<a href="/applications/{namespace}/{name}">{name}</a>'
        rows.append([link, *map(escape, (_state(status, "sync"), _state(status, "health")))])
    return _frame("Applications", _table(("name", "sync", "health"), rows))


def application_page(application: Application) -> str:
    """Return the page of one application: its state, its last operation, and its resources."""
    status, source = application.get("status") or {}, spec.source(application)
    health, operation = status.get("health") or {}, status.get("operationState") or {}
    facts = {
        "sync": _state(status, "sync"),
        "health": " ".join(filter(None, (_state(status, "health"), health.get("message")))),
        "revision": (status.get("sync") or {}).get("revision") or "none yet",
        "source": f"{source.get('repoURL', '')}  {source.get('path', '')}  {source.get('targetRevision', '')}",
        "last operation": " ".join(
            filter(None, (operation.get("phase") or "none", operation.get("message")))
        ),
    }
    for condition in status.get("conditions") or []:
        facts[str(condition.get("type"))] = str(condition.get("message"))
    about = _table(("", ""), [[escape(name), escape(str(text))] for name, text in facts.items()])
    resources = [
        [
            escape(str(text or ""))
            for text in (one.get("kind"), one.get("name"), one.get("status"), *_health(one))
        ]
        for one in status.get("resources") or []
    ]
    listed = _table(("kind", "name", "sync", "health", ""), resources)
    body = f'{about}<h2>Resources</h2>{listed}<p><a href="/applications">All applications</a></p>'
    return _frame(escape(application["metadata"]["name"]), body)


def _state(status: dict[str, Any], part: str) -> str:
    return str((status.get(part) or {}).get("status") or "Unknown")


def _health(resource: dict[str, Any]) -> tuple[Any, Any]:
    health = resource.get("health") or {}
    return health.get("status"), health.get("message")


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    return (
        f"<table><tr>{top}</tr>"
        + "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
        + "</table>"
    )


def _frame(title: str, body: str) -> str:
    return _FRAME.format(title=title, body=body)
