"""Ask a running service a few questions, and compare the answers with what was expected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.http import bearer, beginning, untrusted
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import InvalidInput, SystemFailure
from airflow_pipeops.redaction import remember

#: No more than this of an answer is read, in bytes.
MAX_BODY = 1024 * 1024
_KEYS = {"path", "status", "contains", "json"}
_MISSING = object()


@dataclass(frozen=True)
class Check:
    """One question.

    :param path: below the base URL, beginning with a slash.
    :param status: expected HTTP status; redirects are not followed.
    :param contains: text that the answer must hold.
    :param json: value that the JSON answer must have; of an object, each named key.
    """

    path: str
    status: int = 200
    contains: str | None = None
    json: Any = _MISSING

    @classmethod
    def read(cls, number: int, value: Any) -> Check:
        """Read one check as a user wrote it.

        :return: the check.
        :raises InvalidInput: if it is not of the form.
        """
        field = f"checks[{number}]"
        remedy = 'Write {"path": "/healthz", "status": 200, "contains": "ok"} or "json": {...}.'
        if not isinstance(value, Mapping) or not set(value) <= _KEYS:
            raise InvalidInput(f"{field} is not a check", field=field, value=value, remedy=remedy)
        path, status, contains = value.get("path"), value.get("status", 200), value.get("contains")
        if not isinstance(path, str) or not path.startswith("/") or path.startswith("//"):
            raise InvalidInput(f"{field} has no path", field=f"{field}.path", value=path, remedy=remedy)
        if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
            raise InvalidInput(
                f"{field} has no valid status", field=f"{field}.status", value=status, remedy=remedy
            )
        if contains is not None and not isinstance(contains, str):
            raise InvalidInput(
                f"{field}.contains is not a text", field=f"{field}.contains", value=contains, remedy=remedy
            )
        return cls(path, status, contains, value.get("json", _MISSING))


@dataclass(frozen=True)
class Answer:
    """What came back for one check.

    :param path: the path of the check.
    :param status: HTTP status; ``None`` without an answer.
    :param milliseconds: how long it took.
    :param problem: what is wrong; empty if nothing.
    :param transient: whether asking again may help.
    """

    path: str
    status: int | None
    milliseconds: int
    problem: str = ""
    transient: bool = False


def read_checks(values: Any) -> list[Check]:
    """Read the checks as a user wrote them; at least one."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise InvalidInput(
            "checks is empty or not a list",
            field="checks",
            value=values,
            remedy='Write [{"path": "/healthz"}].',
        )
    return [Check.read(number, value) for number, value in enumerate(values)]


def ask(
    base_url: str,
    checks: Sequence[Check],
    *,
    token: str | None = None,
    timeout: timedelta,
    attempts: int = 3,
    verify: Any = True,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Answer]:
    """Ask all checks in order; each is asked again, up to ``attempts`` times, where that may help.

    :param timeout: for one question from connecting to the last byte.
    :param token: bearer token.
    :return: the answers, in the order of the checks.
    """
    remember(token or "")
    headers = {"Accept-Encoding": "gzip", **bearer(token)}

    async def all_answers() -> list[Answer]:
        import httpx

        async with httpx.AsyncClient(
            headers=headers, verify=authorities(verify), follow_redirects=False
        ) as client:
            return [await one(client, check) for check in checks]

    async def one(client: Any, check: Check) -> Answer:
        url = base_url.rstrip("/") + check.path
        for attempt in range(1, attempts + 1):
            answer = await _ask(client, url, check, timeout.total_seconds())
            if not answer.transient or attempt == attempts:
                break
            tell(f"{check.path}: {answer.problem}; asking again")
            await asyncio.sleep(pause(attempt, base=0.25, longest=5.0))
        return answer

    return asyncio.run(all_answers())


async def _ask(client: Any, url: str, check: Check, seconds: float) -> Answer:
    import httpx

    started = time.monotonic()

    def elapsed() -> int:
        return round((time.monotonic() - started) * 1000)

    try:
        # One deadline for all of it: a trickle, also of headers, never trips that of a single read.
        call = client.stream("GET", url, timeout=seconds)
        response, body = await beginning(call, MAX_BODY + 1, seconds)
    except (asyncio.TimeoutError, SystemFailure, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        late = isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException))
        said = f"no complete answer within {seconds:g} s"
        problem, transient = (said, True) if late else _unanswered(url, error)
        return Answer(check.path, None, elapsed(), problem, transient)
    status = response.status_code
    if status != check.status:
        return Answer(
            check.path,
            status,
            elapsed(),
            f"status {status} instead of {check.status}",
            transient=status in (429, 502, 503, 504),
        )
    return Answer(check.path, status, elapsed(), _compare(check, body))


def _unanswered(url: str, error: Exception) -> tuple[str, bool]:
    """Say why there is no answer, and whether asking again may help."""
    import httpx

    if isinstance(error, SystemFailure):
        return error.message, False
    if isinstance(error, httpx.InvalidURL):
        return f"{url} is no usable URL: {error}", False
    if refused := untrusted(url, error):
        return refused.message, False
    return f"no answer ({type(error).__name__})", True


def _compare(check: Check, body: bytes) -> str:
    text = body[:MAX_BODY].decode(errors="replace")
    if check.contains is not None and check.contains not in text:
        return f"the answer does not hold {check.contains!r}; it begins with {text[:120]!r}"
    if check.json is _MISSING:
        return ""
    try:
        value = parsed(text)
    except ValueError:
        return f"the answer is not JSON; it begins with {text[:120]!r}"
    return _difference(check.json, value, "$")


def _difference(expected: Any, actual: Any, where: str) -> str:
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key, value in expected.items():
            if key not in actual:
                return f"{where}.{key} is missing"
            if problem := _difference(value, actual[key], f"{where}.{key}"):
                return problem
        return ""
    if isinstance(expected, bool) is not isinstance(actual, bool) or expected != actual:
        return f"{where} is {str(actual)[:120]!r} instead of {str(expected)[:120]!r}"
    return ""
