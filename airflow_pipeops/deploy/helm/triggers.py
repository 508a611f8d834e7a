"""What waits for a release in the triggerer. Only connection ids travel in the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.deploy.triggers import AppliedTrigger


class HelmReleaseTrigger(AppliedTrigger):
    """Waits for the objects of a release; its event also has the facts about it: ``{"applied", "decided", "facts"}``.

    :param facts: what the task knows of the release: names and digests, never values.
    """

    arguments = (*AppliedTrigger.arguments, "facts")

    def __init__(self, *, facts: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.facts = dict(facts)

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands."""
        return {**await super().outcome(), "facts": self.facts}
