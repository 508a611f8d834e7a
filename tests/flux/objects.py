"""Makers of Flux objects as their controllers leave them."""

from __future__ import annotations

from typing import Any

OLD, NEW, NEWER = "b" * 40, "a" * 40, "c" * 40
DIGEST, OTHER_DIGEST = "sha256:" + "d" * 64, "sha256:" + "e" * 64
URL = "https://git.example.com/team/deploy.git"
T1, T2, T3 = "2026-11-01T10:00:00Z", "2026-11-01T10:05:00Z", "2026-11-01T10:10:00Z"


def at(commit: str, branch: str = "main") -> str:
    """Write a revision as source-controller does."""
    return f"{branch}@sha1:{commit}" if commit else ""


def cond(
    kind: str,
    status: Any = True,
    reason: str = "",
    message: str = "",
    *,
    generation: int = 1,
    since: str = T1,
) -> dict[str, Any]:
    """Return a condition."""
    return {
        "type": kind,
        "status": {True: "True", False: "False", None: "Unknown"}[status],
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def obj(
    kind: str,
    name: str,
    spec: dict[str, Any],
    status: dict[str, Any],
    *,
    generation: int = 1,
    uid: str = "",
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return an object in namespace ``flux-system``."""
    given = {
        "name": name,
        "namespace": "flux-system",
        "uid": uid or f"uid-{kind}-{name}",
        "generation": generation,
        **metadata,
    }
    if annotations:
        given["annotations"] = annotations
    if labels:
        given["labels"] = labels
    return {"kind": kind, "metadata": given, "spec": spec, "status": status}


def git(
    commit: str = NEW, *conditions: dict[str, Any], ref: Any = None, suspend: bool = False, **more: Any
) -> Any:
    """Return a GitRepository that holds a commit."""
    artifact = {"artifact": {"revision": at(commit)}} if commit else {}
    said = list(conditions) or [cond("Ready", True, "Succeeded", "stored artifact")]
    spec = {"url": URL, "ref": ref or {"branch": "main"}, "suspend": suspend}
    return obj("GitRepository", "deploy", spec, {"conditions": said, **artifact}, **more)


def oci(digest: str = DIGEST, origin: str = "", **more: Any) -> Any:
    """Return an OCIRepository."""
    metadata = {"metadata": {"org.opencontainers.image.revision": origin}} if origin else {}
    status = {"artifact": {"revision": f"latest@{digest}", **metadata}, "conditions": [cond("Ready")]}
    return obj(
        "OCIRepository",
        "deploy",
        {"url": "oci://r.example.com/deploy", "ref": {"tag": "latest"}},
        status,
        **more,
    )


def ks(
    applied: str = NEW,
    tried: str | None = None,
    *conditions: dict[str, Any],
    name: str = "apps",
    wait: bool = True,
    suspend: bool = False,
    depends: tuple[str, ...] = (),
    source: str = "GitRepository",
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Return a Kustomization; by default ready at ``applied``.

    :param applied: commit, or a revision as written.
    """
    generation = more.get("generation", 1)
    written = [rev if "@" in rev else at(rev) for rev in (applied, applied if tried is None else tried)]
    said = list(conditions) or [
        cond(
            "Ready", True, "ReconciliationSucceeded", f"Applied revision: {written[0]}", generation=generation
        )
    ]
    return obj(
        "Kustomization",
        name,
        {
            "interval": "10m",
            "wait": wait,
            "suspend": suspend,
            "sourceRef": {"kind": source, "name": "deploy"},
            "dependsOn": [{"name": one} for one in depends],
            **(spec or {}),
        },
        {
            "lastAppliedRevision": written[0],
            "lastAttemptedRevision": written[1],
            "observedGeneration": generation,
            "conditions": said,
            **(status or {}),
        },
        **more,
    )


def failed(
    reason: str, message: str = "it broke", *, commit: str = NEW, since: str = T1, generation: int = 1
) -> list[Any]:
    """Return the conditions of a Kustomization after a failed attempt: it says which revision it retries."""
    return [
        cond("Ready", False, reason, message, since=since, generation=generation),
        cond(
            "Reconciling",
            True,
            "ProgressingWithRetry",
            f"Building manifests for revision {at(commit)} with a timeout of 30s",
            generation=generation,
        ),
    ]


def working(commit: str = NEW, what: str = "Building manifests", generation: int = 1) -> list[Any]:
    """Return the conditions of a Kustomization in the middle of an attempt."""
    return [
        cond("Ready", None, "Progressing", "Reconciliation in progress", generation=generation),
        cond("Reconciling", True, "Progressing", f"{what} for revision {at(commit)} with a timeout of 30s"),
    ]


def snapshot(
    version: str = "1.2.3", status: str = "deployed", number: int = 2, **more: Any
) -> dict[str, Any]:
    """Return an entry of a Helm release's history."""
    return {
        "chartName": "api",
        "chartVersion": version,
        "configDigest": "sha256:values",
        "status": status,
        "version": number,
        **more,
    }


def hr(
    chart: str = "1.2.3",
    *conditions: dict[str, Any],
    attempted: str | None = None,
    history: list[Any] | None = None,
    owned: bool = True,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Return a HelmRelease; by default ready with ``chart``."""
    generation = more.get("generation", 1)
    owner = {
        "kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
    said = list(conditions) or [
        cond("Ready", True, "UpgradeSucceeded", "Helm upgrade succeeded", generation=generation),
        cond("Released", True, "UpgradeSucceeded", "Helm upgrade succeeded", generation=generation),
    ]
    return obj(
        "HelmRelease",
        "api",
        {"interval": "5m", "driftDetection": {"mode": "enabled"}, **(spec or {})},
        {
            "helmChart": "flux-system/flux-system-api",
            "history": [snapshot(chart)] if history is None else history,
            "lastAttemptedRevision": chart if attempted is None else attempted,
            "lastAttemptedConfigDigest": "sha256:values",
            "lastAttemptedGeneration": generation,
            "observedGeneration": generation,
            "conditions": said,
            **(status or {}),
        },
        labels=owner if owned else None,
        **more,
    )


def chart(version: str = "1.2.3", *conditions: dict[str, Any], built_from: str = "", **more: Any) -> Any:
    """Return a HelmChart; of a Helm repository, or built from a commit of the Git repository."""
    status: dict[str, Any] = {
        "artifact": {"revision": version},
        "conditions": list(conditions) or [cond("Ready")],
    }
    ref = {"kind": "HelmRepository", "name": "charts"}
    if built_from:
        status["observedSourceArtifactRevision"], ref = (
            at(built_from),
            {"kind": "GitRepository", "name": "deploy"},
        )
    return obj("HelmChart", "flux-system-api", {"chart": "api", "sourceRef": ref}, status, **more)
