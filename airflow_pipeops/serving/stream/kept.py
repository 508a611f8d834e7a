"""The scores that a stream has written, kept as samples are, so that labels that come later can be joined to them."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import at_least, not_empty, one_of
from airflow_pipeops.base.connections import read
from airflow_pipeops.base.documents import map_, number, parsed
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from airflow_pipeops.models.samples import OWN, Part, Scored, schema, table, write
from airflow_pipeops.serving.api.settings import Served, checked
from airflow_pipeops.serving.stream.errors import called, error_of, library, name_of, partitions_of
from airflow_pipeops.serving.stream.look import CALL, NOT_OF_THE_CLIENT, client_config

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Which part of a record names its prediction.
By = Literal["key", "source"]
#: Name, version and digest of a model, and the names of its outputs.
Kind = tuple[str, str, str, tuple[str, ...]]
#: Seconds without a record after which the broker counts as away.
_PATIENCE = 60.0


class KeepScoresOperator(DeliveryOperator):
    """Read what has come to the topic of a stream's scores since the last time, and keep it as an endpoint's samples are.

    So :class:`~airflow_pipeops.models.operators.labels.JoinLabelsOperator` reads both in the same way. How far was read is
    committed after it is stored: where the task dies in between, the next attempt stores some rows again, and joining counts
    each prediction once.

    Returns ``{rows, foreign, lost}``: rows that were kept; records that are no score of a stream of this package; and
    offsets that the broker had deleted before they were read.

    :param topic: of the scores. Templated.
    :param samples: URI of the folder or prefix of the samples. Templated.
    :param group: consumer group that remembers how far was read; one for each place of samples. Templated.
    :param by: what is kept as ``request_id``: the record's ``key``, where each names one prediction; or its ``source``, the
        topic, partition and offset of what was scored.
    :param file_rows: a file has so many rows at most.
    :param kafka_conn_id: connection of type ``kafka``; its extra is the client's configuration.
    """

    template_fields: Sequence[str] = (
        "topic", "samples", "group", "kafka_conn_id", *DeliveryOperator.template_fields,
    )  # fmt: skip
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        topic: str,
        samples: str,
        group: str,
        by: By = "key",
        file_rows: int = 50_000,
        kafka_conn_id: str = "kafka_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = not_empty("topic", topic, "there is no topic to read", "Name the topic of the scores.")
        self.samples = not_empty("samples", samples, "there is no place for samples", "Give a URI.")
        self.group = not_empty("group", group, "there is no group", "Name one that nothing else uses.")
        self.by = one_of("by", by, ("key", "source"))
        self.file_rows = at_least("file_rows", file_rows, 1, f"file_rows is {file_rows}", "At least 1.")
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, store, commit."""
        from airflow_pipeops.models import storage

        with no_retry():
            config = client_config(read(self.kafka_conn_id, "kafka").extra_dejson, self.kafka_conn_id)
            keeper = _Keeper(
                config, self.topic, self.group, storage.at(self.samples), self.by, self.file_rows
            )
            try:
                keeper.run()
            finally:
                keeper.close()
            self.log.info("%s", keeper.counts)
            return dict(keeper.counts)


def scored_in(message: Any, by: str) -> tuple[Kind, Scored] | None:
    """Read a record of the topic of scores.

    :param message: of the client.
    :param by: as for :class:`KeepScoresOperator`.
    :return: of which model with which outputs it is, and what it says; ``None`` where no stream of this package has written
        it: others may write to the topic, too, and a name from there becomes the path of a file.
    """
    said = {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or ()}
    model, _, version = said.get("model", "").rpartition("/")
    try:
        given = map_(parsed(message.value() or b""))
    except ValueError:
        given = {}
    outputs = {name: [found] for name, value in given.items() if (found := number(value)) is not None}
    sha256, source = said.get("model-sha", ""), said.get("src", "")
    if not (outputs and source) or len(outputs) < len(given) or set(outputs) & set(OWN):
        return None
    try:
        checked(Served(model, version, "", sha256), {})
    except InvalidInput:
        return None
    key = message.key().decode("utf-8", "backslashreplace") if message.key() else ""
    name = key if by == "key" and key else source
    scored = Scored(name, max(0, message.timestamp()[1]), {}, outputs, 1)
    return (model, version, sha256, tuple(outputs)), scored


class _Keeper:
    """Reads a topic from where its group stands to its present end, and stores it file by file."""

    def __init__(
        self, config: Mapping[str, Any], topic: str, group: str, root: Any, by: str, file_rows: int
    ) -> None:
        self._kafka, self._topic, self._group = library(), topic, group
        self._root, self._by, self._file_rows = root, by, file_rows
        self.counts = {"rows": 0, "foreign": 0, "lost": 0}
        self._waiting: dict[Kind, list[Scored]] = defaultdict(list)
        self._next: dict[int, int] = {}
        self._instance, self._sequence = uuid.uuid4().hex[:12], 0
        common = {name: value for name, value in config.items() if name not in NOT_OF_THE_CLIENT}
        ours = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"}
        try:
            self._consumer = self._kafka.Consumer(
                {**common, **ours, "isolation.level": "read_committed", "enable.partition.eof": True}
            )
        except (self._kafka.KafkaException, ValueError) as error:
            raise error_of(error, "the client") from error

    def close(self) -> None:
        """Let the connection go."""
        self._consumer.close()

    def run(self) -> None:
        """Read up to what is there now."""
        ends = self._begin()
        seen_at = time.monotonic()
        while ends:
            messages = called(f"topic {self._topic!r}", self._consumer.consume, 500, 1.0)
            if messages:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > _PATIENCE:
                raise Unreachable(f"topic {self._topic!r} has records, and none came for {_PATIENCE:g} s")
            for one in messages:
                if self._take(one) >= ends.get(one.partition(), 0):
                    ends.pop(one.partition(), None)
            if sum(map(len, self._waiting.values())) >= self._file_rows:
                self._store()
        self._store()

    def _begin(self) -> dict[int, int]:
        """Go to where the group stands; return the end of each partition in which something has come."""
        about, place = f"topic {self._topic!r}", self._kafka.TopicPartition
        places = [place(self._topic, n) for n in range(partitions_of(self._consumer, self._topic, CALL))]
        ends, starts = {}, []
        for one in called(
            f"the offsets of group {self._group!r}", self._consumer.committed, places, timeout=CALL
        ):
            if one.error is not None:
                raise error_of(one.error, f"the offsets of group {self._group!r}")
            low, high = called(about, self._consumer.get_watermark_offsets, one, timeout=CALL)
            start = one.offset if one.offset >= 0 else low
            if start > high:
                raise InvalidInput(
                    f"group {self._group!r} has read partition {one.partition} up to {start}, and it ends at {high}",
                    field="group",
                    value=self._group,
                    remedy="The topic was made anew: name another group.",
                )
            self.counts["lost"] += max(0, low - start)
            if max(start, low) < high:
                ends[one.partition] = high
                starts.append(place(self._topic, one.partition, max(start, low)))
        self._consumer.assign(starts)
        return ends

    def _take(self, message: Any) -> float:
        """Take a record; return up to where its partition is read."""
        if (error := message.error()) is not None:
            if name_of(error) == "_PARTITION_EOF":
                return float("inf")
            raise error_of(error, f"topic {self._topic!r}")
        after = int(message.offset()) + 1
        self._next[message.partition()] = after
        found = scored_in(message, self._by)
        if found is None:
            self.counts["foreign"] += 1
        else:
            self._waiting[found[0]].append(found[1])
        return after

    def _store(self) -> None:
        """Write what waits, and commit how far was read."""
        for (model, version, sha256, outputs), scored in self._waiting.items():
            of: dict[str, Any] = {"model": model, "version": version, "sha256": sha256, "role": "answer"}
            rows = table(scored, of, schema({}, outputs))
            first, last = min(one.at for one in scored), max(one.at for one in scored)
            write(
                self._root,
                rows,
                Part(
                    **of, file="", file_sha256="", rows=0, first_at=first, last_at=last, instance=self._instance,
                    sequence=self._sequence,
                ),
            )  # fmt: skip
            self._sequence += 1
            self.counts["rows"] += len(scored)
        self._waiting.clear()
        if self._next:
            places = [self._kafka.TopicPartition(self._topic, p, offset) for p, offset in self._next.items()]
            about = f"the offsets of group {self._group!r}"
            for one in called(about, self._consumer.commit, offsets=places, asynchronous=False):
                if one.error is not None:
                    raise error_of(one.error, about)
            self._next.clear()
