"""The FastAPI application that the plugin mounts at ``/pipeops``.

Airflow mounts the applications of plugins without any access control: each router here demands it, and a test walks over
all routes. Documentation routes are off, since they would be open too.
"""

from __future__ import annotations

import sqlite3

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from airflow_pipeops.delivery.ledger.feeder import feeding
from airflow_pipeops.ui import evidence, page, panels
from airflow_pipeops.ui.headers import DATA

PREFIX = "/pipeops"

app = FastAPI(title="PipeOps", docs_url=None, redoc_url=None, openapi_url=None, lifespan=feeding)
for part in (page, panels, evidence):
    app.include_router(part.router)


@app.exception_handler(sqlite3.Error)
def unreadable(request: Request, error: sqlite3.Error) -> Response:
    """Say that nobody can tell just now, where the index is damaged or is being made anew: never that there is nothing."""
    detail = (
        f"The index of the ledger cannot be read: {error}. An API server makes it anew from the ledger when it starts; "
        "airflow pipeops doctor says what is wrong."
    )
    return JSONResponse({"detail": detail}, status_code=503, headers=DATA)
