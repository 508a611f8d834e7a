"""Write an OCI image layout: a content-addressed artifact that every container tool can read.

The same tree always becomes the same digest: entries sorted, times zero, owners root, modes only 0644 or 0755, no
time of creation. (The layer is gzip; another zlib may pack it otherwise, and the digest of the uncompressed layer,
``rootfs.diff_ids``, is then still the same.)
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import platform
import stat
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.build.containerfile import Containerfile
from airflow_pipeops.exceptions import BuildFailed, InvalidInput

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"


def digest_of(content: bytes) -> str:
    """Return ``sha256:<hex>`` of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


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
    config = _json(
        {
            "created": _EPOCH,
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(raw)]},
            "history": [{"created": _EPOCH, "created_by": "airflow-pipeops: source tree"}],
        }
    )
    compressed = packed.getvalue()
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, compressed)],
            "annotations": {"org.opencontainers.image.base.name": spec.base},
        }
    )
    return {digest_of(blob): blob for blob in (compressed, config, manifest)}


class Layout:
    """One OCI image layout on a local disk, written so that a reader never sees half of anything.

    :param root: its folder; made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def blob(self, digest: str) -> Path:
        """Return where a blob is kept."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise BuildFailed(f"{digest!r} is not a sha256 digest")
        return self.root / "blobs" / algorithm / value

    def add(self, blobs: dict[str, bytes], manifest: str) -> bool:
        """Add an image; the index, which makes it visible, is written last.

        :param blobs: contents by digest, all that the manifest refers to.
        :param manifest: digest of its manifest.
        :return: whether it was new.
        """
        with self._locked():
            for digest, content in blobs.items():
                if digest_of(content) != digest:
                    raise BuildFailed(f"blob {digest} has other content than its digest says")
                self._write(self.blob(digest), content)
            self._write(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            entries = self.manifests()
            if any(entry["digest"] == manifest for entry in entries):
                return False
            entries.append(_descriptor(MANIFEST, blobs[manifest]))
            entries.sort(key=lambda entry: str(entry["digest"]))
            self._write(
                self.root / "index.json",
                _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
            )
            return True

    def manifests(self) -> list[dict[str, Any]]:
        """Return the entries of the index."""
        path = self.root / "index.json"
        if not path.exists():
            return []
        try:
            return list(parsed(path.read_bytes())["manifests"])
        except (ValueError, KeyError, TypeError) as error:
            raise BuildFailed(
                f"{path} is damaged",
                remedy="Move that folder away; images are built anew from their commits.",
            ) from error

    def read(self) -> tuple[dict[str, bytes], str]:
        """Return the blobs and the manifest digest of a layout that holds exactly one image."""
        entries = self.manifests()
        while len(entries) == 1 and entries[0].get("mediaType") == INDEX:
            nested = parsed(self.blob(entries[0]["digest"]).read_bytes())["manifests"]
            entries = [item for item in nested if item.get("platform", {}).get("os") != "unknown"]
        if len(entries) != 1:
            raise BuildFailed(f"the engine wrote {len(entries)} images where one was expected")
        digest = str(entries[0]["digest"])
        content = self.blob(digest).read_bytes()
        manifest = parsed(content)
        wanted = [manifest["config"]["digest"], *(item["digest"] for item in manifest["layers"])]
        return {**{item: self.blob(item).read_bytes() for item in wanted}, digest: content}, digest

    @contextmanager
    def _locked(self) -> Iterator[None]:
        (self.root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in self.root.glob(".writing-*"):  # of a writer that died
                leftover.unlink(missing_ok=True)
            yield

    def _write(self, target: Path, content: bytes) -> None:
        if target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content:
            return
        temporary = self.root / f".writing-{uuid.uuid4().hex}"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
