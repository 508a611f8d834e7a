"""Say whether the cluster still is what was pushed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import not_empty, one_of
from airflow_pipeops.delivery.differences import told
from airflow_pipeops.delivery.healed import DifferencesOperator
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.deploy.base import ClusterOperator
from airflow_pipeops.deploy.differences.look import Finding, look
from airflow_pipeops.deploy.helm.base import ReleaseOperator
from airflow_pipeops.exceptions import DriftFound
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.deploy.differences.desired import Desired
    from airflow_pipeops.kubernetes.client import KubernetesClient

#: Who may hold fields that were pushed: autoscalers and other controllers of Kubernetes itself.
CONTROLLERS = ("kube-controller-manager",)
_FIELDS = 5


class LiveDriftOperator(ClusterOperator, DifferencesOperator):
    """Compare the cluster with what was pushed, object by object, and field by field; nothing is changed.

    What carries the labels of what was pushed, and was not, is *extra*. What the manifests do not say is not compared:
    defaults, and fields of others. A field that they say differs where it has another value and somebody else wrote that,
    by the object's own ``managedFields``; the server is then asked what an apply would change (a dry run), where the
    credential may. What Secrets hold is compared, and told to nobody.

    Returns ``{app, revision, verdict, reason, resources, more, fingerprint, diff_uri, record_id}``; ``verdict`` is
    ``clean``, ``drifted`` or ``unknown``. Fields are named, and never their values; the text, with Secrets masked, is kept
    as evidence at ``diff_uri``. With a ``deliverable``, what is not clean is recorded as *differences*,
    and once that it is clean again.

    :param ignore_managers: managers that may hold fields that were pushed; by default what runs the autoscalers.
    :param on_drift: ``accept`` (the verdict is a result), or ``fail`` the task, without retry.
    :param on_unknown: ``accept`` lets the gate that ``on_drift="fail"`` makes open where nobody can tell.
    :raises DriftFound: if it drifted, or nobody can tell, and ``on_drift`` is ``fail``.
    """

    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        ignore_managers: Sequence[str] = CONTROLLERS,
        on_drift: Literal["accept", "fail"] = "accept",
        on_unknown: Literal["fail", "accept"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ignore_managers = ignore_managers
        self.on_drift = one_of("on_drift", on_drift, ("accept", "fail"))
        self.on_unknown = one_of("on_unknown", on_unknown, ("fail", "accept"))

    async def desired(self, client: KubernetesClient) -> Desired:
        """Say what is to be there."""
        raise NotImplementedError

    def located(self) -> Any:
        """Check what is named, and say in which namespace it is, where no client need be asked."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once."""
        with no_retry():
            self.located()
            found = self.run_with(lambda client: look(client, self.desired, self.ignore_managers))
            result = self._result(found)
            self.log.info("%s: %s %s", result["app"], result["verdict"], result["reason"])
            if self.worth_telling(context, result["app"], result["verdict"]):
                result |= self._kept(context, result, found)
            return self._ended(result)

    def _result(self, found: Finding) -> dict[str, Any]:
        differences = found.differences
        named = ", ".join(f"{one.kind}/{one.name} {one.change}" for one in differences[:_FIELDS])
        if found.unlisted:
            hidden = f"what else there is may not be listed: {', '.join(found.unlisted)}"
            named = f"{named}; {hidden}" if named else hidden
        return {
            "app": found.desired.app,
            "revision": found.desired.revision,
            "verdict": "unknown" if found.unclear else "drifted" if differences else "clean",
            "reason": found.unclear or named,
            **told(differences),
            "diff_uri": "",
            "record_id": None,
        }

    def _kept(self, context: Context, result: dict[str, Any], found: Finding) -> dict[str, Any]:
        """Keep the text, and record what was found."""
        text = cleaned("\n".join(line for one in found.compared for line in one.lines()))
        evidence = []
        if text:
            self.log.info("%s", text[:20_000])
            evidence = [self.keep(context, text + "\n", "differences.txt", "text/plain; charset=utf-8")]
        names = ("app", "revision", "verdict", "reason", "more", "fingerprint")
        resources = [{**one, "fields": one["fields"][:_FIELDS]} for one in result["resources"]]
        body = {**{name: result[name] for name in names}, "resources": resources}
        return {
            "diff_uri": evidence[0].uri if evidence else "",
            "record_id": self.emit(context, "differences", body, evidence=evidence),
        }

    def _ended(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.on_drift == "fail" and result["verdict"] == "drifted":
            raise DriftFound(
                f"{result['app']} is not what was pushed: {result['reason']}",
                remedy=f"See {result['diff_uri']}.",
            )
        if self.on_drift == self.on_unknown == "fail" and result["verdict"] == "unknown":
            raise DriftFound(
                f"nobody can tell whether {result['app']} is what was pushed: {result['reason']}",
                remedy="on_unknown='accept' lets this pass.",
            )
        return result


class HelmDriftOperator(ReleaseOperator, LiveDriftOperator):
    """Say whether the cluster is what the newest revision of a Helm release rendered. It runs no Helm.

    While a revision is pending or failed, the verdict is ``unknown``. What hooks have made is not compared.
    """

    async def desired(self, client: KubernetesClient) -> Desired:
        """Read what Helm keeps of the release."""
        from airflow_pipeops.deploy.differences.desired import of_release

        return of_release(await self.history_in(client), self.release, self.namespace)


class ManifestsDriftOperator(LiveDriftOperator):
    """Say whether the cluster is what :class:`ApplyManifestsOperator` applied last: the manifests that were kept.

    While a release is under way, was begun and never ended, or its manifests are not kept, the verdict is ``unknown``. What
    Secrets hold was not kept: there, a difference is that somebody else wrote it.

    :param name: of the set. Templated.
    :param namespace: by default that of the connection, else ``default``. Templated.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    """

    template_fields: Sequence[str] = ("name", "namespace", *DeliveryOperator.template_fields)

    def __init__(
        self,
        *,
        name: str,
        namespace: str = "",
        kubernetes_conn_id: str = "kubernetes_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.namespace, self.kubernetes_conn_id = name, namespace, kubernetes_conn_id

    def located(self) -> None:
        """Check what is named."""
        not_empty("name", self.name, "the set has no name", "Name the ConfigMap that is its parent.")

    async def desired(self, client: KubernetesClient) -> Desired:
        """Read what was kept of the last release."""
        from airflow_pipeops.deploy.differences.desired import of_set

        return await of_set(client, self.name, self.namespace)
