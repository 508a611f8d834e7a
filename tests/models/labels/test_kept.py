"""Predictions as they are kept are what labels join to: real samples of a server, and real scores of partitions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.demo import flights
from airflow_pipeops.drift.engines.rows import read_rows
from airflow_pipeops.drift.sources import Files
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.models import artifact, storage
from airflow_pipeops.models.labels.joining import Columns
from airflow_pipeops.models.labels.kept import predictions_of
from airflow_pipeops.models.operators import JoinLabelsOperator
from airflow_pipeops.serving.api import protocol
from airflow_pipeops.serving.api import verification as verifying
from airflow_pipeops.serving.api.server import Service
from airflow_pipeops.serving.api.settings import Sampling, Served, Settings
from airflow_pipeops.serving.batch.store import ScoreStore
from tests.serving.api.estimators import figures, running
from tests.serving.batch.conftest import challenger, champion, february, lines, ordered, run

__all__ = ["challenger", "champion", "february", "ordered", "run"]

ASKED = Columns(("request_id", "row"), score="probability")
SCORED = Columns(("flight",), score="probability")
LATER = "2099-01-01T00:00:00Z"


def ask(loaded: artifact.Loaded, version: str, table: pd.DataFrame, root: Path) -> list[float]:
    """Let a server answer one request, and keep it."""
    features = loaded.manifest.features
    served = Served("flight-delay", version, "none", loaded.sha256)
    kept = Settings((served,), sampling=Sampling(root.as_uri(), file_seconds=3600))
    request = protocol.write_request(verifying.plain_columns(table, features), features)
    with running(Service([loaded], kept)) as client:
        answer = client.post("/v2/models/flight-delay/infer", json={**request, "id": "a"}).json()
        while ("pipeops_sampled_rows_total", "flight-delay", version) not in figures(client):
            time.sleep(0.02)
    return list(answer["outputs"][0]["data"])


def test_labels_join_to_the_samples_of_models_that_read_other_features(
    stored: Any, table: pd.DataFrame, context: Any, connections: Any, tmp_path: Path
) -> None:
    first = artifact.load(stored.uri, stored.sha256)
    fewer = [name for name in flights.FEATURES if name != "temp"]
    manifest = artifact.Manifest("flight-delay", artifact.features_of(table, fewer), flights.TARGET)
    model = flights.train(table, 0).fit(table[fewer], table[flights.TARGET])
    other = artifact.save(model, manifest, tmp_path / "models")
    second = artifact.load(other.uri, other.sha256)
    root, asked = tmp_path / "samples", table.head(3)
    said = {one.sha256: ask(one, version, asked, root) for one, version in ((first, "3"), (second, "4"))}
    assert len({tuple(pd.read_parquet(path).columns) for path in root.rglob("*.parquet")}) == 2

    labels = tmp_path / "labels.parquet"
    came = {"request_id": "a", "row": [0, 1, 2], "at": "2098-01-01T00:00:00Z", "label": [0, 1, 0]}
    pd.DataFrame(came).to_parquet(labels)
    given = {"samples": root.as_uri(), "model": "flight-delay"}

    def join(**more: Any) -> Any:
        return JoinLabelsOperator(
            task_id="join",
            predictions={**given, **more},
            labels=str(labels),
            key=ASKED.key,
            score=ASKED.score,
        ).execute(context)

    found = join()
    assert (found["counts"]["predictions"], found["counts"]["labelled"]) == (6, 6)
    rows = pd.read_parquet(storage.at(found["uri"])).sort_values("row")
    assert {sha: group["score"].tolist() for sha, group in rows.groupby("sha256")} == said
    assert join(version="3")["counts"]["predictions"] == 3
    for odd, why in (
        ({"since": LATER}, "there are no samples of flight-delay below"),
        ({"model": ""}, "predictions name no model"),
        ({"until": LATER}, "predictions have the unknown until"),
        ({"since": "soon"}, "since 'soon' is no time"),
    ):
        with pytest.raises(AirflowFailException, match=why):
            join(**odd)


def test_labels_join_to_the_scores_of_partitions_and_of_shadows_by_what_readers_saw_last(
    run: Any, february: Path, champion: Any, challenger: Any, context: Any, connections: Any, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    facts = run(shadows=(challenger,), carry=("day",))
    frame = pd.read_parquet(february)
    labels = tmp_path / "labels.parquet"
    frame[["flight"]].assign(at="2098-01-01T00:00:00Z", label=frame["late"]).to_parquet(labels)
    joined = JoinLabelsOperator(
        task_id="join",
        predictions={"scores": "flight-delay"},
        labels=str(labels),
        key="flight",
        score="probability",
    ).execute(context)
    assert (joined["counts"]["predictions"], joined["counts"]["labelled"]) == (6000, 6000)

    def kept(columns: Columns = SCORED, **more: Any) -> pd.DataFrame:
        return predictions_of({"scores": "flight-delay", **more}, columns, lambda _: store)[0]

    def of(model: Any) -> list[float]:
        found = kept()
        return found[found["sha256"] == model.sha256].sort_values("flight")["probability"].tolist()

    def shown(one: dict[str, Any]) -> list[float]:
        return lines(one).sort_values("flight")["probability"].tolist()

    assert of(champion) == shown(facts)
    assert of(challenger) == shown(facts["shadows"][0])
    flights.write(frame.assign(hour=(frame["hour"] + 7) % 24), february)
    corrected = run(carry=("day",))
    assert corrected["outcome"] == "scored"
    assert of(champion) == shown(corrected) != shown(facts), "the rows were corrected, and scored again"
    flights.write(frame, february)
    assert run(carry=("day",))["outcome"] == "found"
    assert of(champion) == shown(facts), (
        "the correction was taken back, and readers see the first scores again"
    )

    by_day = kept(Columns(("flight",), at="day", score="probability"))
    assert set(by_day["day"]) == set(frame["day"]), (
        "a time that was carried beside the scores is that of the row"
    )
    with pytest.raises(NotFound, match=r"there are no scores of flight-delay below .* since 2099"):
        kept(since=LATER)
    with pytest.raises(InvalidInput, match="the scores of partition 2013-02 has no column 'score'"):
        kept(Columns(("flight",)))
    for path in store.rglob("part-*.parquet"):
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InvalidInput, match="has been altered"):
        kept()


def test_scores_that_no_reader_has_seen_yet_come_after_those_that_one_has(
    run: Any, february: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that is killed between its manifest and the entry of the history."""
    facts = run()
    frame = pd.read_parquet(february)
    flights.write(frame.assign(hour=(frame["hour"] + 7) % 24), february)
    with monkeypatch.context() as patch:
        patch.setattr(ScoreStore, "show", None)
        with pytest.raises(TypeError):
            run()

    def kept() -> list[float]:
        found, _ = predictions_of({"scores": "flight-delay"}, SCORED, lambda _: tmp_path / "store")
        return found.sort_values("flight")["probability"].tolist()

    assert kept() == lines(facts).sort_values("flight")["probability"].tolist()
    again = run()
    assert again["outcome"] == "found"
    assert kept() == lines(again).sort_values("flight")["probability"].tolist()


def test_files_may_differ_in_columns_that_nobody_asks_for(tmp_path: Path) -> None:
    for number, more in enumerate(({"temp": 1.5}, {"wind": "north"})):
        pd.DataFrame({"key": [number], **more, "score": 0.5}).to_parquet(tmp_path / f"{number}.parquet")
    both = Files(str(tmp_path / "*.parquet"))
    found = read_rows(both, "predictions", columns=["score", "key"])
    assert (list(found.columns), found["key"].tolist()) == (["score", "key"], [0, 1])
    for columns in ((), ("key", "wind")):
        with pytest.raises(InvalidInput, match=r"1\.parquet and 0\.parquet differ in the columns"):
            read_rows(both, "predictions", columns=columns)
