"""What the operators of Helm releases share: the cluster, Helm itself, and the release's history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import matching, positive
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.deploy.base import ClusterOperator
from airflow_pipeops.deploy.helm.errors import failure
from airflow_pipeops.deploy.helm.program import Helm, Said
from airflow_pipeops.deploy.helm.releases import NAME, Revision, history_of
from airflow_pipeops.kubernetes.kinds import SECRETS

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient
#: Seconds that a run of Helm may last beyond the time that Helm itself keeps.
OVER = 30.0


async def history_in(client: KubernetesClient, release: str, namespace: str) -> tuple[Revision, ...]:
    """Read the revisions of a release, the oldest first; none where there is no such release."""
    labels = f"owner=helm,name={release}"
    return history_of((await client.find(SECRETS, namespace, labels=labels)).items)


class ReleaseOperator(ClusterOperator):
    """What all operators of one release share; what Helm keeps of it is read without Helm.

    :param release: its name. Templated.
    :param namespace: of the release; by default that of the connection, else ``default``. Templated.
    :param kubernetes_conn_id: a connection of type ``kubernetes``. Templated.
    """

    template_fields: Sequence[str] = (
        "release", "namespace", "kubernetes_conn_id", *DeliveryOperator.template_fields,
    )  # fmt: skip
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        release: str,
        namespace: str = "",
        kubernetes_conn_id: str = "kubernetes_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.release, self.namespace, self.kubernetes_conn_id = release, namespace, kubernetes_conn_id

    def located(self) -> dict[str, Any]:
        """Say in which namespace the release is.

        :return: the extra of the cluster's connection.
        """
        from airflow_pipeops.kubernetes.connections import extra_of, field_of

        remedy = "Lower-case letters, digits, dots and dashes; at most 53 characters."
        matching("release", self.release, NAME, "a name of a release", remedy)
        extra = extra_of(self.kubernetes_conn_id)
        self.namespace = self.namespace or str(field_of(extra, "namespace") or "") or "default"
        return extra

    def history(self) -> tuple[Revision, ...]:
        """Read the revisions of the release, the oldest first; none where there is no such release."""
        return self.run_with(self.history_in)

    async def history_in(self, client: KubernetesClient) -> tuple[Revision, ...]:
        """Read them with an open client."""
        return await history_in(client, self.release, self.namespace)


class HelmOperator(ReleaseOperator):
    """What all operators share that run Helm.

    :param helm: the program, as a name or path; by default ``helm_path`` in the connection's extra, else ``helm``.
    :param helm_timeout: for one run of Helm, its hooks included.
    """

    def __init__(
        self, *, helm: str = "", helm_timeout: timedelta = timedelta(minutes=5), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.helm = helm
        self.helm_timeout = positive("helm_timeout", helm_timeout)
        self._running: Helm | None = None

    def on_kill(self) -> None:
        """End Helm gently: it writes down that it failed, and so holds nobody up."""
        if self._running is not None:
            self._running.kill()

    def opened(self) -> Helm:
        """Find Helm, and give it the way to the cluster; for use in ``with``."""
        from airflow_pipeops.kubernetes.connections import ConnectionSource

        extra = self.located()
        program = self.helm or str(extra.get("helm_path") or "") or "helm"
        self._running = helm = Helm(program, self.namespace, lambda line: self.log.info("%s", line))
        try:
            helm.check()
            helm.reach(asyncio.run(ConnectionSource(self.kubernetes_conn_id, extra)()))
        except BaseException:
            helm.__exit__(None, None, None)
            raise
        self.log.info("Helm %s, release %s/%s", helm.version, self.namespace, self.release)
        return helm

    @property
    def seconds(self) -> float:
        """For one run of Helm."""
        return self.helm_timeout.total_seconds()

    def ran(self, helm: Helm, *arguments: str) -> Said:
        """Run Helm.

        :return: how it ended.
        :raises PipeOpsError: the one that its words and the state of the release stand for.
        """
        said = helm.run(*arguments, "--timeout", f"{self.seconds:g}s", timeout=self.seconds + OVER)
        if said.code:
            history = self.history()
            raise failure(said.complaints, history[-1].status if history else "")
        return said
