"""What a member says of itself over HTTP."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from airflow_pipeops.serving.stream import reporting
from airflow_pipeops.serving.stream.health import Sample
from airflow_pipeops.serving.stream.member import Member
from airflow_pipeops.serving.stream.partition import Partition
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.settings import Settings

AT = Settings({}, "g", "in", "out", Path("/absent"), member="m0", host="127.0.0.1", port=0)


@pytest.fixture
def member() -> Member:
    return Member(AT, None, lambda: 100.0)  # type: ignore[arg-type]  # it reads nothing here


def figures(member: Member) -> dict[tuple[str, ...], float]:
    code, content, kind = reporting.answer(member, AT, "/metrics", 130.0)
    assert (code, kind.partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name.removeprefix("pipeops_stream_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def test_what_is_counted_is_told_to_the_last_record_and_whatever_stands_in_a_label(member):
    member.counters.scored, member.counters.seconds = 12_345_678, 0.25
    # Others may write to the group's offsets, too.
    member.partitions[0] = Partition(0, 5, Progress(revision='r"1\n', sha256="a" * 64))
    member.partitions[1] = Partition(1, None, Progress(), rule="no_release", reason="none")
    found = figures(member)
    assert found["scored_total",] == 12_345_678
    assert found["model_seconds_total",] == 0.25
    assert found["turn_age_seconds",] == 30
    assert found["healthy",] == 0
    assert found["release", "0", 'r"1\n', "a" * 12] == 1
    assert found["paused", "1", "no_release"] == 1
    assert ("waiting",) not in found


@pytest.mark.parametrize(
    ("said_at", "health", "age"),
    [((100.0, 95.0), "healthy", 35), ((100.0, 60.0), "behind", 70), ((None, None), "healthy", None)],
)
def test_without_a_commit_there_is_no_progress_whatever_waits(member, said_at, health, age):
    """A broker that takes no commit, while nothing seems to wait: an idle partition is committed each few seconds, too."""
    member.samples.append(Sample(100.0, 0, 0.0, 5))
    for number, at in enumerate(said_at):
        member.partitions[number] = Partition(
            number, None if at is None else 5, Progress(), said_at=at or 0.0
        )
    code, content, _ = reporting.answer(member, AT, "/health", 130.0)
    told = json.loads(content)
    assert (code == 200, told["health"], told["seconds_since_commit"]) == (health == "healthy", health, age)
    assert figures(member).get(("commit_age_seconds",)) == age


@pytest.mark.parametrize(
    ("path", "now", "code", "body"),
    [
        ("/health/live", 219.0, 200, {"live": True}),
        ("/health/live", 221.0, 503, {"live": False}),
        ("/health/ready", 219.0, 503, {"ready": False}),
        ("/absent", 219.0, 404, None),
    ],
)
def test_what_is_asked_is_answered(member, path, now, code, body):
    status, content, kind = reporting.answer(member, AT, path, now)
    assert (status, json.loads(content), kind) == (code, body, "application/json")


def test_who_connects_and_says_nothing_keeps_no_thread(member, monkeypatch):
    server = reporting.serve(member, AT, lambda: 100.0)
    monkeypatch.setattr(server.RequestHandlerClass, "timeout", 0.2)
    try:
        with socket.create_connection(server.server_address[:2], timeout=30) as silent:
            assert silent.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
