"""What waits in the triggerer for a workflow that builds or tests. Only connection ids travel in the arguments."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger

if TYPE_CHECKING:
    from airflow_pipeops.waits.streams.stream import SharedStream


class ArgoWorkflowsBuildTrigger(ArgoWorkflowTrigger):
    """Waits for one workflow, as the trigger of all workflows does and on its stream; not for one that cannot begin.

    The event is that of :class:`~airflow_pipeops.argo_workflows.triggers.ArgoWorkflowTrigger`, or
    ``{"stuck": JSON of an End, "said": {}, "note": ...}``.

    :param startup: seconds for which its pod may not run yet.
    :param options: as for the trigger of all workflows.
    """

    arguments: ClassVar[tuple[str, ...]] = (*ArgoWorkflowTrigger.arguments, "startup")  # type: ignore[assignment]

    def __init__(self, *, startup: float, **options: Any) -> None:
        super().__init__(**options)
        self.startup = float(startup)

    def shared_stream_key(self) -> tuple[str, ...] | None:
        """Return a key of its own: those of a group are made from each other's arguments."""
        return (*(super().shared_stream_key() or ()), "build")

    async def outcome(self) -> dict[str, Any]:
        """Wait by looking, and return where the wait stands."""
        return await self._unless_stuck(super().outcome())

    async def follow(self, watch: SharedStream) -> dict[str, Any]:
        """Wait by the shared stream, and return where the wait stands."""
        return await self._unless_stuck(super().follow(watch))

    async def _unless_stuck(self, waiting: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        from airflow_pipeops.build.workflows.beginnings import unless_stuck
        from airflow_pipeops.build.workflows.judgement import End

        async with await self._client() as client:
            ref = self._waiting().ref
            found = await unless_stuck(client, ref, self.startup, self.poll_interval, waiting)
        return {"stuck": found.to_json(), "said": {}, "note": self.note} if isinstance(found, End) else found
