"""What is to be applied, what that comes to, and what was done. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.deploy.apply.hooks import Hook
from airflow_pipeops.deploy.apply.objects import Manifest
from airflow_pipeops.deploy.apply.parents import Parent, Release
from airflow_pipeops.deploy.apply.sets import Member, Prune


@dataclass(frozen=True)
class Wanted:
    """What is to be applied.

    :param name: of the set, and of the ConfigMap that is its parent.
    :param namespace: of the parent, and of the objects that name none.
    :param bodies: the objects.
    :param key: of the task.
    :param commit: they are of; empty for none.
    :param rollback: the commit may be older than the one that was applied.
    :param undo: it is a release of before, as the parent remembers it.
    :param undone: key of the release that it takes the place of, and of no other.
    :param prune_named: objects of guarded kinds that may be pruned.
    :param prune_allowed: so many objects may be pruned.
    :param force_from: managers from whom fields may be taken.
    :param take_over: a tool whose set may be taken over.
    :param replace: what has fields that cannot be changed is deleted and made anew.
    :param lease: seconds for which it is held at least, since a Job is waited for.
    :param keep_kinds: kinds whose objects stay members as they are, without being wanted.
    """

    name: str
    namespace: str
    bodies: Sequence[Mapping[str, Any]]
    key: str
    commit: str = ""
    rollback: bool = False
    undo: Release | None = None
    undone: str = ""
    prune_named: Collection[str] = ()
    prune_allowed: int | None = None
    force_from: Collection[str] = ()
    take_over: str = ""
    replace: bool = False
    lease: float = 0.0
    keep_kinds: Collection[str] = ()


@dataclass(frozen=True)
class Look:
    """What an apply comes to.

    :param manifests: in the order to apply them.
    :param hooks: the Jobs before and after, in their order.
    :param replaced: what is deleted and made anew of them, by what they are called.
    :param live: what is there of them, by what they are called.
    :param lines: what differs.
    :param parent: of the set.
    :param pruned: what would go.
    :param lost: kinds of members that the cluster does not serve: what is left of them, nobody sees.
    """

    manifests: tuple[Manifest, ...]
    hooks: tuple[Hook, ...]
    replaced: frozenset[str]
    live: Mapping[str, Mapping[str, Any]]
    lines: tuple[str, ...]
    parent: Parent
    pruned: Prune
    lost: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Manifest, ...]:
        """All that is wanted."""
        return (*self.manifests, *(hook.manifest for hook in self.hooks))


@dataclass
class Done:
    """What was done.

    :param answers: the objects as the server returned them, each with its manifest.
    :param deleted: what was pruned.
    :param kept: what would have been, were it named.
    :param replaced: uids of what was made anew: (its manifest, before, now).
    :param pending: a Job that has to end before anything goes on, as the server returned it.
    """

    answers: list[tuple[Manifest, dict[str, Any]]] = field(default_factory=list)
    deleted: tuple[Member, ...] = ()
    kept: tuple[Member, ...] = ()
    replaced: list[tuple[Manifest, str, str]] = field(default_factory=list)
    pending: tuple[Manifest, dict[str, Any]] | None = None
