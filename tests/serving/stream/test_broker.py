"""The two ends of a member at a broker within this process: what becomes of a member that ends while others come and go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.exceptions import Conflict
from airflow_pipeops.serving.stream.broker import Broker, Output
from airflow_pipeops.serving.stream.settings import Settings

kafka = pytest.importorskip("confluent_kafka")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """Ends of a member at a broker that the client library plays itself."""
    playing = kafka.Producer({"bootstrap.servers": "nowhere", "test.mock.num.brokers": 1})
    (one,) = playing.list_topics(timeout=30).brokers.values()
    for topic in ("in", "out"):
        playing.produce(topic, b"{}")
    assert playing.flush(30) == 0
    yield Broker(
        Settings({"bootstrap.servers": f"{one.host}:{one.port}"}, "g", "in", "out", Path(), member="m0")
    )
    playing.flush(30)


def test_who_ends_while_its_group_hands_out_partitions_takes_none_and_ends_well(broker: Broker) -> None:
    taken: list[Any] = []
    broker.open(lambda committed: taken.append(committed) or {}, lambda partitions: None)
    ends = time.monotonic() + 240
    # What the group has handed out waits for whoever reads next.
    while not broker.consumer.memberid() and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(1)
    began = time.monotonic()
    broker.close()
    assert taken == []
    assert time.monotonic() - began < 15


class _Fenced:
    """A producer whose name another has taken while a transaction was to be aborted."""

    def begin_transaction(self) -> None:
        """Fail as a transaction does whose group has moved on."""
        raise kafka.KafkaException(
            kafka.KafkaError(kafka.KafkaError.ILLEGAL_GENERATION, "moved on", txn_requires_abort=True)
        )

    def abort_transaction(self, timeout: float) -> None:
        """Fail for good."""
        raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError._FENCED, "fenced", fatal=True))


def test_a_name_that_is_taken_while_a_transaction_is_aborted_lets_the_member_begin_anew(
    broker: Broker,
) -> None:
    broker._producer = _Fenced()
    with pytest.raises(
        Conflict, match=r"at its end: fenced \(_FENCED\).* Does another member .*'m0'"
    ) as caught:
        broker.write([Output("out", None, b"", (), 0, 0)], {0: (1, "")})
    assert caught.value.retryable, "the process ends with status 1, and is started again"
