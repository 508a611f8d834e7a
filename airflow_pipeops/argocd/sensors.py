"""Wait for an Argo CD application: until a revision is live and healthy, or for as long as a release must prove itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.triggers import ArgoCDSteadyTrigger
from airflow_pipeops.argocd.wait import Decided
from airflow_pipeops.argocd.waiting import ArgoCDOperator, ArgoCDWaitOperator, positive, raise_error_of
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable
from airflow_pipeops.gitops.verdict import Expectation

if TYPE_CHECKING:
    from airflow.sdk import Context

_CHOICES = {
    "match": ("exact", "contains", "any"),
    "on_suspended": ("wait", "accept", "fail"),
    "on_out_of_sync": ("wait", "accept", "fail"),
    "on_manual": ("wait", "fail"),
    "on_window": ("wait", "fail"),
}


class ArgoCDAppSensor(ArgoCDWaitOperator):
    """Wait until an application runs a revision, synced and healthy, and record the release.

    "Green right now" is not enough: Argo CD must have compared *this* revision (or, with ``match="contains"``, one that
    includes it), applied it, and been healthy since. What will not heal by itself fails at once, and says why.

    Returns ``{app, revision, compared, health, sync, rule, reason, url, images, record_id}``, where ``revision`` is the
    expected one and ``compared`` the one that is live, which may be newer.

    :param revision: full commit id in the repository of the desired state; for an application with several sources
        a dict from source (its index from 0, or its URL) to revision. Templated.
    :param match: ``exact``, ``contains`` (needs ``git_conn_id``) or ``any`` (green at the next comparison will do).
        By default ``contains`` where ``git_conn_id`` is given, else ``exact``.
    :param require_applied: a commit that changes nothing in this application does not do.
    :param on_suspended: ``wait``, ``accept`` or ``fail``; so too ``on_out_of_sync``, for what still differs after a sync.
    :param on_manual: ``fail`` or ``wait`` where auto-sync is off; so too ``on_window``, where a sync window is closed.
    """

    template_fields: Sequence[str] = ("revision", *ArgoCDOperator.template_fields)
    emits = ("release",)

    def __init__(
        self,
        *,
        revision: str | Mapping[str, str] = "",
        match: str | None = None,
        require_applied: bool = False,
        on_suspended: str = "wait",
        on_out_of_sync: str = "wait",
        on_manual: str = "fail",
        on_window: str = "wait",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision = revision
        self.match = match or ("contains" if self.git_conn_id else "exact")
        self.require_applied = require_applied
        self.on_suspended, self.on_out_of_sync = on_suspended, on_out_of_sync
        self.on_manual, self.on_window = on_manual, on_window
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                value = getattr(self, field)
                raise InvalidInput(
                    f"{field} is {value!r}",
                    field=field,
                    value=value,
                    remedy=f"Use one of {', '.join(allowed)}.",
                )

    def expectation(self) -> Expectation:
        """Return what must come true.

        :raises InvalidInput: without a revision, unless any will do.
        """
        return self.within(
            Expectation(
                revisions={} if self.match == "any" else revisions_of(self.revision),
                match=self.match,
                oracle=bool(self.git_conn_id),
                require_applied=self.require_applied,
                on_suspended=self.on_suspended,
                on_out_of_sync=self.on_out_of_sync,
                on_manual=self.on_manual,
                on_window=self.on_window,
            )
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        with no_retry():
            return self._finish(context, self.wait(self.expectation(), "execute_complete"))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            return self._finish(context, self.resumed(event))

    def _finish(self, context: Context, decided: Decided) -> dict[str, Any]:
        self.demand(decided)
        seen, verdict = decided.summary, decided.verdict
        result = {
            "app": self.app,
            "revision": self.revision or seen["revision"],
            "compared": seen["revision"],
            "health": seen["health"],
            "sync": seen["sync"],
            "rule": verdict.rule,
            "reason": verdict.reason,
            "url": self.argocd_url,
            "images": seen["images"],
        }
        return {**result, "record_id": self.emit(context, "release", result)}


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
        from airflow_pipeops.argocd.watching import watch_app

        with no_retry():
            watch = {
                "duration": self.duration.total_seconds(),
                "grace": self.grace.total_seconds(),
                "revision": self.revision if isinstance(self.revision, str) else "",
            }
            hook, interval = self.hook(), self.poll_interval.total_seconds()
            looks = 1 if self.deferrable else None
            event = hook.run(
                lambda client: watch_app(client, hook.ref(self.app), watch, None, interval, looks=looks)
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
        outcome = event["outcome"]
        if outcome["verdict"] == "blind":
            kinds = {"denied": AccessDenied, "missing": NotFound}
            raise kinds.get(outcome["rule"], Unreachable)(
                f"{self.app} could not be watched: {outcome['reason']}"
            )
        self.log.info("%s: %s", outcome["verdict"], outcome["reason"])
        return {**outcome, "app": self.app, "revision": event["revision"], "url": self.argocd_url}


def revisions_of(revision: Any) -> dict[str, str]:
    """Return the expected revision per source.

    :raises InvalidInput: for none, or an empty one.
    """
    given = dict(revision) if isinstance(revision, Mapping) else {"*": revision}
    for key, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise InvalidInput(
                f"the revision is {value!r}",
                field="revision",
                value=value,
                remedy="Give the full commit id, e.g. of the task that committed the change, or match='any'.",
            )
        given[key] = value.strip()
    return {str(key): value for key, value in given.items()}
