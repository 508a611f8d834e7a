"""What waits for a release in the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.deploy.triggers import AppliedTrigger


class ReleaseTrigger(AppliedTrigger):
    """Waits as :class:`~airflow_pipeops.deploy.triggers.AppliedTrigger` does, and hands on what was applied.

    :param facts: what the task has to say of the apply; they come back with the event.
    """

    arguments = (*AppliedTrigger.arguments, "facts")

    def __init__(self, *, facts: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.facts = dict(facts)

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands, with the facts."""
        return {**await super().outcome(), "facts": self.facts}
