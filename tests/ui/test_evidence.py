"""Evidence in a real Airflow: who may read it, and what a report can do to its reader."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import httpx
import pytest

from airflow_pipeops.delivery.evidence import store
from airflow_pipeops.delivery.records import Evidence
from tests.ui.conftest import Server

#: A report that tries to read its reader's session.
HOSTILE = """<!doctype html><title>report</title><h1>Drift report</h1><pre id="found"></pre><script>
const found = [];
try { found.push("cookie:" + document.cookie); } catch (error) { found.push("no cookie"); }
try { found.push("parent:" + window.top.location.href.length + window.localStorage.length); }
catch (error) { found.push("no storage"); }
fetch("/api/v2/dags").then(() => found.push("api"), () => found.push("no api"))
  .then(() => { document.getElementById("found").textContent = found.join(", "); });
</script>"""


def keep(server: Server, content: str, name: str, dag_id: str = "drift") -> Evidence:
    return store(content.encode(), name, base_uri=server.evidence, dag_id=dag_id)


def get(server: Server, path: str, user: str | None = "viewer") -> httpx.Response:
    headers = {"Authorization": f"Bearer {server.token(user)}"} if user else {}
    return httpx.get(f"{server.url}/pipeops{path}", headers=headers, timeout=30)


def test_it_is_read_by_who_may_read_the_dag(server: Server) -> None:
    kept = keep(server, "<p>a report</p>", "drift.html")
    answer = get(server, f"/evidence/drift/{kept.sha256}/drift.html")
    assert (answer.status_code, answer.text) == (200, "<p>a report</p>")
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_nobody_reads_it_without_a_login(server: Server) -> None:
    kept = keep(server, "<p>a report</p>", "drift.html")
    assert get(server, f"/evidence/drift/{kept.sha256}/drift.html", user=None).status_code == 401
    # The user cannot be named in the query instead.
    assert get(server, f"/evidence/drift/{kept.sha256}/drift.html?user=admin", user=None).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/evidence/other/{digest}/drift.html",
        "/evidence/drift/{digest}/other.html",
        "/evidence/drift/{digest}/..%2F..%2F..%2Fpasswords.json",
        "/evidence/drift/..%2F..%2F..%2Fetc/passwd",
        "/evidence/drift/{digest}/.dag-0",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    kept = keep(server, "<p>a report</p>", "drift.html")
    answer = get(server, path.format(digest=kept.sha256))
    assert answer.status_code == 404
    assert "pass" not in answer.text


def test_what_is_no_page_is_downloaded(server: Server) -> None:
    kept = keep(server, "<svg onload='alert(1)'/>", "junit.xml")
    answer = get(server, f"/evidence/drift/{kept.sha256}/junit.xml")
    assert answer.headers["content-disposition"] == 'attachment; filename="junit.xml"'


def test_every_route_demands_access() -> None:
    from airflow.api_fastapi.core_api.security import get_user

    from airflow_pipeops.ui.app import app

    def needed(dependant) -> list:
        return [dependant.call, *(call for inner in dependant.dependencies for call in needed(inner))]

    routes = [route for route in app.routes if hasattr(route, "dependant")]
    assert routes
    for route in routes:
        assert get_user in needed(route.dependant), route.path
        assert not [parameter.name for parameter in route.dependant.query_params], route.path


@pytest.mark.browser
def test_a_report_can_do_nothing_to_its_reader(server: Server) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    kept = keep(server, HOSTILE, "drift.html")
    address = f"{server.url}/pipeops/evidence/drift/{kept.sha256}/drift.html"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=os.environ.get("PIPEOPS_CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.context.add_cookies([{"name": "_token", "value": server.token("viewer"), "url": server.url}])
        page.goto(address)
        page.wait_for_function("document.getElementById('found').textContent != ''")
        if folder := os.environ.get("PIPEOPS_SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / "evidence.png"))
        assert page.inner_text("#found") == "no cookie, no storage, no api"
        assert page.inner_text("h1") == "Drift report"
        browser.close()
