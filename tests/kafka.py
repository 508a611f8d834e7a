"""A Kafka broker of our own: real, one node, empty, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_ports
from tests.surroundings import outside

ROOT = Path(__file__).parents[1]
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listener}://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name={listener}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=1
num.io.threads=2
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""
#: Names and passwords for a broker that asks for them; only ``admin`` may do anything without an ACL.
_SASL = """\
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="admin" password="admin-secret" user_admin="admin-secret" user_reader="reader-secret";
"""


class Broker:
    """A broker as a process.

    :param jars: folder of Kafka's jars.
    :param folder: that it writes to.
    :param sasl: ask clients for a name and a password.
    """

    def __init__(self, jars: Path, folder: Path, *, sasl: bool = False) -> None:
        self._folder = folder
        self._admin: Any = None
        port = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self._port = port
        self.config: dict[str, str] = {"bootstrap.servers": self.address}
        if sasl:
            self.config |= {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "admin",
                "sasl.password": "admin-secret",
            }
        listener = "SASL_PLAINTEXT" if sasl else "PLAINTEXT"
        said = _PROPERTIES.format(port=port, controller=port + 1, folder=folder, listener=listener)
        (folder / "server.properties").write_text(said + (_SASL if sasl else ""))
        memory = ["-Xmx320m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        self._java = ["java", *memory, "-cp", f"{jars}/*"]
        tool = [*self._java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk"]
        subprocess.run(
            [*tool, "-c", str(folder / "server.properties")], check=True, capture_output=True, timeout=120
        )
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._folder / "server.properties")],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        ends = time.monotonic() + 180
        while self.process.poll() is None and time.monotonic() < ends:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.2)
        self.kill()  # nobody else has it yet
        raise AssertionError((self._folder / "log").read_text()[-3000:])

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    # ---- what tests do with it ---------------------------------------------------------------------------------------

    def admin(self) -> Any:
        """Return a client that may do all."""
        from confluent_kafka.admin import AdminClient

        if self._admin is None:  # one that nobody holds ends its calls
            self._admin = AdminClient(self.config)
        return self._admin

    def topic(self, partitions: int = 2, **config: str) -> str:
        """Make a topic with a name of its own."""
        from confluent_kafka.admin import NewTopic

        name = f"t-{uuid.uuid4().hex[:12]}"
        made = self.admin().create_topics(
            [NewTopic(name, partitions, 1, config=config)], operation_timeout=60
        )
        made[name].result(120)
        # The controller has made it; the broker, which everybody asks, may not have heard of it yet.
        ends = time.monotonic() + 240
        while not self.admin().list_topics(name, timeout=60).topics[name].partitions:
            assert time.monotonic() < ends, f"the broker has not heard of {name}"
            time.sleep(0.02)
        return name

    def produce(self, topic: str, records: list[tuple[int, bytes, bytes]]) -> None:
        """Write records: partition, key, value."""
        from confluent_kafka import Producer

        producer = Producer({**self.config, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
        for partition, key, value in records:
            producer.produce(topic, value, key, partition)
            producer.poll(0)
        assert producer.flush(120) == 0

    def records(self, topic: str) -> list[Any]:
        """Return all records that a reader of committed transactions finds up to the present end."""
        from confluent_kafka import Consumer, IsolationLevel, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        admin = self.admin()
        count = len(admin.list_topics(topic, timeout=60).topics[topic].partitions)
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(count)}
        found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
        ends = {one.partition: future.result(60).offset for one, future in found.items()}
        reading = {
            **self.config,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        consumer = Consumer(reading)
        consumer.assign([TopicPartition(topic, number, 0) for number, end in ends.items() if end])
        read: list[Any] = []
        left = {number for number, end in ends.items() if end}
        deadline = time.monotonic() + 120
        while left and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                if message.error() is None:
                    read.append(message)
            for position in consumer.position(consumer.assignment()):
                if position.offset >= ends[position.partition]:
                    left.discard(position.partition)
        consumer.close()
        assert not left, f"partitions {left} of {topic} could not be read to their end"
        return read


@contextmanager
def broker(*, sasl: bool = False) -> Iterator[Broker]:
    """Start a broker; the test is skipped, with the reason, where its parts cannot be had."""
    found = subprocess.run(
        [str(ROOT / ".ci" / "kafka")], capture_output=True, text=True, env=outside(), timeout=900
    )
    if found.returncode != 0:
        pytest.skip(f"no Kafka: {(found.stderr.strip().splitlines() or ['?'])[-1]}")
    folder = Path(tempfile.mkdtemp(prefix="kafka-", dir=os.environ.get("TMPDIR")))
    started: list[Broker] = []
    try:
        started.append(Broker(Path(found.stdout.strip()), folder, sasl=sasl))
        yield started[0]
    finally:
        for one in started:
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)
