"""Helm itself: found, asked for its version, and run so that a kill of the task ends it gently."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_pipeops.base.folders import PrivateFolder
from airflow_pipeops.exceptions import InvalidInput, WaitTimeout
from airflow_pipeops.kubernetes.kubeconfig import Endpoint

#: The oldest that serves.
OLDEST = (3, 17)
#: Seconds that Helm has to write down that it was interrupted, and in which a killed task still lives.
GRACE = 30.0
_KEPT = (
    "PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_HOW = (
    "Put Helm 3.17 or newer, or Helm 4, into the image of the Airflow workers (https://helm.sh/docs/intro/install), or name "
    "the program in the operator's helm, or as helm_path in the extra of the cluster's connection."
)


@dataclass(frozen=True)
class Said:
    """How a run of Helm ended.

    :param code: its exit code: 0 or 1, or negative for a signal.
    :param output: its standard output.
    :param complaints: its standard error.
    """

    code: int
    output: str
    complaints: str


class Helm:
    """Runs Helm for one release namespace, with a home of its own that nobody else may read. Use it as ``with``.

    :param program: its name or path.
    :param namespace: of the release.
    :param say: is told which command runs.
    """

    def __init__(self, program: str, namespace: str, say: Callable[[str], None] = lambda line: None) -> None:
        found = shutil.which(program)
        if found is None:
            raise InvalidInput(
                f"there is no program {program!r} here", field="helm", value=program, remedy=_HOW
            )
        self._program, self._namespace, self._say = found, namespace, say
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._folder = PrivateFolder("pipeops-helm-")
        self.place = self._folder.path
        self.version = ""

    def __enter__(self) -> Helm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.close()

    @property
    def major(self) -> int:
        """Its major version; 0 before :meth:`check`."""
        return int(self.version.removeprefix("v").partition(".")[0] or 0)

    def check(self) -> None:
        """Ask for its version.

        :raises InvalidInput: for one that does not serve.
        """
        said = self.run("version", "--template", "{{.Version}}", timeout=60, anywhere=True)
        found = re.fullmatch(r"v(\d+)\.(\d+)\.\S+", said.output.strip())
        if not found or (int(found[1]), int(found[2])) < OLDEST or int(found[1]) > 4:
            told = said.output.strip() or said.complaints.strip() or "nothing"
            raise InvalidInput(
                f"{self._program} is no Helm that serves: asked for its version, it says {told[:200]}",
                field="helm",
                value=self._program,
                remedy=_HOW,
            )
        self.version = said.output.strip()

    def reach(self, endpoint: Endpoint) -> None:
        """Write down how the cluster is reached."""
        self.keep("kubeconfig", json.dumps(kubeconfig_of(endpoint, self._namespace)))

    def keep(self, name: str, content: str) -> Path:
        """Write a file that only this user may read, and that goes with this object."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def run(self, *arguments: str, timeout: float, anywhere: bool = False) -> Said:
        """Run it to its end.

        What it says goes to files: a Helm whose task is dead must be able to finish, and not die of a closed pipe.

        :param timeout: seconds; a longer run is ended.
        :param anywhere: the command knows no namespace.
        :return: how it ended.
        :raises WaitTimeout: if it was ended for its length.
        """
        where = () if anywhere else ("--namespace", self._namespace)
        if not anywhere:
            self._say("helm " + " ".join(arguments[:2]))
        with tempfile.TemporaryFile(dir=self.place) as output, tempfile.TemporaryFile(dir=self.place) as said:
            self._process = subprocess.Popen(
                [self._program, *arguments, *where],
                cwd=self.place,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=said,
                start_new_session=True,
                pass_fds=(self._folder.lock,),
            )
            try:
                if self._killed:
                    self.kill()
                code = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise WaitTimeout(
                    f"helm {arguments[0]} did not end within {timeout:g} s",
                    remedy="Raise helm_timeout, or see which hook does not end.",
                ) from None
            for file in (output, said):
                file.seek(0)
            return Said(
                code, output.read().decode("utf-8", "replace"), said.read().decode("utf-8", "replace")
            )

    def kill(self) -> None:
        """End it: it is asked to first, since it then writes down that it failed, and holds nobody up."""
        self._killed = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        end = time.monotonic() + GRACE
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        home = self.place
        return {
            **kept,
            "HOME": str(home),
            "KUBECONFIG": str(home / "kubeconfig"),
            "HELM_DRIVER": "secret",
            "HELM_REGISTRY_CONFIG": str(home / "registry.json"),
            "HELM_REPOSITORY_CONFIG": str(home / "repositories.yaml"),
        }


def kubeconfig_of(endpoint: Endpoint, namespace: str) -> dict[str, Any]:
    """Write the kubeconfig that leads to a cluster.

    :param endpoint: where it is, and the credential for it.
    :param namespace: the default one.
    :return: the kubeconfig.
    """
    cluster: dict[str, Any] = {"server": endpoint.url}
    user: dict[str, Any] = {}
    given: tuple[tuple[dict[str, Any], str, str, str], ...] = (
        (cluster, "certificate-authority", endpoint.ca_file, endpoint.ca_data),
        (user, "client-certificate", endpoint.cert_file, endpoint.cert_data),
        (user, "client-key", endpoint.key_file, endpoint.key_data),
    )
    for holder, name, path, data in given:
        if data:
            holder[f"{name}-data"] = base64.b64encode(data.encode()).decode()
        elif path:
            holder[name] = str(Path(path).absolute())
    if not endpoint.verify:
        # Go refuses an authority beside it.
        cluster = {"server": endpoint.url, "insecure-skip-tls-verify": True}
    if endpoint.server_name:
        cluster["tls-server-name"] = endpoint.server_name
    if endpoint.proxy:
        cluster["proxy-url"] = endpoint.proxy
    scheme, _, token = endpoint.authorization.partition(" ")
    if scheme == "Bearer":
        user["token"] = token
    context: Mapping[str, str] = {"cluster": "cluster", "user": "user", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "context",
        "contexts": [{"name": "context", "context": context}],
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
    }
