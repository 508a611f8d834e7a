"""What operators are given: URIs, the result of a training, connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import finite
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.exceptions import InvalidInput, NotFound

if TYPE_CHECKING:
    import pandas as pd

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


def moment(field: str, value: str | None) -> datetime | None:
    """Read a time in ISO 8601.

    :param field: the name under which the reader knows the value.
    :return: the time, as it is written, with its zone or without; ``None`` where none is given.
    :raises InvalidInput: if it is none.
    """
    if value is None or value == "":
        return None
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (ValueError, AttributeError, TypeError) as error:
        remedy = "Write it as 2026-01-31T10:00:00Z."
        raise InvalidInput(
            f"{field} {value!r} is no time", field=field, value=value, remedy=remedy
        ) from error


def figure(field: str, given: Any) -> float | None:
    """Read a number, or the ``value`` of an earlier result; templates render to text.

    :param field: the name under which the reader knows the value.
    :return: the number; ``None`` where none is given.
    :raises InvalidInput: if it is none, or not finite.
    """
    value = given.get("value") if isinstance(given, Mapping) else given
    if value is None or value in ("", "None"):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{field} is {value!r}",
            field=field,
            value=value,
            remedy="Give a number, or an earlier result.",
        ) from error
    finite(field, found)
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


def feature_set_of(given: Any) -> dict[str, str] | None:
    """Return what says which features a model is trained on, checked; ``None`` where nothing does."""
    if not given:
        return None
    found = map_(given)
    path, digest = text(found.get("path")), text(found.get("digest"))
    if not (path and digest):
        raise InvalidInput(
            "feature_set is not what BuildFeaturesOperator returns",
            field="feature_set",
            value=given,
            remedy='Pass features.output["feature_set"], or a mapping with path and digest.',
        )
    return {"path": path, "digest": digest}


def check_name(name: str) -> None:
    """Refuse a model name that makes no good folder or registry name."""
    if not re.fullmatch(r"[A-Za-z0-9][-._A-Za-z0-9]{0,99}", name):
        raise InvalidInput(
            f"model name {name!r} is not usable",
            field="name",
            value=name,
            remedy="Use letters, digits, dots, dashes and underscores, starting with a letter or digit.",
        )


def labelled_of(given: Any) -> tuple[pd.DataFrame, str]:
    """Read the table to whose rows labels were joined.

    :param given: what :class:`~airflow_pipeops.models.operators.labels.JoinLabelsOperator` returned, or its URI.
    :return: the table, and its digest.
    :raises InvalidInput: for anything else, or a table that was altered.
    """
    from airflow_pipeops.models import storage
    from airflow_pipeops.models.labels.joining import joined

    found = map_(given) if isinstance(given, Mapping) else {"uri": given}
    uri, sha256 = str(found.get("uri") or ""), found.get("sha256")
    if not uri:
        raise InvalidInput(
            "labelled is not what JoinLabelsOperator returns",
            field="labelled",
            remedy="Pass join.output, or the URI of a joined table.",
        )
    frame, digest = storage.read_tables([uri])
    if sha256:
        storage.demand(uri, digest, sha256)
    return joined(frame), digest


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
