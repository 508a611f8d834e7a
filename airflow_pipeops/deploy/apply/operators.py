"""Apply manifests as a set, wait until they run, and go back to the release before."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow_pipeops.base.arguments import not_empty, one_given, one_of
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.deploy.apply import sources
from airflow_pipeops.deploy.apply.commits import Relation
from airflow_pipeops.deploy.apply.engine import Applier, Done, Look, Wanted, release_of
from airflow_pipeops.deploy.apply.objects import Manifest, written
from airflow_pipeops.deploy.apply.parents import Release, undo_to
from airflow_pipeops.deploy.base import AppliedWaitOperator
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.deploy.triggers import ReleaseTrigger
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.kubernetes.kinds import Kind
from airflow_pipeops.redaction import cleaned
from airflow_pipeops.waits.expectation import Policy
from airflow_pipeops.waits.operators import WaitOperator
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.kubernetes.client import KubernetesClient

Result = TypeVar("Result")
#: Under this name the manifests of a release are kept.
KEPT = "manifests.json"
_SECRETS = Kind("", "v1", "secrets")
#: So many objects are named in a record.
_NAMED = 50


class SetOperator(AppliedWaitOperator):
    """What applying and undoing share.

    :param name: of the set: of the ConfigMap that is its parent. Templated.
    :param namespace: of the parent, and of objects that name none; by default that of the connection, else ``default``.
        Templated.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param prune_named: objects of the kinds Namespace, CustomResourceDefinition and PersistentVolumeClaim that may be
        pruned, each as ``"Kind namespace/name"`` or ``"Kind name"``.
    :param prune_allowed: so many objects may be pruned; by default three, or a fifth of the set. Templated.
    :param force_from: managers of fields from whom fields may be taken.
    :param wait: wait until all is ready.
    :param on_paused: ``fail``, ``wait``, or ``accept`` what is paused.
    :param on_unknown: ``fail``, ``wait``, or ``accept`` where nobody can tell whether an object is ready.
    :param failed_grace: for which an object may be failed.
    """

    template_fields: Sequence[str] = ("name", "namespace", "prune_allowed", *WaitOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("change", "release")
    ui_color = "#e9f3ee"

    def __init__(
        self,
        *,
        name: str,
        namespace: str = "",
        kubernetes_conn_id: str = "kubernetes_default",
        prune_named: Sequence[str] = (),
        prune_allowed: int | None = None,
        force_from: Sequence[str] = (),
        wait: bool = True,
        on_paused: Policy = "fail",
        on_unknown: Policy = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.namespace, self.kubernetes_conn_id = name, namespace, kubernetes_conn_id
        self.prune_named, self.prune_allowed, self.force_from = prune_named, prune_allowed, force_from
        self.wait = wait
        self.on_paused: Policy = one_of("on_paused", on_paused, ("fail", "wait", "accept"))
        self.on_unknown: Policy = one_of("on_unknown", on_unknown, ("fail", "wait", "accept"))

    def run_with(self, work: Callable[[KubernetesClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with an open client, which may say in which namespace that is."""

        async def located(client: KubernetesClient) -> Result:
            self.namespace = self.namespace or client.namespace or "default"
            return await work(client)

        return super().run_with(located, **options)

    def relation(self, recorded: str, wanted: str) -> Relation:
        """Say how a commit stands to the recorded one."""
        return "unknown"

    def wanted(self, context: Context, **more: Any) -> dict[str, Any]:
        """Return the arguments of what is wanted that come from the operator."""
        allowed = self.prune_allowed
        given = {
            "name": not_empty(
                "name", self.name, "the set has no name", "Name the ConfigMap that is its parent."
            ),
            "namespace": self.namespace,
            "key": order_key(context),
            "prune_named": tuple(self.prune_named),
            "prune_allowed": None if allowed is None else int(allowed),
            "force_from": tuple(self.force_from),
        }
        return {**given, **more}

    async def released(self, client: KubernetesClient, context: Context, wanted: Wanted) -> dict[str, Any]:
        """Look, keep what differs and what is applied, and apply.

        :return: the facts of the release.
        """
        applier = Applier(client, wanted, self.relation)
        look = await applier.look()
        said = "\n".join(look.lines) or "nothing differs"
        self.log.info("%s/%s:\n%s", wanted.namespace, wanted.name, said[:20_000])
        difference = self.keep(context, said + "\n", "differences.txt", "text/plain; charset=utf-8")
        manifests, sha256 = self._kept(context, look.manifests, wanted.undo)
        done = await applier.apply(look, release_of(wanted, look.manifests, sha256))
        return self._facts(wanted, look, done, [difference, manifests])

    def _kept(
        self, context: Context, manifests: Sequence[Manifest], undo: Release | None
    ) -> tuple[Evidence, str]:
        """Keep the manifests; an undo goes back to those that were kept, and not to those without their Secrets."""
        content = written(manifests)
        if undo is not None:
            return self.keep(context, content.encode(), KEPT, "application/json"), undo.sha256
        if cleaned(content) != content:
            self.log.warning(
                "The manifests hold a secret outside of Secrets: nothing can go back to this release."
            )
            return self.keep(context, content, KEPT, "application/json"), ""
        kept = self.keep(context, content.encode(), KEPT, "application/json")
        return kept, kept.sha256

    def _facts(self, wanted: Wanted, look: Look, done: Done, evidence: Sequence[Evidence]) -> dict[str, Any]:
        targets = [Target.of(answer, one.served.plural, one.body).to_json() for one, answer in done.answers]
        app = f"{wanted.namespace}/{wanted.name}"
        return {
            "app": app,
            "commit": wanted.commit,
            "previous": look.parent.commit,
            "changed": bool(look.lines),
            "objects": len(done.answers),
            "deleted": [str(one) for one in done.deleted[:_NAMED]],
            "kept": [str(one) for one in done.kept[:_NAMED]],
            "undo": wanted.undo is not None,
            "evidence": [one.to_json() for one in evidence],
            "applied": AppliedSet(app, tuple(map(Target.from_json, targets)), wanted.namespace).to_json(),
        }

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def finish(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        """Wait, if that is wanted, and record."""
        if not self.wait:
            return self._record(context, facts, None)
        decided = self.wait_for(AppliedSet.from_json(facts["applied"]), ReleaseTrigger, facts=facts)
        return self._record(context, facts, decided)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            return self._record(context, dict(event["facts"]), Decided.from_json(event["decided"]))

    def _record(self, context: Context, facts: dict[str, Any], decided: Decided | None) -> dict[str, Any]:
        """Record the change, and the release if all is ready."""
        if decided is not None and (error := self.failure(AppliedSet.from_json(facts["applied"]), decided)):
            raise error
        body = {key: value for key, value in facts.items() if key not in ("applied", "evidence")}
        evidence = [Evidence(**one) for one in facts["evidence"]]
        commit = facts["commit"] or None
        before = self._undone(context, body)
        change = self.emit(context, "change", body, commit=commit, evidence=evidence, parents=before)
        result = {**body, "evidence": facts["evidence"], "change_id": change, "record_id": change}
        if decided is None:
            return result
        told = {
            "app": facts["app"],
            "kind": "ApplySet",
            "revision": facts["commit"],
            "objects": facts["objects"],
            "health": "Healthy" if decided.verdict.rule == "ready" else "Unknown",
            "rule": decided.verdict.rule,
            "reason": decided.verdict.reason,
            "images": list(decided.summary.get("images") or ())[:_NAMED],
        }
        result |= told
        if decided.verdict.rule == "ready":  # what is accepted without being ready is no release
            parents = [change] if change else []
            result["record_id"] = self.emit(context, "release", told, commit=commit, parents=parents)
        return result

    def _undone(self, context: Context, facts: Mapping[str, Any]) -> list[str]:
        """Record what was undone, where something was.

        :return: the records that the change is made from.
        """
        return []


class ApplyManifestsOperator(SetOperator):
    """Apply manifests on the server as an apply set, prune what left it, wait until all is ready, and record the release.

    What differs is found out first, and kept; what may not be is refused before anything is touched: a field of another
    manager, an older commit, too many deletions. Nothing is deleted before all was applied. A retry goes on where a worker
    died. The set is one that ``kubectl apply --applyset`` knows.

    Returns ``{app, commit, previous, changed, objects, deleted, kept, undo, evidence, change_id, record_id}``, and with a
    wait ``{kind, revision, health, rule, reason, images}``.

    :param path: of a file or folder in a repository: plain YAML, or a kustomization. Templated.
    :param git_conn_id: connection of that repository.
    :param commit: the commit to apply; of the repository by default the tip of its branch. With ``manifests`` or ``uri``,
        the commit that they were rendered from. Templated.
    :param manifests: rendered manifests, as text or objects. Templated.
    :param uri: of a file with rendered manifests. Templated.
    :param rollback: the commit may be older than the one that was applied. Templated.
    :param take_over: a tool whose set may be taken over, for example ``kubectl``.
    """

    template_fields: Sequence[str] = (
        "path", "commit", "manifests", "uri", "rollback", *SetOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        path: str = "",
        git_conn_id: str = "pipeops_app_repo",
        commit: str = "",
        manifests: str | Sequence[Mapping[str, Any]] = "",
        uri: str = "",
        rollback: bool | str = False,
        take_over: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.git_conn_id, self.commit = path, git_conn_id, commit
        self.manifests, self.uri = manifests, uri
        self.rollback, self.take_over = rollback, take_over

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply."""
        with no_retry():
            one_given(
                "manifests come from one place",
                "Give path (of a commit), manifests or uri.",
                path=self.path, manifests=self.manifests, uri=self.uri,
            )  # fmt: skip
            bodies = self._bodies()
            not_empty(
                "manifests",
                bodies,
                "there is no manifest",
                "To take all away, undo it or delete the objects.",
            )

            async def work(client: KubernetesClient) -> dict[str, Any]:
                back = str(self.rollback).lower() == "true"
                more = {
                    "bodies": bodies,
                    "commit": self.commit,
                    "rollback": back,
                    "take_over": self.take_over,
                }
                return await self.released(client, context, Wanted(**self.wanted(context, **more)))

            return self.finish(context, self.run_with(work))

    def _bodies(self) -> list[dict[str, Any]]:
        if self.path:
            client = GitHook(self.git_conn_id).get_conn()
            self.commit = client.resolve(self.commit)
            return sources.from_commit(client, self.commit, self.path)
        return sources.from_uri(self.uri) if self.uri else sources.from_manifests(self.manifests)

    def relation(self, recorded: str, wanted: str) -> Relation:
        """Ask the repository how a commit stands to the recorded one."""
        return sources.relation_in(GitHook(self.git_conn_id).get_conn(), recorded, wanted)


class UndoManifestsOperator(SetOperator):
    """Apply the manifests of the release before, as they were kept, and prune what they did not have.

    Where a release was begun and never ended, it goes back to the one that ended last. Secrets are not kept, and stay as
    they are; one that is missing is an error. A retry goes back to the same release.

    Returns what :class:`ApplyManifestsOperator` does.
    """

    emits = ("rollback", "change", "release")

    def _undone(self, context: Context, facts: Mapping[str, Any]) -> list[str]:
        told = {"app": facts["app"], "revision": facts["commit"], "reverts": facts["previous"], "how": "undo"}
        rollback = self.emit(context, "rollback", told)
        return [rollback] if rollback else []

    def execute(self, context: Context) -> dict[str, Any]:
        """Undo."""
        with no_retry():

            async def work(client: KubernetesClient) -> dict[str, Any]:
                asked = Wanted(**self.wanted(context, bodies=()))
                target = undo_to(await Applier(client, asked, self.relation).parent(), asked.key)
                bodies = await _without_secrets(client, _manifests_of(target), asked.namespace)
                more = {"bodies": bodies, "commit": target.commit, "undo": target, "keep_kinds": ("Secret",)}
                return await self.released(client, context, Wanted(**self.wanted(context, **more)))

            return self.finish(context, self.run_with(work))


def _manifests_of(release: Release) -> list[dict[str, Any]]:
    """Return the manifests of a release, as they were kept."""
    from airflow_pipeops.delivery.evidence import kept

    content = kept(release.sha256, KEPT) if release.sha256 else None
    if content is None:
        raise NotFound(
            f"the manifests of commit {release.commit[:12] or '(none)'} are not kept any more, or never could be",
            remedy="Apply that commit with rollback=True.",
        )
    found: list[dict[str, Any]] = json.loads(content)
    return found


async def _without_secrets(
    client: KubernetesClient, bodies: Sequence[dict[str, Any]], namespace: str
) -> list[dict[str, Any]]:
    """Return the objects that can be applied again; the Secrets among them must be there still."""
    for body in bodies:
        metadata = map_(body.get("metadata"))
        name, place = text(metadata.get("name")), text(metadata.get("namespace")) or namespace
        if body.get("kind") == "Secret":
            try:
                await client.get(_SECRETS, name, place)
            except NotFound as error:
                raise InvalidInput(
                    f"Secret {place}/{name} of that release is gone, and what it held was not kept",
                    field="name",
                    value=name,
                    remedy="Apply the commit of that release with rollback=True.",
                ) from error
    return [body for body in bodies if body.get("kind") != "Secret"]
