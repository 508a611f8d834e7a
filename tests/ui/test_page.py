"""The Delivery page, as a person sees it in a real Airflow."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_pipeops.delivery.evidence import store
from airflow_pipeops.delivery.ledger.checkpoints import advance
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.delivery.records import Record
from tests.browser import visit
from tests.ledgers import sha
from tests.ui.conftest import SIGNER, Server
from tests.ui.seeds import NOW, Story, many, numbered, whole

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PANELS = ("now", "matrix", "passport", "timeline", "data", "figures")
#: Addresses of one state of each panel.
STATES = {
    "now": "",
    "matrix": "panel=matrix",
    "passport": "panel=passport&ref=flight-delay@production",
    "gap": "panel=passport&ref=weather-feed@production",
    "timeline": "panel=timeline&deliverable=delay-api",
    "data": "panel=data&deliverable=flight-delay",
    "figures": "panel=figures&deliverable=delay-api",
}


@pytest.fixture
def told(server: Server) -> Server:
    server.holds(whole())
    return server


@contextmanager
def opened(browser: Any, server: Server, **how: Any) -> Iterator[Any]:
    """A page of somebody who is logged in; whatever goes wrong in it fails the test."""
    page = visit(browser, **how)
    path = server.url.removeprefix("http://").partition("/")[2]
    host = server.url.removesuffix(f"/{path}") if path else server.url
    page.context.add_cookies([{"name": "_token", "value": server.token("viewer"), "url": host}])
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((host, "blob:", "data:")) else wrong.append(asked.url),
    )
    yield page
    page.context.close()
    assert wrong == [], wrong


def go(page: Any, server: Server, query: str = "") -> None:
    page.goto(f"{server.url}/pipeops/page?{query}")
    page.wait_for_selector("main:not([aria-busy])")


def shot(page: Any, name: str, **how: Any) -> None:
    """Keep a screenshot, where somebody wants to look at it."""
    if folder := os.environ.get("PIPEOPS_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), **how)


def test_now_says_what_needs_somebody(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told)
        needs = page.locator(".need")
        needs.first.wait_for()
        said = needs.all_inner_texts()
        assert any("Not healthy" in one and "gate-display in production" in one for one in said)
        assert any("Out of sync" in one and "replicas 2, Git says 4" in one for one in said)
        assert all(re.search(r"ago|just now", one) for one in said)
        shot(page, "delivery-now")
        page.get_by_role("link", name="Record").first.click()
        page.locator(".node").first.wait_for()


def test_who_waits_for_an_answer_is_led_to_it(browser: Any, told: Server) -> None:
    answer = told.python(
        """
from datetime import datetime, timezone
from airflow.utils.session import create_session
from airflow.models.taskinstance import TaskInstance
from airflow.models.hitl import HITLDetail
from airflow.models.dag import DagModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.types import DagRunType
from airflow.utils.state import DagRunState
from airflow._shared.timezones import timezone as zones
with create_session() as session:
    dag = SerializedDagModel.get_dag("code_to_release", session=session)
    from airflow.utils.types import DagRunTriggeredByType
    now = datetime.now(timezone.utc)
    run = dag.create_dagrun(run_id="asked", run_type=DagRunType.MANUAL, state=DagRunState.RUNNING, logical_date=now,
        data_interval=(now, now), run_after=now, triggered_by=DagRunTriggeredByType.TEST, session=session)
    ti = next(ti for ti in run.task_instances if ti.task_id == "approve")
    ti.state = "awaiting_input"
    session.add(HITLDetail(ti_id=ti.id, options=["Approve", "Reject"], subject="Release delay-api 1.9.0?", params={}))
print("done")
"""
    )
    assert "done" in answer
    with opened(browser, told) as page:
        page.goto(f"{told.url}/plugin/delivery")
        inner = page.frame_locator("iframe[title=Delivery]")
        asks = inner.locator(".need").filter(has_text="Release delay-api 1.9.0?")
        asks.wait_for()
        assert "Approval waiting" in asks.inner_text()
        asks.get_by_role("link", name="Answer it").click()
        page.wait_for_url("**/dags/code_to_release/runs/asked/tasks/approve/required_actions")


def test_the_matrix_is_searched_filtered_and_grouped(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=matrix")
        rows = page.locator(".matrix tbody tr:not(.group)")
        assert rows.count() == 9
        shot(page, "delivery-matrix")
        page.fill("#search", "gate")
        assert rows.count() == 1
        assert "Degraded" in rows.inner_text()
        page.fill("#search", "")
        page.select_option("#filter", "behind")
        assert rows.all_inner_texts()[0].startswith("loyalty")
        assert rows.count() == 1
        page.select_option("#filter", "unknown")
        assert "seat-map" in rows.inner_text()
        page.select_option("#filter", "")
        page.select_option("#group", "state")
        assert page.locator("tr.group").first.inner_text().startswith("Not healthy")
        # All of it is in the address.
        page.fill("#search", "delay")
        page.wait_for_function("location.search.includes('group=state')")
        page.wait_for_function("location.search.includes('q=delay')")
        page.reload()
        page.locator(".matrix").wait_for()
        assert page.input_value("#search") == "delay"
        assert rows.count() == 2


#: What each filter shows of what the seeds tell, and of an approval and a drift that are added.
SHOWN = {
    "attention": ["crew-rota", "delay-api", "flight-delay", "gate-display"],
    "unhealthy": ["gate-display"],
    "outofsync": ["crew-rota", "delay-api"],
    "drift": ["flight-delay"],
    "unapproved": [
        *(
            "basket",
            "checkout",
            "crew-rota",
            "delay-api",
            "flight-delay",
            "gate-display",
            "loyalty",
            "seat-map",
        ),
        "weather-feed",
    ],
}


def test_each_filter_shows_what_it_says(browser: Any, told: Server) -> None:
    story = Story("drift_to_retrain")
    yes = {"subject": "Ship it?", "approved": True, "approved_by": "Ines", "answer": "Approve"}
    approval = story.tell("approval", 2, yes, of="agreed", environment="production")
    live = {"revision": sha("agreed"), "health": "Healthy", "sync": "Synced"}
    story.tell("release", 1, live, approval, of="agreed", environment="production")
    moved = {"batch": "2014-01", "drifted": True, "verdict": "drift", "share": 0.5}
    story.tell("drift", 1, moved, of="flight-delay")
    told.gets(story.records)
    with opened(browser, told) as page:
        go(page, told, "panel=matrix")
        rows = page.locator(".matrix tbody tr:not(.group)")
        assert rows.count() == 10
        for name, shown in SHOWN.items():
            page.select_option("#filter", name)
            assert [row.split()[0] for row in rows.all_inner_texts()] == shown, name
        page.select_option("#filter", "")
        page.select_option("#group", "prefix")
        words = [
            "agreed",
            "basket",
            "checkout",
            "crew",
            "delay",
            "flight",
            "gate",
            "loyalty",
            "seat",
            "weather",
        ]
        assert [group.split()[0] for group in page.locator("tr.group").all_inner_texts()] == words


def test_what_nobody_knows_is_not_well(browser: Any, told: Server) -> None:
    story = Story()
    story.ship("ferry", "ferry", 2, production={"health": "Healthy", "sync": "Unknown"})
    story.ship("pushed", "pushed", 2, production={"health": "Healthy", "sync": None})
    told.gets(story.records)
    with opened(browser, told) as page:
        go(page, told, "panel=matrix&show=unknown")
        rows = page.locator(".matrix tbody tr:not(.group)")
        assert [row.split()[0] for row in rows.all_inner_texts()] == ["ferry", "pushed", "seat-map"]
        assert "Sync unknown" in rows.nth(1).inner_text()


def test_an_outage_is_seen_in_the_matrix_and_on_the_passport(browser: Any, told: Server) -> None:
    story = Story()
    _, live = story.ship("basket", "basket-2", 5)
    where = {"of": "basket", "environment": "production"}
    story.tell("incident", 0.5, {"what": "3 of 4 pods restart"}, live, **where)
    story.tell(
        "differences",
        0.4,
        {"app": "basket-production", "verdict": "different", "reason": "replicas"},
        of="basket",
    )
    story.tell("drift", 0.3, {"subject": "data", "verdict": "no drift", "drifted": False}, of="basket")
    told.gets(story.records)
    with opened(browser, told) as page:
        for show in ("unhealthy", "outofsync", "attention"):
            go(page, told, f"panel=matrix&show={show}")
            said = page.locator(".matrix tbody tr").filter(has_text="basket").inner_text()
            assert "Degraded" in said
            assert "Out of sync" in said
        go(page, told, "panel=matrix&group=state&q=basket")
        assert page.locator("tr.group").first.inner_text().startswith("Not healthy")
        go(page, told, "panel=passport&ref=basket@production")
        page.locator(".heading").get_by_text("Degraded").wait_for()
        go(page, told, "panel=timeline&deliverable=basket&environment=production")
        page.locator('.point[aria-label^="Drift"]').wait_for()
        page.locator('.point[aria-label^="Incident"]').wait_for()
        assert page.locator('.point[aria-label*="basket in staging"]').count() == 0


def test_the_matrix_of_another_day(browser: Any, told: Server) -> None:
    from tests.ui.seeds import NOW, timedelta

    with opened(browser, told) as page:
        go(page, told, f"panel=matrix&at={(NOW - timedelta(hours=300)).strftime('%Y-%m-%dT%H:%MZ')}")
        row = page.locator(".matrix tbody tr").filter(has_text="delay-api")
        assert "1.5.0" in row.inner_text()


def test_the_passport_is_drawn_and_verified(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=passport&ref=flight-delay@production")
        page.get_by_text(re.compile(r"^(\d+) of \1 records hash to their ids")).wait_for()
        nodes = page.locator(".node")
        kinds = " ".join(nodes.all_inner_texts())
        for said in (
            "Release",
            "Change",
            "Evaluation",
            "Model flight-delay",
            "Decision: retrain",
            "Drift",
            "Data, 412,008 rows",
        ):
            assert said in kinds
        assert nodes.count() == page.locator(".seal").count()
        assert page.get_by_text("no gap", exact=True).is_visible()
        shot(page, "delivery-passport")
        # What a person asks first is answered in words, and each answer leads to the record that says so.
        answers = page.locator(".answers")
        for question in (
            "Since when?",
            "Made from which data?",
            "Deployed by which commit?",
            "Approved by whom?",
        ):
            assert question in answers.inner_text()
        assert "412008 rows" in answers.inner_text()
        answers.locator("dd button").filter(has_text="412008 rows").click()
        assert "Data" in page.locator(".side h3").inner_text()
        # A record is chosen, and by keys the next one.
        nodes.filter(has_text="Release").first.focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        assert "Change" in page.locator(".side h3").inner_text()
        page.wait_for_function("location.search.includes('node=')")
        page.get_by_text("What changed against the release before").click()
        page.locator("details table").get_by_text("changed", exact=True).first.wait_for()


#: Bodies as operators emit them, and what the page says of each: title, line, level.
SAID: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "batch",
        {"batch": "2013-04", "rows": 28330, "digest": "a" * 64},
        ["Batch 2013-04", "28,330 rows", "good"],
    ),
    (
        "validation",
        {"subject": "tests", "passed": 3, "test-result": {"result": "PASSED"}},
        ["Tests", "passed", "good"],
    ),
    (
        "validation",
        {"subject": "tests", "tests": 4, "passed": 3, "failed": 1, "test-result": {"result": "WARNED"}},
        ["Tests", "warned: 1 of 4", "warn"],
    ),
    ("validation", {"subject": "tests", "passed": 3}, ["Tests", "cannot tell", "unknown"]),
    (
        "validation",
        {"subject": "data", "passed": False, "failed": 1, "evaluated": 14},
        ["Data gate", "failed: 1 of 14", "bad"],
    ),
    (
        "validation",
        {"subject": "image", "verified": ["digest", "signature"], "by": "key"},
        ["Signatures", "digest; signature verified, by key", "good"],
    ),
    (
        "validation",
        {"subject": "coverage", "coverage": 91.25, "floor": 80},
        ["Coverage", "91.25 % of the lines, 80 % asked for", "good"],
    ),
    ("workflow", {"pods": [{"pod": "train-1"}]}, ["Workflow", "train-1", "unknown"]),
    (
        "training",
        {"name": "delay", "sha256": "b" * 64, "metrics": {"auc": 0.7412}},
        ["Training", "delay: auc 0.741", "good"],
    ),
    (
        "scores",
        {
            "partition": "2013-06",
            "rows": 28243,
            "model": "delay",
            "version": "3",
            "outcome": "scored",
            "shown": True,
        },
        ["Scores of 2013-06", "28,243 rows \u00b7 delay v3 \u00b7 scored", "good"],
    ),
    ("model", {"name": "delay", "version": None, "sha256": "b" * 64}, ["Model delay", "b" * 8, "good"]),
    (
        "alias",
        {"name": "delay", "alias": "champion", "version": "3", "previous": "2"},
        ["Alias champion", "delay v3, before v2", "good"],
    ),
    (
        "drift",
        {"batch": "2013-04", "share": None, "drifted": None},
        ["Drift", "cannot tell \u00b7 2013-04", "unknown"],
    ),
    (
        "approval",
        {"subject": "Release 1.9.0?", "answer": "Reject", "approved": False, "approved_by": "Ines"},
        ["Approval", "Release 1.9.0?: Reject by Ines", "bad"],
    ),
    (
        "approval",
        {"subject": "Release?", "answer": "Approve", "approved": True, "approved_by": "", "timed_out": True},
        ["Approval", "Release?: Approve since nobody answered in time", "good"],
    ),
    ("approval", {}, ["Approval", "", "unknown"]),
    (
        "rollback",
        {"app": "api", "reverts": "c" * 40, "how": "undo"},
        ["Rollback of cccccccc", "api \u00b7 undo", "warn"],
    ),
    (
        "prompt",
        {"name": "notice", "sha256": "d" * 64, "model": "small-1"},
        ["Prompt notice", "dddddddd for small-1", "good"],
    ),
    (
        "tuning",
        {"decisions": [{"knob": {"name": "alarm"}, "step": {"action": "move"}}]},
        ["Tuning", "alarm: move", "unknown"],
    ),
    (
        "anomaly",
        {"count": 2, "alarms": [{"reason": "load took 3 h"}, {}]},
        ["Anomalies", "2: load took 3 h", "warn"],
    ),
    ("anomaly", {"count": 0, "alarms": []}, ["Anomalies", "none", "good"]),
    (
        "failure",
        {"outcome": "refused", "error": "GateFailed", "reason": "worse"},
        ["Refused", "GateFailed \u00b7 worse", "bad"],
    ),
    ("failure", {"outcome": "constructor"}, ["Failed, nobody knows why", "", "bad"]),
    ("toString", {}, ["toString", "of a kind that this version does not know", "unknown"]),
]


def test_each_kind_is_said_as_operators_record_it(browser: Any, told: Server) -> None:
    from airflow_pipeops.delivery.records import KINDS

    tell = """async (facts) => {
        const { tell } = await import(document.querySelector("script[type=module]").src.replace("main.js", "facts.js"));
        return facts.map(tell);
    }"""
    with opened(browser, told) as page:
        go(page, told)
        found = page.evaluate(tell, [{"kind": kind, "body": body} for kind, body, _ in SAID])
        assert found == [said for _, _, said in SAID]
        empty = page.evaluate(tell, [{"kind": kind, "body": {}} for kind in KINDS])
        assert all(title and "does not know" not in line for title, line, _ in empty)


def test_a_gap_is_drawn(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=passport&ref=weather-feed@production")
        gap = page.locator(".node.missing")
        assert "nobody holds it" in gap.inner_text()
        assert page.locator("path.edge.gap").count() == 1
        assert page.get_by_text("1 gap", exact=True).is_visible()


def test_what_was_altered_in_the_index_is_seen_in_the_browser(browser: Any, told: Server) -> None:
    import sqlite3

    connection = sqlite3.connect(told.index)
    with connection:
        connection.execute(
            "UPDATE records SET content = replace(content, 'registry.example.com', 'registry.example.net')"
        )
    connection.close()
    with opened(browser, told) as page:
        go(page, told, "panel=passport&ref=delay-api@production")
        page.get_by_text("1 of 5 records do not hash to their ids").wait_for()
        assert "altered" in page.locator(".node").filter(has_text="Image").inner_text()


def signed(server: Server, key: Any) -> None:
    """Write the ledger that the index is of, and a checkpoint that this key has signed, or nobody."""
    shutil.rmtree(server.home / "pipeops" / "ledger", ignore_errors=True)
    ledger = Ledger.open((server.home / "pipeops" / "ledger").as_uri())
    entries = numbered(whole())
    ledger.append(entries, ledger.head())
    signer = Signer("ledger.example.com", key) if key else None
    advance(ledger, len(entries), signer, "ledger.example.com/test")


def test_the_checkpoint_is_verified_in_the_browser(browser: Any, told: Server) -> None:
    signed(told, SIGNER)
    with opened(browser, told) as page:
        go(page, told, "panel=passport&ref=delay-api@production")
        page.get_by_text("In the signed checkpoint of 172 entries").wait_for()
        assert page.get_by_text("key ledger.example.com+").is_visible()
        signed(told, Ed25519PrivateKey.generate())
        go(page, told, "panel=passport&ref=delay-api@production")
        page.get_by_text("Checkpoint: the signature is not that of the ledger's key").wait_for()
        # A ledger that was rewritten whole, but for its checkpoint.
        signed(told, SIGNER)
        path = told.home / "pipeops" / "ledger" / "entries" / "000" / "000.jsonl"
        path.write_text(path.read_text().replace("1.3.0", "1.3.9"))
        go(page, told, "panel=passport&ref=delay-api@production")
        page.get_by_text("Checkpoint: the entry is not in the tree that the checkpoint signs").wait_for()


def test_a_checkpoint_that_nobody_signs_is_no_alarm(browser: Any, below: Server) -> None:
    """As in every ledger where nothing is configured."""
    below.holds(whole())
    with opened(browser, below) as page:
        for key, said in (
            (None, "which nobody signs"),
            (SIGNER, "signed by a key that this Airflow does not know"),
        ):
            signed(below, key)
            go(page, below, "panel=passport&ref=flight-delay@production")
            mark = page.locator(".seals .mark").filter(has_text=f"In the checkpoint of 172 entries, {said}")
            mark.wait_for()
            assert mark.get_attribute("class") == "mark unknown"
            assert page.locator(".seals .bad").count() == 0
            assert page.locator(".seals code").inner_text() == "[pipeops] ledger_key_conn_id"
        shot(page, "delivery-unsigned")
        # That nobody signs it lets nothing be altered.
        path = below.home / "pipeops" / "ledger" / "entries" / "000" / "000.jsonl"
        path.write_text(path.read_text().replace("1.3.0", "1.3.9"))
        go(page, below, "panel=passport&ref=delay-api@production")
        page.locator(".seals .bad").get_by_text("Checkpoint: the entry is not in the tree").wait_for()


def linked() -> list[Record]:
    """A model from commit to release, each of whose records leads somewhere; and one that would lead astray."""
    story, of = Story(), "linked"
    forge, desired = "https://github.com/acme/delay", "git@gitlab.example.com:acme/deploy.git"
    code, done = sha("code"), sha("desired")
    born = story.tell(
        "commit", 5, {"commit": code, "subject": "Better", "repository": forge}, of=of, commit=code
    )
    version = {
        "name": of,
        "version": "3",
        "registry_url": "https://mlflow.example.com/#/models/linked/versions/3",
    }
    model = story.tell("model", 4, version, born, of=of, commit=code)
    changed = {"commit": done, "changed": True, "repository": desired}
    change = story.tell("change", 3, changed, model, of=of, environment="production", commit=code)
    live = {"revision": done, "health": "Healthy", "url": "https://argocd.example.com/applications/linked"}
    story.tell("release", 2, live, change, of=of, environment="production")
    astray = {
        "commit": sha("astray"),
        "repository": "javascript:alert(1)//github.com/a/b",
        "url": "data:text/html,x",
    }
    story.tell("commit", 1, astray, of=of, commit=sha("astray"))
    return story.records


def test_records_lead_out_to_forge_registry_and_controller(browser: Any, told: Server) -> None:
    records = linked()
    told.gets(records)
    code = f"https://github.com/acme/delay/commit/{sha('code')}"
    desired = f"https://gitlab.example.com/acme/deploy/-/commit/{sha('desired')}"
    wanted = {
        "commit": {code, "https://github.com/acme/delay"},
        "model": {code, "https://mlflow.example.com/#/models/linked/versions/3"},
        "change": {code, desired},
        "release": {desired, "https://argocd.example.com/applications/linked"},
    }
    with opened(browser, told) as page:
        for node, (kind, found) in zip(records, wanted.items(), strict=False):
            go(page, told, f"panel=passport&ref=linked@production&node={node.id}")
            links = page.locator(".side a[target=_blank]")
            assert {link.get_attribute("href") for link in links.all()} == found, kind
            assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer"}
        shot(page, "delivery-links")
        go(page, told, f"panel=passport&ref={records[-1].id}")
        assert page.locator(".side a[target=_blank]").count() == 0


def test_airflows_frame_leads_out_prints_and_downloads(browser: Any, told: Server) -> None:
    told.gets(linked())
    with opened(browser, told) as page:
        page.context.add_init_script(
            "window.print = () => { document.documentElement.dataset.printed = ''; }"
        )
        page.context.route(
            re.compile("^https://(github|argocd)"), lambda route: route.fulfill(body="the other side")
        )
        page.goto(f"{told.url}/plugin/delivery/pipeops/page?panel=passport&ref=linked@production")
        inner = page.frame_locator("iframe[title=Delivery]")
        inner.get_by_text("4 of 4 records hash to their ids").wait_for()
        with page.context.expect_page() as led:
            inner.get_by_role("link", name="Controller").first.click()
        led.value.wait_for_url("https://argocd.example.com/applications/linked")
        assert led.value.evaluate("window.opener") is None
        with page.expect_download() as kept:
            inner.get_by_role("button", name="Download").click()
        found = json.loads(kept.value.path().read_text())
        assert kept.value.suggested_filename == f"passport-{found['walk']['steps'][0]['id'][:12]}.json"
        assert found == told.get("/api/passport/linked@production").json()
        # The frame may not print: a page of its own does, which Airflow is not around.
        with page.context.expect_page() as alone:
            inner.get_by_role("button", name="Print").click()
        alone.value.locator("html[data-printed]").wait_for()
        assert "print=1" not in alone.value.url
        assert alone.value.get_by_text("4 of 4 records hash to their ids").is_visible()


def test_on_paper_the_graph_is_a_list(browser: Any, told: Server) -> None:
    with opened(browser, told, viewport={"width": 720, "height": 1000}) as page:
        go(page, told, "panel=passport&ref=flight-delay@production")
        page.get_by_text("records hash to their ids").wait_for()
        steps = page.locator(".outline li")
        assert not steps.first.is_visible()
        page.pdf(format="A4")  # as the browser's own printing does, this tells the page before
        page.emulate_media(media="print")
        assert steps.count() == page.locator(".node").count()
        assert all(step.is_visible() for step in steps.all())
        assert not page.locator(".drawn").is_visible()
        assert not page.get_by_role("button", name="Print").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shot(page, "delivery-paper", full_page=True)


def test_the_timeline_says_what_changed_before(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=timeline&deliverable=delay-api")
        lanes = page.locator(".lanes .lane").all_text_contents()
        assert {"Deploys", "Builds and tests", "Incidents", "Drift from Git"} <= set(lanes)
        page.get_by_role("button", name=re.compile(r"^Incident, delay-api in production")).focus()
        page.keyboard.press("Enter")
        before = page.locator(".before")
        before.wait_for()
        suspects = before.locator(".suspects tbody tr")
        assert "Cache answers by airport" in suspects.first.inner_text()
        suspects.first.get_by_text("Log odds").click()
        assert "prior: of changes of code" in suspects.first.inner_text()
        assert "airflow pipeops passport delay-api@production@" in suspects.first.inner_text()
        assert before.locator(".suspects ~ div tbody tr").first.inner_text().count("Release") == 1
        shot(page, "delivery-timeline")
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_selector("main:not([aria-busy])")
        page.wait_for_function("location.search.includes('from=')")
        page.go_back()
        page.wait_for_function("!location.search.includes('from=')")


def test_a_story_of_minutes_fills_the_timeline(browser: Any, server: Server) -> None:
    story = Story("model_guard")
    since = (datetime.now(timezone.utc) - NOW).total_seconds() / 3600  # hours since its clock was set
    story.tell(
        "release", 0.2 - since, {"revision": sha("r"), "health": "Healthy"}, of="m", environment="production"
    )
    said = {"subject": "guard", "verdict": "worse", "reason": "worse on 20 days"}
    story.tell("evaluation", 0.02 - since, said, of="m", environment="production")
    story.tell("prompt", 0.1 - since, {"name": "m", "sha256": "a" * 64}, of="m")
    server.holds(story.records)
    with opened(browser, server) as page:
        go(page, server, "panel=timeline")
        assert page.locator(".lanes .lane").all_text_contents() == ["Deploys", "Models, prompts"]
        worse = page.get_by_role(
            "button", name=re.compile("^Guard of the model, m in production.* worse on 20 days")
        )
        assert "bad" in worse.get_attribute("class")
        release = page.get_by_role("button", name=re.compile("^Release"))
        assert worse.bounding_box()["x"] - release.bounding_box()["x"] > 600
        axis = page.locator(".lanes .axis").all_text_contents()
        assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d", axis[0])
        assert re.fullmatch(r"\d\d:\d\d", axis[-1])
        shot(page, "delivery-timeline-minutes")


def test_data_shows_drift_performance_and_decisions(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=data&deliverable=flight-delay")
        page.locator(".plot canvas").first.wait_for()
        captions = page.locator(".chart figcaption").all_inner_texts()
        assert captions[:3] == [
            "auc on what arrived, against the expected level",
            "Share of columns that drifted",
            "dep_hour",
        ]
        # Behind each chart is a table.
        page.locator(".chart summary").first.click()
        head = page.locator(".chart").first.locator("th").all_inner_texts()
        assert head == ["When", "Batch", "auc", "expected level", "Interval", "Verdict"]
        page.locator(".chart summary").first.click()
        assert page.locator("table").get_by_text("a retrain pays").count() == 1
        shot(page, "delivery-data")
        # Each decision stands on the axis with its reason, for the pointer and for keys.
        chart = page.locator(".chart").first
        marks, said = chart.locator(".decided"), chart.locator(".told")
        assert marks.count() == 10
        assert [mark.get_attribute("tabindex") for mark in marks.all()] == [*["-1"] * 9, "0"]
        retrain = chart.get_by_role("link", name=re.compile("retrain: The AUC is .047 below the level"))
        assert "a retrain pays" in retrain.get_attribute("title")
        retrain.hover()
        assert "a retrain pays" in said.inner_text()
        marks.last.focus()
        assert "hold: The AUC is within what people accepted." in said.inner_text()
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        assert "a retrain pays" in said.inner_text()
        shot(page, "delivery-decision")
        page.keyboard.press("Enter")
        page.locator(".node").first.wait_for()
        assert "Decision: retrain" in page.locator(".side h3").inner_text()


def test_figures_show_their_denominators(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told, "panel=figures&deliverable=delay-api")
        fail = page.locator(".figure").filter(has_text="Change fail rate")
        assert re.search(r"\d+ of \d+ deployments", fail.inner_text())
        assert page.locator(".figure").count() == 5
        shot(page, "delivery-figures")
        assert page.locator(".chart").count() == 5
        go(page, told, "panel=figures&deliverable=flight-delay&days=365")
        assert page.locator(".figure").count() == 9
        captions = page.locator(".chart figcaption").all_inner_texts()
        assert captions == [
            "Change lead time, hours",
            "Deployment frequency, a week",
            "Failed deployment recovery time, hours",
            "Change fail rate, %",
            "Deployment rework rate, %",
            "Age of the data in production, days",
            "From drift to a fixed model, hours",
            "Challengers rejected, %",
            "Retrains that helped, %",
        ]
        age = page.locator(".chart").filter(has_text="Age of the data in production")
        age.locator("summary").click()
        days = [row.inner_text().split("\t")[-1] for row in age.locator("tbody tr").all()]
        # The data of the live model came 1197 hours ago, those of its predecessor 2200; before, none was live.
        assert float(days[0]) == pytest.approx(1197 / 24, abs=0.1)
        assert float(days[1]) == pytest.approx(2200 / 24 - 365 / 6, abs=0.1)
        assert days[2:] == ["unknown"] * 4
        shot(page, "delivery-figures-model", full_page=True)


def test_a_new_fact_appears_by_itself(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        asked: list[str] = []
        go(page, told, "panel=matrix")
        page.get_by_text("Live", exact=True).wait_for()
        page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
        story = Story()
        story.ship("newcomer", "newcomer", 2)
        told.gets(story.records)
        page.locator(".matrix").get_by_text("newcomer").wait_for(
            timeout=5_000 * int(os.environ.get("PIPEOPS_SLOW", "3"))
        )
        # Until then, nothing but the one cheap question was asked.
        assert set(asked[: asked.index(next(one for one in asked if one.startswith("matrix")))]) == {"state"}


def test_a_server_that_is_silent_is_not_live(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        page.add_init_script(
            "const timeout = AbortSignal.timeout.bind(AbortSignal); AbortSignal.timeout = (time) => timeout(time / 100);"
        )
        go(page, told)
        page.get_by_text("Live", exact=True).wait_for()
        page.route("**/api/state", lambda route: None)
        page.get_by_text("Airflow does not answer").wait_for()
        page.unroute("**/api/state")
        page.get_by_text("Live", exact=True).wait_for()


def test_it_lies_in_airflow_and_follows_its_switch(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        page.goto(f"{told.url}/plugin/delivery")
        inner = page.frame_locator("iframe[title=Delivery]")
        inner.locator(".need").first.wait_for()
        theme = "document.querySelector('iframe').contentDocument.documentElement.dataset.theme"
        assert page.evaluate(theme) == "light"
        page.evaluate(
            "document.documentElement.classList.replace('light', 'dark') || document.documentElement.classList.add('dark')"
        )
        page.wait_for_function(f"{theme} === 'dark'")
        shot(page, "delivery-dark")
        # A link shows another person the same.
        inner.get_by_role("link", name="Matrix").click()
        inner.locator("#search").fill("delay")
        page.wait_for_function("location.search.includes('q=delay')")
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        inner.locator(".matrix").wait_for()
        shot(page, "delivery-searched")
        assert inner.locator(".matrix tbody tr").count() == 2


def test_it_is_the_picture_of_the_readme(browser: Any, told: Server) -> None:
    with opened(browser, told, viewport={"width": 1360, "height": 860}) as page:
        page.goto(f"{told.url}/plugin/delivery")
        inner = page.frame_locator("iframe[title=Delivery]")
        inner.get_by_role("link", name="Matrix", exact=True).click()
        inner.locator(".matrix").wait_for()
        inner.get_by_text("Live", exact=True).wait_for()
        shot(page, "delivery")


#: As Airflow names a run, with letters that an address has other uses for.
RUN = "manual__2026-01-01T00:00:00+00:00"


def test_dags_runs_and_tasks_have_a_tab_of_what_they_recorded(browser: Any, told: Server) -> None:
    made = told.python(
        f"""
from datetime import datetime, timezone
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
now = datetime.now(timezone.utc)
with create_session() as session:
    run = SerializedDagModel.get_dag("fails", session=session).create_dagrun(
        run_id="{RUN}", run_type=DagRunType.MANUAL, state=DagRunState.RUNNING, logical_date=now,
        data_interval=(now, now), run_after=now, triggered_by=DagRunTriggeredByType.TEST, session=session)
    print(sorted((ti.task_id, ti.map_index) for ti in run.task_instances))
"""
    )
    assert "('judge', 1)" in made
    story = Story("fails")
    for task, index in (("judge", 0), ("judge", 1), ("lost", -1)):
        one = story.tell(
            "evaluation", 1, {"promote": True, "reason": f"{task} {index}"}, of="judged", task=task
        )
        story.records[-1] = replace(one, source={**one.source, "run": RUN, "map_index": index})
    story.tell("evaluation", 9, {"promote": True, "reason": "another run"}, of="judged", task="judge")
    told.gets(story.records)
    run = f"dags/fails/runs/{quote(RUN)}"
    tabs = {
        "dags/fails/plugin/delivery-dag": ("DAG fails", 4),
        f"{run}/plugin/delivery-dag-run": (f"run {RUN} of DAG fails", 3),
        f"{run}/tasks/lost/plugin/delivery-task-instance": (f"task lost of run {RUN} of DAG fails", 1),
        f"{run}/tasks/judge/mapped/1/plugin/delivery-task-instance": (
            f"task judge of run {RUN} of DAG fails",
            1,
        ),
    }
    with opened(browser, told) as page:
        for path, (where, count) in tabs.items():
            page.goto(f"{told.url}/{path}")
            inner = page.frame_locator("iframe[title=Delivery]")
            inner.get_by_role("heading", name=f"Recorded by {where}", exact=True).wait_for()
            assert inner.locator("tbody tr").count() == count, path
            if "mapped" in path:
                assert "judge 1" in inner.locator("tbody tr").inner_text()
            shot(page, f"delivery-{path.rpartition('/')[2]}")


def test_below_a_base_path_and_empty(browser: Any, below: Server) -> None:
    below.holds([])
    with opened(browser, below) as page:
        page.goto(f"{below.url}/plugin/delivery")
        inner = page.frame_locator("iframe[title=Delivery]")
        inner.get_by_role("heading", name="Nothing has been recorded yet").wait_for()
        shot(page, "delivery-empty")
        for name in ("Matrix", "Passport", "Timeline", "Data", "Figures"):
            inner.get_by_role("link", name=name, exact=True).click()
            inner.get_by_role("heading", name="Nothing has been recorded yet").wait_for()
        # As it is filled, the page is of use without being loaded anew.
        below.holds(whole())
        inner.get_by_role("link", name="Matrix", exact=True).click()
        inner.locator(".matrix").wait_for()
        page.reload()
        inner.locator(".matrix").wait_for()
        inner.get_by_role("link", name="flight-delay 2").first.click()
        inner.locator(".node").first.wait_for()
        inner.get_by_role("link", name=re.compile("drift_to_retrain")).first.click()
        page.wait_for_url("**/af/dags/drift_to_retrain/**")


def test_what_a_dag_has_recorded_is_leafed_through(browser: Any, told: Server) -> None:
    story = Story("fails")
    for number in range(230):
        story.tell("evaluation", 1 + number / 100, {"promote": True, "reason": f"no. {number}"}, of="judged")
    told.gets(story.records)
    with opened(browser, told) as page:
        go(page, told, "dag=fails")
        rows, found = page.locator("tbody tr"), []
        while True:
            found += rows.all_inner_texts()
            if not page.get_by_role("link", name="Earlier").count():
                break
            last = page.url
            page.get_by_role("link", name="Earlier").click()
            page.wait_for_function("before => location.href !== before", arg=last)
            page.wait_for_selector("main:not([aria-busy])")
        assert len(found) == 230
        assert len({row.partition("no. ")[2] for row in found}) == 230
        page.reload()  # a link shows another person the same part
        rows.first.wait_for()
        assert rows.count() == 30
        page.get_by_role("link", name="Newest").click()
        page.get_by_role("link", name="Earlier").wait_for()
        assert rows.count() == 100


def test_all_is_only_calm_when_all_were_looked_at(browser: Any, told: Server) -> None:
    """A page of what needs somebody looks at a thousand deliverables."""
    quiet = {"revision": 1, "needs": [], "at": "2026-03-01T00:00:00+00:00", "after": "d0999", "hidden": False}
    with opened(browser, told) as page:
        page.route("**/api/now", lambda route: route.fulfill(json=quiet))
        go(page, told)
        page.locator(".need").first.wait_for()
        assert page.get_by_text("Nothing needs you").count() == 0
        page.get_by_role("link", name="From the beginning").count()


def test_a_passport_of_what_is_not_live_any_more_is_not_green(browser: Any, told: Server) -> None:
    old = next(one for one in whole() if one.kind == "release" and one.environment == "production")
    with opened(browser, told) as page:
        go(page, told, f"panel=passport&ref={old.id}")
        heading = page.locator(".heading")
        assert "Not live any more" in heading.inner_text()
        assert "until" in heading.inner_text()
        assert heading.locator(".mark.good").count() == 0
        go(page, told, f"panel=passport&ref={old.deliverable}@production")
        assert "Not live any more" not in heading.inner_text()


def test_each_of_a_kind_is_compared_with_the_release_before(browser: Any, told: Server) -> None:
    story, of = Story(), {"of": "twofold", "environment": "production"}
    same = story.tell("image", 9, {"reference": "registry.example.com/same:1"}, of="twofold")
    old, new = (
        story.tell("image", 8, {"reference": f"registry.example.com/other:{n}"}, of="twofold") for n in (1, 2)
    )
    story.tell("release", 7, {"revision": sha("old"), "health": "Healthy"}, same, old, **of)
    story.tell("release", 6, {"revision": sha("new"), "health": "Healthy"}, same, new, **of)
    told.gets(story.records)
    with opened(browser, told) as page:
        go(page, told, "panel=passport&ref=twofold@production")
        page.get_by_text("What changed against the release before").click()
        row = page.locator("details table tr").filter(has_text="image")
        row.wait_for()
        said = row.inner_text()
        assert "changed" in said
        assert "other:1" in said
        assert "other:2" in said
        assert "same:1" not in said


def test_what_a_panel_imports_is_asked_for_with_the_page(browser: Any, told: Server) -> None:
    for panel in (*PANELS, "records"):
        with opened(browser, told) as page:
            named: list[str] = []
            page.on("request", lambda asked, named=named: named.append(asked.url.partition("/static/")[2]))
            go(page, told, f"panel={panel}" if panel != "records" else "dag=code_to_release")
            html = told.get(f"/page?panel={panel}").text
            loaded = {one.partition("/")[2] for one in named if one.endswith(".js")}
            linked = set(re.findall(r'modulepreload" href="static/[^/]+/([^"]+)"', html))
            assert linked <= loaded, panel
            # Of modules, only what a panel asks for where nothing is named comes later.
            assert loaded - linked <= {"records.js"}, panel


def test_a_thousand_deliverables(browser: Any, below: Server) -> None:
    below.holds(many(1000))
    with opened(browser, below) as page:
        go(page, below, "panel=matrix")
        page.get_by_text("1000 of 1000 deliverables").wait_for()
        page.fill("#search", "service-0999")
        assert page.locator(".matrix tbody tr").count() == 1
        go(page, below, "panel=timeline")
        page.locator(".lanes").wait_for()


def test_further_rows_come_below_those_that_are_there(browser: Any, below: Server) -> None:
    """The second page of the matrix is held back, to see what it finds and what it leaves."""
    bad = {"health": "Degraded", "revision": sha("zebra"), "sync": "Synced"}
    story = Story("platform")
    story.tell("release", 1, bad, of="zebra", environment="production")
    below.holds([*many(130), *story.records])
    with opened(browser, below) as page:
        held: list[Any] = []
        page.route(re.compile("api/matrix.*after="), lambda route: held.append(route))
        rows = page.locator(".matrix tbody tr:not(.group)")
        count = page.locator("#cells [role=status]")

        def rest(query: str = "") -> None:
            held.clear()
            go(page, below, f"panel=matrix{query}")
            page.get_by_text(re.compile("so far$|^Still reading")).wait_for()
            page.evaluate(
                "window.first = document.querySelector('.matrix tbody tr:not(.group)');"
                "first?.querySelector('a.version').focus();"
            )
            while not held:
                page.evaluate("1")  # what the page asks for meanwhile is seen
            held[0].continue_()
            page.get_by_text(re.compile(r"^\d+ of 131 deliverables$")).wait_for()

        def kept() -> bool:
            return bool(page.evaluate("first.isConnected && first.contains(document.activeElement)"))

        rest()
        assert count.inner_text() == "131 of 131 deliverables"
        assert kept()
        names = [row.split()[0] for row in rows.all_inner_texts()]
        assert len(names) == 131
        assert names == sorted(names)
        rest("&group=state")
        assert kept()
        groups = [" ".join(one.split()) for one in page.locator("tr.group").all_inner_texts()]
        assert groups == ["Not healthy 1", "Well 130"]
        assert rows.first.inner_text().split()[0] == "zebra"
        rest("&group=prefix")
        assert kept()
        assert [" ".join(one.split()) for one in page.locator("tr.group").all_inner_texts()] == [
            "service 130",
            "zebra 1",
        ]
        rest("&show=unhealthy")
        assert count.inner_text() == "1 of 131 deliverables"
        page.select_option("#filter", "")
        assert rows.count() == 131
        # What is released elsewhere has a column of its own.
        canary = Story("platform")
        canary.tell("release", 1, bad, of="zebra", environment="canary")
        below.gets(canary.records)
        rest()
        assert page.locator(".matrix thead th").all_inner_texts() == [
            "Deliverable",
            "staging",
            "canary",
            "production",
        ]
        assert rows.count() == 131


def test_a_narrow_window_loses_nothing(browser: Any, told: Server) -> None:
    """As at a zoom of 400 %, with the longest that can be said of a checkpoint."""
    signed(told, Ed25519PrivateKey.generate())
    with opened(browser, told, viewport={"width": 360, "height": 740}) as page:
        for name, query in STATES.items():
            go(page, told, query)
            wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], name
            assert page.locator("main").inner_text().strip()
        go(page, told, STATES["passport"])
        page.get_by_text("Checkpoint: the signature is not").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator(".outline li").count() == page.locator(".node").count()


def test_by_keys_alone(browser: Any, told: Server) -> None:
    with opened(browser, told) as page:
        go(page, told)
        page.keyboard.press("2")
        page.locator(".matrix").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("checkout")
        assert page.locator(".matrix tbody tr").count() == 1
        page.locator(".matrix a.version").last.focus()
        page.keyboard.press("Enter")
        page.locator(".node").first.wait_for()


def test_a_name_is_never_markup(browser: Any, told: Server) -> None:
    story = Story()
    for text in (
        "<img src=x onerror=document.title='owned'>",
        "</script><script>document.title='owned'</script>",
    ):
        story.tell(
            "incident",
            1,
            {"what": text, "url": "javascript:document.title='owned'"},
            of="delay-api",
            environment="production",
        )
    told.gets(story.records)
    with opened(browser, told) as page:
        for query in ("", "panel=timeline", "panel=passport&ref=" + story.records[0].id):
            go(page, told, query)
            assert (
                page.get_by_text("<img src=x").count()
                or page.get_by_text("</script>").count()
                or "timeline" in query
            )
            assert "owned" not in page.title()
            assert page.locator("a[href^='javascript:']").count() == 0


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that finds what people with disabilities cannot use; fetched for the tests, never shipped."""
    if not shutil.which("npm"):
        pytest.skip("npm is not there, which fetches axe")
    folder = tmp_path_factory.mktemp("axe")
    fetched = subprocess.run(
        ["npm", "pack", "--silent", "axe-core@4.14.1"], cwd=folder, capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"npm did not fetch axe: {fetched.stderr[-200:]}")
    subprocess.run(["tar", "xzf", fetched.stdout.strip()], cwd=folder, check=True)
    return (folder / "package" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, told: Server, axe: str, scheme: str) -> None:
    kept = store(b"<p>a report</p>", "drift.html", base_uri=told.evidence, dag_id="drift_to_retrain")
    records = whole((kept,))
    told.holds(records)
    incident = next(one for one in records if one.kind == "incident")
    states = {
        **STATES,
        "records": "dag=code_to_release",
        "report": f"panel=report&by=drift_to_retrain&digest={kept.sha256}&name=drift.html",
        "suspects": f"panel=timeline&deliverable=delay-api&moment={quote(incident.at)}&about={incident.id}",
        "empty": "",
    }
    with opened(browser, told, bypass_csp=True, color_scheme=scheme) as page:
        for name, query in states.items():
            if name == "empty":
                told.holds([])
            go(page, told, query)
            assert page.locator(".suspects").count() == (name == "suspects")
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            page.evaluate(axe)
            # A report is a page of another's, in a frame that no script of this one enters.
            found = page.evaluate("axe.run(document, {resultTypes: ['violations'], iframes: false})")[
                "violations"
            ]
            serious = [
                (one["id"], [node["html"][:120] for node in one["nodes"][:3]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], name


def test_what_is_vendored_is_what_was_published() -> None:
    folder = Path(__file__).parents[2] / "airflow_pipeops" / "ui" / "static" / "vendor"
    told = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.*")
    }
    assert {name: digest for name, digest in found.items() if "/" in name} == {
        name: digest for name, digest in told.items() if "." in name
    }
    assert "MIT" in (folder / "uplot" / "LICENSE").read_text()
