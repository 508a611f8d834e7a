"""A challenger's shadow scores become an evaluation once labels are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo import flights
from airflow_pipeops.models.performance import measure
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.shadows import EvaluateShadowOperator
from tests.serving.batch.conftest import lines

MODEL = Deliverable("flight-delay")


def test_labels_make_an_evaluation_of_shadow_scores(
    run: Any, context: Any, challenger: Pinned, february: Path
) -> None:
    frame = pd.read_parquet(february)
    late = frame["late"].astype("float64").where(frame.index % 10 > 0)
    flights.write(frame.assign(late=late), february)
    facts = {**run(shadows=(challenger,), carry=("late", "day")), "record_id": "a" * 64}

    def evaluate(**more: Any) -> dict[str, Any]:
        given = {
            "scores": [facts],
            "challenger_sha256": challenger.sha256,
            "label_column": "late",
            "key": "flight",
        }
        operator = EvaluateShadowOperator(task_id="judge", deliverable=MODEL, **{**given, **more})
        return operator.execute(context)

    found = evaluate(cluster="day")
    assert (found["rows"], found["unlabelled"], found["units"]) == (2700, 300, 28)
    shown = lines(facts)
    known = shown[shown["late"].notna()]
    value = measure("roc_auc", np.asarray(known["late"]), np.asarray(known["probability"])).value
    assert found["champion"] == pytest.approx(value)
    assert found["gain"] == pytest.approx(found["challenger"] - found["champion"])
    record = context["outlet_events"][MODEL.asset("evaluation")].extra
    assert (record["parents"], record["body"]["outcome"]) == (["a" * 64], found["outcome"])

    with pytest.raises(AirflowFailException, match="the challenger has no scores of partition 2013-02"):
        evaluate(challenger_sha256="e" * 64)
    with pytest.raises(AirflowFailException, match="several champions"):
        evaluate(scores=[facts, {**facts, "sha256": "f" * 64}])
    with pytest.raises(AirflowFailException, match="nonesuch"):
        evaluate(label_column="nonesuch")
    with pytest.raises(AirflowFailException, match="day names more than one row of partition 2013-02"):
        evaluate(key="day")
