"""What a service counts, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


def exposed(figures: Collector) -> tuple[bytes, str]:
    """Return the text of all figures, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(figures), CONTENT_TYPE_LATEST
