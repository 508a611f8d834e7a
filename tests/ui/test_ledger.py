"""A running API server keeps the ledger by itself."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import create_engine, text

from airflow_pipeops.delivery.failures import Failures
from airflow_pipeops.delivery.ledger.index import reader
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import entry, record
from tests.ui.conftest import KEY, Server


def test_what_is_emitted_and_what_is_posted_is_in_the_ledger_at_once(server: Server) -> None:
    home = Path(urlsplit(server.evidence).path).parent
    database = Database(f"sqlite:///{home / 'airflow.db'}")
    emitted = record(deliverable="of-a-task")
    database.add(entry(emitted, 0))
    asset = database.asset("by-hand.release.production", "pipeops://by-hand/release/production")
    answer = httpx.post(
        f"{server.url}/api/v2/assets/events",
        json={"asset_id": asset, "extra": record(deliverable="by-hand").to_extra()},
        headers={"Authorization": f"Bearer {server.token('admin')}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    query = "SELECT deliverable, manual, problem FROM records WHERE deliverable IN ('of-a-task', 'by-hand') ORDER BY 1"
    found: list[tuple] = []
    pause = threading.Event()
    for _ in range(300):
        try:
            connection = reader(home / "pipeops" / "index.db")
            found = [tuple(row) for row in connection.execute(query)]
            connection.close()
        except sqlite3.OperationalError:
            pass  # it is not made yet
        if len(found) == 2:
            break
        pause.wait(0.2)
    assert found == [("by-hand", 1, "it was posted through Airflow's API"), ("of-a-task", 0, "")]
    assert (home / "pipeops" / "ledger" / "entries" / "000" / "000.jsonl").is_file()


def test_a_command_takes_up_what_is_new_with_a_key_that_the_database_keeps(
    below: Server, tmp_path: Path
) -> None:
    said = below.python(
        f"""
import os
os.environ["AIRFLOW__PIPEOPS__LEDGER_KEY_CONN_ID"] = "kept"
os.environ["AIRFLOW__PIPEOPS__LEDGER_PATH"] = "{tmp_path / "ledger"}"
os.environ["AIRFLOW__PIPEOPS__INDEX_PATH"] = path = "{tmp_path / "index.db"}"
from airflow.models.connection import Connection
from airflow.utils.session import create_session
from airflow_pipeops.delivery.commands.answers import _take_up
with create_session() as session:
    session.add(Connection(conn_id="kept", conn_type="pipeops_signing_key", extra={json.dumps({"private_key": KEY})!r}))
print("taken up:", _take_up(path))
from airflow_pipeops.delivery.ledger.command import ingest_command
print("code:", ingest_command(None))
"""
    )
    assert "taken up: True" in said
    assert "code: 0" in said


def test_what_is_new_appears_as_soon_as_is_promised() -> None:
    """Both pauses together leave a second for the work between them."""
    from airflow_pipeops.delivery.ledger.feeder import _EVERY

    page = files("airflow_pipeops.ui").joinpath("static/main.js").read_text(encoding="utf-8")
    (pause,) = re.findall(r"const EVERY = (\d+);", page)
    assert int(pause) / 1000 + _EVERY <= 4


def until(told: Callable[[], Any]) -> Any:
    """Wait for something that comes."""
    pause = threading.Event()
    for _ in range(600):
        if found := told():
            return found
        pause.wait(0.2)
    raise AssertionError("it has not come")


def test_an_approval_waits_and_its_rejection_is_recorded_though_its_task_fails(server: Server) -> None:
    program = """
import runpy, os
dag = runpy.run_path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"] + "/known.py")["asks"]
print(dag.test().state)
"""
    run = server.warm.start("-c", program)

    def mine() -> list[dict[str, Any]]:
        return [one for one in server.get("/api/now").json()["needs"] if one["deliverable"] == "asked-about"]

    try:
        (asked,) = until(mine)
        assert (asked["need"], asked["deliverable"], asked["environment"]) == (
            "approval",
            "asked-about",
            "production",
        )
        assert asked["what"] == "Release 1.9.0?"
        command = ("-m", "airflow", "pipeops", "status", "asked-about", "--output", "json", "--check")
        status = server.warm.run(*command)
        assert status.returncode == 1, status.stderr
        assert json.loads(status.stdout)["needs"] == [asked]
        of = asked["asked"]
        answer = httpx.patch(
            f"{server.url}/api/v2/dags/asks/dagRuns/{of['run']}/taskInstances/approve/-1/hitlDetails",
            json={"chosen_options": ["Reject"], "params_input": {}},
            headers={"Authorization": f"Bearer {server.token('admin')}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        (fact,) = until(lambda: server.get("/api/records?dag=asks").json()["items"])
        ended = run.wait(120)
    finally:
        run.kill()
    assert (fact["kind"], fact["environment"], fact["problem"]) == ("approval", "production", "")
    assert fact["parents"] == ["a" * 64]
    body = fact["body"]
    assert (body["approved"], body["answer"], body["approved_by"]) == (False, "Reject", "admin")
    assert (body["subject"], body["body"], body["timed_out"]) == ("Release 1.9.0?", "7 tests passed", False)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "failed"), run.said()
    assert [(one["need"], one["what"]) for one in mine()] == [("rejected", "admin said no: Release 1.9.0?")]


def test_a_task_that_fails_is_recorded_once_with_why_and_what_it_had_found(server: Server) -> None:
    program = """
import runpy, os
runpy.run_path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"] + "/known.py")["fails"].test()
"""
    run = server.warm.run("-c", program)
    assert run.returncode == -9, run.stderr[-2000:]

    def facts(kind: str = "failure") -> list[dict[str, Any]]:
        return server.get(f"/api/history?deliverable=judged&kinds={kind}").json()["items"]

    until(lambda: len(facts()) == 2)
    of = server.get("/api/records?dag=fails").json()["items"][0]
    # The worker of the third task is dead, and can tell nothing: this is what Airflow knows when its heartbeat stays away.
    lost = f"/dags/fails/dagRuns/{of['run']}/taskInstances/lost"
    answer = httpx.patch(
        f"{server.url}/api/v2{lost}",
        json={"new_state": "failed"},
        headers={"Authorization": f"Bearer {server.token('admin')}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    until(lambda: len(facts()) == 3)
    by = {(one["task"], one["map_index"]): one for one in facts()}
    refused, down, killed = by["judge", 1], by["judge", 2], by["lost", -1]
    assert {one["problem"] for one in by.values()} == {""}
    assert (refused["environment"], down["environment"], killed["environment"]) == (
        "production",
        "production",
        "",
    )
    body = refused["body"]
    assert (body["outcome"], body["error"], body["reason"]) == (
        "refused",
        "GateFailed",
        "the challenger is worse",
    )
    assert [(one["kind"], one["body"]) for one in body["found"]] == [
        ("evaluation", {"promote": False, "n": "no"})
    ]
    assert (body["of"], body["operator"], body["try"], body["tries"]) == (["evaluation"], "Judge", 1, 2)
    assert refused["parents"] == ["a" * 64]
    body = down["body"]
    assert (body["outcome"], body["error"], body["try"], body["found"]) == ("failed", "Unreachable", 2, [])
    body = killed["body"]
    assert (body["outcome"], body["error"], body["try"], body["found"]) == ("unknown", "", 1, [])
    assert killed["parents"] == ["b" * 64]
    # What failed is evidence of nothing: of the kind that it would have had, there is the one that went well.
    assert [one["body"]["n"] for one in facts("evaluation")] == ["yes"]
    needs = [one for one in server.get("/api/now").json()["needs"] if one["deliverable"] == "judged"]
    assert {(one["need"], one["fact"]["id"]) for one in needs} == {
        ("failed", one["id"]) for one in by.values()
    }
    # Another server, which remembers nothing, finds all of it told.
    engine = create_engine(f"sqlite:///{server.home / 'airflow.db'}")
    Failures(engine).take_up()
    with engine.connect() as connection:
        told = connection.execute(
            text("SELECT count(*) FROM asset_event WHERE source_dag_id = 'fails'")
        ).scalar()
    assert told == 4
