"""The bases of the operators that deploy: what reaches a cluster, what waits for it, and what is about one workload."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_pipeops.base.arguments import flag, one_of, positive
from airflow_pipeops.base.connections import work_with
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.deploy.acts import WORKLOADS
from airflow_pipeops.deploy.pushed import KEPT, Pushed
from airflow_pipeops.deploy.reports import compose
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.deploy.waits import AppliedController
from airflow_pipeops.kubernetes.kinds import Kind
from airflow_pipeops.waits.expectation import Policy
from airflow_pipeops.waits.operators import WaitOperator
from airflow_pipeops.waits.verdict import Expectation
from airflow_pipeops.waits.wait import Decided, Wait

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Evidence
    from airflow_pipeops.deploy.triggers import AppliedTrigger
    from airflow_pipeops.exceptions import PipeOpsError
    from airflow_pipeops.kubernetes.client import KubernetesClient

Result = TypeVar("Result")


class ClusterOperator(DeliveryOperator):
    """What reaches a cluster."""

    kubernetes_conn_id: str
    namespace: str = ""

    def run_with(self, work: Callable[[KubernetesClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with an open client, whose connection says in which namespace that is where nobody else does.

        :param work: is called with it.
        :param options: arguments of the client.
        :return: what ``work`` returned.
        """
        from airflow_pipeops.kubernetes.connections import connect

        async def located(client: KubernetesClient) -> Result:
            self.namespace = self.namespace or client.namespace or "default"
            return await work(client)

        return work_with(connect(self.kubernetes_conn_id, **options), located)


class AppliedWaitOperator(WaitOperator, ClusterOperator):
    """What waits until objects that were applied are ready.

    :param on_paused: ``fail``, ``wait``, or ``accept`` what is paused, by somebody or at a step of its own.
    :param on_unknown: ``fail``, ``wait``, or ``accept`` where nobody can tell whether an object is ready.
    :param empty_ok: that an object wants no pod is in order.
    :param failed_grace: for which an object may be failed.
    """

    def __init__(
        self,
        *,
        on_paused: Policy = "fail",
        on_unknown: Policy = "fail",
        empty_ok: bool = False,
        failed_grace: timedelta = timedelta(seconds=60),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_paused: Policy = one_of("on_paused", on_paused, ("fail", "wait", "accept"))
        self.on_unknown: Policy = one_of("on_unknown", on_unknown, ("fail", "wait", "accept"))
        self.empty_ok = flag("empty_ok", empty_ok, default=False)
        self.failed_grace = positive("failed_grace", failed_grace, zero=True)

    def wait_for(self, applied: AppliedSet, trigger: type[AppliedTrigger], **more: Any) -> Decided:
        """Wait; deferred unless the first look decides. ``execute_complete`` goes on then.

        :param applied: what is waited for.
        :param trigger: waits in the triggerer.
        :param more: arguments that it takes beside those of all.
        :return: where the wait ended.
        """
        expectation = Expectation(
            match="any",
            on_suspended=self.on_paused,
            on_unknown=self.on_unknown,
            settle=self.settle.total_seconds(),
            comparison_grace=max(5.0, self.settle.total_seconds()),
            degraded_grace=self.failed_grace.total_seconds(),
            timeout=self.timeout.total_seconds(),
        )

        def deferred(waits: Sequence[Wait]) -> AppliedTrigger:
            return trigger(
                kubernetes_conn_id=self.kubernetes_conn_id,
                applied=applied.to_json(),
                expectation=expectation.to_json(),
                memory=waits[0].state.memory.to_json(),
                poll_interval=self.poll_interval.total_seconds(),
                **more,
            )

        (wait,) = self.until(
            lambda: [Wait(applied, expectation, rulebook=AppliedController.rulebook)],
            self.run_with,
            AppliedController,
            deferred,
            "execute_complete",
            timeout=self.timeout,
        )
        return wait.state

    def pushed(
        self, context: Context, applied: Mapping[str, Any], pushed: Pushed
    ) -> tuple[Evidence, dict[str, Any]]:
        """Keep which objects a release consists of, for whoever watches it or takes it back.

        :param applied: JSON of what was applied.
        :param pushed: how it was delivered.
        :return: what was kept, and what the record of the release says.
        """
        content = json.dumps(AppliedSet.from_json(applied).same().to_json(), sort_keys=True)
        kept = self.keep(context, content.encode(), KEPT, "application/json")
        return kept, {"pushed": replace(pushed, applied=kept.sha256).to_json()}

    def failure(self, applied: AppliedSet, decided: Decided) -> PipeOpsError | None:
        """Say how a wait ended.

        :return: the error to raise; ``None`` where it is done.
        """
        verdict = decided.verdict
        self.log.info("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)
        if verdict.state == "done":
            return None

        async def explain(client: KubernetesClient) -> str:
            return await AppliedController(client).explain(applied, decided)

        return decided.error(self.explained(self.run_with, explain, lambda: compose(applied, decided)))


class WorkloadOperator(ClusterOperator):
    """What all operators of one workload share.

    :param name: of the workload. Templated.
    :param kind: ``Deployment``, ``StatefulSet``, ``DaemonSet`` or ``Rollout``.
    :param namespace: it is in; by default that of the connection, else ``default``. Templated.
    :param kubernetes_conn_id: a connection of type ``kubernetes``.
    """

    template_fields: Sequence[str] = ("name", "namespace", *DeliveryOperator.template_fields)
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        name: str,
        kind: Literal["Deployment", "StatefulSet", "DaemonSet", "Rollout"] = "Deployment",
        namespace: str = "",
        kubernetes_conn_id: str = "kubernetes_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.namespace, self.kubernetes_conn_id = name, namespace, kubernetes_conn_id
        self.kind = one_of("kind", kind, tuple(WORKLOADS))

    @property
    def served(self) -> Kind:
        """Where the API serves it."""
        version, plural = WORKLOADS[self.kind]
        group, _, number = version.partition("/")
        return Kind(group, number, plural)

    async def read(self, client: KubernetesClient) -> dict[str, Any]:
        """Return the workload as it is now."""
        item = await client.get(self.served, self.name, self.namespace)
        return {**item, "apiVersion": WORKLOADS[self.kind][0], "kind": self.kind}
