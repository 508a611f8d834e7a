"""What people write into DAGs: a wrong type is one clear error where the DAG is parsed, for every operator."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import BaseOperator

import airflow_pipeops
from airflow_pipeops import Deliverable
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from airflow_pipeops.llm.evaluation.scorers.texts import Exact
from airflow_pipeops.llm.prompts.configmap import ConfigMapPrompt

FILE = {"file": "f.yaml", "fields": {"v": "version", "s": "sha256"}}
#: What an operator needs to be made at all, where a text will not do.
NEEDED: dict[str, dict[str, Any]] = {
    "ApprovedRetrainOperator": {"deliverable": Deliverable("d")},
    "ApplyManifestsOperator": {"environment": "production"},
    "ArgoCDAppSensor": {"app": "a"},
    "ArgoWorkflowOperator": {"template": "t"},
    "ArgoWorkflowSensor": {"name": "n"},
    "BuildFeaturesOperator": {"features": "a.b:C"},
    "CoverageGateOperator": {"floor": 80.0},
    "EvaluateOperator": {"scorers": Exact(), "subjects": []},
    "EvaluationGateOperator": {"policy": {"metric": "m"}},
    "FinishModelRollbackOperator": {"desired": FILE},
    "GateRateOperator": {"policy": {"metric": "m"}},
    "ImportEvaluationOperator": {"source": "promptfoo"},
    "ModelGuardOperator": {"desired": FILE},
    "ModelRollbackOperator": {"desired": FILE},
    "RecordOperator": {"deliverable": Deliverable("d"), "kind": "change", "environment": "production"},
    "RecordedApprovalOperator": {"subject": "s", "body": "b"},
    "ReleasePromptOperator": {"projection": ConfigMapPrompt("a", "b", "c=d"), "prompt": "x"},
    "RemediateOperator": {"deliverable": Deliverable("d"), "environment": "production"},
    "TuneOperator": {"deliverable": Deliverable("d"), "environment": "production"},
    "VerifyRemediationOperator": {"deliverable": Deliverable("d"), "environment": "production"},
}


class Thing:
    """Fits no argument."""


def operators() -> dict[str, type[BaseOperator]]:
    """Return all operators and sensors of the package but those that only others are made from."""
    bases = {"ArgoWork", "RemediationOperator", "SourceOperator"}
    found: dict[str, type[BaseOperator]] = {}
    for module in pkgutil.walk_packages(airflow_pipeops.__path__, "airflow_pipeops."):
        if ".demo" in module.name or not any(word in module.name for word in ("operators", "sensors")):
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(kind) and issubclass(kind, BaseOperator) and kind.__module__ == module.name
            if own and not name.startswith("_") and name not in bases:
                found[name] = kind
    return found


OPERATORS = operators()


def arguments(kind: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    """Return the arguments that this package defines."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("airflow_pipeops") and "__init__" in vars(base):
            given = inspect.signature(inspect.unwrap(vars(base)["__init__"])).parameters
            found |= {
                one.name: one
                for one in given.values()
                if one.kind is one.KEYWORD_ONLY and one.name not in found
            }
    return found


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_a_wrong_type_is_one_clear_error(name: str) -> None:
    kind = OPERATORS[name]
    known = arguments(kind)
    needed = {one.name: "x" for one in known.values() if one.default is one.empty} | NEEDED.get(name, {})
    kind(task_id="t", **needed)
    broken = []
    for argument in known:
        for value in (Thing(), 2.5, True, "x", [1], None, {"a": "b"}, timedelta(1), -1):
            try:
                kind(task_id="t", **{**needed, argument: value})
            except PipeOpsError:
                pass  # named, with a remedy
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                if "multiple values for keyword argument" not in str(
                    error
                ):  # of what the operator sets itself
                    broken.append(f"{argument}={value!r}: {error!r}")
    assert not broken


@pytest.mark.parametrize("deliverable", ["delay-api", ["delay-api"], {"name": "delay-api"}])
def test_the_name_of_a_deliverable_is_no_deliverable(deliverable: Any) -> None:
    for made in (OPERATORS["DataDriftOperator"], OPERATORS["DataDriftOperator"].partial):
        with pytest.raises(InvalidInput, match=r"Deliverable\('delay-api'\)") as refused:
            made(task_id="t", reference="r", current="c", deliverable=deliverable)
        assert refused.value.field == "deliverable"
