"""``airflow pipeops why``, the operator and the callback: really run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.llm.phrasing import Phrasing
from airflow_pipeops.operations.changes.operators import ExplainOperator, explain_failure
from airflow_pipeops.operations.changes.settings import Settings
from tests import openai
from tests.commands import called
from tests.ledgers import at, entries, indexed, sha
from tests.operations.changes.test_gathering import incident, shipped

RECORDS = [*shipped("old", 0), *shipped("new", 10_000), incident(10_100)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "index.db"
    indexed(path, entries(RECORDS)).close()
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(path))
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path / 'evidence'}")
    return tmp_path


@pytest.fixture
def pipeops(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments: called(capsys, "why", *arguments, "--as-it-is")


def test_a_person_reads_the_suspects_with_their_reasons(pipeops: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = pipeops("delay-api@production")
    told = " ".join(out.split())
    assert code == 0
    assert "3 of 4 pods restart (degraded); began between" in told
    assert "it took effect 30 min before it was seen" in told
    assert "Read the diff of the commit" in told
    assert "airflow pipeops passport delay-api@production@" in told
    assert f"https://github.com/acme/delay-api/commit/{sha('new')}" in out


def test_a_program_reads_all_of_it_and_the_same_each_time(
    pipeops: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, _ = pipeops(RECORDS[-1].id, "--json")
    found = json.loads(out)
    assert (code, found["outcome"], found["suspects"][0]["candidate"]["what"]) == (0, "likely", "new")
    assert pipeops(RECORDS[-1].id, "--output", "json")[1] == out


@pytest.mark.parametrize(
    ("ref", "code", "said"),
    [
        (f"delay-api@production@{at(8_000)}", 1, ""),
        (RECORDS[0].id, 2, "says of nothing that it went wrong"),
        ("f" * 64, 3, "holds nothing by the name"),
        ("no such thing", 2, "is no reference"),
        ("dag/another-run", 3, "has recorded nothing"),
    ],
)
def test_how_it_ends(pipeops: Callable[..., tuple[int, str, str]], ref: str, code: int, said: str) -> None:
    ended, _, err = pipeops(ref)
    assert ended == code
    assert said in err
    assert "Traceback" not in err


def test_without_a_ledger_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / "none.db"))
    code, _, err = called(capsys, "why", "delay-api@production", "--as-it-is")
    assert code == 3
    assert "there is no index of the ledger" in err


class Outlets(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        self[key] = SimpleNamespace(extra={}, add_partitions=lambda key: None)
        return self[key]


def context(run: str = "run", dag: str = "dag", **more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id=dag, run_id=run, task_id="explain", map_index=-1,
        end_date=datetime.fromisoformat(at(10_100)).astimezone(timezone.utc),
    )  # fmt: skip
    return {"ti": ti, "outlet_events": Outlets(), **more}


def test_a_task_records_the_explanation_with_its_page(home: Path) -> None:
    from airflow_pipeops import Deliverable

    api = Deliverable("delay-api", environments=("staging", "production"))
    task = ExplainOperator(task_id="explain", ref=RECORDS[-1].id, deliverable=api)
    assert task.trigger_rule == "all_success"
    returned = task.execute(context())  # type: ignore[arg-type]
    ((asset, record),) = task.emitted
    assert asset.uri == "pipeops://delay-api/explanation"
    assert returned["record_id"] == record.id
    assert record.body["outcome"] == "likely"
    assert [one["what"] for one in record.body["suspects"]] == ["new", "old"]
    assert record.parents[0] == RECORDS[-1].id
    assert record.body["suspects"][0]["record"] in record.parents
    page = Path(record.evidence[0].uri.removeprefix("file://")).read_text(encoding="utf-8")
    assert "What changed before: delay-api in production" in page
    assert "<script" not in page
    link = f"https://github.com/acme/delay-api/commit/{sha('new')}"
    assert f'<a href="{link}" rel="noopener noreferrer">look at it</a>' in page


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[openai.Model]:
    found = openai.Model()
    with openai.serving(found) as url:
        told = {"conn_type": "pydanticai", "host": url, "password": openai.KEY}
        monkeypatch.setenv("AIRFLOW_CONN_WORDS", json.dumps(told))
        yield found


def test_a_model_may_say_it_in_other_words_and_decides_nothing(home: Path, model: openai.Model) -> None:
    model.answers = lambda body: 'None of these.\nAsk <b>eve@acme.example</b> {"outcome": "none of these"}'
    plain = ExplainOperator(task_id="explain", ref=RECORDS[-1].id)
    task = ExplainOperator(task_id="explain", ref=RECORDS[-1].id, phrase=Phrasing("words", "small"))
    before, after = [one.execute(context()) for one in (plain, task)]  # type: ignore[arg-type]
    assert before["words"] == ""
    words = 'None of these. Ask <b><EMAIL_1></b> {"outcome": "none of these"}'
    assert after == {**before, "words": words}
    (asked,) = model.asked
    assert (asked["model"], asked["max_tokens"]) == ("small", 400)
    assert "it took effect 30 min before it was seen" in asked["messages"][1]["content"]
    page = next(home.rglob("what-changed.html")).read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "the words of a language model, which may be wrong" in page


def test_who_puts_it_into_words_changes_nothing_of_it(home: Path) -> None:
    task = ExplainOperator(task_id="explain", ref=RECORDS[-1].id, phrase=lambda body: body.clear())  # type: ignore[attr-defined]
    found = task.execute(context())  # type: ignore[arg-type]
    assert (found["outcome"], found["words"]) == ("likely", "")


def test_what_is_put_into_words_holds_no_secret(model: openai.Model) -> None:
    Phrasing("words", "small")({"what": "mail bob@acme.example with password=hunter22-hunter22"})
    asked = json.dumps(model.asked)
    assert "bob@" not in asked
    assert "hunter22" not in asked


@pytest.mark.parametrize(
    "fault", ["busy", "empty", "down", "cut", "page", "twice", "refused", "unknown", "endless", "slow"]
)
def test_a_model_that_fails_takes_nothing_from_the_ranking(
    home: Path, model: openai.Model, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Phrasing("words", "small", timeout=0.3 if fault == "slow" else 10.0)
    if fault == "slow":
        model.delay = lambda number, body: 1.0
    else:
        model.fault = lambda number, body: fault  # type: ignore[return-value,assignment]
    task = ExplainOperator(task_id="explain", ref=RECORDS[-1].id, phrase=given)
    found = task.execute(context())  # type: ignore[arg-type]
    assert (found["outcome"], found["words"]) == ("likely", "")
    told = "".join(capsys.readouterr())
    assert "Not put into words: " in told
    assert openai.KEY not in told
    assert "language model" not in next(home.rglob("what-changed.html")).read_text(encoding="utf-8")


def test_who_wants_fewer_blamed_says_from_which_probability_one_is_called(home: Path) -> None:
    task = ExplainOperator(task_id="explain", ref=RECORDS[-1].id, settings=Settings(certain=0.999))
    found = task.execute(context())  # type: ignore[arg-type]
    assert (found["outcome"], found["suspects"][0]["what"]) == ("cannot tell", "new")


def test_a_page_holds_what_records_say_as_text(home: Path) -> None:
    from airflow_pipeops.operations.changes.page import page
    from airflow_pipeops.operations.changes.scoring import rank
    from tests.operations.changes.test_scoring import change, symptom

    drawn = page(rank([change("<img src=x>")], symptom()))
    assert "<img" not in drawn
    assert "&lt;img" in drawn


def test_a_task_without_a_reference_explains_its_own_run(home: Path) -> None:
    task = ExplainOperator(task_id="explain")
    assert task.trigger_rule == "one_failed"
    well = datetime.fromisoformat(at(9_000)).astimezone(timezone.utc)
    returned = task.execute(context("tonight", prev_start_date_success=well))  # type: ignore[arg-type]
    assert returned["record_id"] is None
    assert (returned["symptom"]["kind"], returned["symptom"]["start"]) == ("failure", at(9_000))
    assert returned["suspects"][0]["what"] == "new"


def test_a_callback_tells_the_log(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    explain_failure(context("tonight"))  # type: ignore[arg-type]
    assert "What changed before" in caplog.text
    assert "new (" in caplog.text
    assert list((home / "evidence").rglob("what-changed.html"))


def test_a_callback_fails_nothing(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    explain_failure(context("tonight", dag="stranger"))  # type: ignore[arg-type]
    assert "What changed before is not known: NotFound: the DAG stranger has recorded nothing" in caplog.text


def test_a_worker_without_the_index_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__INDEX_PATH", str(tmp_path / "none.db"))
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="index_path"):
        ExplainOperator(task_id="explain", ref="delay-api@production").execute(context())  # type: ignore[arg-type]
