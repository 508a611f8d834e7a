"""What the parent of a set remembers beside its scope: who holds it, which commit it is of, and its releases. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.deploy.apply.sets import Ref, Scope, parent_fields, scope_told
from airflow_pipeops.exceptions import Conflict, InvalidInput

COMMIT = "pipeops/commit"
HOLDER = "pipeops/holder"
INTENT = "pipeops/intent"
RELEASES = "pipeops/releases"
#: So many releases are remembered.
_RELEASES = 10


@dataclass(frozen=True)
class Release(JsonForm):
    """One release of a set.

    :param key: of the task that applied it.
    :param commit: it is of; empty for none.
    :param digest: SHA-256 of what was applied.
    :param sha256: of the manifests as they were kept; empty where they could not be.
    :param jobs: names of the Jobs before and after it that have ended well.
    """

    key: str
    commit: str
    digest: str
    sha256: str = ""
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holder(JsonForm):
    """Who holds a set.

    :param key: of the task; its retry takes the set over.
    :param token: of the attempt.
    :param until: seconds since 1970, after which anybody may take it.
    """

    key: str
    token: str
    until: float


@dataclass(frozen=True)
class Parent:
    """The parent object, read.

    :param scope: where members may be.
    :param commit: what the set is of, or begins to be of.
    :param holder: who holds it.
    :param intent: the release that was begun and not ended.
    :param releases: those that were ended, the latest last.
    :param resource_version: of the object; empty where there is none.
    """

    scope: Scope = field(default_factory=Scope)
    commit: str = ""
    holder: Holder | None = None
    intent: Release | None = None
    releases: tuple[Release, ...] = field(default=())
    resource_version: str = ""

    @property
    def standing(self) -> str:
        """The key of the release that was begun last, ended or not; empty for none."""
        if self.intent is not None:
            return self.intent.key
        return self.releases[-1].key if self.releases else ""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Parent:
        """Read it."""
        metadata = map_(item.get("metadata"))
        told = map_(metadata.get("annotations"))
        try:
            holder, intent = (parsed(text(told.get(name)) or "null") for name in (HOLDER, INTENT))
            releases = maps(parsed(text(told.get(RELEASES)) or "[]"))
            return cls(
                scope_told(item),
                text(told.get(COMMIT)),
                Holder.from_json(holder) if holder else None,
                Release.from_json(intent) if intent else None,
                tuple(Release.from_json(one) for one in releases),
                text(metadata.get("resourceVersion")),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(
                f"an annotation of the apply set's parent {text(metadata.get('name'))} cannot be read: {error}",
                field="annotations",
                remedy=f"Take {HOLDER}, {INTENT} and {RELEASES} away from it.",
            ) from error

    def written(self, ref: Ref) -> dict[str, Any]:
        """Return what the object is to say, as a merge patch: what others wrote on it stays."""
        fields = parent_fields(ref, self.scope)
        told = {
            COMMIT: self.commit or None,
            HOLDER: json.dumps(self.holder.to_json()) if self.holder else None,
            INTENT: json.dumps(self.intent.to_json()) if self.intent else None,
            RELEASES: json.dumps([one.to_json() for one in self.releases]),
        }
        metadata = {"labels": fields["labels"], "annotations": {**fields["annotations"], **told}}
        return {"apiVersion": "v1", "kind": ref.kind, "metadata": metadata}

    def held(self, holder: Holder, now: float) -> Parent:
        """Return the parent in the hands of somebody.

        :return: the parent.
        :raises Conflict: while another task holds it.
        """
        other = self.holder
        if other is not None and other.key != holder.key and other.until > now:
            raise Conflict(
                f"the apply set is held by {other.key} for another {other.until - now:.0f} s",
                remedy="Let it end; what a dead worker holds is free after that time, and for its own retry at once.",
            )
        return replace(self, holder=holder)

    def begun(self, release: Release, scope: Scope) -> Parent:
        """Return the parent at the beginning of a release: its scope is that of before and of after."""
        intent = replace(release, jobs=self.jobs_of(release.key))
        return replace(self, scope=self.scope | scope, commit=release.commit or self.commit, intent=intent)

    def jobs_of(self, key: str) -> tuple[str, ...]:
        """Return the Jobs of a release that have ended well."""
        known = [one for one in (*self.releases, self.intent) if one is not None and one.key == key]
        return known[-1].jobs if known else ()

    def with_job(self, key: str, job: str) -> Parent:
        """Return the parent that knows that a Job of a release has ended well."""

        def told(one: Release) -> Release:
            return replace(one, jobs=(*one.jobs, job)) if one.key == key else one

        intent = told(self.intent) if self.intent else None
        return replace(self, intent=intent, releases=tuple(map(told, self.releases)))

    def let_go(self, key: str) -> Parent:
        """Return the parent that a task holds no longer, whatever became of its release."""
        return replace(self, holder=None) if self.holder is not None and self.holder.key == key else self

    def ended(self, release: Release, scope: Scope, *, undo: bool = False) -> Parent:
        """Return the parent at the end of a release.

        :param undo: what came after the release is no release any more.
        :return: the parent.
        """
        release = replace(release, jobs=self.jobs_of(release.key))
        before = [one for one in self.releases if one.key != release.key]
        if undo:
            places = [place for place, one in enumerate(before) if one.sha256 == release.sha256]
            before = before[: places[-1]] if places else before
        kept = (*before, release)[-_RELEASES:]
        return replace(self, scope=scope, intent=None, holder=None, releases=kept)


def may_undo(parent: Parent, key: str, undone: str) -> None:
    """Refuse to undo another release than the one that is meant: what came later is not thrown away.

    :param key: of the task that undoes.
    :param undone: key of the release that is to be undone.
    :raises InvalidInput: if another one stands.
    """
    if parent.standing not in (undone, key):
        raise InvalidInput(
            f"the release of {undone} is to be undone, and that of {parent.standing or 'nobody'} came after it",
            field="of",
            value=undone,
            remedy="Look at what came later. To undo that one, name it, or name none.",
        )


def undo_to(parent: Parent, key: str) -> Release:
    """Say which release an undo goes back to.

    :param key: of the task: its retry goes back to the same.
    :return: the release before; where one was begun and not ended, the one that was ended last.
    :raises InvalidInput: if there is none.
    """
    intent, ended = parent.intent, parent.releases
    if intent and intent.key == key:
        return intent
    if ended and ended[-1].key == key:
        return ended[-1]
    begun = intent is not None and not (ended and ended[-1].key == intent.key)
    before: Sequence[Release] = ended if begun else ended[:-1]
    if not before:
        raise InvalidInput(
            "there is no release before this one",
            field="name",
            remedy="Apply the manifests of an earlier commit with rollback=True.",
        )
    return before[-1]
