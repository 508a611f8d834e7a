"""Tell why a wait failed: the decisive line first, then what a person looks up next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.observe import observe
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.gitops.observed import Observed, is_sha, short

if TYPE_CHECKING:
    from airflow_pipeops.argocd.client import AppRef, ArgoCDClient
    from airflow_pipeops.argocd.wait import Decided

#: Bytes; longer texts are cut, since they travel through logs and notifications.
LIMIT = 8 * 1024


async def explain(client: ArgoCDClient, ref: AppRef, decided: Decided, url: str) -> str:
    """Return the whole message of a failed wait. What cannot be looked up is left out."""
    try:
        observed: Observed | None = observe(await client.get(ref))
    except PipeOpsError:
        observed = None
    described = await _described(client, ref, decided)
    return compose(str(ref), decided, observed, described, url)


def compose(
    app: str, decided: Decided, observed: Observed | None, described: dict[str, str], url: str
) -> str:
    """Put the message together, at most :data:`LIMIT` bytes.

    :param observed: a late look at the application, for its resources and conditions.
    :param described: who wrote which revision, and its subject.
    """
    verdict = decided.verdict
    details = verdict.details
    lines = [f"Argo CD app {app}: {verdict.reason}", f"  {url}"]
    for name in ("expected", "desired", "applied"):
        lines += _revisions(name, details.get(name), described)
    lines.append(f"  sync {details.get('sync', '?')}, health {details.get('health', '?')}")
    lines += _operation(details.get("operation"))
    lines += _resources(observed)
    lines += [
        f"  condition {item.type}: {item.message}" for item in (observed.conditions if observed else ())[:10]
    ]
    lines += [f"  note: {note}" for note in details.get("warnings") or ()]
    last = f", last rule {details['last_rule']}" if details.get("last_rule") else ""
    lines.append(f"  decided by rule {verdict.rule}{last}, matching {details.get('match', '?')}")
    return _capped(lines)


def _revisions(name: str, value: Any, described: dict[str, str]) -> list[str]:
    revisions = list(value.values()) if isinstance(value, dict) else list(value or ())
    return [f"  {name} {short(revision)}{described.get(revision, '')}" for revision in revisions]


def _operation(operation: Any) -> list[str]:
    if not isinstance(operation, dict):
        return []
    by = f", started by {operation['initiated_by']}" if operation.get("initiated_by") else ""
    ours = ", ours" if operation.get("ours") else ""
    retries = f", {operation['retries']} retries" if operation.get("retries") else ""
    return [
        f"  operation {operation.get('phase') or 'queued'}{by}{ours}{retries}: {operation.get('message') or '-'}"
    ]


def _resources(observed: Observed | None) -> list[str]:
    if observed is None:
        return []
    results: Sequence[Any] = observed.operation.resources if observed.operation else ()
    failed = [
        f"  failed {item}{' ' + item.hook + ' hook' if item.hook else ''}: {item.message}"
        for item in results
        if item.sync == "SyncFailed" or item.phase in ("Failed", "Error")
    ]
    ill = [
        f"  {item} is {item.health}: {item.message}"
        for item in observed.resources
        if item.health not in ("", "Healthy")
    ]
    return [*failed[:15], *ill[:15]]


def _capped(lines: Sequence[str]) -> str:
    text = "\n".join(line[:1000] for line in lines).encode()
    if len(text) <= LIMIT:
        return text.decode()
    return text[: LIMIT - 20].decode("utf-8", "ignore") + "\n  ... (cut)"


async def _described(client: ArgoCDClient, ref: AppRef, decided: Decided) -> dict[str, str]:
    details = decided.verdict.details
    named = [
        *dict(details.get("expected") or {}).values(),
        *(details.get("desired") or ()),
        *(details.get("applied") or ()),
    ]
    found: dict[str, str] = {}
    for revision in list(dict.fromkeys(named))[:6]:
        if not is_sha(revision):
            continue
        try:
            metadata = await client.revision_metadata(ref, revision)
        except PipeOpsError:
            continue
        subject = str(metadata.get("message") or "").strip().splitlines()
        found[revision] = f" by {metadata.get('author', '?')}: {subject[0][:120] if subject else ''}"
    return found
