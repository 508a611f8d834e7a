"""The authorities of the machine, by which a server's certificate is checked where no connection names others.

Python takes a 40th of a second to read them, in which an event loop stands still; so they are read once, and again when
their file has changed.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any


def authorities(verify: Any = True) -> Any:
    """Return what an HTTP client checks certificates with.

    :param verify: what it was told: ``True`` for the authorities of the machine.
    :return: for ``True`` an SSL context that all clients share, and must not change; else what was given.
    """
    if verify is not True:
        return verify
    import certifi

    file, folder = os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
    return _read(file, folder, changed(file or certifi.where()))


def changed(file: str | None) -> int:
    """Return when a file was changed, in nanoseconds; 0 where there is none."""
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _read(file: str, folder: str, changed: int) -> Any:
    import httpx

    return httpx.create_ssl_context()  # looks at the same variables
