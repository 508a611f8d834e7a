"""Finds an image by what was attached to its key in the registry, where no tag leads to it any more.

The key of an image is the digest of the document of what was wanted. An artifact that names that digest as its subject
says which image came of it: the registry lists such referrers, and where it has no such list, a tag named after the
subject does, as the distribution specification has it. A retention rule that takes away tags takes none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, parsed, text
from airflow_pipeops.build import oci
from airflow_pipeops.build.registry import Registry
from airflow_pipeops.exceptions import NotFound

#: What the artifact is, and its annotation with the digest of the image.
ARTIFACT = "application/vnd.airflow-pipeops.build.v1"
IMAGE = "airflow-pipeops.image"
_EMPTY = b"{}"


def find(registry: Registry, repository: str, key: str) -> str:
    """Find the image of a key.

    :param registry: that has it.
    :param repository: in the registry.
    :param key: 64 hex digits.
    :return: its digest, of the first in order where there are several; empty if there is none.
    """
    images = set()
    for one in registry.referrers(repository, f"sha256:{key}"):
        if one.get("artifactType") not in (ARTIFACT, None):
            continue
        image = text(map_(one.get("annotations")).get(IMAGE)) or _named(
            registry, repository, text(one.get("digest"))
        )
        images |= {image} if oci.is_digest(image) else set()
    return next((image for image in sorted(images) if _there(registry, repository, image)), "")


def attach(registry: Registry, repository: str, key: str, digest: str) -> None:
    """Have an image found by its key; a second time changes nothing.

    :param key: 64 hex digits.
    :param digest: of the image, which is there.
    """
    empty = {**oci.descriptor("application/vnd.oci.empty.v1+json", _EMPTY)}
    registry.put_blob(repository, _EMPTY)
    artifact: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": ARTIFACT,
        "config": empty,
        "layers": [empty],
        "subject": {**empty, "digest": f"sha256:{key}"},
        "annotations": {IMAGE: digest},
    }
    registry.refer(repository, artifact)


def _named(registry: Registry, repository: str, digest: str) -> str:
    """Return the image that an artifact names, where the list does not say its annotations."""
    try:
        document: Mapping[str, Any] = map_(parsed(registry.manifest(repository, digest).content))
    except (NotFound, ValueError):
        return ""
    return (
        text(map_(document.get("annotations")).get(IMAGE)) if document.get("artifactType") == ARTIFACT else ""
    )


def _there(registry: Registry, repository: str, digest: str) -> bool:
    try:
        registry.manifest(repository, digest)
    except NotFound:
        return False
    return True
