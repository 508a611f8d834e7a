"""What the sandbox counts of the requests that it gets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_pipeops.demo.sandbox.requests import KINDS, kind_of


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("GET", "/api/v1/stream/applications", "projects=a", "streams"),
        ("GET", "/api/v1/applications", "", "lists"),
        ("GET", "/api/v1/applications/api", "project=a", "reads"),
        ("GET", "/api/v1/applications/api", "refresh=normal&project=a", "refreshes"),
        ("GET", "/api/v1/applications/api/resource-tree", "", "others"),
        ("POST", "/api/v1/applications/api/sync", "", "writes"),
        ("GET", "/api/version", "", "others"),
    ],
)
def test_kinds(method: str, path: str, query: str, kind: str) -> None:
    assert kind_of(method, path, query) == kind
    assert kind in KINDS


def test_counts_are_told_by_agent_and_hold_what_a_fault_struck(server: Any, site: Any) -> None:
    site.repository.write({"web/a.json": "{}"})

    def counted() -> dict[str, int]:
        return dict(server.call("GET", "/sandbox/admin/requests", agent="counted"))

    before = counted()
    server.fault("error", path="/api/v1/applications/nothing", status=503, count=1)
    with server.client("viewer", **{"User-Agent": "counted/1.0"}) as client:
        assert client.get("/api/v1/applications/nothing").status_code == 503
        client.get("/api/v1/applications")
        with client.stream("GET", "/api/v1/stream/applications") as stream:
            assert stream.status_code == 200
            assert counted()["open"] >= 1
    after = counted()
    changed = {kind: after[kind] - before[kind] for kind in KINDS if after[kind] != before[kind]}
    assert changed == {"reads": 1, "lists": 1, "streams": 1}
    assert after["all"] - before["all"] == 3
    with httpx.Client(base_url=server.url) as anonymous:
        assert anonymous.get("/sandbox/admin/requests").status_code == 401
