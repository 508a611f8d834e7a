"""The verdict about a model that was made again, from what was recorded and what was found."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_pipeops.models.reproduction.comparison import MOST, differences, judge, unknown

RECORDED: dict[str, Any] = {
    "format": "pipeops-training/v1",
    "data": {"digest": "d1", "rows": 100, "files": {"s3://a.parquet": "a1", "s3://b.parquet": "b1"}},
    "feature_set": {"path": "m:F", "digest": "f1"},
    "code": {"files": {"m": "c1", "helpers": "c2"}, "commit": "1" * 40, "dirty": False},
    "arguments": {"seed": 0, "parameters": {"C": 1.0}},
    "packages": {"numpy": "2.0", "scikit-learn": "1.5"},
    "python": "3.11.7",
    "machine": {"cpu": "one", "threads": {"OMP_NUM_THREADS": "1"}, "libraries": ["openblas 0.3 SkylakeX 1"]},
    "image": None,
    "result": {"name": "flights", "sha256": "m1", "metrics": {"auc": 0.7}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(RECORDED)
    *way, last = path.split("/")
    part = found
    for name in way:
        part = part[name]
    part[last] = value
    return found


def verdict(found: dict[str, Any], **told: Any) -> Any:
    given = {"same_behaviour": False, "distance": 0.5, "tolerance": 1e-3, "apart": False}
    return judge(RECORDED, found, **{**given, **told})


@pytest.mark.parametrize(
    ("sha256", "told", "outcome", "said"),
    [
        ("m1", {}, "identical", "every byte"),
        ("m2", {"same_behaviour": True, "distance": None}, "equivalent", "the same scores"),
        ("m2", {"distance": 1e-9}, "equivalent", "the same scores"),
        ("m2", {"distance": 1e-4}, "close", "farther off than 0.0001"),
        ("m2", {"distance": 1e-4, "apart": None}, "close", "nothing measures it"),
        ("m2", {"distance": 1e-4, "apart": True}, "different", "the metric differs beyond chance"),
        ("m2", {"distance": 0.002}, "different", "0.002 apart; nothing that is recorded differs"),
        ("m2", {"distance": None}, "different", "an unknown distance"),
        ("m2", {"same_behaviour": None, "distance": None}, "cannot tell", "cannot be read"),
        ("m2", {"same_behaviour": None, "distance": 0.0}, "equivalent", "the same scores"),
    ],
)
def test_each_outcome(sha256: str, told: dict[str, Any], outcome: str, said: str) -> None:
    found = verdict(changed("result/sha256", sha256), **told)
    assert found.outcome == outcome
    assert said in found.reason
    assert (found.name, found.recorded, found.found) == ("flights", "m1", sha256)
    assert found.metrics == {"auc": [0.7, 0.7]}


@pytest.mark.parametrize(
    ("path", "value", "name", "was", "now"),
    [
        ("data/digest", "d2", "data.digest", "d1", "d2"),
        ("data/files/s3:", None, "", "", ""),
        ("feature_set/digest", "f2", "feature_set.digest", "f1", "f2"),
        ("feature_set", None, "feature_set.path", "m:F", ""),
        ("code/files/helpers", "c9", "code.files.helpers", "c2", "c9"),
        ("arguments/parameters/C", 2.0, "arguments.parameters.C", "1.0", "2.0"),
        ("packages/numpy", "2.1", "packages.numpy", "2.0", "2.1"),
        ("packages/torch", "2", "packages.torch", "", "2"),
        ("python", "3.12.1", "python", "3.11.7", "3.12.1"),
        ("machine/threads/OMP_NUM_THREADS", "2", "machine.threads.OMP_NUM_THREADS", "1", "2"),
        ("image", "sha256:e", "image", "", "sha256:e"),
        ("code/commit", "2" * 40, "", "", ""),
        ("code/dirty", True, "", "", ""),
    ],
)
def test_each_thing_that_it_was_made_from_is_told_by_name(
    path: str, value: Any, name: str, was: str, now: str
) -> None:
    found = [(one.input, one.recorded, one.found) for one in differences(RECORDED, changed(path, value))]
    assert found[:1] == ([(name, was, now)] if name else [])
    if name:
        reason = verdict(changed(path, value) | {"result": {"sha256": "m2"}}).reason
        assert f"{name} was {was or 'nothing'}, and is {now or 'nothing'}" in reason


def test_the_most_telling_difference_comes_first_and_hundreds_are_cut() -> None:
    found = changed("packages", {f"package-{n}": "1" for n in range(400)})
    found["data"]["digest"], found["code"]["files"]["m"], found["python"] = "d2", "c9", "3.12"
    told = differences(RECORDED, found)
    assert [one.input for one in told[:2]] == ["data.digest", "code.files.m"]
    assert len(told) == MOST


def test_nobody_can_tell() -> None:
    found = unknown(RECORDED, "the data is gone")
    assert (found.outcome, found.name, found.recorded, found.found) == ("cannot tell", "flights", "m1", "")
    assert unknown({}, "gone").name == ""
