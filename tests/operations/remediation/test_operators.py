"""The two tasks: what they read, what they return and record, and what stops them."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, NotConfigured, Unreachable, Unsupported
from airflow_pipeops.operations.remediation.command import remediation_command
from airflow_pipeops.operations.remediation.journal import Journal
from airflow_pipeops.operations.remediation.marks import held, quarantined
from airflow_pipeops.operations.remediation.operators import RemediateOperator, VerifyRemediationOperator
from airflow_pipeops.operations.remediation.releasing import releasing
from tests.git.conftest import Remote, git
from tests.ledgers import checkpointed, event

DELAYS = Deliverable("delays")
POLICY = {
    "mode": "act",
    "rules": [
        {
            "name": "keep it out", "finding": "failed_gate", "action": "quarantine_batch", "patience": 0.001,
            "window": 0.001, "modes": {"staging": "propose"},
        },
        {"name": "hold", "finding": "anomaly", "action": "hold_promotion", "patience": 0.001, "window": 0.001},
        {"name": "page", "finding": "late_labels", "action": "notify"},
    ],
    "limits": {"environments": 2},
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the history."""
    connection = {"conn_type": "pipeops_storage", "host": tmp_path.as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_REMEDIATION", json.dumps(connection))
    return tmp_path


def remediate(
    context: Any, kind: str = "failed_gate", environment: str = "production", **more: Any
) -> RemediateOperator:
    finding = {"kind": kind, "at": datetime.now(timezone.utc).isoformat(), "target": {"batch": "march"}}
    finding["reason"] = "the store at https://ada:hunter2@store.example.com said no"
    given = {"finding": finding, "policy": POLICY, **more}
    operator = RemediateOperator(task_id="remediate", deliverable=DELAYS, environment=environment, **given)
    context["inlet_events"] = dict.fromkeys(operator._read(), ())
    return operator


def verify(
    remediation: Any, judge: Any, environment: str = "production", **more: Any
) -> VerifyRemediationOperator:
    return VerifyRemediationOperator(
        task_id="verify", remediation=remediation, judge=judge, policy=POLICY, deliverable=DELAYS,
        environment=environment, interval=timedelta(seconds=1), **more,
    )  # fmt: skip


def newest(root: Path) -> str:
    return max(root.rglob("*.json")).read_text()


def recorded(operator: Any) -> Record:
    (asset, record), *more = operator.emitted
    assert asset == DELAYS.remediated(record.environment)
    assert not more
    return record  # type: ignore[no-any-return]


def test_a_batch_is_kept_out_and_let_in_again(root: Path, context: Any, capsys: Any) -> None:
    done = remediate(context)
    found = done.execute(context)
    assert (found["outcome"], found["state"], found["action"]) == ("act", "acted", "quarantine_batch")
    assert "operation" in quarantined("march")
    assert not quarantined("april")
    record = recorded(done)
    assert record.id == found["record_id"]
    assert "hunter2" not in str(record.body) + newest(root)
    assert record.body["finding"]["target"] == {"batch": "march"}
    proof = verify(found, lambda finding: "worse" if finding["target"]["batch"] == "march" else "clear")
    ended = proof.execute(context)
    assert (ended["state"], ended["helped"], ended["called"]) == ("handed_over", False, 1)
    assert not quarantined("march"), "it was taken back"
    assert record.id in recorded(proof).parents
    refused = remediate(context).execute(context)
    assert (refused["outcome"], refused["stage"]) == ("refuse", "lock")

    class Args:
        storage_conn_id, reset, json = "pipeops_remediation", ["delays@production"], False

    remediation_command(Args)
    assert "with a person: nothing" in capsys.readouterr().out
    assert Journal(root).read()[1].reset("delays@production")
    Args.reset = ["delays"]
    with pytest.raises(InvalidInput, match="'delays' is not a scope"):
        remediation_command(Args)


def test_a_promotion_is_held_until_a_person_lets_it_go(root: Path, context: Any) -> None:
    found = remediate(context, "anomaly").execute(context)
    assert "hold_promotion" in held("delays", "production")
    assert not held("delays", "staging")
    proof = verify(found, lambda finding: {"sight": "clear", "reason": "all is well"})
    with pytest.raises(TaskDeferred):
        proof.execute(context)
    assert proof.execute_look(context)["state"] == "helped"
    assert held("delays", "production"), "it stays held"
    Journal(root).reset("promotion delays@production", "ada")
    assert not held("delays", "production")


@pytest.mark.parametrize("judge", [f"{__name__}:nowhere", lambda finding: None])
def test_a_judge_that_is_none_is_refused(root: Path, context: Any, judge: Any) -> None:
    found = remediate(context, "anomaly").execute(context)
    with pytest.raises(AirflowFailException, match="judge"):
        verify(found, judge).execute(context)
    assert Journal(root).read()[1].operations[0].state == "acted"


def test_a_judge_that_fails_has_cleared_nothing(root: Path, context: Any) -> None:
    found = remediate(context, "anomaly").execute(context)
    ended = verify(found, lambda finding: 1 / 0).execute(context)
    assert (ended["state"], ended["helped"]) == ("handed_over", False)
    assert "ZeroDivisionError" in ended["reason"]
    assert held("delays", "production"), "nothing is undone on no knowledge"


def test_a_judge_that_is_not_configured_has_cleared_nothing(root: Path, context: Any) -> None:
    def judge(finding: Any) -> Any:
        raise NotConfigured({"labels": "http"})

    found = remediate(context, "anomaly").execute(context)
    ended = verify(found, judge).execute(context)
    assert (ended["state"], ended["helped"]) == ("handed_over", False)
    assert "a connection is missing: 'labels'" in ended["reason"]


def test_what_a_judge_says_is_cut_after_its_secrets_are_out(root: Path, context: Any) -> None:
    said = f"{'x' * 480} https://ada:hunter2hunter2@store.example.com"
    found = remediate(context, "anomaly").execute(context)
    ended = verify(found, lambda finding: {"sight": "worse", "reason": said}).execute(context)
    assert "hunter2" not in json.dumps(ended) + newest(root)


def test_what_is_proposed_needs_a_yes(root: Path, context: Any) -> None:
    proposed = remediate(context, environment="staging").execute(context)
    assert (proposed["outcome"], proposed["operation"]) == ("propose", "")
    no = {"chosen_options": ["Reject"], "responded_by_user": {"id": "1", "name": "ada"}}
    assert remediate(context, environment="staging", approval=no).execute(context)["outcome"] == "propose"
    yes = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ada"}}
    done = remediate(context, environment="staging", approval=yes)
    assert done.execute(context)["state"] == "acted"
    assert recorded(done).body["approved_by"] == "ada"
    with pytest.raises(AirflowSkipException, match="Nothing was done"):
        verify(proposed, lambda finding: "clear").execute(context)


def test_people_are_called_once_by_a_notifier(root: Path, context: Any, caplog: Any) -> None:
    calls: list[Any] = []
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            remediate(context, "late_labels", notifiers=[calls.append]).execute(context)
            remediate(context, "late_labels", "staging", notifiers=[calls.append]).execute(context)
    (call,) = calls
    assert call["remediation"]["call"] == 1
    assert [one["deliverable"] for one in call["remediation"]["operations"]] == ["delays"]
    with pytest.raises(AirflowSkipException, match="not called"):
        remediate(context, finding=None, notifiers=[calls.append]).execute(context)
    assert len(Journal(root).read()[1].operations) == 2


@pytest.mark.parametrize("switch", ["file", "variable"])
def test_a_switch_stops_everything(root: Path, context: Any, monkeypatch: Any, switch: str) -> None:
    if switch == "file":
        (root / "STOP").touch()
    else:
        monkeypatch.setenv("AIRFLOW_VAR_PIPEOPS_REMEDIATION_STOP", "yes")
    found = remediate(context).execute(context)
    assert (found["outcome"], found["stage"]) == ("refuse", "kill_switch")
    assert Journal(root).read()[0] == 0, "nothing was written"


@pytest.mark.parametrize("extra", [{"remediation": "stop"}, {"remediation": " Stop"}])
def test_the_connection_stops_everything(
    root: Path, context: Any, monkeypatch: Any, extra: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps({"conn_type": "http", "extra": extra}))
    found = remediate(context).execute(context)
    assert (found["outcome"], found["stage"]) == ("refuse", "kill_switch")
    assert "remediation=stop of connection 'airflow_api'" in found["reason"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"remediation": "halt"}, "remediation of connection 'airflow_api' is 'halt'"),
        ({"remediation": True}, "remediation of connection 'airflow_api' is 'true'"),
        ('{"remediation": "stop"', "the extra of connection 'airflow_api' is no JSON object"),
    ],
)
def test_a_switch_of_the_connection_that_cannot_be_read_lets_nothing_be_done(
    root: Path, context: Any, monkeypatch: Any, extra: Any, said: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps({"conn_type": "http", "extra": extra}))
    with pytest.raises(AirflowFailException, match=said):
        remediate(context).execute(context)
    assert Journal(root).read()[0] == 0, "nothing was written"


def test_somebody_else_is_releasing(root: Path, context: Any) -> None:
    operator = remediate(context)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    change = Record(
        "change",
        "delays",
        {"commit": "c" * 40, "changed": True},
        (),
        "production",
        at=at,
        source={"dag": "ship"},
    )

    changed = DELAYS.changed("production")
    context["inlet_events"][changed] = [event(change.to_extra(), datetime.now(timezone.utc), changed)]
    found = operator.execute(context)
    assert (found["outcome"], found["stage"]) == ("refuse", "lock")
    assert "cccccccccccc of ship" in found["reason"]


@pytest.mark.parametrize(
    ("until", "outcome"), [("2026-03-01T11:59:00Z", "refuse"), ("2026-03-01T12:01:00Z", "act"), ("", "act")]
)
def test_labels_of_the_model_before_answer_nothing_about_the_new_one(
    root: Path, context: Any, until: str, outcome: str
) -> None:
    operator = remediate(context, labels_until=until)
    live = Record("release", "delays", {"revision": "c" * 40}, (), "production", at="2026-03-01T12:00:00Z")
    released = DELAYS.asset("release", "production")
    context["inlet_events"][released] = [event(live.to_extra(), datetime.now(timezone.utc), released)]
    found = operator.execute(context)
    assert found["outcome"] == outcome
    assert ("cccccccccccc is live since 2026-03-01T12:00:00" in found["reason"]) is (outcome == "refuse")


def test_until_when_there_are_labels_is_a_time(root: Path, context: Any) -> None:
    with pytest.raises(AirflowFailException, match="labels_until 'May' is no time with a zone"):
        remediate(context, labels_until="May").execute(context)
    assert Journal(root).read()[0] == 0, "nothing was written"


@pytest.fixture
def remote(tmp_path_factory: Any, monkeypatch: Any) -> Remote:
    """The desired state, in a real repository, by its connection."""
    folder = tmp_path_factory.mktemp("git")
    remote = Remote(folder / "remote.git", folder / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    remote.put("app.yaml", "replicas: 3  # stays\n")
    remote.commit("Begin")
    connection = {"conn_type": "git_repository", "host": str(remote.path)}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", json.dumps(connection))
    return remote


REVERT = {
    "mode": "act",
    "rules": [
        {
            "name": "take it back", "finding": "degraded_release", "action": "revert_commit", "patience": 0.001,
            "window": 0.001,
        }
    ],
}  # fmt: skip


def degraded(context: Any, commit: str, **more: Any) -> RemediateOperator:
    """A release that went bad, and the commit that brought it."""
    at = datetime.now(timezone.utc).isoformat()
    finding = {"kind": "degraded_release", "at": at, "reason": "pods restart", "target": {"commit": commit}}
    return remediate(context, finding=finding, policy=REVERT, **more)


def test_a_commit_is_reverted_once_and_it_helps(
    root: Path, context: Any, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, checkpoint = checkpointed(tmp_path / "ledger")
    monkeypatch.setenv("AIRFLOW__PIPEOPS__LEDGER_PATH", address)
    bad = remote.commit("Ask for more", **{"app.yaml": "replicas: 300  # stays\n"})
    remote.commit("Say who owns it", owner="data\n")
    act = degraded(context, bad)
    found = act.execute(context)
    assert (found["outcome"], found["state"], found["result"]["reverts"]) == ("act", "acted", bad)
    assert remote.show("app.yaml") == "replicas: 3  # stays\n"
    assert remote.show("owner") == "data\n", "what came after it stays"
    assert remote.tip() == found["result"]["commit"]
    trailers = git("log", "-1", "--format=%(trailers)", "main", cwd=remote.path)
    assert found["operation"] in trailers
    assert checkpoint in trailers.splitlines()
    (_, said), (asset, change) = act.emitted
    assert (asset, change.kind, change.parents) == (DELAYS.changed("production"), "change", (said.id,))
    assert change.body["commit"] == remote.tip()

    again = act.execute(context)  # as after a death: the same task, the same finding
    assert (again["outcome"], again["operation"]) == ("go on", found["operation"])
    proof = verify(found, lambda finding: "clear" if remote.tip() == found["result"]["commit"] else "still")
    with pytest.raises(TaskDeferred):
        proof.execute(context)
    ended = proof.execute_look(context)
    assert (ended["state"], ended["helped"], ended["called"]) == ("helped", True, 0)
    assert remote.tip() == found["result"]["commit"], "one act"


def test_a_revert_that_does_not_help_is_a_persons_and_is_not_reverted(
    root: Path, context: Any, remote: Remote
) -> None:
    calls: list[Any] = []
    innocent = remote.commit("Say who owns it", owner="data\n")
    found = degraded(context, innocent).execute(context)
    ended = verify(found, lambda finding: "still", notifiers=[calls.append]).execute(context)
    assert (ended["state"], ended["helped"], ended["called"]) == ("handed_over", False, 1)
    (call,) = calls
    (told,) = call["remediation"]["operations"]
    assert told["result"]["commit"] == remote.tip() == found["result"]["commit"]
    remote.pull()
    other = remote.commit("Something else", owner="ops\n")
    left = degraded(context, other, notifiers=[calls.append]).execute(context)
    assert (left["outcome"], left["stage"], remote.tip()) == ("refuse", "lock", other)
    assert len(calls) == 1, "a person has it, and is called once"


def test_a_commit_that_cannot_be_reverted_is_a_persons(root: Path, context: Any, remote: Remote) -> None:
    bad = remote.commit("Ask for more", **{"app.yaml": "replicas: 300  # stays\n"})
    newest = remote.commit("Ask for less", **{"app.yaml": "replicas: 2  # stays\n"})
    found = degraded(context, bad).execute(context)
    assert (found["state"], found["helped"], found["called"]) == ("handed_over", False, 1)
    shown = Journal(root).read()[1].operations[-1].reason
    assert "revert_commit could not be done" in shown
    assert remote.tip() == newest, "nothing was changed"


def test_the_form_may_only_narrow_the_policy(root: Path, context: Any, remote: Remote) -> None:
    bad = remote.commit("Ask for more", **{"app.yaml": "replicas: 300  # stays\n"})
    dry = degraded(context, bad, mode="observe")
    found = dry.execute(context)
    assert (found["outcome"], found["operation"], found["rule"]) == ("observe", "", "take it back")
    assert recorded(dry).body["reason"] == "revert_commit would be done; the rule only observes."
    assert degraded(context, bad, mode="propose").execute(context)["outcome"] == "propose"
    assert remote.tip() == bad
    assert Journal(root).read()[0] == 0, "nothing was begun"
    with pytest.raises(AirflowFailException, match="mode is 'perhaps'"):
        degraded(context, bad, mode="perhaps").execute(context)
    nothing = degraded(context, bad, mode="{{ params.mode }}")
    nothing.render_template_fields({**context, "params": {"mode": ""}})
    with pytest.raises(AirflowFailException, match="mode was given, and is empty"):
        nothing.execute(context)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_judge_that_is_none_is_found_before_anything_is_touched(
    root: Path, context: Any, remote: Remote, mapped: bool
) -> None:
    from airflow.sdk import DAG

    bad = remote.commit("Ask for more", **{"app.yaml": "replicas: 300  # stays\n"})
    given = {
        "task_id": "verify", "judge": f"{__name__}:nowhere", "policy": REVERT, "deliverable": DELAYS,
        "environment": "production",
    }  # fmt: skip
    with DAG("remedy"):
        act = degraded(context, bad)
        if mapped:
            VerifyRemediationOperator.partial(**given).expand(remediation=[act.output])
        else:
            VerifyRemediationOperator(remediation=act.output, **given)
    with pytest.raises(AirflowFailException, match=r"judge .*:nowhere' cannot be imported"):
        act.execute(context)
    assert remote.tip() == bad
    assert Journal(root).read()[0] == 0


def test_a_number_in_git_goes_up_and_back(root: Path, context: Any, remote: Remote) -> None:
    scale = {"file": "app.yaml", "path": "replicas", "least": 1, "most": 4, "step": 5}
    rule = {"name": "more", "finding": "drift", "action": "scale_up", "parameters": scale}
    policy = {"mode": "act", "rules": [rule]}
    up = remediate(context, "drift", policy=policy)
    found = up.execute(context)
    assert remote.show("app.yaml") == "replicas: 4  # stays\n", "no further than its bound"
    (_, first), (asset, change) = up.emitted
    assert (asset, change.kind, change.parents) == (DELAYS.changed("production"), "change", (first.id,))
    assert change.body["commit"] == found["result"]["commit"]
    assert not releasing([change], datetime.now(timezone.utc), timedelta(hours=6)), "it is its own"
    back = verify(found, lambda finding: "worse")
    assert back.execute(context)["state"] == "handed_over"
    assert remote.show("app.yaml") == "replicas: 3  # stays\n"
    assert [record.body.get("set") for _, record in back.emitted] == [None, {"replicas": 3}]


_MINE, _OLDER = "c" * 40, "a" * 40
_CHANGE = ("change", 60, {"commit": _MINE, "changed": True})


@pytest.mark.parametrize(
    ("told", "busy"),
    [
        ([_CHANGE], True),
        ([_CHANGE, ("release", 30, {"revision": _MINE})], False),
        ([_CHANGE, ("release", 30, {"revision": [_OLDER, _MINE]})], False),
        ([_CHANGE, ("release", 30, {"revision": {"values": _MINE}})], False),
        ([_CHANGE, ("release", 30, {"apps": {"one": {"revision": _MINE}}})], False),
        ([_CHANGE, ("release", 30, {"revision": f"main@sha1:{_MINE}"})], False),
        ([_CHANGE, ("release", 30, {"revision": _MINE[:8]})], False),
        ([_CHANGE, ("rollback", 30, {"reverts": _MINE, "how": "revert"})], False),
        ([_CHANGE, ("incident", 59, {"bad_revision": _OLDER})], True),
        ([_CHANGE, ("incident", 59, {"bad_revision": _MINE})], True),
        ([_CHANGE, ("release", 59, {"revision": _OLDER})], True),
        ([_CHANGE, ("rollback", 59, {"reverts": _OLDER, "how": "revert"})], True),
        ([_CHANGE, ("release", 59, {"revision": None})], True),
        ([("release", 61, {"revision": _MINE}), _CHANGE], True),
        (
            [
                ("change", 90, {"commit": _OLDER, "changed": True}),
                _CHANGE,
                ("release", 30, {"revision": _MINE}),
            ],
            False,
        ),
        (
            [
                ("change", 90, {"commit": _OLDER, "changed": True}),
                ("release", 59, {"revision": _OLDER}),
                _CHANGE,
            ],
            True,
        ),
        ([_CHANGE, ("change", 30, {"commit": _OLDER, "changed": False})], True),
        ([_CHANGE, ("change", 30, {"commit": _OLDER, "changed": True, "operation": "o"})], True),
        ([("change", 60, {"changed": True}), ("release", 30, {"revision": ""})], False),
        ([("change", 60, {"changed": True})], True),
        ([("change", 60, {"commit": _MINE, "changed": False})], False),
        ([("change", 420, {"commit": _MINE, "changed": True})], False),
        ([], False),
    ],
)
def test_who_is_releasing_is_told_by_the_records(told: Any, busy: bool) -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    records = [
        Record(
            kind, "delays", body, (), "production",
            at=(now - timedelta(minutes=minutes)).isoformat(), source={"dag": "ship"},
        )
        for kind, minutes, body in told
    ]  # fmt: skip
    said = releasing(records, now, timedelta(hours=6))
    assert bool(said) is busy, said
    assert not said or "of ship at" in said


def test_a_revert_is_under_way_until_its_own_commit_is_live() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    of: dict[str, Any] = {"environment": "production", "at": now.isoformat(), "source": {"dag": "guard"}}
    back = Record("rollback", "delays", {"reverts": _OLDER, "revision": _MINE, "how": "revert"}, **of)
    change = Record("change", "delays", {"commit": _MINE, "changed": True}, (back.id,), **of)
    live = Record("release", "delays", {"revision": ""}, (change.id,), **of)
    hours = timedelta(hours=6)
    assert "cccccccccccc of guard" in releasing([change, back], now, hours)
    assert not releasing([live, change, back], now, hours)
    assert not releasing([change, back], now, hours, _MINE), "the finding is about that very change"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"policy": {"rules": [{"name": "x", "finding": "drift", "action": "explode"}]}},
            "'explode' is unknown",
        ),
        ({"policy": {"rules": 1}}, "rules of the policy is no list"),
        (
            {"environment": None, "deliverable": None},
            "a remediation is about a deliverable in an environment",
        ),
        ({"deliverable": None}, "a remediation is about a deliverable in an environment"),
    ],
)
def test_bad_input_is_refused_when_the_dag_is_read(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        RemediateOperator(
            **{"task_id": "t", "policy": POLICY, "deliverable": DELAYS, "environment": "production", **given}
        )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": "nowhere.yaml"}, "cannot be read"),
        ({"finding": "soon"}, "finding"),
        ({"finding": {"kind": "drift"}}, "incomplete"),
        (
            {"finding": {"kind": "drift", "at": "2026-01-01T00:00:00Z", "deliverable": "other"}},
            "the finding is about other",
        ),
        ({"population": "many"}, "population is 'many'"),
        ({"population": float("inf")}, "population is inf"),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(
    root: Path, context: Any, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        remediate(context, **given).execute(context)
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    "content", ["{", "null", "{}", '{"operations": {}}', '{"operations": [{"id": "x"}]}']
)
def test_a_history_that_cannot_be_read_stops_everything(root: Path, context: Any, content: str) -> None:
    remediate(context).execute(context)
    newest = max(root.rglob("*.json"))
    newest.write_text(content)
    from airflow_pipeops.exceptions import BadResponse

    with pytest.raises(BadResponse, match="Nothing is done before it can be read"):
        remediate(context).execute(context)


def test_a_store_in_which_nobody_is_first_is_refused() -> None:
    from airflow.sdk import ObjectStoragePath

    with pytest.raises(Unsupported, match="nobody can say who was first"):
        Journal(ObjectStoragePath("memory://x"))


def test_a_history_out_of_reach_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is not there"):
        Journal(tmp_path / "lost").update(lambda history: history)
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable):
        Journal(tmp_path / "file").update(lambda history: history)
