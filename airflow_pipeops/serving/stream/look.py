"""What the broker knows of a group: read from outside of it. Whoever looks is never a member, and moves no partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.redaction import remember
from airflow_pipeops.serving.stream import progress
from airflow_pipeops.serving.stream.errors import called, error_of, library, partitions_of
from airflow_pipeops.serving.stream.liveness import Expectation, Group, Memory, Seen, decide
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.streams.source import problem_of

#: Seconds that Kafka has for one call.
CALL = 20.0
#: What the hook decides; the rest of the connection's extra is the client's configuration.
NOT_OF_THE_CLIENT = ("group.id", "client.id", "enable.auto.commit", "auto.offset.reset")


class GroupReader:
    """Looks at one group and its topics. It blocks; an event loop calls it in a thread.

    It asks for the offsets by a consumer that never subscribes: the admin client of librdkafka 2.16 ends the process where
    the group's coordinator is not ready (``ListConsumerGroupOffsets``, answered with ``COORDINATOR_LOAD_IN_PROGRESS``).

    :param config: of the client, as of ``bootstrap.servers``.
    :param group: the consumer group.
    :param topic: that it reads.
    :param output: topic of its scores, whose readers an open transaction would keep waiting; empty to leave it out.
    """

    def __init__(self, config: Mapping[str, Any], group: str, topic: str, output: str = "") -> None:
        kafka = library()
        self._kafka, self._group, self._topic, self._output = kafka, group, topic, output
        common = {name: value for name, value in config.items() if name not in NOT_OF_THE_CLIENT}
        quiet = logging.getLogger("airflow_pipeops.kafka")
        quiet.setLevel(
            logging.CRITICAL
        )  # what matters becomes an error; the client repeats itself each second
        from confluent_kafka.admin import AdminClient

        try:
            self._admin = AdminClient(common, logger=quiet)
            self._reader = kafka.Consumer(
                {**common, "group.id": group, "enable.auto.commit": False}, logger=quiet
            )
        except (kafka.KafkaException, ValueError) as error:
            raise error_of(error, "the client") from error

    def __enter__(self) -> GroupReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._reader.close()

    def look(self) -> Group:
        """Return what is so now.

        :return: the group, its offsets and its topics.
        :raises PipeOpsError: where it cannot be read.
        """
        count = self._count(self._topic)
        # The first record that is kept is read before the offsets, and the last one after them: so what is found to lie
        # beyond them does.
        low = self._listed(self._topic, count, "earliest")
        state, owners, members = self._members()
        places = [self._kafka.TopicPartition(self._topic, number) for number in range(count)]
        about = f"the offsets of group {self._group!r}"
        found = called(about, self._reader.committed, places, timeout=CALL)
        committed = {one.partition: one for one in found}
        stable, high = self._ends(self._topic, count)
        seen = []
        for number in range(count):
            one = committed[number]
            if one.error is not None:
                raise error_of(one.error, about)
            there = one.offset >= 0
            said = progress.read(one.metadata) if there else None
            offset = one.offset if there else None
            seen.append(
                Seen(number, offset, said, stable[number], high[number], owners.get(number, ""), low[number])
            )
        outputs = {}
        if self._output:
            readable, written = self._ends(self._output, self._count(self._output))
            outputs = {str(number): (readable[number], written[number]) for number in readable}
        return Group(state, members, tuple(seen), outputs, time.time())

    def ends(self) -> dict[int, int]:
        """Return up to which offset the committed records of each partition can be read."""
        return self._ends(self._topic, self._count(self._topic))[0]

    def _count(self, topic: str) -> int:
        return partitions_of(self._admin, topic, CALL)

    def _members(self) -> tuple[str, dict[int, str], tuple[str, ...]]:
        futures = self._admin.describe_consumer_groups([self._group], request_timeout=CALL)
        found = called(f"group {self._group!r}", futures[self._group].result, CALL + 5)
        owners: dict[int, str] = {}
        for member in found.members:
            for place in member.assignment.topic_partitions if member.assignment else ():
                if place.topic == self._topic:
                    owners[place.partition] = member.client_id
        return found.state.name, owners, tuple(sorted(member.client_id for member in found.members))

    def _ends(self, topic: str, count: int) -> tuple[dict[int, int], dict[int, int]]:
        """Return the end for readers of committed transactions, and the end of what is written, by partition."""
        level = self._kafka.IsolationLevel
        # Read one after the other: what was written between the two is no open transaction.
        readable = self._listed(topic, count, "latest", isolation_level=level.READ_COMMITTED)
        return readable, self._listed(topic, count, "latest", isolation_level=level.READ_UNCOMMITTED)

    def _listed(
        self, topic: str, count: int, which: Literal["earliest", "latest"], **how: Any
    ) -> dict[int, int]:
        """Return the offset of the first record that each partition keeps, or of the next that comes."""
        from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # documented, and not in its list

        spec = getattr(OffsetSpec, which)()
        asked = {self._kafka.TopicPartition(topic, number): spec for number in range(count)}
        futures = self._admin.list_offsets(asked, request_timeout=CALL, **how)
        about = f"topic {topic!r}"
        return {place.partition: called(about, one.result, CALL + 5).offset for place, one in futures.items()}


def looked(reader: GroupReader) -> Group | Trouble:
    """Look, and return what is seen, or why nothing is.

    :param reader: of the group.
    :return: the group, or the trouble that may pass.
    :raises PipeOpsError: where looking again cannot help.
    """
    try:
        return reader.look()
    except PipeOpsError as error:
        problem = problem_of(error)
        if isinstance(problem, Trouble):
            return problem
        raise


def judged(
    reader: GroupReader, expected: Expectation, memory: Memory, tell: Callable[..., None]
) -> tuple[Verdict, Memory]:
    """Look, and judge what is seen; tell where it is another rule than before that decides.

    :param reader: of the group.
    :param expected: what must come true.
    :param memory: what the last call returned; ``Memory()`` at first.
    :param tell: logs, as ``log.info`` does.
    :return: the verdict, and the memory for the next call.
    """
    verdict, after = decide(looked(reader), expected, memory, time.time())
    if verdict.rule != memory.rule:
        tell("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)
    return verdict, after


def client_config(extra: Mapping[str, Any], conn_id: str) -> dict[str, Any]:
    """Return the configuration of the client that a connection of type ``kafka`` holds in its extra.

    :param extra: of the connection.
    :param conn_id: its id.
    :return: the configuration, with the names of librdkafka.
    :raises InvalidInput: where it names no broker.
    """
    config = {name: value for name, value in extra.items() if not name.endswith("_cb")}
    if not config.get("bootstrap.servers"):
        raise InvalidInput(
            f"connection {conn_id!r} names no bootstrap.servers in its extra",
            field=f"{conn_id}.bootstrap.servers",
            remedy='Write the client\'s configuration there: {"bootstrap.servers": "host:port", ...}.',
        )
    for name in (
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
    ):
        remember(str(config.get(name) or ""))
    return config
