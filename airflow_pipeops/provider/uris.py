"""The asset URI scheme ``pipeops://<deliverable>/<kind>[/<environment>]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``pipeops`` asset URI, as Airflow asks of the owner of a scheme.

    :return: the URI without empty path segments.
    :raises ValueError: if the deliverable or the kind is missing, or a query or fragment is there.
    """
    parts = [part for part in uri.path.split("/") if part]
    if not uri.netloc or not parts or uri.query or uri.fragment:
        raise ValueError(
            "a pipeops asset URI is pipeops://<deliverable>/<kind>[/<environment>], "
            "for example pipeops://flight-delay/release/production"
        )
    return uri._replace(path="/" + "/".join(parts))
