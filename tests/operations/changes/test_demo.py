"""Causes are found in what the demo has really recorded, in which 300 incidents are injected."""

from __future__ import annotations

import pytest

from tests.operations.changes.demo import FILE, changes, incidents, last_of_all, told
from tests.operations.changes.proof import Answer, answers, share

pytestmark = pytest.mark.timeout(600)
#: Seeds of their own; with none of them was a number of the ranking chosen.
FIRST = 500_000


@pytest.fixture(scope="module")
def found() -> list[Answer]:
    return answers(incidents(300, FIRST))


def test_the_true_cause_is_found_and_more_often_than_by_the_last_change(found: list[Answer]) -> None:
    first, three = share(one.place == 0 for one in found), share(one.place < 3 for one in found)
    assert len(found) == 300
    assert three >= 0.90
    assert first >= 0.70
    assert first >= share(last_of_all(one.episode, one.found.symptom.end) for one in found) + 0.2
    assert first >= share(one.last_deployed for one in found) + 0.05
    # Of what lineage leads from alone, the demo has so few changes that the last is mostly it.
    assert first >= share(one.last for one in found)


def test_each_kind_of_change_of_the_demo_is_a_cause(found: list[Answer]) -> None:
    causes = {one.episode.cause for one in found}
    assert (
        causes
        == {"code", "model", "prompt", "units", "reverted", "by hand"}
        == {one.cause for one in changes()}
    )
    assert {frozenset(one.episode.truth) for one in found} == {one.truth for one in changes()}


def test_the_answer_is_not_among_what_is_recorded_of_an_incident(found: list[Answer]) -> None:
    real = {one.id for one in told()}
    for one in found[:60]:
        (added,) = (record for record in one.episode.records if record.id not in real)
        assert added.id == one.episode.symptom
        assert not {"cause", "commit", "suspect"} & set(added.body)


def test_what_is_kept_names_no_folder_of_a_machine() -> None:
    kept = FILE.read_text()
    assert not [name for name in ("/home/", "/tmp/", "/root/", "/Users/", "/work/") if name in kept]
