"""A broker, models in a store, and members of a group as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.models import artifact
from airflow_pipeops.serving.stream.releases import Model, Release
from tests.kafka import Broker, broker
from tests.warm import Warm


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One broker for all tests of a process."""
    with broker() as running:
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> list[Model]:
    """Three models of one feature; they differ in how they weigh it."""
    return trained(tmp_path_factory.mktemp("models"))


def trained(root: Path) -> list[Model]:
    """Train and store them."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"x": rng.normal(size=400), "kind": 1})
    made = []
    for version, noise in (("1", 0.5), ("2", 2.0), ("3", 4.0)):
        late = (frame["x"] + rng.normal(scale=noise, size=400) > 0).astype(int)
        model = LogisticRegression().fit(frame, late)
        manifest = artifact.Manifest("demo", {"x": "FP64", "kind": "INT64"}, "late")
        stored = artifact.save(model, manifest, root)
        made.append(Model("demo", version, stored.uri, stored.sha256))
    return made


@cache
def loaded() -> Warm:
    """Return a Python that has loaded what a member loads; it ends with this process."""
    libraries = ("confluent_kafka", "pandas", "prometheus_client", "sklearn.linear_model", "skops.io")
    return Warm(os.environ, (*libraries, "airflow_pipeops.serving.stream.member"))


class Stream:
    """Topics, a release table and the members of one group."""

    def __init__(self, kafka: Broker, folder: Path, partitions: int = 2, **environment: str) -> None:
        self.kafka, self.folder = kafka, folder
        self.topic, self.output, self.dead = (kafka.topic(partitions) for _ in range(3))
        self.group = f"g-{uuid.uuid4().hex[:10]}"
        self.partitions = partitions
        self.table: dict[str, str] = {}
        (folder / "releases").mkdir()
        (folder / "kafka.json").write_text(json.dumps(kafka.config))
        self._environment = environment
        self.members: list[Member] = []
        #: Start a member again that has ended because the broker was away.
        self.respawn = False
        self._asking: Any = None

    def release(self, *releases: Release) -> None:
        """Write releases into the table, as kubelet does: all files by one step."""
        self.table |= {one.revision: one.to_text() for one in releases}
        fresh = self.folder / f".new-{uuid.uuid4().hex}"
        fresh.mkdir()
        for name, text in self.table.items():
            (fresh / name).write_text(text)
        link = self.folder / "releases" / "..data"
        beside = self.folder / "releases" / "..data_tmp"
        beside.symlink_to(fresh)
        beside.rename(link)
        for name in self.table:
            shown = self.folder / "releases" / name
            if not shown.is_symlink():
                shown.symlink_to(Path("..data") / name)

    def member(self, name: str = "", python: Warm | None = None, **environment: str) -> Member:
        """Start a member, in a fork of a Python that has loaded what it needs unless another one is given."""
        given = {**self._environment, **environment}
        made = Member(self, name or f"m{len(self.members)}", given, python or loaded())
        self.members.append(made)
        return made

    def produce(self, records: dict[int, list[Any]] | None = None, *, count: int = 0, first: int = 0) -> None:
        """Write records; by ``count``, as many to each partition, with keys that tell them apart."""
        made = [
            (
                partition,
                f"{partition}-{number}".encode(),
                json.dumps({"x": (number % 97) / 50 - 1, "kind": 1}).encode(),
            )
            for number in range(first, first + count)
            for partition in range(self.partitions)
        ]
        made += [
            (p, f"x{p}-{n}".encode(), value)
            for p, values in (records or {}).items()
            for n, value in enumerate(values)
        ]
        self.kafka.produce(self.topic, made)

    def committed(self) -> dict[int, tuple[int, Any]]:
        """Return the committed offsets of the group, with what was said with them."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        from airflow_pipeops.serving.stream import progress
        from airflow_pipeops.serving.stream.errors import error_of

        if self._asking is None:  # it never subscribes, so it is no member
            self._asking = Consumer({**self.kafka.config, "group.id": self.group})
        places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        try:
            found = self._asking.committed(places, timeout=60)
        except KafkaException as error:  # a broker that has just started does not know yet
            if error_of(error, "offsets").retryable:
                return {}
            raise
        return {one.partition: (one.offset, progress.read(one.metadata)) for one in found if one.offset >= 0}

    def until(
        self, good: Callable[[dict[int, tuple[int, Any]]], bool], seconds: float = 120
    ) -> dict[int, tuple[int, Any]]:
        """Wait for something to be committed."""
        ends = time.monotonic() + seconds
        while True:
            found = self.committed()
            if len(found) == self.partitions and good(found):
                return found
            told = "\n".join(one.log() for one in self.members)
            assert time.monotonic() < ends, f"{found}\n{told[-6000:]}"
            for one in list(self.members):
                status = one.process.poll()
                if status == 1 and self.respawn:  # as Kubernetes does
                    self.members.remove(one)
                    self.member(one.name)
                else:
                    assert status in (None, 0, -9), told[-6000:]
            time.sleep(0.1)

    def passed(self, offset: int) -> dict[int, tuple[int, Any]]:
        """Wait until each partition is committed up to an offset."""
        return self.until(lambda found: all(one[0] >= offset for one in found.values()))

    def stop(self) -> None:
        """End all members."""
        for one in self.members:
            one.kill()
        if self._asking is not None:
            self._asking.close()


class Member:
    """A member as a process of its own."""

    def __init__(self, stream: Stream, name: str, environment: dict[str, str], python: Warm) -> None:
        said = {
            "KAFKA_CONFIG": str(stream.folder / "kafka.json"),
            "STREAM_GROUP": stream.group,
            "STREAM_TOPIC": stream.topic,
            "STREAM_OUTPUT": stream.output,
            "STREAM_DEAD_LETTER": stream.dead,
            "STREAM_RELEASES": str(stream.folder / "releases"),
            "STREAM_MEMBER": name,
            "STREAM_REPORT": "0.5",
            "HOST": "127.0.0.1",
            "PORT": "0",
            **environment,
        }
        self.name = name
        self.process = python.start("-m", "airflow_pipeops.serving.stream", **said)

    def log(self) -> str:
        """Return what it has written."""
        return self.process.said()

    def get(self, path: str) -> httpx.Response:
        """Ask it."""
        ends = time.monotonic() + 120
        while not (found := re.search(r"on (http://\S+)", self.log())):
            assert time.monotonic() < ends, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        return httpx.get(found[1] + path, timeout=20)

    def terminate(self) -> int:
        """End it as Kubernetes does; return its status."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(60).returncode

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()


@pytest.fixture
def stream(kafka, tmp_path) -> Iterator[Stream]:
    """A stream of two partitions, without a release."""
    made = Stream(kafka, tmp_path)
    yield made
    made.stop()
