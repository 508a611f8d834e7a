"""Rollout planning and environments: pure code by table and by property."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.demo.sandbox.runtime import rollout
from airflow_pipeops.demo.sandbox.runtime.environment import ConfigMissing, expand, resolve
from airflow_pipeops.demo.sandbox.runtime.pod import back_off
from airflow_pipeops.demo.sandbox.runtime.rollout import Set


def spec(replicas: int, surge: Any = "25%", unavailable: Any = "25%") -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}


def test_bounds_round_as_kubernetes_does() -> None:
    assert rollout.bounds(spec(1)) == (1, 0)
    assert rollout.bounds(spec(4)) == (1, 1)
    assert rollout.bounds(spec(10)) == (3, 2)
    assert rollout.bounds(spec(2, 0, 0)) == (0, 1)


@given(
    replicas=st.integers(0, 6),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    start=st.integers(0, 6),
    luck=st.lists(st.booleans(), min_size=80, max_size=80),
)
def test_a_rollout_keeps_its_bounds_and_ends(
    replicas: int, surge: int, unavailable: int, start: int, luck: list[bool]
) -> None:
    wanted = spec(replicas, surge, unavailable)
    top, down = rollout.bounds(wanted)
    new, old = Set("new", 0), Set("old", start, start, start, start, start)
    for lucky in [*luck, *[True] * 60]:
        sizes = rollout.plan(wanted, new, [old]).scale
        available_before = new.available + old.available
        # The cluster obeys: pods beyond the size end, new ones come, and become available when lucky.
        n, o = sizes.get("new", new.wanted), sizes.get("old", old.wanted)
        new = Set("new", n, n, 0, min(n, new.available + (1 if lucky else 0)))
        old = Set("old", o, o, 0, min(o, old.available))
        assert new.wanted + old.wanted <= max(replicas + top, start)
        assert new.available + old.available >= min(available_before, replicas - down)
    assert (new.wanted, old.wanted) == (replicas, 0)


def test_deadline_and_its_exceptions() -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    live: dict[str, Any] = {"metadata": {"generation": 1}, "spec": {**spec(1), "progressDeadlineSeconds": 10}}
    rollout.new_rollout(live, "rs", now)

    def step(new: Set, seconds: int) -> str:
        live["status"] = rollout.status(live, new, [], now + timedelta(seconds=seconds))
        return next(str(c["reason"]) for c in live["status"]["conditions"] if c["type"] == "Progressing")

    assert step(Set("rs", 1), 1) == "NewReplicaSetCreated"
    assert step(Set("rs", 1, 1), 5) == "ReplicaSetUpdated"
    assert step(Set("rs", 1, 1), 15) == "ReplicaSetUpdated"  # progress at 5 moved the deadline
    assert step(Set("rs", 1, 1), 16) == "ProgressDeadlineExceeded"
    assert step(Set("rs", 1, 1, 1, 1), 20) == "NewReplicaSetAvailable"
    assert step(Set("rs", 1, 1, 0, 0), 99) == "NewReplicaSetAvailable"  # broken later: no deadline any more


def test_the_time_without_a_processor_does_not_count() -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    live: dict[str, Any] = {"metadata": {"generation": 1}, "spec": {**spec(1), "progressDeadlineSeconds": 10}}
    rollout.new_rollout(live, "rs", now)

    def step(seconds: int, starved: float) -> str:
        moment = now + timedelta(seconds=seconds)
        live["status"] = rollout.status(live, Set("rs", 1), [], moment, starved)
        return next(str(c["reason"]) for c in live["status"]["conditions"] if c["type"] == "Progressing")

    assert step(100, 95.0) == "NewReplicaSetCreated"
    assert step(106, 95.0) == "ProgressDeadlineExceeded"


def test_back_off() -> None:
    assert [back_off(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert back_off(5000) == 30


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$(NO)", "$(NO)"),
        ("$A", "$A"),
        ("$$$(A)", "$1"),
    ],
)
def test_expand(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


def test_resolve_order_and_references() -> None:
    maps = {
        ("ConfigMap", "m"): {"data": {"A": "map", "PORT": "1"}},
        ("Secret", "s"): {"data": {"T": "dG9r"}},
        ("Secret", "broken"): {"data": {"T": "sekrit!"}},
    }
    pod = {"metadata": {"name": "p", "namespace": "n", "labels": {"v": "7"}}, "spec": {}}

    def env(*items: Any, source: Any = ()) -> dict[str, str]:
        container = {"env": list(items), "envFrom": list(source)}
        return resolve(container, pod, lambda kind, name: maps.get((kind, name)), {"PORT": "9"})

    found = env(
        {"name": "A", "value": "own"},
        {"name": "PORT", "value": "8080"},
        {"name": "URL", "value": "http://x:$(PORT)/$(A)"},
        {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['v']"}}},
        {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
        source=[{"configMapRef": {"name": "m"}}, {"prefix": "S_", "secretRef": {"name": "s"}}],
    )
    assert found == {"A": "own", "PORT": "9", "URL": "http://x:9/own", "V": "7", "S_T": "tok"}
    with pytest.raises(ConfigMissing, match="couldn't find key z in ConfigMap m"):
        env({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "z"}}})
    with pytest.raises(ConfigMissing) as caught:
        env(source=[{"secretRef": {"name": "broken"}}])
    assert "sekrit" not in str(caught.value)
