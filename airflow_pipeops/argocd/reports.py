"""Look up, after a wait has failed, what its message should say; the message itself is put together in ``message.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.messages import (
    LIMIT,
    Findings,
    compose,
    failed_resources,
    unhealthy_pods,
    unhealthy_resources,
)
from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.base.connections import known_to_airflow
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.documents import map_, maps
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.git.forges import commit_url
from airflow_pipeops.waits.status import Observed, Resource

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
    from airflow_pipeops.argocd.waits import Decided

__all__ = ["LIMIT", "Findings", "compose", "explain", "look_up"]

Found = TypeVar("Found")

#: Seconds for all look-ups together: the verdict is in, and the task holds a worker.
PATIENCE = 20.0
#: Kinds that have pods, whose logs and events say more.
_WORKLOADS = frozenset({"Pod", "Job", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout"})


async def explain(client: ArgoCD, ref: AppRef, decided: Decided, url: str) -> str:
    """Return the whole message of a failed wait. What cannot be looked up is left out."""
    findings = await look_up(client, ref, decided)
    observed = findings.observed
    named = ref if ref.project or observed is None else replace(ref, project=observed.project)
    return compose(str(named), decided.verdict, findings, url, now=time.time(), also=known_to_airflow)


async def look_up(client: ArgoCD, ref: AppRef, decided: Decided) -> Findings:
    """Look up what the message should say, for at most :data:`PATIENCE`."""
    application = await _try(client.get(ref))
    try:
        observed = observe(application) if application else None
    except PipeOpsError:
        observed = None
    wanted, until = _revisions(decided), time.monotonic() + PATIENCE
    ill = observed is not None and observed.health not in ("Healthy", "Suspended")
    tree = (
        await _before(until, _try(client.resource_tree(ref)), None)
        if ill or _suspects(observed, None)
        else None
    )
    suspects = _suspects(observed, tree)
    described, logs, events, windows = await asyncio.gather(
        _before(until, _described(client, ref, wanted), {}),
        _before(until, _logs(client, ref, suspects), {}),
        _before(until, _events(client, ref, suspects, tree), []),
        _before(until, _try(client.sync_windows(ref)), None),
    )
    return Findings(
        observed=observed,
        described=described,
        logs=logs,
        events=events,
        windows=windows,
        pods=unhealthy_pods(tree),
        commits=_pages(observed, wanted),
    )


async def _try(call: Coroutine[Any, Any, Found]) -> Found | None:
    try:
        return await call
    except PipeOpsError:
        return None


async def _before(until: float, call: Coroutine[Any, Any, Found], otherwise: Found) -> Found:
    try:
        return await within(max(0.0, until - time.monotonic()), call)
    except asyncio.TimeoutError:
        return otherwise


def _revisions(decided: Decided) -> list[str]:
    details = decided.verdict.details
    named = [
        *dict(details.get("expected") or {}).values(),
        *(details.get("desired") or ()),
        *(details.get("applied") or ()),
    ]
    return [revision for revision in dict.fromkeys(named) if is_sha(revision)][:6]


def _pages(observed: Observed | None, revisions: Sequence[str]) -> dict[str, str]:
    repositories = {source.repo for source in observed.sources} if observed else set()
    if len(repositories) != 1:
        return {}  # nobody says in which of them a commit is
    (repository,) = repositories
    pages = {revision: commit_url(repository, revision) for revision in revisions}
    return {revision: page for revision, page in pages.items() if page}


def _suspects(observed: Observed | None, tree: Mapping[str, Any] | None) -> list[Resource]:
    """Return what failed or is ill, and has logs: at most three.

    :param tree: the objects below the application: where the status tells no health of its resources, the pods do.
    """
    found = [*failed_resources(observed), *unhealthy_resources(observed)]
    if not found:
        found = [
            Resource("Pod", str(pod.get("name") or ""), str(pod.get("namespace") or ""))
            for pod in unhealthy_pods(tree)
        ]
    unique = {(item.kind, item.namespace, item.name): item for item in reversed(found)}
    return [item for item in reversed(unique.values()) if item.kind in _WORKLOADS][:3]


async def _described(client: ArgoCD, ref: AppRef, revisions: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for revision in revisions:
        metadata = await _try(client.revision_metadata(ref, revision))
        if metadata is None:
            continue
        subject = str(metadata.get("message") or "").strip().splitlines()
        found[revision] = f" by {metadata.get('author') or '?'}: {subject[0][:120] if subject else ''}"
    return found


async def _logs(client: ArgoCD, ref: AppRef, suspects: Sequence[Resource]) -> dict[str, list[str]]:
    from airflow_pipeops.argocd.clients.protocol import Resource as Place

    found: dict[str, list[str]] = {}
    for item in suspects:
        place = Place(item.kind, item.name, item.namespace, item.group)
        lines = await _try(client.logs(ref, place, tail=50))
        if lines:
            found[str(item)] = lines
    return found


async def _events(
    client: ArgoCD, ref: AppRef, suspects: Sequence[Resource], tree: Mapping[str, Any] | None
) -> list[Mapping[str, Any]]:
    """Return the Warning events about the application and what is ill in it."""
    found: list[Mapping[str, Any]] = list(await _try(client.events(ref)) or ())
    for place in _places(tree, suspects):
        found += await _try(client.events(ref, place)) or ()
    return [event for event in found if event.get("type") == "Warning"][-20:]


def _places(tree: Mapping[str, Any] | None, suspects: Sequence[Resource]) -> list[Any]:
    """Return the suspects and the pods below them, as the call for events wants them: with their uid."""
    from airflow_pipeops.argocd.clients.protocol import Resource as Place

    nodes = maps(map_(tree).get("nodes"))
    wanted = {(item.kind, item.name) for item in suspects}
    owners: set[str] = set()
    found = []
    # Twice down: from a Deployment to its ReplicaSet, and to the pods of that.
    for _ in range(3):
        for node in nodes:
            parents = {str(parent.get("uid")) for parent in node.get("parentRefs") or ()}
            uid = str(node.get("uid") or "")
            hit = (node.get("kind"), node.get("name")) in wanted or bool(parents & owners)
            if uid and hit and uid not in owners:
                owners.add(uid)
                kind, name = str(node.get("kind")), str(node.get("name"))
                found.append(
                    Place(kind, name, str(node.get("namespace") or ""), str(node.get("group") or ""), uid)
                )
    return found[:6]
