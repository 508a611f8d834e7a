"""From an Airflow connection to a container registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from airflow_pipeops.base.arguments import flag
from airflow_pipeops.base.connections import only, read, seconds, without_id
from airflow_pipeops.build import logins
from airflow_pipeops.build.references import HUB, REPOSITORY, Reference, canonical, parse
from airflow_pipeops.build.registry import Credential, Registry
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError


@dataclass(frozen=True)
class RegistrySettings:
    """What a connection says of a registry.

    :param host: name, with a port if it has one.
    :param path: below which the images are, for example a project; empty for none.
    :param credential: ``None`` for none.
    :param ca_file: PEM file of a private certificate authority; empty for the system's.
    :param verify_tls: whether certificates are checked.
    :param plain: HTTP without TLS.
    :param timeout: seconds without progress after which a call is given up.
    """

    host: str
    path: str = ""
    credential: Credential | None = None
    ca_file: str = ""
    verify_tls: bool = True
    plain: bool = False
    timeout: float = 60.0

    def client(self) -> Registry:
        """Return a client, for use in ``with``."""
        from airflow_pipeops.base.http import tls_context

        verify: Any = tls_context(self.ca_file) if self.ca_file and self.verify_tls else self.verify_tls
        return Registry(
            self.host, credential=self.credential, verify=verify, plain=self.plain, timeout=self.timeout
        )

    def reference(self, image: str) -> Reference:
        """Return the name of an image in this registry.

        :param image: its repository below the connection's path.
        :return: the reference, without tag and digest.
        """
        path = "/".join(filter(None, (self.path, image)))
        return parse(f"{self.host}/{path}")


class RegistryHook(BaseHook):
    """A container registry.

    :param registry_conn_id: connection of type ``container_registry``, or ``docker`` as Airflow's provider of Docker has it:
        host with an optional path, login and password.
    """

    conn_name_attr = "registry_conn_id"
    default_conn_name = "container_registry_default"
    conn_type = "container_registry"
    hook_name = "Container registry"

    def __init__(self, registry_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.registry_conn_id = registry_conn_id

    def settings(self) -> RegistrySettings:
        """Return what the connection says. Holds the credential: never log it, never hand it on.

        :return: the settings.
        :raises InvalidInput: naming the field that is wrong.
        """
        name = self.registry_conn_id
        connection = read(name, self.conn_type)
        extra = connection.extra_dejson
        if connection.conn_type != "docker":  # whose extra is for Docker's own client
            only(name, extra, "auth_file", "ca_file", "verify_tls", "timeout")
        given = str(connection.host or "")
        try:
            parts = urlsplit(given if "://" in given else f"https://{given}")
            host, port = parts.hostname or "", parts.port or connection.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        path = parts.path.strip("/")
        if canonical(host) == HUB:
            host, path = HUB, path if path not in ("v1", "v2") else ""
        if not host or parts.username is not None or not (REPOSITORY.fullmatch(path) or not path):
            raise InvalidInput(
                f"connection {name!r} names no registry",
                field=f"{name}.host",
                value=None if parts.username else given,
                remedy="Set its host to the registry, such as registry.example.com/team; http:// for one without TLS.",
            )
        where = f"{host}:{port}" if port else host
        credential = Credential(connection.login, connection.password or "") if connection.login else None
        if extra.get("auth_file"):
            credential = credential or logins.read(Path(str(extra["auth_file"])), where, path)
        return RegistrySettings(
            host=where,
            path=path,
            credential=credential,
            ca_file=str(extra.get("ca_file") or ""),
            verify_tls=flag("verify_tls", extra.get("verify_tls"), of=f"connection {name!r}"),
            plain=parts.scheme == "http",
            timeout=seconds(name, "timeout", extra.get("timeout"), 60.0),
        )

    def get_conn(self) -> Registry:
        """Return a client, for use in ``with``."""
        return self.settings().client()

    def test_connection(self) -> tuple[bool, str]:
        """Reach the registry, and have the credential accepted."""
        try:
            settings = self.settings()
            with settings.client() as registry:
                registry.check()
        except PipeOpsError as error:
            return False, without_id(self.registry_conn_id, error)
        who = f"as {settings.credential.login or 'its owner'}" if settings.credential else "without a login"
        return True, f"{settings.host} answers, and is used {who}"
