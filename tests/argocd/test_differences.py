"""The diff that people read: what differs shows, what is secret does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.argocd.differences import masked, unified


def item(live: Any, target: Any, kind: str = "ConfigMap", **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "namespace": "team",
        "name": "x",
        "targetState": json.dumps(target),
        "normalizedLiveState": json.dumps(live),
        "predictedLiveState": json.dumps(target),
        **more,
    }


def test_a_change_a_missing_one_and_an_extra_one() -> None:
    text = unified(
        [
            item({"data": {"a": "1"}}, {"data": {"a": "2"}}),
            item(None, {"data": {}}, name="gone"),
            item({"data": {}}, None, name="left"),
            item({"data": {"b": "1"}}, {"data": {"b": "1"}}, name="same"),
            item({"data": {"b": "1"}}, {"data": {"b": "2"}}, name="hook", hook=True),
        ]
    )
    assert text.splitlines()[:6] == [
        "--- live/ConfigMap/team/gone",
        "+++ desired/ConfigMap/team/gone",
        "@@ -0,0 +1 @@",
        "+data: {}",
        "--- live/ConfigMap/team/left",
        "+++ desired/ConfigMap/team/left",
    ]
    assert "-  a: '1'" in text
    assert "same" not in text
    assert "hook" not in text
    assert unified([]) == ""


def test_what_argo_cd_ignores_is_no_difference() -> None:
    assert unified([item({"data": {"a": "1"}}, {"data": {"a": "2"}}, modified=False)]) == ""


CASES = {
    "a secret": ("Secret", {"data": {"k": "hunter2"}}, {"data": {"k": "hunter3"}}),
    "a new key of a secret": ("Secret", {"data": {}}, {"stringData": {"k": "hunter2"}}),
    "its copy by kubectl": (
        "Secret",
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}}},
        {"metadata": {}},
    ),
    "an environment variable": (
        "Deployment",
        {"spec": {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}},
        {"spec": {"env": [{"name": "DB_PASSWORD", "value": "hunter3"}]}},
    ),
    "a field by its name": ("ConfigMap", {"data": {"api_key": "hunter2"}}, {"data": {"api_key": "hunter3"}}),
    "over several lines": ("ConfigMap", {"data": {"token": "a\nhunter2"}}, {"data": {"token": "b\nhunter3"}}),
    "a url": ("ConfigMap", {"data": {"u": "https://a:hunter2@h"}}, {"data": {"u": "https://a:hunter3@h"}}),
    "a variable that moved": (
        "Deployment",
        {"env": [{"name": "A", "value": "1"}, {"name": "TOKEN", "value": "hunter2"}]},
        {"env": [{"name": "TOKEN", "value": "hunter2"}]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_secret_does_not_show_but_that_it_differs_does(case: str) -> None:
    kind, live, target = CASES[case]
    text = unified([item(live, target, kind)])
    assert "hunter" not in text
    assert f"live/{kind}/team/x" in text


def test_names_of_secrets_are_no_secrets() -> None:
    volume = {"secretName": "db", "tokenExpirationSeconds": 60}
    assert masked(volume, volume, "Deployment") == (volume, volume)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, json_values, st.sampled_from(["Secret", "ConfigMap"]))
def test_masking_keeps_the_shape(live: Any, desired: Any, kind: str) -> None:
    one, other = masked(live, desired, kind)
    assert type(one) is type(live)
    assert type(other) is type(desired)
    if isinstance(live, (dict, list)):
        assert len(one) == len(live)
    same = masked(live, live, kind)
    assert same[0] == same[1]
