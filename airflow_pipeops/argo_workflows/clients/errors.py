"""What an answer of Argo Workflows other than success means."""

from __future__ import annotations

from airflow_pipeops.base.grpc import INVALID_ARGUMENT, gateway_error, http_status
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
    Unsupported,
)
from airflow_pipeops.kubernetes.errors import REFUSED

#: What the server says, as an internal error, of an act on a workflow that has ended.
_ENDED = ("cannot shutdown a completed workflow", "cannot suspend completed workflows", "already shutdown")

#: What a server without an archive says of it, as an internal error, too.
_NO_ARCHIVE = "archived workflows not supported"


class Ended(Conflict):
    """The workflow has ended already, so that nothing can be done with it any more."""

    retryable = False


def error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than success into an error of ours.

    :param status: 0 where only the body says what is wrong.
    :return: the error, to be raised.
    """
    code, message = gateway_error(content)
    status = status or http_status(code)
    said = f": {message}" if message else ""
    if 300 <= status < 400:
        return InvalidInput(
            f"{url} redirects elsewhere (HTTP {status})",
            field="host",
            value=url,
            remedy="Give the final URL, most often https.",
        )
    if _NO_ARCHIVE in message:
        return NotFound(f"{about} is not in an archive: this server keeps none")
    if any(words in message for words in _ENDED):
        return Ended(f"{about} has ended already{said}")
    if status == 401:
        return AccessDenied(
            f"{url} refuses the token (401){said}",
            remedy="Put a valid token into the connection: that of a service account, or of 'argo auth token'.",
        )
    if status == 403:
        return _forbidden(message, said, about)
    if status == 404:
        if code is None:
            return NotFound(
                f"{url} knows no such call as is needed for {about} (404)",
                remedy="Check the URL, with its path, in the connection, and the version of Argo Workflows.",
            )
        return NotFound(f"{about} does not exist{said}", remedy="Check its name and namespace.")
    if status == 409:
        return Conflict(f"{about} is there already, or a quota of the namespace is full{said}")
    return _other(status, code, said, about, url)


def _forbidden(message: str, said: str, about: str) -> PipeOpsError:
    """Tell what Kubernetes forbids to everybody from what the token may not do."""
    if "exceeded quota" in message:
        return Conflict(
            f"there is no room for {about} in its namespace (403){said}", remedy="Raise the quota."
        )
    if REFUSED.search(message):
        return InvalidInput(
            f"a rule of the cluster refuses {about} (403){said}",
            field="workflow",
            remedy="Change the workflow as the rule asks, or ask whoever owns the rule.",
        )
    if "is being terminated" in message:
        return NotFound(f"the namespace of {about} is being deleted{said}", remedy="Name another namespace.")
    return AccessDenied(
        f"the token lacks a permission for {about} (403){said}",
        remedy="Give the verb to the service account of the token.",
    )


def _other(status: int, code: int | None, said: str, about: str, url: str) -> PipeOpsError:
    if status == 501:
        return Unsupported(f"{url} cannot do that for {about}{said}", field="host")
    if status >= 500 or status in (408, 429):
        return Unreachable(f"{url} could not answer about {about} (HTTP {status}){said}")
    field = "workflow" if code == INVALID_ARGUMENT else "request"
    return InvalidInput(f"Argo Workflows refuses {about} (HTTP {status}){said}", field=field)
