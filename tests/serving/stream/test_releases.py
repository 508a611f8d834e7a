"""The release table: which release scores what, how it may be changed, and how a partition goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.stream.partition import Partition
from airflow_pipeops.serving.stream.progress import LIMIT, Progress
from airflow_pipeops.serving.stream.progress import read as read_progress
from airflow_pipeops.serving.stream.releases import (
    Course,
    Model,
    Release,
    Table,
    announced,
    begun,
    course,
    read,
)

MODEL = Model("m", "1", "file:///m", "a" * 64)
OTHER = Model("m", "2", "file:///m", "b" * 64)


def table(*starts, rescore=()) -> Table:
    """A table of r1, r2, ... that begin there."""
    made = [
        Release(f"r{n}", replace(MODEL, version=str(n)), start, n in rescore)
        for n, start in enumerate(starts, 1)
    ]
    return Table(tuple(made))


def test_the_last_release_that_has_begun_scores():
    found = table({0: 0, 1: 0}, {0: 100}, None, {0: 150, 1: 80})
    assert [found.model_for(0, offset).revision for offset in (0, 99, 100, 149, 150)] == [
        "r1",
        "r1",
        "r2",
        "r2",
        "r4",
    ]
    assert [found.model_for(1, offset).revision for offset in (79, 80)] == ["r1", "r4"]
    assert found.model_for(2, 0) is None


def test_a_table_is_read_back_as_it_was_written_and_in_the_order_of_its_numbers():
    made = table({0: 0}, *[None] * 8, {0: 5}, {0: 3}, rescore=(11,))
    assert read({one.revision: one.to_text() for one in reversed(made.releases)}) == made


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"r0": "{}"}, "'r0' is not the name of a release"),
        ({"r1": "{"}, "release r1 is no JSON"),
        ({"r1": "{}"}, "the model of release r1 has no name"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "form": {}})}, "says 'form', which means nothing"),
        (
            {"r1": json.dumps({"model": {**MODEL.to_json(), "sha256": "abc"}})},
            "'abc' is not a SHA-256 digest",
        ),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {"0": -1}})}, "begins at -1 of partition '0'"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {"x": 1}})}, "no offset of a partition"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {"0": 2**63}})}, "no offset of a partition"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {"00": 1}})}, "no offset of a partition"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {"9" * 5000: 1}})}, "no offset of a partition"),
        ({"r1": json.dumps({"model": MODEL.to_json(), "from": {}})}, "begins nowhere"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_place(data, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        read(data)
    assert caught.value.field.startswith("data.r")


def test_a_model_is_announced_once_and_becomes_another_release_after_it_has_begun():
    assert announced(Table(()), MODEL) == Release("r1", MODEL)
    waiting = Table((Release("r1", MODEL),))
    assert announced(waiting, MODEL).revision == "r1"
    assert announced(waiting, OTHER).revision == "r2"
    assert (
        announced(Table((Release("r1", MODEL, {0: 0}),)), MODEL).revision == "r2"
    )  # a rollback is a release, too


def test_a_release_begins_ahead_of_what_is_scored_or_is_told_to_score_it_once_more():
    before = table({0: 0, 1: 0}, None)
    assert begun(before, "r2", {0: 120, 1: 90}, {0: 100, 1: 90}).start == {0: 120, 1: 90}
    with pytest.raises(InvalidInput, match="partition 0 is scored up to 121, beyond the start 120"):
        begun(before, "r2", {0: 120}, {0: 121})
    assert begun(before, "r2", {0: 120}, {0: 121}, rescore=True).rescore
    for start in ({}, {-1: 120}, {0: 2**63}):  # no table that holds it could be read again
        with pytest.raises(InvalidInput, match="begins at an offset of a partition"):
            begun(before, "r2", start, {})
    with pytest.raises(InvalidInput, match="no release 'r9'"):
        begun(before, "r9", {0: 1}, {})
    with pytest.raises(InvalidInput, match="r3 is later than r2 and has begun"):
        begun(table({0: 0}, None, {0: 7}), "r2", {0: 9}, {})


SAID = Progress(last="r1", at=99)


@pytest.mark.parametrize(
    ("starts", "committed", "said", "fresh", "expected"),
    [
        (({0: 5},), None, None, True, ("go", 5, "")),
        (({0: 5},), None, None, False, ("paused", None, "offsets_lost")),
        (({1: 5},), None, None, True, ("paused", None, "no_release")),
        ((None,), 7, None, False, ("paused", 7, "no_release")),
        (({0: 0},), 100, SAID, False, ("go", 100, "")),
        (({0: 0}, {0: 100}), 100, SAID, False, ("go", 100, "")),
        (({0: 0}, {0: 99}), 100, SAID, False, ("paused", 100, "start_passed")),
        (({0: 0},), 100, replace(SAID, last="r2"), False, ("paused", 100, "unknown_release")),
        # A person has set the offset: nothing is said with it, and nothing is to be compared.
        (({0: 0}, {0: 99}), 100, None, False, ("go", 100, "")),
    ],
)
def test_how_a_partition_goes_on(starts, committed, said, fresh, expected):
    found = course(table(*starts), 0, committed, said, fresh=fresh)
    assert (found.act, found.offset, found.rule) == expected
    assert bool(found.reason) == (found.act == "paused")


def test_a_release_that_scores_once_more_sends_a_partition_back_once():
    again = table({0: 0}, {0: 40}, rescore=(2,))
    assert course(again, 0, 100, SAID, fresh=False) == Course("go", 40, again=99)
    assert course(again, 0, 60, Progress(last="r2", at=59), fresh=False) == Course("go", 60)


def test_up_to_where_records_were_scored_before_is_known_through_one_replay_inside_another():
    part = Partition(0, 100, SAID)
    part.follow(course(table({0: 0}, {0: 40}, rescore=(2,)), 0, 100, part.progress, fresh=False))
    assert (part.next, part.progress.again) == (40, 99)
    part.progress = read_progress(replace(part.progress, last="r2", at=59).to_text())
    part.follow(course(table({0: 0}, {0: 40}, {0: 50}, rescore=(2, 3)), 0, 60, part.progress, fresh=False))
    assert (part.next, part.progress.again) == (50, 99), "60 to 99 were scored by r1"


def test_where_nothing_was_scored_the_first_start_may_be_moved_ahead_of_what_was_deleted():
    waiting = Progress(member="m0", beat=3)
    assert course(table({0: 80}), 0, 0, waiting, fresh=False) == Course("go", 80)
    assert course(table({0: 80}), 0, 90, waiting, fresh=False) == Course("go", 90)
    assert course(table({0: 80}), 0, 10, replace(SAID, member="m0", at=9), fresh=False).rule == "no_release"


def test_a_release_that_has_scored_is_not_replayed_under_its_own_name():
    """Readers take the later of two releases; of one release they could not tell which came later."""
    before = table({0: 0}, {0: 40}, rescore=(2,))
    with pytest.raises(InvalidInput, match="r2 has scored partition 0 already, and is to begin at 20"):
        begun(before, "r2", {0: 20}, {0: 60}, rescore=True, last={0: "r2"})
    with pytest.raises(InvalidInput, match="r2 has scored partition 1 already, and is to begin at 30"):
        begun(before, "r2", {0: 20, 1: 30}, {0: 60, 1: 60}, rescore=True, last={0: "r1", 1: "r2"})
    assert begun(before, "r2", {0: 20}, {0: 60}, rescore=True, last={0: "r1"}).start == {0: 20}


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
)
def test_however_it_is_cut_into_batches_each_record_is_scored_by_the_release_of_its_offset(starts, cuts):
    """Members that stop and go on anywhere, with any batches, give what one without a stop gives."""
    found = table(*({0: one} if one is not None else None for one in [0, *starts]))
    offset, said, scored = 0, None, []
    for cut in cuts:
        way = course(found, 0, offset, said, fresh=False)
        assert (way.act, way.offset) == ("go", offset)
        for record in range(offset, offset + cut):
            scored.append(found.model_for(0, record).revision)
        offset += cut
        said = Progress(last=scored[-1], at=offset - 1)
    assert scored == [found.model_for(0, record).revision for record in range(offset)]


@given(st.builds(Progress, reason=st.text(max_size=6000), ready=st.lists(st.text(max_size=12)).map(tuple),
                 at=st.none() | st.integers(0, 2**62), beat=st.integers(0, 2**40), paused=st.text(max_size=20)))  # fmt: skip
def test_what_is_said_fits_and_is_read_back(said):
    text = said.to_text()
    assert len(text.encode()) <= LIMIT
    found = read_progress(text + "\0")
    assert found is not None
    assert (found.at, found.beat, found.paused) == (said.at, said.beat, said.paused)
    assert said.reason.startswith(found.reason)


@pytest.mark.parametrize("text", [None, "", "\0", "v1", "[]", '{"format": "pipeops-stream/1", "time": 1%s}' % ("0" * 400),
                                  '{"rev": "r1"}', '{"format": "pipeops-stream/1", "at": "x"}',
                                  '{"format": "pipeops-stream/1", "ready": 3}'])  # fmt: skip
def test_what_others_commit_says_nothing(text):
    assert read_progress(text) is None
