"""Health and metrics of a member over HTTP.

``/health/live`` asks whether the process still works through its loop, and never how much waits: a consumer that is behind
is not mended by killing it. ``/health/ready`` asks whether it has partitions and their models; ``/health`` whether it makes
progress; ``/metrics`` is for Prometheus.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from airflow_pipeops.serving.figures import exposed
from airflow_pipeops.serving.stream import health
from airflow_pipeops.serving.stream.member import Member
from airflow_pipeops.serving.stream.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import Metric

_PREFIX = "pipeops_stream_"
#: Seconds without a round of the loop after which the process counts as stuck.
STUCK = 120.0
#: Seconds in which a longer delay must be worked off.
CATCH_UP = 600.0


def status(member: Member, configured: Settings, now: float) -> dict[str, Any]:
    """Describe a member.

    :param member: that is running.
    :param configured: its settings.
    :param now: of its clock.
    :return: a JSON object.
    """
    judged = health.judge(list(member.samples), most_behind=configured.most_behind, most_catch_up=CATCH_UP)
    parts = list(member.partitions.values())
    paused = {str(one.number): f"{one.rule}: {one.reason}" for one in parts if one.rule}
    state, reason = ("paused", next(iter(paused.values()))) if paused else (judged.state, judged.reason)
    age = _commit_age(member, now)
    if not paused and age is not None and age > max(configured.most_behind, 3 * configured.report):
        state, reason = (
            "behind",
            f"a partition was committed {age:.0f} s ago, and is each {configured.report:g} s",
        )
    return {
        "member": configured.member,
        "group": configured.group,
        "delivery": configured.delivery,
        "health": state,
        "reason": reason,
        "seconds_since_turn": round(now - member.turned_at, 3),
        "seconds_since_commit": None if age is None else round(age, 3),
        "behind": None if math.isnan(judged.behind) else round(judged.behind, 3),
        "starts": {one.revision: one.start for one in member.table.releases},
        "table_error": member.table_error,
        "paused": paused,
        "partitions": {
            str(one.number): {"next": one.next, **one.progress.to_json(), "paused": one.rule} for one in parts
        },
    }


def _commit_age(member: Member, now: float) -> float | None:
    """Return how long ago the partition was committed whose commit is the oldest; ``None`` where there is none to commit."""
    return max(
        (now - one.said_at for one in list(member.partitions.values()) if one.next is not None), default=None
    )


class _Figures:
    """What is told of a member at the moment in which it is asked.

    :param member: that is running.
    :param configured: its settings.
    :param now: of its clock.
    """

    def __init__(self, member: Member, configured: Settings, now: float) -> None:
        self._member, self._at, self._now = member, configured, now

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        member = self._member
        told, counted = status(member, self._at, self._now), member.counters
        for name, said, value in (
            ("scored", "Records that were scored.", counted.scored),
            ("dead", "Records for the dead-letter topic.", counted.dead),
            ("batches", "Batches that were committed.", counted.batches),
            ("aborted", "Batches that were read again.", counted.aborted),
            ("model_seconds", "Time in the models.", counted.seconds),
        ):
            yield CounterMetricFamily(_PREFIX + name, said, value)
        last = member.samples[-1] if member.samples else None
        if last is not None and last.lag is not None:
            yield GaugeMetricFamily(f"{_PREFIX}waiting", "Records that wait.", last.lag)
            if not math.isnan(last.behind):
                yield GaugeMetricFamily(f"{_PREFIX}behind_seconds", "How late scores are.", last.behind)
        if told["seconds_since_commit"] is not None:
            said = "Since the last commit, of the partition where it is the longest."
            yield GaugeMetricFamily(f"{_PREFIX}commit_age_seconds", said, told["seconds_since_commit"])
        age = self._now - member.turned_at
        yield GaugeMetricFamily(f"{_PREFIX}turn_age_seconds", "Since the last round.", age)
        healthy = told["health"] == "healthy"
        yield GaugeMetricFamily(f"{_PREFIX}healthy", "Whether it makes progress.", healthy)
        release = GaugeMetricFamily(
            f"{_PREFIX}release",
            "Release that scores what comes next.",
            labels=("partition", "revision", "sha256"),
        )
        paused = GaugeMetricFamily(
            f"{_PREFIX}paused", "Partitions that are paused.", labels=("partition", "rule")
        )
        for one in list(member.partitions.values()):
            release.add_metric((str(one.number), one.progress.revision, one.progress.sha256[:12]), 1)
            if one.rule:
                paused.add_metric((str(one.number), one.rule), 1)
        yield release
        yield paused


def answer(member: Member, configured: Settings, path: str, now: float) -> tuple[int, bytes, str]:
    """Answer a request.

    :param member: that is running.
    :param configured: its settings.
    :param path: that is asked for.
    :param now: of the member's clock.
    :return: status, body, and the type of its content.
    """
    if path == "/metrics":
        return 200, *exposed(_Figures(member, configured, now))
    live = now - member.turned_at < STUCK
    good, body = False, None
    if path == "/health":
        body = status(member, configured, now)
        good = live and body["health"] == "healthy"
    elif path == "/health/live":
        good, body = live, {"live": live}
    elif path == "/health/ready":
        parts = list(member.partitions.values())
        good = live and any(not one.rule and one.progress.revision for one in parts)
        body = {"ready": good}
    code = 404 if body is None else 200 if good else 503
    return code, json.dumps(body).encode(), "application/json"


def serve(member: Member, configured: Settings, clock: Callable[[], float]) -> ThreadingHTTPServer:
    """Answer in threads of its own.

    :param member: that is running.
    :param configured: where to listen.
    :param clock: of the member.
    :return: the server, listening.
    """

    class Handler(BaseHTTPRequestHandler):
        #: Seconds that whoever asks may take: one that says nothing would keep a thread for ever.
        timeout = 10

        def do_GET(self) -> None:
            code, content, kind = answer(member, configured, self.path, clock())
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Write no line for each request."""

    server = ThreadingHTTPServer((configured.host, configured.port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
