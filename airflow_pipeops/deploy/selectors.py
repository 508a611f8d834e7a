"""Which pods a workload is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text


def selector(item: Mapping[str, Any]) -> str:
    """Return the selector of a workload as the server takes it; empty where it has none."""
    told = map_(map_(item.get("spec")).get("selector"))
    parts = [f"{key}={value}" for key, value in map_(told.get("matchLabels")).items()]
    for one in maps(told.get("matchExpressions")):
        key, values = text(one.get("key")), ",".join(map(str, one.get("values") or ()))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(forms.get(text(one.get("operator")), f"!{key}"))
    return ",".join(parts)


def selects(item: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a workload's selector takes a pod; one without a selector takes none."""
    told = map_(map_(item.get("spec")).get("selector"))
    labels = map_(map_(pod.get("metadata")).get("labels"))
    wanted, expressions = map_(told.get("matchLabels")), maps(told.get("matchExpressions"))
    if not wanted and not expressions:
        return False
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(one, labels) for one in expressions
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = text(expression.get("key")), expression.get("values") or ()
    operator = text(expression.get("operator"))
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")
