"""Settings that people give as dataclasses: what does not fit its field is refused by name, and never compared."""

from __future__ import annotations

import ast
import contextlib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import airflow_pipeops
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.policy import RetrainPolicy
from airflow_pipeops.llm.evaluation.scorers.texts import Exact, Numeric
from airflow_pipeops.llm.evaluation.subjects import Subject
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.phrasing import Phrasing
from airflow_pipeops.llm.production.guard import PromptPolicy
from airflow_pipeops.llm.production.liveness import Expected
from airflow_pipeops.llm.production.sampling import Draw
from airflow_pipeops.llm.prompts.configmap import ConfigMapPrompt
from airflow_pipeops.models.desired import ModelInGit
from airflow_pipeops.models.features.joins import Join
from airflow_pipeops.models.features.sets import FeatureSet
from airflow_pipeops.models.labels.cohorts import Ask
from airflow_pipeops.models.labels.joining import Columns
from airflow_pipeops.models.paired.decision import Policy
from airflow_pipeops.models.rollback.guard import GuardPolicy
from airflow_pipeops.models.rollback.saga import RollbackOrder
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.remediation.policy import Freeze, Limits, RemediationPolicy, Rule
from airflow_pipeops.operations.tuning.knob import Knob
from airflow_pipeops.serving.batch.contract import ScoreContract

KNOB = {"name": "k", "value": 1.0, "low": 0.0, "high": 2.0, "target": 0.5, "slope": 1.0, "max_step": 0.5}
FREEZE = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "reason": "r"}
ORDER = {
    "model": "m",
    "release": "2",
    "release_sha256": "a",
    "before": "1",
    "before_sha256": "b",
    "reason": "r",
}
#: Each kind of settings, and what it needs.
SETTINGS: list[tuple[type[Any], dict[str, Any]]] = [
    (RetrainPolicy, {}),
    (GatePolicy, {"metric": "m"}),
    (PromptPolicy, {}),
    (Phrasing, {"llm_conn_id": "l", "model": "m"}),
    (Expected, {"digest": "a" * 64, "released": 1.7e9}),
    (Draw, {}),
    (ConfigMapPrompt, {"name": "a", "namespace": "b", "selector": "a=b"}),
    (ModelInGit, {"file": "f", "fields": {"a": "sha256"}}),
    (Join, {"table": "t", "keys": ("a",), "columns": ("b",), "event_time": "t"}),
    (FeatureSet, {"steps": {"a": "os:getcwd"}}),
    (Ask, {}),
    (Columns, {}),
    (Policy, {}),
    (GuardPolicy, {"metric": "auc"}),
    (RollbackOrder, ORDER),
    (AnomalyPolicy, {}),
    (Rule, {"name": "r", "finding": "failed_run", "action": "clear_failed"}),
    (Limits, {}),
    (Freeze, FREEZE),
    (RemediationPolicy, {}),
    (Knob, {**KNOB, "delay": timedelta(hours=1)}),
    (ScoreContract, {}),
    (Settings, {}),
    (Csv, {}),
    (Subject, {"arm": "a", "prompt": "x", "model": "m"}),
    (Exact, {}),
    (Numeric, {}),
]


class Thing:
    """Fits no field."""


FIELDS = [
    pytest.param(kind, given, item.name, id=f"{kind.__name__}.{item.name}")
    for kind, given in SETTINGS
    for item in fields(kind)
    if item.init and get_type_hints(kind)[item.name] is not Any
]


@pytest.mark.parametrize(("kind", "given", "field"), FIELDS)
def test_what_fits_no_field_is_refused_by_name(kind: type[Any], given: dict[str, Any], field: str) -> None:
    kind(**given)
    for value in (Thing(), [Thing()], b"bytes"):
        with pytest.raises(InvalidInput) as refused:
            kind(**{**given, field: value})
        assert field in str(refused.value) or refused.value.field == field


@pytest.mark.parametrize(("kind", "given", "field"), FIELDS)
def test_a_value_of_any_plain_type_is_taken_or_refused_and_never_breaks(kind, given, field) -> None:
    for value in ("x", True, 2.5, -1, 5, [1], {"a": "b"}, None, timedelta(1), float("nan"), 10**400):
        with contextlib.suppress(InvalidInput):
            kind(**{**given, field: value})


@pytest.mark.parametrize(
    ("make", "field", "said"),
    [
        (lambda: RetrainPolicy(cooldown_batches=2.5), "cooldown_batches", "a whole number, or None"),
        (lambda: RetrainPolicy(cooldown_batches=True), "cooldown_batches", "a whole number, or None"),
        (lambda: RetrainPolicy(cooldown=3600), "cooldown", "a timedelta"),
        (lambda: RetrainPolicy(needs_approval="no"), "needs_approval", "True or False"),
        (lambda: RetrainPolicy(importance={"age": "much"}), "importance", "a mapping, with a number in each"),
        (lambda: Columns(key=[1]), "key", "a list, with a text in each place"),
        (lambda: RemediationPolicy(limits={"total": 1}), "limits", "a Limits"),
        (lambda: RemediationPolicy(rules=[{"name": "r"}]), "rules", "a list, with a Rule in each place"),
    ],
)
def test_the_remedy_says_what_fits(make, field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"Give {said}") as refused:
        make()
    assert refused.value.field == field


def test_numbers_of_numpy_are_numbers() -> None:
    policy = RetrainPolicy(k=np.int64(2), max_drop=np.float32(0.5), target=np.int64(1))
    assert (policy.k, policy.max_drop, policy.target) == (2, 0.5, 1)


def test_no_settings_that_take_part_are_left_out_here() -> None:
    there = {
        node.name
        for path in Path(airflow_pipeops.__file__).parent.rglob("*.py")
        if "demand_types(self)" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and "demand_types(self)" in (ast.get_source_segment(text, node) or "")
    }
    tried = {base.__name__ for kind, _ in SETTINGS for base in kind.__mro__}
    assert there <= tried
