"""SSH keys as people paste them, against the real OpenSSH: a server of our own, and signatures that Git verifies."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_pipeops.base.keys import is_encrypted, private_key
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, SystemFailure
from airflow_pipeops.git.credentials import Credentials
from airflow_pipeops.git.repository import Author, GitRepository
from tests.git.conftest import FILE, Remote

PASSPHRASE = "corr3ct horse $battery"


def make_key(folder: Path, *options: str, passphrase: str = "") -> tuple[str, str]:
    """Make a key pair; return the private and the public one."""
    path = folder / f"key-{len(list(folder.iterdir()))}"
    subprocess.run(
        ["ssh-keygen", "-q", *(options or ("-t", "ed25519")), "-N", passphrase, "-f", str(path)], check=True
    )
    return path.read_text(), Path(f"{path}.pub").read_text(encoding="utf-8")


def public_of(key: str, tmp_path: Path, passphrase: str = "") -> str:
    """Return the public key that OpenSSH finds in a private one."""
    path = tmp_path / "found"
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(key)
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", passphrase, "-f", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split()[:2])


PASTED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "line breaks of Windows": lambda key: key.replace("\n", "\r\n"),
    "spaces for line breaks": lambda key: key.replace("\n", " "),
    "no line breaks": lambda key: key.replace("\n", ""),
    "line breaks in JSON": lambda key: key.replace("\n", "\\n"),
    "indented": lambda key: key.replace("\n", "\n    "),
    "in quotes": lambda key: f'"{key}"',
    "Base64 of the file": lambda key: base64.b64encode(key.encode()).decode(),
    "Base64 in lines": lambda key: base64.encodebytes(key.encode()).decode(),
}
KINDS = {
    "ed25519": (("-t", "ed25519"), ""),
    "ed25519 with passphrase": (("-t", "ed25519"), PASSPHRASE),
    "rsa in PEM": (("-t", "rsa", "-b", "2048", "-m", "PEM"), ""),
    "rsa in PEM with passphrase": (("-t", "rsa", "-b", "2048", "-m", "PEM"), PASSPHRASE),
    "rsa in PKCS8 with passphrase": (("-t", "rsa", "-b", "2048", "-m", "PKCS8"), PASSPHRASE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_rebuilt_however_it_was_pasted(kind: str, tmp_path: Path) -> None:
    options, passphrase = KINDS[kind]
    key, public = make_key(tmp_path, *options, passphrase=passphrase)
    for how, paste in PASTED.items():
        found = private_key("private_key", paste(key))
        assert public_of(found, tmp_path, passphrase) == " ".join(public.split()[:2]), how
        assert is_encrypted(found) == bool(passphrase), how


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        ("PuTTY-User-Key-File-3: ssh-ed25519 Encryption: none", "PuTTY"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB ada@host", "public key"),
        ("/home/airflow/.ssh/id_ed25519", "path of a file"),
        ("~/.ssh/id_rsa", "path of a file"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", "cut off"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl***\n-----END OPENSSH PRIVATE KEY-----", "characters"),
        ("s3cr3t-that-is-no-key", "no private key"),
    ],
)
def test_what_is_no_key_is_refused_by_what_it_is_and_not_shown(pasted: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Credentials(private_key=pasted)
    assert caught.value.field == "private_key"
    assert "b3Bl" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("name", ["private_key", "signing_private_key"])
def test_a_key_with_a_passphrase_wants_it(name: str, tmp_path: Path) -> None:
    key, _ = make_key(tmp_path, passphrase=PASSPHRASE)
    with pytest.raises(InvalidInput, match=f"{name}_passphrase") as caught:
        Credentials(**{name: key})
    assert caught.value.field == f"{name}_passphrase"
    shown = repr(Credentials(**{name: key, f"{name}_passphrase": PASSPHRASE}))
    assert PASSPHRASE not in shown
    assert "BEGIN" not in shown


@pytest.fixture
def ssh_server(remote: Remote, tmp_path: Path) -> Iterator[Callable[[str], tuple[str, str]]]:
    """A real sshd: give it a public key that may enter, and get the repository's URL and the known hosts."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "sshd is not here: run .ci/engines"
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    _, host = make_key(folder)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "key-0", "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "PermitRootLogin": "yes", "PermitUserEnvironment": "no",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    command = [program, "-D", "-E", str(folder / "log"), "-f", str(folder / "config")]
    server = subprocess.Popen(command)

    def admit(public: str) -> tuple[str, str]:
        (folder / "authorized").write_text(public)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        return f"ssh://{user}@127.0.0.1:{port}{remote.path}", f"[127.0.0.1]:{port} {host}"

    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            up = server.poll() is None and time.monotonic() < deadline
            assert up, (folder / "log").read_text()
    yield admit
    server.terminate()
    server.wait(30)


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_key_pasted_as_one_line_opens_a_repository(
    remote: Remote, ssh_server: Callable[[str], tuple[str, str]], tmp_path: Path, passphrase: str
) -> None:
    key, public = make_key(tmp_path, passphrase=passphrase)
    url, hosts = ssh_server(public)
    opening = Credentials(
        private_key=key.replace("\n", " "), private_key_passphrase=passphrase, known_hosts=hosts
    )
    assert GitRepository(url, credentials=opening, cache_dir=tmp_path / "cache").fetch() == remote.tip()
    if passphrase:
        wrong = Credentials(private_key=key, private_key_passphrase="wr0ng one", known_hosts=hosts)
        with pytest.raises(AccessDenied, match="passphrase") as caught:
            GitRepository(url, credentials=wrong, cache_dir=tmp_path / "other", attempts=1).fetch()
        assert "wr0ng one" not in str(caught.value)


def verified(remote: Remote, commit: str, public: str, tmp_path: Path) -> bool:
    """Whether Git finds a good signature of this key."""
    allowed = tmp_path / "allowed"
    allowed.write_text(f"bot@example.com {public}")
    settings = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    done = subprocess.run(
        ["git", *settings, "verify-commit", commit], cwd=remote.path, capture_output=True, text=True
    )
    return done.returncode == 0 and "Good" in done.stderr


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_commits_are_signed_with_an_ssh_key(remote: Remote, tmp_path: Path, passphrase: str) -> None:
    key, public = make_key(tmp_path, passphrase=passphrase)
    opening = Credentials(
        signing_private_key=key.replace("\n", ""), signing_private_key_passphrase=passphrase
    )
    client = remote.client(tmp_path / "cache", credentials=opening, author=Author("Bot", "bot@example.com"))
    change = client.commit_edit(FILE, {"replicas[name=web].count": 2}, "Two", key="a/b/c/-1")
    assert remote.tip() == change.commit
    assert verified(remote, change.commit, public, tmp_path)
    undone = client.revert(change.commit, "No.", key="a/b/d/-1")
    assert verified(remote, undone.commit, public, tmp_path)
    # A retry of the same act finds its commit, signature and all.
    assert client.commit_edit(FILE, {"replicas[name=web].count": 3}, "Three", key="x").changed
    _, stranger = make_key(tmp_path)
    assert not verified(remote, change.commit, stranger, tmp_path)


def test_a_wrong_passphrase_of_the_signing_private_key_writes_nothing(remote: Remote, tmp_path: Path) -> None:
    key, _ = make_key(tmp_path, passphrase=PASSPHRASE)
    before = remote.tip()
    opening = Credentials(signing_private_key=key, signing_private_key_passphrase="wr0ng one")
    with pytest.raises(SystemFailure, match="passphrase") as caught:
        remote.client(tmp_path / "cache", credentials=opening).commit_edit(
            FILE, {"replicas[name=web].count": 2}, "Two", key="k"
        )
    assert not caught.value.retryable
    assert "wr0ng" not in str(caught.value)
    assert remote.tip() == before
