"""Have Argo CD compare an application now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.argocd.acts import Act
from airflow_pipeops.argocd.operators.acts import ArgoCDActOperator
from airflow_pipeops.argocd.operators.base import ArgoCDOperator
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.operators import no_retry

if TYPE_CHECKING:
    from airflow.sdk import Context


class ArgoCDRefreshOperator(ArgoCDActOperator):
    """Have the controller compare an application with its sources now, and wait until it has acknowledged that.

    Nothing is synchronised. Asking twice costs a comparison and does no harm, so the task is safe to try again.

    Returns ``{app, acknowledged, refresh, revision, sync, health, reason, url}``; ``revision`` is what was compared with.

    :param refresh: ``normal``, or ``hard``, which also renders the manifests anew: expensive, and only needed for Helm and
        OCI sources whose tags move.
    :param timeout: for the acknowledgement.
    :param on_unacknowledged: ``fail``, or ``accept``: the refresh stays asked for, and the result says
        ``acknowledged: False``.
    """

    template_fields: Sequence[str] = ("refresh", *ArgoCDOperator.template_fields)

    def __init__(
        self,
        *,
        refresh: str = "normal",
        timeout: timedelta = timedelta(minutes=2),
        on_unacknowledged: Literal["fail", "accept"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.refresh = refresh
        self.on_unacknowledged = one_of("on_unacknowledged", on_unacknowledged, ("fail", "accept"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, and wait."""
        with no_retry():
            one_of("refresh", self.refresh, ("normal", "hard"))
            act = Act(kind="refreshed", timeout=self.timeout.total_seconds(), hard=self.refresh == "hard")
            return self._finish(self.reach(act, "execute_complete"))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            return self._finish(self.reached(event))

    def _finish(self, decided: Decided) -> dict[str, Any]:
        verdict, seen = decided.verdict, decided.summary
        late = verdict.rule == "deadline" and self.on_unacknowledged == "accept"
        if late:
            self.log.warning("The refresh of %s was not acknowledged: %s", self.app, verdict.reason)
        else:
            self.demand_effect(decided)
        return {
            "app": self.app,
            "acknowledged": verdict.state == "done",
            "refresh": self.refresh,
            "revision": seen.get("revision", ""),
            "sync": seen.get("sync", "Unknown"),
            "health": seen.get("health", "Unknown"),
            "reason": verdict.reason,
            "url": self.argocd_url,
        }
