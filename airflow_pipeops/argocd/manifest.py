"""The manifest of an Application: is it one, and what must change in the one that is there. Pure.

An update names only what the manifest names. What others have set - the controller, a person, another tool - stays, and so
do their labels, annotations and finalizers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from airflow_pipeops.exceptions import InvalidInput

API_VERSION, KIND = "argoproj.io/v1alpha1", "Application"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PASSWORD = re.compile(r"[a-z+]+://[^/@:]*:[^/@]+@", re.IGNORECASE)
_TOP = frozenset({"apiVersion", "kind", "metadata", "spec"})
_METADATA = frozenset({"name", "namespace", "labels", "annotations", "finalizers"})
#: Where absent is something else than zero or false.
_STRICT = frozenset({"enabled", "revisionHistoryLimit"})


def read(manifest: Any) -> dict[str, Any]:
    """Return the manifest of an Application, whole and of the right form.

    :param manifest: a mapping, or YAML with one document.
    :return: the manifest.
    :raises InvalidInput: naming the field that is wrong.
    """
    found = _parsed(manifest)
    if found.get("kind", KIND) != KIND or found.get("apiVersion", API_VERSION) != API_VERSION:
        raise _wrong("kind", f"{found.get('apiVersion')} {found.get('kind')}", f"Use {API_VERSION}, {KIND}.")
    unknown = sorted(set(found) - _TOP)
    if unknown:
        raise _wrong(unknown[0], found[unknown[0]], "Leave it out: only metadata and spec are declared.")
    metadata, spec = found.get("metadata"), found.get("spec")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise _wrong("metadata.name", metadata, "Name the application.")
    if not _NAME.fullmatch(metadata["name"]):
        raise _wrong("metadata.name", metadata["name"], "Use lower-case letters, digits, dashes and dots.")
    unknown = sorted(set(metadata) - _METADATA)
    if unknown:
        raise _wrong(f"metadata.{unknown[0]}", metadata[unknown[0]], "Leave it out: the server sets it.")
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, Mapping) or not all(
            isinstance(v, str) or v is None for v in values.values()
        ):
            raise _wrong(f"metadata.{field}", values, "Map text to text.")
    if not isinstance(spec, Mapping):
        raise _wrong("spec", spec, "Give the application's spec.")
    _check_spec(spec)
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": dict(metadata), "spec": dict(spec)}


def merge_patch(current: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch that gives an Application what a manifest declares; empty where it has it.

    :param current: the Application that is there.
    :param desired: what :func:`read` returned. ``None`` removes a field; a list replaces a list.
    :return: the patch.
    """
    patch: dict[str, Any] = {}
    before, after = current.get("metadata") or {}, desired["metadata"]
    metadata: dict[str, Any] = {}
    for field in ("labels", "annotations"):
        change = _merged(before.get(field) or {}, after.get(field) or {})
        if change:
            metadata[field] = change
    own = list(before.get("finalizers") or ())
    added = [item for item in after.get("finalizers") or () if item not in own]
    if added:
        metadata["finalizers"] = [*own, *added]
    if metadata:
        patch["metadata"] = metadata
    now, wanted = current.get("spec") or {}, desired["spec"]
    spec = {**_merged(now, wanted), **_replaced(now, wanted, ("source", "sources", "sourceHydrator"))}
    where = _replaced(now.get("destination") or {}, wanted.get("destination") or {}, ("server", "name"))
    if where:
        spec["destination"] = {**spec.get("destination", {}), **where}
    if spec:
        patch["spec"] = spec
    return patch


def paths(patch: Any, at: str = "") -> Iterator[str]:
    """Return the paths that a patch changes; never their values."""
    if isinstance(patch, Mapping) and patch:
        for key, value in patch.items():
            yield from paths(value, f"{at}.{key}" if at else str(key))
    else:
        yield at


def _parsed(manifest: Any) -> Mapping[str, Any]:
    found = manifest
    if isinstance(manifest, str):
        try:
            documents = [document for document in yaml.safe_load_all(manifest) if document is not None]
        except yaml.YAMLError as error:
            raise _wrong("manifest", None, f"It is no YAML: {str(error).splitlines()[0]}.") from error
        if len(documents) != 1:
            raise _wrong("manifest", None, f"It has {len(documents)} documents; give one.")
        found = documents[0]
    if not isinstance(found, Mapping):
        raise _wrong("manifest", type(found).__name__, "Give a mapping, or YAML with one.")
    return found


def _check_spec(spec: Mapping[str, Any]) -> None:
    if not isinstance(spec.get("project"), str) or not spec["project"]:
        raise _wrong("spec.project", spec.get("project"), "Name the project, for example default.")
    given = [name for name in ("source", "sources", "sourceHydrator") if spec.get(name)]
    if len(given) != 1:
        raise _wrong("spec.source", given or None, "Give one of source, sources and sourceHydrator.")
    sources = spec.get("sources") or [item for item in [spec.get("source")] if item]
    if not isinstance(sources, list) or not all(isinstance(item, Mapping) for item in sources):
        raise _wrong("spec.sources", None, "Give a list of sources.")
    for index, item in enumerate(sources):
        at = f"spec.sources[{index}]" if spec.get("sources") else "spec.source"
        if not isinstance(item.get("repoURL"), str) or not item["repoURL"]:
            raise _wrong(f"{at}.repoURL", item.get("repoURL"), "Give the URL of the repository.")
        if _PASSWORD.match(item["repoURL"]):
            raise _wrong(
                f"{at}.repoURL", None, "Leave the password out; Argo CD has it from its repository secret."
            )
        if not (
            item.get("path") or item.get("chart") or item.get("ref") or item["repoURL"].startswith("oci://")
        ):
            raise _wrong(f"{at}.path", None, "Give path, or chart.")
    destination = spec.get("destination")
    if not isinstance(destination, Mapping) or bool(destination.get("server")) == bool(
        destination.get("name")
    ):
        raise _wrong("spec.destination", None, "Give server or name of the cluster, and not both.")


def _merged(current: Any, desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be merged into one mapping for it to hold another."""
    patch: dict[str, Any] = {}
    now = current if isinstance(current, Mapping) else {}
    for key, value in desired.items():
        if isinstance(value, Mapping):
            change = _merged(now.get(key), value)
            if change or not isinstance(now.get(key), Mapping):
                patch[key] = change
        elif now.get(key) != value and (key in now or value or key in _STRICT):
            # Of what is not there, the server leaves out what is zero, false or empty.
            patch[key] = value
    return patch


def _replaced(now: Mapping[str, Any], wanted: Mapping[str, Any], rivals: tuple[str, ...]) -> dict[str, None]:
    """Return what must go because another field is declared in its place."""
    if not any(wanted.get(name) for name in rivals):
        return {}
    return {name: None for name in rivals if now.get(name) and name not in wanted}


def _wrong(field: str, value: Any, remedy: str) -> InvalidInput:
    shown = f" {value!r}" if isinstance(value, (str, list)) else ""
    return InvalidInput(
        f"the manifest's {field}{shown} is not what an Application has",
        field=field,
        value=value,
        remedy=remedy,
    )
