# ruff: noqa: E501  # a table reads best with one case a line
"""A policy that contradicts itself is refused by name, before anything is touched."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.remediation.actions import ACTIONS
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.policy import Freeze, RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen
from tests.operations.remediation.world import POLICY, SCALE

RULE = {"name": "again", "finding": "failed_run", "action": "retry_task"}


def policy(*rules: dict[str, Any], **more: Any) -> RemediationPolicy:
    return RemediationPolicy.of({"rules": [{**RULE, **rule} for rule in rules], **more})


def test_it_only_observes_by_default() -> None:
    found = policy({})
    assert found.mode_of(found.rules[0], "production") == "observe"


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_it_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"policy{suffix}"
    path.write_text(json.dumps(POLICY))
    assert RemediationPolicy.of(path) == RemediationPolicy.of(str(path)) == RemediationPolicy.of(POLICY)
    again = RemediationPolicy.of(RemediationPolicy.of(path).to_json())
    assert again.to_json() == RemediationPolicy.of(POLICY).to_json()


@pytest.mark.parametrize(
    ("rules", "more", "said"),
    [
        ([{"action": "delete_namespace"}], {}, "the action of rule 'again', 'delete_namespace' is unknown"),
        ([{"action": "resume_dag"}], {}, "'resume_dag' is unknown"),
        ([{"finding": "mood"}], {}, "the finding of rule 'again', 'mood' is unknown"),
        ([{"modes": {"production": "always"}}], {}, "modes.production of rule 'again' is 'always'"),
        ([{"name": ""}], {}, "a rule has no name"),
        ([{"per_hours": 3}], {}, "in rules[0], 'per_hours' is unknown"),
        ([{"per_hour": 0}], {}, "per_hour of rule 'again' is 0"),
        ([{"per_hour": "many"}], {}, "per_hour of rule 'again' is 'many'"),
        ([{"per_hour": True}], {}, "per_hour of rule 'again' is True"),
        ([{"per_hour": 4}], {}, "allows more in an hour than in a day"),
        ([{"per_day": 11}], {}, "allows more in a day than its budget"),
        ([{"per_hour": 3}], {"limits": {"per_environment": 2}}, "allows 3 acts an hour on one deliverable, and the limits 2"),
        ([{"window": 9000}], {}, "is proven for longer than its dwell time"),
        ([{"dwell": 31 * 86_400}], {}, "is longer than the 30 days that are remembered"),
        ([{"window": "15m"}], {}, "window is '15m'"),
        ([{"window": float("nan")}], {}, "window is nan"),
        ([{"max_age": float("inf")}], {}, "max_age is inf"),
        ([{"deliverables": "delays-v2"}], {}, "deliverables of rule 'again' is 'delays-v2'"),
        ([{"approval": "production"}], {}, "approval of rule 'again' is 'production'"),
        ([{"approval": [["production"]]}], {}, "approval of rule 'again' is (['production'],)"),
        ([{"patience": 90000}], {}, "takes longer to prove than the lease"),
        ([{"modes": {"a": "off"}, "approval": ["a"]}], {}, "asks for approval in a, where it does nothing"),
        ([{"action": "scale_up"}], {}, "does not give file, path, least, most, step, which scale_up needs"),
        ([{"action": "scale_up", "parameters": {**SCALE, "most": 1}}], {}, "scales by no whole numbers"),
        ([{}, {}], {}, "two rules are called 'again'"),
        ([{}, {"name": "b", "action": "pause_dag"}], {}, "rule 'b' never answers in any other environment: 'again' answers"),
        (
            [{"modes": {"staging": "off"}}, {"name": "b", "modes": {"production": "act"}}], {"mode": "off"},
            "",
        ),
        ([{}], {"limits": {"per_environment": 11}}, "the limits allow 11 acts an hour in one environment, and 10 in all"),
        ([{}], {"limits": {"share": 0}}, "share is 0"),
        ([{}], {"limits": {"total": None}}, "total of the limits is None"),
        ([{}], {"limits": []}, "limits is not a mapping"),
        ([{}], {"mode": "on"}, "mode of the policy is 'on'"),
        ([{}], {"freeze": []}, "in policy, 'freeze' is unknown"),
        ([{}], {"freezes": "always"}, "freezes of the policy is no list"),
        ([{}], {"freezes": [{"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z", "reason": "x"}]}, "ends before"),
        ([{}], {"freezes": [{"start": "friday", "end": "monday", "reason": "x"}]}, "'monday' is no time with a zone"),
        (
            [{}],
            {"freezes": [{"start": "2026-01-02T00:00:00Z", "end": "2026-01-03T00:00:00Z", "reason": "x", "environments": "staging"}]},
            "environments of the freeze for 'x' is 'staging'",
        ),
        ([{}], {"freezes": [{"start": "2026-01-02T00:00:00Z"}]}, "freezes[0] has a missing or wrong value"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_by_name(
    rules: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    if not said:
        policy(*rules, **more)
        return
    with pytest.raises(InvalidInput) as refused:
        policy(*rules, **more)
    assert said in str(refused.value)
    assert refused.value.field


@pytest.mark.parametrize("given", [None, [], "nowhere.yaml", {"rules": {}}, {"rules": [1]}])
def test_what_is_no_policy_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput):
        RemediationPolicy.of(given)


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("rules: [")
    with pytest.raises(InvalidInput, match="neither JSON nor YAML"):
        RemediationPolicy.of(path)


def test_a_freeze_comes_back_each_week() -> None:
    friday = datetime(2026, 1, 2, 16, tzinfo=timezone.utc)
    freeze = Freeze(
        friday.isoformat(),
        (friday + timedelta(days=3)).isoformat(),
        "weekend",
        ("production",),
        timedelta(days=7),
    )
    assert not freeze.covers("production", friday - timedelta(seconds=1))
    for week in (0, 1, 52):
        start = friday + timedelta(weeks=week)
        assert freeze.covers("production", start + timedelta(days=2))
        assert not freeze.covers("production", start + timedelta(days=3))
        assert not freeze.covers("staging", start + timedelta(days=2))
    once = Freeze(friday.isoformat(), (friday + timedelta(days=3)).isoformat(), "sale")
    assert once.covers("staging", friday)
    assert not once.covers("staging", friday + timedelta(days=7))


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_an_inverse_is_in_the_catalogue_and_takes_nothing_else_back(action: Any) -> None:
    if action.inverse:
        inverse = ACTIONS[action.inverse]
        assert inverse.only_undoes or inverse.inverse == action.name
    assert "delete" not in action.says


FINDING = {"kind": "drift", "deliverable": "a", "environment": "b", "at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "mood"}, "kind of finding 'mood' is unknown"),
        ({"deliverable": ""}, "a finding names no deliverable"),
        ({"at": "2026-01-01T00:00:00"}, "at '2026-01-01T00:00:00' is no time with a zone"),
        ({"at": 5}, "at 5 is no time"),
        ({"target": []}, "target is not a mapping"),
        ({"affected": "orders"}, "affected of a finding is 'orders'"),
        ({"affected": None}, "affected of a finding is None"),
        ({"reason": None}, "reason of a finding is None"),
    ],
)
def test_a_finding_that_is_none_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Finding.of({**FINDING, **wrong})
    assert said in str(refused.value)


def test_the_same_finding_has_one_key_whoever_tells_it() -> None:
    first = Finding.of({**FINDING, "reason": "x"})
    assert first.key == Finding.of({**FINDING, "reason": "y", "record": "z"}).key
    assert first.key != Finding.of({**FINDING, "at": "2026-01-01T00:00:01Z"}).key
    with pytest.raises(InvalidInput, match="incomplete"):
        Finding.of({"kind": "drift"})


@pytest.mark.parametrize("said", [None, True, "fine", {"sight": 1}, 0])
def test_a_judge_that_says_nothing_has_cleared_nothing(said: Any) -> None:
    with pytest.raises(InvalidInput, match="judge"):
        Seen.of(said)


def test_a_policy_is_narrowed_as_a_whole() -> None:
    rules = [
        {"name": "a", "finding": "drift", "action": "notify", "modes": {"staging": "act", "lab": "off"}, "approval": ["staging"]},
        {"name": "b", "finding": "drift", "action": "pause_dag", "modes": {"lab": "act", "staging": "off"}},
    ]  # fmt: skip
    policy = RemediationPolicy.of({"mode": "act", "rules": [rules[0] | {"deliverables": ["x"]}, rules[1]]})
    assert policy.at_most("act") == policy
    for most in ("propose", "observe"):
        a, b = policy.at_most(most).rules
        found = [
            policy.at_most(most).mode_of(rule, place) for rule in (a, b) for place in ("staging", "lab", "x")
        ]
        assert found == [most, "off", most, "off", most, most]
        assert a.approval == (("staging",) if most == "propose" else ())
    with pytest.raises(InvalidInput, match="mode is 'on'"):
        policy.at_most("on")
