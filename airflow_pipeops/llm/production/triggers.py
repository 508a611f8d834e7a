"""What waits for a prompt in the triggerer. Only the connection's id travels in the arguments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_pipeops.waits.triggers import DWELL, VerdictTrigger


class PromptLiveTrigger(VerdictTrigger):
    """Looks at the kept calls of an application until a prompt is live, or will not be.

    :param artifacts_conn_id: where calls are kept.
    :param app: whose calls.
    :param expected: JSON of :class:`~airflow_pipeops.llm.production.liveness.Expected`.
    :param facts: what the task has to say of the release.
    :param begun: when the wait began, in seconds since 1970.
    :param poll_interval: seconds between two looks.
    """

    arguments: ClassVar[tuple[str, ...]] = (
        "artifacts_conn_id", "app", "expected", "facts", "begun", "poll_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        artifacts_conn_id: str,
        app: str,
        expected: Mapping[str, Any],
        facts: Mapping[str, Any],
        begun: float,
        poll_interval: float = 15.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(facts=facts, poll_interval=poll_interval, dwell=dwell)
        self.artifacts_conn_id, self.app = artifacts_conn_id, app
        self.expected, self.begun = dict(expected), float(begun)

    async def outcome(self) -> dict[str, Any]:
        """Look until the verdict is in."""
        from airflow_pipeops.base.connections import aread
        from airflow_pipeops.base.storage import root
        from airflow_pipeops.llm.production.liveness import Expected
        from airflow_pipeops.llm.production.look import judged

        store = root(self.artifacts_conn_id, await aread(self.artifacts_conn_id, "pipeops_storage"))
        expected = Expected.from_json(self.expected)
        return await self.until_told(
            lambda: judged(store, self.app, expected, time.time() - self.begun, self.log.info)
        )
