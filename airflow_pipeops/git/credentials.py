"""Where a repository is, and how git gets in: never by the URL, an argument, or a text that anybody reads."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from airflow_pipeops.base.keys import is_encrypted, private_key
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.urls import parse
from airflow_pipeops.redaction import redacted, remember

#: All that git and its helpers need of the environment. A worker's environment holds secrets that are not theirs. Without
#: HOME no ``.netrc`` logs in and no attributes of a person apply; ssh finds the known hosts without it.
_KEPT = (
    "PATH", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
#: The variable in which a key's passphrase is.
PASSPHRASE = "PIPEOPS_SSH_PASSPHRASE"
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
    :param private_key: an SSH key in PEM or OpenSSH form; also without its line breaks, or as Base64.
    :param private_key_passphrase: of that key, where it has one.
    :param signing_private_key: the SSH key that commits are signed with; without one they are not signed.
    :param signing_private_key_passphrase: of that key, where it has one.
    :param known_hosts: lines of a ``known_hosts`` file; without it, the user's own file counts. Unknown hosts are refused.
    :param ca_file: path of a PEM file, for a private certificate authority.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    known_hosts: str = ""
    ca_file: str = ""
    private_key_passphrase: str = field(default="", repr=False)
    signing_private_key: str = field(default="", repr=False)
    signing_private_key_passphrase: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("private_key", "signing_private_key"):
            key = private_key(name, getattr(self, name))
            if is_encrypted(key) and not getattr(self, f"{name}_passphrase"):
                raise InvalidInput(
                    f"the {name} of the Git connection is encrypted, and there is no passphrase",
                    field=f"{name}_passphrase",
                    remedy=f"Put its passphrase into {name}_passphrase, or give a key without one.",
                )
            object.__setattr__(self, name, key)
        remember(self.password, self.private_key_passphrase, self.signing_private_key_passphrase)
        for name in ("username", "password"):
            if any(ord(character) < 32 for character in getattr(self, name)):
                raise InvalidInput(
                    f"the {name} of the Git connection holds a control character, such as a line break",
                    field=name,
                    remedy="Paste it again without the line break.",
                )


def apart(url: str, credentials: Credentials) -> tuple[str, Credentials]:
    """Take a user name out of an http(s) URL: every process of the machine can read it there, and it may be a token.

    :return: the URL without it, and the credentials with it.
    :raises InvalidInput: if there is no password for it: then it is one, or of no use.
    """
    parts = parse(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.user:
        return url, credentials
    if not credentials.password:
        raise InvalidInput(
            "the repository URL holds a user name or a token, and the connection no password",
            field="host",
            value=shown(url),
            remedy="Take it out of the URL: a token belongs into the password field, a user name into the login field.",
        )
    if parts.user != credentials.username:
        remember(parts.user)
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    bare = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return bare, credentials if credentials.username else replace(credentials, username=parts.user)


def shown(url: str) -> str:
    """Return a URL as people may see it."""
    return _URL_SECRET.sub("***@", redacted(url))


def repository_url(url: str) -> str:
    """Refuse what is no URL or path of a repository.

    :return: the URL or path.
    :raises InvalidInput: for another transport than https, http, ssh and file, or for a password inside.
    """
    remedy = "Use https://host/team/repo.git, ssh://git@host/team/repo.git, git@host:team/repo.git or an absolute path."
    said = shown(url or "")
    parts = parse(url or "")
    if parts is None:
        raise InvalidInput(
            f"{said!r} is not the URL of a repository", field="host", value=said, remedy=remedy
        )
    if parts.scheme not in ("https", "http", "ssh", "file") or parts.host.startswith("-"):
        raise InvalidInput(
            f"{said!r} is not a transport that is allowed", field="host", value=said, remedy=remedy
        )
    if parts.password:
        raise InvalidInput(
            "the repository URL holds a password",
            field="host",
            value=said,
            remedy="Put the user name and the password into the connection's own fields.",
        )
    return url


def environment(url: str, credentials: Credentials, private_dir: Path | None) -> dict[str, str]:
    """Build the environment in which git runs.

    :param private_dir: a directory of our own for key files; needed only with a key or known hosts.
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
    if private_dir is not None and credentials.signing_private_key:
        key = private_dir / "signing_private_key"
        _write_private(key, credentials.signing_private_key)
        config |= {"gpg.format": "ssh", "user.signingKey": str(key)}
    if private_dir is not None and (
        credentials.private_key_passphrase or credentials.signing_private_key_passphrase
    ):
        # OpenSSH asks a program for a passphrase; ours reads it from the environment, where no other user can look.
        program = private_dir / "askpass"
        _write_private(program, f'#!/bin/sh\nprintf "%s\\n" "${PASSPHRASE}"\n')
        program.chmod(0o700)
        result |= {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
        result[PASSPHRASE] = credentials.private_key_passphrase
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
        _write_private(key, credentials.private_key)
        command += ["-i", str(key)]
        options["IdentitiesOnly"] = "yes"
        if credentials.private_key_passphrase:
            # The batch mode would not ask for it; nothing else may be asked for.
            options |= {
                "BatchMode": "no",
                "PasswordAuthentication": "no",
                "KbdInteractiveAuthentication": "no",
            }
    if private_dir is not None and credentials.known_hosts:
        hosts = private_dir / "known_hosts"
        _write_private(hosts, credentials.known_hosts.replace("\\n", "\n").strip() + "\n")
        options["UserKnownHostsFile"] = str(hosts)
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    return shlex.join(command)


def _write_private(path: Path, content: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
