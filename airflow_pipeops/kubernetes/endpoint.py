"""Where a cluster's API is, and how to show who one is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.http import tls_context

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Endpoint:
    """One API server, and a credential for it.

    :param url: base URL.
    :param authorization: value of the header of that name; empty where a client certificate is used, or nothing.
    :param verify: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it, or ``ca_data`` its text; neither for the system's.
    :param cert_file: PEM file of a client certificate, with its key in ``key_file``; or ``cert_data`` and ``key_data``.
    :param server_name: name that the server's certificate must bear, where that is not the URL's.
    :param proxy: URL of a proxy.
    """

    url: str
    authorization: str = field(default="", repr=False)
    verify: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_data: str = ""
    cert_data: str = ""
    key_data: str = field(default="", repr=False)
    server_name: str = ""
    proxy: str = field(default="", repr=False)


#: Returns the endpoint as it is now. Asked before each call: the credential of a pod, or of a plugin, changes with time.
Source = Callable[[], Awaitable[Endpoint]]


class Connection:
    """Keeps an HTTP client open for an endpoint, and makes a new one when something about the endpoint changes.

    :param source: returns the endpoint.
    :param timeout: seconds for one call.
    """

    def __init__(self, source: Source, timeout: float) -> None:
        self._source, self._timeout = source, timeout
        self._endpoint: Endpoint | None = None
        self._client: httpx.AsyncClient | None = None

    @property
    def url(self) -> str:
        """The base URL; empty before the first call."""
        return self._endpoint.url.rstrip("/") if self._endpoint else ""

    async def opened(self) -> httpx.AsyncClient:
        """Return the client for the endpoint as it is now."""
        found = await self._source()
        kept = self._endpoint and replace(self._endpoint, authorization=found.authorization)
        before = self._client
        if before is None or found != kept:
            self._client = self._make(found)
            if before is not None:
                # A stream that is still open on it ends, and is taken up again by its reader.
                await before.aclose()
        assert self._client is not None
        if found.authorization:
            # A new token is no reason to break the streams that the old one opened.
            self._client.headers["Authorization"] = found.authorization
        self._endpoint = found
        return self._client

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _make(self, endpoint: Endpoint) -> httpx.AsyncClient:
        import httpx

        async def name_server(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = endpoint.server_name

        return httpx.AsyncClient(
            headers={"Accept": "application/json", "User-Agent": "airflow-pipeops"},
            verify=_verify(endpoint),
            event_hooks={"request": [name_server]} if endpoint.server_name else {},
            timeout=self._timeout,
            proxy=endpoint.proxy or None,
            follow_redirects=False,
        )


def _verify(endpoint: Endpoint) -> Any:
    import ssl

    with TemporaryDirectory() as folder:
        # Python's TLS reads a client's certificate and key from files only; these are ours alone, and gone at once.
        cert = _written(Path(folder) / "cert.pem", endpoint.cert_data) or endpoint.cert_file
        key = _written(Path(folder) / "key.pem", endpoint.key_data) or endpoint.key_file
        context = tls_context(endpoint.ca_file, cert, key, endpoint.ca_data)
    # Cluster authorities are often older than what OpenSSL's strict mode accepts, and kubectl accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _written(path: Path, text: str) -> str:
    if not text:
        return ""
    path.write_text(text)
    return str(path)
