"""The governor as a task: what it emits, what it reads back, and what a person and the kill switch change."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor import RetrainPolicy
from airflow_pipeops.governor.history import Observation, deduplicated
from airflow_pipeops.governor.operators import ApprovedRetrainOperator, RetrainGovernorOperator
from airflow_pipeops.governor.records import observations, read_history
from tests.ledgers import event as as_read

MODEL = Deliverable("flight-delay")
POLICY = RetrainPolicy(target=0.70)


def emitted(context: dict, asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


def govern(context: dict, **kwargs) -> tuple[RetrainGovernorOperator, dict]:
    operator = RetrainGovernorOperator(task_id="decide", policy=POLICY, deliverable=MODEL, **kwargs)
    return operator, operator.execute(context)


QUALITY = {"passed": True, "batch": "2013-06.parquet"}
DRIFT = {"share": 0.58, "drifted": True, "batch": "2013-06.parquet"}
APRIL = {
    "batch": "2013-04.parquet",
    "at": "2013-05-01T00:00:00+00:00",
    "quality_passed": True,
    "drift_share": 0.6,
    "performance": 0.62,
    "reference_performance": 0.7,
    "action": "hold",
}


def test_a_decision_to_retrain_is_an_event_of_its_own(context: dict) -> None:
    operator, found = govern(
        context, quality=QUALITY, drift=DRIFT, performance={"value": 0.67, "reference": 0.7}, history=[APRIL]
    )
    assert found["action"] == "retrain"
    assert "2013-06.parquet 0.670 against 0.700" in found["reasons"][0]
    assert [asset.name for asset in operator.outlets] == ["flight-delay.retrain"]
    record = emitted(context, MODEL.retrain)
    assert record.kind == "decision"
    assert record.body["observation"]["action"] == "retrain"
    assert record.body["policy"]["max_drop"] == 0.02
    assert (
        record.body["policy"]["cooldown_batches"] == 2
    )  # the number that counted, and not that none was given
    assert record.body["policy"]["futile_memory"] == 12


def test_hold_is_a_decision_and_starts_nothing(context: dict) -> None:
    operator, found = govern(context, quality=QUALITY, drift=DRIFT, performance=0.70, history=[])
    assert found["action"] == "hold"
    # Airflow sends an event for each outlet of a successful task, so the one that starts training must be gone.
    assert [asset.name for asset in operator.outlets] == ["flight-delay.decision"]
    assert emitted(context, MODEL.decision).id == found["record_id"]


def test_a_gate_that_gave_nothing_passed_nothing(context: dict) -> None:
    """The task of the gate failed or was skipped, and ``trigger_rule`` let the decision run."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG("gated"):
        gate = EmptyOperator(task_id="gate")
        operator = RetrainGovernorOperator(
            task_id="decide", policy=POLICY, quality=gate.output, performance=0.5, history=[APRIL]
        )
    operator.quality = None  # as Airflow renders the output of a task that has none
    found = operator.execute(context)
    assert (found["action"], found["rule"]) == ("investigate", "quality")
    assert found["observation"]["quality_passed"] is False


@pytest.mark.parametrize("wrong", [{"batch": "a"}, {"passed": None}, {"passed": "yes"}])
def test_a_gate_must_say_whether_it_passed(context: dict, wrong: dict) -> None:
    with pytest.raises(AirflowFailException, match="quality says passed="):
        govern(context, quality=wrong, performance=0.5, history=[APRIL])


def test_skipped_upstreams_are_no_evidence(context: dict) -> None:
    _, found = govern(
        context, quality={**QUALITY, "passed": False}, drift=None, performance=None, history="[]"
    )
    assert found["action"] == "investigate"
    _, found = govern(context, history=[APRIL])
    assert (found["action"], found["rule"]) == ("hold", "evidence")


NOTHING: dict = {MODEL.asset("evaluation"): [], MODEL.asset("validation"): []}


def event(record: Record, days: int) -> SimpleNamespace:
    at = datetime(2013, 1, 1, tzinfo=timezone.utc) + timedelta(days=days)
    return as_read(record.to_extra(), at)


def decision(**changes) -> Record:
    return Record("decision", MODEL.name, {"action": "hold", "observation": {**APRIL, **changes}})


def test_history_comes_from_both_assets_once_for_each_batch(context: dict) -> None:
    foreign = SimpleNamespace(extra={"hello": 1}, timestamp=datetime(2012, 1, 1, tzinfo=timezone.utc))
    context["inlet_events"] = {
        MODEL.decision: [event(decision(), 40), event(decision(performance=0.60), 50), foreign],
        MODEL.retrain: [event(decision(batch="2013-03.parquet", action="retrain"), 10)],
        **NOTHING,
    }
    operator = RetrainGovernorOperator(task_id="decide", deliverable=MODEL)
    assert [(item.batch, item.performance, item.action) for item in operator.past(context)] == [
        ("2013-03.parquet", 0.62, "retrain"),
        ("2013-04.parquet", 0.60, "hold"),
    ]
    assert {asset.name for asset in operator.inlets} == {
        f"flight-delay.{kind}" for kind in ("decision", "retrain", "evaluation", "validation")
    }


def test_deciding_again_about_a_batch_decides_the_same(context: dict) -> None:
    june = {**APRIL, "batch": "2013-06.parquet", "performance": 0.67, "action": "retrain"}
    _, found = govern(context, quality=QUALITY, performance=0.67, history=[APRIL, june])
    assert found["action"] == "retrain"


@pytest.mark.parametrize(
    "wrong",
    [
        {"performance": {"value": "good"}},
        {"performance": {"value": 10**400}},
        {"quality": "yes"},
        {"drift": [1]},
    ],
)
def test_wrong_values_are_refused(wrong: dict, context: dict) -> None:
    with pytest.raises(AirflowFailException, match=f"InvalidInput: {next(iter(wrong))}"):
        govern(context, history=[], **wrong)


BAD = {"quality": QUALITY, "drift": DRIFT, "performance": 0.67, "history": [APRIL]}


@pytest.mark.parametrize("changes", [{"mode": "propose"}, {"mode": "observe"}, {"needs_approval": True}])
def test_who_must_ask_or_only_observes_starts_nothing(changes: dict, context: dict) -> None:
    operator = RetrainGovernorOperator(
        task_id="decide", policy=replace(POLICY, **changes), deliverable=MODEL, **BAD
    )
    found = operator.execute(context)
    assert (found["action"], found["acts"]) == ("retrain", False)
    assert [asset.name for asset in operator.outlets] == ["flight-delay.decision"]
    assert emitted(context, MODEL.decision).body["action"] == "retrain"


def test_what_a_person_agreed_to_starts(context: dict) -> None:
    policy = replace(POLICY, mode="propose")
    proposal = RetrainGovernorOperator(task_id="decide", policy=policy, deliverable=MODEL, **BAD).execute(
        context
    )
    operator = ApprovedRetrainOperator(
        task_id="start", decision=proposal, approved_by="ada", deliverable=MODEL
    )
    started = operator.execute(context)
    record = emitted(context, MODEL.retrain)
    assert record.id == started["record_id"]
    assert record.parents == (proposal["record_id"],)
    assert (record.body["approved_by"], record.body["observation"]["batch"]) == ("ada", "2013-06.parquet")
    proposed = emitted(context, MODEL.decision)
    assert [item.outcome for item in observations([proposed])] == ["declined"]
    assert [item.outcome for item in observations([proposed, record])] == [""]


@pytest.mark.parametrize(
    "decision", [None, {"action": "hold"}, {"action": "retrain", "mode": "observe"}, "yes"]
)
def test_nothing_else_can_be_approved(decision, context: dict) -> None:
    operator = ApprovedRetrainOperator(task_id="start", decision=decision, deliverable=MODEL)
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        operator.execute(context)
    with pytest.raises(InvalidInput, match="deliverable"):
        ApprovedRetrainOperator(task_id="start", decision=decision)


@pytest.mark.parametrize(("value", "action"), [("true", "hold"), ("please stop", "hold"), ("off", "retrain")])
def test_the_kill_switch_is_a_variable(value: str, action: str, context: dict, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_RETRAIN_OFF", value)
    operator, found = govern(context, kill_switch="retrain_off", **BAD)
    assert found["action"] == action
    assert (found["rule"] == "kill_switch") == (action == "hold")
    names = [asset.name for asset in operator.outlets]
    assert names == [f"flight-delay.{'retrain' if action == 'retrain' else 'decision'}"]


def test_the_outcome_of_a_retrain_is_read_from_the_evaluation_of_its_challenger() -> None:
    first = decision(batch="march", action="retrain")
    second = decision(batch="june", action="retrain", at="2013-07-01T00:00:00+00:00")
    checked = Record("validation", MODEL.name, {"passed": True}, parents=(first.id,))
    lost = Record("evaluation", MODEL.name, {"promote": False}, parents=(checked.id,))
    measured = Record("evaluation", MODEL.name, {"value": 0.7}, parents=(second.id,))
    found = observations([first, second, checked, lost, measured])
    assert [(item.batch, item.outcome) for item in found] == [("march", "rejected"), ("june", "")]
    won = Record("evaluation", MODEL.name, {"promote": True}, parents=(checked.id,))
    assert [item.outcome for item in observations([first, checked, won])] == ["promoted"]


def test_late_labels_complete_the_history_and_are_recorded(context: dict) -> None:
    unlabelled = {**APRIL, "performance": None}
    _, without = govern(context, quality=QUALITY, performance=0.67, history=[unlabelled])
    assert (without["action"], without["rule"]) == ("hold", "evidence")
    _, found = govern(
        context,
        quality=QUALITY,
        performance=0.67,
        history=[unlabelled],
        late={"2013-04.parquet": {"value": 0.6}},
    )
    assert found["action"] == "retrain"
    record = emitted(context, MODEL.retrain)
    assert {item.batch: item.performance for item in observations([record])} == {
        "2013-06.parquet": 0.67,
        "2013-04.parquet": 0.6,
    }
    with pytest.raises(AirflowFailException, match="nothing was decided"):
        govern(context, history=[], late={"2013-05.parquet": 0.6})


@pytest.mark.parametrize("named", ["2013-04.parquet", "april again.parquet"])
def test_late_labels_may_name_a_copy_of_the_data(named: str, context: dict) -> None:
    first = {**APRIL, "performance": None, "digest": "d4"}
    copy = {**first, "batch": "april again.parquet", "at": "2013-05-02T00:00:00+00:00"}
    records = [Record("decision", MODEL.name, {"observation": one}) for one in (first, copy)]
    history, left_out = read_history(records)
    assert (len(history), left_out) == (1, [])
    for past in (history, [first, copy]):
        _, found = govern(
            context, quality=QUALITY, performance=0.67, history=past, late={named: {"value": 0.6}}
        )
        assert found["action"] == "retrain"
        record = emitted(context, MODEL.retrain)
        # Read back with the decisions before it, they are one batch.
        known = {item.batch: item.performance for item in observations([*records, record])}
        assert known == {"2013-04.parquet": 0.6, "2013-06.parquet": 0.67}


def test_figures_beside_the_metric_reach_the_decision(context: dict) -> None:
    performance = {"value": 0.67, "reference": 0.7, "error": 0.01, "predecessor": 0.71, "rows": 25_000}
    _, found = govern(context, quality=QUALITY, performance=performance, estimate={"value": 0.5}, history=[])
    seen = found["observation"]
    assert (seen["performance_error"], seen["predecessor_performance"], seen["rows"]) == (0.01, 0.71, 25_000)
    _, found = govern(context, quality=QUALITY, estimate=0.66, history=[{**APRIL}])
    assert found["action"] == "retrain"
    assert "(estimated)" in found["reasons"][0]


def test_an_interval_is_an_error_and_an_estimate_stays_one(context: dict) -> None:
    measured = {"value": 0.67, "low": 0.63, "high": 0.71, "rows": 900, "reference": 0.7, "estimated": True}
    _, found = govern(context, quality=QUALITY, performance=measured, history=[])
    seen = found["observation"]
    assert (seen["performance"], seen["estimated_performance"]) == (None, 0.67)
    assert seen["performance_error"] == pytest.approx(0.04 / 1.96, abs=1e-4)
    _, found = govern(context, quality=QUALITY, performance={**measured, "estimated": False}, history=[])
    assert found["observation"]["performance"] == 0.67


def test_a_thousand_weights_fit_into_a_record(context: dict) -> None:
    names = [f"column_with_quite_a_long_name_{n}" for n in range(1000)]
    columns = [{"column": name, "drifted": n < 3} for n, name in enumerate(names)]
    policy = replace(POLICY, importance=dict.fromkeys(names, 1.0))
    operator = RetrainGovernorOperator(
        task_id="decide",
        drift={**DRIFT, "columns": columns},
        performance=0.7,
        policy=policy,
        history=[],
        deliverable=MODEL,
    )
    found = operator.execute(context)
    assert found["observation"]["drifted"] == names[:3]
    assert len(json.dumps(emitted(context, MODEL.decision).body)) < 4000


FUTURE = [
    {"action": "shadow"},
    {"outcome": "shelved"},
    {"action": 5},
    {"mode": ["act"]},
    {"performance": "0.62"},
    {"drift_share": True},
    {"quality_passed": "yes"},
    {"at": "yesterday"},
    {"at": 1367366400},
    {"at": None},
    {"batch": ["2013-04"]},
    {"drifted": "hour"},
    {"batch": None},
]


@pytest.mark.parametrize("odd", FUTURE, ids=lambda odd: next(iter(odd)))
def test_an_odd_record_of_the_history_is_left_out_said_and_counted(odd: dict, context: dict, caplog) -> None:
    good = decision(batch="2013-05.parquet", performance=0.60)
    approved = Record(
        "decision", MODEL.name, {"approved": True, "action": "retrain", "observation": {**APRIL, **odd}}
    )
    context["inlet_events"] = {
        MODEL.decision: [event(decision(**odd), 10), event(good, 20)],
        MODEL.retrain: [event(approved, 5)],
        **NOTHING,
    }
    operator, found = govern(context, quality=QUALITY, performance=0.60)
    assert (found["action"], found["left_out"]) == ("retrain", 2)
    assert "2 records of the history cannot be read" in found["reasons"][-1]
    assert emitted(context, MODEL.retrain).body["left_out"] == 2
    assert len(operator.left_out) == 2
    assert decision(**odd).id[:12] in operator.left_out[0] + operator.left_out[1]


@pytest.mark.parametrize("late", [5, "2013-04", {"batch": 1}, [5], [{"batch": "x"}], [[{}]]])
def test_odd_late_labels_leave_the_decision_itself(late) -> None:
    record = Record("decision", MODEL.name, {"observation": APRIL, "late": late})
    found, left_out = read_history([record])
    assert ([item.batch for item in found], len(left_out)) == (["2013-04.parquet"], 1)


@pytest.mark.parametrize("observation", [None, [], "x", 5])
def test_a_decision_without_an_observation(observation) -> None:
    record = Record("decision", MODEL.name, {"observation": observation})
    assert read_history([record, decision()])[0] == observations([decision()])


def test_posted_and_misplaced_records_are_no_history(context: dict) -> None:
    forged = SimpleNamespace(
        extra={**decision(batch="2013-05").to_extra(), "from_rest_api": True},
        timestamp=event(decision(), 1).timestamp,
    )
    foreign = Record("decision", "another", {"observation": {**APRIL, "batch": "2013-03"}})
    context["inlet_events"] = {
        MODEL.decision: [forged, event(foreign, 2), event(decision(), 3)],
        MODEL.retrain: [],
        **NOTHING,
    }
    operator = RetrainGovernorOperator(task_id="decide", deliverable=MODEL)
    assert [item.batch for item in operator.past(context)] == ["2013-04.parquet"]
    assert len(operator.left_out) == 2


def test_the_same_data_under_two_names_count_once(context: dict) -> None:
    """k of n is 2 of 3: a copy of the one bad batch is no second one."""
    bad = {**APRIL, "digest": "d1", "performance": 0.60}
    quality = {**QUALITY, "batch": "copy-of-april.parquet", "digest": "d1"}
    _, found = govern(context, quality=quality, performance=0.60, history=[bad])
    assert (found["action"], found["rule"]) == ("hold", "known")
    assert "those of 2013-04.parquet" in found["reasons"][0]
    assert found["observation"]["digest"] == "d1"
    # and it counts once in what follows, too
    _, later = govern(
        context, quality={**QUALITY, "digest": "d2"}, performance=0.70, history=[bad, found["observation"]]
    )
    assert "in 1 of the last 2 measured batches" in " ".join(later["reasons"])
    _, other = govern(context, quality={**quality, "digest": "d3"}, performance=0.60, history=[bad])
    assert other["action"] == "retrain"


def test_a_copy_does_not_undo_a_retrain_and_does_not_repeat_it(context: dict) -> None:
    march = {**APRIL, "batch": "2013-03.parquet", "digest": "d0", "performance": 0.60}
    april = {**APRIL, "digest": "d1", "performance": 0.60, "action": "retrain"}
    quality = {**QUALITY, "batch": "copy.parquet", "digest": "d1"}
    _, found = govern(context, quality=quality, performance=0.60, history=[march, april])
    assert found["rule"] == "known"
    history = [Observation.from_json(item) for item in (march, april, found["observation"])]
    assert [item.action for item in deduplicated(history)] == ["hold", "retrain"]
    _, refused = govern(context, quality={**quality, "passed": False}, history=[march, april])
    assert (refused["action"], refused["rule"]) == ("investigate", "quality")


def test_labels_of_a_copy_complete_the_first(context: dict) -> None:
    blind = {**APRIL, "digest": "d1", "performance": None}
    copy = {**APRIL, "batch": "copy", "digest": "d1", "performance": 0.61, "at": "2013-06-01T00:00:00+00:00"}
    (item,) = deduplicated([Observation.from_json(one) for one in (blind, copy)])
    assert (item.batch, item.performance, item.at) == ("2013-04.parquet", 0.61, APRIL["at"])


@pytest.mark.parametrize("named", [True, False])
def test_batches_are_counted_in_the_order_of_their_data(named: bool, context: dict) -> None:
    """March was bad, April and May are well again; a bad February that is judged last is no new sign."""

    def batch(number: int, performance: float) -> dict:
        name = f"flights-2013-{number:02}.parquet" if named else f"batch {'xyzabc'[number]}"
        period = "" if named else f"2013-{number:02}"
        return {**APRIL, "batch": name, "period": period, "performance": performance, "digest": f"d{number}"}

    history = [batch(1, 0.70), batch(3, 0.60), batch(4, 0.72), batch(5, 0.72)]
    late = batch(2, 0.60)
    quality = {"passed": True, "batch": late["batch"], "digest": "d2"}
    _, found = govern(context, quality=quality, performance=0.60, history=history, period=late["period"])
    assert found["action"] == "hold"
    assert found["observation"].get("period", "") == late["period"]
    # The same batches, the bad ones last: that is the sign.
    in_turn = [batch(1, 0.70), batch(2, 0.72), batch(3, 0.72), batch(4, 0.60)]
    may = batch(5, 0.60)
    quality = {"passed": True, "batch": may["batch"], "digest": "d5"}
    _, found = govern(context, quality=quality, performance=0.60, history=in_turn, period=may["period"])
    assert found["action"] == "retrain"
    # ... in whatever order they were judged.
    april = batch(4, 0.60)
    quality = {"passed": True, "batch": april["batch"], "digest": "d4"}
    judged = [batch(5, 0.60), batch(2, 0.72), batch(1, 0.70), batch(3, 0.72)]
    _, found = govern(context, quality=quality, performance=0.60, history=judged, period=april["period"])
    assert found["action"] == "retrain"


@pytest.mark.parametrize(
    ("batch", "of"),
    [
        ("2013-04.parquet", "2013-04"),
        ("flights_201304_v2", "2013-04"),
        ("flights-2013-04-15.csv", "2013-04-15"),
        ("20130415", "2013-04-15"),
        ("2013-13", ""),
        ("2013-01_2013-02", ""),
        ("id-120130415", ""),
        ("flights", ""),
    ],
)
def test_the_date_in_a_name(batch: str, of: str) -> None:
    assert Observation(batch, APRIL["at"], True).of == of


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ("[{", "history is no JSON: "),
        ("[" * 100_000, "history is no JSON: "),
        ('{"batch": "x"}', "history is no list, but of type dict"),
        (7, "history is no list, but of type int"),
        ('["2013-04"]', "history holds as its entry 1 no observation, but something of type str"),
        ([{"batch": "x"}], "an observation is incomplete"),
    ],
)
def test_a_history_that_is_none_is_named(context: dict, history: object, why: str) -> None:
    with pytest.raises(AirflowFailException, match=why) as caught:
        govern(context, quality=QUALITY, drift=DRIFT, performance=0.7, history=history)
    assert isinstance(caught.value.__cause__, InvalidInput)
    assert caught.value.__cause__.field == "history"
