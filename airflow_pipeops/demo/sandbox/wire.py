"""What travels on the wire: Argo CD's error bodies, its whole-second timestamps, its small JSON helpers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

#: The namespace in which all Applications of the sandbox live.
CONTROL_PLANE_NAMESPACE = "argocd"
REFRESH_ANNOTATION = "argocd.argoproj.io/refresh"
SKIP_RECONCILE_ANNOTATION = "argocd.argoproj.io/skip-reconcile"
RESOURCES_FINALIZER = "resources-finalizer.argocd.argoproj.io"

#: gRPC code -> HTTP status, as grpc-gateway v1 maps them.
_HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 9: 400, 12: 501, 13: 500, 14: 503, 16: 401}


class ApiError(Exception):
    """A refusal that the client sees.

    :param code: the gRPC status code.
    :param message: one sentence.
    :param status: HTTP status where it differs from the code's usual one.
    """

    def __init__(self, code: int, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _HTTP.get(code, 500)

    def body(self) -> dict[str, Any]:
        """Return the grpc-gateway v1 error body."""
        return {"error": self.message, "code": self.code, "message": self.message, "details": []}


def invalid_argument(message: str) -> ApiError:
    """Return a 400 with code 3."""
    return ApiError(3, message)


def not_found(name: str) -> ApiError:
    """Return the 404 for an Application."""
    return ApiError(5, f'applications.argoproj.io "{name}" not found')


def permission_denied(detail: str = "") -> ApiError:
    """Return a 403 with code 7; without detail it does not say whether the object exists."""
    return ApiError(7, f"permission denied: {detail}" if detail else "permission denied")


def failed_precondition(message: str) -> ApiError:
    """Return a 400 with code 9."""
    return ApiError(9, message)


def unavailable(message: str) -> ApiError:
    """Return a 503 with code 14."""
    return ApiError(14, message)


def unauthenticated(message: str) -> ApiError:
    """Return a 401 with code 16."""
    return ApiError(16, message)


def now() -> str:
    """Return the present moment as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return the moment that :func:`now` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def clone(value: Any) -> Any:
    """Return a deep copy of JSON data."""
    return json.loads(json.dumps(value))


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` changed by an RFC 7386 merge patch."""
    if not isinstance(patch, Mapping):
        return clone(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return ``document`` changed by the ``add``, ``replace`` and ``remove`` of an RFC 6902 patch.

    :return: the changed copy.
    :raises ApiError: for another operation, or a path that is not there.
    """
    result = clone(document)
    for step in operations:
        try:
            _patch_step(result, step)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise invalid_argument(f"cannot apply the patch step {dict(step)!r}: {error!r}") from None
    return result


def _patch_step(document: Any, step: Mapping[str, Any]) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    holder = document
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    action = step["op"]
    if action not in ("add", "replace", "remove"):
        raise ValueError(f"operation {action!r} is not supported")
    if isinstance(holder, list):
        if action == "add":
            holder.insert(len(holder) if last == "-" else int(last), step["value"])
        elif action == "replace":
            holder[int(last)] = step["value"]
        else:
            del holder[int(last)]
    elif action == "remove":
        del holder[last]
    else:
        holder[last] = step["value"]


def matches_selector(labels: Mapping[str, str], selector: str) -> bool:
    """Say whether ``labels`` satisfy a label selector.

    The forms ``k=v``, ``k==v``, ``k!=v``, ``k`` and ``!k``, joined by commas, are understood.

    :return: whether all terms are true.
    :raises ApiError: for a set-based term.
    """
    for term in filter(None, (part.strip() for part in selector.split(","))):
        if " " in term or "(" in term:
            raise invalid_argument(f"the sandbox does not understand the selector term {term!r}")
        if "!=" in term:
            key, value = term.split("!=", 1)
            matched = labels.get(key) != value
        elif "=" in term:
            key, value = term.replace("==", "=").split("=", 1)
            matched = labels.get(key) == value
        elif term.startswith("!"):
            matched = term[1:] not in labels
        else:
            matched = term in labels
        if not matched:
            return False
    return True
