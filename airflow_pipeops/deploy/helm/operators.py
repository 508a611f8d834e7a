"""Install or upgrade a Helm release and wait until it lives; test it, list its history, uninstall it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import flag, one_of, positive
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import idempotency_key, no_retry, order_key, source_of
from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.deploy.helm import manifests
from airflow_pipeops.deploy.helm.base import LOOK, OVER, HelmOperator, HelmWaitOperator, ReleaseOperator
from airflow_pipeops.deploy.helm.charts import Fetched, Source, fetch
from airflow_pipeops.deploy.helm.errors import said_in
from airflow_pipeops.deploy.helm.program import Helm
from airflow_pipeops.deploy.helm.releases import Ours, Revision, label_of, plan_recovery
from airflow_pipeops.deploy.helm.replacing import left_of
from airflow_pipeops.deploy.reading import logs_of
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.deploy.triggers import ReleaseTrigger
from airflow_pipeops.exceptions import BadResponse, Conflict, NotFound, NotJudged, PipeOpsError, ReleaseFailed
from airflow_pipeops.redaction import cleaned
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context


#: So many characters of the logs of tests are told in an error.
_END = 2000


class HelmReleaseOperator(HelmWaitOperator):
    """Install or upgrade a release, wait until every object of it is ready, and record both; or put back what was there.

    Helm is not asked to wait: what was applied is judged as ``docs/readiness.md`` says, bound to the very objects that Helm
    has left. Before, what would change is compared and kept as evidence, with Secrets masked. What fails is recorded and
    then rolled back. The revision carries the identity of the task, so a retry finds what a worker that died has left; one
    that is stuck in ``pending-*`` is taken out of the way if it is of this task, and never else.

    Returns ``{release, namespace, revision, previous, attached, changed, replaced, chart, values, manifest, helm, commit,
    objects, health, rule, reason, record_id}``. Charts, values and manifests are named by digest; values are told nowhere.

    :param chart: ``oci://host/path@sha256:...`` (Helm 3 needs ``version`` beside the digest),
        ``https://host/chart.tgz@sha256:...``, a name in ``repository``, or ``./path`` in a commit of ``git_conn_id``.
        Templated.
    :param version: of the chart. Templated.
    :param repository: URL of a chart repository. Templated.
    :param chart_conn_id: connection with the login for the repository or registry; ``http://`` in its host is for one
        without TLS, ``ca_file`` in its extra for a private authority.
    :param git_conn_id: repository with charts and files of values.
    :param commit: in ``git_conn_id``; by default the tip of the branch. Templated.
    :param revision: commit that this is the release of, for the record; by default ``commit``. Templated.
    :param values: that are no secret. Templated.
    :param values_files: files of values in the commit, the later ones decide; ``values`` decide over all. Templated.
    :param secret_values: path of a value -> ``connection.field``, for example ``{"db.password": "shop_db.password"}``. They
        reach Helm in a file that only this user reads, and that is gone afterwards. Templated.
    :param create_namespace: make the namespace where it is not there.
    :param replace: have Helm write objects whole (``--force``) instead of patching them. It deletes none.
    :param on_immutable: ``replace``: an object of this release with fields that cannot be changed is deleted, with what it
        has made, and Helm makes it anew; ``fail``: Helm's error is told.
    :param on_failure: ``rollback`` to the newest good revision, or ``keep`` what failed.
    """

    template_fields: Sequence[str] = (
        "chart", "version", "repository", "commit", "revision", "values", "values_files", "secret_values",
        *HelmOperator.template_fields,
    )  # fmt: skip
    template_fields_renderers = {"values": "json", "secret_values": "json"}

    def __init__(
        self,
        *,
        chart: str,
        version: str = "",
        repository: str = "",
        chart_conn_id: str = "",
        git_conn_id: str = "",
        commit: str = "",
        revision: str = "",
        values: Mapping[str, Any] | None = None,
        values_files: Sequence[str] = (),
        secret_values: Mapping[str, str] | None = None,
        create_namespace: bool = False,
        replace: bool = False,
        on_failure: Literal["rollback", "keep"] = "rollback",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.chart, self.version, self.repository, self.chart_conn_id = (
            chart,
            version,
            repository,
            chart_conn_id,
        )
        self.git_conn_id, self.commit, self.revision = git_conn_id, commit, revision
        self.values, self.values_files, self.secret_values = values, values_files, secret_values
        self.create_namespace, self.replace = create_namespace, replace
        self.on_failure = one_of("on_failure", on_failure, ("rollback", "keep"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Find our own revision again or make one; then wait."""
        with no_retry(), self.opened() as helm:
            facts = self._released(context, helm)
            applied = self.run_with(lambda client: self.applied_in(client, facts["revision"]))
            decided = self.wait_for(applied, ReleaseTrigger, facts=facts)
            return self._finish(context, applied, decided, facts, helm)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry(), self.opened() as helm:
            raise_error_of(event)
            assert event is not None
            applied, decided = AppliedSet.from_json(event["applied"]), Decided.from_json(event["decided"])
            return self._finish(context, applied, decided, dict(event["facts"]), helm)

    # ---- the release -------------------------------------------------------------------------------------------------

    def _released(self, context: Context, helm: Helm) -> dict[str, Any]:
        """Have the revision there, and return the facts about it."""
        ours = self._ours(context)
        source = Source(
            self.chart, self.version, self.repository, self.chart_conn_id, self.git_conn_id, self.commit,
            self.values, self.values_files, self.secret_values,
        )  # fmt: skip
        fetched = fetch(source, helm, self.seconds)
        history, attached = self._cleared(helm, ours)
        kept: list[Evidence] = []
        replaced: list[dict[str, str]] = []
        if not attached:
            rendered = self._rendered(helm, fetched)
            live = [one for one in history if one.status == "deployed"]
            names, said = self._differs(live[-1].manifest if live else "", rendered)
            self.log.info("What changes:\n%s", cleaned(said))
            kept = [self.keep(context, said, "difference.txt", "text/plain")]
            replaced = self.made_way(rendered, history)
            ours = replace(ours, commit=self.revision or str(fetched.facts["commit"]))
            self._upgrade(context, helm, fetched, history, ours)
            history = self.history()
        newest = history[-1]
        if not newest.made_by(ours) and not attached:
            raise Conflict(f"revision {newest.number} of {self.release} was made by somebody else meanwhile")
        before = [one for one in history if one.number < newest.number and one.status == "superseded"]
        if attached:
            names, _ = self._differs(before[-1].manifest if before else "", newest.manifest)
        return {
            "release": self.release,
            "namespace": self.namespace,
            "revision": newest.number,
            "previous": before[-1].number if before else 0,
            "attached": attached,
            "changed": any(names.values()),
            "objects": names,
            "replaced": replaced,
            **fetched.facts,
            "manifest": manifests.digest(manifests.objects_of(newest.manifest)),
            "helm": helm.version,
            "evidence": [one.to_json() for one in kept],
        }

    def _ours(self, context: Context) -> Ours:
        return Ours(
            label_of(order_key(context)),
            label_of(idempotency_key(context)),
            self.seconds + 2 * OVER,
            str(source_of(context)["dag"]),
        )

    def _cleared(self, helm: Helm, ours: Ours) -> tuple[tuple[Revision, ...], bool]:
        """Take out of the way what a dead attempt of this task has left.

        :return: the history, and whether our own revision is there.
        """
        while True:
            history = self.history()
            plan = plan_recovery(history, ours, time.time())
            if plan.action == "act":
                return history, False
            self.log.info("%s: %s (revision %s)", plan.action, plan.reason, plan.revision)
            if plan.action == "attach":
                return history, True
            if plan.action == "wait":
                time.sleep(min(LOOK, plan.seconds))
            elif plan.action == "roll_back":
                self.back_to(helm, plan.revision, history)
            elif plan.action == "uninstall":
                self.ran(helm, "uninstall", self.release)
            elif plan.action == "undone":
                raise ReleaseFailed(
                    f"{self.release}: {plan.reason}",
                    remedy="Clear the task to release it anew.",
                )
            else:
                raise NotJudged(
                    f"{self.release}: {plan.reason}",
                    remedy=plan.remedy
                    or "Wait for its end. Where its Helm is dead, have whoever holds it clear that task, or run "
                    f"'helm rollback {self.release} --namespace {self.namespace}'.",
                )

    def _arguments(self, fetched: Fetched) -> list[str]:
        files = [part for path in fetched.files for part in ("--values", str(path))]
        return [self.release, str(fetched.path), "--install", *files]

    def _rendered(self, helm: Helm, fetched: Fetched) -> str:
        """Have the cluster try it; return the manifest."""
        said = self.ran(
            helm, "upgrade", *self._arguments(fetched), "--dry-run=server", "--output", "json"
        ).output
        try:
            return text(map_(json.loads(said[said.index("{") :])).get("manifest"))
        except ValueError as error:
            raise BadResponse(f"Helm's answer to a trial is no JSON: {error}") from error

    def _differs(self, before: str, after: str) -> tuple[dict[str, list[str]], str]:
        both = (manifests.objects_of(before), manifests.objects_of(after))
        return manifests.difference(*both, self.namespace)

    def _upgrade(
        self, context: Context, helm: Helm, fetched: Fetched, history: Sequence[Revision], ours: Ours
    ) -> None:
        number = history[-1].number + 1 if history else 1
        labels = ",".join(f"{name}={value}" for name, value in ours.labels(number).items() if value)
        source = source_of(context)
        more = ["--labels", labels, "--description", f"{source['dag']} / {source['task']} / {source['run']}"]
        more += ["--create-namespace"] if self.create_namespace else []
        if self.replace:
            more += ["--force-replace", "--server-side=false"] if helm.major > 3 else ["--force"]
        try:
            self.ran(helm, "upgrade", *self._arguments(fetched), *more)
        except PipeOpsError as error:
            after = self.history()
            if after and after[-1].made_by(ours) and after[-1].status == "failed":
                raise self._put_back(context, helm, {"revision": after[-1].number}, error) from error
            raise

    # ---- the wait ----------------------------------------------------------------------------------------------------

    def _finish(
        self, context: Context, applied: AppliedSet, decided: Decided, facts: dict[str, Any], helm: Helm
    ) -> dict[str, Any]:
        error = self.failure(applied, decided)
        if facts.get("failed"):  # this was the wait for what was put back
            raise self._told(facts["failed"], facts["end"], error)
        if error:
            raise self._put_back(context, helm, facts, error)
        evidence = [Evidence.from_json(one) for one in facts.pop("evidence")]
        commit = self.revision or facts["commit"]
        return self.record(context, applied, decided, facts, commit, evidence)

    def _put_back(
        self, context: Context, helm: Helm, facts: Mapping[str, Any], error: PipeOpsError
    ) -> PipeOpsError:
        """Write down what failed, then put back what was there before, and wait for it.

        :return: the error to raise.
        """
        failed = int(facts["revision"])
        said = f"Revision {failed} of release {self.namespace}/{self.release} failed.\n{error}\n"
        self.keep(context, said, "failure.txt", "text/plain")
        self.log.error("%s", said)
        self.judged_failed(failed)
        if self.on_failure == "keep":
            return error
        told = {"message": error.message, "remedy": error.remedy}
        try:
            number, target = self.rolled_back(helm, failed)
        except PipeOpsError as second:
            refused = isinstance(second, ReleaseFailed)
            end = second.message if refused else f"The rollback of revision {failed} failed, too: {second}"
            return self._told(told, end, None)
        end = f"Rolled back from revision {failed} to what revision {target} was"
        facts = {"revision": number, "failed": told, "end": end}
        applied = self.run_with(lambda client: self.applied_in(client, number))
        decided = self.wait_for(applied, ReleaseTrigger, facts=facts)
        return self._told(told, end, self.failure(applied, decided))

    def _told(self, failed: Mapping[str, Any], end: str, unready: PipeOpsError | None) -> PipeOpsError:
        """Return the error of what failed, with what became of it."""
        if unready is not None:
            end = f"{end}, which is not ready either: {unready.message}"
        self.log.warning("%s", end)
        return ReleaseFailed(f"{failed['message']}. {end}.", remedy=failed["remedy"])


class HelmTestOperator(HelmOperator):
    """Run the tests that the chart of a release brings, and fail where one fails, or where there is none.

    Their logs are kept, as far as the chart has Helm leave the pods.

    Returns ``{release, namespace, revision, tests, passed}``: how many there are, and whether any ran and all have passed.

    :param empty_ok: that the chart brings no test is in order; nothing has passed then.
    """

    def __init__(self, *, empty_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.empty_ok = flag("empty_ok", empty_ok, default=False)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run them."""
        with no_retry(), self.opened() as helm:
            history = self.history()
            if not history:
                raise NotFound(f"there is no release {self.namespace}/{self.release}")
            tests = manifests.tests_of(history[-1].hooks)
            if not tests and not self.empty_ok:
                raise NotJudged(
                    f"the chart of release {self.release} brings no test",
                    remedy="Write one (annotation helm.sh/hook: test), or say empty_ok=True.",
                )
            if tests:
                self._run(context, helm, tests)
            return {
                "release": self.release,
                "namespace": self.namespace,
                "revision": history[-1].number,
                "tests": len(tests),
                "passed": bool(tests),
            }

    def _run(self, context: Context, helm: Helm, tests: Sequence[Mapping[str, Any]]) -> None:
        # Helm's own --logs takes each test for a Pod, and fails where one is a Job.
        said = helm.run("test", self.release, "--timeout", f"{self.seconds:g}s", timeout=self.seconds + OVER)
        logs = self.run_with(lambda client: logs_of(client, tests, self.namespace))
        told = cleaned("\n".join(filter(None, (said.output, said.complaints, logs))))
        self.keep(context, told + "\n", "helm-test.txt", "text/plain")
        self.log.info("%s", told)
        if said.code:
            end = f"\n{logs[-_END:]}" if logs else ""
            raise ReleaseFailed(
                f"the tests of release {self.release} failed: {said_in(said.complaints)}{end}"
            )


class HelmHistoryOperator(ReleaseOperator):
    """List the revisions of a release, the oldest first; none where there is no such release. It runs no Helm.

    Returns ``{release, namespace, revisions}``, each ``{revision, status, description, chart, version, manifest}``; the
    manifest is a digest.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Read them."""
        with no_retry():
            self.located()
            found = [
                {
                    "revision": one.number,
                    "status": one.status,
                    "description": one.description,
                    "chart": one.chart,
                    "version": one.version,
                    "manifest": manifests.digest(manifests.objects_of(one.manifest)),
                }
                for one in self.history()
            ]
            return {"release": self.release, "namespace": self.namespace, "revisions": found}


class HelmUninstallOperator(HelmOperator):
    """Uninstall a release, and wait until its objects are gone. Doing it twice changes nothing.

    Returns ``{release, namespace, changed, record_id}``.

    :param keep_history: keep the revisions, so that it can be rolled back to life; else they go last, also those that an
        uninstall before has kept.
    :param gone_within: in which its objects must be gone: one that finalizers hold for longer is an error.
    """

    emits = ("change",)

    def __init__(
        self, *, keep_history: bool = False, gone_within: timedelta = timedelta(minutes=2), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.keep_history = keep_history
        self.gone_within = positive("gone_within", gone_within, zero=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Uninstall it, if it is there."""
        with no_retry(), self.opened() as helm:
            history = self.history()
            stands = bool(history) and history[-1].status != "uninstalled"
            changed = stands or (bool(history) and not self.keep_history)
            if stands:
                # What is left of it is known by its revisions: they stay until it is gone, also for a retry.
                self.ran(helm, "uninstall", self.release, "--keep-history")
            if history:
                self._gone(history[-1].manifest)
            if changed and not self.keep_history:
                self.ran(helm, "uninstall", self.release)
            self.log.info("%s: %s", self.release, "uninstalled" if changed else "is not there")
            facts = {
                "release": self.release,
                "namespace": self.namespace,
                "changed": changed,
                "uninstalled": True,
            }
            return {**facts, "record_id": self.emit(context, "change", facts) if changed else None}

    def _gone(self, manifest: str) -> None:
        """Wait a while until the objects have gone.

        :raises ReleaseFailed: if one is held.
        """
        bodies = manifests.objects_of(manifest)
        left = self.run_with(
            lambda client: left_of(client, bodies, self.namespace, self.gone_within.total_seconds())
        )
        if left:
            raise ReleaseFailed(
                f"release {self.release} is uninstalled, and {len(left)} of its objects do not go: {'; '.join(left[:50])}",
                remedy="Let whoever set the finalizers end its work, or take them away; nothing else is left to do.",
            )
