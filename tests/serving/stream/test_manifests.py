"""The manifests of a streaming service are read back as the settings and the table that they were made from."""

from __future__ import annotations

from airflow_pipeops.serving.stream.manifests import GRACE, manifests
from airflow_pipeops.serving.stream.releases import Model, Release, Table, read
from airflow_pipeops.serving.stream.settings import settings

TABLE = Table(
    (
        Release("r1", Model("m", "1", "s3://m", "a" * 64), {0: 0}),
        Release("r2", Model("m", "2", "s3://n", "b" * 64)),
    )
)


def made(**more):
    given = {
        "image": "registry.example.com/scores@sha256:" + "0" * 64,
        "group": "g",
        "topic": "in",
        "output": "out",
    }
    return manifests("scores", **{**given, "table": TABLE, "dead": "dead", **more})


def test_the_table_and_the_settings_are_read_back(tmp_path):
    table, deployment = made(settings={"STREAM_BATCH": "50"}, namespace="ml")
    assert read(table["data"]) == TABLE
    assert {one["metadata"]["namespace"] for one in (table, deployment)} == {"ml"}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (tmp_path / "kafka.json").write_text('{"bootstrap.servers": "broker:9092"}')
    environment = {one["name"]: one.get("value", "pod-1") for one in container["env"]}
    found = settings({**environment, "KAFKA_CONFIG": str(tmp_path / "kafka.json")})
    assert (found.group, found.topic, found.output, found.dead, found.batch) == ("g", "in", "out", "dead", 50)
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert mounted[str(found.releases)] == "releases"
    assert found.member == "pod-1"


def test_a_pod_is_not_ended_for_being_behind_and_has_time_to_end_its_batch():
    _, deployment = made()
    spec = deployment["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == GRACE
    assert spec["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert spec["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert (
        deployment["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )
