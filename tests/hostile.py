"""Surroundings that are hostile to a test suite, and a program that runs tests in them.

::

    python tests/hostile.py tests/git -q              # all of it at once
    python tests/hostile.py --only git,umask tests    # some of it

Each kind below is something that real machines have: git-lfs and signed commits in Git's configuration, a shell with
another language, an Airflow that is already there. As root, ``/etc/gitconfig`` is replaced too, in a mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a program it knows only its folder

from tests import surroundings  # noqa: E402

#: Ports that a laptop may have in use: those of the demo, of Argo CD, MLflow, PostgreSQL and Kubernetes.
PORTS = (8080, 8081, 5000, 5432, 6443, *range(30080, 30084))

_GIT_CONFIG = """\
[core]
    autocrlf = true
    hooksPath = {folder}/hooks
    attributesFile = {folder}/attributes
    excludesFile = {folder}/ignore
    pager = false
    editor = false
[filter "lfs"]
    process = false
    clean = false
    smudge = false
    required = true
[commit]
    gpgSign = true
    template = {folder}/not-there
[tag]
    gpgSign = true
[gpg]
    program = false
[init]
    defaultBranch = trunk
    templateDir = {folder}/template
[safe]
    bareRepository = explicit
[url "https://mirror.invalid/"]
    insteadOf = file://
    insteadOf = /
    insteadOf = http://
[protocol]
    allow = never
[push]
    default = nothing
    gpgSign = true
[user]
    useConfigOnly = true
[credential]
    helper = "!false"
[color]
    ui = always
[log]
    showSignature = true
    date = relative
[i18n]
    logOutputEncoding = UTF-16
[format]
    pretty = oneline
[http]
    proxy = http://127.0.0.1:9
"""
_HOOK = "#!/bin/sh\nexit 1\n"


def git(folder: Path) -> dict[str, str]:
    """Git's configuration: a person's, the system's, and by environment."""
    (folder / "attributes").write_text("* filter=lfs text eol=crlf export-ignore\n")
    (folder / "ignore").write_text("*\n")
    for place in (folder / "hooks", folder / "template" / "hooks"):
        place.mkdir(parents=True)
        for name in ("pre-commit", "pre-push", "commit-msg", "pre-receive", "post-checkout"):
            (place / name).write_text(_HOOK)
            (place / name).chmod(0o755)
    config = _GIT_CONFIG.format(folder=folder)
    for file in (folder / ".gitconfig", folder / ".config" / "git" / "config", folder / "system"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(config)
    shutil.copy(folder / "attributes", folder / ".config" / "git" / "attributes")
    shutil.copy(folder / "ignore", folder / ".config" / "git" / "ignore")
    return {
        "HOME": str(folder),
        "GIT_CONFIG_SYSTEM": str(folder / "system"),
        # As in a hook of Git that runs the tests before a push.
        "GIT_DIR": str(folder / "not-there"),
        "GIT_INDEX_FILE": str(folder / "not-there" / "index"),
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_SSH_COMMAND": "false",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TRACE": "1",
    }


def language(folder: Path) -> dict[str, str]:
    """A shell without UTF-8."""
    python = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    return {"LC_ALL": "C", "LANG": "tr_TR.ISO-8859-9", "LANGUAGE": "tr", **python}


def clock(folder: Path) -> dict[str, str]:
    """A time zone far away, half an hour off."""
    return {"TZ": "America/St_Johns"}


def proxy(folder: Path) -> dict[str, str]:
    """A proxy that does not answer, for everything, and certificates that are not there."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    missing = {name: str(folder / "not-there") for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
    return {**dict.fromkeys(names, "http://127.0.0.1:9"), "NO_PROXY": "", "no_proxy": "", **missing}


def home(folder: Path) -> dict[str, str]:
    """A home directory with the traces of other tools."""
    (folder / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (folder / ".netrc").chmod(0o600)
    for name in (".kube", ".ssh", ".aws", "airflow", ".config/matplotlib"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / ".kube" / "config").write_text("current-context: elsewhere\nclusters: [nonsense\n")
    (folder / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n")
    (folder / ".aws" / "config").write_text("[default]\nregion = nowhere\n")
    (folder / "airflow" / "airflow.cfg").write_text(
        "[core]\nexecutor = Nonsense\n[database]\nsql_alchemy_conn = x\n"
    )
    caches = {"XDG_CACHE_HOME": "/proc/nowhere", "XDG_CONFIG_HOME": str(folder / ".config")}
    return {"HOME": str(folder), "COLUMNS": "20", "FORCE_COLOR": "1", **caches}


def airflow(folder: Path) -> dict[str, str]:
    """An Airflow that is already there, with another database, executor and connections."""
    place = folder / "other-airflow"
    place.mkdir()
    (place / "airflow.cfg").write_text(
        "[core]\nexecutor = Nonsense\nfernet_key = none\n[logging]\nlogging_level = LOUD\n"
    )
    connection = '{"conn_type": "http", "host": "http://127.0.0.1:9"}'
    return {
        "AIRFLOW_HOME": str(place),
        "AIRFLOW_CONFIG": str(place / "airflow.cfg"),
        "AIRFLOW__CORE__EXECUTOR": "Nonsense",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "True",
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": "Asia/Kathmandu",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////proc/nowhere/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        "AIRFLOW__PIPEOPS__EVIDENCE_URI": "s3://somebody/else",
        "AIRFLOW__SECRETS__BACKEND": "nowhere.Backend",
        **{f"AIRFLOW_CONN_{name}": connection for name in ("ARGOCD_DEFAULT", "GIT_DEFAULT", "REPO", "APP")},
    }


def cluster(folder: Path) -> dict[str, str]:
    """A Kubernetes that somebody works with, or that we seem to run in."""
    (folder / "kubeconfig").write_text("apiVersion: v1\nkind: Config\ncurrent-context: production\n")
    return {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "9",
        "ARGOCD_SERVER": "127.0.0.1:9",
    }


def tools(folder: Path) -> dict[str, str]:
    """Settings of the libraries that are used."""
    return {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
        "MLFLOW_EXPERIMENT_NAME": "other",
        "AWS_PROFILE": "nobody",
        "SPARK_HOME": "/proc/nowhere",
        "OMP_NUM_THREADS": "64",
        "DO_NOT_TRACK": "0",
    }


def python(folder: Path) -> dict[str, str]:
    """A Python that is told to look elsewhere first and to stop at warnings."""
    (folder / "shadow").mkdir()
    for name in ("httpx", "yaml", "tests"):
        (folder / "shadow" / f"{name}.py").write_text("raise ImportError('a module of somebody else')\n")
    return {
        "PYTHONPATH": str(folder / "shadow"),
        "PYTHONHASHSEED": "1",
        "PYTHONWARNINGS": "error::UserWarning",
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "",
        "PYTHONNOUSERSITE": "1",
    }


def umask(folder: Path) -> dict[str, str]:
    """Files that only their owner reads."""
    os.umask(0o077)
    return {}


def ports(folder: Path) -> dict[str, str]:
    """Ports in use; they are held while the tests run, see :func:`main`."""
    return {}


KINDS: dict[str, Callable[[Path], dict[str, str]]] = {
    kind.__name__: kind
    for kind in (git, language, clock, proxy, home, airflow, cluster, tools, python, umask, ports)
}


@contextlib.contextmanager
def _held(numbers: tuple[int, ...]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for number in numbers:
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # in use by somebody else: as good
                listener.bind(("127.0.0.1", number))
                listener.listen()
        yield


def _with_system_config(command: list[str], config: Path) -> list[str]:
    """Let a command see a Git configuration at ``/etc/gitconfig``, where that can be done without touching the machine."""
    if not config.exists() or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return command
    script = 'cp -a /etc "$1/etc" && cp "$2" "$1/etc/gitconfig" && mount --bind "$1/etc" /etc && shift 2 && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(config.parent), str(config), *command]


def run(kinds: list[str], command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in hostile surroundings."""
    before = os.umask(0o022)
    os.umask(before)
    with tempfile.TemporaryDirectory(prefix="pipeops-hostile-") as place:
        folder = Path(place)
        environment = {name: os.environ[name] for name in surroundings.KEPT if name in os.environ}
        try:
            for kind in kinds:
                environment.update(KINDS[kind](folder))
            if "git" in kinds:
                command = _with_system_config(command, folder / "system")
            with _held(PORTS if "ports" in kinds else ()):
                return subprocess.run(command, env=environment, cwd=ROOT, **options)  # type: ignore[call-overload,no-any-return]
        finally:
            os.umask(before)


def pytest(*arguments: str) -> list[str]:
    """Return the command that runs tests as the checks do."""
    return ["bash", "-c", '. .ci/clean; exec "$@"', "bash", sys.executable, "-m", "pytest", *arguments]


def main() -> int:
    """Run pytest with the arguments that are given."""
    arguments, kinds = sys.argv[1:], list(KINDS)
    if arguments[:1] == ["--only"]:
        kinds, arguments = arguments[1].split(","), arguments[2:]
    return run(kinds, pytest(*arguments)).returncode


if __name__ == "__main__":
    sys.exit(main())
