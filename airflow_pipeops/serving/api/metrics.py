"""What the server counts, in Prometheus' words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_pipeops.serving.figures import exposed

if TYPE_CHECKING:
    from airflow_pipeops.serving.api.settings import Served

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OF = ("model", "version")


class Metrics:
    """The figures of one server; their names and labels are in ``docs/serving.md``."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        here = self.registry
        self._info = Gauge("pipeops_model", "A model that is loaded", (*_OF, "sha256", "role"), registry=here)
        self._requests = Counter(
            "pipeops_requests", "Inference requests by their outcome", (*_OF, "outcome"), registry=here
        )
        self._seconds = Histogram(
            "pipeops_request_seconds",
            "Time of inference requests, the body included",
            _OF,
            registry=here,
            buckets=_BUCKETS,
        )
        self._in_flight = Gauge(
            "pipeops_requests_in_flight", "Inference requests being answered", _OF, registry=here
        )
        self._rows = Counter("pipeops_rows", "Rows that were scored for an answer", _OF, registry=here)
        self._sampled = Counter(
            "pipeops_sampled_rows", "Rows that were written to the samples", _OF, registry=here
        )
        self._lost = Counter(
            "pipeops_lost_sample_rows", "Rows that the samples lack", (*_OF, "reason"), registry=here
        )

    def loaded(self, served: Served) -> None:
        """Tell that a model is there, and begin its counters at zero."""
        self._info.labels(served.name, served.version, served.sha256, served.role).set(1)
        for figure in (self._seconds, self._in_flight, self._rows, self._sampled):
            figure.labels(served.name, served.version)  # from here on it is told, with 0
        for outcome in ("ok", "refused", "busy", "late", "gone", "failed"):
            self._requests.labels(served.name, served.version, outcome)
        for reason in ("held", "end") + (("shadow_busy", "shadow_failed") if served.role == "shadow" else ()):
            self._lost.labels(served.name, served.version, reason)

    @contextmanager
    def request(self, served: Served) -> Iterator[None]:
        """Count a request while it is in flight, and its time."""
        began = time.perf_counter()
        in_flight = self._in_flight.labels(served.name, served.version)
        in_flight.inc()
        try:
            yield
        finally:
            in_flight.dec()
            self._seconds.labels(served.name, served.version).observe(time.perf_counter() - began)

    def outcome(self, served: Served, outcome: str, rows: int = 0) -> None:
        """Count how a request ended, and its rows."""
        self._requests.labels(served.name, served.version, outcome).inc()
        self._rows.labels(served.name, served.version).inc(rows)

    def sampled(self, served: Served, rows: int) -> None:
        """Count rows that were written."""
        self._sampled.labels(served.name, served.version).inc(rows)

    def lost(self, served: Served, reason: str, rows: int) -> None:
        """Count rows that were not."""
        self._lost.labels(served.name, served.version, reason).inc(rows)

    def text(self) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type."""
        return exposed(self.registry)
