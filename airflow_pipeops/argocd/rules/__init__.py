"""The rules of a wait for Argo CD, in the order in which they apply; see :mod:`airflow_pipeops.waits.verdict`.

A module for what is compared, one for synchronisations, one for health; a rule is a function that speaks or leaves the
word to the next one.
"""

from __future__ import annotations

from typing import Any

from airflow_pipeops.argocd.rules import comparison, health, operation
from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits import rules
from airflow_pipeops.waits.rulebook import Rulebook, facts_of
from airflow_pipeops.waits.rules import Rule
from airflow_pipeops.waits.status import shorts

__all__ = ["CERTAIN", "RULEBOOK", "RULES", "details_of"]

#: The order of the rules. The last one always speaks.
RULES: tuple[Rule, ...] = (
    rules.deleting,
    rules.recreated,
    comparison.skip_reconcile,
    comparison.wrong_project,
    comparison.unmeetable,
    comparison.invalid_spec,
    comparison.comparison_error,
    operation.own_operation_invisible,
    comparison.pinned_elsewhere,
    comparison.hydration_failed,
    comparison.not_contained,
    comparison.not_hydrated,
    comparison.superseded,
    comparison.not_compared,
    operation.in_progress,
    operation.idle,
    operation.operation_failed,
    operation.sync_error,
    operation.applied_elsewhere,
    operation.sync_unknown,
    operation.out_of_sync,
    operation.not_applied,
    comparison.stale,
    health.healthy,
    health.suspended,
    health.degraded,
    health.progressing,
)

#: Failures that no further comparison can take back. All others are confirmed by an acknowledged refresh first.
CERTAIN = frozenset(
    {
        "access_denied",
        "app_deleted",
        "app_not_found",
        "comparison_error",
        "deleting",
        "invalid_spec",
        "not_contained",
        "recreated",
        "revision_conflict",
        "revision_missing",
        "revision_not_digest",
        "revision_not_sha",
        "skip_reconcile",
        "source_ambiguous",
        "source_unknown",
        "unreachable",
        "wrong_project",
    }
)


def details_of(look: ApplicationLook) -> dict[str, Any]:
    """Return the facts behind a verdict, as JSON of bounded size."""
    found = {**facts_of(look), "warnings": notes(look)}
    if look.hydrating:
        found["rendered"] = list(look.rendered[-1:])
    return found


def notes(look: ApplicationLook) -> list[str]:
    """Return what a person should know beside the verdict."""
    op, found = look.observed.operation, list(look.observed.warnings)
    if look.ghost:
        found.append(
            "a synchronisation still shows as running and nobody works on it; it was left out of account"
        )
    if look.exact_only:
        found.append(
            "nobody can say which commits contain the expected one (no Git connection), so it was matched exactly"
        )
    if look.only_healing_failed:
        found.append(
            "a later partial synchronisation of this revision failed; what is live is in sync all the same"
        )
    elif op and op.failed and not op.dry_run and not look.applied_ok:
        found.append(f"an earlier synchronisation at {shorts(op.at)} failed")
    if op and op.dry_run:
        found.append("the last synchronisation was a dry run, which hides how the one before it ended")
    elif op and op.partial and not look.ours and not look.deployed_ok:
        found.append(
            "the last synchronisation was of some resources only, which hides how the one before it ended"
        )
    return found


#: How Argo CD's applications are judged.
RULEBOOK = Rulebook(RULES, details_of, CERTAIN, look=ApplicationLook, lasting=comparison.lasting)
