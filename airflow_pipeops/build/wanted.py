"""The key of an image: everything that decides what it is made of. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from airflow_pipeops.build.oci import canonical

#: Raised when the same key would come to mean another image.
_VERSION = 2


def key(
    *,
    tree: str,
    containerfile: str,
    arguments: Mapping[str, str],
    target: str,
    platforms: Sequence[str],
    file: str = "",
    lfs: bool = False,
    builder: str = "",
) -> str:
    """Return the key under which an image is found again, instead of being built again.

    The commit is none of it: another commit of the same tree is the same image. Nor is the engine or its version: a
    newer Buildah is no reason to ship another image.

    :param tree: id of the folder that is built.
    :param containerfile: its text, with every base image by digest.
    :param arguments: build arguments.
    :param target: stage to build; empty for the last.
    :param platforms: in any order. Where none is asked for, that on which is built: an image for another machine is
        another image.
    :param file: name of the Containerfile below its context, which decides what its ignore file is.
    :param lfs: whether files are in it that Git LFS keeps, in place of their pointers, which are what the tree has.
    :param builder: import path of a builder of one's own, which makes something else of the same; empty for the engines.
    :return: 64 hex digits.
    """
    parts = {
        "version": _VERSION,
        "tree": tree,
        "containerfile": containerfile,
        "arguments": dict(arguments),
        "target": target,
        "platforms": sorted(platforms),
        "file": file,
        "lfs": lfs,
        "builder": builder,
    }
    return hashlib.sha256(canonical(parts)).hexdigest()


def key_of(tag: str) -> str:
    """Return the key of which a tag was made."""
    return tag.removeprefix("pipeops-")


def tag(key: str) -> str:
    """Return the tag under which a registry keeps the image of a key."""
    return f"pipeops-{key}"
