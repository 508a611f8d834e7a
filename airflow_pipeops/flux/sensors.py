"""Wait until a revision is live in a cluster that Flux reconciles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.flux.base import FluxOperator, FluxWaitOperator
from airflow_pipeops.git.ancestry import demand_set
from airflow_pipeops.waits.expectation import Match, Policy
from airflow_pipeops.waits.verdict import Expectation
from airflow_pipeops.waits.wait import Decided

if TYPE_CHECKING:
    from airflow.sdk import Context


class FluxReadySensor(FluxWaitOperator):
    """Wait until a Kustomization or a HelmRelease is ready at a revision, and record the release.

    "Ready right now" is not enough: it may be about the revision before. A Kustomization must have *applied* this revision
    (or, with ``match="contains"``, one that includes it), and be ready since. A HelmRelease knows no commits: it must be
    ready with the spec that a Kustomization applied at this revision, or with the chart version that is expected, or both.
    Whatever applies it, and is made from the same branch, must have applied the revision as well.
    What a controller has given up fails at once, and says why; what it tries again fails after ``failed_attempts``.

    Where the Kustomization has neither ``wait`` nor ``healthChecks``, ready says nothing about its workloads; the result and
    the log say so.

    Returns ``{kind, name, namespace, revision, chart, health, rule, reason, warnings, record_id}``.

    :param revision: full commit id, or digest of an OCI artifact. Templated.
    :param change: what the operator returned that committed the change; templated. No release is recorded of a commit whose
        values are not set any more at the revision that is live, which ``git_conn_id`` tells: by default those that
        ``revision`` changed, with this those of the task, also where it found nothing to change.
    :param chart_version: chart version that a HelmRelease must be at. Templated.
    :param match: ``exact``, ``contains`` (needs ``git_conn_id``) or ``any`` (that which the source holds now). By default
        ``any`` without a revision and with a chart version, ``contains`` with ``git_conn_id``, else ``exact``.
    :param on_drift: ``accept``, ``wait`` or ``fail`` where a HelmRelease says that the cluster differs from it, or has drift
        detection off, so that nobody can tell. Of a Kustomization nobody ever can: leave it out.
    :param request_reconcile: ask the controllers to look now, where that would help. Needs permission to patch; without it
        the wait goes on, and says so once.
    """

    template_fields: Sequence[str] = ("revision", "change", "chart_version", *FluxOperator.template_fields)
    emits = ("release",)

    def __init__(
        self,
        *,
        revision: str | Mapping[str, str] = "",
        change: Any = None,
        chart_version: str = "",
        match: Match | None = None,
        on_drift: Policy = "accept",
        request_reconcile: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.revision, self.change, self.chart_version = revision, change, chart_version
        given: Match = "contains" if self.git_conn_id else "exact"
        self.match: Match = match or ("any" if chart_version and not revision else given)
        one_of("match", self.match, ("exact", "contains", "any"))
        self.on_drift = one_of("on_drift", on_drift, ("accept", "wait", "fail"))
        self.request_reconcile = request_reconcile
        if on_drift != "accept" and self.kind == "Kustomization":
            raise InvalidInput(
                "a Kustomization never says whether it drifted",
                field="on_drift",
                value=on_drift,
                remedy="Leave it out, and ask FluxDriftOperator what was put right.",
            )
        if chart_version and self.kind == "Kustomization":
            raise InvalidInput(
                "a chart version is expected of a Kustomization",
                field="chart_version",
                value=chart_version,
                remedy="Set kind='HelmRelease', or leave it out.",
            )

    def expectation(self) -> Expectation:
        """Return what must come true.

        :return: the expectation.
        :raises InvalidInput: without a revision, unless any will do.
        """
        return self.expected(
            self.revision, self.match, chart=self.chart_version or "", on_out_of_sync=self.on_drift
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        with no_retry():
            decided = self.wait(self.expectation(), context, "execute_complete", asks=self.request_reconcile)
            return self._finish(context, decided)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            return self._finish(context, self.resumed(event))

    def _finish(self, context: Context, decided: Decided) -> dict[str, Any]:
        result = {**self.demand(decided), "app": self.name}
        if self.deliverable:
            demand_set(self.git_conn_id, decided, result["revision"], self.change)
        return {**result, "record_id": self.emit(context, "release", result)}
