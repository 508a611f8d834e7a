"""The demo, end to end, on a real Airflow: the headless story, then a person in a browser on the same stack."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from airflow_pipeops.base.tables import read
from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.models.registry import Registry
from tests.browser import chromium, log_in, visit
from tests.git.conftest import git
from tests.servers import free_ports
from tests.surroundings import outside

pytestmark = [pytest.mark.demo, pytest.mark.timeout(5400)]
ROOT = Path(__file__).parents[2]
PORT, NODES = free_ports(2), free_ports(6)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Python of an environment with what ``make demo`` installs, and nothing that only the tests need."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([ROOT / ".ci" / "install", base, venv, "demo"], check=True, env=outside())
    _copy_bytecode(Path(sys.prefix), venv)
    return venv / "bin" / "python"


def _copy_bytecode(known: Path, venv: Path) -> None:
    """Spare the demo to compile what is compiled in the environment of the tests; what is of another file is not used."""
    for compiled in known.glob("lib/python*/site-packages/**/__pycache__"):
        into = venv / compiled.relative_to(known)
        if into.parent.is_dir():
            shutil.copytree(compiled, into, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, python: Path) -> Iterator[SimpleNamespace]:
    """The demo after its story, still up."""
    home = tmp_path_factory.mktemp("demo") / "home"
    claims, log = home.parent / "claims.json", home.parent / "demo.log"
    command = [
        str(python),
        "-m",
        "airflow_pipeops.demo",
        "--home",
        str(home),
        "--port",
        str(PORT),
        "--node-port",
        str(NODES),
        "--claims",
        str(claims),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    # The demo itself gives up where nothing moves any more; this only ends what not even that ends.
    deadline = time.monotonic() + 4500
    while process.poll() is None and "Ctrl-C" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(1)
    text = log.read_text()
    if claims.exists() and (copy := os.environ.get("PIPEOPS_CLAIMS")):
        shutil.copy(claims, copy)
    yield SimpleNamespace(
        process=process, home=home, claims=claims, output=text, url=f"http://127.0.0.1:{PORT}"
    )
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(60)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_every_claim_of_the_story_holds(demo) -> None:
    assert demo.claims.exists(), demo.output[-6000:]
    found = json.loads(demo.claims.read_text())
    broken = [claim for claim in found["claims"] if not claim["holds"]]
    assert not broken, json.dumps(broken, indent=1) + demo.output[-6000:]
    assert found["hold"]
    assert len(found["claims"]) >= 25
    assert found["peak_memory_bytes"] < 4 * 2**30


def test_no_secret_is_in_a_log(demo) -> None:
    """Neither the sandbox's tokens nor the passwords appear in what any process printed or any task logged."""
    secrets = list(json.loads((demo.home / "sandbox" / "tokens.json").read_text()).values())
    logs = [path for path in (demo.home / "logs").rglob("*") if path.is_file()]
    logs += [path for path in (demo.home / "airflow" / "logs").rglob("*.log") if path.is_file()]
    assert len(logs) > 20
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path


@pytest.fixture(scope="module")
def page(demo):
    """A browser page, logged in to Airflow as a person would."""
    login = re.search(r"login:? +(\S+) */ *(\S+)", demo.output, re.IGNORECASE)
    assert login, demo.output[-2000:]
    with chromium() as browser:
        page = visit(browser)
        log_in(page, demo.url, *login.groups())
        yield page


def shot(page, name: str) -> None:
    """Keep a screenshot, where somebody wants to look at it."""
    if folder := os.environ.get("PIPEOPS_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.browser
def test_the_five_dags_are_there_and_well(demo, page) -> None:
    page.goto(f"{demo.url}/dags")
    for dag in (
        "code_to_release",
        "data_to_model",
        "drift_to_retrain",
        "release_guard",
        "desired_state_drift",
    ):
        page.get_by_text(dag, exact=True).first.wait_for()
    shot(page, "dags")
    assert page.get_by_text("Import Error").count() == 0


def test_the_note_of_each_release_says_what_it_shipped(demo) -> None:
    passwords = json.loads((demo.home / "airflow" / "passwords.json").read_text())
    api = AirflowApi(demo.url, "admin", passwords["admin"])
    api.login()
    notes = [run["note"] for run in api.runs("code_to_release") if run["state"] == "success"]
    assert notes
    for note in notes:
        assert re.match(
            r"Ships: commit [0-9a-f]{8}, .*image [0-9a-f]{8}, .*release [0-9a-f]{8} in production", note
        )


@pytest.mark.browser
def test_a_person_triggers_approves_and_sees_it_succeed(demo, page) -> None:
    from playwright.sync_api import TimeoutError

    page.goto(f"{demo.url}/dags/code_to_release")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    page.goto(f"{demo.url}/required_actions?response_received=false")
    link = page.get_by_role("link", name=re.compile("Release delay-api"))
    deadline = time.monotonic() + 2400
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            link.first.wait_for(timeout=60_000)
            break
        page.reload()
    shot(page, "required-actions")
    link.first.click()
    page.get_by_role("button", name="Approve").click()
    run = re.search(r"/runs/([^/]+)", page.url)
    assert run, page.url
    page.goto(f"{demo.url}/dags/code_to_release/runs/{run.group(1)}")
    last = page.get_by_role("row").filter(has_text="production_is_live")
    last.get_by_text("Success", exact=True).wait_for(timeout=2_400_000)
    page.reload()
    page.get_by_text("Success", exact=True).first.wait_for()
    assert page.get_by_text("Running", exact=True).count() == 0
    shot(page, "run")


@pytest.mark.browser
def test_the_delivery_page_answers_for_the_service_and_the_model(demo, page) -> None:
    """What is in production, since when, made from what: read from the page, and held against the endpoints."""
    ports = Ports(PORT, NODES).endpoints
    page.goto(f"{demo.url}/plugin/delivery")
    inner = page.frame_locator("iframe[title=Delivery]")
    for name, kind in (("delay-api", "Image"), ("flight-delay", "Model")):
        inner.get_by_role("link", name="Matrix", exact=True).click()
        inner.locator(".matrix").wait_for()
        shot(page, "delivery")
        cell = inner.locator(".matrix tr").filter(has_text=name).locator("td[data-environment=production]")
        assert "Healthy" in cell.inner_text()
        assert re.search("ago|just now", cell.inner_text())
        cell.locator("a.version").click()
        inner.get_by_text(re.compile(r"^(\d+) of \1 records hash to their ids")).wait_for()
        inner.get_by_text(re.compile(r"^In the signed checkpoint of \d+ entries")).wait_for()
        assert inner.get_by_text("no gap", exact=True).count() == 1
        asked = zip(
            *(inner.locator(f".answers > {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True
        )
        said = {question.strip(): answer.strip() for question, answer in asked}
        shot(page, "delivery-passport" if kind == "Model" else f"delivery-{name}")
        inner.locator(".node").filter(has_text=re.compile(f"{kind} ")).last.click()
        inner.get_by_text("The whole record").click()
        it_is_said_as_it_is(demo, name, said)
        body = json.loads(inner.locator(".side pre").inner_text())["body"]
        if kind == "Model":
            url = f"http://127.0.0.1:{ports['flight-delay-production']}/v2/models/flight-delay"
            live = httpx.get(url, timeout=30).json()
            served = (live["versions"][0], live["parameters"]["sha256"])
            assert (str(body["version"]), body["sha256"]) == served
            champion = Registry(f"sqlite:///{demo.home / 'mlflow.db'}").by_alias(name, "champion")
            assert champion is not None
            assert (str(champion.version), champion.sha256) == served
        else:
            assert body["digest"] in git(
                "show", f"main:{DESIRED[name]}", cwd=demo.home / "git" / "deploy.git"
            )
    for panel in ("Now", "Timeline", "Data", "Figures"):
        inner.get_by_role("link", name=panel, exact=True).click()
        inner.locator("main:not([aria-busy])").wait_for()
        shot(page, f"delivery-{panel.lower()}")


DESIRED = {
    "delay-api": "apps/delay-api/overlays/production/kustomization.yaml",
    "flight-delay": "apps/flight-delay/overlays/production/model.yaml",
}


def it_is_said_as_it_is(demo: SimpleNamespace, name: str, said: dict[str, str]) -> None:
    """Hold what the page says of production against Git, the files of data, and who has answered."""
    command = ("log", "-1", "--format=%H %ct", "main", "--", DESIRED[name])
    commit, at = git(*command, cwd=demo.home / "git" / "deploy.git").split()
    assert said["Deployed by which commit?"].split()[0] == commit[:12]
    since = datetime.strptime(said["Since when?"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)
    assert int(at) <= since.timestamp() <= time.time()
    assert said["Approved by whom?"] == "admin"
    if name == "flight-delay":
        names, digest = re.fullmatch(r"(\S+), \d+ rows, digest (\w+)", said["Made from which data?"]).groups()
        files = [(demo.home / "data" / one).as_uri() for one in names.split("+")]
        assert read(files).digest.startswith(digest)


def test_ctrl_c_stops_every_process(demo) -> None:
    """Last: end the demo, and find nothing of it left."""
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(360) in (0, 130)
    with pytest.raises(httpx.HTTPError):
        httpx.get(demo.url, timeout=5)
    left = subprocess.run(["pgrep", "-f", str(demo.home)], capture_output=True, text=True)
    assert left.stdout.split() == []
