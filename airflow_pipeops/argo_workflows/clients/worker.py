"""The transport of workers: the ``argo_workflows`` client that users have, and none of its decoding.

Decoding, that client fails on a workflow that runs (a moment that has not come is ``null``), also after the server has
acted. So each answer is taken raw. This is the only place that calls it; a test sees to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argo_workflows.clients.errors import error_of
from airflow_pipeops.base.deadlines import in_thread
from airflow_pipeops.base.http import (
    LINE_LIMIT,
    ONE,
    REFUSAL,
    Http,
    TooLong,
    Unsent,
    pausing,
    tls_context,
    untrusted,
)
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError, Unreachable
from airflow_pipeops.redaction import remember_header

if TYPE_CHECKING:
    import argo_workflows

#: Bytes that are read at a time where the server does not say how long a piece is: more would wait for more.
_FEW, _MANY = 64, 64 * 1024
#: So many lines are kept that nobody has taken yet.
_AHEAD = 10_000


class WorkerHttp(Http):
    """Calls to one server through the client of the ``argo_workflows`` package. Blocking calls run in threads.

    :param url: base URL.
    :param authorization: value of the header; empty for none.
    :param verify_tls: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it.
    :param limits: ``timeout``, ``attempts`` and ``pause``, as for :class:`~airflow_pipeops.base.http.Http`.
    """

    def __init__(
        self, url: str, authorization: str = "", *, verify_tls: bool = True, ca_file: str = "", **limits: Any
    ) -> None:
        super().__init__(url, self._unused, error_of, **limits)
        self._authorization, self._verify_tls, self._ca_file = authorization, verify_tls, ca_file
        self._api: argo_workflows.ApiClient | None = None

    async def __aenter__(self) -> WorkerHttp:
        import argo_workflows

        remember_header(self._authorization)
        if self._verify_tls and self._ca_file:
            tls_context(self._ca_file)  # says by its name which file cannot be read
        configuration = argo_workflows.Configuration(host=self.url)
        configuration.verify_ssl = self._verify_tls
        configuration.ssl_ca_cert = self._ca_file or None
        # What is tried again, and when, is decided by Http; what redirects, leads elsewhere with our token.
        configuration.retries = False
        if self._authorization:
            configuration.api_key["BearerToken"] = self._authorization
        self._api = argo_workflows.ApiClient(configuration)
        self._api.user_agent = "airflow-pipeops"
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._api is not None:
            self._api.rest_client.pool_manager.clear()
            self._api.close()
            self._api = None

    async def _unused(self) -> Any:
        raise AssertionError("a worker has no asynchronous client")

    async def once(self, method: str, path: str, about: str, request: Mapping[str, Any]) -> bytes:
        """Make one call, once."""
        timeout = request.get("timeout") or self.timeout

        def call() -> bytes:
            response = self._call(
                method, path, about, request.get("params"), request.get("json"), (timeout, timeout)
            )
            try:
                return self._whole(response, request.get("most") or ONE, about)
            finally:
                response.release_conn()
                response.close()

        try:
            return await in_thread(timeout * 1.5, call)
        except asyncio.TimeoutError as error:
            raise Unreachable(f"{self.url} gave no whole answer about {about} in time") from error

    def _call(
        self, method: str, path: str, about: str, params: Any, body: Any, timeout: tuple[float, float]
    ) -> Any:
        """Call the client; the one place that does."""
        import argo_workflows.exceptions
        import urllib3.exceptions

        assert self._api is not None, "use WorkerHttp as 'async with'"
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            return self._api.call_api(
                path,
                method,
                {},
                list((params or {}).items()),
                headers,
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=timeout,
            )
        except argo_workflows.exceptions.ApiException as error:
            raise self._refusal(error, about) from error
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unsent(
                Unreachable(f"{self.url} does not answer: {error}", remedy="Is the server up?")
            ) from error
        except urllib3.exceptions.LocationValueError as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(error, about) from error

    def _refusal(self, error: Any, about: str) -> PipeOpsError | Unsent:
        if not error.status:  # TLS: the client makes a text of its cause
            return untrusted(self.url, error) or Unreachable(f"{self.url} does not answer: {error.reason}")
        content = (error.body or "").encode()[:REFUSAL]
        headers = {str(name).lower(): str(value) for name, value in dict(error.headers or {}).items()}
        found = pausing(error_of(error.status, content, about, self.url), headers.get("retry-after", ""))
        return Unsent(found) if error.status == 429 else found

    def _broken(self, error: Exception, about: str) -> PipeOpsError:
        return untrusted(self.url, error) or Unreachable(
            f"{self.url} gave no whole answer about {about}: {error or type(error).__name__}"
        )

    def _whole(self, response: Any, most: int, about: str) -> bytes:
        import urllib3.exceptions

        if 300 <= response.status < 400:
            raise error_of(response.status, b"", about, self.url)
        content = bytearray()
        try:
            for piece in response.stream(_MANY, decode_content=True):
                content += piece
                if len(content) > most:
                    raise TooLong
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(error, about) from error
        return bytes(content)

    async def lines(
        self,
        path: str,
        *,
        about: str,
        silence: float,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Read a stream line by line, until it ends properly."""
        limits = (self.timeout, silence)
        try:
            # Some servers send no headers before the first line.
            response = await in_thread(
                max(limits), lambda: self._call("GET", path, about, params, None, limits)
            )
        except Unsent as error:
            raise error.cause from error
        except asyncio.TimeoutError as error:
            raise Unreachable(f"{about} from {self.url} did not begin in time") from error
        loop, queue, over = asyncio.get_running_loop(), asyncio.Queue[Any](), False

        def pump() -> None:
            try:
                for line in self._lines(response, about):
                    while queue.qsize() > _AHEAD and not over:
                        time.sleep(0.05)
                    loop.call_soon_threadsafe(queue.put_nowait, line)
                loop.call_soon_threadsafe(queue.put_nowait, None)
            except PipeOpsError as error:
                if not over:
                    loop.call_soon_threadsafe(queue.put_nowait, error)

        pumping = asyncio.ensure_future(asyncio.to_thread(pump))
        try:
            while (found := await queue.get()) is not None:
                if isinstance(found, PipeOpsError):
                    raise found
                yield found
        finally:
            over = True
            with contextlib.suppress(RuntimeError, ValueError):  # it has come to its end by itself
                # A thread that reads is woken by this alone.
                getattr(response, "shutdown", response.close)()
            await asyncio.shield(pumping)
            response.close()

    def _lines(self, response: Any, about: str) -> Iterator[str]:
        import urllib3.exceptions

        rest = bytearray()
        try:
            for piece in response.stream(_MANY if response.chunked else _FEW, decode_content=True):
                rest += piece
                *whole, last = rest.split(b"\n")
                rest = bytearray(last)
                yield from (line.decode("utf-8", "replace") for line in whole)
                if len(rest) > LINE_LIMIT:
                    raise Unreachable(f"{about} from {self.url} is one endless line")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            # A response that is shut down meanwhile breaks in any of these ways.
            raise self._broken(error, about) from error
        if rest.strip():
            yield rest.decode("utf-8", "replace")


def plain(model: Any) -> dict[str, Any]:
    """Return a model of the ``argo_workflows`` package as the JSON object that it stands for."""
    import argo_workflows

    found: dict[str, Any] = argo_workflows.ApiClient.sanitize_for_serialization(model)
    return found
