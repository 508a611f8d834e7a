"""Where a repository is, and how git gets in: never by the URL, an argument, or a text that anybody reads."""

from __future__ import annotations

import os
import re
import shlex
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.urls import parse

#: All that git and its helpers need of the environment. A worker's environment holds secrets that are not theirs. Without
#: HOME no ``.netrc`` logs in and no attributes of a person apply; ssh finds the known hosts without it.
_KEPT = (
    "PATH", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_URL_SECRET = re.compile(r"(?<=://)[^/\s@]+@")

#: Given to git by environment, so that nothing in a repository or in a home directory decides what runs.
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "protocol.ext.allow": "never",
    "credential.helper": "",
    "core.askPass": "",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "push.gpgSign": "false",
    "commit.gpgSign": "false",
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
    "advice.detachedHead": "false",
    # A server that stalls in the middle of an answer.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "30",
}


@dataclass(frozen=True)
class Credentials:
    """What opens a repository; all of it optional.

    :param username: for http(s); a token alone needs none.
    :param password: password or token, for http(s).
    :param private_key: an SSH key in PEM or OpenSSH form.
    :param known_hosts: lines of a ``known_hosts`` file; without it, the user's own file counts. Unknown hosts are refused.
    :param ca_file: path of a PEM file, for a private certificate authority.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    known_hosts: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        for name in ("username", "password"):
            if any(ord(character) < 32 for character in getattr(self, name)):
                raise InvalidInput(
                    f"the {name} of the Git connection holds a control character, such as a line break",
                    field=name,
                    remedy="Paste it again without the line break.",
                )

    def secrets(self) -> tuple[str, ...]:
        """Return every text that must not be shown, longest first."""
        found = {self.private_key, self.private_key.strip()}
        if self.password:
            pair = f"{self.username}:{self.password}".encode()
            found |= {self.password, quote(self.password, safe=""), b64encode(pair).decode()}
        return tuple(sorted(filter(None, found), key=len, reverse=True))

    def mask(self, text: str) -> str:
        """Return a text without any secret."""
        for secret in self.secrets():
            text = text.replace(secret, "***")
        return _URL_SECRET.sub("***@", text)


def repository_url(url: str) -> str:
    """Refuse what is no URL or path of a repository.

    :return: the URL or path.
    :raises InvalidInput: for another transport than https, http, ssh and file, or for a password inside.
    """
    remedy = "Use https://host/team/repo.git, ssh://git@host/team/repo.git, git@host:team/repo.git or an absolute path."
    shown = _URL_SECRET.sub("***@", url or "")
    parts = parse(url or "")
    if parts is None:
        raise InvalidInput(
            f"{shown!r} is not the URL of a repository", field="host", value=shown, remedy=remedy
        )
    if parts.scheme not in ("https", "http", "ssh", "file") or parts.host.startswith("-"):
        raise InvalidInput(
            f"{shown!r} is not a transport that is allowed", field="host", value=shown, remedy=remedy
        )
    if parts.password:
        raise InvalidInput(
            "the repository URL holds a password",
            field="host",
            value=shown,
            remedy="Put the user name and the password into the connection's own fields.",
        )
    return url


def environment(url: str, credentials: Credentials, private_dir: Path | None) -> dict[str, str]:
    """Build the environment in which git runs.

    :param private_dir: a directory of our own for the key file; needed only with a private key or known hosts.
    :return: its variables.
    """
    result = {name: os.environ[name] for name in _KEPT if name in os.environ}
    config = dict(_CONFIG)
    parts = parse(url)
    if parts is not None and parts.scheme in ("http", "https") and credentials.password:
        # The helper is asked for this origin only, and takes the secret from its environment.
        config[f"credential.{parts.origin}.helper"] = (
            '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$PIPEOPS_GIT_USERNAME" '
            '"$PIPEOPS_GIT_PASSWORD"; }; f'
        )
        result["PIPEOPS_GIT_USERNAME"] = credentials.username or parts.user or "x-access-token"
        result["PIPEOPS_GIT_PASSWORD"] = credentials.password
    if credentials.ca_file:
        config["http.sslCAInfo"] = credentials.ca_file
    result.update(
        {
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "https:http:ssh:file",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": _ssh_command(credentials, private_dir),
            "GIT_CONFIG_COUNT": str(len(config)),
        }
    )
    if not credentials.private_key and "SSH_AUTH_SOCK" in os.environ:
        result["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    result.update(_numbered(config))
    return result


def _numbered(config: Mapping[str, str]) -> dict[str, str]:
    result = {}
    for number, (key, value) in enumerate(config.items()):
        result[f"GIT_CONFIG_KEY_{number}"], result[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return result


def _ssh_command(credentials: Credentials, private_dir: Path | None) -> str:
    options = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "15"}
    command = ["ssh", "-F", os.devnull]
    if private_dir is not None and credentials.private_key:
        key = private_dir / "key"
        _write_private(key, credentials.private_key.replace("\r\n", "\n").strip() + "\n")
        command += ["-i", str(key)]
        options["IdentitiesOnly"] = "yes"
    if private_dir is not None and credentials.known_hosts:
        hosts = private_dir / "known_hosts"
        _write_private(hosts, credentials.known_hosts.strip() + "\n")
        options["UserKnownHostsFile"] = str(hosts)
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    return shlex.join(command)


def _write_private(path: Path, content: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
