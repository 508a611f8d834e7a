"""The Delivery page: one HTML file, and the modules, styles and drawings that it loads from here alone."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from airflow.api_fastapi.core_api.security import requires_authenticated
from fastapi import APIRouter, Depends, HTTPException, Response

from airflow_pipeops.ui.headers import PAGE

STATIC = Path(__file__).parent / "static"

#: What a module of the page imports.
_IMPORTED = re.compile(r'^import .+ from "\./(.+)";$', re.MULTILINE)

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = APIRouter(dependencies=[Depends(requires_authenticated())])


@router.get("/page")
def page(panel: str = "", dag: str = "") -> Response:
    """Return the page itself; its state is in its address."""
    first = panel or ("records" if dag else "now")
    links = "".join(f'<link rel="modulepreload" href="static/{name}">\n' for name in needed(f"{first}.js"))
    html = (STATIC / "page.html").read_text(encoding="utf-8").replace("</head>", f"{links}</head>")
    html = html.replace('"static/', f'"static/{edition()}/')
    return Response(html, media_type="text/html", headers=PAGE)


@router.get("/static/{edition}/{path:path}")
def static(edition: str, path: str) -> Response:
    """Return a file of the page. Under its edition it never changes, so that a browser asks for it once."""
    found = _files().get(path)
    if found is None:
        raise HTTPException(404, "There is no such file.")
    kept = "private, max-age=31536000, immutable" if edition == _edition() else "private, no-cache"
    return Response(
        found.read_bytes(), media_type=_TYPES[found.suffix], headers={**PAGE, "Cache-Control": kept}
    )


def edition() -> str:
    """Return what changes with any file of the page: part of the address of each."""
    return _edition()


@lru_cache(maxsize=16)
def needed(panel: str) -> tuple[str, ...]:
    """Name the modules that the page and a panel of it import, so that a browser asks for all at once."""
    found: list[str] = []
    left = ["main.js", panel]
    while left:
        name = left.pop(0)
        if name in _files() and name not in found:
            found.append(name)
            left += _IMPORTED.findall(_files()[name].read_text(encoding="utf-8"))
    return tuple(found)


@lru_cache(maxsize=1)
def _edition() -> str:
    digest = hashlib.sha256()
    for name, path in sorted(_files().items()):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    """Name every file that is served; a path that is none of them leads nowhere, whatever dots are in it."""
    return {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _TYPES}
