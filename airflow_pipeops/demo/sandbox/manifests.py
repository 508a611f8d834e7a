"""Manifests: parsing, identity, and what Argo CD's annotations on them ask for. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from airflow_pipeops.demo.sandbox.runtime.key import CLUSTER_SCOPED, Key

Manifest = dict[str, Any]
TRACKING: Final = "argocd.argoproj.io/tracking-id"
HOOK: Final = "argocd.argoproj.io/hook"
HOOK_DELETE_POLICY: Final = "argocd.argoproj.io/hook-delete-policy"
SYNC_WAVE: Final = "argocd.argoproj.io/sync-wave"
SYNC_OPTIONS: Final = "argocd.argoproj.io/sync-options"
COMPARE_OPTIONS: Final = "argocd.argoproj.io/compare-options"
PHASES: Final = ("PreSync", "Sync", "PostSync", "SyncFail")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")


class ManifestError(ValueError):
    """A file does not hold Kubernetes manifests."""


class _Loader(yaml.SafeLoader):
    """Safe, and leaves dates as the text they are: Kubernetes knows no date type."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_manifests(text: str, where: str) -> list[Manifest]:
    """Return all manifests of a YAML or JSON text, lists expanded.

    :param where: the file's name, for errors.
    :return: the manifests, in the order of the text.
    :raises ManifestError: where the text is not YAML, or a document is not a manifest.
    """
    try:
        documents = [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    found: list[Manifest] = []
    for document in documents:
        _check(document, where)
        found += document.get("items") or [] if document["kind"] == "List" else [document]
    for manifest in found:
        _check(manifest, where, named=True)
    return found


def _check(manifest: Any, where: str, *, named: bool = False) -> None:
    if not isinstance(manifest, dict):
        raise ManifestError(f"{where} holds a document that is not an object")
    for field in ("apiVersion", "kind"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            raise ManifestError(f"{where} holds an object without {field}")
    if not named:
        return
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise ManifestError(f"{where}: {manifest['kind']} without metadata")
    name = metadata.get("name") or metadata.get("generateName")
    if not isinstance(name, str) or not _NAME.fullmatch(name.rstrip("-")):
        raise ManifestError(f"{where}: {manifest['kind']} without a valid metadata.name ({name!r})")
    for field in ("annotations", "labels"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ManifestError(f"{where}: {manifest['kind']} {name}: metadata.{field} must map text to text")


def annotation(manifest: Manifest, name: str) -> str:
    """Return an annotation, or the empty string."""
    return str((manifest.get("metadata", {}).get("annotations") or {}).get(name, ""))


def words(manifest: Manifest, name: str) -> list[str]:
    """Return the comma-separated words of an annotation."""
    return [word.strip() for word in annotation(manifest, name).split(",") if word.strip()]


def hook_phases(manifest: Manifest) -> list[str]:
    """Return the phases in which a manifest is a hook; ``["Skip"]`` where it is never applied; empty: no hook."""
    return [word for word in words(manifest, HOOK) if word in (*PHASES, "Skip")]


def wave(manifest: Manifest) -> int:
    """Return the sync wave (0 by default)."""
    try:
        return int(annotation(manifest, SYNC_WAVE) or 0)
    except ValueError:
        return 0


def tracking_id(app: str, key: Key) -> str:
    """Return the value by which ``app`` claims the object at ``key``."""
    return f"{app}:{key.group}/{key.kind}:{key.namespace}/{key.name}"


def owner(live: Manifest) -> str:
    """Return the Application that tracks a live object, or the empty string.

    A tracking annotation that was copied from another object does not count.

    :return: the Application's name, or the empty string.
    """
    value = annotation(live, TRACKING)
    app = value.split(":", 1)[0]
    return app if app and value == tracking_id(app, Key.of(live)) else ""


def adopt(manifest: Manifest, app: str, namespace: str) -> Manifest:
    """Return the manifest with its namespace filled in and ``app``'s tracking annotation on it."""
    metadata = dict(manifest["metadata"])
    if manifest["kind"] in CLUSTER_SCOPED:
        metadata.pop("namespace", None)
    else:
        metadata["namespace"] = metadata.get("namespace") or namespace or "default"
    adopted = {**manifest, "metadata": metadata}
    if metadata.get("name"):
        mark = tracking_id(app, Key.of(adopted))
        metadata["annotations"] = {**(metadata.get("annotations") or {}), TRACKING: mark}
    return adopted


def images(manifest: Manifest) -> list[str]:
    """Return the container images that a manifest names."""
    spec = manifest.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    for step in ("jobTemplate", "spec", "template", "spec"):
        inner = spec.get(step)
        spec = inner if isinstance(inner, dict) else spec
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return [c["image"] for c in containers if isinstance(c, dict) and isinstance(c.get("image"), str)]


def mask_secrets(*states: Manifest | None) -> list[Manifest | None]:
    """Return Secrets with their values replaced by plus signs; equal values keep equal signs, others differ."""
    signs: dict[tuple[str, str], str] = {}
    masked = []
    for state in states:
        if state is None or state.get("kind") != "Secret" or state["apiVersion"] != "v1":
            masked.append(state)
            continue
        hidden = dict(state)
        for part in ("data", "stringData"):
            if isinstance(state.get(part), dict):
                hidden[part] = {name: _sign(signs, name, str(value)) for name, value in state[part].items()}
        masked.append(hidden)
    return masked


def _sign(signs: dict[tuple[str, str], str], name: str, value: str) -> str:
    known = sum(1 for other, _ in signs if other == name)
    return signs.setdefault((name, value), "+" * (8 + known))
