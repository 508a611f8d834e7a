"""HTTP calls to a server that may die, stall, lie, or be busy: bounded in time and in number, with typed errors.

Reads are tried again on a connection error, 429 and 5xx, with growing pauses and jitter, and never sooner than a
``Retry-After`` says. Writes are tried again only where the server cannot have acted (connection refused, 429); the caller
looks up what became of the rest. A 401 or 403 is never tried again: clients that do so have taken servers down.

No answer is longer than what its call states, unpacked: an endless one, or one that unpacks to gigabytes, ends there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_pipeops.base.arguments import flag
from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.retries import LONGEST_PAUSE, jittered
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.redaction import remember_header

if TYPE_CHECKING:
    import httpx

#: A longer line of a stream is not read: nothing that we ask for has one.
LINE_LIMIT = 16 * 1024 * 1024
#: How long an answer may be, in bytes: one object, which no cluster stores beyond 2 MB; many, or all that is below one;
#: and what a server says when it refuses, of which only the beginning is read.
ONE, MANY, REFUSAL = 16 * 1024**2, 128 * 1024**2, 64 * 1024
#: Bytes that are unpacked at a time.
_PIECE = 256 * 1024

#: Turns status, body, what was asked about, and base URL into an error.
ErrorOf = Callable[[int, bytes, str, str], PipeOpsError]
#: Returns a client that is open, made for this call or kept from the last one.
Opened = Callable[[], Awaitable["httpx.AsyncClient"]]


@dataclass(frozen=True)
class Call:
    """What is sent, and what is borne.

    :param headers: beside those of the client.
    :param params: of the query; ``None`` for none.
    :param content: the body; ``None`` for none.
    :param timeout: seconds for all of it.
    :param most: bytes that the answer may have.
    """

    headers: Mapping[str, str]
    params: Mapping[str, Any] | None
    content: bytes | None
    timeout: float
    most: int


@dataclass(frozen=True)
class Answer:
    """What came back.

    :param status: of HTTP.
    :param retry_after: header of that name; empty for none.
    :param content: the body, or the beginning of one that tells of no success.
    """

    status: int
    retry_after: str
    content: bytes


class Http:
    """Calls to one server.

    :param url: base URL, without a slash at its end.
    :param opened: returns the open client; asked before each call, so that it may hold fresh credentials.
    :param error_of: says what an answer other than success means.
    :param timeout: seconds for one try of one call, the whole of the answer included.
    :param attempts: how often a call is tried at most.
    :param pause: seconds before the second attempt; it doubles from there, with jitter.
    """

    def __init__(
        self, url: str, opened: Opened, error_of: ErrorOf, *, timeout: float, attempts: int, pause: float
    ) -> None:
        self.url, self.timeout = url, timeout
        self._opened, self._error_of = opened, error_of
        self._attempts, self._pause = max(1, attempts), pause

    async def object(self, method: str, path: str, *, about: str, **request: Any) -> dict[str, Any]:
        """Make a call whose answer is a JSON object.

        :param about: what is asked about, for the message of an error.
        :param request: ``params``, ``json``, ``content_type``, ``headers``; ``attempts`` and ``timeout`` to replace the own
            ones; ``most`` bytes that the answer may have, :data:`ONE` by default.
        :return: the object.
        :raises SystemFailure: if the answer is longer.
        """
        answer: dict[str, Any] = await self._tried(method, path, about, _object, request)
        return answer

    async def text(self, path: str, *, about: str, **request: Any) -> str:
        """Read what is no JSON, as a log is; see :meth:`object`."""
        text: str = await self._tried("GET", path, about, _text, request)
        return text

    async def lines(
        self,
        path: str,
        *,
        about: str,
        silence: float,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Read a stream line by line, until it ends properly.

        :param silence: seconds without a byte after which the connection counts as dead.
        :yield: each line.
        :raises Unreachable: if the stream cannot be had, or breaks.
        """
        import httpx

        limits = httpx.Timeout(self.timeout, read=silence)
        try:
            client = await self._client()
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            call = client.stream("GET", self.url + path, params=dict(params), headers=sent, timeout=limits)
            async with contextlib.AsyncExitStack() as held:
                # Some servers send no headers before the first line; that none comes, though bytes do, has an end, too.
                response = await within(max(self.timeout, silence), held.enter_async_context(call))
                if response.status_code != 200:
                    content = await within(self.timeout, _read(_pieces(response), REFUSAL, cut=True))
                    said = Answer(response.status_code, response.headers.get("Retry-After", ""), content)
                    raise self._failure(said, about)
                rest = bytearray()
                # Bytes, and not httpx's lines: those also end at U+0085 and its like, which JSON may hold as they are.
                async for chunk in _pieces(response):
                    rest += chunk
                    if b"\n" not in chunk:
                        if len(rest) > LINE_LIMIT:
                            raise Unreachable(f"{about} from {self.url} is one endless line")
                        continue
                    *whole, last = rest.split(b"\n")
                    rest = bytearray(last)
                    for line in whole:
                        yield line.decode("utf-8", "replace")
                        # A burst of lines must not hold up whatever else runs in this loop.
                        await asyncio.sleep(0)
                if rest.strip():
                    yield rest.decode("utf-8", "replace")
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except (httpx.HTTPError, OSError, asyncio.TimeoutError) as error:
            if refused := untrusted(self.url, error):
                raise refused from error
            # An alert of TLS 1.3 that comes after the handshake passes httpx as it is, an OSError.
            raise Unreachable(f"{about} from {self.url} broke: {words(error)}") from error

    async def _tried(
        self,
        method: str,
        path: str,
        about: str,
        read: Callable[[bytes, str, str], Any],
        request: dict[str, Any],
    ) -> Any:
        tries = request.pop("attempts", None) or self._attempts
        for attempt in range(1, tries + 1):
            try:
                content = await self.once(method, path, about, request)
                return read(content, about, self.url)
            except TooLong as error:
                most = request.get("most") or ONE
                raise SystemFailure(
                    f"{self.url} answered about {about} with more than {most / 1024**2:g} MB; the rest was not read",
                    remedy="Is the URL, with its path, that of the API? If so, ask for less at a time.",
                ) from error
            except Unsent as error:
                cause: PipeOpsError = error.cause
                if attempt == tries or not self._bearable(cause):
                    raise cause from cause.__cause__
            except (Unreachable, BadResponse) as error:
                cause = error
                if attempt == tries or method != "GET" or not self._bearable(cause):
                    raise
            pause = jittered(self._pause * 2.0 ** (attempt - 1), 0.5, 1.5)
            await asyncio.sleep(pause + getattr(cause, "retry_after", 0.0))
        raise AssertionError("unreachable")

    @staticmethod
    def _bearable(error: PipeOpsError) -> bool:
        return getattr(error, "retry_after", 0.0) <= LONGEST_PAUSE

    async def once(self, method: str, path: str, about: str, request: Mapping[str, Any]) -> bytes:
        """Make one call, once; another transport replaces this and :meth:`lines`, and has all the rest.

        :param request: as for :meth:`object`.
        :return: the body of an answer that says success.
        :raises Unsent: where the server cannot have acted.
        """
        import httpx

        call = self.asked(method, request)
        try:
            client = await self._client()
            exchange = client.stream(
                method,
                self.url + path,
                headers=call.headers,
                timeout=call.timeout,
                params=call.params,
                content=call.content,
            )
            answer = await within(call.timeout, _exchanged(exchange, call.most))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if refused := untrusted(self.url, error):
                raise refused from error
            raise Unsent(
                Unreachable(f"{self.url} does not answer: {words(error)}", remedy="Is the server up?")
            ) from error
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except (httpx.HTTPError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(f"{self.url} gave no whole answer about {about}: {words(error)}") from error
        return self.judged(answer, about)

    def asked(self, method: str, request: Mapping[str, Any]) -> Call:
        """Say what is sent.

        :param request: as for :meth:`object`.
        :return: it.
        """
        # JSON is demanded of every write: Argo CD answers 415 to all else, as a guard against forged requests.
        kind = {} if method == "GET" else {"Content-Type": request.get("content_type") or "application/json"}
        body = request.get("json")
        return Call(
            {"Accept-Encoding": "gzip", **kind, **(request.get("headers") or {})},
            request.get("params"),
            None if body is None else json.dumps(body).encode(),
            request.get("timeout") or self.timeout,
            request.get("most") or ONE,
        )

    def judged(self, answer: Answer, about: str) -> bytes:
        """Tell an answer that says success from any other.

        :return: its body.
        :raises Unsent: where the server cannot have acted.
        :raises PipeOpsError: for any other answer.
        """
        if answer.status in _SUCCESS:
            return answer.content
        error = self._failure(answer, about)
        raise Unsent(error) if answer.status == 429 else error

    async def _client(self) -> httpx.AsyncClient:
        """Return the open client, and remember its credential: servers send it back in what they say."""
        client = await self._opened()
        remember_header(client.headers.get("Authorization", ""))
        return client

    def _failure(self, answer: Answer, about: str) -> PipeOpsError:
        error = self._error_of(answer.status, answer.content, about, self.url)
        return pausing(error, answer.retry_after)


def sendable(credential: str) -> str:
    """Refuse a credential that no header can carry, before a library breaks on it and prints it.

    :param credential: a token, or the whole value of the header.
    :return: it, without the line's end that was copied with it.
    :raises InvalidInput: for one with other characters than printable ASCII; it is not said.
    """
    credential = credential.strip()
    if credential.isascii() and credential.isprintable():
        return credential
    raise InvalidInput(
        "the token has characters that no HTTP header can carry",
        field="token",
        remedy="Copy it again: a token is one line of letters, digits and ASCII signs.",
    )


def bearer(token: str | None) -> dict[str, str]:
    """Return the header for a token; none without one. See :func:`sendable`."""
    token = sendable(token or "")
    return {"Authorization": f"Bearer {token}"} if token else {}


def asked(
    method: str,
    url: str,
    path: str,
    *,
    about: str,
    error_of: ErrorOf,
    headers: Mapping[str, str],
    timeout: float,
    verify: Any = True,
    **request: Any,
) -> dict[str, Any]:
    """Make one call whose answer is a JSON object, once, from code that is not asynchronous; see :meth:`Http.object`.

    :param timeout: seconds, the whole of the answer included.
    :param verify: what the server's certificate is checked with; see :func:`trusting`.
    :return: the object.
    """
    import httpx

    async def ask() -> dict[str, Any]:
        async with httpx.AsyncClient(headers=dict(headers), verify=authorities(verify)) as client:

            async def opened() -> httpx.AsyncClient:
                return client

            http = Http(url, opened, error_of, timeout=timeout, attempts=1, pause=0.0)
            return await http.object(method, path, about=about, **request)

    return asyncio.run(ask())


_SUCCESS = (200, 201, 202)


class TooLong(Exception):
    """The answer is longer than its call states."""


class _Unpacker:
    """Unpacks an answer piece by piece, so that no piece is large, whatever it unpacks to.

    :param encoding: the answer's ``Content-Encoding``.
    :raises BadResponse: for one that was not asked for.
    """

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise BadResponse(f"the server packed its answer as {name[:40]!r}, which was not asked for")
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16) if name.endswith("gzip") else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk of the answer unpacks to."""
        if self._zlib is None:
            yield chunk
            return
        try:
            while chunk:
                yield self._zlib.decompress(chunk, _PIECE)
                chunk = self._zlib.unconsumed_tail
        except zlib.error as error:
            raise BadResponse(f"the server's answer cannot be unpacked: {error}") from error

    def end(self) -> bytes:
        """Return what remains, once all was fed.

        :raises Unreachable: if the answer ended too early.
        """
        if self._zlib is None:
            return b""
        rest = self._zlib.flush()
        if not self._zlib.eof:
            raise Unreachable("the server's answer ended in the middle")
        return rest


async def _exchanged(call: Any, most: int) -> Answer:
    async with call as response:
        encoding, status = response.headers.get("Content-Encoding", ""), response.status_code
        content = await collected(response.aiter_raw(), encoding, status, most)
        return Answer(status, response.headers.get("Retry-After", ""), content)


async def collected(chunks: AsyncIterator[bytes], encoding: str, status: int, most: int) -> bytes:
    """Read an answer; of one that says no success, the beginning.

    :param chunks: of its body, as they come.
    :param encoding: its ``Content-Encoding``.
    :param most: bytes that it may have, unpacked.
    :return: its body.
    :raises TooLong: if it is longer.
    """
    good = status in _SUCCESS
    return await _read(_unpacked(chunks, encoding), most if good else REFUSAL, cut=not good)


async def beginning(call: Any, most: int, seconds: float) -> tuple[httpx.Response, bytes]:
    """Make a call, and read no more than the beginning of its answer, whatever that is.

    :param call: as ``AsyncClient.stream`` returns it.
    :param most: bytes that are read.
    :param seconds: for all of it, headers that trickle included.
    :return: the response, and its beginning.
    :raises asyncio.TimeoutError: if the time is over first.
    """

    async def exchange() -> tuple[httpx.Response, bytes]:
        async with call as response:
            return response, await _read(_pieces(response), most, cut=True)

    return await within(seconds, exchange())


async def _read(pieces: AsyncIterator[bytes], most: int, *, cut: bool) -> bytes:
    """Read an answer of at most so many bytes; of a longer one the beginning, or nothing."""
    content = bytearray()
    async for piece in pieces:
        content += piece
        if len(content) > most:
            if cut:
                break
            raise TooLong
    return bytes(content[:most])


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    return _unpacked(response.aiter_raw(), response.headers.get("Content-Encoding", ""))


async def _unpacked(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    unpacker = _Unpacker(encoding)
    async for chunk in chunks:
        for piece in unpacker.feed(chunk):
            yield piece
    if rest := unpacker.end():
        yield rest


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Yield an answer that a blocking client streams, unpacked, in pieces of bounded length."""
    unpacker = _Unpacker(response.headers.get("Content-Encoding", ""))
    for chunk in response.iter_raw():
        yield from unpacker.feed(chunk)
    yield unpacker.end()


class Unsent(Exception):
    """The server cannot have acted: even a write may be tried again."""

    def __init__(self, cause: PipeOpsError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def untrusted(url: str, error: Exception) -> AccessDenied | None:
    """Return what a failed connection means where the server's certificate is the cause: no retry mends that.

    :return: the error; ``None`` where the cause is another.
    """
    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return None
    return AccessDenied(
        f"the certificate of {url} is not trusted: {words(error)}",
        remedy="Name the PEM file of a private authority in ca_file, and the host as the certificate names it.",
    )


def base_url(url: str, *, field: str, of: str) -> str:
    """Read the base URL of a server.

    :param field: under which the reader knows it.
    :param of: whose URL it should be, for the message.
    :return: the URL, without a slash at its end.
    :raises InvalidInput: for none, for one that cannot be read, and for one that holds a user name.
    """
    scheme, host, bare = "", "", False
    with contextlib.suppress(ValueError):  # for example http://[::1
        parts = urlsplit(url)
        scheme, host, bare = (
            parts.scheme,
            parts.hostname or "",
            parts.username is None and (parts.port or 1) > 0,
        )
    if scheme in ("http", "https") and host and bare:
        return url.rstrip("/")
    raise InvalidInput(
        f"{scheme}://{host} is no base URL of {of}",
        field=field,
        remedy="Use http(s)://host[:port][/path], without user name and password.",
    )


def tls_context(ca_file: str, cert_file: str = "", key_file: str = "", ca_data: str = "") -> Any:
    """Read what a server's certificate is checked with.

    :return: an SSL context.
    :raises InvalidInput: if a file cannot be read.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file or None, cadata=ca_data or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"the CA file {ca_file!r} cannot be read: {error}",
            field="ca_file",
            value=ca_file,
            remedy="Give the path of a PEM file that exists where the task and the triggerer run.",
        ) from error
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"the client certificate {cert_file!r} cannot be read: {error}",
                field="client-certificate",
                value=cert_file,
                remedy="Give a PEM file with the certificate, and one with its key.",
            ) from error
    return context


def trusting(extra: Mapping[str, Any]) -> Any:
    """Read what a server's certificate is checked with from the extra of an Airflow connection.

    :param extra: with ``ca_file`` and ``verify_tls``.
    :return: an SSL context; or whether the authorities of the machine count.
    :raises InvalidInput: if the file cannot be read, or ``verify_tls`` is neither yes nor no.
    """
    given = str(extra.get("ca_file") or "")
    return tls_context(given) if given else flag("verify_tls", extra.get("verify_tls"))


def _object(content: bytes, about: str, url: str) -> dict[str, Any]:
    try:
        answer = parsed(content or b"{}")
    except ValueError as error:
        page = content.lstrip()[:1] == b"<"
        raise BadResponse(
            f"{url} answered about {about} with something that is no JSON{', but a page' if page else ''}",
            remedy="Is the URL, with its path, that of the API, and not of a login page?" if page else "",
        ) from error
    if not isinstance(answer, dict):
        raise BadResponse(f"{url} answered about {about} with no JSON object")
    return answer


def _text(content: bytes, about: str, url: str) -> str:
    return content.decode("utf-8", "replace")


def pausing(error: PipeOpsError, header: str) -> PipeOpsError:
    """Note on an error of a busy server how long it asks to be left alone.

    :param header: ``Retry-After``; empty for none.
    :return: the error.
    """
    if isinstance(error, Unreachable):
        error.retry_after = retry_after(header)
    return error


def retry_after(value: str) -> float:
    """Read a ``Retry-After``: seconds, or a date.

    :return: seconds from now; 0 for what is neither.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (TypeError, ValueError, IndexError):
        return 0.0


def words(error: Exception) -> str:
    """Return what an error says, or is."""
    return str(error) or type(error).__name__
