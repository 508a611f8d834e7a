"""OCI image layouts: folders of content-addressed blobs that every container tool can read."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.build.references import DIGEST
from airflow_pipeops.exceptions import BuildFailed

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
#: Annotation of an entry of a layout's index: its tag.
TAG = "org.opencontainers.image.ref.name"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
#: Machine as its kernel names it -> as images do.
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm/v7", "armv6l": "arm/v6",
}  # fmt: skip


def digest_of(content: bytes) -> str:
    """Return ``sha256:<hex>`` of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(value: str) -> bool:
    """Tell whether a text is a digest of a kind that is used here."""
    return DIGEST.fullmatch(value) is not None


class Layout:
    """One OCI image layout on a local disk, written so that a reader never sees half of anything.

    :param root: its folder; made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def blob(self, digest: str) -> Path:
        """Return where a blob is kept."""
        if not is_digest(digest):
            raise BuildFailed(f"{digest!r} is not a sha256 digest")
        return self.root / "blobs" / digest.replace(":", "/")

    def document(self, digest: str) -> dict[str, Any]:
        """Read a manifest, an index or a configuration."""
        try:
            return dict(parsed(self.blob(digest).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise BuildFailed(f"{self.root} has no readable {digest}: {error}") from error

    def add(self, blobs: dict[str, bytes], manifest: str, tag: str = "") -> bool:
        """Add an image; the index, which makes it visible, is written last.

        :param blobs: contents by digest, all that the manifest refers to.
        :param manifest: digest of its manifest.
        :param tag: under which it is found again; empty for none.
        :return: whether it was new.
        """
        with self._locked():
            for digest, content in blobs.items():
                if digest_of(content) != digest:
                    raise BuildFailed(f"blob {digest} has other content than its digest says")
                self._write(self.blob(digest), content)
            return self._show(manifest, tag)

    def adopt(self, other: Layout, digest: str, tag: str = "") -> bool:
        """Add an image of another layout, without reading it into memory.

        :param digest: of its manifest or index.
        :param tag: under which it is found again; empty for none.
        :return: whether it was new.
        """
        with self._locked():
            self._take(other, digest)
            return self._show(digest, tag)

    def annotate(self, digest: str, annotations: Mapping[str, str]) -> str:
        """Write annotations into a manifest or index.

        :return: the digest that it has with them.
        """
        document = self.document(digest)
        document["annotations"] = {**(document.get("annotations") or {}), **annotations}
        return self.write(document)

    def write(self, document: Mapping[str, Any]) -> str:
        """Write a document, which nothing refers to yet; return its digest."""
        content = canonical(document)
        with self._locked():
            self._write(self.blob(digest_of(content)), content)
        return digest_of(content)

    def find(self, tag: str) -> str:
        """Return the digest of the image with a tag; empty if there is none."""
        for entry in self.manifests():
            if (entry.get("annotations") or {}).get(TAG) == tag and self.blob(entry["digest"]).is_file():
                return str(entry["digest"])
        return ""

    def only(self) -> str:
        """Return the manifest digest of a layout that holds exactly one image."""
        entries = self.manifests()
        while len(entries) == 1 and entries[0].get("mediaType") == INDEX:
            nested = self.document(entries[0]["digest"])["manifests"]
            entries = [item for item in nested if item.get("platform", {}).get("os") != "unknown"]
        if len(entries) != 1:
            raise BuildFailed(f"the engine wrote {len(entries)} images where one was expected")
        return str(entries[0]["digest"])

    def _take(self, other: Layout, digest: str) -> None:
        document = other.document(digest)
        for entry in document.get("manifests") or ():
            self._take(other, str(entry["digest"]))
        for entry in (document.get("config"), *(document.get("layers") or ())):
            if entry:
                self._copy(other.blob(entry["digest"]), entry["digest"])
        self._copy(other.blob(digest), digest)

    def _copy(self, source: Path, digest: str) -> None:
        target = self.blob(digest)
        if (
            target.is_file()
            and target.stat().st_size == source.stat().st_size
            and _file_digest(target) == digest
        ):
            return
        temporary = self.root / f".writing-{uuid.uuid4().hex}"
        shutil.copyfile(source, temporary)
        if _file_digest(temporary) != digest:
            raise BuildFailed(f"blob {digest} has other content than its digest says")
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)

    def _show(self, manifest: str, tag: str) -> bool:
        self._write(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        entries = self.manifests()
        there = [entry for entry in entries if entry["digest"] == manifest]
        if any(not tag or (entry.get("annotations") or {}).get(TAG) == tag for entry in there):
            return False
        content = self.blob(manifest).read_bytes()
        kind = str(self.document(manifest).get("mediaType") or MANIFEST)
        entries.append({**descriptor(kind, content), **({"annotations": {TAG: tag}} if tag else {})})
        entries.sort(
            key=lambda entry: (str(entry["digest"]), str((entry.get("annotations") or {}).get(TAG, "")))
        )
        self._write(
            self.root / "index.json",
            canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
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
        digest = self.only()
        manifest = self.document(digest)
        wanted = [manifest["config"]["digest"], *(item["digest"] for item in manifest["layers"]), digest]
        return {item: self.blob(item).read_bytes() for item in wanted}, digest

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


def _file_digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1024**2):
            found.update(chunk)
    return "sha256:" + found.hexdigest()


def platform_here() -> str:
    """Return the platform of this machine, as images name it, for example ``linux/amd64``."""
    machine = platform.machine().lower()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """Return how a manifest refers to a blob."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def canonical(value: object) -> bytes:
    """Return the one JSON form of a document: its digest is that of its content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
