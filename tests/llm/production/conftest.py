"""What the tests of production share: a store, and a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_pipeops.llm.production.calls import Call


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the connection of artifacts names."""
    root = tmp_path / "store"
    named = json.dumps({"conn_type": "pipeops_storage", "host": f"file://{root}"})
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_ARTIFACTS", named)
    return root


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[list[Call]], str]:
    """Write calls as a log of requests, and return its name."""

    def write(calls: list[Call]) -> str:
        path = tmp_path / "requests.jsonl"
        path.write_text("".join(json.dumps(call.to_json()) + "\n" for call in calls))
        return str(path)

    return write
