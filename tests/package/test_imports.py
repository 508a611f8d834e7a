"""Airflow parses DAG files all day: what they import must stay light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_pipeops
from airflow_pipeops.provider.examples import example_dags
from tests.forked import run_text

PACKAGE = Path(airflow_pipeops.__file__).parent

HEAVY = [
    "pandas", "numpy", "evidently", "great_expectations", "mlflow", "sklearn", "scipy", "pyarrow", "kubernetes",
    "argo_workflows", "confluent_kafka", "starlette", "uvicorn", "matplotlib", "duckdb",
]  # fmt: skip


def imports_of(source: str) -> list[str]:
    """Modules of this package that a DAG file imports at its top."""
    return [
        node.module
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("airflow_pipeops")
    ]


MODULES = sorted({module for path in example_dags().glob("*.py") for module in imports_of(path.read_text())})


def test_every_module_can_be_compiled_by_this_python() -> None:
    for path in PACKAGE.rglob("*.py"):
        compile(path.read_bytes(), str(path), "exec")


def test_dag_files_import_something_of_ours() -> None:
    assert len(MODULES) > 5


def came_along(module: str, folder: Path) -> str | None:
    """Import a module where Airflow is loaded already; say which heavy libraries came along, if any."""
    program = f"""
import importlib, sys
from airflow.sdk import DAG, task, Asset, AssetWatcher, BaseOperator, BaseSensorOperator, BaseHook
import airflow.triggers.base
before = set(sys.modules)
assert {module!r} not in before
importlib.import_module({module!r})
came = {{name.partition('.')[0] for name in set(sys.modules) - before}} & set({HEAVY!r})
assert not came, came
"""
    return run_text(program, folder)


@pytest.mark.parametrize("module", MODULES)
def test_no_heavy_library_comes_along(module: str, tmp_path: Path) -> None:
    assert came_along(module, tmp_path) is None


def test_a_heavy_library_would_be_seen(tmp_path: Path) -> None:
    assert "'pyarrow'" in (came_along("pyarrow.parquet", tmp_path) or "")
