"""All loops together in worlds whose truth is known: what must never be, what is better for it, and what measures it."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from itertools import pairwise

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.operations.simulation.command import simulate_command
from airflow_pipeops.operations.simulation.incidents import remedy
from airflow_pipeops.operations.simulation.loop import Policies, Trace, run
from airflow_pipeops.operations.simulation.metrics import _periodic, figures, oracle
from airflow_pipeops.operations.simulation.plant import SCENARIOS, Plant, Scenario
from airflow_pipeops.operations.simulation.policy import SimulationPolicy, advised
from airflow_pipeops.operations.simulation.study import (
    NAIVE,
    bound,
    later,
    measured,
    stronger,
    study,
    without,
)

PLANT = Plant(batches=500)
FULL = advised(PLANT).policies()
ADVISED = replace(FULL, knob=None)
GOVERNOR = ADVISED.governor
assert GOVERNOR is not None
DEFAULT = Policies(RetrainPolicy(target=PLANT.level))


def retrains(policies: Policies, name: str, seed: int = 0, plant: Plant = PLANT) -> int:
    return sum(one.retrains for one in measured(policies, plant, SCENARIOS[name], [seed]))


def test_a_thousand_quiet_batches_start_nothing() -> None:
    plant = Plant(batches=1000)
    for policies in (FULL, DEFAULT):
        (found,) = measured(policies, plant, SCENARIOS["stationary"], [3])
        assert (found.retrains, found.rollbacks, found.false_acts) == (0, 0, 0)
        assert found.moves <= 1
    (naive,) = measured(NAIVE, plant, SCENARIOS["stationary"], [3])
    assert naive.false_acts > 1


@pytest.mark.parametrize(
    "name", [*SCENARIOS.known, "oscillating-2", "oscillating-21", "oscillating-60", "oscillating-200"]
)
def test_what_must_never_be_in_any_world(name: str) -> None:
    scenario = SCENARIOS[name]
    for trace in run(scenario, ADVISED, PLANT, 1):
        found = figures(trace, scenario, PLANT)
        assert found.outage_acts == 0
        assert not found.cycles
        assert found.retrains <= bound(GOVERNOR, PLANT.batches)
        starts = [act.batch for act in trace.acts if act.kind == "retrain"]
        if name not in ("label-outage", "label-delay"):  # where several labels come on one day
            assert all(later - earlier > GOVERNOR.dwell for earlier, later in pairwise(starts))
        assert found.retrains <= GOVERNOR.budget * 2
        assert found.unrepaired == 0 or name in ("retrain-worse", "adversary")
    (naive, *_) = measured(NAIVE, PLANT, scenario, [1])
    (own, *_) = measured(ADVISED, PLANT, scenario, [1])
    assert own.cost <= naive.cost + 1.0


@pytest.mark.parametrize("name", ["step", "stationary", "shared-data", "retrain-fails"])
def test_gains_and_delays_twice_as_large_bring_no_circle(name: str) -> None:
    for policies, plant in ((stronger(FULL), PLANT), (FULL, later(PLANT))):
        for found in measured(policies, plant, SCENARIOS[name], [2]):
            assert not found.cycles
            assert found.retrains <= 8
            assert found.moves <= 8


def test_each_part_keeps_something_away() -> None:
    parts = without(ADVISED)
    assert set(parts) == {
        "cooldown",
        "k of n",
        "limit of futile retrains",
        "budget",
        "rollback",
        "guard",
    }
    assert retrains(ADVISED, "step") < retrains(parts["cooldown"], "step")
    assert 2 * retrains(ADVISED, "outliers") <= retrains(parts["k of n"], "outliers")
    assert 2 * retrains(ADVISED, "beyond-repair") < retrains(
        parts["limit of futile retrains"], "beyond-repair"
    )


def test_a_cooldown_shorter_than_the_labels_take_retrains_on_evidence_of_the_model_before() -> None:
    """The default of two batches is right where labels are there at once; where they are late, it follows what is stated."""
    at_once = replace(PLANT, label_delay=0, deploy=1)
    assert [retrains(DEFAULT, "step", seed, at_once) for seed in range(3)] == [1, 1, 1]
    assert min(retrains(DEFAULT, "step", seed) for seed in range(3)) >= 2
    stated = Policies(RetrainPolicy(target=PLANT.level, label_delay_batches=7, release_batches=2))
    assert [retrains(stated, "step", seed) for seed in range(2)] == [1, 1]
    assert 3 * retrains(stated, "beyond-repair") < retrains(DEFAULT, "beyond-repair")


def test_a_model_that_is_worse_goes_back_and_nothing_is_retrained_for_ever() -> None:
    scenario = SCENARIOS["retrain-worse"]
    (trace,) = run(scenario, ADVISED, PLANT, 0)
    assert any(act.kind == "rollback" for act in trace.acts)
    assert len(trace.acts) <= 16


def test_labels_that_stopped_are_waited_for_and_the_shock_is_repaired_afterwards() -> None:
    (found,) = measured(ADVISED, PLANT, SCENARIOS["label-outage"], [0])
    assert found.outage_acts == 0
    assert found.unrepaired == 0
    assert found.repair is not None
    assert found.repair >= 60  # the outage
    assert found.retrains <= 2


def test_the_same_seed_is_the_same_world() -> None:
    one, other, third = (run(SCENARIOS["recurring"], ADVISED, PLANT, seed)[0] for seed in (5, 5, 6))
    assert one == other
    assert one.losses != third.losses or one.acts != third.acts


def test_a_person_is_asked_and_answers_late() -> None:
    asks = replace(ADVISED, governor=replace(GOVERNOR, needs_approval=True))
    (trace,) = run(SCENARIOS["step"], asks, replace(PLANT, answer=6), 0)
    assert trace.asked >= 1
    assert 1 <= len(trace.acts) <= 2
    assert trace.losses[-1] < 0.02


def test_the_oracle_pays_the_least() -> None:
    """Against all schedules of up to two retrains in a small world."""
    plant = Plant(batches=50, label_delay=2, deploy=3, retrain_cost=0.2)
    world = [0.0] * 12 + [0.09] * 20 + [0.03] * 18

    def cost(starts: tuple[int, ...]) -> float:
        place, total, due = (
            0.0,
            plant.retrain_cost * len(starts),
            [(start + plant.deploy, start) for start in starts],
        )
        for batch, here in enumerate(world):
            for release, start in due:
                if release == batch:
                    place = world[max(0, start - plant.label_delay)]
            total += abs(here - place)
        return total

    least = min(
        cost(()),
        *(cost((one,)) for one in range(50)),
        *(cost((one, two)) for one in range(50) for two in range(one + 1, 50)),
    )
    assert oracle(Trace(world=world), plant) == pytest.approx(least)


def test_a_circle_is_seen_and_one_move_is_none() -> None:
    assert _periodic([float(batch // 20 % 2) for batch in range(400)])
    assert not _periodic([float(batch > 200) for batch in range(400)])
    assert not _periodic([0.0] * 400)
    scenario = Scenario("still")
    wild = Trace(
        world=[0.0] * 600, losses=[0.0] * 600, thresholds=[float(batch // 15 % 2) for batch in range(600)]
    )
    assert figures(wild, scenario, Plant(batches=600)).cycles


def test_the_command_reads_a_file_and_says_what_came_of_it(tmp_path, capsys) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        json.dumps({"governor": GOVERNOR.to_json(), "guard": {"mode": "act"}, "plant": {"batches": 400}})
    )
    args = Namespace(policy=str(path), scenario=["step", "outliers"], runs=1, json=True)
    assert simulate_command(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["scenario"] for row in found["rows"]] == ["step", "outliers"]
    assert found["faults"] == []
    assert found["rows"][0]["retrains"] == 1
    assert found["warnings"] == []
    path.write_text(json.dumps({"governor": {"max_drop": 0.02}, "plant": {"batches": 400}}))
    args.json = False
    simulate_command(args)
    said = capsys.readouterr().out
    assert "| step " in said
    assert (
        "cooldown_batches of the retrain policy is 2, and labels (7) and a release (2) take 9 batches" in said
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"governor": {"max_dorp": 1}}, "max_dorp"),
        ({"governor": {}, "gaurd": {}}, "gaurd"),
        ({"guard": {"alhpa": 1}}, "alhpa"),
        ({"anomalies": {"bugdet": 1}}, "bugdet"),
        ({"anomalies": {"budget": 0}}, "budget is 0"),
        ({"knob": {"name": "x"}}, "incomplete"),
        ({"plant": {"batches": "many"}}, "batches of the plant"),
        ({"plant": {"batches": 10**400}}, "batches of the plant"),
        ({"plant": {"batches": 100_001}}, "whole number from 50 to 100,000"),
        ({"plant": {"deploy_fails": 1.5}}, "number from 0 to 1"),
        (
            {"governor": {"cooldown_batches": 2, "label_delay_batches": 7}},
            "cooldown_batches of the retrain policy is 2",
        ),
        ({"plant": {"label_delay": -1}}, "label_delay"),
        ({"k": 3, "n": 2}, "k 3"),
        ([], "object of names"),
        ("governor", "object of names"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(tmp_path, content: object, says: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=says):
        simulate_command(Namespace(policy=str(path), scenario=None, runs=1, json=False))


def test_an_unknown_scenario_or_file_is_refused(tmp_path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("max_drop: 0.03\n")
    assert SimulationPolicy.read({"max_drop": 0.03}).governor.max_drop == 0.03
    for name in ("storm", "oscillating-1", "oscillating-x"):
        with pytest.raises(InvalidInput, match="is unknown"):
            simulate_command(Namespace(policy=str(path), scenario=[name], runs=1, json=False))
    with pytest.raises(InvalidInput, match="cannot be read"):
        simulate_command(Namespace(policy=str(tmp_path / "none.yaml"), scenario=None, runs=1, json=False))
    path.write_text("a: [")
    with pytest.raises(InvalidInput, match="neither JSON nor YAML"):
        simulate_command(Namespace(policy=str(path), scenario=None, runs=1, json=False))
    path.write_text("max_drop: 0.03\n")
    with pytest.raises(InvalidInput, match="--runs is 0"):
        simulate_command(Namespace(policy=str(path), scenario=None, runs=0, json=False))


def test_a_study_says_what_went_wrong() -> None:
    (row,) = study(ADVISED, replace(PLANT, batches=400), [SCENARIOS["step"]], [0])
    assert row.faults == []
    assert row.cost < row.naive
    assert replace(row, cycles=1, outage_acts=2).faults == [
        "2 acts while labels were missing",
        "1 runs go round in a circle",
    ]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_world_that_oscillates_at_any_period_finds_no_resonance() -> None:
    for period in range(2, 201):
        scenario = SCENARIOS[f"oscillating-{period}"]
        (found,) = measured(ADVISED, PLANT, scenario, [0])
        assert found.retrains <= min(bound(GOVERNOR, PLANT.batches), GOVERNOR.budget * 2), period
        (naive,) = measured(NAIVE, PLANT, scenario, [0])
        assert found.cost <= naive.cost, period


def test_a_remediation_that_does_not_wait_for_the_labels_of_a_release_takes_back_what_was_right() -> None:
    """The cost has changed, says the detection, of labels of the model before; alone, both loops are right."""
    patient = replace(ADVISED, remedy=remedy(PLANT.label_delay, PLANT.deploy))
    hasty = replace(patient, interlock=False, evidence=False)
    assert set(without(patient)) >= {"remediation", "evidence", "interlock"}
    (waits,) = measured(patient, PLANT, SCENARIOS["step"], [0])
    (fights,) = measured(hasty, PLANT, SCENARIOS["step"], [0])
    assert (waits.rollbacks, waits.calls, waits.reversals) == (0, 0, 0)
    assert fights.rollbacks >= 1
    assert fights.cost > waits.cost
    # Its own limits end it: one act, and then a person.
    assert fights.calls >= 1
    assert fights.rollbacks <= 2
    (trace,) = run(SCENARIOS["adversary"], patient, PLANT, 0)
    assert sum(act.by == "remediation" for act in trace.acts) <= 4


@pytest.mark.parametrize("scenario", ["adversary", "oscillating-200"])
def test_a_remediation_takes_nothing_back_that_was_not_found_worse_than_the_model_before(
    scenario: str,
) -> None:
    """What it took back on a level alone could not be mended where the budget of retrains was used up."""
    both = replace(FULL, remedy=remedy(PLANT.label_delay, PLANT.deploy))
    (alone,) = measured(FULL, PLANT, SCENARIOS[scenario], [0])
    (found,) = measured(both, PLANT, SCENARIOS[scenario], [0])
    (eager,) = measured(replace(both, evidence=False), PLANT, SCENARIOS[scenario], [0])
    assert found.cost == alone.cost
    assert eager.cost > 1.2 * alone.cost
    # Without waiting for labels, too: there is nothing to compare until they are there.
    (hasty,) = measured(replace(both, interlock=False), PLANT, SCENARIOS["step"], [0])
    assert (hasty.rollbacks, hasty.calls) == (0, 0)


def test_the_alarm_that_is_tuned_is_heard_by_the_remediation() -> None:
    """The world goes back to where the model before was right, and no label says so any more."""
    world = lambda batch: 0.4 if 100 <= batch < 300 else 0.0  # noqa: E731
    scenario = Scenario("back", world, (100, 300), no_labels=lambda batch: batch >= 300)
    alone = replace(ADVISED, remedy=remedy(PLANT.label_delay, PLANT.deploy), evidence=False)
    assert "knob" in without(FULL)
    assert "knob" not in without(ADVISED)
    acts = {}
    for name, policies in (("knob", replace(alone, knob=FULL.knob)), ("no knob", alone)):
        (trace,) = run(scenario, policies, PLANT, 0)
        acts[name] = [act.batch for act in trace.acts if act.by == "remediation"]
    assert acts["no knob"] == []
    assert len(acts["knob"]) == 1
    assert 300 <= acts["knob"][0] <= 303


def test_an_alarm_is_about_how_far_the_world_is_from_what_serves() -> None:
    (trace,) = run(SCENARIOS["step"], FULL, PLANT, 0)
    assert trace.acts
    assert sum(step.acts for step in trace.steps) <= 1, (
        "the model was retrained, and the threshold need not move"
    )


def test_the_anomalies_that_are_answered_are_those_of_the_shipped_detection_and_its_budget() -> None:
    policy = SimulationPolicy.read({"governor": {}, "anomalies": {"budget": 7.0, "least_change": 0.0}})
    patient = replace(ADVISED, remedy=remedy(PLANT.label_delay, PLANT.deploy))
    assert policy.policies().watched.budget == 7.0
    (quiet,) = measured(patient, PLANT, SCENARIOS["stationary"], [0])
    (loud,) = measured(replace(patient, watched=policy.anomalies), PLANT, SCENARIOS["stationary"], [0])
    assert quiet.false_alarms <= 4  # the stated 0.02 a week are 2.9 in 1,000 days
    assert loud.false_alarms > quiet.false_alarms
    assert (loud.rollbacks, quiet.rollbacks) == (0, 0)  # a batch that is off is no loss that lasts
    (trace,) = run(SCENARIOS["step"], replace(patient, governor=replace(GOVERNOR, budget=0)), PLANT, 0)
    assert 300 + PLANT.label_delay <= trace.alarms[0] <= 300 + PLANT.label_delay + 5


def test_labels_that_are_later_than_anybody_said_let_no_loop_fight_another() -> None:
    """They take 21 batches in place of 7: the remediation waits until they are there, and not until they were due."""
    both = replace(FULL, remedy=remedy(PLANT.label_delay, PLANT.deploy))
    for seed in range(3):
        (found,) = measured(both, PLANT, SCENARIOS["label-delay"], [seed])
        (alone,) = measured(ADVISED, PLANT, SCENARIOS["label-delay"], [seed])
        assert (found.rollbacks, found.reversals, found.cycles) == (0, 0, False)
        assert found.cost == alone.cost


def test_the_measure_finds_a_circle_of_loops_that_are_right_alone() -> None:
    """Nobody waits for labels: retrain, roll back, and so on."""
    hasty = replace(FULL, remedy=remedy(PLANT.label_delay, PLANT.deploy), interlock=False, evidence=False)
    (circles,) = measured(hasty, later(PLANT), SCENARIOS["label-delay"], [0])
    (alone,) = measured(ADVISED, later(PLANT), SCENARIOS["label-delay"], [0])
    assert circles.cycles
    assert not alone.cycles
    assert alone.cost < circles.cost / 2
