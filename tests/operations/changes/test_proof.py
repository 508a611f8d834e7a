"""Causes are found in histories whose cause is known: a small part of tests/benchmarks/changes.py."""

from __future__ import annotations

import pytest

from tests.operations.changes.histories import CAUSES, History, episodes
from tests.operations.changes.proof import Answer, answers, share

#: Seeds of their own; with none of them was a number of the ranking chosen.
FIRST = 500_000


@pytest.fixture(scope="module")
def found() -> list[Answer]:
    idle = [History("nothing", FIRST + 100 + number).make() for number in range(12)]
    return answers([*episodes(4 * len(CAUSES), FIRST), *idle])


@pytest.fixture(scope="module")
def caused(found: list[Answer]) -> list[Answer]:
    return [one for one in found if one.episode.cause != "nothing"]


# There is no chance in it: the bounds leave room for two of the 40 to be judged in another way, and for no more.


def test_the_true_cause_is_found(caused: list[Answer]) -> None:
    first, three = share(one.place == 0 for one in caused), share(one.place < 3 for one in caused)
    assert first >= 0.80
    assert three >= 0.90
    assert share(one.rank == 0 for one in caused) >= 0.75
    assert first > share(one.last for one in caused) + 0.15
    assert first > share(one.last_deployed for one in caused) + 0.15


def test_without_a_cause_few_are_blamed(found: list[Answer]) -> None:
    idle = [one for one in found if one.episode.cause == "nothing"]
    assert share(one.found.outcome == "likely" for one in idle) <= 0.15


def test_what_is_called_likely_mostly_is(found: list[Answer], caused: list[Answer]) -> None:
    named = [one for one in found if one.found.outcome == "likely"]
    assert share(one.place == 0 for one in named) >= 0.80
    assert share(one.found.outcome == "likely" for one in caused) >= 0.35
    assert share(one.found.outcome == "none of these" for one in caused) <= 0.125


def test_nothing_is_blamed_that_came_later(found: list[Answer]) -> None:
    for one in found:
        assert all(s.candidate.at <= one.found.symptom.end for s in one.found.suspects)
        assert one.episode.innocent >= 5


def test_what_is_said_is_the_same_again(found: list[Answer]) -> None:
    again = answers(episodes(3, FIRST))
    assert [one.found for one in again] == [one.found for one in found[:3]]
