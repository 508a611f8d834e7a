"""What the operators of Helm releases share: the cluster, Helm itself, and the release's history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import matching, one_of, positive
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.deploy.base import AppliedWaitOperator, ClusterOperator
from airflow_pipeops.deploy.helm import manifests
from airflow_pipeops.deploy.helm.errors import failure
from airflow_pipeops.deploy.helm.program import Helm, Said
from airflow_pipeops.deploy.helm.releases import FAILED, NAME, Recovery, Revision, plan_return
from airflow_pipeops.deploy.helm.replacing import OnImmutable, make_way
from airflow_pipeops.deploy.pushed import Pushed
from airflow_pipeops.deploy.reading import history_in
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.exceptions import Conflict, NotFound, PipeOpsError, ReleaseFailed
from airflow_pipeops.kubernetes.kinds import SECRETS
from airflow_pipeops.waits.expectation import Policy

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Evidence
    from airflow_pipeops.kubernetes.client import KubernetesClient
    from airflow_pipeops.waits.wait import Decided

#: Seconds that a run of Helm may last beyond the time that Helm itself keeps.
OVER = 30.0
#: Seconds between two looks at a release that a Helm may still be at work on.
LOOK = 5.0


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


class HelmWaitOperator(AppliedWaitOperator, HelmOperator):
    """What makes a revision of a release, and waits until it lives.

    :param on_paused: what becomes of it where an object is paused: by default it waits, as somebody may let it go on.
    :param on_unknown: what becomes of it where nobody can tell whether an object is ready: by default it waits.
    :param on_immutable: ``replace``: an object with fields that cannot be changed is deleted, with what it has made, and
        Helm makes it anew; ``fail``: Helm's own error is told.
    """

    emits: ClassVar[tuple[str, ...]] = ("change", "release")

    def __init__(
        self,
        *,
        on_immutable: OnImmutable = "fail",
        on_paused: Policy = "wait",
        on_unknown: Policy = "wait",
        **kwargs: Any,
    ) -> None:
        super().__init__(on_paused=on_paused, on_unknown=on_unknown, **kwargs)
        self.on_immutable = one_of("on_immutable", on_immutable, ("fail", "replace"))

    def made_way(self, manifest: str, history: Sequence[Revision]) -> list[dict[str, str]]:
        """Delete what cannot become what a manifest wants, if that is wanted; see :func:`~.replacing.make_way`.

        :param history: as it was when the manifest was decided on; nothing goes where it is another by now.
        :return: what was deleted.
        """
        if self.on_immutable != "replace":
            return []
        now = self.history()
        if [(one.number, one.status) for one in now] != [(one.number, one.status) for one in history]:
            raise Conflict(f"somebody else is at work on release {self.namespace}/{self.release}")
        bodies = manifests.objects_of(manifest)
        found = self.run_with(
            lambda client: make_way(client, bodies, self.release, self.namespace), many=True
        )
        for one in found:
            self.log.warning("%s was deleted: it has fields that cannot be changed", one["object"])
        return found

    def back_to(self, helm: Helm, number: int, history: Sequence[Revision]) -> None:
        """Have Helm roll back to a revision."""
        manifest = next((one.manifest for one in history if one.number == number), "")
        self.made_way(manifest, history)
        self.ran(helm, "rollback", self.release, str(number))

    async def applied_in(self, client: KubernetesClient, number: int) -> AppliedSet:
        """Bind a wait to the objects that Helm has left of a revision."""
        revision = next(one for one in await self.history_in(client) if one.number == number)
        targets, kinds = [], dict[str, Mapping[str, tuple[str, bool]]]()
        for item in manifests.objects_of(revision.manifest):
            version, kind = text(item.get("apiVersion")), text(item.get("kind"))
            metadata = map_(item.get("metadata"))
            if version not in kinds:
                kinds[version] = await client.served(version)
            if kind not in kinds[version]:
                raise NotFound(f"the cluster serves no {kind} of {version} any more")
            plural, namespaced = kinds[version][kind]
            place = (text(metadata.get("namespace")) or self.namespace) if namespaced else ""
            target = Target(version, kind, plural, text(metadata.get("name")), place)
            answer = await client.get(target.served, target.name, place)
            answer = {**answer, "apiVersion": version, "kind": kind}
            targets.append(Target.of(answer, plural, item, manager="helm", pods=True, empty_ok=self.empty_ok))
        return AppliedSet(f"release {self.release}", tuple(targets), self.namespace)

    def judged_failed(self, number: int) -> None:
        """Write on a revision that it was judged as failed: for Helm it may be as good as any."""
        mark = {"metadata": {"labels": {FAILED: str(number)}}}
        secret = f"sh.helm.release.v1.{self.release}.v{number}"
        try:
            self.run_with(lambda client: client.patch(SECRETS, secret, mark, self.namespace))
        except PipeOpsError as error:
            self.log.warning("Revision %d may be taken for a good one later: %s", number, error)

    def rolled_back(self, helm: Helm, failed: int) -> tuple[int, int]:
        """Take the release back from a revision, unless another one came after it; done once, also by several attempts.

        :param failed: number of the revision.
        :return: the number of the revision that stands now, and of that which it returns to.
        :raises ReleaseFailed: if it may not be.
        """
        while True:
            history = self.history()
            plan = self.return_from(history, failed)
            self.log.info("%s: %s", plan.action, plan.reason)
            if plan.action == "refuse":
                raise ReleaseFailed(f"Nothing was rolled back: {plan.reason}")
            if plan.action == "attach":
                return plan.revision, history[-1].returns_to
            if plan.action == "wait":
                time.sleep(min(LOOK, plan.seconds))
                continue
            before = history[-1].number
            self.back_to(helm, plan.revision, history)
            between = [one for one in self.history() if one.number > before][:-1]
            if between:
                # Helm takes no condition: whoever was faster gets back what was made.
                self.ran(helm, "rollback", self.release, str(between[-1].number))
                raise Conflict(
                    f"revision {between[-1].number} of {self.release} was made meanwhile, and stays"
                )

    def return_from(self, history: Sequence[Revision], failed: int) -> Recovery:
        """Say what takes the release back from a revision."""
        return plan_return(history, failed, self.seconds + 2 * OVER, time.time())

    def record(
        self,
        context: Context,
        applied: AppliedSet,
        decided: Decided,
        facts: Mapping[str, Any],
        commit: str,
        evidence: Sequence[Evidence] = (),
        parents: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Record the change, and the release if all is ready: what is accepted without being ready is no release.

        :param commit: that this is the release of.
        :param evidence: of the change.
        :param parents: records that the change is made from.
        :return: the facts, with what the wait has found.
        """
        verdict = decided.verdict
        change = self.emit(context, "change", facts, evidence=evidence, parents=parents)
        result = {
            **facts,
            "app": f"{self.namespace}/{self.release}",
            "health": "Healthy" if verdict.rule == "ready" else "Unknown",
            "rule": verdict.rule,
            "reason": verdict.reason,
            "images": list(decided.summary.get("images") or ()),
        }
        if verdict.rule != "ready":
            return {**result, "record_id": change}
        pushed = Pushed("helm", self.namespace, self.release, str(facts["revision"]))
        kept, told = self.pushed(context, applied.to_json(), pushed)
        body = {**result, **told, "helm_revision": facts["revision"], "revision": commit}
        record = self.emit(context, "release", body, parents=[change] if change else [], evidence=[kept])
        return {**result, "record_id": record}
