"""Apply manifests as a set, wait until they run, and go back to the release before."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_pipeops.base.arguments import not_empty, one_given, one_of, read_at_least, texts
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.delivery.records import Evidence
from airflow_pipeops.deploy.apply import sources
from airflow_pipeops.deploy.apply.cluster import MANAGER
from airflow_pipeops.deploy.apply.commits import Relation
from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.objects import Manifest, digest, written
from airflow_pipeops.deploy.apply.parents import Parent, Release, may_undo, undo_to
from airflow_pipeops.deploy.apply.sets import Ref
from airflow_pipeops.deploy.apply.wanted import Done, Look, Wanted
from airflow_pipeops.deploy.base import AppliedWaitOperator
from airflow_pipeops.deploy.pushed import Pushed
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.deploy.triggers import ReleaseTrigger
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.kubernetes.kinds import SECRETS
from airflow_pipeops.redaction import cleaned
from airflow_pipeops.waits.operators import MARGIN, WaitOperator
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.kubernetes.client import KubernetesClient

#: So many objects are named in a record.
_NAMED = 50
#: Facts that a deferral carries, and that no record needs.
_OURS = ("applied", "evidence", "set", "after", "pinned", "job", "ready")


class SetOperator(AppliedWaitOperator):
    """What applying and undoing share.

    :param name: of the set: of the ConfigMap that is its parent, or ``secrets/NAME`` where that is a Secret, as kubectl has
        it by default. Templated.
    :param namespace: of the parent, and of objects that name none; by default that of the connection, else ``default``.
        Templated.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param prune_named: objects of the kinds Namespace, CustomResourceDefinition and PersistentVolumeClaim that may be
        pruned, each as ``"Kind namespace/name"`` or ``"Kind name"``.
    :param prune_allowed: so many objects may be pruned; by default three, or a fifth of the set. Templated.
    :param force_from: managers from whom fields may be taken; from one that has applied on the client, all of them.
    :param on_immutable: what becomes of an object with fields that cannot be changed: ``fail``, before anything is touched,
        or ``replace``: it is deleted, with what it has made, and made anew. The pods of a StatefulSet run on, where its
        selector stays. A Namespace, CustomResourceDefinition or PersistentVolumeClaim only if ``prune_named`` names it.
    :param wait: wait until all is ready.
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
        on_immutable: Literal["fail", "replace"] = "fail",
        wait: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.namespace, self.kubernetes_conn_id = name, namespace, kubernetes_conn_id
        self.prune_named, self.prune_allowed, self.force_from = prune_named, prune_allowed, force_from
        for several in ("prune_named", "force_from"):
            texts(several, getattr(self, several))
        self.on_immutable = one_of("on_immutable", on_immutable, ("fail", "replace"))
        self.wait = wait
        self._pinned: tuple[str, ...] = ()

    def relation(self, recorded: str, wanted: str) -> Relation:
        """Say how a commit stands to the recorded one."""
        return "unknown"

    def wanted(self, context: Context, bodies: Sequence[Mapping[str, Any]] = (), **more: Any) -> Wanted:
        """Return what is wanted, as far as the operator says it.

        :param bodies: the objects.
        :param more: says the rest.
        :return: the set, before anything was looked at.
        """
        return Wanted(
            not_empty("name", self.name, "the set has no name", "Name the ConfigMap that is its parent."),
            self.namespace,
            bodies,
            order_key(context),
            prune_named=tuple(self.prune_named),
            prune_allowed=_count("prune_allowed", self.prune_allowed),
            force_from=tuple(self.force_from),
            replace=self.on_immutable == "replace",
            lease=(self.timeout + MARGIN).total_seconds(),
            **more,
        )

    def prepare(self) -> None:
        """Have at hand what is to be applied, before the cluster is asked."""

    async def meant(self, client: KubernetesClient, context: Context) -> Wanted:
        """Return what is to be applied."""
        raise NotImplementedError

    def deployed(self, context: Context) -> dict[str, Any]:
        """Run the Jobs before, apply, wait, run the Jobs after, and record. Whatever was done by now is not done again."""

        async def work(client: KubernetesClient) -> dict[str, Any]:
            return await self.released(client, context, await self.meant(client, context))

        self.prepare()
        while True:
            facts = self.run_with(work, many=True)
            if "job" not in facts:
                return self.finish(context, facts)
            self._job(context, facts)

    async def released(self, client: KubernetesClient, context: Context, wanted: Wanted) -> dict[str, Any]:
        """Look, keep what differs and what is applied, and apply.

        :return: the facts of the release; with a ``job``, that has to end first.
        """
        applier = Applier(client, wanted, self.relation)
        look = await applier.look()
        self._same(wanted.commit, look.all)
        lost = [
            f"! {kind} is not served: what is left of it is neither seen nor pruned" for kind in look.lost
        ]
        said = cleaned("\n".join([*look.lines, *lost])) or "nothing differs"
        self.log.info("%s/%s:\n%s", wanted.namespace, wanted.name, said[:20_000])
        difference = self.keep(context, said + "\n", "differences.txt", "text/plain; charset=utf-8")
        after = [hook.manifest.name for hook in look.hooks if hook.when == "after" and not wanted.undo]
        if after and not self.wait:
            raise InvalidInput(
                f"Job {after[0]} runs after all is ready, and nobody waits for that",
                field="wait",
                remedy="Wait.",
            )
        manifests, sha256 = self._kept(context, look.all, wanted.undo)
        release = release_of(wanted, look.all, sha256)
        try:
            done = await applier.apply(look, release)
        except PipeOpsError:
            with contextlib.suppress(PipeOpsError):  # what failed is what is told
                await applier.let_go(mine=True)
            raise
        if done.pending:
            return {"job": _waited(*done.pending), "pinned": [wanted.commit, release.digest]}
        return self._facts(wanted, look, done, [difference, manifests], after)

    def _kept(
        self, context: Context, manifests: Sequence[Manifest], undo: Release | None
    ) -> tuple[Evidence, str]:
        """Keep the manifests; an undo goes back to those that were kept, and not to those without their Secrets."""
        content = written(manifests)
        if undo is not None:
            return self.keep(context, content.encode(), sources.KEPT, "application/json"), undo.sha256
        if cleaned(content) != content:
            self.log.warning(
                "The manifests hold a secret outside of Secrets: nothing can go back to this release."
            )
            return self.keep(context, content, sources.KEPT, "application/json"), ""
        kept = self.keep(context, content.encode(), sources.KEPT, "application/json")
        return kept, kept.sha256

    def _facts(
        self, wanted: Wanted, look: Look, done: Done, evidence: Sequence[Evidence], after: Sequence[str]
    ) -> dict[str, Any]:
        targets = tuple(
            Target.of(answer, one.served.plural, one.body, manager=MANAGER, empty_ok=self.empty_ok)
            for one, answer in done.answers
        )
        app = f"{wanted.namespace}/{Ref.of(wanted.name, wanted.namespace).name}"
        return {
            "app": app,
            "commit": wanted.commit,
            "previous": _before(look.parent, wanted.key),
            "changed": bool(look.lines),
            "objects": len(done.answers),
            "deleted": [str(one) for one in done.deleted[:_NAMED]],
            "kept": [str(one) for one in done.kept[:_NAMED]],
            "lost": list(look.lost),
            "replaced": [
                {"object": str(one), "before": before, "now": now}
                for one, before, now in done.replaced[:_NAMED]
            ],
            "undo": wanted.undo is not None,
            "set": [wanted.namespace, wanted.name, wanted.key],
            "after": after,
            "pinned": [wanted.commit, digest(look.all)],
            "evidence": [one.to_json() for one in evidence],
            "applied": AppliedSet(app, targets, wanted.namespace).to_json(),
        }

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def finish(
        self, context: Context, facts: dict[str, Any], decided: Decided | None = None
    ) -> dict[str, Any]:
        """Wait, if that is wanted, run the Jobs after, and record."""
        if not self.wait:
            return self._record(context, facts, None)
        if decided is None:
            decided = self.wait_for(AppliedSet.from_json(facts["applied"]), ReleaseTrigger, facts=facts)
        if error := self.failure(AppliedSet.from_json(facts["applied"]), decided):
            raise error
        while facts["after"]:
            self.pin(facts["pinned"])
            self.prepare()
            job = self.run_with(lambda client: self._begun_after(client, context))
            if job is None:
                break
            self._job(context, {**facts, "job": job, "ready": decided.to_json()})
        return self._record(context, facts, decided)

    async def _begun_after(self, client: KubernetesClient, context: Context) -> dict[str, Any] | None:
        """Begin the next Job after; return the first that has not ended."""
        wanted = await self.meant(client, context)
        applier = Applier(client, wanted, self.relation)
        plain, hooks = await applier.parted()
        self._same(wanted.commit, [*plain, *(hook.manifest for hook in hooks)])
        pending = await applier.after([hook for hook in hooks if hook.when == "after"])
        return _waited(*pending) if pending else None

    def _job(self, context: Context, facts: Mapping[str, Any], decided: Decided | None = None) -> None:
        """Wait until a Job has ended well; nothing goes on where it has not."""
        job = AppliedSet.from_json(facts["job"])
        if decided is None:
            decided = self.wait_for(job, ReleaseTrigger, facts=facts)
        if error := self.failure(job, decided):
            asked = self.wanted(context)
            with contextlib.suppress(PipeOpsError):  # what failed is what is told
                self.run_with(lambda client: Applier(client, asked, self.relation).let_go())
            raise error

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral; records are emitted here, since a trigger cannot."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            facts, decided = dict(event["facts"]), Decided.from_json(event["decided"])
            if "job" not in facts:
                return self.finish(context, facts, decided)
            self.pin(facts["pinned"])
            self._job(context, facts, decided)
            if "ready" not in facts:
                return self.deployed(context)
            return self.finish(context, facts, Decided.from_json(facts["ready"]))

    def pin(self, pinned: Sequence[str]) -> None:
        """Go on with the very commit and manifests that were begun.

        :param pinned: the commit, and the digest of the manifests.
        """
        self._pinned = tuple(pinned)

    def _same(self, commit: str, manifests: Sequence[Manifest]) -> None:
        found = (commit, digest(manifests))
        if self._pinned and found != self._pinned:
            raise InvalidInput(
                f"the manifests of {commit[:12] or 'this release'} are others than when it was begun",
                field="manifests",
                remedy="Clear the task to release what they are now.",
            )

    def _record(self, context: Context, facts: dict[str, Any], decided: Decided | None) -> dict[str, Any]:
        """Record the change, and the release if all is ready."""
        body = {key: value for key, value in facts.items() if key not in _OURS}
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
            namespace, name, key = facts["set"]
            kept, pushed = self.pushed(context, facts["applied"], Pushed("manifests", namespace, name, key))
            result["record_id"] = self.emit(
                context, "release", told | pushed, commit=commit, parents=parents, evidence=[kept]
            )
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

    Returns ``{app, commit, previous, changed, objects, deleted, kept, lost, replaced, undo, evidence, change_id,
    record_id}``, and with a wait ``{kind, revision, health, rule, reason, images}``.

    :param path: of a file or folder in a repository: plain YAML, or a kustomization. Templated.
    :param git_conn_id: connection of that repository.
    :param commit: the commit to apply; of the repository by default the tip of its branch. With ``manifests`` or ``uri``,
        the commit that they were rendered from. Templated.
    :param manifests: rendered manifests, as text or objects. Templated.
    :param uri: of a file with rendered manifests: ``file://``, an object store, or ``https://``. Templated.
    :param sha256: that this file must have, in hex; by default any, but one of a web server needs it. Templated.
    :param rollback: the commit may be older than the one that was applied. Templated.
    :param take_over: a tool whose set may be taken over, for example ``kubectl``, with all that it holds of the members.
    """

    template_fields: Sequence[str] = (
        "path", "commit", "manifests", "uri", "sha256", "rollback", *SetOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        path: str = "",
        git_conn_id: str = "pipeops_app_repo",
        commit: str = "",
        manifests: str | Sequence[Mapping[str, Any]] = "",
        uri: str = "",
        sha256: str = "",
        rollback: bool | str = False,
        take_over: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.git_conn_id, self.commit = path, git_conn_id, commit
        self.manifests, self.uri, self.sha256 = manifests, uri, sha256
        self.rollback, self.take_over = rollback, take_over
        self._bodies: list[dict[str, Any]] = []

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply."""
        with no_retry():
            one_given(
                "manifests come from one place",
                "Give path (of a commit), manifests or uri.",
                path=self.path, manifests=self.manifests, uri=self.uri,
            )  # fmt: skip
            return self.deployed(context)

    def prepare(self) -> None:
        """Read the manifests, once."""
        remedy = "To take all away, undo it or delete the objects."
        self._bodies = not_empty("manifests", self._bodies or self._read(), "there is no manifest", remedy)

    async def meant(self, client: KubernetesClient, context: Context) -> Wanted:
        """Return the manifests of the commit, or those that are given."""
        back = str(self.rollback).lower() == "true"
        return self.wanted(context, self._bodies, commit=self.commit, rollback=back, take_over=self.take_over)

    def _read(self) -> list[dict[str, Any]]:
        self.commit = self._pinned[0] if self._pinned else self.commit
        if self.path:
            client = GitHook(self.git_conn_id).get_conn()
            self.commit = client.resolve(self.commit)
            return sources.from_commit(client, self.commit, self.path)
        return sources.from_uri(self.uri, self.sha256) if self.uri else sources.from_manifests(self.manifests)

    def relation(self, recorded: str, wanted: str) -> Relation:
        """Ask the repository how a commit stands to the recorded one."""
        return sources.relation_in(GitHook(self.git_conn_id).get_conn(), recorded, wanted)


class UndoManifestsOperator(SetOperator):
    """Apply the manifests of the release before, as they were kept, and prune what they did not have.

    Where a release was begun and never ended, it goes back to the one that ended last. Secrets are not kept, and stay as
    they are; one that is missing is an error. A retry goes back to the same release. What is undone is one release: where
    another one was begun meanwhile, nothing is touched.

    Returns what :class:`ApplyManifestsOperator` does.

    :param of: key of the release that is to be undone, as its record names it under ``pushed``; where another one stands by
        now, the task fails. By default the release that stands. Templated.
    """

    emits = ("rollback", "change", "release")
    template_fields: Sequence[str] = ("of", *SetOperator.template_fields)

    def __init__(self, *, of: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of = of

    def _undone(self, context: Context, facts: Mapping[str, Any]) -> list[str]:
        told = {"app": facts["app"], "revision": facts["commit"], "reverts": facts["previous"], "how": "undo"}
        rollback = self.emit(context, "rollback", told)
        return [rollback] if rollback else []

    def execute(self, context: Context) -> dict[str, Any]:
        """Undo."""
        with no_retry():
            return self.deployed(context)

    async def meant(self, client: KubernetesClient, context: Context) -> Wanted:
        """Return the manifests of the release before."""
        asked = self.wanted(context)
        parent = await Applier(client, asked, self.relation).parent()
        undone = self.of or parent.standing
        may_undo(parent, asked.key, undone)
        target = undo_to(parent, asked.key)
        bodies = await _without_secrets(client, _manifests_of(target), asked.namespace)
        return replace(
            asked,
            bodies=bodies,
            commit=target.commit,
            undo=target,
            undone=undone,
            keep_kinds=("Secret",),
        )


def _count(field: str, value: Any) -> int | None:
    """Return a number that a template may have made; ``None`` for none."""
    if value is None:
        return None
    return read_at_least(field, value, 0, f"{field} is {value!r}", "Give a number from 0 on, or None.")


def _waited(job: Manifest, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of what waits for a Job."""
    target = Target.of(answer, job.served.plural, pods=True)
    return AppliedSet(str(target), (target,), target.namespace).to_json()


def _before(parent: Parent, key: str) -> str:
    """Return the commit that the set was of before a release, also where that has begun already."""
    if parent.standing != key:
        return parent.commit
    return next((one.commit for one in reversed(parent.releases) if one.key != key), "")


def _manifests_of(release: Release) -> list[dict[str, Any]]:
    """Return the manifests of a release, as they were kept."""
    found = sources.from_release(release)
    if found is None:
        raise NotFound(
            f"the manifests of commit {release.commit[:12] or '(none)'} are not kept any more, or never could be",
            remedy="Apply that commit with rollback=True.",
        )
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
                await client.get(SECRETS, name, place)
            except NotFound as error:
                raise InvalidInput(
                    f"Secret {place}/{name} of that release is gone, and what it held was not kept",
                    field="name",
                    value=name,
                    remedy="Apply the commit of that release with rollback=True.",
                ) from error
    return [body for body in bodies if body.get("kind") != "Secret"]
