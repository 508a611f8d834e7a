"""A policy says what it means, or is refused by the name of what contradicts it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.gate.policy import GatePolicy


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("metric", {"metric": ""}),
        ("enough", {"enough": "worse"}),
        ("margin", {"enough": "not worse"}),
        ("margin", {"margin": -0.1}),
        ("margin", {"margin": math.nan}),
        ("minimum_gain", {"minimum_gain": -1}),
        ("minimum_gain", {"metric": "cost", "minimum_gain": 1.0}),
        ("guards", {"guards": {"exact": 0.1}}),
        ("guards", {"guards": {"rubric": 0}}),
        ("guards[rubric]", {"guards": {"rubric": -0.1}}),
        ("judges", {"judges": ("rubric",)}),
        ("judges", {"metric": "cost", "guards": {"exact": 0.1}, "judges": ("cost",)}),
        ("ordinal", {"ordinal": ("rubric",)}),
        ("lower_is_better", {"lower_is_better": ("rubric",)}),
        ("scale", {"scale": {"rubric": (0, 1)}}),
        ("scale", {"scale": {"exact": (1, 0)}}),
        ("scale", {"scale": {"exact": (0, 1, 2)}}),
        ("scale", {"scale": {"exact": (0, math.inf)}}),
        ("alpha", {"alpha": 0.5}),
        ("alpha", {"alpha": 0}),
        ("power", {"power": 1.0}),
        ("alpha", {"power": 0.4}),
        ("hard_share", {"hard_share": -0.1}),
        ("hard_share", {"hard_share": 1.1}),
        ("kappa", {"kappa": 2}),
        ("flips", {"flips": -0.1}),
        ("planned", {"planned": 9}),
        ("max_age_days", {"max_age_days": -1}),
    ],
)
def test_what_contradicts_itself_is_refused(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        GatePolicy(**{"metric": "exact", **wrong})
    assert caught.value.field == field


def test_it_is_the_same_after_it_was_json() -> None:
    policy = GatePolicy(
        "rubric", margin=0.1, enough="not worse", guards={"cost": 0.1, "exact": 0.02}, slices=("language",),
        scale={"rubric": (1, 5), "exact": ()}, judges=("rubric",), planned=300,
    )  # fmt: skip
    read = GatePolicy.from_json(json.loads(json.dumps(policy.to_json())))
    assert read.to_json() == policy.to_json()
    assert read.ends("rubric") == (1, 5)
    assert read.ends("exact") is None
    assert read.scorers == ("rubric", "exact")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metric": "exact", "margn": 0.05}, "field of a policy 'margn' is unknown"),
        ({"margin": 0.05}, "metric names no scorer"),
        ("exact", "policy is not a mapping"),
    ],
)
def test_a_field_that_is_misspelt_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        GatePolicy.of(given)
    assert GatePolicy.of({"metric": "exact", "margin": 0.05}) == GatePolicy("exact", margin=0.05)


def test_of_a_cost_a_margin_is_a_share() -> None:
    policy = GatePolicy("cost", minimum_gain=0.5, guards={"latency": 1.0, "exact": 0.1})
    assert policy.least == pytest.approx(math.log(2))  # half of it
    assert policy.loss("latency") == pytest.approx(math.log(2))  # twice as long
    assert policy.loss("exact") == 0.1
