"""What a challenger scored beside an endpoint becomes an evaluation against what was answered, once labels are there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact, samples
from airflow_pipeops.models.operators import JoinLabelsOperator
from airflow_pipeops.models.performance import measure
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.times import predicted_after
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Sampling, Served, Settings
from airflow_pipeops.serving.shadows import EvaluateShadowOperator
from tests.serving.api.estimators import figures, running

MODEL = Deliverable("flight-delay")
DAY = 24 * 3600 * 1000
FIRST = int(pd.Timestamp("2026-03-01T09:00", tz="UTC").timestamp() * 1000)
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def other(table: pd.DataFrame, tmp_path: Path) -> artifact.Stored:
    """A challenger that learned from rows up to the second of March."""
    return challenger(table, tmp_path, "2026-03-02 00:00:00")


def challenger(table: pd.DataFrame, root: Path, until: str) -> artifact.Stored:
    june = flights.features(flights.month(6, 1500))
    manifest = artifact.Manifest(
        MODEL.name, artifact.features_of(table, flights.FEATURES), flights.TARGET, time_column="day",
        trained_until=until,
    )  # fmt: skip
    return artifact.save(flights.train(june, 1), manifest, root / "models")


@pytest.fixture
def evaluate(
    stored: artifact.Stored, other: artifact.Stored, context: Any, connections: Any, tmp_path: Path
) -> Evaluate:
    """Join labels to samples, and evaluate; the first version is the champion."""
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    for one in (stored, other):
        registry.register(MODEL.name, one.uri, one.sha256)
    registry.set_alias(MODEL.name, "champion", "1")
    context["inlet_events"].setdefault(MODEL.asset("evaluation"), [])

    def act(labels: pd.DataFrame, **more: Any) -> dict[str, Any]:
        labels.to_parquet(tmp_path / "labels.parquet")
        joined = JoinLabelsOperator(
            task_id="join",
            predictions={"samples": (tmp_path / "samples").as_uri(), "model": MODEL.name},
            labels=str(tmp_path / "labels.parquet"),
            key=("request_id", "row"),
            score="probability",
        ).execute(context)
        given = {"challenger_sha256": other.sha256, "cluster": "at", **more}
        return EvaluateShadowOperator(
            task_id="judge", labelled={**joined, "record_id": "a" * 64}, model=MODEL.name, deliverable=MODEL, **given
        ).execute(context)  # fmt: skip

    return act


def labels(ids: Any, values: Any) -> pd.DataFrame:
    return pd.DataFrame({"request_id": ids, "row": 0, "at": "2098-01-01T00:00:00Z", "label": values})


@pytest.mark.timeout(300)
def test_samples_of_a_server_and_its_shadow_are_compared(
    stored: Any, other: Any, table: pd.DataFrame, evaluate: Evaluate, context: Any, tmp_path: Path
) -> None:
    loaded = artifact.load(stored.uri, stored.sha256)
    asked, features = table.head(300), loaded.manifest.features
    served = Served(MODEL.name, "1", stored.uri, stored.sha256)
    shadow = Served(MODEL.name, "2", other.uri, other.sha256, "shadow")
    kept = Settings((served, shadow), sampling=Sampling((tmp_path / "samples").as_uri(), file_rows=300))
    request = protocol.write_request(verifying.plain_columns(asked, features), features)
    with running(Service([loaded], kept)) as client:
        answer = client.post(f"/v2/models/{MODEL.name}/infer", json={**request, "id": "a"}).json()
        while figures(client).get(("pipeops_sampled_rows_total", MODEL.name, "2")) != 300:
            time.sleep(0.05)
    came = labels("a", asked["late"]).assign(row=range(300))
    found = evaluate(came, cluster=())
    said = np.asarray(answer["outputs"][0]["data"])
    shadowed = artifact.load(other.uri, other.sha256).model.predict_proba(asked[list(flights.FEATURES)])[:, 1]
    late = asked["late"].to_numpy()
    assert found["rows"] == 300
    assert found["champion"] == pytest.approx(measure("roc_auc", late, said).value)
    assert found["challenger"] == pytest.approx(measure("roc_auc", late, shadowed).value)
    assert (found["challenger_sha256"], found["champion_sha256"]) == (other.sha256, stored.sha256)
    record = context["outlet_events"][MODEL.asset("evaluation")].extra
    assert (record["parents"], record["body"]["outcome"]) == (["a" * 64], found["outcome"])


def write(root: Path, one: artifact.Stored, role: str, scores: dict[str, float], **lost: int) -> None:
    """Keep samples, a request each; the id begins with the number of its day."""
    kept = [
        samples.Scored(name, FIRST + int(name.split("-")[0]) * DAY, {"x": [1]}, {"probability": [score]}, 1)
        for name, score in scores.items()
    ]
    of: dict[str, Any] = {"model": MODEL.name, "version": role, "sha256": one.sha256, "role": role}
    at = [one.at for one in kept]
    part = samples.Part(**of, file="", file_sha256="", rows=0, first_at=min(at), last_at=max(at), instance="i",
                        sequence=0, lost_rows=lost)  # fmt: skip
    samples.write(
        root / "samples", samples.table(kept, of, samples.schema({"x": "INT64"}, ["probability"])), part
    )


@pytest.fixture
def days() -> tuple[pd.DataFrame, dict[str, float], dict[str, float]]:
    """Fifty requests on each of 30 days: labels, what was answered by chance, and a shadow that knows much."""
    rng = np.random.default_rng(0)
    ids = [f"{day}-{number}" for day in range(2, 32) for number in range(50)]
    late = rng.integers(0, 2, len(ids))
    answered = dict(zip(ids, rng.uniform(size=len(ids)), strict=True))
    shadowed = dict(zip(ids, late * 0.5 + rng.uniform(size=len(ids)), strict=True))
    return labels(ids, late), answered, shadowed


def test_days_decide_and_what_was_asked_before_the_challenger_came_counts_for_nothing(
    stored: Any, other: Any, days: Any, evaluate: Evaluate, tmp_path: Path
) -> None:
    came, answered, shadowed = days
    earlier = {f"{day}-old": 0.9 for day in range(2)}
    write(tmp_path, stored, "answer", {**earlier, **answered})
    write(tmp_path, other, "shadow", shadowed)
    found = evaluate(pd.concat([came, labels(list(earlier), 0)], ignore_index=True))
    assert (found["outcome"], found["promote"], found["units"], found["rows"]) == ("better", True, 30, 1500)
    assert (found["unit"], found["unscored"]["rows"]) == ("at", 0)
    assert (found["partitions"][0], len(found["partitions"])) == ("2026-03-03", 30)
    assert evaluate(came.head(700))["outcome"] in ("better", "cannot tell")
    assert evaluate(came.head(700))["unlabelled"] == 800
    planned = evaluate(came, planned_units=30)
    assert planned["interval"][0] < found["interval"][0]
    with pytest.raises(AirflowFailException, match="is no version of 'flight-delay'"):
        evaluate(came, challenger_sha256="e" * 64)
    nothing = labels(list(earlier), 0)
    with pytest.raises(AirflowFailException, match="no row has a 'label' yet"):
        evaluate(nothing)
    with pytest.raises(AirflowFailException, match="is the champion itself"):
        evaluate(came, challenger_sha256=stored.sha256)


def test_a_challenger_that_was_not_asked_at_the_time_is_said_so(
    stored: Any, days: Any, evaluate: Evaluate, tmp_path: Path
) -> None:
    write(tmp_path, stored, "answer", days[1])
    with pytest.raises(AirflowFailException, match="there is no time in which both"):
        evaluate(days[0])


@pytest.mark.parametrize(
    ("share", "lost", "outcome", "why"),
    [
        (0.005, {"shadow_busy": 8}, "better", "Left out: 8 of 1,500"),
        (0.005, {"shadow_busy": 7, "shadow_failed": 1}, "invalid", "leaves out hard rows"),
        (0.02, {"shadow_busy": 30}, "invalid", "and 1.00% may"),
    ],
)
def test_rows_that_the_challenger_was_never_asked_for_are_no_hard_rows_but_must_be_few(
    stored: Any, other: Any, days: Any, evaluate: Evaluate, tmp_path: Path, share: float, lost: Any,
    outcome: str, why: str,
) -> None:  # fmt: skip
    came, answered, shadowed = days
    gone = list(shadowed)[100 : 100 + round(share * len(shadowed))]
    write(tmp_path, stored, "answer", answered)
    write(tmp_path, other, "shadow", {name: s for name, s in shadowed.items() if name not in gone}, **lost)
    found = evaluate(came)
    assert (found["outcome"], found["unscored"]["challenger"]) == (outcome, len(gone))
    assert why in found["reason"]


def test_a_challenger_that_may_have_seen_the_labels_is_not_compared(
    stored: Any, other: Any, table: pd.DataFrame, days: Any, evaluate: Evaluate, tmp_path: Path
) -> None:
    came, answered, shadowed = days
    for until, why in (
        (
            "2026-03-03 00:00:00",
            "learned from rows up to 2026-03-03 00:00:00, and the held-out rows do not all come",
        ),
        ("17", "learned from rows up to 17, which the held-out 'at' cannot be compared with"),
    ):
        late = challenger(table, tmp_path, until)
        Registry(f"sqlite:///{tmp_path}/mlflow.db").register(MODEL.name, late.uri, late.sha256)
        write(tmp_path / until, stored, "answer", answered)
        write(tmp_path / until, late, "shadow", shadowed)
        (tmp_path / until / "samples").rename(tmp_path / "samples")
        found = evaluate(came, challenger_sha256=late.sha256)
        assert (found["outcome"], found["promote"]) == ("invalid", False)
        assert why in found["reason"]
        (tmp_path / "samples").rename(tmp_path / until / "judged")


@pytest.mark.parametrize(
    ("until", "at", "after"),
    [
        (
            "2026-03-03 00:00:00",
            "2026-03-03T23:59:59Z",
            False,
        ),  # a day that it has learned from, until its end
        ("2026-03-03 00:00:00", "2026-03-04T00:00:00Z", True),
        ("2026-03-03 10:00:00", "2026-03-03T10:00:00Z", False),
        ("2026-03-03 10:00:00+02:00", "2026-03-03T08:00:01Z", True),
        ("17", "2026-03-03T08:00:00Z", None),
    ],
)
def test_midnight_is_a_whole_day(until: str, at: str, after: bool | None) -> None:
    assert (
        predicted_after(pd.Series([pd.Timestamp(at), pd.Timestamp("2027-01-01", tz="UTC")]), until) is after
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"labelled": {}, "key": "k", "model": "m"}, "key"),
        ({"labelled": {}, "scores": {"a": 1}, "model": "m"}, "scores"),
        ({"labelled": {}}, "model"),
        ({"scores": [], "key": "k"}, "label_column"),
    ],
)
def test_rows_are_named_in_one_way(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        EvaluateShadowOperator(task_id="t", challenger_sha256="a", cluster=(), **given)
    assert caught.value.field == field
