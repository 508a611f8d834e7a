"""The metadata that Airflow reads must be what Airflow accepts, and what the code has."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from pathlib import Path
from urllib.parse import urlsplit

import airflow
import jsonschema
import pytest
from airflow.sdk import Asset

from airflow_pipeops.provider.metadata import get_provider_info
from airflow_pipeops.provider.uris import sanitize_uri

INFO = get_provider_info()
CONNECTIONS = {item["connection-type"]: item for item in INFO["connection-types"]}


def test_airflow_accepts_the_metadata() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_the_entry_points_are_installed() -> None:
    points = importlib.metadata.distribution("airflow-pipeops").entry_points
    assert points.select(group="apache_airflow_provider")["provider_info"].load() is get_provider_info
    assert points.select(group="airflow.plugins")["pipeops"].load().name == "pipeops"
    assert INFO["package-name"] == "airflow-pipeops"


@pytest.mark.parametrize("section", ["operators", "sensors", "hooks", "triggers", "bundles"])
def test_every_named_module_exists(section: str) -> None:
    for entry in INFO[section]:
        for module in entry["python-modules"]:
            importlib.import_module(module)


@pytest.mark.parametrize("conn_type", sorted(CONNECTIONS))
def test_every_connection_type_has_its_hook(conn_type: str) -> None:
    module, _, name = CONNECTIONS[conn_type]["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == conn_type
    assert hook.hook_name == CONNECTIONS[conn_type]["hook-name"]
    assert callable(hook.test_connection)
    assert hook.conn_name_attr.endswith("_conn_id")


def test_airflow_knows_the_asset_scheme() -> None:
    assert Asset("a", uri="pipeops://svc/release/production").uri == "pipeops://svc/release/production"
    with pytest.raises(ValueError, match="pipeops://<deliverable>/<kind>"):
        sanitize_uri(urlsplit("pipeops://svc"))
