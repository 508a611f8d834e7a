"""Shared fixtures: a task context without an Airflow database."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from tests import surroundings

# Before Airflow is imported, which reads its configuration at once.
surroundings.arrange()
# The gate says the same of the same commit; every night new examples are tried.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.register_profile("nightly", deadline=None, max_examples=20_000)
# A worker of pytest-xdist has a main module without a file, which pyspark.sql.connect takes for a doctest that lacks
# its requirements: it ends the process with code 0, in the middle of a test.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = pytest.__file__
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

#: Files and a folder that last so long that all others are at their end and wait for them, if they do not begin first.
LONGEST = (
    "tests/ui",
    "tests/dags/test_model_guard.py",
    "tests/closed_loop/test_simulation.py",
    "tests/serving/stream/test_real_broker.py",
    "tests/models/reproduction/test_reproduce.py",
    "tests/dags/test_example_dags.py",
    "tests/dags/test_workflow_to_image.py",
    "tests/base/test_watchers_killed.py",
    "tests/drift/test_compatible.py",
    "tests/serving/batch/test_killed.py",
    "tests/drift/test_engines_agree.py",
    "tests/demo/sandbox/test_reconcile.py",
    "tests/demo/sandbox/test_watch_faults.py",
    "tests/git/test_repository.py",
    "tests/deploy/helm/test_operators.py",
    "tests/models/test_operators.py",
)


def pytest_configure() -> None:
    """Collect no garbage while tests are collected: they stay, and to look through them takes a fifth of the time."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what lasts longest begin first."""
    by_scope: dict[str, list[pytest.Item]] = {name: [] for name in LONGEST}
    for item in items:
        by_scope.setdefault(_scope(item.nodeid), []).append(item)
    items[:] = [item for those in by_scope.values() for item in those]


def _scope(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return "tests/ui" if file.startswith("tests/ui/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one worker, and to one all files that share a server, which takes long to start."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Collect garbage from here on, and never again look through what was loaded so far."""
    gc.collect()
    gc.freeze()
    gc.enable()


@dataclass
class FakeTaskInstance:
    """The few facts of a task instance that an operator reads."""

    dag_id: str = "dag"
    run_id: str = "run-1"
    task_id: str = "task"
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, key: str, include_prior_dates: bool = False) -> Any:
        return self.xcoms.get(key)


@pytest.fixture
def context() -> Iterator[dict[str, Any]]:
    """A task context with real outlet-event accessors and no inlets; what is emitted must be as it is published."""
    from airflow.sdk.execution_time.context import OutletEventAccessors

    made = {
        "ti": FakeTaskInstance(),
        "outlet_events": OutletEventAccessors(),
        "inlet_events": {},
        "triggering_asset_events": {},
        "params": {},
        "dag_run": SimpleNamespace(run_id="run-1", conf={}),
    }
    events = made["outlet_events"]
    yield made
    for key in list(events):
        _published(events[key].extra)


def _published(extra: Any) -> None:
    """Hold what was emitted against the published schema of its kind."""
    from airflow_pipeops.delivery.records import KINDS
    from airflow_pipeops.delivery.schemas import schema

    if isinstance(extra, dict) and extra.get("kind") in KINDS and extra.get("source"):
        import jsonschema

        jsonschema.validate(extra, schema(extra["kind"]))
