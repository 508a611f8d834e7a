"""The DAG of the stream, run to its end: a real broker, a real member of the group, real Git, and the flights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from confluent_kafka.admin import NewTopic

from airflow_pipeops.demo import flights
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.seeds import run_git
from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models import artifact
from airflow_pipeops.serving.stream.desired import table_in
from tests.dags.test_example_dags import run_dag
from tests.kafka import broker
from tests.servers import free_ports
from tests.serving.stream.conftest import Stream

NAME = "flight-delay"
FILE = f"apps/{NAME}-stream/overlays/production/releases.yaml"
MODEL = f"apps/{NAME}/overlays/production/model.yaml"
ENV = "spec.template.spec.containers[name=server].env"
TABLE = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: flight-delay-stream-releases\ndata: {}\n"


@dataclass
class Track:
    """A laptop with a stream: what is committed to the release table reaches the member."""

    stack: Stack
    stream: Stream
    rows: pd.DataFrame
    produced: int = 0

    def git(self) -> GitRepository:
        return GitRepository(self.stack.seeds.deploy_repository.as_uri(), cache_dir=self.stack.home / "cache")

    def table(self) -> str:
        return self.git().read(FILE, self.git().fetch()).decode()

    def produce(self, count: int) -> None:
        """Flights come, so many to each partition."""
        chosen = self.rows.iloc[self.produced : self.produced + count]
        values = [line.encode() for line in chosen.to_json(orient="records", lines=True).splitlines()]
        self.stream.produce({0: values, 1: values})
        self.produced += count

    def run(self, **form: Any) -> dict:
        said = {"conn_type": "kafka", "extra": self.stream.kafka.config}
        return run_dag(
            self.stack, "model_to_stream", form, env={"AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps(said)}
        )

    def headers(self) -> list[dict[str, str]]:
        read = self.stream.kafka.records(self.stream.output)
        return [{name: value.decode() for name, value in one.headers()} for one in read]


@pytest.fixture(scope="module")
def track(tmp_path_factory) -> Iterator[Track]:
    """Two versions, of which production serves the first; a topic with flights; a member that knows no release yet."""
    stack = Stack(
        tmp_path_factory.mktemp("stream") / "home", Ports(airflow=free_ports(2), nodes=free_ports(6))
    )
    over = threading.Event()
    try:
        stack.prepare()
        stack.start_sandbox()
        stack.migrate()
        with broker() as kafka:
            stream = Stream(kafka, tmp_path_factory.mktemp("member"))
            stream.group, stream.topic, stream.output = (
                f"{NAME}-stream-production",
                "flights",
                f"{NAME}-stream-production",
            )
            topics = [NewTopic(name, 2, 1) for name in (stream.topic, stream.output)]
            for made in kafka.admin().create_topics(topics, operation_timeout=60).values():
                made.result(120)
            made = Track(stack, stream, _versions(stack))
            stream.release()
            delivering = threading.Thread(target=_deliver, args=(made, over.wait), daemon=True)
            delivering.start()
            try:
                stream.member()
                yield made
            finally:
                over.set()
                delivering.join(60)
                stream.stop()
    finally:
        stack.stop()


def _versions(stack: Stack) -> pd.DataFrame:
    """Register two versions, and let Git and the registry name the first."""
    git = GitRepository(stack.seeds.deploy_repository.as_uri(), cache_dir=stack.home / "cache")
    registry = stack.registry()
    for number, month in (("1", 5), ("2", 8)):
        data = flights.features(flights.month(month, 3000))
        manifest = artifact.Manifest(NAME, artifact.features_of(data, flights.FEATURES), flights.TARGET)
        stored = artifact.save(flights.train(data, 0), manifest, stack.home / "artifacts")
        registry.register(NAME, stored.uri, stored.sha256)
        if number == "1":
            said = {"MODEL_URI": stored.uri, "MODEL_SHA256": stored.sha256, "MODEL_VERSION": number}
            values = {f"{ENV}[name={name}].value": value for name, value in said.items()}
            git.commit_edit(MODEL, values, "Deploy version 1", key="test 1")
    registry.set_alias(NAME, "champion", "1")
    work = stack.home / "person"
    run_git(stack.home, "clone", "--quiet", stack.seeds.deploy_repository.as_uri(), str(work))
    (work / FILE).parent.mkdir(parents=True)
    (work / FILE).write_text(TABLE)
    run_git(work, "add", "--all")
    author = ("-c", "user.name=Platform team", "-c", "user.email=platform@example.com")
    run_git(work, *author, "commit", "--quiet", "-m", "The stream has a table")
    run_git(work, "push", "--quiet", "origin", "HEAD:main")
    return flights.features(flights.month(10, 2000))[list(flights.FEATURES)]


def _deliver(track: Track, pause: Callable[[float], bool]) -> None:
    """Mount what Git has, as a controller and kubelet do."""
    seen = ""
    while not pause(0.3):
        content = track.table()
        if content != seen:
            track.stream.release(*table_in(content.encode(), FILE).releases)
            seen = content


@pytest.mark.nightly  # four runs of a DAG, a broker and a member: five times what the gate has for it
@pytest.mark.timeout(2400)
def test_a_model_is_released_to_a_stream_replayed_and_taken_back(track: Track) -> None:
    track.produce(60)
    # The first release of all: what production serves, over all that has come.
    first = track.run(start='{"0": 0, "1": 0}')
    assert first["state"] == "success", first["log"][-5000:]
    assert first["tasks"]["staging.announce"] == first["tasks"]["named"] == "skipped"
    released = [one["body"] for one in first["emitted"] if one["kind"] == "release"]
    assert [(one["release"], one["version"], one["proven_by"]) for one in released] == [
        ("r1", "1", "committed offsets")
    ]
    assert [one["kind"] for one in first["emitted"]].count("change") == 2
    track.stream.passed(60)

    # Another version, from now on, upon a topic that is idle: no score is claimed.
    second = track.run(version="2")
    assert second["state"] == "success", second["log"][-5000:]
    (released,) = [one["body"] for one in second["emitted"] if one["kind"] == "release"]
    assert (released["release"], released["version"], released["proven_by"]) == ("r2", "2", "empty range")
    track.produce(20)
    track.stream.passed(80)

    # Back: the version before, and what the other one has scored is scored again.
    back = track.run(version="1", start='{"0": 60, "1": 60}', scored_before="again")
    assert back["state"] == "success", back["log"][-5000:]
    (released,) = [one["body"] for one in back["emitted"] if one["kind"] == "release"]
    assert (released["release"], released["version"], released["proven_by"]) == (
        "r3",
        "1",
        "committed offsets",
    )
    track.stream.until(lambda found: all(one[1].last == "r3" and one[0] >= 80 for one in found.values()))
    found = track.headers()
    assert sorted(one["rev"] for one in found) == ["r1"] * 120 + ["r2"] * 40 + ["r3"] * 40
    assert {one["model"] for one in found if "replay" in one} == {f"{NAME}/1"}
    assert sum("replay" in one for one in found) == 40

    # What was taken back changes nothing.
    table = track.table()
    track.stack.registry().block(NAME, "2", "worse on 20 days")
    blocked = track.run(version="2")
    assert blocked["tasks"]["named"] == "failed"
    assert "version 2 was taken back: worse on 20 days" in blocked["log"]
    assert track.table() == table
