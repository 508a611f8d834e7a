"""What an answer of the Kubernetes API other than success means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, parsed, text, whole
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    PodLost,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import excerpt


class Expired(Unreachable):
    """The server no longer knows what happened since the version that was named (410): list again."""


class FieldConflict(SystemFailure):
    """Fields of an object are held by other managers (server-side apply).

    :param causes: as the server sent them.
    """

    def __init__(self, message: str, causes: Sequence[Mapping[str, Any]]) -> None:
        self.causes = tuple(causes)
        super().__init__(message, remedy="Leave the fields to their managers, or take them by force.")


class FieldsImmutable(InvalidInput):
    """Fields of an object cannot be changed, as the template of a Job or the selector of a Deployment.

    :param fields: which, each with what the server says of it.
    """

    def __init__(self, message: str, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        super().__init__(
            message, field=", ".join(fields)[:200], remedy="Delete the object first, or leave them."
        )


#: What the server says of a change that it never allows; a wrong value is told in other words.
_IMMUTABLE = re.compile(
    r"immutable|updates to .* are forbidden|may not change once set|cannot change roleRef|may not be changed"
)
#: An admission webhook did not answer; and a rule of admission does not allow an object.
UNANSWERED = re.compile(r"failed calling webhook (\"[^\"]+\")")
REFUSED = re.compile(r"admission webhook .* denied the request|denied request:|violates PodSecurity")


def error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than success into an error of ours."""
    try:
        body = map_(parsed(content))
    except ValueError:
        body = {}
    if body.get("kind") != "Status":
        return _foreign(status, content, about, url)
    return error_of_status({**body, "code": status}, about, url)


def error_of_status(body: Mapping[str, Any], about: str, url: str) -> PipeOpsError:
    """Turn a ``Status`` object into an error of ours; it is the body of an answer, or the object of a watch's event."""
    status, reason = whole(body.get("code")), str(body.get("reason") or "")
    status = 500 if status is None else status
    message = excerpt(str(body.get("message") or reason), 1000)
    said = f": {message}" if message else ""
    if (ruled := _ruled(status, message, body, about)) is not None:
        return ruled
    if status == 401:
        return AccessDenied(
            f"{url} refuses the credential (401){said}",
            remedy="Put a valid, unexpired credential into the connection.",
        )
    if status == 403:
        return _forbidden(message, about, said)
    if status == 404:
        return NotFound(f"{about} does not exist{said}", remedy="Check its name and namespace.")
    if status == 409:
        causes = maps(map_(body.get("details")).get("causes"))
        if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
            return FieldConflict(f"{about} has fields of other managers{said}", causes)
        return Conflict(f"{about} was changed by somebody else, or exists{said}")
    if status == 410:
        return Expired(f"{url} no longer knows that version of {about} (410){said}")
    # Of fields that a kind does not have, the server says 500, and means the manifest.
    if status in (408, 429) or (status >= 500 and "field not declared in schema" not in message):
        return Unreachable(f"{url} could not answer about {about} (HTTP {status}){said}")
    return InvalidInput(f"the server refuses {about} (HTTP {status}){said}", field="object")


def _ruled(status: int, message: str, body: Mapping[str, Any], about: str) -> PipeOpsError | None:
    """Return what a rule about objects means: of admission, or of fields that cannot be changed."""
    said = f": {message}" if message else ""
    if status in (400, 403, 422) and REFUSED.search(message):
        return InvalidInput(
            f"an admission rule of the cluster refuses {about}{said}",
            field="object",
            remedy="Change the object as the rule asks, or ask whoever owns the rule.",
        )
    if status == 422 and (fields := _immutable(maps(map_(body.get("details")).get("causes")))):
        return FieldsImmutable(f"{about} has fields that cannot be changed: {'; '.join(fields)}", fields)
    if status >= 500 and (webhook := UNANSWERED.search(message)):
        return Unreachable(
            f"the admission webhook {webhook[1]} did not answer about {about}{said}",
            remedy="Nothing of its kind can be changed until it answers.",
        )
    return None


def _immutable(causes: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [one for one in causes if _IMMUTABLE.search(text(one.get("message")))]
    return [f"{text(one.get('field'))} ({excerpt(text(one.get('message')), 150)})" for one in found]


def _forbidden(message: str, about: str, said: str) -> PipeOpsError:
    if "exceeded quota" in message:
        return PodLost(
            f"there is no room for {about} (403){said}",
            remedy="Raise the quota, or wait until something of it ends.",
        )
    if "is being terminated" in message:
        return NotFound(f"the namespace of {about} is being deleted{said}", remedy="Name another namespace.")
    return AccessDenied(
        f"the credential lacks a permission on {about} (403){said}",
        remedy="Bind its service account or user to a role that has it.",
    )


def _foreign(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """An answer of something before the API server, or of an API that is not installed."""
    text = excerpt(content[:10_000], 200)
    if status == 404:
        return NotFound(
            f"{url} knows no such kind of object as is needed for {about}: {text or 'not found'}",
            remedy="Is the controller with its CRDs installed in this cluster, and the URL that of the API server?",
        )
    if 300 <= status < 400:
        return InvalidInput(f"{url} redirects elsewhere (HTTP {status})", field="server", value=url)
    return error_of_status({"code": status, "message": text}, about, url)
