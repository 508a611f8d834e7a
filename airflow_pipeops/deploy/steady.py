"""Watch a release that was pushed for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.deploy.base import ClusterOperator
from airflow_pipeops.deploy.pushed import KEPT, Pushed, Watched
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.deploy.triggers import PushedSteadyTrigger
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.waits.operators import MARGIN, LookingOperator
from airflow_pipeops.waits.steadiness import seen_outcome, steady_watch, watch_until_over
from airflow_pipeops.waits.wait import raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.kubernetes.client import KubernetesClient


class PushedSteadySensor(LookingOperator, ClusterOperator):
    """Watch a release that was applied, or made by Helm. That it degrades is a result, and no failure of the task.

    Its objects are judged as ``docs/readiness.md`` says, and are those very objects: one that was deleted, or deleted and
    made again, has degraded. A newer release ends the watch as steady, with that reason: it has a watch of its own.

    Returns ``{verdict, rule, reason, app, release, unhealthy_for}``; ``verdict`` is ``steady`` or ``degraded``.

    :param pushed: what the record of the release says under ``pushed``. Templated.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param duration: for how long to watch.
    :param grace: for how long without a gap an object may be anything but ready.
    """

    template_fields: Sequence[str] = ("pushed", *LookingOperator.template_fields)
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        pushed: Any,
        kubernetes_conn_id: str = "kubernetes_default",
        duration: timedelta = timedelta(minutes=10),
        grace: timedelta = timedelta(seconds=60),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pushed, self.kubernetes_conn_id = pushed, kubernetes_conn_id
        self.duration = positive("duration", duration)
        self.grace = positive("grace", grace, zero=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Watch."""
        from airflow_pipeops.deploy.watches import PushedController

        with no_retry():
            watched = self._watched()
            goal = {
                "duration": self.duration.total_seconds(),
                "grace": self.grace.total_seconds(),
                "revision": watched.pushed.release,
            }
            interval, looks = self.poll_interval.total_seconds(), 1 if self.deferrable else None
            watch = steady_watch(watched, goal, None)

            async def work(client: KubernetesClient) -> dict[str, Any]:
                return await watch_until_over(PushedController(client), watch, interval, looks=looks)

            event = self.run_with(work)
            if event["outcome"]["verdict"] == "watch":
                self.defer(
                    trigger=PushedSteadyTrigger(
                        kubernetes_conn_id=self.kubernetes_conn_id,
                        watched=watched.to_json(),
                        watch=goal,
                        memory=event["memory"],
                        poll_interval=interval,
                    ),
                    method_name="execute_complete",
                    timeout=self.duration + self.grace + timedelta(hours=1) + MARGIN,
                )
            return self._finish(watched.pushed, event)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            return self._finish(Pushed.told(self.pushed), event)

    def _watched(self) -> Watched:
        from airflow_pipeops.delivery.evidence import kept

        pushed = Pushed.told(self.pushed)
        content = kept(pushed.applied, KEPT) if pushed.applied else None
        if content is None:
            raise NotFound(
                f"the list of the objects of release {pushed.namespace}/{pushed.name} is not kept any more",
                remedy="Keep the evidence ([pipeops] evidence_uri) for as long as releases are watched.",
            )
        return Watched(pushed, AppliedSet.from_json(json.loads(content)))

    def _finish(self, pushed: Pushed, event: Mapping[str, Any]) -> dict[str, Any]:
        app = f"{pushed.namespace}/{pushed.name}"
        outcome = seen_outcome(event["outcome"], app)
        self.log.info("%s: %s", outcome["verdict"], outcome["reason"])
        return {**outcome, "app": app, "release": pushed.release}
