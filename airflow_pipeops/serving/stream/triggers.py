"""What waits for a stream in the triggerer. Only the connection's id travels in the arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.triggers import DWELL, VerdictTrigger


class StreamLiveTrigger(VerdictTrigger):
    """Looks at a consumer group until a release is live, or will not be.

    :param kafka_conn_id: connection of type ``kafka``.
    :param group: the consumer group.
    :param topic: that it reads.
    :param output: topic of its scores; empty for none.
    :param expected: JSON of :class:`~airflow_pipeops.serving.stream.liveness.Expectation`.
    :param memory: JSON of :class:`~airflow_pipeops.serving.stream.liveness.Memory`.
    :param facts: what the task has to say of the release.
    :param poll_interval: seconds between two looks.
    """

    arguments: ClassVar[tuple[str, ...]] = (
        "kafka_conn_id", "group", "topic", "output", "expected", "memory", "facts", "poll_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        kafka_conn_id: str,
        group: str,
        topic: str,
        output: str,
        expected: Mapping[str, Any],
        memory: Mapping[str, Any],
        facts: Mapping[str, Any],
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(facts=facts, poll_interval=poll_interval, dwell=dwell)
        self.kafka_conn_id, self.group, self.topic, self.output = kafka_conn_id, group, topic, output
        self.expected, self.memory = dict(expected), dict(memory)

    async def outcome(self) -> dict[str, Any]:
        """Look until the verdict is in."""
        from airflow_pipeops.base.connections import aread, read_extra
        from airflow_pipeops.serving.stream.liveness import Expectation, Memory
        from airflow_pipeops.serving.stream.look import GroupReader, client_config, judged

        extra = await read_extra(await aread(self.kafka_conn_id, "kafka"))
        config = client_config(extra, self.kafka_conn_id)
        expected, memory = Expectation.from_json(self.expected), Memory.from_json(self.memory)
        reader = await asyncio.to_thread(GroupReader, config, self.group, self.topic, self.output)

        def look() -> Verdict:
            nonlocal memory
            verdict, memory = judged(reader, expected, memory, self.log.info)
            return verdict

        try:
            return await self.until_told(look)
        finally:
            await asyncio.shield(asyncio.to_thread(reader.close))
