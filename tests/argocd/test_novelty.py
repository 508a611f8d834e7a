"""When a release or a degradation is news: tables, and a property over any order of looks and restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.argocd.novelty import DegradedMemory, ReleaseMemory, degraded, released
from airflow_pipeops.waits.status import Observed, Operation, Resource

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40


def app(number: int | None = 1, revision: str = ONE, **facts: Any) -> Observed:
    """An application that is live and healthy at an entry of its history."""
    replaced = tuple(str(n) * 40 for n in range(1, number or 1))
    base = Observed(
        name="api",
        uid="u",
        sync="Synced",
        health="Healthy",
        desired=(revision,),
        deployed=(revision,) if number is not None else (),
        deployed_id=number,
        replaced=replaced,
        compared_at=200.0,
        operation=Operation(phase="Succeeded", revisions=(revision,), finished_at=100.0),
    )
    return replace(base, **facts)


def looks(*seen: Observed, memory: ReleaseMemory | None = None) -> list[Any]:
    """Return the revisions that were reported over these looks."""
    memory, told = memory or ReleaseMemory(), []
    for observed in seen:
        payload, memory = released(
            observed, ReleaseMemory.from_json(json.loads(json.dumps(memory.to_json())))
        )
        if payload:
            told.append(payload["revision"])
    return told


running = Operation(phase="Running", queued=True, revisions=(TWO,))
stale = Operation(phase="Succeeded", revisions=(TWO,), finished_at=200.0)

RELEASES: dict[str, tuple[list[Observed], list[str]]] = {
    "what is live at the beginning is no news": ([app(), app(), app()], []),
    "a new entry that is healthy twice": ([app(), app(2, TWO), app(2, TWO), app(2, TWO)], [TWO]),
    "healthy once is not enough": ([app(), app(2, TWO)], []),
    "healthy, then not: waits for two in a row": (
        [app(), app(2, TWO), app(2, TWO, health="Progressing"), app(2, TWO)],
        [],
    ),
    "not healthy": ([app()] + [app(2, TWO, health="Degraded")] * 4, []),
    "on its way when the watch began": ([app(2, TWO, health="Progressing"), app(2, TWO), app(2, TWO)], [TWO]),
    "an operation is in progress": ([app()] + [app(2, TWO, operation=running)] * 3, []),
    "the status is from before the operation's end": ([app()] + [app(2, TWO, operation=stale)] * 3, []),
    "a commit that changes nothing here": ([app(), *[app(desired=(TWO,))] * 3], []),
    "degraded and well again is the same release": (
        [app(), app(2, TWO), app(2, TWO), app(2, TWO, health="Degraded"), app(2, TWO), app(2, TWO)],
        [TWO],
    ),
    "the first release ever": ([app(None), app(0, ONE), app(0, ONE)], [ONE]),
    "released again at the same revision": ([app(), app(2, ONE), app(2, ONE)], [ONE]),
    "deleted and created again": ([app(3, ONE), app(3, ONE, uid="v"), app(3, ONE, uid="v")], [ONE]),
    "being deleted": ([app(), *[app(2, TWO, deleting=True)] * 3], []),
}


@pytest.mark.parametrize("case", RELEASES)
def test_release(case: str) -> None:
    seen, told = RELEASES[case]
    assert looks(*seen) == told


def test_what_was_released_while_nobody_looked_is_named() -> None:
    _, memory = released(app(), ReleaseMemory())
    _, memory = released(app(4, "4" * 40), memory)
    payload, memory = released(app(4, "4" * 40), memory)
    assert payload is not None
    assert payload["skipped"] == [TWO, THREE]
    assert released(app(4, "4" * 40), memory)[0] is None


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from(["Healthy", "Progressing", "Degraded"]), st.booleans()),
        max_size=30,
    )
)
def test_a_release_is_told_at_most_once_and_only_when_well(steps: list[tuple[int, str, bool]]) -> None:
    memory, told, last = ReleaseMemory(), [], None
    highest = 0
    for number, health, restart in steps:
        highest = max(highest, number)
        observed = app(highest, str(highest) * 40, health=health)
        before = memory
        payload, memory = released(observed, memory)
        if payload:
            assert health == "Healthy"
            assert last == (highest, "Healthy")
            told.append(payload["fingerprint"])
        last = (highest, health)
        if restart:
            memory = ReleaseMemory.from_json(json.loads(json.dumps(memory.to_json())))
        assert isinstance(before, ReleaseMemory)
    assert len(told) == len(set(told))


def ill(since: float | None = 50.0, **facts: Any) -> Observed:
    return app(health="Degraded", health_since=since, **facts)


def spell(*steps: tuple[float, Observed] | str, grace: float = 60.0) -> list[float]:
    """Return the times at which a degradation was reported; the word ``restart`` loses what was not kept."""
    memory, told, resumed = DegradedMemory(), [], True
    for step in steps:
        if isinstance(step, str):
            memory, resumed = DegradedMemory.from_json(json.loads(json.dumps(memory.to_json()))), True
            continue
        now, observed = step
        payload, memory = degraded(observed, memory, now, grace=grace, resumed=resumed)
        resumed = False
        if payload:
            told.append(now)
    return told


well, moving = app(), app(health="Progressing")
DEGRADATIONS: dict[str, tuple[tuple[Any, ...], list[float]]] = {
    "within the grace": (((0, ill()), (59, ill())), []),
    "after the grace, once": (((0, ill()), (60, ill()), (120, ill()), (999, ill())), [60]),
    "well in between": (((0, ill()), (50, well), (70, ill(60)), (100, ill(60))), []),
    "flaps without being well count as one": (
        ((0, ill(1)), (30, moving), (60, ill(55)), (90, moving), (150, ill(140)), (300, ill(140))),
        [60],
    ),
    "again after it was well": (
        ((0, ill(1)), (60, ill(1)), (70, well), (80, ill(80)), (140, ill(80))),
        [60, 140],
    ),
    "another release": (
        ((0, ill(1)), (60, ill(1)), (70, ill(1, number=2)), (130, ill(1, number=2))),
        [60, 130],
    ),
    "a restart repeats nothing": (((0, ill()), (60, ill()), "restart", (90, ill()), (200, ill())), [60]),
    "a restart within the grace goes on": (((0, ill()), "restart", (61, ill())), [61]),
    "another one that began meanwhile is told": (
        ((0, ill(1)), (60, ill(1)), "restart", (200, ill(150)), (260, ill(150))),
        [60, 260],
    ),
    "no server time": (((0, ill(None)), (60, ill(None)), "restart", (90, ill(None))), [60]),
    "gone well meanwhile": (
        ((0, ill()), (60, ill()), "restart", (90, well), (100, ill(95)), (160, ill(95))),
        [60, 160],
    ),
}


@pytest.mark.parametrize("case", DEGRADATIONS)
def test_degradation(case: str) -> None:
    steps, told = DEGRADATIONS[case]
    assert spell(*steps) == told


def test_a_degradation_names_what_is_ill_and_no_secret() -> None:
    resources = (
        Resource(
            "Deployment", "api", health="Degraded", message="cannot pull https://bob:hunter2@registry/x"
        ),
        Resource("Service", "api", health="Healthy"),
    )
    payload, _ = degraded(ill(resources=resources), DegradedMemory(), 0.0, grace=0.0)
    assert payload is not None
    assert [item["name"] for item in payload["resources"]] == ["api"]
    assert "hunter2" not in json.dumps(payload)


@pytest.mark.parametrize("data", [None, 7, "text", [], {"unknown": 1}])
def test_a_memory_that_cannot_be_read_is_empty(data: Any) -> None:
    assert ReleaseMemory.from_json(data) == ReleaseMemory()
    assert DegradedMemory.from_json(data) == DegradedMemory()
