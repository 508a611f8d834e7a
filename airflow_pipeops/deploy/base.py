"""The base of the operators of one workload in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.deploy.acts import WORKLOADS
from airflow_pipeops.kubernetes.kinds import Kind

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

Result = TypeVar("Result")


class WorkloadOperator(DeliveryOperator):
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
        self.namespace = self.namespace or client.namespace or "default"
        item = await client.get(self.served, self.name, self.namespace)
        return {**item, "apiVersion": WORKLOADS[self.kind][0], "kind": self.kind}

    def run_with(self, work: Callable[[KubernetesClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with an open client.

        :param work: is called with it.
        :param options: arguments of the client.
        :return: what ``work`` returned.
        """
        from airflow_pipeops.kubernetes.connections import connect

        client = connect(self.kubernetes_conn_id, **options)

        async def inside() -> Result:
            async with client as opened:
                return await work(opened)

        return asyncio.run(inside())
