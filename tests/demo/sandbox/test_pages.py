"""The page of an application: where Airflow's links lead, readable without a login, and harmless."""

from __future__ import annotations

import httpx

from airflow_pipeops.argocd.links import app_url, operation_url
from airflow_pipeops.demo.sandbox.pages import application_page, overview_page
from tests.demo.sandbox.conftest import Site, config_map


def test_the_links_of_a_task_lead_to_a_page(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("settings")})
    site.create(auto={})
    found = site.until(lambda a: a["status"]["sync"]["status"] == "Synced" and a["status"]["resources"])
    address = app_url(site.server.url, "argocd", site.name)
    for link in (address, operation_url(address)):
        answer = httpx.get(link, timeout=30)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        for said in (
            site.name,
            "Synced",
            "Healthy",
            found["status"]["sync"]["revision"],
            "ConfigMap",
            "settings",
        ):
            assert said in answer.text
    for overview in ("/", "/applications"):
        listed = httpx.get(site.server.url + overview, timeout=30)
        assert f'href="/applications/argocd/{site.name}"' in listed.text


def test_an_application_that_is_not_there_is_said(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("settings")})
    site.create()
    for path in ("argocd/nothing", f"elsewhere/{site.name}"):
        answer = httpx.get(f"{site.server.url}/applications/{path}", timeout=30)
        assert (answer.status_code, "There is no such application" in answer.text) == (404, True)


def test_what_an_application_says_is_text_and_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    status = {
        "health": {"status": evil, "message": evil},
        "sync": {"status": evil, "revision": evil},
        "operationState": {"phase": evil, "message": evil},
        "conditions": [{"type": evil, "message": evil}],
        "resources": [
            {"kind": evil, "name": evil, "status": evil, "health": {"status": evil, "message": evil}}
        ],
    }
    source = {"repoURL": evil, "path": evil, "targetRevision": evil}
    application = {
        "metadata": {"name": evil, "namespace": evil},
        "spec": {"source": source},
        "status": status,
    }
    for page in (application_page(application), overview_page([application])):
        assert "&lt;script&gt;" in page
        assert "<script" not in page


def test_an_application_that_nobody_has_looked_at_yet_has_a_page() -> None:
    page = application_page({"metadata": {"name": "web"}, "spec": {"source": {"repoURL": "x"}}})
    assert "Unknown" in page
    assert "none yet" in page
