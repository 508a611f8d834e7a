"""What the official Airflow chart has of the keys that the overlays set; the chart itself is no part of the repository.

Read in ``values.schema.json`` and the templates of the chart in apache/airflow at 3e311d6de766 (April 2026, 1.22.0 then).
Names and types are the facts; ``PIPEOPS_AIRFLOW_CHART`` names an unpacked chart against which the tests run for real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubernetes import client

from tests.openapi import problems

#: Path of a key -> its types in JSON, or the model of Kubernetes that it holds. ``[]`` is an item of a list, ``*`` any name.
KEYS: dict[str, str] = {
    "airflowVersion": "string",
    "executor": "string",
    "images.airflow.repository": "string null",
    "images.airflow.tag": "string null",
    "dagProcessor.dagBundleConfigList[].name": "string",
    "dagProcessor.dagBundleConfigList[].classpath": "string",
    "dagProcessor.dagBundleConfigList[].kwargs": "object",
    "extraEnvFrom": "string null",
    "workers.celery.serviceAccount.create": "boolean null",
    "workers.celery.serviceAccount.name": "string null",
    "workers.kubernetes.serviceAccount.create": "boolean null",
    "workers.kubernetes.serviceAccount.name": "string null",
    "scheduler.serviceAccount.create": "boolean",
    "scheduler.serviceAccount.name": "string null",
    "triggerer.enabled": "boolean",
    "triggerer.serviceAccount.create": "boolean",
    "triggerer.serviceAccount.name": "string null",
    "triggerer.persistence.size": "string",
    "config.*.*": "string boolean integer number",
    "createUserJob.useHelmHooks": "boolean",
    "createUserJob.applyCustomEnv": "boolean",
    "createUserJob.jobAnnotations.*": "string",
    "migrateDatabaseJob.useHelmHooks": "boolean",
    "migrateDatabaseJob.applyCustomEnv": "boolean",
    "migrateDatabaseJob.jobAnnotations.*": "string",
    "fernetKeySecretName": "string null",
    "jwtSecretName": "string null",
    "apiSecretKeySecretName": "string null",
    "redis.passwordSecretName": "string null",
    "redis.securityContexts.pod": "V1PodSecurityContext",
    "data.brokerUrlSecretName": "string null",
    "securityContexts.pod": "V1PodSecurityContext",
    "securityContexts.containers": "V1SecurityContext",
    "statsd.enabled": "boolean",
    "statsd.securityContexts.pod": "V1PodSecurityContext",
    "env[].name": "string",
    "env[].value": "string",
    "volumes[]": "V1Volume",
    "volumeMounts[]": "V1VolumeMount",
}
_JSON = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def unknown(values: dict[str, Any]) -> tuple[set[str], list[str]]:
    """Compare an overlay with what the chart has.

    :param values: the overlay.
    :return: the paths of ``KEYS`` that it sets, and what is wrong with the others.
    """
    met: set[str] = set()
    wrong: list[str] = []

    def look(value: Any, path: str) -> None:
        known = next((key for key in (path, _free(path)) if key in KEYS), None)
        if known is not None:
            met.add(known)
            wrong.extend(f"{path}: {reason}" for reason in _wrong(value, KEYS[known]))
        elif isinstance(value, dict) and value:
            for name, inner in value.items():
                look(inner, f"{path}.{name}".lstrip("."))
        elif isinstance(value, list) and value:
            for inner in value:
                look(inner, f"{path}[]")
        else:
            wrong.append(f"{path}: the official chart has no such key")

    look(values, "")
    return met, wrong


def _free(path: str) -> str:
    """Return the path with the names that are one's own as ``*``."""
    first, *rest = path.split(".")
    if first == "config":
        return ".".join([first, *("*" for _ in rest)])
    for key in KEYS:
        if key.endswith(".*") and path.startswith(key[:-1]):
            return key
    return path


def _wrong(value: Any, kinds: str) -> list[str]:
    if kinds.startswith("V1"):
        return problems(value, getattr(client, kinds))
    kind = _JSON[type(value)]
    return [] if kind in kinds.split() else [f"is {kind}, and should be {kinds}"]


def chart(folder: Path) -> Path:
    """Write a stand-in: a chart of the same name that shows the values that reach it."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: airflow\nversion: 1.22.0\n")
    (folder / "values.yaml").write_text("executor: CeleryExecutor\n")
    (folder / "templates" / "values.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-values\n"
        "data:\n  values: {{ toJson .Values | quote }}\n"
    )
    return folder
