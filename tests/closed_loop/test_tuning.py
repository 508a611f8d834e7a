"""The tuner in a closed loop: against other designs, at the limits of stability, and inside its bounds whatever happens."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.operations.tuning.decision import decide, look, recorded, replay
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import Knob
from tests.closed_loop.designs import (
    KNOB,
    LATE,
    SECOND,
    SLOPE,
    START,
    TARGET,
    adaptive,
    batches,
    clipped_events,
    no_overshoot,
    scores,
    tuned,
)


def test_evidence_and_dwell_hold_a_threshold_where_adaptive_ones_swing() -> None:
    stream = scores(1)
    gentle = adaptive(stream, no_overshoot(LATE) / -SLOPE)
    wild = adaptive(stream, 3 * 0.026 / -SLOPE)
    trapped = clipped_events(stream, 3 * 0.026 / -SLOPE)
    held, steps, _ = tuned(stream)
    assert len(gentle.moves) > 11_000
    assert len(held.moves) <= 6
    assert held.reversals <= 2
    assert held.deviation(1000, 6000) < 0.02 < 0.1 < gentle.deviation(1000, 6000)
    # A correct average hides a wild controller; and clipping single steps breaks the average, too.
    assert wild.error() < 0.01
    assert wild.deviation(1000, 6000) > 3
    assert trapped.error() > 0.2
    assert held.error() < 0.02
    assert len(batches(stream).moves) > 20
    bodies = [recorded([(replace(KNOB, value=step.value), step)]) for step in steps]
    assert replay(bodies) == steps


@pytest.mark.parametrize("late", [1, 5, 20, 60])
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_late_labels_limit_the_gain_of_an_integral_controller(late: int, factor: float) -> None:
    """e(t+1) = e(t) - a e(t-k) is stable below 2 sin(pi / (2 (2k + 1))), and not above (Levin and May 1976)."""
    gain = factor * 2 * math.sin(math.pi / (2 * (2 * late + 1)))
    errors = [1.0] * (late + 1)
    steps = 4000 * (late + 1)
    for _ in range(steps):
        errors.append(errors[-1] - gain * errors[-1 - late])
        if abs(errors[-1]) > 1e6:
            break
    assert (max(map(abs, errors[-10 * (late + 1) :])) < 1e-3) == (factor < 1)


@pytest.mark.parametrize("late", [1, 5, 20, 60])
@pytest.mark.parametrize("factor", [0.97, 1.1])
def test_below_a_smaller_gain_it_does_not_overshoot(late: int, factor: float) -> None:
    gain = factor * no_overshoot(late)
    errors = [1.0] * (late + 1)
    for _ in range(60 * (late + 1)):
        errors.append(errors[-1] - gain * errors[-1 - late])
    assert (min(errors) < 0) == (factor > 1)


@settings(max_examples=25, deadline=None)
@given(
    hits=st.lists(st.integers(0, 1), min_size=50, max_size=50),
    delay=st.integers(0, 200),
    cooldown=st.integers(0, 100),
    slope=st.sampled_from([SLOPE, -SLOPE, SLOPE / 100]),
    whole=st.booleans(),
)
def test_whatever_comes_it_stays_inside_its_bounds(
    hits: list[int], delay: int, cooldown: int, slope: float, whole: bool
) -> None:
    """An adversary answers 40 outcomes at a time; the slope may be of the wrong sign, or too small by a hundred."""
    knob = replace(
        KNOB, value=1, low=-2.5, high=3.5, max_step=1.5, slope=slope, delay=delay * SECOND, cooldown=cooldown * SECOND,
        min_labels=30, whole=whole, max_reverts=100,
    )  # fmt: skip
    steps, outcomes, acts, bodies = [], [], [], []
    events = 1500
    for event in range(events):
        now = START + event * SECOND
        if event % 15 == 0:
            step = decide(knob, look(outcomes, knob, steps, now), steps, now)
            assert knob.low <= step.to <= knob.high
            assert abs(step.to - step.value) <= knob.max_step
            assert not whole or step.to == int(step.to)
            steps.append(step)
            bodies.append(recorded([(knob, step)]))
            if step.acts:
                acts.append(event)
                knob = replace(knob, value=step.to)
        outcomes.append(Outcome(now, bool(hits[event // 40])))
    dwell = delay + max(cooldown, knob.min_labels)
    assert all(later - earlier >= dwell for earlier, later in pairwise(acts))
    assert len(acts) <= math.ceil(events / dwell)
    assert replay(bodies) == steps


def test_labels_that_do_not_come_move_nothing() -> None:
    """Half of the labels are lost from an event on: what is left need not be like what is lost."""
    stream = scores(2, shift=1.0, events=6000)
    _, steps, _ = tuned(stream, answer=lambda event, alarm: None if event >= 2000 and event % 2 else alarm)  # type: ignore[return-value]
    late = [step for step in steps if step.when >= START + timedelta(seconds=5000)]
    assert {step.action for step in late} == {"cannot tell"}
    assert "nobody can tell" in late[-1].reason


def test_a_world_that_oscillates_is_not_followed() -> None:
    """Periods shorter than the dwell: the tuner answers few of them, and never more than its dwell allows."""
    for period in (40, 120, 300, 700):
        stream = [
            score + math.sin(2 * math.pi * event / period)
            for event, score in enumerate(scores(3, shift=0, events=4000))
        ]
        run, _, _ = tuned(stream)
        assert len(run.moves) <= 8, period
        late = run.thresholds[2500:]
        assert max(late) - min(late) <= 0.6, period


def test_double_gain_and_double_delay_do_not_make_it_swing() -> None:
    for changed in ({"gain": 1.0}, {"delay": 2 * LATE * SECOND}, {"slope": SLOPE / 2}):
        run, _, _ = tuned(scores(4), replace(KNOB, **changed))
        assert len(run.moves) <= 10, changed
        assert run.error() < 0.025, changed


def test_the_share_alone_is_its_target_in_the_mean() -> None:
    """Over many streams without a shift, a knob that is right stays: false moves are rare."""
    moves = sum(len(tuned(scores(seed, shift=0, events=4000), every=50)[0].moves) for seed in range(10))
    assert moves <= 4
    assert KNOB.target == TARGET


def test_the_default_is_a_shadow() -> None:
    assert Knob("x", 1, 0, 2, 0.1, -1, 0.5, timedelta(days=1)).mode == "shadow"
    run, steps, _ = tuned(scores(1), replace(KNOB, mode="shadow"))
    assert run.moves == []
    assert any("would move" in step.reason for step in steps)
