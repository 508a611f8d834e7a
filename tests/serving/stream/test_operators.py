"""From which offsets a release begins, by what a group has said; without a broker."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import GateFailed, InvalidInput
from airflow_pipeops.serving.stream.liveness import Group, Seen
from airflow_pipeops.serving.stream.operators import StreamBeginOperator
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.releases import Model, Release, Table
from airflow_pipeops.serving.stream.sensors import StreamLiveSensor

MODEL = Model("m", "1", "file:///m", "a" * 64)
COMMON = {
    "file": "f",
    "group": "g",
    "topic": "in",
    "deliverable": Deliverable("d"),
    "environment": "production",
}
READY = Progress(revision="r1", sha256="a" * 64, ready=("r1", "r2"), known="r2", member="a")


def begin(**given) -> StreamBeginOperator:
    return StreamBeginOperator(task_id="begin", **{"release": "r2", **COMMON, **given})


def seen(*said: Progress | None, owner: str = "a", state: str = "STABLE") -> Group:
    parts = [Seen(n, 5 if one else None, one, 5, 5, owner) for n, one in enumerate(said)]
    return Group(state, ("a",), tuple(parts))


@pytest.mark.parametrize(
    ("starts", "group", "why"),
    [
        # The first release of all: nobody has said anything, and each partition has an owner.
        ([None], seen(None, None), ""),
        ([None], seen(None, None, owner=""), "partition 0 is assigned to no member"),
        ([None], seen(None, None, state="EMPTY"), "the group has no member"),
        # After a canary, the partitions beside it have still nothing to say.
        ([{0: 0}, None], seen(READY, None), ""),
        ([{1: 0}, None], seen(None, READY), ""),
        (
            [{1: 0}, None],
            seen(None, Progress(ready=("r1",), known="r2", member="a")),
            "has not loaded r2 yet",
        ),
        ([{0: 0, 1: 0}, None], seen(READY, None), "nothing was committed yet for partition 1"),
    ],
)
def test_a_release_begins_where_all_who_can_say_it_are_ready(starts, group, why):
    table = Table(tuple(Release(f"r{n}", MODEL, start) for n, start in enumerate(starts, 1)))
    if not why:
        begin()._ready(table, table.releases[-1], group)
        return
    with pytest.raises(GateFailed, match=why):
        begin()._ready(table, table.releases[-1], group)


@pytest.mark.parametrize(
    ("start", "why"),
    [
        ({"0": 3, "7": 3}, "topic 'in' has no partition 7"),
        ({"-1": 3}, "topic 'in' has no partition -1"),
        ({"0": float("inf")}, "start is"),
        ({"x": 1}, "start is"),
        ("{'0': 1}", "start is not a mapping"),
    ],
)
def test_a_start_that_no_member_could_keep_is_not_written(start, why):
    with pytest.raises(InvalidInput, match=why):
        begin(start=start)._given(seen(READY, READY))


def test_a_start_that_the_broker_has_deleted_is_not_written():
    kept = Group("STABLE", ("a",), (Seen(0, 60, READY, 90, 90, "a", 50), Seen(1, 60, READY, 90, 90, "a")))
    with pytest.raises(
        InvalidInput, match="deleted what came before offset 50 of partition 0, and r2 is to begin at 10"
    ):
        begin(start={"0": 10, "1": 10}, rescore=True)._given(kept)
    assert begin(start={"1": 10}, rescore=True)._given(kept) == {1: 10}


def test_partitions_that_the_topic_does_not_have_are_refused():
    with pytest.raises(InvalidInput, match="topic 'in' has no partition 7"):
        begin(partitions=[1, 7])._ahead(seen(READY, READY), {}, 1.0)
    assert begin(partitions=[1])._ahead(seen(READY, READY), {1: 3}, 1.0) == {1: 5 + 2 * 120}


def test_what_was_given_and_is_nothing_when_the_task_runs_is_not_taken_for_what_was_not_given(context):
    task = begin(start="{{ none }}")
    task.start = ""
    with pytest.raises(AirflowFailException, match="start was given, and is empty"):
        task.execute(context)
    sensor = StreamLiveSensor(task_id="live", release="r2", revision="{{ none }}", **COMMON)
    sensor.revision = ""
    with pytest.raises(AirflowFailException, match="revision was given, and is empty"):
        sensor.execute(context)
