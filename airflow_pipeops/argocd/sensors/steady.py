"""Watch a live application for as long as a release must prove itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.operators.base import ArgoCDOperator, raise_error_of
from airflow_pipeops.argocd.triggers import ArgoCDSteadyTrigger
from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.waits.steadiness import seen_outcome, steady_watch, watch_until_over

if TYPE_CHECKING:
    from airflow.sdk import Context


class ArgoCDSteadySensor(ArgoCDOperator):
    """Watch a live application for a while. That it degrades is a result, and no failure of the task.

    Returns ``{verdict, rule, reason, app, revision, unhealthy_for, url}``; ``verdict`` is ``steady`` or ``degraded``.
    A newer release ends the watch as steady, with that reason: it has a watch of its own.

    :param revision: the release to watch, as recorded; by default whichever is live.
    :param duration: for how long.
    :param grace: for how long without a gap it may be anything but Healthy.
    """

    template_fields: Sequence[str] = ("revision", *ArgoCDOperator.template_fields)

    def __init__(
        self,
        *,
        revision: str = "",
        duration: timedelta = timedelta(minutes=10),
        grace: timedelta = timedelta(seconds=60),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision = revision
        self.duration = positive("duration", duration)
        self.grace = positive("grace", grace, zero=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Watch."""
        from airflow_pipeops.argocd.waits import ArgoCDController

        with no_retry():
            watch = {
                "duration": self.duration.total_seconds(),
                "grace": self.grace.total_seconds(),
                "revision": self.revision if isinstance(self.revision, str) else "",
            }
            hook, interval = self.hook(), self.poll_interval.total_seconds()
            looks = 1 if self.deferrable else None
            watched = steady_watch(hook.ref(self.app), watch, None)
            event = hook.run(
                lambda client: watch_until_over(ArgoCDController(client), watched, interval, looks=looks)
            )
            if event["outcome"]["verdict"] == "watch":
                self.defer(
                    trigger=ArgoCDSteadyTrigger(
                        argocd_conn_id=self.argocd_conn_id,
                        app=self.app,
                        project=self.project or "",
                        app_namespace=self.app_namespace or "",
                        watch=watch,
                        memory=event["memory"],
                        poll_interval=interval,
                    ),
                    method_name="execute_complete",
                    timeout=self.duration + self.grace + timedelta(hours=1),
                )
            return self._finish(event)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            self.hook()
            return self._finish(event)

    def _finish(self, event: Mapping[str, Any]) -> dict[str, Any]:
        outcome = seen_outcome(event["outcome"], self.app)
        self.log.info("%s: %s", outcome["verdict"], outcome["reason"])
        return {**outcome, "app": self.app, "revision": event["revision"], "url": self.argocd_url}
