"""Images: OCI image layouts on disk, verified blob by blob and unpacked."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import tarfile
import tempfile
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_pipeops.exceptions import PipeOpsError

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._:/-]*)@sha256:(?P<hex>[0-9a-f]{64})")
_MAX_BYTES = 4 * 1024**3
_MAX_JSON = 4 * 1024 * 1024


class ImageError(PipeOpsError):
    """An image cannot be used: not there, not what its digest says, or unsafe to unpack."""


@dataclass(frozen=True)
class Image:
    """An unpacked image: its files and what its configuration says about running it.

    :param digest: of its manifest.
    :param root: the folder with its files.
    :param env: variables that it sets.
    :param entrypoint: the program that it runs, with leading arguments.
    :param cmd: the arguments, unless a pod gives others.
    :param working_dir: the folder in which it runs, seen from its own root.
    """

    digest: str
    root: Path
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    working_dir: str = "/"


class ImageStore:
    """The OCI image layouts under one folder: ``<root>/<name>/{oci-layout,index.json,blobs/sha256/...}``.

    :param root: folder that holds one layout per image name; may not exist yet.
    :param cache: where images are unpacked, by digest; default ``<root>/.unpacked``.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = Path(root)
        self.cache = Path(cache) if cache is not None else self.root / ".unpacked"

    def resolve(self, reference: str) -> Image:
        """Verify and unpack ``name@sha256:...``; a digest that was unpacked before is answered at once.

        Blocking: call it in a thread.

        :return: the image, unpacked.
        :raises ImageError: no digest, not found, a blob differs from its digest, or an unsafe layer.
        """
        match = _REFERENCE.fullmatch(reference)
        if not match:
            raise ImageError(
                f"image {reference!r} names no digest", remedy="Refer to it as name@sha256:<64 hex digits>."
            )
        blobs = self._layout(match["name"], match["hex"]) / "blobs" / "sha256"
        digest = "sha256:" + match["hex"]
        manifest = _json(blobs, digest, "manifest")
        for _ in range(2):  # an index points to a manifest, never deeper than once here
            if "manifests" in manifest:
                manifest = _json(blobs, _choose(manifest["manifests"], reference), "manifest")
        try:
            settings = _json(blobs, manifest["config"]["digest"], "config").get("config") or {}
            layers = [str(layer["digest"]) for layer in manifest["layers"]]
        except (KeyError, TypeError) as error:
            raise ImageError(f"the manifest of {reference!r} is no OCI image manifest: {error!r}") from error
        root = self.cache / match["hex"]
        if not root.is_dir():
            self._unpack(blobs, layers, root)
        return Image(
            digest=digest,
            root=root,
            env=dict(item.partition("=")[::2] for item in settings.get("Env") or []),
            entrypoint=list(settings.get("Entrypoint") or []),
            cmd=list(settings.get("Cmd") or []),
            working_dir=settings.get("WorkingDir") or "/",
        )

    def _layout(self, name: str, hex_digest: str) -> Path:
        """Return the layout that holds the digest: under the full name, or under its last part."""
        parts = [p for p in name.split("/") if p]
        if any(p in (".", "..") for p in parts):
            raise ImageError(f"image name {name!r} leaves the store")
        candidates = [self.root.joinpath(*parts[n:]) for n in range(len(parts))]
        for folder in candidates:
            if (folder / "blobs" / "sha256" / hex_digest).is_file():
                return folder
        raise ImageError(f"image {name}@sha256:{hex_digest} not found in {self.root}")

    def _unpack(self, blobs: Path, layers: list[str], root: Path) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        work = self.cache / f"tmp-{uuid.uuid4().hex}"
        work.mkdir()
        try:
            for layer in layers:
                _unpack_layer(_verified(blobs, layer), layer, work)
            try:
                work.rename(root)
            except OSError:
                if not root.is_dir():  # otherwise somebody else was first, with the same content
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _choose(manifests: list[dict[str, Any]], reference: str) -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    fitting = [m for m in manifests if (m.get("platform") or {}).get("architecture") in (machine, None)]
    if not fitting:
        raise ImageError(f"image {reference!r} has no variant for {machine}")
    return str(fitting[0]["digest"])


def _verified(blobs: Path, digest: str) -> Path:
    """Return the path of a blob whose content was checked against its digest."""
    algorithm, _, hex_digest = digest.partition(":")
    if algorithm != "sha256" or not re.fullmatch("[0-9a-f]{64}", hex_digest):
        raise ImageError(f"unsupported digest {digest!r}")
    path = blobs / hex_digest
    if not path.is_file():
        raise ImageError(f"blob {digest} is missing from the image layout {blobs.parent.parent}")
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            found.update(chunk)
    if found.hexdigest() != hex_digest:
        raise ImageError(
            f"digest mismatch: blob {digest} has the content of sha256:{found.hexdigest()}",
            remedy="The store is damaged or was tampered with: build the image again.",
        )
    return path


def _json(blobs: Path, digest: str, what: str) -> dict[str, Any]:
    path = _verified(blobs, digest)
    if path.stat().st_size > _MAX_JSON:
        raise ImageError(f"the {what} {digest} is too large")
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ImageError(f"the {what} {digest} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageError(f"the {what} {digest} is not a JSON object")
    return value


def _unpack_layer(path: Path, digest: str, root: Path) -> None:
    with path.open("rb") as raw, tempfile.TemporaryFile() as plain:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"\x28\xb5\x2f\xfd":
            raise ImageError(f"layer {digest} is compressed with zstd, which the sandbox does not read")
        source: Any = gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else raw
        size = 0
        try:
            while chunk := source.read(1024 * 1024):
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise ImageError(f"layer {digest} is larger than {_MAX_BYTES} bytes")
                plain.write(chunk)
            plain.seek(0)
            with tarfile.open(fileobj=plain, mode="r:") as archive:
                for member in archive:
                    _unpack_member(archive, member, root, digest)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise ImageError(f"layer {digest} cannot be unpacked: {error}") from error


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, digest: str) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ImageError(f"layer {digest} refused: the entry {member.name!r} leaves the image")
    parent = (root / name).parent
    if not Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(root)):
        raise ImageError(f"layer {digest} refused: the entry {member.name!r} leaves the image through a link")
    if name.name.startswith(".wh."):
        _whiteout(root / name)
        return
    if member.ischr() or member.isblk() or member.isfifo():
        return  # device nodes of a root file system: no use, and no right, to make them
    target = root / name
    if (target.is_symlink() or target.exists()) and not (member.isdir() and target.is_dir()):
        _remove(target)
    archive.extract(member, root, filter="data")


def _whiteout(marker: Path) -> None:
    """Carry out what a marker of a later layer says: this file, or all of this folder, is gone."""
    if marker.name == ".wh..wh..opq":
        for item in marker.parent.iterdir() if marker.parent.is_dir() else ():
            _remove(item)
        return
    _remove(marker.with_name(marker.name[len(".wh.") :]))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
