"""Verdicts on rows and scores: data in, verdicts out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.exceptions import Conflict, InvalidInput, NotFound
from airflow_pipeops.models.registry import ModelVersion
from airflow_pipeops.serving.batch.contract import (
    Input,
    ScoreContract,
    Scored,
    after,
    before,
    passed,
    reasons,
    schema,
    skewed,
    stability,
)
from airflow_pipeops.serving.batch.manifest import (
    Current,
    Manifest,
    Pinned,
    may_show,
    same_scores,
    score_key,
    segment,
    wanted,
)
from airflow_pipeops.serving.batch.operators import contract_of
from airflow_pipeops.serving.batch.promoted import agreed

SEEN = Input(100, {}, {}, 0, ("id",))
EVEN = Scored(100, 0, 0, 0.1, 0.9, 50.0, (0.5,), (50, 50))
ONE = Pinned("delay", "1", "a" * 64, "file:///a", pinned_at="2026-01-01")
TWO = Pinned("delay", "2", "b" * 64, "file:///b", pinned_at="2026-02-01")


def failing(found: Any) -> list[str]:
    return [one.name for one in found if not one.open]


@pytest.mark.parametrize(
    ("families", "names"),
    [
        ({"x": "integer", "y": "number", "z": "text"}, []),
        ({"x": "boolean", "y": "integer", "z": "null"}, []),
        ({"x": "number", "y": "number", "z": "text"}, ["types"]),
        ({"x": "integer", "y": "text", "z": "text"}, ["types"]),
        ({"x": "integer", "y": "number"}, ["columns"]),
        ({"X": "integer", "y": "number", "z": "integer"}, ["columns", "types"]),
    ],
)
def test_columns_must_be_what_the_model_takes(families: dict[str, str], names: list[str]) -> None:
    found = schema(families, {"x": "INT64", "y": "FP64", "z": "BYTES"})
    assert failing(found) == names
    if "X" in families:
        assert "there is no column 'x' ('X' is there)" in reasons(found)


@pytest.mark.parametrize(
    ("seen", "contract", "names"),
    [
        (SEEN, ScoreContract(), []),
        (replace(SEEN, rows=0), ScoreContract(), ["rows"]),
        (replace(SEEN, rows=0), ScoreContract(rows=(0, None)), []),
        (SEEN, ScoreContract(rows=(1, 99)), ["rows"]),
        (replace(SEEN, nulls={"id": 1}), ScoreContract(), ["key"]),
        (replace(SEEN, twice=2), ScoreContract(), ["key_unique"]),
        (replace(SEEN, twice=None), ScoreContract(), ["key_unique"]),
        (replace(SEEN, nulls={"x": 11}), ScoreContract(nulls={"x": 0.1}), ["nulls[x]"]),
        (replace(SEEN, nulls={"x": 10}), ScoreContract(nulls={"x": 0.1}), []),
    ],
)
def test_rows_are_judged(seen: Input, contract: ScoreContract, names: list[str]) -> None:
    assert failing(before(seen, contract)) == names


@pytest.mark.parametrize(
    ("scored", "contract", "equal", "names"),
    [
        (EVEN, ScoreContract(), True, []),
        (EVEN, ScoreContract(), False, ["keys"]),
        (replace(EVEN, rows=99), ScoreContract(), True, ["rows"]),
        (replace(EVEN, high=1.1), ScoreContract(), True, ["range"]),
        (replace(EVEN, high=1.1), ScoreContract(scores=(0, 2)), True, []),
        (replace(EVEN, nulls=1), ScoreContract(), True, ["null_scores"]),
        (replace(EVEN, fallbacks=1), ScoreContract(fallbacks=0.005), True, ["fallbacks"]),
        (replace(EVEN, nulls=1, fallbacks=1), ScoreContract(null_scores=0.01, fallbacks=0.01), True, []),
        (replace(EVEN, counts=(95, 5)), ScoreContract(shift=0.25), True, ["shift"]),
        (replace(EVEN, counts=(55, 45)), ScoreContract(shift=0.25), True, []),
        (replace(EVEN, edges=(0.4,)), ScoreContract(shift=0.25), True, ["shift"]),
        (
            replace(EVEN, nulls=100, low=None, high=None, counts=(0, 0)),
            ScoreContract(null_scores=1.0),
            True,
            [],
        ),
    ],
)
def test_scores_are_judged(scored: Scored, contract: ScoreContract, equal: bool, names: list[str]) -> None:
    found = after(100, equal, {"p": scored}, contract, probabilities=True, first={"p": EVEN})
    assert failing(found) == names
    assert passed(found) is not bool(names)


def test_a_first_partition_is_held_against_nothing() -> None:
    moved = replace(EVEN, counts=(95, 5))
    assert failing(after(100, True, {"p": moved}, ScoreContract(shift=0.1), probabilities=True)) == []


def test_numbers_have_no_range_of_their_own() -> None:
    far = replace(EVEN, low=-1e9, high=1e9)
    assert failing(after(100, True, {"p": far}, ScoreContract(), probabilities=False)) == []


def test_figures_of_parts_are_those_of_the_whole() -> None:
    both = EVEN.plus(replace(EVEN, low=0.05, high=None, nulls=3))
    assert (both.rows, both.nulls, both.low, both.high, both.counts) == (200, 3, 0.05, 0.9, (100, 100))
    assert both.mean == pytest.approx(100 / 197)
    assert Scored().plus(EVEN) == EVEN
    assert stability((1, 2, 3), (10, 20, 30)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("drifted", "on_skew", "outcome"),
    [
        (False, "fail", "passed"),
        (True, "fail", "failed"),
        (None, "fail", "cannot tell"),
        (True, "record", "noted"),
    ],
)
def test_skew_fails_where_it_is_to(drifted: bool | None, on_skew: Any, outcome: str) -> None:
    assert skewed(drifted, "moved" if drifted else "", ScoreContract(on_skew=on_skew)).outcome == outcome


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"nulls": {"x": 2}}, "nulls[x]"),
        ({"fallbacks": -0.1}, "fallbacks"),
        ({"rows": [5, 1]}, "rows"),
        ({"rows": [-1, None]}, "rows"),
        ({"scores": [1, 0]}, "scores"),
        ({"shift": 0}, "shift"),
        ({"on_skew": "shout"}, "on_skew"),
        ({"shfit": 1}, "contract"),
        ({"rows": 500}, "rows"),
        ({"rows": None}, "rows"),
        ({"rows": ["1", 3]}, "rows"),
        ({"scores": [None, 1]}, "scores"),
        ({"scores": [math.nan, 1]}, "scores"),
        ({"nulls": ["x"]}, "nulls"),
        ({"nulls": {"x": None}}, "nulls[x]"),
        ({"null_scores": "x"}, "null_scores"),
        ({"fallback": "x"}, "fallback"),
        ({"fallback": math.inf}, "fallback"),
        ({"shift": "x"}, "shift"),
    ],
)
def test_a_contract_that_makes_no_sense_names_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_of(given)
    assert caught.value.field == field


def test_a_contract_travels_as_json() -> None:
    one = ScoreContract(rows=(1, 5), nulls={"x": 0.5}, scores=(0.0, 2.0), shift=0.2, on_skew="fail")
    assert ScoreContract.from_json(one.to_json()) == one


# ---- which scores, and what readers see ----------------------------------------------------------------------------------


def current(model: Pinned, digest: str = "rows") -> Current:
    return Current(3, "k", "there", model, digest)


@pytest.mark.parametrize(
    ("seen", "digest", "how", "score"),
    [
        (None, "rows", "none", True),
        (current(ONE), "others", "none", True),
        (current(TWO), "rows", "none", True),
        (current(ONE), "rows", "none", False),
        (current(ONE), "rows", "all", True),
        (current(ONE), "rows", "since", True),
    ],
)
def test_which_partitions_are_scored_again(seen: Current | None, digest: str, how: Any, score: bool) -> None:
    assert wanted("2013-06", seen, TWO, digest, how, since="2013-06").score is score


def test_since_leaves_what_was_before() -> None:
    assert not wanted("2013-05", current(ONE), TWO, "rows", "since", since="2013-06").score


def test_the_model_that_was_named_later_decides_what_readers_see() -> None:
    assert may_show(current(ONE), TWO) == may_show(None, ONE) == may_show(current(ONE), ONE) == ""
    assert "a later run has decided" in may_show(current(TWO), ONE)
    rolled_back = replace(ONE, pinned_at="2026-03-01")
    assert may_show(current(TWO), rolled_back) == "", "an older version that was named later is a rollback"


def test_a_key_is_of_rows_model_contract_and_lines() -> None:
    base = ("rows", "a" * 64, ScoreContract().to_json(), "id,probability")
    others = [
        ("others", *base[1:]),
        (base[0], "b" * 64, *base[2:]),
        (*base[:2], ScoreContract(fallback=0.5).to_json(), base[3]),
        (*base[:3], "id,day,probability"),
    ]
    assert len({score_key(*base), score_key(*base), *(score_key(*one) for one in others)}) == 5


def test_two_outputs_of_one_key_must_be_the_same() -> None:
    there = Manifest("k", "p", "rows", 1, ONE, "lines")
    assert same_scores("k", there, "lines") == ""
    assert "gave lines before and other now" in same_scores("k", there, "other")
    assert Manifest.from_bytes(there.to_bytes(), "m") == there


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 201, None])
def test_a_partition_that_is_no_folder_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a folder"):
        segment(name)


def test_a_partition_is_one_part_of_a_path() -> None:
    assert segment("a/../b c") == "a%2F..%2Fb%20c"


@pytest.mark.parametrize(
    "given",
    ["champion", {"name": "delay"}, {**ONE.to_json(), "sha256": "abc"}, None],
)
def test_a_model_is_pinned_or_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="model"):
        Pinned.of(given)


# ---- Git and the registry ------------------------------------------------------------------------------------------------

VERSION = ModelVersion("delay", "7", "file:///a", "a" * 64, reference_uri="file:///r")


def ask(wanted: dict[str, Any], named: ModelVersion | None = VERSION) -> Pinned:
    return agreed("delay", wanted, named, alias="champion", where="model.yaml: at", commit="c" * 40, at="now")


def test_what_both_say_is_promoted() -> None:
    found = ask({"sha256": "a" * 64, "version": 7})
    assert (found.version, found.sha256, found.commit, found.pinned_at) == ("7", "a" * 64, "c" * 40, "now")
    assert ask({"sha256": "sha256:" + "a" * 64}) == found


@pytest.mark.parametrize(
    ("wanted", "named", "error", "why"),
    [
        ({"sha256": None}, VERSION, InvalidInput, "names no model"),
        ({"sha256": "a" * 64}, None, NotFound, "no 'champion' in the registry"),
        (
            {"sha256": "b" * 64},
            VERSION,
            Conflict,
            "Git wants bbbbbbbbbbbb .* 'champion' is version 7, aaaaaaaaaaaa",
        ),
        ({"sha256": "a" * 64, "version": "6"}, VERSION, Conflict, "Git wants version 6"),
    ],
)
def test_where_they_disagree_nothing_is_promoted(
    wanted: dict[str, Any], named: ModelVersion | None, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        ask(wanted, named)
