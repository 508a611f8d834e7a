"""Fields that an API server never lets change, with its words for each."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.objects import Object, Refused

#: kind in paths -> paths of the fields.
_FIELDS = {
    "deployments": ("spec.selector",),
    "jobs": ("spec.template", "spec.selector"),
    "statefulsets": ("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates"),
    "persistentvolumeclaims": ("spec.accessModes", "spec.storageClassName"),
    "rolebindings": ("roleRef",),
}
_WORDS = {
    "statefulsets": (
        "FieldValueForbidden", "spec",
        "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
        "are forbidden",
    ),
    "persistentvolumeclaims": (
        "FieldValueForbidden", "spec", "Forbidden: spec is immutable after creation except resources.requests",
    ),
    "rolebindings": ("FieldValueInvalid", "roleRef", "Invalid value: {}: cannot change roleRef"),
}  # fmt: skip


def refuse_change(plural: str, before: Object, after: Object) -> None:
    """Refuse a change of a field that cannot be changed.

    :raises Refused: with the words of the real server, and its causes.
    """
    changed = [path for path in _FIELDS.get(plural, ()) if _at(before, path) != _at(after, path)]
    if plural == "configmaps" and before.get("immutable") is True and before.get("data") != after.get("data"):
        changed = ["data"]
    if not changed:
        return
    reason, field, words = _WORDS.get(
        plural, ("FieldValueInvalid", "", "Invalid value: {}: field is immutable")
    )
    fields = [field] if field else changed
    name, kind = before["metadata"]["name"], before.get("kind", plural)
    refused = Refused(
        422, "Invalid", f'{kind} "{name}" is invalid: {", ".join(f"{one}: {words}" for one in fields)}'
    )
    refused.body["details"] = {
        "causes": [{"reason": reason, "message": words, "field": one} for one in fields]
    }
    raise refused


def _at(item: Any, path: str) -> Any:
    for step in path.split("."):
        item = (item or {}).get(step)
    return item
