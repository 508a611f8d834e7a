"""Serve the files that back records to those who may read the DAG that stored them."""

from __future__ import annotations

import mimetypes
import re

# All at module level: FastAPI resolves the annotations here, and what it cannot resolve becomes a query parameter.
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Response

from airflow_pipeops.delivery.evidence import read

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")

#: A report runs its own scripts in an origin of its own: it sees no cookie, no page of Airflow, and no network.
_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'unsafe-inline' data:; "
    "img-src data: blob:; font-src data:; worker-src blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, max-age=3600",
}
_SHOWN = ("text/html", "text/plain", "application/json")

router = APIRouter()


@router.get(
    "/evidence/{dag_id}/{digest}/{name}",
    dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))],
)
def evidence(dag_id: str, digest: str, name: str) -> Response:
    """Return a file that a task of this DAG stored, with its digest verified."""
    if not _DIGEST.fullmatch(digest) or not _NAME.fullmatch(name):
        raise HTTPException(404, "There is no such evidence.")
    content = read(digest, name, dag_id=dag_id)
    if content is None:
        raise HTTPException(404, "There is no such evidence, or another DAG stored it.")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    disposition = "inline" if media_type in _SHOWN else "attachment"
    headers = {**_HEADERS, "Content-Disposition": f'{disposition}; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)
