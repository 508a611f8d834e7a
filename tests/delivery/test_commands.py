"""``airflow pipeops``, really run, on a ledger of two deliverables."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.cells import cell_len

from airflow_pipeops.delivery.commands.answers import rows
from airflow_pipeops.delivery.records import Record
from tests.commands import called
from tests.delivery.ledger.conftest import Database
from tests.delivery.test_passport import story
from tests.ledgers import at, entries, entry, indexed, record
from tests.warm import Warm

GAP = record("release", {"revision": "g"}, "0" * 64, deliverable="gappy", environment="staging", minutes=1)
RECORDS: list[Record] = [*story(), *story("second-model"), GAP]

Ran = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("airflow")
    indexed(home / "pipeops" / "index.db", entries(RECORDS)).close()
    return home


@pytest.fixture(scope="module")
def airflow(home: Path) -> Callable[..., Ran]:
    """Run the real command in its own process."""

    def run(*arguments: str) -> Ran:
        quiet = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        return subprocess.run(
            [sys.executable, "-m", "airflow", "pipeops", *arguments],
            env={**os.environ, "AIRFLOW_HOME": str(home), "DO_NOT_TRACK": "1", **quiet},
            capture_output=True,
            text=True,
            timeout=280,
        )

    return run


@pytest.fixture
def pipeops(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run what the real command runs, by the real parser, in this process: its exit code, and what it prints."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(home / "pipeops" / "index.db"))
    return lambda *arguments: called(capsys, *arguments, "--as-it-is")


def test_status_as_a_table(airflow: Callable[..., Ran]) -> None:
    ran = airflow("status")
    assert ran.returncode == 0, ran.stderr
    text = " ".join(ran.stdout.split())
    assert "flight-delay │ production │ flight-delay 2" in text
    assert "Needs somebody" in text
    assert "degraded" in text
    assert "the answers are slow" in text
    # Nobody has made Airflow's database here: what the ledger holds is told all the same, and so is this.
    assert "What is new was not taken up" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_passport_as_json(airflow: Callable[..., Ran]) -> None:
    ran = airflow("passport", "flight-delay@production", "--json", "--as-it-is")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["cell"]["version"] == "flight-delay 2"
    assert (found["since"], found["live"], found["complete"]) == (at(8), True, True)
    assert "not taken up" not in ran.stderr


def test_a_name_that_nothing_bears(airflow: Callable[..., Ran]) -> None:
    ran = airflow("trace", "flight-delay/9", "--as-it-is")
    assert ran.returncode == 3
    assert ran.stderr.startswith("airflow pipeops trace: the ledger holds nothing by the name flight-delay/9")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status",), 0),
        (("status", "--check"), 1),
        (("status", "gappy", "--check"), 0),
        (("trace", "flight-delay@production"), 0),
        (("trace", "gappy@staging"), 1),
        (("passport", "gappy@staging"), 1),
        (("trace", "no such"), 2),
        (("trace", "f" * 64), 3),
        (("passport", "flight-delay@staging"), 3),
        (("status", "--at", "yesterday"), 2),
        (("history", "--from", "tomorrow"), 2),
        (("history", "--after", "x"), 2),
        (("figures", "flight-delay"), 2),
        (("changes", "--from", "2026-03-01"), 0),
        (("changes", "--from", "soon"), 2),
        (("gaps", "flight-delay", "--from", "2026-03-01"), 0),
        (("gaps", "--from", "2026-03-01"), 1),
        (("gaps", "--from", "2026-03-01", "--to", "2026-03-01"), 0),
        (("figures", "flight-delay@production"), 0),
    ],
)
def test_exit_codes(
    pipeops: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], code: int
) -> None:
    ended, out, err = pipeops(*arguments)
    assert ended == code, out + err
    assert bool(err) == (code in (2, 3))
    assert err == "" or err.startswith(f"airflow pipeops {arguments[0]}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("trace", "flight-delay@production"),
        ("passport", "flight-delay@production"),
        ("history",),
        ("changes", "flight-delay", "--from", "2026-02-01", "--to", "2026-04-01"),
        ("gaps", "--from", "2026-02-01", "--to", "2026-04-01"),
        ("figures", "flight-delay@production", "--from", "2026-03-01", "--to", "2026-03-02", "--parts", "2"),
    ],
)
def test_json_and_yaml_say_the_same_and_plain_has_a_line_for_each(
    pipeops: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...]
) -> None:
    as_json = json.loads(pipeops(*arguments, "--output", "json")[1])
    as_yaml = yaml.safe_load(pipeops(*arguments, "--output", "yaml")[1])
    assert as_json == as_yaml
    plain = [line.split("\t") for line in pipeops(*arguments, "--output", "plain")[1].splitlines()]
    assert len(plain) > 1
    assert len({len(line) for line in plain}) == 1
    assert pipeops(*arguments, "--output", "table")[1]


def test_status_at_an_earlier_time(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    found = json.loads(pipeops("status", "flight-delay", "--at", at(5), "--output", "json")[1])
    assert [(one["version"], one["at"]) for one in found["live"]] == [("flight-delay 1", at(4))]
    assert found["needs"] == []


def test_history_is_filtered_and_goes_on(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    asked = (
        "history",
        "flight-delay@production",
        "--kind",
        "release",
        "--kind",
        "change",
        "--output",
        "json",
    )
    whole = json.loads(pipeops(*asked)[1])
    assert [one["kind"] for one in whole["items"]] == ["release", "release", "change", "release"]
    first = json.loads(pipeops(*asked, "--limit", "3")[1])
    rest = json.loads(pipeops(*asked, "--after", first["after"])[1])
    assert first["items"] + rest["items"] == whole["items"]
    days = json.loads(pipeops("history", "--from", at(4), "--to", at(6), "--output", "json")[1])
    assert {one["at"] for one in days["items"]} == {at(4), at(5)}


def test_what_changed_between_two_times(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    asked = ("--from", at(4.5), "--to", at(8.5), "--output", "json")
    (one,) = json.loads(pipeops("changes", "flight-delay@production", *asked)[1])["items"]
    assert (one["before"]["version"], one["after"]["version"]) == ("flight-delay 1", "flight-delay 2")
    assert {fact["kind"] for fact in one["added"]} >= {"release", "change", "model", "commit"}
    assert [fact["kind"] for fact in one["between"]] == ["release", "change", "approval", "decision", "model"]
    both = json.loads(pipeops("changes", *asked)[1])["items"]
    assert [change["deliverable"] for change in both] == ["flight-delay", "second-model"]
    assert [
        change["deliverable"] for change in json.loads(pipeops("changes", "second-model", *asked)[1])["items"]
    ] == ["second-model"]
    said = pipeops("changes", "flight-delay@production", "--from", at(4.5), "--limit", "3")[1]
    assert "More happened than 3 records" in said


def test_gaps_name_the_record_and_what_is_missing(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = pipeops("gaps", "--from", "2026-03-01", "--output", "json")
    (gap,) = json.loads(out)["items"]
    assert (gap["child"]["id"], gap["parent"]) == (GAP.id, "0" * 64)


def test_trace_down(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    found = json.loads(pipeops("trace", "flight-delay/2", "--down", "--output", "json")[1])
    assert [step["fact"]["kind"] for step in found["steps"]] == [
        "model", "decision", "approval", "change", "release", "release", "incident",
    ]  # fmt: skip


def test_what_records_hold_moves_no_cursor(
    home: Path, pipeops: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = record("release", {"revision": "\x1b[2J[red]x[/red]\tb\n"}, environment="production")
    indexed(tmp_path / "index.db", entries([evil])).close()
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / "index.db"))
    for command in (("status",), ("history",), ("trace", evil.id), ("passport", evil.id)):
        for output in ("table", "plain"):
            code, out, err = pipeops(*command, "--output", output)
            assert code == 0, err
            assert "\x1b" not in out
            if command == ("status",):
                assert "[red]x[/red]" in out


def test_a_table_is_as_wide_as_it_may_be_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = "one word after another, " * 20
    rows(
        "Live",
        [{"what": said, "sha": "ab" * 60, "who": "漢字"}, {"what": "", "sha": None, "who": "b"}],
        "table",
        empty="",
    )
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "Live"
    assert {cell_len(line) for line in lines} == {200}
    what, sha_, who = zip(
        *([cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line), strict=True
    )
    assert " ".join(what).split() == said.split()
    assert "".join(sha_) == "ab" * 60
    assert "".join(who) == "漢字b"


def test_no_ledger_yet(
    pipeops: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / "none.db"))
    code, out, err = pipeops("status")
    assert (code, out) == (3, "")
    assert "there is no index of the ledger" in err
    assert "airflow pipeops ledger ingest" in err


def test_an_index_that_is_damaged(
    home: Path, pipeops: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (home / "pipeops" / "index.db").read_bytes()
    for number, damaged in enumerate((b"no database", whole[:4096] + b"x" * (len(whole) - 4096))):
        (tmp_path / f"{number}.db").write_bytes(damaged)
        monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / f"{number}.db"))
        code, out, err = pipeops("status")
        assert (code, out) == (2, "")
        assert err.startswith("airflow pipeops status: the index of the ledger cannot be read: ")
        assert len(err.splitlines()) == 1


PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
ANSWERED = re.compile(r"```bash\n(airflow pipeops [^\n]+)\n```\n\n```text\n(.*?)```", re.DOTALL)
ASKED = re.findall(
    r"^airflow pipeops ((?:status|trace|passport|history|changes|gaps|figures)\b.*)$", PAGE, re.MULTILINE
)


@pytest.mark.parametrize("command", ASKED)
def test_each_example_of_the_page_runs(pipeops: Callable[..., tuple[int, str, str]], command: str) -> None:
    code, out, err = pipeops(*shlex.split(command.replace("delay-api", "flight-delay")))
    assert (code, err) == (0, "")
    assert out


def test_the_page_shows_what_is_printed(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    shown = ANSWERED.findall(PAGE)
    assert len(shown) == 1
    for command, text in shown:
        assert pipeops(*shlex.split(command)[2:])[1] == text


def test_an_index_that_could_not_be_filled_is_not_taken_for_an_empty_ledger(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "airflow", "pipeops", "status"],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "nothing was released" not in ran.stdout
    assert "What is new was not taken up" in ran.stderr
    assert "there is no index of the ledger" in ran.stderr


def test_what_is_new_is_taken_up_first(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From Airflow's own table of events to the answer, each by the real command."""
    from airflow.models import import_all_models
    from airflow.models.base import Base

    database = Database(f"sqlite:///{tmp_path / 'airflow.db'}")
    import_all_models()
    Base.metadata.create_all(database.engine)
    quiet = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    connected: dict[str, str] = {}
    url = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}"}
    warm = Warm({**os.environ, "AIRFLOW_HOME": str(tmp_path), "DO_NOT_TRACK": "1", **quiet, **url})
    request.addfinalizer(warm.stop)

    def run(*arguments: str) -> Ran:
        return warm.run("-m", "airflow", "pipeops", *arguments, **connected)

    database.add(entry(0, record("release", {"revision": "r1"}, environment="production", minutes=1)))
    first = run("ledger", "ingest")
    assert first.returncode == 0, first.stderr
    assert "1 entries were appended" in first.stdout
    database.add(entry(0, record("release", {"revision": "r2"}, environment="production", minutes=2)))
    asked = run("status", "--output", "json")
    assert asked.returncode == 0, asked.stderr
    assert asked.stderr == ""
    assert [cell["revision"] for cell in json.loads(asked.stdout)["live"]] == ["r2"]
    verified = run("verify", "--output", "json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert (json.loads(verified.stdout)["good"], json.loads(verified.stdout)["size"]) == (True, 2)
    unsigned = run(
        "audit", "export", str(tmp_path / "audit.zip"), "--from", "2026-01-01", "--to", "2027-01-01"
    )
    assert unsigned.returncode == 2
    assert unsigned.stderr.startswith(
        "airflow pipeops audit export: an export is signed, and there is no key"
    )
    key = (
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    connected["AIRFLOW__PIPEOPS__LEDGER_KEY_CONN_ID"] = "signing"
    connected["AIRFLOW_CONN_SIGNING"] = json.dumps(
        {"conn_type": "pipeops_signing_key", "login": "ledger.example.com", "extra": {"private_key": key}}
    )
    exported = run(
        "audit", "export", str(tmp_path / "audit.zip"), "--from", "2026-01-01", "--to", "2027-01-01"
    )
    assert exported.returncode == 0, exported.stderr
    assert "has the entries 1 to 2, " in exported.stdout
    with zipfile.ZipFile(tmp_path / "audit.zip") as archive:
        assert {"verify.py", "index.csv", "exceptions.csv", "entries.jsonl"} <= set(archive.namelist())
