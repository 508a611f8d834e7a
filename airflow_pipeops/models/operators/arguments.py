"""What operators are given: URIs, the result of a training, connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput, NotFound

if TYPE_CHECKING:
    from airflow_pipeops.models.registry import ModelVersion, Registry

UI_COLOR = "#efe7ff"


def data_uris(data: Any) -> list[str]:
    """Return a URI, or several, as a list."""
    found = [data] if isinstance(data, str) else list(data or ())
    if not found or not all(isinstance(uri, str) and uri for uri in found):
        raise InvalidInput(
            "data is no URI and no list of URIs",
            field="data",
            value=data,
            remedy="Give Parquet or CSV files by URI.",
        )
    return found


def trained(given: Any) -> Mapping[str, Any]:
    """Return the result of a training, checked."""
    wanted = ("artifact_uri", "sha256", "holdout_uri")
    if not isinstance(given, Mapping) or not all(given.get(key) for key in wanted):
        raise InvalidInput(
            "challenger is not what TrainModelOperator returns",
            field="challenger",
            remedy="Pass train.output, or a mapping with artifact_uri, sha256 and holdout_uri.",
        )
    return given


def check_name(name: str) -> None:
    """Refuse a model name that makes no good folder or registry name."""
    if not re.fullmatch(r"[A-Za-z0-9][-._A-Za-z0-9]{0,99}", name):
        raise InvalidInput(
            f"model name {name!r} is not usable",
            field="name",
            value=name,
            remedy="Use letters, digits, dots, dashes and underscores, starting with a letter or digit.",
        )


def storage_root(storage_conn_id: str) -> Any:
    """Return the root path of a storage connection."""
    from airflow_pipeops.base.storage import StorageHook

    return StorageHook(storage_conn_id).get_conn()


def registry_of(mlflow_conn_id: str) -> Registry:
    """Return the registry of a connection."""
    from airflow_pipeops.models.hook import MLflowHook

    return MLflowHook(mlflow_conn_id).get_registry()


def champion_of(registry: Registry, model: str, alias: str) -> ModelVersion:
    """Find the version that an alias names.

    :return: the version.
    :raises NotFound: if there is none.
    """
    found = registry.by_alias(model, alias)
    if found is None:
        raise NotFound(
            f"model {model!r} has no {alias!r} in the registry", remedy="Train and promote one first."
        )
    return found
