"""Images: OCI image layouts on disk, verified and unpacked."""

from __future__ import annotations

from pathlib import Path


class ImageStore:
    """The OCI image layouts under one folder: ``<root>/<name>/{oci-layout,index.json,blobs/sha256/...}``.

    :param root: folder that holds one layout per image name; may not exist yet.
    :param cache: where images are unpacked; default ``<root>/.unpacked``.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = Path(root)
        self.cache = Path(cache) if cache is not None else self.root / ".unpacked"
