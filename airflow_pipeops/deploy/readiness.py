"""Whether an object that was applied is ready: the one decision of all that deploy by push. It is pure.

The kinds and their rules stand in tables, in ``rules/``. ``docs/readiness.md`` says where kstatus, kubectl and Argo Rollouts
judge otherwise, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.deploy.images import images_that_run
from airflow_pipeops.deploy.rules import rule_of
from airflow_pipeops.deploy.seen import (
    Applied,
    Readiness,
    Seen,
    State,
    failed,
    held_by,
    marks,
    unknown,
    waiting,
)

__all__ = ["Applied", "Readiness", "State", "judge"]


def judge(
    object: Mapping[str, Any],  # what Kubernetes calls it
    applied: Applied,
    *,
    pods: Sequence[Mapping[str, Any]] | None = None,
    settled: bool = False,
    declares: bool | None = None,
    empty_ok: bool = False,
) -> Readiness:
    """Judge one object.

    :param object: as the cluster tells it.
    :param applied: what was applied.
    :param pods: its pods; ``None`` where they cannot be seen, and the images that run are not compared.
    :param settled: nothing about it has changed for so long that a controller would have spoken, if there were one.
    :param declares: whether the definition of a custom resource declares conditions or an observed generation; ``None``: not
        known.
    :param empty_ok: that no pod is wanted is in order.
    :return: whether it is ready, by which rule, and why.
    """
    seen = Seen(object, settled=settled, declares=declares, empty_ok=empty_ok)
    found = _identity(seen, applied) or _observation(seen) or rule_of(seen)(seen)
    if found.state != "ready" or pods is None or not applied.images:
        return found
    return images_that_run(applied.images, pods) or found


def _identity(seen: Seen, applied: Applied) -> Readiness | None:
    """It is the object that was applied, and what was applied still holds."""
    if not seen.kind or not seen.uid:
        return unknown("no_object", "what the cluster told has no kind or no uid")
    if not applied.uid:
        return unknown("not_applied", f"{seen} was applied without an answer that names its uid")
    if seen.uid != applied.uid:
        return failed("recreated", f"{seen} was deleted and created again since it was applied")
    if seen.metadata.get("deletionTimestamp"):
        kept = seen.metadata.get("finalizers") or []
        held = f"; finalizers hold it: {', '.join(map(str, kept))}" if kept else ""
        return failed("deleting", f"{seen} is being deleted{held}")
    if seen.generation < applied.generation:
        return waiting(
            "old_answer",
            f"the cluster told of generation {seen.generation}, and {applied.generation} was applied",
        )
    if applied.generation and seen.generation > applied.generation:
        return _changed_since(seen, applied)
    if applied.held and held_by(seen.metadata, applied.manager) != applied.held:
        return failed(
            "overwritten", f"{seen} was changed since it was applied, by somebody else or once more"
        )
    return None


def _changed_since(seen: Seen, applied: Applied) -> Readiness | None:
    said = f"{seen} was changed since: it is at generation {seen.generation}, and {applied.generation} was applied"
    if not applied.spec:
        return unknown("changed_since", f"{said}; whether what was applied still holds is not known")
    if not set(applied.spec) <= set(marks(applied.uid, map_(seen.item.get("spec")))):
        return failed("overwritten", f"{said}, and not all that was applied still holds")
    return None


def _observation(seen: Seen) -> Readiness | None:
    """Its controller has seen this spec, and is not at work on it."""
    if seen.told is not None and seen.observed is None:
        return unknown("observed_generation", f"{seen} says that generation {seen.told!r} was observed")
    if seen.observed is not None and seen.observed != seen.generation and seen.generation:
        return waiting(
            "not_observed", f"the controller of {seen} saw generation {seen.observed} of {seen.generation}"
        )
    stalled, reconciling = seen.condition("Stalled"), seen.condition("Reconciling")
    if stalled is not None and stalled.status == "True":
        return failed("stalled", stalled.words)
    if reconciling is not None and reconciling.status == "True":
        return waiting("reconciling", reconciling.words)
    return None
