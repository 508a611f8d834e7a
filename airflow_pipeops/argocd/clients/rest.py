"""Asynchronous client of the Argo CD REST API: only what PipeOps needs, with typed errors and bounded retries.

What is tried again, and when, is said in :mod:`airflow_pipeops.base.http`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_pipeops.argocd.clients.errors import error_of
from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.rest.applications import ApplicationCalls
from airflow_pipeops.argocd.rest.details import DetailCalls
from airflow_pipeops.argocd.rest.server import ServerCalls
from airflow_pipeops.argocd.rest.streams import StreamCalls
from airflow_pipeops.base.http import Http, tls_context
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import httpx

__all__ = ["AppRef", "ArgoCDClient"]


class ArgoCDClient(ApplicationCalls, DetailCalls, ServerCalls, StreamCalls):
    """One server. Use it as ``async with``.

    :param url: base URL, with the path that the server is served under, if any.
    :param token: bearer token; empty for none.
    :param verify_tls: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it.
    :param timeout: seconds for one call.
    :param attempts: how often a call is tried at most.
    :param pause: seconds before the second attempt; it doubles from there, with jitter.
    :raises InvalidInput: for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        verify_tls: bool = True,
        ca_file: str = "",
        timeout: float = 20.0,
        attempts: int = 4,
        pause: float = 0.5,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput(
                f"{parts.scheme}://{parts.hostname or ''} is no base URL of an Argo CD server",
                field="host",
                remedy="Give it as https://argocd.example.com, with the path of the server if it has one.",
            )
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.http = Http(self.url, self._opened, error_of, timeout=timeout, attempts=attempts, pause=pause)
        self._token = token
        self._verify: bool | str = (ca_file or True) if verify_tls else False
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> ArgoCDClient:
        import httpx

        headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx.AsyncClient(
            headers=headers, verify=self._tls(), timeout=self.timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise RuntimeError("use ArgoCDClient as 'async with'")
        return self._client

    def _tls(self) -> Any:
        return tls_context(self._verify) if isinstance(self._verify, str) else self._verify
