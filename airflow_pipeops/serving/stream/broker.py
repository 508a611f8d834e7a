"""The two ends of a member: a consumer and a producer, and how a batch is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import Conflict, PipeOpsError
from airflow_pipeops.serving.stream.errors import called, error_of, library, name_of, partitions_of

if TYPE_CHECKING:
    from airflow_pipeops.serving.stream.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that Kafka has for one call.
CALL = 30.0
#: After this time without an end, the broker aborts a transaction of a member that is gone.
TRANSACTION = 30.0
#: A record that is too large for the dead-letter topic is cut to so many bytes.
CUT = 100_000
#: The group has moved on without this member: what it holds is read again, by itself or by another.
_MOVED = frozenset(
    {
        "_ASSIGNMENT_LOST",
        "_NO_OFFSET",
        "FENCED_MEMBER_EPOCH",
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "STALE_MEMBER_EPOCH",
        "UNKNOWN_MEMBER_ID",
    }
)


@dataclass(frozen=True)
class Output:
    """One record to write.

    :param topic: to write to.
    :param key: of the input record.
    :param value: of the record.
    :param headers: of the record.
    :param time: timestamp of the input record, in milliseconds; 0 for the present.
    :param partition: of the input record, which decides where it has no key.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    time: int
    partition: int


class Moved(Exception):
    """What was done does not count: the partitions are another member's, or the transaction was aborted."""


class Broker:
    """Reads, and writes what was read together with how far.

    :param configured: the settings of the member.
    """

    def __init__(self, configured: Settings) -> None:
        kafka = library()
        self._kafka, self._at = kafka, configured
        self._exact = configured.delivery == "exactly-once"
        common = {**configured.kafka, "client.id": configured.member}
        reading = {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            **common,
            "group.id": configured.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        if reading.get("group.protocol") == "consumer":  # there the broker decides both
            reading.pop("partition.assignment.strategy")
            reading.pop("session.timeout.ms")
        writing = {"compression.type": "lz4", "linger.ms": 5, **common, "enable.idempotence": True}
        if self._exact:
            writing["transactional.id"] = f"{configured.group}-{configured.member}"
            writing["transaction.timeout.ms"] = int(TRANSACTION * 1000)
        quiet = logging.getLogger("kafka")
        try:
            self.consumer = kafka.Consumer(reading, logger=quiet)
            self._producer = kafka.Producer(writing, logger=quiet)
        except (kafka.KafkaException, ValueError) as error:
            raise error_of(error, "the client") from error
        self._incremental = "cooperative" in str(reading.get("partition.assignment.strategy", "cooperative"))
        self._counts: dict[str, int] = {}
        self._closing = False
        #: Partitions of which the client reads nothing more, wherever it is told to.
        self._ended: set[int] = set()

    def open(self, assigned: Any, revoked: Any) -> None:
        """Check that all topics are there, end what an earlier member of this name left open, and join the group.

        :param assigned: called with partitions and their committed offsets; returns where to read each.
        :param revoked: called with partitions that are another member's from now on.
        :raises NotFound: where a topic is not there.
        """
        at = self._at
        for topic in filter(None, (at.topic, at.output, at.dead)):
            self._counts[topic] = partitions_of(self.consumer, topic, CALL)
        if self._exact:
            called("its transactions", self._producer.init_transactions, CALL)

        def taken(consumer: Any, partitions: list[Any]) -> None:
            if self._closing:  # the client tells no offsets any more, and nothing is read
                return
            committed = called("the group's offsets", consumer.committed, partitions, timeout=CALL)
            for one in committed:
                if one.error is not None:
                    raise error_of(one.error, f"the offsets of group {at.group!r}")
            places = assigned(committed)
            chosen = [
                self._kafka.TopicPartition(at.topic, number, offset) for number, offset in places.items()
            ]
            (consumer.incremental_assign if self._incremental else consumer.assign)(chosen)
            consumer.pause(chosen)

        def given(consumer: Any, partitions: list[Any]) -> None:
            self._ended -= {one.partition for one in partitions}
            revoked([one.partition for one in partitions])

        called(
            f"topic {at.topic!r}",
            self.consumer.subscribe,
            [at.topic],
            on_assign=taken,
            on_revoke=given,
            on_lost=given,
        )

    def lost(self) -> bool:
        """Whether the group has written outputs, and has no committed offset in any partition: they have expired."""
        at, one = self._at, self._kafka.TopicPartition
        inputs = [one(at.topic, number) for number in range(self._counts[at.topic])]
        about = f"the offsets of group {at.group!r}"
        if any(found.offset >= 0 for found in called(about, self.consumer.committed, inputs, timeout=CALL)):
            return False
        return any(
            called(
                f"topic {at.output!r}",
                self.consumer.get_watermark_offsets,
                one(at.output, number),
                timeout=CALL,
            )[1]
            > 0
            for number in range(self._counts[at.output])
        )

    def read(self) -> list[Any]:
        """Return the next records, and the client's events among them."""
        found: list[Any] = called(
            f"topic {self._at.topic!r}", self.consumer.consume, self._at.batch, self._at.linger
        )
        return found

    def go(self, partition: int, offset: int) -> None:
        """Read a partition from an offset on."""
        place = self._kafka.TopicPartition(self._at.topic, partition, offset)
        if self._incremental and partition in self._ended:
            # The client has ended this partition: it refuses to seek until it is assigned anew.
            self.consumer.incremental_unassign([place])
            self.consumer.incremental_assign([place])
        else:
            self._seek(place)
        self._ended.discard(partition)
        self.consumer.resume([place])

    def stay(self, partition: int) -> None:
        """Read nothing of a partition."""
        self.consumer.pause([self._kafka.TopicPartition(self._at.topic, partition)])

    def kept(self, partition: int) -> tuple[int, int]:
        """Return what the broker keeps of a partition whose offset it has refused.

        :param partition: its number.
        :return: offset of the first record, and of the next that comes.
        """
        self._ended.add(partition)
        place = self._kafka.TopicPartition(self._at.topic, partition)
        about = f"topic {self._at.topic!r}"
        low, high = called(about, self.consumer.get_watermark_offsets, place, timeout=CALL)
        return low, high

    def waiting(self, partition: int, offset: int) -> int | None:
        """Return how many records wait beyond an offset, as far as the client has heard; ``None`` where it has not."""
        place = self._kafka.TopicPartition(self._at.topic, partition)
        _, high = self.consumer.get_watermark_offsets(place, cached=True)
        return max(0, high - offset) if high >= 0 else None

    def write(self, outputs: Sequence[Output], offsets: Mapping[int, tuple[int, str]]) -> None:
        """Write outputs, and commit how far the input was read; with transactions, both or neither.

        :param outputs: to write.
        :param offsets: partition -> (offset that is read next, what is said with it).
        :raises Moved: where none of it counts; it is to be read again.
        :raises PipeOpsError: where this member cannot go on.
        """
        places = self._places(offsets)
        if not self._exact:
            self._flush(outputs)
            self._commit(places)
            return
        try:
            self._producer.begin_transaction()
            for output in outputs:
                self._produce(output)
            self._until(
                self._producer.send_offsets_to_transaction,
                places,
                self.consumer.consumer_group_metadata(),
                CALL,
            )
            self._until(self._producer.commit_transaction, CALL)
        except self._kafka.KafkaException as error:
            inner = error.args[0]
            if inner.fatal() or not inner.txn_requires_abort():
                raise self._end_of(error, "a transaction") from error
            log.warning("The transaction is aborted, and its records are read again: %s", inner.str())
            try:
                self._until(self._producer.abort_transaction, CALL)
            except self._kafka.KafkaException as failed:
                raise self._end_of(failed, "the end of a transaction") from failed
            raise Moved from error

    def say(self, offsets: Mapping[int, tuple[int, str]]) -> bool:
        """Commit how far the input was read, with what is said of it, where nothing is to be written.

        :param offsets: as of :meth:`write`.
        :return: whether it was taken.
        """
        try:
            self._commit(self._places(offsets))
        except Moved:
            return False
        return True

    def close(self) -> None:
        """Leave the group, so that others go on at once."""
        self._closing = True
        self.consumer.close()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _places(self, offsets: Mapping[int, tuple[int, str]]) -> list[Any]:
        return [
            self._kafka.TopicPartition(self._at.topic, number, offset, text)
            for number, (offset, text) in offsets.items()
        ]

    def _end_of(self, error: Any, about: str) -> PipeOpsError:
        inner = error.args[0]
        if not inner.fatal():
            return error_of(error, about)
        # The member begins anew, with a producer of its own.
        remedy = f"Does another member call itself {self._at.member!r}?"
        return Conflict(f"this producer is at its end: {inner.str()} ({inner.name()})", remedy=remedy)

    def _commit(self, places: list[Any]) -> None:
        try:
            done = self.consumer.commit(offsets=places, asynchronous=False)
        except self._kafka.KafkaException as error:
            name = name_of(error)
            if name in _MOVED or getattr(error.args[0], "retriable", bool)():
                raise Moved from error
            failed = error_of(error, f"offsets of group {self._at.group!r}")
            if failed.retryable:
                raise Moved from error
            raise failed from error
        for place in done:
            if place.error is not None:
                if name_of(place.error) in _MOVED:
                    raise Moved
                raise error_of(place.error, f"offsets of group {self._at.group!r}")

    def _produce(self, output: Output, failed: list[Any] | None = None) -> None:
        value = output.value
        place = {} if output.key is not None else {"partition": output.partition % self._counts[output.topic]}

        def told(error: Any, message: Any) -> None:
            if error is not None and failed is not None:
                failed.append(error)

        while True:
            try:
                self._producer.produce(
                    output.topic, value, output.key, headers=list(output.headers), timestamp=output.time,
                    on_delivery=told, **place,
                )  # fmt: skip
                self._producer.poll(0)
                return
            except BufferError:  # the broker is slower than the model: wait for it
                self._producer.poll(0.1)
            except self._kafka.KafkaException as error:
                if name_of(error) != "MSG_SIZE_TOO_LARGE" or len(value) <= CUT:
                    raise
                value = value[:CUT]

    def _flush(self, outputs: Sequence[Output]) -> None:
        failed: list[Any] = []
        try:
            for output in outputs:
                self._produce(output, failed)
        except self._kafka.KafkaException as error:
            raise error_of(error, f"topic {self._at.output!r}") from error
        left = self._producer.flush(CALL)
        if not left and not failed:
            return
        if failed:
            found = error_of(failed[0], f"topic {self._at.output!r}")
            if not found.retryable:
                raise found
        raise Moved

    def _until(self, call: Any, *given: Any) -> None:
        """Make a call of a transaction again while the library says that this is the way."""
        ends = time.monotonic() + 2 * CALL
        while True:
            try:
                call(*given)
                return
            except self._kafka.KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > ends:
                    raise
                time.sleep(0.1)

    def _seek(self, place: Any) -> None:
        """Seek; a partition that was assigned a moment ago refuses for a moment."""
        ends = time.monotonic() + CALL
        while True:
            try:
                self.consumer.seek(place)
                return
            except self._kafka.KafkaException as error:
                if name_of(error) != "_STATE" or time.monotonic() > ends:
                    raise error_of(error, f"partition {place.partition}") from error
                time.sleep(0.02)
