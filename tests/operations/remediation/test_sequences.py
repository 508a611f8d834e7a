"""Whatever happens, in whatever order: the bounds hold. Random sequences of findings, deaths, races and people."""

from __future__ import annotations

import contextlib
import random
from datetime import datetime

import pytest

from airflow_pipeops.operations.remediation.decision import decide
from airflow_pipeops.operations.remediation.history import History, Operation
from tests.operations.remediation.world import Killed, World

PLACES = [(name, place) for name in "abc" for place in ("production", "staging")]
KINDS = ("failed_run", "anomaly", "drift", "failed_gate", "late_labels", "degraded_release")


def lived(seed: int) -> World:  # noqa: C901  # one branch for each thing that happens
    """Let a world go on for a while."""
    chance = random.Random(seed)
    world = World(chance, crash=chance.choice((0.0, 0.1, 0.4)), population=chance.choice((None, 4, 40)))
    known: list[tuple[str, object]] = []
    depth = 0

    def race() -> None:
        """Somebody else comes between two steps."""
        nonlocal depth
        if depth or chance.random() > 0.1:
            return
        depth += 1
        with contextlib.suppress(Killed):
            happens()
        depth -= 1

    def happens() -> None:
        what = chance.random()
        if what < 0.45 or not known:
            owner = f"task-{depth}-{chance.randrange(4)}"
            name, place = chance.choice(PLACES)
            affected = ("z", "y")[: chance.choice((0, 0, 0, 1, 2))]
            known.append((owner, world.finding(chance.choice(KINDS), name, place, affected=affected)))
            world.answer(known[-1][1], owner, approved_by=chance.choice(("", "", "", "ada")))
        elif what < 0.6:  # the same task again, or another one with the same finding
            owner, finding = chance.choice(known[-6:])
            if depth:  # a task is not beside itself
                owner = "other-1"
            world.answer(finding, chance.choice((owner, f"other-{depth}")))
        elif what < 0.9:
            going = [one for one in world.history.operations if one.open]
            if going:
                sight = chance.choice(("clear", "clear", "still", "worse", "cannot tell"))
                world.look(chance.choice(going).id, sight, f"looking-{depth}-{chance.randrange(2)}")
        elif what < 0.95:
            world.kill_switch = chance.random() < 0.4
        else:
            scope = chance.choice(["rule:again", "rule:more", *(f"{name}@{place}" for name, place in PLACES)])
            at = world.journal.reset(scope, "ada").reset(scope)
            world.resets.append((datetime.fromisoformat(at), scope))

    world.journal.between = race
    for _ in range(chance.randrange(10, 50)):
        world.later(seconds=1, minutes=chance.choice((0, 1, 5, 20, 60, 300)))
        with contextlib.suppress(Killed):
            happens()
    world.check()
    return world


def numbers(first: int, count: int) -> None:
    acted = undone = handed = trapped = 0
    for seed in range(first, first + count):
        world = lived(seed)
        acted += len(world.acts)
        undone += sum(bool(one.undone) for one in world.history.operations)
        handed += sum(one.state == "handed_over" for one in world.history.operations)
        trapped += len(world.crashed)
    # The worlds are lively enough to prove something.
    assert acted > count
    assert undone > count / 50
    assert handed > count / 2
    assert trapped > count / 50


def test_five_hundred_sequences() -> None:
    numbers(0, 500)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_twenty_thousand_sequences() -> None:
    numbers(100_000, 20_000)


@pytest.mark.parametrize(("minutes", "acts"), [(10, 1), (190, 10)])
def test_a_permanent_alarm_ends_with_a_person(minutes: int, acts: int) -> None:
    """It comes for sixty days, and the judge is fooled: each time it says that it helped."""
    world = World(random.Random(0))
    for _ in range(60 * 24 * 60 // minutes):
        world.later(minutes=minutes)
        answer = world.answer(world.finding("failed_run"))
        going = [one.id for one in world.history.operations if one.state == "acted"]
        for _ in range(2 * len(going)):
            world.look(going[0], "clear")
            world.later(minutes=16 if minutes > 60 else 0)
        world.journal.versions = [world.journal.versions[-1]]
    assert len(world.acts) == acts <= world.policy.rules[0].budget
    assert [places for _, places in world.told] == [("a@production",)]
    assert answer.order.stage == "lock"
    assert "until it is reset" in answer.order.reason


def test_what_is_pruned_changes_no_decision() -> None:
    found = set()
    for seed in range(100):
        chance = random.Random(seed)
        world = lived(seed)
        world.journal.between = lambda: None
        for _ in range(20):
            world.later(days=chance.choice((0, 1, 29, 31)))
            name, place = chance.choice(PLACES)
            finding = world.finding(chance.choice(KINDS), name, place)
            order = decide(finding, world.policy, world.history, world.now)
            assert decide(finding, world.policy, world.history.pruned(world.now), world.now) == order
            found.add(order.stage)
    assert found >= {"lock", "allow_list", "mode"}


def test_a_history_is_read_back_as_it_was_written() -> None:
    history = lived(7).history
    assert history.operations
    assert isinstance(history.operations[0], Operation)
    assert History.from_json(history.to_json()).to_json() == history.to_json()
