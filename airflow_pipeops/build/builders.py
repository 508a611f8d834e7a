"""Build an image from a source tree by Buildah, Podman or Docker.

Every builder leaves its image in an OCI layout, named by digest and never by tag. What an engine needs to know of
registries it is given as files that nobody else may read; no credential is an argument or a variable.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from airflow_pipeops.base.arguments import imported, one_of
from airflow_pipeops.build import oci
from airflow_pipeops.build.process import Command, Finished, environment
from airflow_pipeops.exceptions import BuildFailed, InvalidInput, Unreachable

#: Of our environment, what an engine needs to find its service, its storage, its proxy and its registry logins.
_ENGINE_ENV = (
    "BUILDAH_ISOLATION", "STORAGE_DRIVER", "STORAGE_OPTS", "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF", "XDG_RUNTIME_DIR", "XDG_DATA_HOME",
    "REGISTRY_AUTH_FILE", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_PROBE = timedelta(seconds=20)

#: Starts a command and waits for it; the operator keeps the command, so that a kill reaches it.
Run = Callable[[Command], Finished]


@dataclass(frozen=True)
class Access:
    """How the engine reaches the registries of the base images.

    :param auth_file: a ``config.json`` with the logins; the only file of its folder.
    :param certs: folder with the certificates of private authorities, ``*.crt``.
    :param insecure: whether a registry is without TLS, or is not to be checked.
    """

    auth_file: Path | None = None
    certs: Path | None = None
    insecure: bool = False


@dataclass(frozen=True)
class Recipe:
    """What is built.

    :param context: the source tree.
    :param file: the Containerfile, which need not be in it.
    :param arguments: build arguments.
    :param target: stage to build; empty for the last.
    :param platform: for example ``linux/arm64``; empty for the machine's own.
    :param epoch: what every time stamp within the image is set to, in seconds.
    """

    context: Path
    file: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    epoch: int = 0


class Builder(Protocol):
    """Something that turns a source tree into an image in an OCI layout."""

    name: str
    #: Whether the base images have to be there, and so are looked up.
    needs_bases: bool

    def unusable(self) -> str:
        """Return why it cannot work here; empty if it can."""
        ...

    def obtain(self, base: str, platform: str = "") -> str:
        """Make a base image available; return why that is impossible, or an empty string."""
        ...

    def build(self, recipe: Recipe, scratch: Path) -> oci.Layout:
        """Build, and return a layout below ``scratch``, which is empty, that holds this one image."""
        ...


class _Engine:
    """What the command-line engines have in common."""

    needs_bases = True
    name = ""

    def __init__(self, run: Run, timeout: timedelta, on_line: Callable[[str], None], access: Access) -> None:
        self._start = run
        self._timeout = timeout
        self._on_line = on_line
        self._access = access

    def _run(self, *arguments: str, timeout: timedelta | None = None, quiet: bool = False) -> Finished:
        return self._start(
            Command(
                [self.name, *arguments],
                cwd=Path("/"),
                env=environment(Path.home(), self._extra(), keep=_ENGINE_ENV),
                timeout=timeout or self._timeout,
                on_line=(lambda line: None) if quiet else self._on_line,
            )
        )

    def _extra(self) -> Mapping[str, str]:
        return {}

    def _reach(self) -> tuple[str, ...]:
        """Return the options of a command that talks to a registry."""
        return ()

    def _must(self, *arguments: str) -> Finished:
        finished = self._run(*arguments)
        if finished.timed_out:
            raise BuildFailed(
                f"{self.name} {arguments[0]} did not end within {self._timeout.total_seconds():g} s",
                remedy="Raise timeout, or look at the end of the log.",
            )
        if finished.status != 0:
            step, said = failed_step(finished.output)
            raise BuildFailed(
                f"{self.name}: {step} failed:\n{said}\n"
                if step
                else f"{self.name} {arguments[0]} ended with status {finished.status}: {said}"
            )
        return finished

    def unusable(self) -> str:
        """Return why it cannot work here: not installed, or its service or storage does not answer."""
        if shutil.which(self.name) is None:
            return "not installed"
        finished = self._run("info", timeout=_PROBE, quiet=True)
        if finished.timed_out:
            return "does not answer"
        return "" if finished.status == 0 else (finished.output.strip().splitlines() or ["does not work"])[-1]

    def obtain(self, base: str, platform: str = "") -> str:
        """Pull a base image; return why that is impossible, or an empty string."""
        if base.startswith("-"):
            raise InvalidInput(f"base image {base!r} begins with a dash", field="FROM", value=base)
        # What is there may be of another platform.
        if not platform and self._run(*self._exists(base), timeout=_PROBE, quiet=True).status == 0:
            return ""
        wanted = (f"--platform={platform}",) if platform else ()
        finished = self._run("pull", *self._reach(), *wanted, base)
        return (
            ""
            if finished.status == 0
            else (finished.output.strip().splitlines() or ["pull failed"])[-1][-500:]
        )

    def _exists(self, base: str) -> tuple[str, ...]:
        return ("inspect", "--type=image", base)


def _options(recipe: Recipe) -> tuple[str, ...]:
    return (
        *(f"--build-arg={name}={value}" for name, value in recipe.arguments.items()),
        *((f"--target={recipe.target}",) if recipe.target else ()),
        *((f"--platform={recipe.platform}",) if recipe.platform else ()),
    )


class ContainersEngine(_Engine):
    """Buildah or Podman, which share their options. No daemon, and no root is needed.

    ``RUN`` steps are isolated by chroot (unless ``BUILDAH_ISOLATION`` says otherwise), which works inside a container.
    """

    def __init__(
        self, name: str, run: Run, timeout: timedelta, on_line: Callable[[str], None], access: Access
    ) -> None:
        super().__init__(run, timeout, on_line, access)
        self.name = name

    def _reach(self) -> tuple[str, ...]:
        access = self._access
        return (
            *((f"--authfile={access.auth_file}",) if access.auth_file else ()),
            *((f"--cert-dir={access.certs}",) if access.certs else ()),
            *(("--tls-verify=false",) if access.insecure else ()),
        )

    def build(self, recipe: Recipe, scratch: Path) -> oci.Layout:
        """Build without tag and cache; the image leaves the engine's storage again afterwards."""
        id_file, layout = scratch / "image.id", scratch / "layout"
        isolation = os.environ.get("BUILDAH_ISOLATION", "chroot")
        self._must(
            "build", f"--isolation={isolation}", f"--timestamp={recipe.epoch}", "--layers=false", "--pull=never",
            "--format", "oci", *_options(recipe), "--file", str(recipe.file), "--iidfile", str(id_file),
            "--", str(recipe.context),
        )  # fmt: skip
        identifier = id_file.read_text().strip()
        try:
            self._must("push", identifier, f"oci:{layout}")
        finally:
            self._run("rmi", identifier, quiet=True)
        return oci.Layout(layout)


class DockerEngine(_Engine):
    """Docker 25 or newer, whose ``docker save`` writes an OCI layout."""

    name = "docker"

    def _extra(self) -> Mapping[str, str]:
        # Where Docker trusts a private authority is its daemon's own affair.
        return {"DOCKER_CONFIG": str(self._access.auth_file.parent)} if self._access.auth_file else {}

    def build(self, recipe: Recipe, scratch: Path) -> oci.Layout:
        """Build without tag, and unpack what ``docker save`` writes."""
        id_file, archive, layout = scratch / "image.id", scratch / "image.tar", scratch / "layout"
        self._must(
            "build", f"--build-arg=SOURCE_DATE_EPOCH={recipe.epoch}", *_options(recipe),
            "--file", str(recipe.file), "--iidfile", str(id_file), "--", str(recipe.context),
        )  # fmt: skip
        identifier = id_file.read_text().strip()
        try:
            self._must("save", "--output", str(archive), identifier)
        finally:
            self._run("rmi", identifier, quiet=True)
        with tarfile.open(archive) as tar:
            tar.extractall(layout, filter="data")
        if not (layout / "index.json").exists():
            raise BuildFailed(
                "this Docker does not write OCI layouts",
                remedy="Install Docker 25 or newer, Podman or Buildah.",
            )
        return oci.Layout(layout)


#: In the order in which ``auto`` tries them.
NAMES = ("buildah", "podman", "docker")
_GET_ONE = (
    "Install Buildah where the task runs (apt-get install buildah, or dnf install buildah: no daemon, no root), "
    "or let a cluster build with backend='kubernetes'."
)
_STEP = re.compile(
    r"^(?:\[\d+/\d+\] )?STEP (\d+/\d+): (.+)$|^Step (\d+/\d+) : (.+)$|^ > \[[^\]]*?(\d+/\d+)\] (.+):$", re.M
)
_SHOWN = 1500


def failed_step(output: str) -> tuple[str, str]:
    """Find in an engine's output which step failed, and what it said last. Pure.

    :param output: the end of it.
    :return: the step, empty where it cannot be told; and the last lines.
    """
    steps = list(_STEP.finditer(output))
    if not steps or re.search(r"^(?:COMMIT|Writing manifest)", output[steps[-1].end() :], re.M):
        return "", output.strip()[-_SHOWN:]
    number, instruction = [part for part in steps[-1].groups() if part]
    return f"step {number} ({instruction[:200]})", output[steps[-1].end() :].strip()[-_SHOWN:]


def own(name: str) -> Builder:
    """Make a builder of one's own, which an import path names."""
    builder: Builder = imported(name, "builder")()
    return builder


def check(name: str) -> None:
    """Refuse the name of a builder that is none.

    :raises InvalidInput: naming those that are.
    """
    if ":" not in name:
        remedy = f"Use auto or one of {', '.join(NAMES)}."
        one_of("builder", name, ("auto", *NAMES), called="builder", remedy=remedy)


def make(
    name: str, run: Run, timeout: timedelta, on_line: Callable[[str], None], access: Access | None = None
) -> Builder:
    """Return a builder by its name, or its import path."""
    check(name)
    if ":" in name:
        return own(name)
    if name == "docker":
        return DockerEngine(run, timeout, on_line, access or Access())
    return ContainersEngine(name, run, timeout, on_line, access or Access())


def choose(
    name: str,
    bases: Sequence[str],
    make_one: Callable[[str], Builder],
    tell: Callable[[str], None],
    platform: str = "",
) -> Builder:
    """Choose the builder to use.

    ``auto`` is the first that is installed, works, and can get the base images. A builder asked for by name is used or the
    build fails.

    :param bases: base images of the Containerfile.
    :param tell: says why a builder was passed over.
    :param platform: of the base images; empty for the machine's own.
    :return: the builder.
    :raises BuildFailed: if there is none.
    :raises Unreachable: if none can get the base images.
    """
    passed, usable = [], False
    for candidate in NAMES if name == "auto" else (name,):
        builder = make_one(candidate)
        problem = builder.unusable()
        if not problem:
            usable = True
            missing = ((base, reason) for base in bases if (reason := builder.obtain(base, platform)))
            problem = next((f"cannot get the base image {base}: {reason}" for base, reason in missing), "")
        if not problem:
            return builder
        passed.append(f"{candidate} {problem}" if usable else f"{candidate}: {problem}")
        if name == "auto":
            tell(f"Builder {candidate} is passed over: {problem}")
    said = "; ".join(passed)
    if usable:
        raise Unreachable(said, remedy="Is the registry up, and does its connection have the login?")
    if name == "auto":
        raise BuildFailed(f"no engine that builds images works here: {said}", remedy=_GET_ONE)
    raise BuildFailed(f"{name} cannot be used here: {problem}", remedy=_GET_ONE)
