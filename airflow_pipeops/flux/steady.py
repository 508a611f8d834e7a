"""Watch what Flux released for as long as it must prove itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import positive
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import InvalidInput, NotFound, ReleaseFailed
from airflow_pipeops.flux.base import FluxOperator
from airflow_pipeops.flux.triggers import FluxSteadyTrigger
from airflow_pipeops.flux.waits import Asking, FluxController, look
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.waits.operators import MARGIN, LookingOperator
from airflow_pipeops.waits.status import Observed, short
from airflow_pipeops.waits.steadiness import seen_outcome, steady_watch, watch_until_over
from airflow_pipeops.waits.wait import raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.flux.client import FluxClient


class FluxSteadySensor(LookingOperator, FluxOperator):
    """Watch a Kustomization or a HelmRelease for a while. That it degrades is a result, and no failure of the task.

    It is well while it is ready: a Kustomization without ``wait`` and ``healthChecks`` says nothing about its workloads, and
    a HelmRelease without drift detection nothing after its release; the log says so. Flux keeps no history of what it
    applied, and in a shared repository most commits change something else. So a newer commit ends no watch by itself: where
    the object has degraded at one, Git is asked whether it has taken the place of what is watched.

    Returns ``{verdict, rule, reason, app, kind, namespace, revision, unhealthy_for}``; ``verdict`` is ``steady`` or
    ``degraded``.

    :param revision: the release to watch, as recorded; by default whichever is live. Templated.
    :param git_conn_id: repository of the desired state, which tells whether a newer commit has taken its place; without one,
        nobody can tell, and it has degraded. Templated.
    :param duration: for how long to watch.
    :param grace: for how long without a gap it may be anything but ready. Flux says of each new commit that it is under
        way, whatever it changes, until its health checks have passed: give them that time.
    """

    template_fields: Sequence[str] = ("revision", "git_conn_id", *FluxOperator.template_fields)

    def __init__(
        self,
        *,
        revision: str = "",
        git_conn_id: str | None = None,
        duration: timedelta = timedelta(minutes=10),
        grace: timedelta = timedelta(seconds=60),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision, self.git_conn_id = revision, git_conn_id
        self.duration = positive("duration", duration)
        self.grace = positive("grace", grace, zero=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Watch."""
        with no_retry():
            goal = {
                "duration": self.duration.total_seconds(),
                "grace": self.grace.total_seconds(),
                "revision": self.revision or "",
            }
            hook, interval = self.hook(), self.poll_interval.total_seconds()
            looks = 1 if self.deferrable else None

            async def work(client: FluxClient) -> dict[str, Any]:
                watch = steady_watch(hook.ref(self.kind, self.name), goal, None)
                controller = FluxController(client.gather, client.all, Asking(client.request, ""))
                seen = await controller.look(watch.ref)
                if isinstance(seen, Observed) and seen.reconciled.main.missing:
                    raise NotFound(f"{watch.ref} is not there", remedy="Check its name and namespace.")
                for note in seen.reconciled.notes if isinstance(seen, Observed) else ():
                    self.log.warning("%s", note)
                return await watch_until_over(controller, watch, interval, looks=looks)

            event = hook.run(work)
            if event["outcome"]["verdict"] == "watch":
                self.defer(
                    trigger=FluxSteadyTrigger(
                        flux_conn_id=self.flux_conn_id,
                        kind=self.kind,
                        namespace=hook.namespace,
                        name=self.name,
                        watch=goal,
                        memory=event["memory"],
                        poll_interval=interval,
                    ),
                    method_name="execute_complete",
                    timeout=self.duration + self.grace + timedelta(hours=1) + MARGIN,
                )
            return self._finish(event)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            return self._finish(event)

    def _finish(self, event: Mapping[str, Any]) -> dict[str, Any]:
        revision = event["revision"]
        outcome = seen_outcome(event["outcome"], f"{self.kind} {self.name}")
        if outcome["verdict"] == "degraded" and (newer := self._taken_by(revision)):
            outcome |= {"verdict": "steady", "rule": "superseded", "reason": newer}
        self.log.info("%s: %s", outcome["verdict"], outcome["reason"])
        told = {"app": self.name, "kind": self.kind, "namespace": event["namespace"], "revision": revision}
        return {**outcome, **told}

    def _taken_by(self, revision: str) -> str:
        """Say which commit has taken the place of what is watched; empty where none has, or nobody can tell."""
        if not self.git_conn_id or not self.revision:
            return ""
        hook = self.hook()
        seen = hook.run(lambda client: look(hook.ref(self.kind, self.name), client.gather, client.all))
        if not isinstance(seen, Observed) or seen.operation is None:
            return ""
        # A commit whose health checks have failed is applied, too.
        live = next(iter((*seen.operation.revisions, *seen.deployed)), "")
        if live in ("", revision):
            return ""
        repository = GitHook(self.git_conn_id).get_conn()
        try:
            if repository.is_ancestor(revision, live):
                repository.demand_set(revision, live)
        except ReleaseFailed as error:
            return f"a newer commit, {short(live)}, has taken its place: {error.message}"
        except (InvalidInput, NotFound) as error:  # a chart, a digest, or a commit of another repository
            self.log.warning("Git cannot tell whether %s has taken its place: %s", live, error)
        return ""
