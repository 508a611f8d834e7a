"""The rails of a knob, one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.decision import decide, look
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import Knob
from airflow_pipeops.operations.tuning.steps import Step

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
KNOB = Knob(
    "max_drop", 0.02, 0.005, 0.05, target=0.1, slope=-5, max_step=0.01, delay=5 * DAY, min_labels=50,
    mode="apply", since=START.isoformat(),
)  # fmt: skip


def outcomes(*shares: tuple[int, float], each: float | None = None, start: datetime = START) -> list[Outcome]:
    """Ten outcomes a day: for so many days, this share of them are hits."""
    found: list[Outcome] = []
    for days, share in shares:
        for number in range(days * 10):
            hit = int((number + 1) * share) > int(number * share)
            at = start + len(found) * DAY / 10
            found.append(Outcome(at, hit, None if each is None else each * hit))
    return found


def asked(knob: Knob, known: list[Outcome], day: float, past: list[Step] | None = None, **kwargs) -> Step:
    now = START + day * DAY
    return decide(knob, look(known, knob, past or [], now), past or [], now, **kwargs)


def test_a_share_beyond_doubt_outside_the_band_moves_the_knob_by_half_of_the_distance() -> None:
    step = asked(KNOB, outcomes((40, 0.18)), 30)
    assert (step.action, step.rule) == ("move", "move")
    assert step.to == pytest.approx(0.02 + 0.5 * (45 / 251 - 0.1) / 5)
    assert "17.928% of 251 are hits" in step.reason
    assert asked(KNOB, outcomes((40, 0.5)), 30).to == pytest.approx(0.03)  # one step at most
    assert asked(replace(KNOB, value=0.05), outcomes((40, 0.5)), 30).rule == "bound"
    assert asked(KNOB, outcomes((40, 0.13)), 30).rule == "band"


@pytest.mark.parametrize(
    ("day", "kwargs", "rule", "action"),
    [
        (30, {"off": True}, "off", "hold"),
        (30, {"busy": "a rollback is under way"}, "busy", "hold"),
        (4, {}, "dwell", "hold"),
        (9, {}, "dwell", "hold"),
        (30, {}, "move", "move"),
    ],
)
def test_the_first_rule_that_applies_decides(day: float, kwargs: dict, rule: str, action: str) -> None:
    step = asked(KNOB, outcomes((40, 0.3)), day, **kwargs)
    assert (step.rule, step.action) == (rule, action)


def test_labels_that_are_due_and_not_there_are_no_evidence() -> None:
    known = [
        replace(item, hit=None) if number % 3 == 0 else item
        for number, item in enumerate(outcomes((40, 0.5)))
    ]
    step = asked(KNOB, known, 30)
    assert (step.action, step.rule) == ("cannot tell", "labels")
    late = [replace(item, labelled_at=item.at + 60 * DAY) for item in outcomes((40, 0.5))]
    assert asked(KNOB, late, 30).rule == "labels"


def walk(knobs: dict[str, Knob], known, days: int, *, every: int = 5) -> list[Step]:
    """Ask about each knob again and again, and do what is said."""
    steps: list[Step] = []
    for day in range(0, days, every):
        now = START + day * DAY
        for name, knob in list(knobs.items()):
            found = known(name, knobs, day) if callable(known) else known
            step = decide(knob, look(found, knob, steps, now), steps, now)
            steps.append(step)
            if step.acts:
                knobs[name] = replace(knob, value=step.to)
    return steps


def test_a_move_that_costs_more_goes_back_and_the_second_time_stops() -> None:
    """The share says move; what an outcome costs says it was wrong: more of the bad ones got through."""
    world: list[Outcome] = []

    def known(name: str, knobs: dict[str, Knob], day: int) -> list[Outcome]:
        cost = 1.0 if knobs[name].value == KNOB.value else 2.0
        for number in range(50):
            hit = number % 4 == 0
            world.append(Outcome(START + day * DAY + number * DAY / 10, hit, cost + number % 3 / 10))
        return world

    knobs = {"max_drop": KNOB}
    steps = walk(knobs, known, 300)
    acts = [step.action for step in steps if step.acts]
    assert acts == ["move", "revert", "move", "revert"]
    assert knobs["max_drop"].value == KNOB.value
    assert steps[-1].action == "stop"
    assert "went back" in steps[-1].reason
    # A person looked, and set since: it begins anew.
    again = replace(KNOB, since=(START + 300 * DAY).isoformat())
    now = START + 301 * DAY
    assert decide(again, look(world, again, steps, now), steps, now).rule == "dwell"


def test_a_move_that_helps_is_not_taken_back() -> None:
    steps = walk({"max_drop": KNOB}, outcomes((30, 0.3), (200, 0.1), each=1.0), 120)
    assert {step.action for step in steps if step.acts} == {"move"}


def test_one_knob_at_a_time() -> None:
    """Both follow shares that are far off; while the labels of one's move are out, the other waits."""
    knobs = {
        "max_drop": KNOB,
        "k": replace(KNOB, name="k", value=3, low=1, high=9, max_step=1, slope=-0.05, whole=True),
    }
    steps = walk(knobs, outcomes((200, 0.4)), 200)
    acts = [step for step in steps if step.acts]
    assert {step.knob for step in acts} == {"max_drop", "k"}
    assert all(later.when - earlier.when >= 10 * DAY for earlier, later in pairwise(acts))


def test_knobs_that_fight_are_seen_and_stopped() -> None:
    """Each follows a share that the other's value spoils: one goes up when the other went down, for ever."""
    worlds: dict[str, list[Outcome]] = {"a": [], "b": []}

    def known(name: str, knobs: dict[str, Knob], day: int) -> list[Outcome]:
        both = (
            knobs["a"].value - knobs["b"].value
            if name == "a"
            else knobs["a"].value + knobs["b"].value - 0.055
        )
        share = 0.5 if both > 0 else 0.005
        if name == "b":
            share = 0.5 if both < 0 else 0.005
        worlds[name] += outcomes((5, share), start=START + day * DAY)
        return worlds[name]

    knobs = {
        "a": replace(KNOB, name="a", value=0.03, slope=10, gain=1, max_moves=10),
        "b": replace(KNOB, name="b", value=0.02, slope=-10, gain=1, max_moves=10),
    }
    steps = walk(knobs, known, 1000)
    stopped = [step for step in steps if step.action == "stop"]
    assert stopped, [(step.knob, step.to) for step in steps if step.acts]
    assert len([step for step in steps if step.acts]) <= 20
    assert steps[-1].action == "stop"


def test_a_proposal_counts_from_when_it_is_seen_in_git() -> None:
    knob = replace(KNOB, mode="propose")
    known = outcomes((100, 0.4))
    past = [asked(knob, known, 30)]
    assert past[0].action == "move"
    later = replace(knob, value=past[0].to)  # merged ten days later
    past.append(asked(later, known, 40, past))
    assert past[-1].evidence.now.due == 0
    assert past[-1].rule == "dwell"
    past.append(asked(later, known, 47, past))
    assert past[-1].evidence.since == (START + 40 * DAY).isoformat()


def test_the_budget_of_a_week_holds() -> None:
    knob = replace(KNOB, delay=timedelta(0), min_labels=30, max_moves=1, target=0.01, max_step=0.001)
    steps = walk({"max_drop": knob}, outcomes((30, 0.5)), 14, every=1)
    assert len([step for step in steps if step.acts]) == 2
    assert "budget" in {step.rule for step in steps}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("low", 0.5), ("value", 1), ("target", 0), ("slope", 0), ("slope", float("nan")), ("max_step", 1), ("gain", 2),
        ("min_labels", 5), ("mode", "act"), ("band", 0), ("max_moves", 0), ("whole", True), ("since", "yesterday"),
        ("target", "a tenth"), pytest.param("value", 10**400, id="value-huge"), ("delay", -DAY), ("worse", 0.5),
    ],
)  # fmt: skip
def test_rails_that_make_no_sense_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        replace(KNOB, **{field: value})
    assert caught.value.field in (field, "max_step")


def test_a_misspelt_rail_is_no_rail() -> None:
    assert Knob.from_json(KNOB.to_json()) == KNOB
    with pytest.raises(InvalidInput, match="the knob has no max_stp"):
        Knob.from_json({**KNOB.to_json(), "max_stp": 0.1})
    with pytest.raises(InvalidInput, match="incomplete"):
        Knob.from_json({"name": "x"})
