"""Credentials for registries: from an auth file as container tools write it, and to one that engines read."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from airflow_pipeops.base.documents import map_, parsed, text
from airflow_pipeops.build.references import canonical
from airflow_pipeops.build.registry import Credential
from airflow_pipeops.exceptions import InvalidInput

_LIMIT = 1024 * 1024


def read(path: Path, host: str, repository: str = "", *, must: bool = True) -> Credential | None:
    """Find what a ``config.json`` of Docker or an ``auth.json`` of Podman holds for a repository.

    :param repository: the entry that names more of its path comes first.
    :param must: whether somebody has named the file for this registry, so that it has to be of use.
    :return: the credential; ``None`` where the file has none.
    :raises InvalidInput: if the file must be of use and cannot be read, or leaves the login to a program.
    """
    try:
        with open(path, "rb") as file:
            document = map_(parsed(file.read(_LIMIT + 1), _LIMIT))
    except (OSError, ValueError) as error:
        if not must:
            return None
        raise InvalidInput(
            f"the auth file {str(path)!r} cannot be read: {error}",
            field="auth_file",
            value=str(path),
            remedy="Mount a config.json of Docker or an auth.json of Podman where the task runs.",
        ) from error
    entries = {_key(name): map_(entry) for name, entry in map_(document.get("auths")).items()}
    parts = f"{canonical(host)}/{repository}".rstrip("/").split("/")
    for length in range(len(parts), 0, -1):
        found = _credential(entries.get("/".join(parts[:length]), {}))
        if found:
            return found
    helper = map_(document.get("credHelpers")).get(host) or document.get("credsStore")
    if helper and must:
        raise InvalidInput(
            f"the auth file {str(path)!r} leaves the login for {host} to the program docker-credential-{helper}, "
            "which is not run here",
            field="auth_file",
            value=str(path),
            remedy="Log in with a file that holds the credential itself, or use a connection.",
        )
    return None


def default_file() -> Path | None:
    """Return the auth file that engines would read here, if there is one."""
    places = [os.environ.get("REGISTRY_AUTH_FILE", "")]
    places += [
        os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    ]
    return next((Path(place) for place in places if place and os.path.isfile(place)), None)


def write(folder: Path, credentials: Mapping[str, Credential]) -> Path:
    """Write an auth file that only this user may read.

    :param folder: an empty one, which ``DOCKER_CONFIG`` can name.
    :param credentials: registry -> credential.
    :return: the file.
    """
    folder.mkdir(mode=0o700)
    auths = {}
    for host, one in credentials.items():
        key = "https://index.docker.io/v1/" if host == canonical("docker.io") else host
        auths[key] = {"identitytoken": one.identity} if one.identity else {"auth": one.basic}
    path = folder / "config.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"auths": auths}, file)
    return path


def _key(name: str) -> str:
    """Return an entry's name as we look for it: files have URLs, too, with the path of an API that is gone."""
    bare = name.partition("://")[2] or name
    host, _, path = bare.rstrip("/").partition("/")
    return canonical(host) + (f"/{path}" if path and path not in ("v1", "v2") else "")


def _credential(entry: Mapping[str, object]) -> Credential | None:
    if identity := text(entry.get("identitytoken")):
        return Credential(identity=identity)
    login, password = text(entry.get("username")), text(entry.get("password"))
    if packed := text(entry.get("auth")):
        try:
            login, _, password = b64decode(packed).decode().partition(":")
        except ValueError:
            return None
    return Credential(login, password.rstrip("\0")) if login else None
