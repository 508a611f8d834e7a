"""The objects of a rendered manifest, what two differ in, and a digest: all without the data of Secrets. Pure."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.kubernetes.manifests import documents_of
from airflow_pipeops.redaction import MASK

Object = dict[str, Any]
_SECRET = ("data", "stringData")
#: What Helm calls the event of a test, now and of old.
_TESTS = frozenset({"test", "test-success"})


def objects_of(manifest: str) -> list[Object]:
    """Read a manifest; the items of a list count as objects.

    :param manifest: YAML documents.
    :return: the objects, in their order.
    :raises InvalidInput: if it is no YAML.
    """
    found: list[Object] = []
    # Helm takes a field that is there twice, and the last one counts.
    for document in documents_of(manifest, "what the chart renders", field="chart", strict=False):
        listed = (
            maps(map_(document).get("items")) if text(map_(document).get("kind")).endswith("List") else []
        )
        found += [dict(one) for one in listed or [map_(document)] if one.get("kind")]
    return found


def tests_of(hooks: Iterable[str]) -> list[Object]:
    """Return the tests among the hooks of a release: what runs, and not what it needs."""
    found = [item for hook in hooks for item in objects_of(hook)]
    return [item for item in found if item["kind"] in ("Pod", "Job") and _TESTS & set(_events(item))]


def _events(item: Mapping[str, Any]) -> list[str]:
    annotations = map_(map_(item.get("metadata")).get("annotations"))
    return [one.strip() for one in text(annotations.get("helm.sh/hook")).split(",")]


def key_of(item: Mapping[str, Any], namespace: str = "") -> str:
    """Say what a person calls an object.

    :param namespace: of the release, which is not said.
    :return: its kind and name.
    """
    metadata = map_(item.get("metadata"))
    place = text(metadata.get("namespace"))
    begin = f"{place}/" if place and place != namespace else ""
    return f"{text(item.get('kind'))} {begin}{text(metadata.get('name'))}"


def masked(item: Mapping[str, Any], other: Mapping[str, Any] | None = None, when: str = "") -> Object:
    """Return an object without what a Secret holds.

    :param other: the same object at another time.
    :param when: is said of what differs from it.
    :return: the object, masked.
    """
    if item.get("kind") != "Secret":
        return dict(item)
    found = dict(item)
    for part in _SECRET:
        was = map_((other or {}).get(part))
        if part in item:
            found[part] = {
                name: MASK if other is None or was.get(name) == value else f"{MASK} ({when})"
                for name, value in map_(item[part]).items()
            }
    return found


def digest(objects: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of objects, in which the data of Secrets has no part: it could be guessed from one."""
    plain = json.dumps([masked(one) for one in objects], sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"


def digest_of(value: Any) -> str:
    """Return a digest of JSON."""
    plain = json.dumps(value, sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"


def difference(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], namespace: str = ""
) -> tuple[dict[str, list[str]], str]:
    """Compare two manifests.

    :param namespace: of the release.
    :return: names of the objects that are ``added``, ``changed`` and ``removed``, and a text for a person.
    """
    old, new = ({key_of(one, namespace): one for one in objects} for objects in (before, after))
    names: dict[str, list[str]] = {
        "added": [key for key in new if key not in old],
        "changed": [key for key in new if key in old and old[key] != new[key]],
        "removed": [key for key in old if key not in new],
    }
    lines: list[str] = []
    for how, keys in names.items():
        for key in keys:
            lines += [f"{key} is {how}", *_lines(old.get(key), new.get(key)), ""]
    return names, "\n".join(lines) or "nothing differs\n"


def _lines(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    before, after = (_plain(old, new, "before"), _plain(new, old, "after"))
    lines = difflib.unified_diff(before, after, lineterm="")
    return [line for line in lines if line[:3] not in ("---", "+++")]


def _plain(item: Mapping[str, Any] | None, other: Mapping[str, Any] | None, when: str) -> list[str]:
    return [] if item is None else yaml.safe_dump(masked(item, other, when), sort_keys=True).splitlines()
