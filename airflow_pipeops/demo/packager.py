"""Pack a source tree as an OCI image without any engine: no base image, no ``RUN``. For the laptop only.

The base is named in an annotation and not included: what starts the artifact brings the runtime, as the sandbox
does. No cluster can run such an image, so no task falls back to it: a configuration names it, by its import path.

The same tree always becomes the same digest: entries sorted, times zero, owners root, modes only 0644 or 0755, no time of
creation. (The layer is gzip; another zlib may pack it otherwise, and the digest of the uncompressed layer,
``rootfs.diff_ids``, is then still the same.)

Of a Containerfile, ``FROM``, ``WORKDIR``, ``COPY . <folder>``, ``ENV``, ``CMD``, ``ENTRYPOINT`` and ``EXPOSE`` are
understood. Anything else is refused by name: leaving it out would make another image than the author wrote.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
import shlex
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.build import oci
from airflow_pipeops.build.builders import Recipe
from airflow_pipeops.build.containerfile import instructions
from airflow_pipeops.exceptions import InvalidInput

_EPOCH = "1970-01-01T00:00:00Z"
_SUPPORTED = ("FROM", "WORKDIR", "COPY", "ENV", "CMD", "ENTRYPOINT", "EXPOSE")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENGINE = "Install Buildah, Podman or Docker to build it, or write it without."


@dataclass
class Containerfile:
    """What an image needs beside its files.

    :param base: image that it builds on, as written.
    :param workdir: folder in which the container starts.
    :param folder: absolute folder into which the source tree is copied; ``None`` if it is not.
    :param env: environment, in the order written.
    :param cmd: default arguments, or the default command.
    :param entrypoint: the command that the arguments are given to; empty for none.
    :param ports: ports that it names, for example ``8080/tcp``.
    """

    base: str = ""
    workdir: str = "/"
    folder: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    cmd: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)


class Packager:
    """The packager, as a builder: ``builder="airflow_pipeops.demo.packager:Packager"``."""

    name = "oci-layout"
    #: Whether the base images have to be there, and so are looked up.
    needs_bases = False

    def unusable(self) -> str:
        """It always works."""
        return ""

    def obtain(self, base: str, platform: str = "") -> str:
        """No base image is needed."""
        return ""

    def build(self, recipe: Recipe, scratch: Path) -> oci.Layout:
        """Pack the source tree."""
        if recipe.platform or recipe.target:
            raise InvalidInput(
                "platforms and stages are not understood without an engine",
                field="target" if recipe.target else "platforms",
                remedy=_ENGINE,
            )
        blobs = image(recipe.context, parse(recipe.file.read_text(encoding="utf-8")))
        layout = oci.Layout(scratch / "layout")
        layout.add(blobs, list(blobs)[-1])
        return layout


def parse(text: str) -> Containerfile:
    """Read a Containerfile of the supported subset.

    :return: what it says.
    :raises InvalidInput: naming the first line that is not in it, or what is missing.
    """
    result = Containerfile()
    for number, instruction, rest in _plain(text):
        if instruction not in _SUPPORTED:
            raise _refused(
                number,
                instruction,
                f"Only {', '.join(_SUPPORTED)} are understood without an engine. {_ENGINE}",
            )
        if not rest:
            raise _refused(number, instruction, "It needs an argument.")
        if not result.base and instruction != "FROM":
            raise _refused(number, instruction, "The first instruction has to be FROM.")
        _HANDLERS[instruction](result, number, rest)
    for missing, name, remedy in (
        (not result.base, "FROM", "Begin with FROM <image>."),
        (result.folder is None, "COPY", "Write COPY . . so that the image holds the source tree."),
        (
            not (result.cmd or result.entrypoint),
            "CMD",
            'Say what runs, for example CMD ["python", "app.py"].',
        ),
    ):
        if missing:
            raise InvalidInput(f"the Containerfile has no {name}", field="Containerfile", remedy=remedy)
    return result


def _plain(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, instruction, rest) of a file without heredocs and without another escape than the backslash."""
    for item in instructions(text, escape="\\"):
        if item.heredocs:
            raise _refused(item.number, item.word, f"Heredocs are not understood. {_ENGINE}")
        yield item.number, item.word, item.rest


def _from(result: Containerfile, number: int, rest: str) -> None:
    words = rest.split()
    if result.base or words[0].startswith("--") or "$" in rest or len(words) not in (1, 3):
        raise _refused(number, f"FROM {rest}", f"One plain FROM <image> is understood. {_ENGINE}")
    result.base = words[0]


def _workdir(result: Containerfile, number: int, rest: str) -> None:
    result.workdir = _folder(result.workdir, number, "WORKDIR", rest.strip("\"'"))


def _copy(result: Containerfile, number: int, rest: str) -> None:
    words = _json_list(rest) or rest.split()
    if len(words) != 2 or words[0] not in (".", "./") or result.folder is not None:
        raise _refused(number, f"COPY {rest}", f"One COPY . <folder> is understood. {_ENGINE}")
    result.folder = _folder(result.workdir, number, "COPY", words[1])


def _env(result: Containerfile, number: int, rest: str) -> None:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise _refused(number, "ENV", f"Its quotes do not match ({error}).") from error
    if "=" not in rest.split()[0]:  # the old form: ENV KEY the whole rest
        key, _, value = rest.partition(" ")
        pairs = [(key, value.strip())]
    else:
        pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words]
        if any("=" not in word for word in words):
            raise _refused(
                number, "ENV", "Write ENV KEY=value, with quotes around a value that holds spaces."
            )
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise _refused(number, f"ENV {key}", "A name has letters, digits and underscores.")
        if "$" in value:
            raise _refused(
                number, f"ENV {key}", f"References to other variables are not understood. {_ENGINE}"
            )
        result.env[key] = value


def _cmd(result: Containerfile, number: int, rest: str) -> None:
    result.cmd = _command(number, "CMD", rest)


def _entrypoint(result: Containerfile, number: int, rest: str) -> None:
    result.entrypoint = _command(number, "ENTRYPOINT", rest)
    result.cmd = []  # as engines do; a CMD after it is its arguments


def _expose(result: Containerfile, number: int, rest: str) -> None:
    for word in rest.split():
        port, _, protocol = word.partition("/")
        if not port.isdigit() or not 0 < int(port) < 65536 or protocol not in ("", "tcp", "udp"):
            raise _refused(number, f"EXPOSE {word}", "Write a port, for example EXPOSE 8080.")
        result.ports.append(f"{port}/{protocol or 'tcp'}")


_HANDLERS: dict[str, Callable[[Containerfile, int, str], None]] = {
    "FROM": _from,
    "WORKDIR": _workdir,
    "COPY": _copy,
    "ENV": _env,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "EXPOSE": _expose,
}


def _command(number: int, instruction: str, rest: str) -> list[str]:
    words = _json_list(rest)
    if words is None:
        if rest.startswith("["):
            raise _refused(
                number, instruction, 'The list is not JSON: use double quotes, ["python", "app.py"].'
            )
        return ["/bin/sh", "-c", rest]
    if not words:
        raise _refused(number, instruction, "The list is empty.")
    return words


def _json_list(text: str) -> list[str] | None:
    try:
        value = parsed(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _folder(workdir: str, number: int, instruction: str, value: str) -> str:
    if "$" in value or ".." in value.split("/"):
        raise _refused(number, f"{instruction} {value}", "Write a plain folder, without variables or '..'.")
    # normpath keeps two leading slashes, as POSIX allows.
    return "/" + posixpath.normpath(posixpath.join(workdir, value)).lstrip("/")


def _refused(number: int, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"line {number} of the Containerfile cannot be packaged: {what}",
        field="Containerfile",
        value=what,
        remedy=remedy,
    )


def layer(tree: Path, folder: str) -> bytes:
    """Pack a source tree, placed at ``folder``, into a tar that is the same for the same files.

    :param folder: absolute path inside the image.
    :return: the uncompressed tar.
    :raises InvalidInput: for a link that leads out of the tree, and for what is neither file, folder nor link.
    """
    buffer = io.BytesIO()
    prefix = folder.strip("/")
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        parts = prefix.split("/") if prefix else []
        for depth in range(len(parts)):
            tar.addfile(_entry("/".join(parts[: depth + 1]), tarfile.DIRTYPE, 0o755))
        for path in sorted(_walk(tree), key=lambda item: os.fsencode(item.relative_to(tree))):
            _add(tar, tree, path, prefix)
    return buffer.getvalue()


def _walk(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != ".git"]
        yield from (Path(folder, name) for name in (*folders, *files))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 0
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _add(tar: tarfile.TarFile, tree: Path, path: Path, prefix: str) -> None:
    relative = path.relative_to(tree).as_posix()
    name = f"{prefix}/{relative}" if prefix else relative
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(path)
        parent = os.path.dirname(relative)
        if os.path.isabs(target) or os.path.normpath(os.path.join(parent, target)).split("/")[0] == "..":
            raise InvalidInput(
                f"the link {relative!r} leads out of the source tree, to {target!r}",
                field=relative,
                value=target,
                remedy="Let it point to a file of the repository.",
            )
        info = _entry(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        tar.addfile(info)
    elif stat.S_ISDIR(mode):
        tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
    elif stat.S_ISREG(mode):
        content = path.read_bytes()
        info = _entry(name, tarfile.REGTYPE, 0o755 if mode & stat.S_IXUSR else 0o644)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    else:
        raise InvalidInput(
            f"{relative!r} is neither a file, a folder nor a link", field=relative, remedy="Remove it."
        )


def image(tree: Path, spec: Containerfile) -> dict[str, bytes]:
    """Build an image.

    :param tree: the source tree.
    :param spec: what to run, where.
    :return: its blobs by digest; the manifest is the last.
    """
    raw = layer(tree, spec.folder or spec.workdir)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=6, mtime=0) as stream:
        stream.write(raw)
    settings: dict[str, Any] = {"WorkingDir": spec.workdir}
    settings.update(
        {
            key: value
            for key, value in (
                ("Env", [f"{name}={value}" for name, value in spec.env.items()]),
                ("Entrypoint", spec.entrypoint),
                ("Cmd", spec.cmd),
                ("ExposedPorts", {port: {} for port in spec.ports}),
            )
            if value
        }
    )
    config = oci.canonical(
        {
            "created": _EPOCH,
            "architecture": oci.platform_here().split("/")[1],
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [oci.digest_of(raw)]},
            "history": [{"created": _EPOCH, "created_by": "airflow-pipeops: source tree"}],
        }
    )
    compressed = packed.getvalue()
    manifest = oci.canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": oci.descriptor(oci.CONFIG, config),
            "layers": [oci.descriptor(oci.LAYER, compressed)],
            "annotations": {"org.opencontainers.image.base.name": spec.base},
        }
    )
    return {oci.digest_of(blob): blob for blob in (compressed, config, manifest)}
