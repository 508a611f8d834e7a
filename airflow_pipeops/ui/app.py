"""The FastAPI application that the plugin mounts at ``/pipeops``.

Airflow mounts the applications of plugins without any access control: each router here demands it, and a test walks over
all routes. Documentation routes are off, since they would be open too.
"""

from __future__ import annotations

from fastapi import FastAPI

from airflow_pipeops.delivery.ledger.feeder import feeding
from airflow_pipeops.ui import evidence, page, panels

PREFIX = "/pipeops"

app = FastAPI(title="PipeOps", docs_url=None, redoc_url=None, openapi_url=None, lifespan=feeding)
for part in (page, panels, evidence):
    app.include_router(part.router)
