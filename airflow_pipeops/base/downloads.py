"""Files of web servers, by their digest."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.http import base_url, beginning, pausing, untrusted, words
from airflow_pipeops.base.retries import retried
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, SystemFailure, Unreachable


async def _fetched(
    url: str, field: str, most: int, seconds: float, verify: Any, auth: tuple[str, str] | None
) -> bytes:
    import httpx

    try:
        async with httpx.AsyncClient(
            follow_redirects=True, max_redirects=5, verify=authorities(verify), auth=auth, timeout=seconds
        ) as client:
            call = client.stream("GET", url, headers={"Accept-Encoding": "identity"})
            response, content = await beginning(call, most + 1, seconds)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url} is no usable URL: {error}", field=field) from error
    except (httpx.HTTPError, OSError, asyncio.TimeoutError) as error:
        raise untrusted(url, error) or Unreachable(f"{url} gave no whole answer: {words(error)}") from error
    status = response.status_code
    if status == 404:
        raise NotFound(f"there is nothing at {url} (404)", remedy="Check the URL.")
    if status in (401, 403):
        raise AccessDenied(f"{url} may not be read ({status})", remedy="Use a URL, or a login, that may.")
    if status == 429 or status >= 500:
        busy = Unreachable(f"{url} could not answer (HTTP {status})")
        raise pausing(busy, response.headers.get("Retry-After", ""))
    if status != 200:
        raise SystemFailure(f"{url} answered with {status}")
    if len(content) > most:
        raise InvalidInput(f"{url} is longer than {most:,} bytes; the rest was not read", field=field)
    return content


def fetched(
    url: str,
    sha256: str,
    *,
    field: str,
    most: int,
    seconds: float = 120.0,
    verify: Any = True,
    auth: tuple[str, str] | None = None,
) -> bytes:
    """Read a file from a web server, which is believed nothing: what comes must have the digest that is wanted.

    :param sha256: that it must have, in hex.
    :param field: under which the reader knows the URL.
    :param most: bytes that it may have.
    :param seconds: for one try, the whole of the answer included.
    :param verify: what the server's certificate is checked with; see :func:`trusting`.
    :param auth: user name and password.
    :return: the content.
    :raises InvalidInput: for a URL without a digest, and for another content.
    """
    base_url(url.partition("?")[0], field=field, of="a file")
    wanted = sha256.removeprefix("sha256:").lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise InvalidInput(
            f"{url} is of a web server, and no SHA-256 says what it is to be",
            field=field,
            value=url,
            remedy="Give the digest of the file (sha256sum): 64 digits in hex.",
        )
    content = retried(lambda: asyncio.run(_fetched(url, field, most, seconds, verify, auth)), 4)
    if (found := hashlib.sha256(content).hexdigest()) != wanted:
        raise InvalidInput(
            f"{url} has the SHA-256 {found}, and {wanted} is wanted",
            field=field,
            value=url,
            remedy="Somebody has put another file there: look at both before you take it.",
        )
    return content
