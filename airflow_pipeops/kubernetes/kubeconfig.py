"""Where a cluster's API is, and how to show who one is: from a pod's account, or a kubeconfig with plain credentials.

Whatever is unusual (credential plugins, several files, contradictions, mistakes) is left to Airflow's own hook, which also
words the errors. That hook imports two generated clients, which costs each process seconds and about a hundred megabytes.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml

from airflow_pipeops.base.authorities import changed
from airflow_pipeops.base.documents import map_, maps, parsed
from airflow_pipeops.base.http import sendable, tls_context
from airflow_pipeops.redaction import remember_header

if TYPE_CHECKING:
    import aiohttp
    import httpx

#: Where a pod finds its own account.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HEADERS = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
#: Seconds for which a connection is kept that nobody uses: servers and what is before them close theirs after longer.
_KEPT = 5.0
_PLAIN = {
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
}


@dataclass(frozen=True)
class Endpoint:
    """One API server, and a credential for it.

    :param url: base URL.
    :param authorization: value of the header of that name; empty where a client certificate is used, or nothing.
    :param verify: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it; empty for the system's.
    :param cert_file: PEM file of a client certificate.
    :param key_file: PEM file of its key.
    :param ca_data: the same as text.
    :param cert_data: the client certificate as text.
    :param key_data: its key as text.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "authorization", sendable(self.authorization))


#: Returns the endpoint as it is now. Asked before each call: the credential of a pod, or of a plugin, changes with time.
Source = Callable[[], Awaitable[Endpoint]]


class Connection:
    """Keeps HTTP clients open for an endpoint, and makes new ones when something about the endpoint changes.

    :param source: returns the endpoint.
    :param timeout: seconds for one call.
    """

    def __init__(self, source: Source, timeout: float) -> None:
        self._source, self._timeout = source, timeout
        self._endpoint: Endpoint | None = None
        self._client: httpx.AsyncClient | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tls: Any = None
        self._proxied = False

    @property
    def url(self) -> str:
        """The base URL; empty before the first call."""
        return self._endpoint.url.rstrip("/") if self._endpoint else ""

    @property
    def headers(self) -> dict[str, str]:
        """Headers that say who calls."""
        authorization = self._endpoint.authorization if self._endpoint else ""
        return {**_HEADERS, **({"Authorization": authorization} if authorization else {})}

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must bear; ``None`` for the URL's."""
        return (self._endpoint and self._endpoint.server_name) or None

    async def opened(self) -> httpx.AsyncClient:
        """Return the client for the endpoint as it is now."""
        endpoint = await self._now()
        if self._client is None:
            self._client = self._make(endpoint)
        if endpoint.authorization:
            # A new token is no reason to break the streams that the old one opened.
            self._client.headers["Authorization"] = endpoint.authorization
        return self._client

    async def session(self) -> aiohttp.ClientSession | None:
        """Return a client for many calls to the endpoint as it is now.

        :return: the client; ``None`` where the way leads through a proxy, which the other client knows better.
        """
        endpoint = await self._now()
        if self._proxied:
            return None
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(ssl=self._tls, keepalive_timeout=_KEPT)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
                auto_decompress=False,
            )
            # It would make a DELETE or a PUT again whose answer was lost, and each read twice as often as it was told.
            self._session._retry_connection = False
        remember_header(endpoint.authorization)
        return self._session

    async def _now(self) -> Endpoint:
        found = await self._source()
        kept = self._endpoint and replace(self._endpoint, authorization=found.authorization)
        if found == kept:
            self._endpoint = found
        else:
            self._tls, self._proxied = _verify(found), bool(found.proxy) or _proxied(found.url)
            self._endpoint = found
            # A stream that is still open ends, and is taken up again by its reader.
            await self.close()
        return self._endpoint  # by then, another call may have found a newer one

    async def close(self) -> None:
        """Close the clients."""
        client, self._client = self._client, None
        session, self._session = self._session, None
        if client is not None:
            await client.aclose()
        if session is not None:
            await session.close()

    def _make(self, endpoint: Endpoint) -> httpx.AsyncClient:
        import httpx

        async def name_server(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = endpoint.server_name

        return httpx.AsyncClient(
            headers=_HEADERS,
            verify=self._tls,
            event_hooks={"request": [name_server]} if endpoint.server_name else {},
            timeout=self._timeout,
            proxy=endpoint.proxy or None,
            follow_redirects=False,
        )


def _proxied(url: str) -> bool:
    """Whether the environment names a proxy for a URL; where httpx may see it otherwise than urllib, it does."""
    try:
        parts = urlsplit(url)
    except ValueError:  # for example https://[::1: who calls it says so
        return False
    proxies, host = getproxies(), parts.hostname or ""
    # Of NO_PROXY, .example.com names example.com itself, too, to urllib alone.
    below = f".{host}" in proxies.get("no", "").lower().replace(" ", "").split(",")
    return bool((parts.scheme in proxies or "all" in proxies) and (below or not proxy_bypass(host)))


def pod_endpoint() -> Endpoint | None:
    """Return the cluster that this pod runs in; ``None`` outside of one."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    token, authority = _text(ACCOUNT / "token"), ACCOUNT / "ca.crt"
    if not host or not port or not token or not authority.is_file():
        return None
    name = f"[{host}]" if ":" in host else host
    return Endpoint(f"https://{name}:{port}", authorization=f"Bearer {token}", ca_file=str(authority))


def file_endpoint(path: Path, context: str = "") -> Endpoint | None:
    """Return the cluster that a kubeconfig file leads to; ``None`` if it takes more than reading."""
    text = _text(path.expanduser())
    return config_endpoint(text, context, path.expanduser().parent) if text else None


def config_endpoint(config: Any, context: str = "", folder: Path | None = None) -> Endpoint | None:
    """Find the cluster that a kubeconfig leads to.

    :param config: as a mapping, or as text.
    :param context: by default the current one.
    :param folder: that relative paths in it start from.
    :return: the cluster; ``None`` if it takes more than reading.
    """
    if isinstance(config, str):
        try:
            config = parsed(config) if config.lstrip().startswith("{") else yaml.safe_load(config)
        except (ValueError, yaml.YAMLError):
            return None
    config = map_(config)
    chosen = _named(config.get("contexts"), context or config.get("current-context"), "context")
    cluster = _named(config.get("clusters"), chosen.get("cluster"), "cluster")
    user = _named(config.get("users"), chosen.get("user"), "user")
    if not cluster.get("server") or set(user) - _PLAIN or ("token" in user and "tokenFile" in user):
        return None
    try:
        return Endpoint(
            url=str(cluster["server"]).rstrip("/"),
            authorization=_bearer(user, folder),
            verify=not cluster.get("insecure-skip-tls-verify"),
            server_name=str(cluster.get("tls-server-name") or ""),
            proxy=str(cluster.get("proxy-url") or ""),
            **_pem(cluster, "certificate-authority", "ca", folder),
            **_pem(user, "client-certificate", "cert", folder),
            **_pem(user, "client-key", "key", folder),
        )
    except (OSError, ValueError, binascii.Error):
        return None


def _verify(endpoint: Endpoint) -> Any:
    import ssl

    named = (endpoint.ca_file, endpoint.ca_data, endpoint.cert_file, endpoint.cert_data)
    if endpoint.verify and not any(named):
        paths = ssl.get_default_verify_paths()
        return _authorities(paths.cafile, paths.capath, changed(paths.cafile))
    return _context(endpoint)


@lru_cache(maxsize=1)
def _authorities(file: str | None, folder: str | None, changed: int) -> Any:
    return _context(Endpoint(""))


def _context(endpoint: Endpoint) -> Any:
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
    path.write_text(text, encoding="utf-8")
    return str(path)


def _bearer(user: Mapping[str, Any], folder: Path | None) -> str:
    token = user.get("token")
    if user.get("tokenFile"):
        token = _path(user["tokenFile"], folder).read_text().strip()
    return f"Bearer {token}" if token else ""


def _pem(holder: Mapping[str, Any], key: str, name: str, folder: Path | None) -> dict[str, str]:
    """Return a certificate or key: its text where the kubeconfig holds it, else its path."""
    if holder.get(f"{key}-data"):
        return {f"{name}_data": base64.b64decode(holder[f"{key}-data"], validate=True).decode()}
    if not holder.get(key):
        return {}
    path = _path(holder[key], folder)
    if not path.is_file():
        raise FileNotFoundError(path)
    return {f"{name}_file": str(path)}


def _path(value: Any, folder: Path | None) -> Path:
    path = Path(str(value)).expanduser()
    if not path.is_absolute() and folder is None:
        raise ValueError("a relative path, and nothing that it is relative to")
    return path if path.is_absolute() or folder is None else folder / path


def _named(items: Any, name: Any, key: str) -> Mapping[str, Any]:
    found = (item for item in maps(items) if name and item.get("name") == name)
    return map_(next(found, {}).get(key))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
