"""The tuner as a task: knobs of a real repository, outcomes of tables and records, one record, and the commit that moves."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.operators import GitOpsCommitOperator
from airflow_pipeops.operations.tuning.decision import replay
from airflow_pipeops.operations.tuning.operators import RECORDED, TuneOperator
from airflow_pipeops.operations.tuning.reading import knob
from airflow_pipeops.operations.tuning.sources import (
    busy_with,
    of_alarms,
    of_gates,
    of_retrains,
    read_outcomes,
)
from tests.ledgers import event

MODEL = Deliverable("fraud", environments=("production",))
NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)
KNOB = {
    "name": "threshold", "value": 1.6, "low": 0.5, "high": 4, "target": 0.05, "slope": -0.1, "max_step": 0.3,
    "delay": 5 * 86400, "mode": "apply", "since": (NOW - 60 * DAY).isoformat(),
}  # fmt: skip


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *words],
        cwd=cwd, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A bare repository with tuning.yaml, whose connection is there."""
    bare, work = tmp_path / "remote.git", tmp_path / "work"
    git("init", "-q", "--bare", "--initial-branch=main", str(bare), cwd=tmp_path)
    git("init", "-q", "--initial-branch=main", str(work), cwd=tmp_path)
    git("remote", "add", "origin", str(bare), cwd=work)
    monkeypatch.setenv(
        "AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", json.dumps({"conn_type": "git_repository", "host": str(bare)})
    )
    write(work, [KNOB])
    return work


def write(work: Path, knobs: object) -> None:
    (work / "tuning.yaml").write_text(knobs if isinstance(knobs, str) else yaml.safe_dump({"knobs": knobs}))
    git("add", "-A", cwd=work)
    git("commit", "-q", "--allow-empty", "-m", "knobs", cwd=work)
    git("push", "-q", "origin", "HEAD:main", cwd=work)


def outcomes(share: float, days: int = 50) -> list[dict]:
    """Twenty a day, until now."""
    return [
        {
            "at": (NOW - days * DAY + number * DAY / 20).isoformat(),
            "hit": int((number + 1) * share) > int(number * share),
        }
        for number in range(days * 20)
    ]


def tune(context: dict, given: object, *records: Record, **kwargs) -> tuple[TuneOperator, dict]:
    operator = TuneOperator(
        task_id="tune", file="tuning.yaml", outcomes={"threshold": given}, deliverable=MODEL, **kwargs
    )
    context["inlet_events"] = {asset: [] for asset in operator.inlets}
    for number, record in enumerate(records):
        asset = MODEL.asset(record.kind, record.environment)
        at = NOW - DAY + number * DAY / 100
        read = event(record.to_extra(), at, SimpleNamespace(name=asset.name, uri=asset.uri))
        context["inlet_events"][asset].append(read)
    return operator, operator.execute(context)


def test_a_share_that_is_off_moves_the_knob_by_a_commit(context: dict, repository: Path) -> None:
    _, found = tune(context, outcomes(0.2))
    assert (found["action"], found["acts"], found["needs_approval"]) == ("move", True, False)
    assert found["set"] == {"knobs[name=threshold].value": pytest.approx(1.9)}
    record = Record.from_extra(context["outlet_events"][MODEL.asset("tuning")].extra)
    assert record.id == found["record_id"]
    assert [step.to_json() for step in replay([record.body])] == found["decisions"]
    commit = GitOpsCommitOperator(
        task_id="commit",
        file=found["file"],
        set=found["set"],
        expect=found["expect"],
        message=found["message"],
    )
    assert commit.execute(context)["changed"] is True
    git("pull", "-q", "origin", "main", cwd=repository)
    assert yaml.safe_load((repository / "tuning.yaml").read_text())["knobs"][0]["value"] == pytest.approx(1.9)
    # The next look sees the new value, and waits for labels of what came under it.
    _, again = tune(context, outcomes(0.2), record)
    assert (again["rule"], again["set"]) == ("dwell", {})
    later = Record.from_extra(context["outlet_events"][MODEL.asset("tuning")].extra)
    assert len(replay([record.body, later.body])) == 2


def test_a_proposal_asks_and_a_shadow_does_nothing(context: dict, repository: Path) -> None:
    write(repository, [{**KNOB, "mode": "propose"}])
    _, found = tune(context, outcomes(0.2))
    assert (found["acts"], found["needs_approval"]) == (False, True)
    assert found["set"]
    write(repository, [{**KNOB, "mode": "shadow"}])
    _, found = tune(context, outcomes(0.2))
    assert (found["action"], found["acts"], found["needs_approval"], found["set"]) == (
        "move",
        False,
        False,
        {},
    )


def acting(kind: str, body: dict, age: timedelta) -> Record:
    environment = "production" if kind in ("rollback", "incident") else None
    at = (NOW - age).isoformat(timespec="seconds")
    return Record(kind, "fraud", body, at=at, environment=environment, source={"dag": "d"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (acting("rollback", {"how": "revert"}, timedelta(hours=2)), "busy"),
        (acting("incident", {"what": "errors"}, timedelta(hours=2)), "busy"),
        (acting("decision", {"action": "retrain", "acts": True}, timedelta(hours=2)), "busy"),
        (acting("decision", {"action": "hold", "acts": False}, timedelta(hours=2)), "move"),
        (acting("rollback", {"how": "revert"}, timedelta(days=2)), "move"),
    ],
)
def test_it_stands_still_while_something_else_acts(
    context: dict, repository: Path, record: Record, rule: str
) -> None:
    _, found = tune(context, outcomes(0.2), record)
    assert found["rule"] == rule
    assert busy_with([record], NOW, timedelta(0)) == ""


def test_the_kill_switch_and_what_a_person_says_hold_it(context: dict, repository: Path, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_TUNING_OFF", "yes")
    assert tune(context, outcomes(0.2), kill_switch="tuning_off")[1]["rule"] == "off"
    monkeypatch.setenv("AIRFLOW_VAR_TUNING_OFF", "no")
    assert tune(context, outcomes(0.2), kill_switch="tuning_off")[1]["rule"] == "move"
    assert "a sale" in tune(context, outcomes(0.2), busy="a sale is on")[1]["reason"]


def test_outcomes_of_a_table_are_those_of_the_list(context: dict, repository: Path, tmp_path) -> None:
    import pandas as pd

    known = outcomes(0.2)
    frame = pd.DataFrame(known).astype({"hit": "object"}).assign(loss=1.5)
    frame.loc[3, "hit"] = None
    frame.loc[5, "loss"] = None
    paths = [tmp_path / "o.parquet", tmp_path / "o.csv"]
    frame.assign(at=pd.to_datetime(frame["at"])).to_parquet(paths[0])
    frame.to_csv(paths[1], index=False)
    read = read_outcomes(str(paths[0]))
    assert (read[3].hit, read[5].loss, read[4].loss) == (None, None, 1.5)
    assert len(read) == len(known)
    assert tune(context, str(paths[0]))[1]["set"] == tune(context, known)[1]["set"]


@pytest.mark.parametrize(
    ("knobs", "given", "says"),
    [
        ("knobs: [", [], "is no YAML"),
        ("knobs: 3", [], "no list knobs"),
        ([KNOB, KNOB], [], "have one name"),
        ([{**KNOB, "low": 9}], [], "low 9"),
        ([{**KNOB, "name": "other"}], [], "no outcomes are given for the knob 'other'"),
        ([KNOB], 3, "outcomes are of type int"),
        ([KNOB], [{"at": "soon", "hit": True}], "not a time"),
        ([KNOB], [{"at": NOW.isoformat(), "hit": "often"}], "outcome 1 has 'often' as hit"),
        ([KNOB], [{"hit": True}], "has no time"),
        ([KNOB], [{"at": NOW.isoformat(), "hit": True, "loss": float("nan")}], "as loss"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_decided(
    context: dict, repository: Path, knobs: object, given: object, says: str
) -> None:
    write(repository, knobs)
    with pytest.raises(AirflowFailException, match=says):
        tune(context, given)


def test_a_tuner_without_a_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="remembers by records"):
        TuneOperator(task_id="tune", file="tuning.yaml", outcomes={})


def test_retrains_that_did_not_help_are_hits() -> None:
    def decided(number: int, action: str, **facts: object) -> Record:
        observation = {
            "batch": f"b{number}", "at": (NOW - (40 - number) * DAY).isoformat(), "quality_passed": True,
            "drift_share": None, "performance": 0.7, "reference_performance": 0.75, "action": action, **facts,
        }  # fmt: skip
        body = {"action": action, "acts": action == "retrain", "observation": observation}
        return Record("decision", "fraud", body, at=observation["at"])

    records = [
        decided(1, "retrain", outcome="rejected"),
        decided(2, "hold"),
        decided(3, "retrain", outcome="promoted"),
        decided(4, "hold", predecessor_performance=0.6),
        decided(5, "retrain"),
    ]
    assert [item.hit for item in of_retrains(records)] == [True, False, None]


def told(kind: str, hours: float, *parents: Record, **body: object) -> Record:
    """A record of the deliverable."""
    at = (NOW - 30 * DAY + timedelta(hours=hours)).isoformat()
    return Record(kind, "fraud", body, tuple(one.id for one in parents), at=at)  # type: ignore[arg-type]


def test_alarms_that_were_none_are_hits() -> None:
    alarms = [told("anomaly", hour, alarms=[], count=1, looked=1, n=hour) for hour in range(6)]
    records = [
        *alarms,
        told("approval", 10, alarms[0], approved=False),
        told("approval", 11, alarms[1], approved=True),
        told("remediation", 12, alarms[2], helped=True),
        told("remediation", 12, alarms[3], helped=False),  # the act was wrong, and nobody knows of the alarm
        told("incident", 13, alarms[4]),
        told("approval", 9, alarms[4], approved=False),  # a person knows better
    ]
    found = of_alarms(records)
    assert [one.hit for one in found] == [True, False, False, None, True, None]
    assert found[0].labelled_at == NOW - 30 * DAY + timedelta(hours=10)


def test_gates_that_let_a_bad_one_through_are_hits() -> None:
    opened = [told("evaluation", hour, promote=True, outcome="better", n=hour) for hour in range(5)]
    closed = told("evaluation", 6, promote=False, outcome="worse")
    changes = [
        told("change", 10 + n, gate, commit=f"{n}" * 40, changed=True) for n, gate in enumerate(opened)
    ]
    live = told("release", 20, changes[0], revision="0" * 40)
    records = [
        *opened, closed, *changes, live,
        told("evaluation", 30, live, subject="guard", verdict="no worse"),
        told("evaluation", 31, changes[1], subject="guard", verdict="worse"),
        told("rollback", 32, reverts="2" * 40, how="revert"),
        told("incident", 33, bad_revision="3" * 40),
        told("evaluation", 34, changes[4], subject="guard", verdict="wait"),
    ]  # fmt: skip
    assert [one.hit for one in of_gates(records)] == [False, True, True, True, None]
    beaten = told("evaluation", 35, live, promote=False, outcome="worse")
    assert of_gates([*records, beaten])[0].hit is False, "a challenger is worse than it, and never came live"
    later = told("rollback", 40, live, how="revert")
    assert of_gates([*records, later])[0].hit, "what was found no worse was bad all the same"


def test_what_became_of_a_model_leads_back_to_its_gate(repository, context) -> None:
    """By records as the example DAGs lay them: a model is between gate and change, and its guard names the commit alone."""
    records = []
    for n, verdict in enumerate(("no worse", "worse")):
        gate = told("evaluation", n, promote=True, outcome="better", n=n)
        model = told("model", n + 0.1, gate, version=str(n))
        there: dict[str, str] = {"environment": "production"}
        change = replace(told("change", n + 0.2, model, commit=f"{n}" * 40, changed=True), **there)
        live = replace(told("release", n + 0.3, change, revision=f"{n}" * 40), **there)
        joined = told("evaluation", n + 0.4, subject="labels", n=n)
        order = {"revision": f"{n}" * 40}
        records += [gate, model, change, live, joined]
        records.append(told("evaluation", n + 0.5, joined, subject="guard", verdict=verdict, order=order))
    assert [one.hit for one in of_gates(records)] == [False, True]
    seen: list[Record] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECORDED, "gates", lambda given: seen.extend(given) or of_gates(given))
        tune(context, "gates", *records)
    assert [one.hit for one in of_gates(seen)] == [False, True], "the task reads all that leads there"


@pytest.mark.parametrize("word", ["retrains", "alarms", "gates"])
def test_what_the_records_tell_is_named_by_a_word(repository, context, word) -> None:
    _, found = tune(context, word)
    assert (found["action"], found["rule"]) == ("hold", "dwell")


def test_a_knob_is_read_where_it_lies(repository) -> None:
    assert knob("threshold", "tuning.yaml") == 1.6
    first = git("rev-parse", "HEAD", cwd=repository).strip()
    write(repository, [{**KNOB, "value": 1.7}])
    assert knob("threshold", "tuning.yaml") == 1.7
    assert knob("threshold", "tuning.yaml", revision=first) == 1.6
    with pytest.raises(InvalidInput, match=r"tuning.yaml has no knob 'treshold'\. Use one of threshold"):
        knob("treshold", "tuning.yaml")
    write(repository, [{**KNOB, "value": 17}])
    with pytest.raises(InvalidInput, match="value 17"):
        knob("threshold", "tuning.yaml")
