"""Errors of servers that speak gRPC behind an HTTP gateway, as Argo's do. Pure."""

from __future__ import annotations

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.redaction import excerpt

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION = 3, 5, 6, 9
#: gRPC code -> HTTP status, for an error whose status got lost on the way.
_STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 12: 501, 14: 503, 16: 401}


def gateway_error(content: bytes) -> tuple[int | None, str]:
    """Return code and message of an error's body; the beginning of a body that is no such error.

    A stream answers with a frame, in the form of an event or of a line, and the error is inside.

    :param content: the body.
    :return: the code, ``None`` where there is none; and what is said.
    """
    content = content.strip().removeprefix(b"data:").strip()
    try:
        body = parsed(content)
    except ValueError:
        return None, excerpt(content[:10_000], 200)
    if not isinstance(body, dict):
        return None, ""
    if isinstance(body.get("error"), dict):
        body = body["error"]
    code = body.get("code", body.get("grpc_code"))
    message = body.get("message") or body.get("error") or ""
    return (code if isinstance(code, int) else None), excerpt(str(message), 1000)


def http_status(code: int | None) -> int:
    """Return the HTTP status of a gRPC code; 500 for one that is not known."""
    return _STATUS.get(code or 0, 500)
