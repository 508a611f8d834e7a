"""The manifests of a streaming service: what stands in Git, and a controller brings to life. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.serving.stream.releases import Table

#: Where the container finds its release table and the client's configuration.
_TABLE, _KAFKA = "/etc/stream/releases", "/etc/stream/kafka"
#: Seconds that a member has to end and commit its batch.
GRACE = 60


def manifests(
    name: str,
    *,
    image: str,
    group: str,
    topic: str,
    output: str,
    table: Table | None = None,
    dead: str = "",
    replicas: int = 1,
    kafka_secret: str = "kafka-client",
    namespace: str = "",
    settings: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the ConfigMap of the release table, and the Deployment of the members.

    A change of the table rolls no pod: its ConfigMap has a fixed name, and the members read it anew. What rolls them is
    another image or setting; the table's releases go on where they are. Pods have no static membership: a Deployment's pods
    change their names, and an old name would keep its partitions until its session ends.

    :param name: of both objects; the table's is ``NAME-releases``.
    :param image: by digest, that holds this package with its extra ``stream``.
    :param group: the consumer group.
    :param topic: that is read.
    :param output: topic of the scores.
    :param table: the release table; empty where nothing is released yet.
    :param dead: the dead-letter topic.
    :param replicas: members; more than the topic has partitions stand idle.
    :param kafka_secret: Secret whose key ``kafka.json`` is the client's configuration.
    :param namespace: of both; empty for that of whoever applies them.
    :param settings: further variables of the environment.
    :return: the objects.
    """
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "stream"}
    where = {"namespace": namespace} if namespace else {}
    data = {one.revision: one.to_text() for one in (table or Table(())).releases}
    environment = {
        "STREAM_GROUP": group,
        "STREAM_TOPIC": topic,
        "STREAM_OUTPUT": output,
        "STREAM_RELEASES": _TABLE,
        "KAFKA_CONFIG": f"{_KAFKA}/kafka.json",
        **({"STREAM_DEAD_LETTER": dead} if dead else {}),
        **(settings or {}),
    }
    pod_name = {"name": "STREAM_MEMBER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    container = {
        "name": "stream",
        "image": image,
        "command": ["python", "-m", "airflow_pipeops.serving.stream"],
        "env": [pod_name, *({"name": key, "value": value} for key, value in environment.items())],
        "ports": [{"name": "health", "containerPort": 8080}],
        # What waits is no reason to end a process: it would wait longer.
        "livenessProbe": _probe("/health/live", period=20, failures=3),
        "startupProbe": _probe("/health/live", period=2, failures=60),
        "readinessProbe": _probe("/health/ready", period=5, failures=2),
        "volumeMounts": [
            {"name": "releases", "mountPath": _TABLE, "readOnly": True},
            {"name": "kafka", "mountPath": _KAFKA, "readOnly": True},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "metadata": {
            "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "terminationGracePeriodSeconds": GRACE,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": "releases", "configMap": {"name": f"{name}-releases"}},
                {"name": "kafka", "secret": {"secretName": kafka_secret}},
            ],
        },
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-releases", **where, "labels": labels},
            "data": data,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, **where, "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
        },
    ]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "health"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }
