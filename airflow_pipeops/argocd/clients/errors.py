"""What an answer of Argo CD other than 200 means."""

from __future__ import annotations

from airflow_pipeops.base.grpc import FAILED_PRECONDITION, gateway_error, http_status
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SyncFailed,
    Unreachable,
    Unsupported,
)


def error_of(status: int, content: bytes, about: str, url: str) -> PipeOpsError:
    """Turn an answer other than 200 into an error of ours.

    :param status: 0 where only the body says what is wrong.
    :return: the error, to be raised.
    """
    code, message = gateway_error(content)
    status = status or http_status(code)
    if 300 <= status < 400:
        return InvalidInput(
            f"{url} redirects elsewhere (HTTP {status})",
            field="host",
            value=url,
            remedy="Give the final URL, most often https.",
        )
    if status == 404 and code is None:
        return NotFound(
            f"{url} knows no such call as is needed for {about} (404)",
            remedy="Check the URL, with its path, in the connection, and the version of Argo CD.",
        )
    return refusal(status, code, message, about, url)


def refusal(status: int, code: int | None, message: str, about: str, url: str = "Argo CD") -> PipeOpsError:
    """Return the error for what a server refuses, or would refuse.

    :param code: gRPC code, where there is one.
    :return: the error, to be raised.
    """
    said = f": {message}" if message else ""
    if status == 401:
        return AccessDenied(
            f"{url} refuses the token (401){said}", remedy="Put a valid, unexpired token into the connection."
        )
    if status == 403:
        return _forbidden(about, message)
    if status == 404:
        return NotFound(f"{about} does not exist{said}", remedy="Check its name, project and namespace.")
    if status == 409 or "another operation is already in progress" in message:
        return Conflict(f"{about} is busy or was changed by somebody else{said}")
    if status == 501:
        return Unsupported(f"{url} cannot do that for {about}{said}", field="host")
    if status >= 500 or status in (408, 429):
        return Unreachable(f"{url} could not answer about {about} (HTTP {status}){said}")
    if code == FAILED_PRECONDITION:
        return SyncFailed(f"the server will not act on {about}{said}")
    return InvalidInput(
        f"the server refuses the request about {about} (HTTP {status}){said}", field="request"
    )


def _forbidden(about: str, message: str) -> PipeOpsError:
    if "sync window" in message:
        return SyncFailed(
            f"{about}: {message}", remedy="Wait until the sync window opens, or override it in Argo CD."
        )
    return AccessDenied(
        f"{about} does not exist, or the token lacks a permission on it (403): {message or 'permission denied'}",
        remedy="Check name and project, and the token's role: 'applications, get' to look, 'applications, sync' to sync.",
    )
