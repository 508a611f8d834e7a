"""Commits, by their ids. Pure."""

from __future__ import annotations

import re

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_sha(revision: str) -> bool:
    """Whether this is a full commit id (SHA-1 or SHA-256, lower-case hex)."""
    return bool(_SHA.fullmatch(revision))
