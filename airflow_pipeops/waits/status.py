"""What a GitOps controller says about one application, as plain data of our own.

An adapter per system (``argocd/application.py``) fills it; the judgements in ``verdict.py`` and ``steadiness.py`` read it.
Times are seconds since the epoch **on the server's clock**, and are compared only with each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from airflow_pipeops.base.commits import is_sha

_VERSION = re.compile(r"v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SCP = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?!//)(?P<path>.+)")

#: Health as Argo CD names it, worst last.
HEALTH = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")


@dataclass(frozen=True)
class Source:
    """One source of the desired state.

    :param repo: repository URL, as written in the application.
    :param target: branch, tag, SHA or version range that it follows.
    :param versioned: a Helm or OCI source, whose revisions are versions or digests and not commits.
    :param digests: an OCI source without a chart, whose revisions are digests.
    """

    repo: str
    target: str = ""
    versioned: bool = False
    digests: bool = False

    @property
    def pinned(self) -> bool:
        """It follows one revision that cannot move."""
        if self.versioned:
            return bool(_DIGEST.fullmatch(self.target)) or (
                not self.digests and bool(_VERSION.fullmatch(self.target))
            )
        return is_sha(self.target)


@dataclass(frozen=True)
class Condition:
    """A condition that the controller reports.

    :param type: what kind it is, such as ``ComparisonError``.
    :param message: what it says.
    """

    type: str
    message: str = ""


@dataclass(frozen=True)
class Resource:
    """One object of the application.

    :param kind: as a manifest says it.
    :param name: its name.
    :param namespace: empty for an object of the whole cluster.
    :param group: of its API; empty for the core.
    :param sync: ``Synced``, ``OutOfSync`` or what a sync did with it (``SyncFailed``, ``Pruned``, ``PruneSkipped``).
    :param health: its health, empty where the kind has no check.
    :param message: what the controller says about it.
    :param hook: ``PreSync``, ``PostSync``, ... for a hook.
    :param phase: phase of a hook.
    :param prune: it is no longer desired, and would be removed.
    """

    kind: str
    name: str
    namespace: str = ""
    group: str = ""
    sync: str = ""
    health: str = ""
    message: str = ""
    hook: str = ""
    phase: str = ""
    prune: bool = False

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Operation:
    """The last or current synchronisation.

    :param phase: ``Running``, ``Terminating``, ``Succeeded``, ``Failed``, ``Error``; empty before it started.
    :param message: what the controller says about it.
    :param queued: the request for it is still there: it is waiting, running, or about to be tried again.
    :param revisions: what it applies or tried to apply, per source; empty if it never got that far.
    :param asked: the revisions it was asked for.
    :param has_result: it got as far as a result.
    :param started_at: when it began.
    :param finished_at: when it ended.
    :param retries: how often it was tried again.
    :param dry_run: it changes nothing.
    :param initiated_by: who asked for it.
    :param ids: the ``name: value`` information it carries; our correlation id is among it.
    :param resources: what it did with each object.
    :param retry_limit: how often it is tried again at most; negative for ever.
    :param retry_refresh: a retry takes the newest revisions.
    :param partial: it was asked for some of the resources only, and so runs no hooks.
    :param heals: how many attempts in a row the controller has made to heal a difference, with this one.
    :param same_sources: what it applied came from the sources that the application has now.
    """

    phase: str = ""
    message: str = ""
    queued: bool = False
    revisions: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    has_result: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    retries: int = 0
    dry_run: bool = False
    initiated_by: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    retry_limit: int | None = None
    retry_refresh: bool = False
    partial: bool = False
    heals: int = 0
    same_sources: bool = True

    @property
    def failed(self) -> bool:
        """It ended, and not well."""
        return self.phase in ("Failed", "Error") and not self.queued

    @property
    def at(self) -> tuple[str, ...]:
        """The revisions it is about: applied ones, else those asked for."""
        return self.revisions or self.asked


@dataclass(frozen=True)
class Hydration:
    """How far a source hydrator is, which renders commits of the source into commits of another branch.

    :param phase: ``Hydrating``, ``Hydrated``, ``Failed``; empty before the first time.
    :param message: what it says.
    :param dry: the source's commit that the current or last attempt is about.
    :param done_dry: the newest commit that was rendered.
    :param done: what it became.
    :param compared_dry: the newest commit that was looked at; it may need no rendering.
    :param branch: what is synchronised from.
    :param staging: where it is rendered to, if that is another branch.
    """

    phase: str = ""
    message: str = ""
    dry: str = ""
    done_dry: str = ""
    done: str = ""
    compared_dry: str = ""
    branch: str = ""
    staging: str = ""


@dataclass(frozen=True)
class Rollout:
    """Where an application stands in the rolling synchronisation of what generates it.

    :param owner: name of the ``ApplicationSet``.
    :param status: ``Waiting``, ``Pending``, ``Progressing``, ``Healthy``; empty where it is not listed yet.
    :param step: its step; ``-1`` if no step selects it.
    :param message: what is said about it.
    :param revisions: the revisions that this is about.
    """

    owner: str
    status: str = ""
    step: str = ""
    message: str = ""
    revisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """One look at one application.

    :param name: its name.
    :param namespace: its namespace.
    :param project: its project, where the controller has such.
    :param uid: tells it from another one of the same name, before it or after it.
    :param sources: where its desired state comes from.
    :param called: what a message calls it.
    :param desired: revisions that the controller last compared with, one per source.
    :param sync: ``Synced``, ``OutOfSync`` or ``Unknown``.
    :param health: one of :data:`HEALTH`.
    :param health_since: when the application's health last changed.
    :param compared_at: when the controller began its last comparison.
    :param operation: the last or current synchronisation.
    :param conditions: what the controller reports beside that.
    :param resources: its objects.
    :param images: container images that run in it.
    :param deployed: revisions of the newest entry of the history (whole, successful synchronisations).
    :param deployed_id: number of that entry.
    :param replaced: revisions of the entries before it.
    :param deleting: its deletion was asked for.
    :param ignored: why the controller ignores this application; empty if it does not.
    :param automatic: the controller synchronises by itself.
    :param self_heal: the controller puts back by itself what is changed in the cluster.
    :param owner: kind of the object that generates this application, for example ``ApplicationSet``.
    :param refreshed: this look is the answer to a refresh that the controller acknowledged.
    :param warnings: what a person should know beside the verdict.
    :param prunes: the controller removes by itself what is no longer desired.
    :param blocked: why automatic synchronisation may not start now (a sync window), as far as anybody looked.
    :param owner_seen: somebody looked at the owner.
    :param rollout: where this application stands in the rolling synchronisation of its owner, if it has one.
    :param hydration: its desired state is rendered into another branch first; ``sources`` are then those before that, and
        ``desired`` and ``applied`` the rendered commits.
    :param other_spec: the last comparison was of other sources than the application has now.
    :param finalizers: what must still happen before a deleted application is gone.
    :param reconciled: what a controller says in terms of its own, which its own rulebook reads.
    """

    name: str
    namespace: str = ""
    project: str = ""
    uid: str = ""
    sources: tuple[Source, ...] = ()
    desired: tuple[str, ...] = ()
    sync: str = "Unknown"
    health: str = "Unknown"
    health_since: float | None = None
    compared_at: float | None = None
    operation: Operation | None = None
    conditions: tuple[Condition, ...] = ()
    resources: tuple[Resource, ...] = ()
    images: tuple[str, ...] = ()
    deployed: tuple[str, ...] = ()
    deployed_id: int | None = None
    replaced: tuple[str, ...] = ()
    deleting: bool = False
    ignored: str = ""
    automatic: bool = False
    self_heal: bool = False
    owner: str = ""
    refreshed: bool = False
    warnings: tuple[str, ...] = ()
    prunes: bool = False
    blocked: str = ""
    owner_seen: bool = False
    rollout: Rollout | None = None
    hydration: Hydration | None = None
    other_spec: bool = False
    finalizers: tuple[str, ...] = ()
    reconciled: Any = None
    called: str = "the application"

    @property
    def applied(self) -> tuple[str, ...]:
        """Revisions of the last operation that got as far as a result."""
        return self.operation.revisions if self.operation else ()

    def condition(self, *types: str) -> Condition | None:
        """Return the first condition of one of these types."""
        return next((item for item in self.conditions if item.type in types), None)


#: Why a look failed.
TroubleKind = Literal["denied", "missing", "unreachable", "nonsense"]


@dataclass(frozen=True)
class Trouble:
    """A look that failed.

    :param kind: ``denied`` (401, 403), ``missing`` (404), ``unreachable`` (no answer, 429, 5xx) or ``nonsense``.
    :param message: what happened, without secrets.
    """

    kind: TroubleKind
    message: str = ""


def is_digest(revision: str) -> bool:
    """Whether this is a full content digest."""
    return bool(_DIGEST.fullmatch(revision))


def short(revision: str) -> str:
    """Return a commit id as people write it; any other text unchanged; ``none`` for nothing."""
    if is_digest(revision):
        return revision[:15]
    return (revision[:8] if is_sha(revision) else revision) or "none"


def shorts(revisions: tuple[str, ...]) -> str:
    """Return several revisions as people write them."""
    return ", ".join(dict.fromkeys(short(item) for item in revisions)) or "none"


def same_repository(one: str, other: str) -> bool:
    """Whether two URLs name the same repository (``.git``, case of the host, user and scheme do not count)."""
    return _repository(one) == _repository(other)


def _repository(url: str) -> str:
    match = _SCP.fullmatch(url) if "://" not in url else None
    if match:
        host, path = match["host"], match["path"]
    else:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path if parts.scheme else url
        except ValueError:
            return url
    return f"{host.lower()}/{path.strip('/').removesuffix('.git')}"


def summary(observed: Observed) -> dict[str, Any]:
    """Return the few facts of a look that fit into an XCom or a trigger event, as JSON."""
    return {
        "app": observed.name,
        "namespace": observed.namespace,
        "project": observed.project,
        "revision": observed.desired[0] if len(observed.desired) == 1 else list(observed.desired),
        "sync": observed.sync,
        "health": observed.health,
        "images": list(observed.images[:50]),
        "repositories": [source.repo for source in observed.sources],
    }
