"""Whether a release stays well."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.waits.status import Observed, Resource, Trouble
from airflow_pipeops.waits.steadiness import Outcome, SteadyMemory, Watch, judge

NEW, NEWER = "a" * 40, "c" * 40
WATCH = Watch(duration=100, grace=20, blind_grace=50)


def seen(health: str = "Healthy", **changes: Any) -> Observed:
    base = Observed(name="api", uid="u", desired=(NEW,), health=health, deployed=(NEW,), deployed_id=1)
    return replace(base, **changes)


def story(*steps: tuple[float, Any], watch: Watch = WATCH) -> Outcome:
    """Judge one look after another, through JSON as across a deferral."""
    memory = SteadyMemory()
    for now, observed in steps:
        outcome, memory = judge(observed, watch, memory, now)
        memory = SteadyMemory.from_json(json.loads(json.dumps(memory.to_json())))
    return outcome


ill = seen("Degraded", resources=(Resource("Deployment", "api", health="Degraded", message="probe failed"),))
CASES: dict[str, tuple[list[tuple[float, Any]], str, str]] = {
    "first_look": ([(0, seen())], "watch", "healthy"),
    "well_to_the_end": ([(0, seen()), (100, seen())], "steady", "healthy"),
    "dip_within_grace": (
        [(0, seen()), (10, ill), (29, ill), (30, seen()), (100, seen())],
        "steady",
        "healthy",
    ),
    "two_dips_are_not_one": (
        [(0, ill), (19, ill), (20, seen()), (21, ill), (40, ill)],
        "watch",
        "unhealthy_within_grace",
    ),
    "degraded": ([(0, seen()), (10, ill), (30, ill)], "degraded", "unhealthy"),
    "progressing_counts": ([(0, seen("Progressing")), (20, seen("Progressing"))], "degraded", "unhealthy"),
    "missing_counts": ([(0, seen("Missing")), (20, seen("Unknown"))], "degraded", "unhealthy"),
    "unwell_at_the_end_is_watched_on": (
        [(0, seen()), (95, ill), (100, ill)],
        "watch",
        "unhealthy_within_grace",
    ),
    "unwell_at_the_end_recovers": ([(0, seen()), (95, ill), (100, ill), (101, seen())], "steady", "healthy"),
    "superseded": ([(0, seen()), (5, seen(deployed=(NEWER,), deployed_id=2))], "steady", "superseded"),
    "another_commit_is_no_release": ([(0, seen()), (5, seen(desired=(NEWER,)))], "watch", "healthy"),
    "deleting": ([(0, seen(deleting=True))], "degraded", "deleting"),
    "recreated": ([(0, seen()), (1, seen(uid="v"))], "degraded", "recreated"),
    "deleted": ([(0, seen()), (1, Trouble("missing")), (2, Trouble("missing"))], "degraded", "deleted"),
    "never_there": ([(0, Trouble("missing")), (1, Trouble("missing"))], "blind", "missing"),
    "denied_once": ([(0, seen()), (1, Trouble("denied"))], "watch", "unseen"),
    "denied_twice": ([(0, seen()), (1, Trouble("denied")), (2, Trouble("denied"))], "blind", "denied"),
    "blind_for_a_while": (
        [(0, seen()), (10, Trouble("unreachable")), (59, Trouble("unreachable"))],
        "watch",
        "unseen",
    ),
    "blind_too_long": (
        [(0, seen()), (10, Trouble("unreachable")), (60, Trouble("unreachable"))],
        "blind",
        "unreachable",
    ),
    "blindness_does_not_heal": (
        [(0, ill), (10, Trouble("unreachable")), (20, ill)],
        "degraded",
        "unhealthy",
    ),
    "time_does_not_run_back": ([(50, seen()), (float("nan"), seen()), (0, seen())], "watch", "healthy"),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    steps, verdict, rule = CASES[name]
    outcome = story(*steps)
    assert (outcome.verdict, outcome.rule) == (verdict, rule), outcome.reason
    assert outcome.reason


def test_a_release_that_was_replaced_before_the_watch_began() -> None:
    late = seen(deployed=(NEWER,), deployed_id=2, replaced=(NEW,))
    assert story((0, late), watch=replace(WATCH, revision=NEW)).rule == "superseded"
    assert story((0, late), watch=replace(WATCH, revision="b" * 40)).rule == "healthy"


def test_longest_spell_is_told() -> None:
    assert story((0, ill), (15, ill), (16, seen()), (20, ill), (25, ill), (26, seen())).unhealthy_for == 15
