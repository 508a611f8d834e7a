"""Run an operator as Airflow does: in the worker, in the triggerer, and in a worker again, until it ends."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import TaskDeferred

from tests.argo_workflows.server import ArgoServer

TICK = timedelta(milliseconds=50)
MANIFEST: dict[str, Any] = {
    "metadata": {"labels": {"team": "ml"}},
    "spec": {
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "rows", "value": "3"}]},
        "templates": [
            {
                "name": "main",
                "dag": {
                    "tasks": [
                        {"name": "prepare", "template": "step"},
                        {"name": "fit", "template": "step", "dependencies": ["prepare"]},
                    ]
                },
            },
            {"name": "step", "container": {"image": "alpine", "args": ["{{workflow.parameters.rows}}"]}},
        ],
    },
}


def task(cls: Any, **arguments: Any) -> Any:
    """An operator with a test's patience."""
    given = {"task_id": "task", "poll_interval": TICK, "deferrable": False, "timeout": timedelta(seconds=60)}
    return cls(**{**given, **arguments})


def run(made: Any, context: dict[str, Any]) -> Any:
    """Run a task until it ends; its trigger goes through JSON, as through Airflow's database."""
    step = lambda: made.execute(context)  # noqa: E731
    while True:
        try:
            return step()
        except TaskDeferred as exit_:
            event = fired(exit_.trigger)
            again = getattr(made, exit_.method_name)
            step = lambda again=again, event=event: again(context, event=event)  # noqa: E731


def fired(trigger: Any) -> Any:
    """Run a trigger, on the stream that it would share, and return its event."""
    made = restored(trigger)

    async def first() -> Any:
        async for event in made.filter_shared_stream(_nothing()) if made.shared_stream_key() else made.run():
            return json.loads(json.dumps(event.payload))

    return asyncio.run(asyncio.wait_for(first(), 120))


def restored(trigger: Any) -> Any:
    """Return a trigger as a triggerer gets it."""
    path, arguments = trigger.serialize()
    text = json.dumps(arguments)
    assert "Bearer" not in text, "a token travels"
    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    return type(trigger)(**{**json.loads(text), "dwell": 0})


async def _nothing() -> Any:
    await asyncio.Event().wait()
    yield None


def cleared(context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the same task after somebody has cleared it."""
    ti = context["ti"]
    ti.max_tries, ti.try_number, ti.task = 1, 2, SimpleNamespace(retries=0)
    return context


class Play:
    """Moves workflows on while a task waits for them.

    :param steps: each is called once, with the name of the workflow, when the one before is over and its own fact holds.
    """

    def __init__(self, argo: ArgoServer, *steps: Callable[[str], None]) -> None:
        self._argo, self._steps, self.trouble = argo, list(steps), ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Play:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(60)
        assert not self.trouble, self.trouble

    def _run(self) -> None:
        try:
            until(lambda: bool(self._argo.workflows()))
            name = self._argo.workflows()[0]["metadata"]["name"]
            for step in self._steps:
                step(name)
        except Exception as error:  # told in the test's own thread
            self.trouble = repr(error)


def until(fact: Callable[[], Any], seconds: float = 240.0) -> Any:
    """Wait for a fact."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found
