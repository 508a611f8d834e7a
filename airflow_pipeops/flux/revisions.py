"""The ways in which Flux writes a revision. Pure.

``main@sha1:<commit>``, ``sha1:<commit>`` for a pinned commit, ``latest@sha256:<digest>`` for an OCI artifact,
``sha256:<digest>`` for a bucket, and ``main/<commit>`` before Flux 2.0. A branch may hold an ``@``, so the last one splits.
"""

from __future__ import annotations

import re

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.flux.status import Names

_BUSY = re.compile(r"for revision (\S+) with a timeout of")


def names(written: str, origin: str = "") -> Names:
    """Return all names of a revision, the one that people use first, and last the written one.

    :param written: as the controller writes it.
    :param origin: of an OCI artifact, the commit that it was made from, written in the same way.
    :return: the names.
    """
    found: dict[str, None] = {}
    for text in (origin, written):
        _, _, digest = text.rpartition("@")
        algorithm, colon, value = digest.partition(":")
        if colon and algorithm == "sha1" and is_sha(value):
            found[value] = None
        elif colon and is_sha(value):
            # Of an OCI artifact or a bucket; a commit of a SHA-256 repository looks the same, and either name does.
            found.update({digest: None, value: None})
        elif is_sha(text.rpartition("/")[2]):
            found[text.rpartition("/")[2]] = None
        elif text:
            found[text] = None
    found.pop(written, None)
    return (*found, written) if written else tuple(found)


def tried(message: str) -> str:
    """Return the revision that a controller says it is working on; empty if it names none."""
    match = _BUSY.search(message)
    return match.group(1) if match else ""
