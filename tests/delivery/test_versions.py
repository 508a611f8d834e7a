"""What ran a task, as its records say it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import RecordOperator
from airflow_pipeops.delivery.versions import VERSIONS, packages, versions_of


def test_a_record_says_what_ran_its_task(context: Any) -> None:
    ti = context["ti"]
    ti.dag_version_id = "0197-v1"
    ti.bundle_instance = SimpleNamespace(version="c0ffee")
    shop = Deliverable("shop")
    RecordOperator(task_id="t", kind="incident", body={}, deliverable=shop, environment="production").execute(
        context
    )
    source = context["outlet_events"][shop.asset("incident", "production")].extra["source"]
    assert source["airflow"] == version("apache-airflow-core")
    assert (source["dag_version"], source["bundle_version"]) == ("0197-v1", "c0ffee")
    assert len(source["packages"]) == 16
    assert set(source) == {"dag", "run", "task", "map_index", *VERSIONS}


def test_what_nobody_knows_is_left_out(context: Any) -> None:
    assert set(versions_of(context)) == {"airflow", "python", "packages"}


def test_the_digest_of_packages_follows_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "one-1.0.dist-info").mkdir()
    (tmp_path / "one.py").touch()
    first = packages([str(tmp_path), "/nowhere"])
    (tmp_path / "two.py").touch()
    assert packages([str(tmp_path)]) == first != ""
    (tmp_path / "one-1.0.dist-info").rename(tmp_path / "one-1.1.dist-info")
    assert packages([str(tmp_path)]) != first
    assert packages(["/nowhere"]) == ""
