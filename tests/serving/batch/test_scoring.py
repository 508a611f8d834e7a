"""A partition is scored once: found again, refused, compared, rolled back, and never half in place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import Conflict, DataRejected, InvalidInput, ModelRejected
from airflow_pipeops.models import artifact, storage
from airflow_pipeops.serving.batch import scan, scoring
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.manifest import Manifest, Pinned
from airflow_pipeops.serving.batch.scoring import Order, score
from airflow_pipeops.serving.batch.store import ScoreStore
from tests.serving.batch.conftest import lines, partition

Run = Callable[..., dict[str, Any]]


def files(root: Path) -> list[str]:
    """What is in place, and beside it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_scores_are_those_of_the_model(run: Run, champion: Pinned, february: Path) -> None:
    facts = run(carry=("day",))
    assert (facts["outcome"], facts["rows"], facts["shown"], facts["current"]) == ("scored", 3000, True, 1)
    frame, found = pd.read_parquet(february), lines(facts)
    model = artifact.load(champion.artifact_uri, champion.sha256).model
    naive = model.predict_proba(frame[list(flights.FEATURES)])[:, 1]
    assert list(found.columns) == ["flight", "day", "probability", "fallback"]
    np.testing.assert_array_equal(found.set_index("flight")["probability"].loc[frame["flight"]], naive)
    assert facts["scores"]["probability"]["mean"] == pytest.approx(naive.mean())


def test_a_retry_finds_it_and_the_order_of_rows_does_not_matter(
    run: Run, february: Path, tmp_path: Path
) -> None:
    first = run()
    before = files(tmp_path / "store")
    again = run()
    assert (again["outcome"], again["output_digest"]) == ("found", first["output_digest"])
    flights.write(pd.read_parquet(february).sample(frac=1, random_state=1), february)
    assert run()["key"] == first["key"], "the same rows in another order"
    assert files(tmp_path / "store") == before


def test_corrected_rows_are_scored_again(run: Run, february: Path) -> None:
    first = run()
    frame = pd.read_parquet(february)
    # Two rows exchange a feature: each column alone holds what it held before.
    frame.loc[[0, 1], "distance"] = frame.loc[[1, 0], "distance"].to_numpy()
    flights.write(frame, february)
    second = run()
    assert (second["outcome"], second["current"]) == ("scored", 2)
    assert second["key"] != first["key"]


def test_files_beside_and_half_written_are_not_what_readers_see(run: Run, tmp_path: Path) -> None:
    facts = run()
    folder = Path(facts["manifest"].removeprefix("file://")).parent
    (folder / "part-dead-00000000.parquet").write_bytes(b"half of a file")
    again = run()
    assert again["outcome"] == "found"
    assert len(list(folder.iterdir())) == 2, "what a killed attempt has left is taken away"


def test_scores_that_were_altered_are_a_finding(run: Run) -> None:
    facts = run()
    folder = Path(facts["manifest"].removeprefix("file://")).parent
    part = next(folder.glob("*.parquet"))
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(Conflict, match="not what their manifest says") as caught:
        run()
    assert not caught.value.retryable
    part.unlink()
    with pytest.raises(Conflict, match="is missing"):
        run()


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the first row the number of the last."""
    return frame.assign(flight=frame["flight"].where(frame.index > 0, frame["flight"].max()))


def unnamed(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the number of a row away."""
    return frame.assign(flight=frame["flight"].astype("Int64").mask(frame.index == 3))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda frame: frame.drop(columns="distance"), "there is no column 'distance'"),
        (lambda frame: frame.assign(distance=frame["distance"].astype(str)), "'distance' holds text"),
        (lambda frame: frame.assign(distance=frame["distance"] + 0.5), "'distance' holds number"),
        (twice, "1 values of 'flight' name more than one row"),
        (unnamed, "1 rows have no 'flight'"),
        (lambda frame: frame.head(0), "it has 0 rows"),
    ],
)
def test_rows_that_are_not_what_they_should_be_are_not_scored(
    change: Callable[[pd.DataFrame], pd.DataFrame], why: str, run: Run, february: Path, tmp_path: Path
) -> None:
    change(pd.read_parquet(february)).to_parquet(february)
    with pytest.raises(DataRejected, match=why):
        run()
    assert not (tmp_path / "store").exists(), "nothing is written"


def test_a_suite_and_skew_are_part_of_the_contract(
    run: Run, champion: Pinned, february: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataRejected, match="expect_column_values_to_be_between"):
        run(
            expectations=[
                {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "max_value": 12}}
            ]
        )
    with pytest.raises(DataRejected, match="needs all rows in memory"):
        run(expectations=flights.EXPECTATIONS, expectation_rows=2999)
    reference = tmp_path / "reference.parquet"
    moved = pd.read_parquet(february)
    moved[["distance", *flights.WEATHER]] += 5000
    moved.to_parquet(reference)
    learned = replace(champion, reference_uri=str(reference))
    with pytest.raises(DataRejected, match="features have drifted since the training: distance"):
        run(model=learned, contract=ScoreContract(on_skew="fail"))
    facts = run(model=learned, expectations=flights.EXPECTATIONS)
    assert facts["outcome"] == "scored"
    assert "distance" in facts["notes"][0]


def test_scores_that_are_not_what_they_should_be_are_kept_and_not_shown(
    run: Run, challenger: Pinned, tmp_path: Path
) -> None:
    shown = run()
    with pytest.raises(ModelRejected, match="are not shown: scores lie between") as caught:
        run(model=challenger, rescore="all", contract=ScoreContract(scores=(0.0, 0.001)))
    assert "model=" in str(caught.value)
    with pytest.raises(ModelRejected):  # and no retry makes it anything else
        run(model=challenger, rescore="all", contract=ScoreContract(scores=(0.0, 0.001)))
    store = ScoreStore(tmp_path / "store", "flight-delay")
    assert store.current("2013-02").key == shown["key"]


def test_another_model_scores_what_it_is_told_to_and_back_again_without_scoring(
    run: Run, champion: Pinned, challenger: Pinned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    later = replace(challenger, pinned_at="2026-02-01")
    kept = run(model=later)
    assert (kept["outcome"], kept["version"], kept["shown"]) == ("kept", "1", False)
    assert run(model=later, rescore="since", since="2013-03")["outcome"] == "kept"
    second = run(model=later, rescore="since", since="2013-02")
    assert (second["outcome"], second["current"]) == ("scored", 2)
    late = run(model=champion, rescore="all")
    assert (late["outcome"], late["shown"]) == ("superseded", False), "it was named before the other one"
    monkeypatch.setattr(scan.Scorer, "score", None)  # nothing is scored any more
    back = run(model=replace(champion, pinned_at="2026-03-01"), rescore="all")
    assert (back["outcome"], back["current"], back["key"]) == ("found", 3, first["key"])
    history = ScoreStore(tmp_path / "store", "flight-delay").history("2013-02")
    assert [one.model.version for one in history] == ["1", "2", "1"]


def test_a_challenger_scores_in_the_same_scan_and_is_not_shown(
    run: Run, champion: Pinned, challenger: Pinned, tmp_path: Path
) -> None:
    facts = run(shadows=(challenger,))
    (shadow,) = facts["shadows"]
    assert (shadow["outcome"], shadow["version"]) == ("scored", "2")
    assert len(lines({"manifest": shadow["manifest"]})) == 3000
    store = ScoreStore(tmp_path / "store", "flight-delay")
    assert [one.model.version for one in store.history("2013-02")] == ["1"]
    broken = replace(challenger, sha256="e" * 64)
    again = run(shadows=(challenger, broken))
    assert [one["outcome"] for one in again["shadows"]] == ["found", "failed"]
    assert again["outcome"] == "found", "a challenger that cannot be loaded fails nothing"
    promoted = run(model=replace(challenger, pinned_at="2026-02-01"), rescore="all")
    assert promoted["outcome"] == "found", (
        "what the challenger scored as a shadow is there when it is promoted"
    )


def test_a_suite_that_comes_later_is_judged_and_nothing_is_scored_again(
    run: Run, champion: Pinned, february: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hours(most: int, severity: str = "critical") -> list[dict[str, Any]]:
        between = {"column": "hour", "max_value": most}
        kind = "expect_column_values_to_be_between"
        return [{"type": kind, "kwargs": between, "severity": severity}]

    first = run()
    assert first["suite"] is None
    monkeypatch.setattr(scan.Scorer, "score", None)  # nothing is scored any more
    with pytest.raises(
        DataRejected, match=r"was scored before, and its rows do not pass the suite: .*between"
    ):
        run(expectations=hours(12))
    store = ScoreStore(tmp_path / "store", "flight-delay")
    assert store.current("2013-02").key == first["key"], "readers see what they saw"
    passed = run(expectations=hours(23))
    assert (passed["outcome"], passed["key"], passed["suite"] is None) == ("found", first["key"], False)
    noted = run(expectations=hours(12, "warning"))
    assert "between" in noted["notes"][-1]
    assert noted["suite"] != passed["suite"]

    judged: list[Any] = []
    judge = scoring.before.expected
    monkeypatch.setattr(scoring.before, "expected", lambda *given: judged.append(given) or judge(*given))
    again = run(expectations=hours(12, "warning"))
    assert (again["suite"], again["notes"], judged) == (noted["suite"], noted["notes"], []), "once is enough"
    with pytest.raises(DataRejected, match="do not pass the suite"):
        run(expectations=hours(12))
    assert len(judged) == 1
    assert run()["suite"] is None, "nobody has asked"

    def written_to(*given: Any) -> Any:
        flights.write(partition(2, 3500), february)
        return judge(*given)

    monkeypatch.setattr(scoring.before, "expected", written_to)
    with pytest.raises(Conflict, match="3,000 rows before, 3,500 now"):
        run(expectations=hours(22))


def test_scores_say_which_suite_their_rows_have_passed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = run(expectations=flights.EXPECTATIONS)
    assert manifest_of(facts).suite == facts["suite"] != ""
    monkeypatch.setattr(scoring.before, "expected", None)  # it is known
    shuffled = list(reversed(flights.EXPECTATIONS))
    assert run(expectations=shuffled)["suite"] == run()["suite"] == facts["suite"]


class Random:
    """A model that says something else each time, or each time that it is loaded."""

    def __init__(self, *, when_loaded: bool) -> None:
        self.classes_ = np.array([0, 1])
        self.offset = np.random.default_rng().random() / 4 if when_loaded else None

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        offset = np.random.default_rng().random() / 4 if self.offset is None else self.offset
        return np.full((len(frame), 2), 0.5 + offset)


def fixed(model: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an artifact hold this model."""
    load = artifact.load

    def loaded(uri: str, sha256: str, **more: Any) -> Any:
        return replace(load(uri, sha256, **more), model=model())

    monkeypatch.setattr(artifact, "load", loaded)


def test_a_model_that_does_not_repeat_itself_scores_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fixed(lambda: Random(when_loaded=False), monkeypatch)
    with pytest.raises(InvalidInput, match="gives other scores for the same rows"):
        run()
    assert files(tmp_path / "store") == []


def test_one_that_differs_between_two_attempts_is_a_finding(
    run: Run, ordered: Callable[..., Order], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two attempts have begun; the slower one finds in place what it has, or something else."""
    contract = ScoreContract()
    put = ScoreStore.put
    between: list[dict[str, Any]] = []

    def slower(self: ScoreStore, manifest: Any) -> bool:
        if not between:
            between.append({})
            between[0] = run(contract=contract)
        return put(self, manifest)

    monkeypatch.setattr(ScoreStore, "put", slower)
    assert score(ordered(), tmp_path / "store", print)["outcome"] == "found"
    assert between[0]["outcome"] == "scored"

    between.clear()
    fixed(lambda: Random(when_loaded=True), monkeypatch)
    contract = ScoreContract(fallback=0.5)
    with pytest.raises(Conflict, match="does not repeat itself") as caught:
        score(ordered(contract=contract), tmp_path / "store", print)
    assert not caught.value.retryable
    assert len([name for name in files(tmp_path / "store") if name.endswith("_manifest.json")]) == 2


def test_two_attempts_at_once_leave_one_output(ordered: Callable[..., Order], tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    together = threading.Barrier(4)

    def attempt() -> None:
        together.wait()
        found.append(score(ordered(), tmp_path / "store", print))

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(one["key"], one["output_digest"]) for one in found}) == 1
    assert len(found) == 4
    kept = files(tmp_path / "store")
    assert len([name for name in kept if name.endswith(".parquet")]) == 1
    assert len([name for name in kept if "current/" in name]) == 1


def test_a_partition_that_changes_meanwhile_is_refused(
    run: Run, february: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judge = scoring._Run._judge_rows

    def written_to(self: Any, *given: Any) -> None:
        judge(self, *given)
        flights.write(partition(2, 3500), february)

    monkeypatch.setattr(scoring._Run, "_judge_rows", written_to)
    with pytest.raises(Conflict, match="3,000 rows before, 3,500 now") as caught:
        run()
    assert caught.value.retryable
    assert files(tmp_path / "store") == []
    monkeypatch.setattr(scoring._Run, "_judge_rows", judge)
    assert run()["rows"] == 3500


def test_a_file_that_is_still_being_written_is_refused(run: Run, february: Path, tmp_path: Path) -> None:
    february.write_bytes(february.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match="damaged or not parquet") as caught:
        run()
    assert "write it to another name first" in str(caught.value)


def test_rows_that_a_model_refuses_have_a_fallback_or_none(
    run: Run, february: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    frame = pd.read_parquet(february)
    numbers = ["hour", "distance", *flights.WEATHER]
    whole = frame.dropna()
    pick = FunctionTransformer(lambda given: given[numbers])
    picky = make_pipeline(pick, LogisticRegression()).fit(whole[list(flights.FEATURES)], whole["late"])
    fixed(lambda: picky, monkeypatch)
    refused = int(frame[list(flights.FEATURES)].isna().any(axis=1).sum())
    assert refused
    with pytest.raises(ModelRejected, match=f"{refused} of 3,000 rows .* have no score"):
        run()
    told = {"fallbacks": 0.5, "fallback": 0.25}
    facts = run(contract=ScoreContract.from_json(told))
    found = lines(facts)
    assert facts["scores"]["probability"]["fallbacks"] == refused == found["fallback"].sum()
    assert (found.loc[found["fallback"], "probability"] == 0.25).all()


def test_csv_has_the_scores_of_parquet(run: Run, february: Path, tmp_path: Path) -> None:
    facts = run()
    csv = tmp_path / "2013-02.csv"
    pd.read_parquet(february).to_csv(csv, index=False)
    again = run(data=str(csv))
    assert (again["outcome"], again["key"]) == ("found", facts["key"])


def test_a_later_partition_is_held_against_the_first(run: Run, tmp_path: Path) -> None:
    contract = ScoreContract(shift=0.1)
    assert run(contract=contract)["shown"]
    far = flights.write(partition(3, 2000).assign(hour=23, precip=5.0), tmp_path / "data" / "far.parquet")
    with pytest.raises(ModelRejected, match="have moved by a PSI of"):
        run(contract=contract, partition="2013-03", data=str(far))
    near = flights.write(partition(3, 2000), tmp_path / "data" / "near.parquet")
    assert run(contract=contract, partition="2013-03", data=str(near))["shown"]


def test_a_partition_without_a_score_is_nothing_to_hold_others_against(
    run: Run, february: Path, tmp_path: Path
) -> None:
    contract = ScoreContract(rows=(0, None), shift=0.1)
    empty = flights.write(pd.read_parquet(february).head(0), tmp_path / "data" / "empty.parquet")
    facts = run(contract=contract, partition="2013-01", data=str(empty))
    assert (facts["outcome"], facts["rows"], facts["shown"]) == ("scored", 0, True)
    assert run(contract=contract)["shown"]
    near = flights.write(partition(3, 2000), tmp_path / "data" / "near.parquet")
    assert run(contract=contract, partition="2013-03", data=str(near))["shown"]


def test_what_is_carried_is_no_feature_that_drifts(run: Run, champion: Pinned, february: Path) -> None:
    frame = pd.read_parquet(february)
    reference = february.with_name("reference.parquet")
    frame.assign(day="2012-12-31").to_parquet(reference)
    learned = replace(champion, reference_uri=str(reference))
    facts = run(model=learned, carry=("day",), contract=ScoreContract(on_skew="fail"))
    assert (facts["outcome"], facts["notes"]) == ("scored", [])


def test_a_challenger_that_is_named_twice_scores_once(run: Run, challenger: Pinned) -> None:
    (shadow,) = run(shadows=(challenger, challenger))["shadows"]
    assert shadow["outcome"] == "scored"


def test_what_is_asked_of_a_run_is_checked_before_anything(run: Run, tmp_path: Path) -> None:
    for written in ("probability", "fallback"):
        with pytest.raises(InvalidInput, match=f"writes '{written}' itself"):
            run(carry=(written,))
    with pytest.raises(InvalidInput, match="no column names a row"):
        run(key=())
    with pytest.raises(InvalidInput, match="cannot be the name of a folder"):
        run(partition="..")
    with pytest.raises(DataRejected, match="there is no column 'nonesuch'"):
        run(key=("nonesuch",))


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_without_a_score_fixes_no_bin(
    first: bool, run: Run, february: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers have the bins of the first of them, wherever rows without one stand."""
    flights.write(pd.read_parquet(february).sort_values("hour"), february)

    class Numbers:
        def predict(self, frame: pd.DataFrame) -> Any:
            early = frame["hour"].to_numpy() < 18
            return np.where(early == first, np.nan, frame["distance"].to_numpy())

    monkeypatch.setattr("airflow_pipeops.serving.batch.rows.BATCH", 500)
    fixed(Numbers, monkeypatch)
    facts = run(contract=ScoreContract(fallbacks=1.0, null_scores=1.0))
    (scored,) = manifest_of(facts).scored.values()
    assert len(scored["edges"]) > 1
    assert sum(scored["counts"]) == scored["rows"] - scored["nulls"] > 0


def manifest_of(facts: dict[str, Any]) -> Manifest:
    return Manifest.from_bytes(storage.get(facts["manifest"]), facts["manifest"])
