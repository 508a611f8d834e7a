"""Serve the files that back records to those who may read the DAG that stored them.

A page among them is opened by the Delivery page, in a frame, with the verdict outside of it: so nothing that a page draws
can be taken for the verdict.
"""

from __future__ import annotations

import mimetypes
import re
from urllib.parse import urlencode

# All at module level: FastAPI resolves the annotations here, and what it cannot resolve becomes a query parameter.
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Request, Response

from airflow_pipeops.delivery.evidence import read
from airflow_pipeops.delivery.queries.recorded import backed_by
from airflow_pipeops.ui.access import ASSETS, AskedDep
from airflow_pipeops.ui.reports import shown

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")

_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, max-age=3600",
    "Vary": "Sec-Fetch-Dest, Cookie, Authorization",
}
_SHOWN = ("text/plain", "application/json")

MAY_READ = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))

router = APIRouter()


@router.get("/evidence/{dag_id}/{digest}/{name}", dependencies=[MAY_READ])
def evidence(request: Request, dag_id: str, digest: str, name: str) -> Response:
    """Return a file that a task of this DAG stored, with its digest verified."""
    if not _DIGEST.fullmatch(digest) or not _NAME.fullmatch(name):
        raise HTTPException(404, "There is no such evidence.")
    content = read(digest, name, dag_id=dag_id)
    if content is None:
        raise HTTPException(404, "There is no such evidence, or another DAG stored it.")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if media_type == "text/html":
        if request.headers.get("sec-fetch-dest") == "document":
            query = urlencode({"panel": "report", "by": dag_id, "digest": digest, "name": name})
            # Relative, so that it holds under any base path.
            return Response(
                status_code=303,
                headers={"Location": f"../../../page?{query}", **_HEADERS, "Cache-Control": "no-store"},
            )
        page = shown(content)
        headers = {**_HEADERS, "Content-Security-Policy": page.policy}
        return Response(page.html, media_type="text/html; charset=utf-8", headers=headers)
    disposition = "inline" if media_type in _SHOWN else "attachment"
    headers = {**_HEADERS, "Content-Disposition": f'{disposition}; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


@router.get("/api/evidence/{dag_id}/{digest}", dependencies=[ASSETS, MAY_READ])
def told(asked: AskedDep, dag_id: str, digest: str) -> Response:
    """Return the records that a stored file backs: what was judged, whatever the file itself says."""
    return asked.answer(
        lambda: {
            "items": [
                one.to_json()
                for one in backed_by(asked.connection, digest, allowed=asked.allowed)
                if one.dag == dag_id
            ]
        }
    )
