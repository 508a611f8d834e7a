"""Restart, pause, resume, promote and abort what runs. None of them waits: ``RolloutSensor`` does, with their ``target``."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.deploy import acts
from airflow_pipeops.deploy.base import WorkloadOperator
from airflow_pipeops.deploy.targets import Target, templated
from airflow_pipeops.exceptions import Conflict, NotFound

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.kubernetes.client import KubernetesClient

#: Somebody may change the object between reading and writing it: so often it is read again.
_ATTEMPTS = 5


class RolloutActOperator(WorkloadOperator):
    """Base of the acts on a workload; each is done once, also where a worker dies in the middle.

    Returns ``{app, act, changed, attached, reason, target, record_id}``: ``attached`` where this task had done it before, or
    it was so already.
    """

    #: What the act is called.
    act: ClassVar[str] = ""

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Act."""
        with no_retry():
            token = hashlib.sha256(order_key(context).encode()).hexdigest()[:16]
            plan, target = self.run_with(lambda client: self._act(client, token))
            self.log.info("%s of %s: %s", self.act, target, plan.reason)
            facts = {
                "app": str(target),
                "act": self.act,
                "changed": plan.changes,
                "attached": plan.attached,
                "reason": plan.reason,
            }
            body = {**facts, "uid": target.applied.uid, "generation": target.applied.generation}
            emits = self.emits and (plan.changes or plan.attached)
            record = self.emit(context, "change", body) if emits else None
            return {**facts, "target": target.to_json(), "record_id": record}

    async def _act(self, client: KubernetesClient, token: str) -> tuple[acts.Plan, Target]:
        for attempt in range(_ATTEMPTS):
            item = await self.read(client)
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            plan = self.plan(item, token, now)
            try:
                answer = await self._write(client, item, plan)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            answer = {**answer, "apiVersion": item["apiVersion"], "kind": item["kind"]}
            return plan, Target.of(answer, self.served.plural, templated(answer), pods=True)
        raise AssertionError("unreachable")

    async def _write(self, client: KubernetesClient, item: dict[str, Any], plan: acts.Plan) -> dict[str, Any]:
        answer = item
        if plan.patch:
            # Only what was read is acted on: another version of it may not want this any more.
            version = str(item["metadata"].get("resourceVersion") or "")
            answer = await client.patch(
                self.served, self.name, plan.patch, self.namespace, resource_version=version
            )
        if plan.status:
            try:
                answer = await client.patch(
                    self.served, self.name, plan.status, self.namespace, subresource="status"
                )
            except NotFound:
                # A definition without a status subresource.
                answer = await client.patch(self.served, self.name, plan.status, self.namespace)
        return answer


class RolloutRestartOperator(RolloutActOperator):
    """Replace all pods of a workload by new ones of the same version, at the pace that it sets itself."""

    act = "restart"
    emits = ("change",)

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        return acts.restart(item, token, now)


class RolloutPauseOperator(RolloutActOperator):
    """Hold a Deployment or a Rollout where it is; it changes nothing that runs, so nothing is recorded."""

    act = "pause"

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        return acts.pause(item, token, now)


class RolloutResumeOperator(RolloutActOperator):
    """Let a Deployment or a Rollout go on that was paused."""

    act = "resume"
    emits = ("change",)

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        return acts.resume(item, token, now)


class RolloutPromoteOperator(RolloutActOperator):
    """Let a Rollout go on to its next step, once for each order.

    :param full: skip all steps, analyses and pauses that are left.
    """

    act = "promote"
    emits = ("change",)

    def __init__(self, *, full: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"kind": "Rollout", **kwargs})
        self.full = full

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        return (acts.promote_fully if self.full else acts.promote)(item, token, now)


class RolloutAbortOperator(RolloutActOperator):
    """Take a Rollout back to the version that is stable. Its spec stays as it is, so it is Degraded until one is applied."""

    act = "abort"
    emits = ("change",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"kind": "Rollout", **kwargs})

    def plan(self, item: dict[str, Any], token: str, now: str) -> acts.Plan:
        """Return what the act comes to."""
        return acts.abort(item, token, now)
