"""Read what leads to a cluster, where that takes no more than reading: a pod's account, a kubeconfig with plain credentials.

Whatever is unusual (credential plugins, several files, contradictions, mistakes) is left to Airflow's own hook, which also
words the errors. That hook imports two generated clients, which costs each process seconds and about a hundred megabytes.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from airflow_pipeops.base.documents import map_, maps, parsed
from airflow_pipeops.kubernetes.endpoint import Endpoint

#: Where a pod finds its own account.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLAIN = {
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
}


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
    """Return the cluster that a kubeconfig leads to; ``None`` if it takes more than reading.

    :param config: as a mapping, or as text.
    :param context: by default the current one.
    :param folder: that relative paths in it start from.
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
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
