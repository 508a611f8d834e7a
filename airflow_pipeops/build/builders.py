"""Build an image from a source tree: Buildah, Podman or Docker, or a packager that needs none of them.

Every builder leaves its image in an OCI layout, named by digest and never by tag.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from airflow_pipeops.build import containerfile, oci
from airflow_pipeops.build.process import Command, Finished, environment
from airflow_pipeops.exceptions import BuildFailed, InvalidInput, Unreachable

#: Of our environment, what an engine needs to find its service, its storage, its proxy and its registry logins.
_ENGINE_ENV = (
    "BUILDAH_ISOLATION", "STORAGE_DRIVER", "STORAGE_OPTS", "CONTAINERS_CONF", "XDG_RUNTIME_DIR", "XDG_DATA_HOME",
    "REGISTRY_AUTH_FILE", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_PROBE = timedelta(seconds=20)

#: Starts a command and waits for it; the operator keeps the command, so that a kill reaches it.
Run = Callable[[Command], Finished]


class Builder(Protocol):
    """Something that turns a source tree into an image in an OCI layout."""

    name: str

    def unusable(self) -> str:
        """Return why it cannot work here; empty if it can."""
        ...

    def obtain(self, base: str) -> str:
        """Make a base image available; return why that is impossible, or an empty string."""
        ...

    def build(self, context: Path, file: Path, scratch: Path) -> oci.Layout:
        """Build, and return a layout below ``scratch`` that holds this one image."""
        ...


class _Engine:
    """What the command-line engines have in common."""

    def __init__(self, run: Run, timeout: timedelta, on_line: Callable[[str], None]) -> None:
        self._start = run
        self._timeout = timeout
        self._on_line = on_line

    name = ""

    def _run(self, *arguments: str, timeout: timedelta | None = None, quiet: bool = False) -> Finished:
        return self._start(
            Command(
                [self.name, *arguments],
                cwd=Path("/"),
                env=environment(Path.home(), keep=_ENGINE_ENV),
                timeout=timeout or self._timeout,
                on_line=(lambda line: None) if quiet else self._on_line,
            )
        )

    def _must(self, *arguments: str) -> Finished:
        finished = self._run(*arguments)
        if finished.timed_out:
            raise BuildFailed(
                f"{self.name} {arguments[0]} did not end within {self._timeout.total_seconds():g} s",
                remedy="Raise timeout, or look at the end of the log.",
            )
        if finished.status != 0:
            raise BuildFailed(
                f"{self.name} {arguments[0]} ended with status {finished.status}: {finished.output.strip()[-1000:]}"
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

    def obtain(self, base: str) -> str:
        """Pull a base image; return why that is impossible, or an empty string."""
        if base.startswith("-"):
            raise InvalidInput(f"base image {base!r} begins with a dash", field="FROM", value=base)
        if self._run(*self._exists(base), timeout=_PROBE, quiet=True).status == 0:
            return ""
        finished = self._run("pull", base)
        return (
            ""
            if finished.status == 0
            else (finished.output.strip().splitlines() or ["pull failed"])[-1][-500:]
        )

    def _exists(self, base: str) -> tuple[str, ...]:
        return ("inspect", "--type=image", base)


class ContainersEngine(_Engine):
    """Buildah or Podman, which share their options. No daemon, and no root is needed.

    ``RUN`` steps are isolated by chroot (unless ``BUILDAH_ISOLATION`` says otherwise), which works inside a container.
    """

    def __init__(self, name: str, run: Run, timeout: timedelta, on_line: Callable[[str], None]) -> None:
        super().__init__(run, timeout, on_line)
        self.name = name

    def build(self, context: Path, file: Path, scratch: Path) -> oci.Layout:
        """Build without tag and cache; the image leaves the engine's storage again afterwards."""
        id_file, layout = scratch / "image.id", scratch / "layout"
        isolation = os.environ.get("BUILDAH_ISOLATION", "chroot")
        self._must(
            "build", f"--isolation={isolation}", "--timestamp", "0", "--layers=false", "--pull=never",
            "--format", "oci", "--file", str(file), "--iidfile", str(id_file), "--", str(context),
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

    def build(self, context: Path, file: Path, scratch: Path) -> oci.Layout:
        """Build without tag, and unpack what ``docker save`` writes."""
        id_file, archive, layout = scratch / "image.id", scratch / "image.tar", scratch / "layout"
        self._must("build", "--file", str(file), "--iidfile", str(id_file), "--", str(context))
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


class Packager:
    """Packs the source tree as an OCI image by itself: no engine, no base image, no ``RUN``.

    The base is named in an annotation and not included: what starts the artifact brings the runtime, as the sandbox
    does. For a cluster use an engine.
    """

    name = "oci-layout"

    def unusable(self) -> str:
        """It always works."""
        return ""

    def obtain(self, base: str) -> str:
        """No base image is needed."""
        return ""

    def build(self, context: Path, file: Path, scratch: Path) -> oci.Layout:
        """Pack; see :mod:`airflow_pipeops.build.oci`."""
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{file.name} is not UTF-8 text", field=file.name, remedy="Save it as UTF-8."
            ) from error
        blobs = oci.image(context, containerfile.parse(text))
        layout = oci.Layout(scratch / "layout")
        layout.add(blobs, list(blobs)[-1])
        return layout


#: In the order in which ``auto`` tries them.
NAMES = ("buildah", "podman", "docker", "oci-layout")


def make(name: str, run: Run, timeout: timedelta, on_line: Callable[[str], None]) -> Builder:
    """Return a builder by its name."""
    if name == "docker":
        return DockerEngine(run, timeout, on_line)
    if name in ("buildah", "podman"):
        return ContainersEngine(name, run, timeout, on_line)
    if name == "oci-layout":
        return Packager()
    raise InvalidInput(
        f"builder {name!r} is unknown",
        field="builder",
        value=name,
        remedy=f"Use auto or one of {', '.join(NAMES)}.",
    )


def choose(
    name: str, bases: list[str], make_one: Callable[[str], Builder], tell: Callable[[str], None]
) -> Builder:
    """Choose the builder to use.

    ``auto`` is the first that is installed, works, and can get the base images; the packager is the last resort, and is
    told. A builder asked for by name is used or the build fails.

    :param bases: base images of the Containerfile.
    :param tell: says why a builder was passed over.
    :return: the builder.
    """
    if name != "auto":
        builder = make_one(name)
        if problem := builder.unusable():
            raise BuildFailed(
                f"{name} cannot be used here: {problem}",
                remedy="Install and start it, or use builder='auto'.",
            )
        for base in bases:
            if problem := builder.obtain(base):
                raise Unreachable(f"{name} cannot get the base image {base}: {problem}")
        return builder
    for candidate in NAMES:
        builder = make_one(candidate)
        problem = builder.unusable() or next(
            (reason for base in bases if (reason := builder.obtain(base))), ""
        )
        if not problem:
            return builder
        tell(f"Builder {candidate} is passed over: {problem}")
    raise AssertionError("the packager always works")
