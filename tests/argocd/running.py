"""Run an operator as Airflow does, and look at the sandbox that it acted on."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_pipeops.argocd.operators import (
    ArgoCDDiffOperator,
)
from airflow_pipeops.argocd.operators.base import ArgoCDWaitOperator

TICK = timedelta(milliseconds=200)


def task(cls: Any, app: str, **arguments: Any) -> Any:
    """An operator with a test's patience."""
    defaults: dict[str, Any] = {"poll_interval": TICK, "timeout": timedelta(seconds=40), "deferrable": False}
    if cls is ArgoCDDiffOperator:
        del defaults["timeout"]
    if issubclass(cls, ArgoCDWaitOperator):
        defaults["settle"] = timedelta(0)
    return cls(task_id="task", app=app, **{**defaults, **arguments})


def run(made: Any, context: dict[str, Any]) -> Any:
    """Run a task as Airflow does: in the worker, in the triggerer, and in a worker again, until it ends."""
    step = lambda: made.execute(context)  # noqa: E731
    while True:
        try:
            return step()
        except TaskDeferred as exit_:
            assert made.argocd_url
            path, arguments = exit_.trigger.serialize()
            assert "sandbox-" not in json.dumps(arguments), "a token travels"
            trigger = type(exit_.trigger)(**{**json.loads(json.dumps(arguments)), "dwell": 0})
            assert path.endswith(type(trigger).__name__)

            async def first(trigger: Any = trigger) -> Any:
                async for event in trigger.run():
                    return json.loads(json.dumps(event.payload))

            event = asyncio.run(asyncio.wait_for(first(), 60))
            step = lambda exit_=exit_, event=event: getattr(made, exit_.method_name)(  # noqa: E731
                context, event=event, **(exit_.kwargs or {})
            )


def deploy(sandbox: Any, app: str, revision: str) -> None:
    """Synchronise as a person does, and return when that is over and shows."""
    sandbox.call("POST", f"/api/v1/applications/{app}/sync", {"name": app, "revision": revision})
    sandbox.until(
        app,
        lambda found: (
            not found.get("operation")
            and [entry["revision"] for entry in found["status"].get("history") or ()][-1:] == [revision]
            and found["status"].get("sync", {}).get("status") == "Synced"
        ),
    )


def status(sandbox: Any, app: str) -> dict[str, Any]:
    return sandbox.call("GET", f"/api/v1/applications/{app}?project=default")["status"]


def live(sandbox: Any, app: str) -> str:
    items = sandbox.call("GET", f"/sandbox/admin/live?kind=ConfigMap&namespace={app}")["items"]
    return next(item["data"]["value"] for item in items if item["metadata"]["name"] == "settings")


def spy(monkeypatch: pytest.MonkeyPatch, *, lose: str = "") -> list[tuple[str, str, Any]]:
    """Note each request; lose the answers of one method after the server has acted, as a cut connection does."""
    import httpx

    seen: list[tuple[str, str, Any]] = []
    real = httpx.AsyncClient.send

    async def send(self: Any, request: httpx.Request, **more: Any) -> httpx.Response:
        answer = await real(self, request, **more)
        body = await request.aread()
        seen.append((request.method, str(request.url), json.loads(body) if body else None))
        if request.method == lose:
            await answer.aclose()
            raise httpx.ReadError("the connection was cut")
        return answer

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    return seen
