"""Wait until what was applied to a workload runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.deploy.base import AppliedWaitOperator, WorkloadOperator
from airflow_pipeops.deploy.targets import AppliedSet, Target, templated
from airflow_pipeops.deploy.triggers import AppliedTrigger
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class RolloutSensor(AppliedWaitOperator, WorkloadOperator):
    """Wait until a Deployment, StatefulSet, DaemonSet or Argo Rollout runs what was applied, and record the release.

    It is bound to the uid and generation of the object that was applied, and where images are named, to the digests that its
    pods run. Without ``applied``, that is the object as it is when the task begins. What else may look ready, and is not,
    stands in ``docs/readiness.md``.

    Returns ``{app, kind, name, namespace, revision, uid, generation, health, rule, reason, images, record_id}``.

    :param applied: what an operator returned as ``target`` that changed the workload. Templated.
    :param images: images by digest that its pods must run. Templated.
    :param revision: commit that this is the release of, for the record. Templated.
    """

    template_fields: Sequence[str] = ("applied", "images", "revision", *WorkloadOperator.template_fields)
    emits = ("release",)

    def __init__(
        self,
        *,
        applied: Any = None,
        images: Sequence[str] = (),
        revision: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.applied, self.images, self.revision = applied, images, revision

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait."""
        with no_retry():
            applied = self._applied()
            return self._finish(context, applied, self.wait_for(applied, AppliedTrigger))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            return self._finish(
                context, AppliedSet.from_json(event["applied"]), Decided.from_json(event["decided"])
            )

    def _applied(self) -> AppliedSet:
        """Return what is waited for, bound to what was applied, or to what is there."""
        if self.applied:
            target = self._given()
        else:
            item = self.run_with(self.read)
            plural, made_from = self.served.plural, templated(item)
            target = Target.of(item, plural, made_from, self.images, pods=True, empty_ok=self.empty_ok)
        return AppliedSet(str(target), (target,), target.namespace)

    def _given(self) -> Target:
        given = self.applied
        remedy = 'Pass task.output["target"] of the operator that changed it.'
        if not isinstance(given, Mapping) or not {"kind", "name", "plural", "version"} <= set(given):
            raise InvalidInput(f"applied is {given!r}", field="applied", value=given, remedy=remedy)
        found = Target.from_json(given)
        if (found.kind, found.name) != (self.kind, self.name) or not found.applied.uid:
            said = f"{found} was applied, and {self.kind} {self.name} is waited for"
            raise InvalidInput(said, field="applied", value=str(found), remedy=remedy)
        applied = {**found.applied.to_json(), "images": list(self.images or found.applied.images)}
        return Target.from_json(
            {**found.to_json(), "applied": applied, "pods": True, "empty_ok": self.empty_ok}
        )

    def _finish(self, context: Context, applied: AppliedSet, decided: Decided) -> dict[str, Any]:
        verdict, (target,) = decided.verdict, applied.targets
        if error := self.failure(applied, decided):
            raise error
        result = {
            "app": str(target),
            "kind": target.kind,
            "name": target.name,
            "namespace": target.namespace,
            "revision": self.revision or "",
            "uid": target.applied.uid,
            "generation": target.applied.generation,
            "health": "Healthy" if verdict.rule == "ready" else "Unknown",
            "rule": verdict.rule,
            "reason": verdict.reason,
            "images": list(decided.summary.get("images") or ()),
        }
        # What is accepted without being ready is no release.
        released = verdict.rule == "ready"
        return {**result, "record_id": self.emit(context, "release", result) if released else None}
