"""From predictions and late labels to both sides taken back, by the operators, on the flights of autumn 2013."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.history import since_retrain
from airflow_pipeops.governor.records import read_history
from airflow_pipeops.models import artifact
from airflow_pipeops.models.desired import ModelInGit
from airflow_pipeops.models.operators import (
    FinishModelRollbackOperator,
    JoinLabelsOperator,
    ModelGuardOperator,
    ModelRollbackOperator,
    RegisterModelOperator,
)
from airflow_pipeops.models.operators.arguments import figure
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.rollback.guard import GuardPolicy
from airflow_pipeops.serving.api.operators import VerifyModelOperator
from airflow_pipeops.serving.batch.operators import BatchScoreOperator
from tests.build.test_registry import client, image
from tests.git.conftest import Remote, git
from tests.ledgers import checkpointed, event
from tests.models.conftest import Server
from tests.registry import LOGIN, PASSWORD, registry

MODEL = Deliverable("flight-delay")
HERE = {"deliverable": MODEL, "environment": "production"}
FILE = "model.yaml"
DESIRED = ModelInGit(FILE, {"uri": "artifact_uri", "sha256": "sha256", "version": "version"})


@pytest.fixture(scope="module")
def year(tmp_path_factory) -> SimpleNamespace:
    """Two models of the year; what was predicted in October and November; labels; today's data."""
    folder = tmp_path_factory.mktemp("year")
    month = {n: flights.features(flights.month(n, 6000)) for n in (5, 6, 8, 9, 10, 11)}
    models = {}
    for name, trained in (("summer", (5, 6)), ("autumn", (8, 9))):
        data = pd.concat([month[n] for n in trained])
        manifest = artifact.Manifest(
            MODEL.name, artifact.features_of(data, flights.FEATURES), flights.TARGET,
            time_column="day", trained_until=str(data["day"].max()),
        )  # fmt: skip
        models[name] = artifact.save(flights.train(data, 0), manifest, folder / "artifacts")
    rows = pd.concat([month[10], month[11]], ignore_index=True)
    rows = rows.assign(key=[f"flight {number}" for number in rows.index])
    stored = models["autumn"]
    score = artifact.load(stored.uri, stored.sha256).model.predict_proba(rows[list(flights.FEATURES)])[:, 1]
    made = pd.DataFrame({"key": rows["key"], "at": rows["day"], "sha256": stored.sha256, "score": score})
    at = (pd.to_datetime(rows["day"]) + timedelta(days=1)).dt.strftime("%Y-%m-%d")
    labels = pd.DataFrame({"key": rows["key"], "at": at, "label": rows["late"]})
    for name, frame in (("made", made), ("labels", labels), ("rows", rows.drop(columns=["late", "day"]))):
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    month[11].to_parquet(folder / "today.parquet", index=False)
    month[11].drop(columns="carrier").to_parquet(folder / "no_carrier.parquet", index=False)
    return SimpleNamespace(folder=folder, **models)


@pytest.fixture
def live(year, connections, context, tmp_path) -> SimpleNamespace:
    """The model of autumn runs after that of summer: in Git, in the registry, and in the records of their releases."""
    remote = Remote(tmp_path / "remote.git", tmp_path / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    connections("pipeops_gitops_repo", "git_repository", str(remote.path))
    registry, events, models = Registry(f"sqlite:///{tmp_path}/mlflow.db"), [], []
    for number, stored in (("1", year.summer), ("2", year.autumn)):
        registry.register(MODEL.name, stored.uri, stored.sha256)
        remote.put(FILE, f'uri: {stored.uri}\nsha256: "{stored.sha256}"\nversion: "{number}"\n')
        commit = remote.commit(f"Deploy {number}")
        record = Record("release", MODEL.name, {"app": "m", "revision": commit}, environment="production")
        at = datetime(2013, int(number), 1, tzinfo=timezone.utc)
        events.append(event(record.to_extra(), at))
        model = Record("model", MODEL.name, {"name": MODEL.name, "version": number, "sha256": stored.sha256})
        models.append(event(model.to_extra(), at))
    registry.set_alias(MODEL.name, "champion", "2")
    context["inlet_events"] = {MODEL.released("production"): events, MODEL.model: models}
    return SimpleNamespace(remote=remote, registry=registry, context=context, year=year)


def run(live, operator: type, task_id: str, **arguments: Any) -> dict[str, Any]:
    live.context["ti"].task_id = task_id
    return operator(task_id=task_id, **arguments).execute(live.context)


def emitted(live, asset) -> dict[str, Any]:
    return live.context["outlet_events"][asset].extra


def joined(live, **arguments: Any) -> dict[str, Any]:
    folder = live.year.folder
    given = {"predictions": str(folder / "made.parquet"), "labels": str(folder / "labels.parquet")}
    return run(live, JoinLabelsOperator, "join", deliverable=MODEL, **{**given, **arguments})


def guarded(live, labelled: Any, **arguments: Any) -> dict[str, Any]:
    given = {
        "policy": GuardPolicy(mode="act"),
        "since": "2013-10-01",
        "data": str(live.year.folder / "rows.parquet"),
        **HERE,
    }
    return run(
        live,
        ModelGuardOperator,
        "guard",
        model=MODEL.name,
        labelled=labelled,
        desired=DESIRED,
        **{**given, **arguments},
    )


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> str:
    """A ledger that the worker sees: the line that its commits carry."""
    address, line = checkpointed(tmp_path / "ledger")
    monkeypatch.setenv("AIRFLOW__PIPEOPS__LEDGER_PATH", address)
    return line


def back(live, order: Any, **arguments: Any) -> dict[str, Any]:
    given = {"data": str(live.year.folder / "today.parquet"), **HERE}
    return run(live, ModelRollbackOperator, "back", order=order, desired=DESIRED, **{**given, **arguments})


@pytest.mark.timeout(300)
def test_what_is_worse_beyond_doubt_goes_back_on_both_sides(live, checkpoint):
    labelled = joined(live)
    assert labelled == {**joined(live), "record_id": labelled["record_id"]}, "joining again changes nothing"
    assert labelled["counts"]["labelled"] == 12_000
    assert [(one["name"], one["state"]) for one in labelled["cohorts"]] == [
        ("2013-10", "measured"),
        ("2013-11", "measured"),
    ]

    guard = guarded(live, labelled)
    assert (guard["verdict"], guard["act"]) == ("worse", True), guard["reason"]
    assert (guard["order"]["release"], guard["order"]["before"]) == ("2", "1")
    assert guard["order"]["evidence"] == labelled["sha256"]
    assert guard["order"]["revision"] == live.remote.tip(), "the commit that brought it"

    begun = back(live, guard)
    assert (begun["version"], begun["sha256"]) == ("1", live.year.summer.sha256)
    assert begun["fit"]["verdict"] == "fits"
    trailers = git("log", "-1", "--format=%(trailers)", "main", cwd=live.remote.path)
    assert checkpoint in trailers.splitlines()
    first = Record.from_extra(live.context["inlet_events"][MODEL.model][0].extra)
    change = Record.from_extra(emitted(live, MODEL.changed("production")))
    assert change.parents == (first.id,), "what runs again was made from what it was made from"
    assert back(live, guard)["commit"] == begun["commit"] == live.remote.tip()
    with pytest.raises(AirflowSkipException, match="which another task does"):
        run(live, ModelRollbackOperator, "other", order=guard, desired=DESIRED, **HERE)

    server = Server(live.year.summer, MODEL_VERSION="1")
    try:
        url = server.wait_ready()
        os.environ["AIRFLOW_CONN_PRODUCTION"] = url
        proof = run(
            live, VerifyModelOperator, "verify", http_conn_id="production", model=MODEL.name, version=begun["version"],
            artifact_uri=begun["artifact_uri"], sha256=begun["sha256"], data=str(live.year.folder / "today.parquet"),
        )  # fmt: skip
    finally:
        os.environ.pop("AIRFLOW_CONN_PRODUCTION", None)
        server.stop()
    for other, why in (
        ({"sha256": begun["sha256"]}, "the proof is of no kind that is known: it names sha256"),
        (guard, "the proof is of no kind that is known"),
        ({**proof, "verified_at": "2013-12-01T00:00:00Z"}, "before the change"),
    ):
        with pytest.raises(AirflowFailException, match=why):
            run(
                live,
                FinishModelRollbackOperator,
                "finish",
                rollback=begun,
                proof=other,
                desired=DESIRED,
                **HERE,
            )
    assert live.registry.by_alias(MODEL.name, "champion").version == "2"
    ended = run(
        live, FinishModelRollbackOperator, "finish", rollback=begun, proof=proof, desired=DESIRED, **HERE
    )
    assert (ended["version"], ended["previous"]) == ("1", "2")
    assert live.registry.by_alias(MODEL.name, "champion").version == "1"
    assert live.year.summer.sha256 in live.remote.show(FILE)

    rollback = Record.from_extra(emitted(live, MODEL.rolled_back("production")))
    assert (rollback.body["how"], rollback.body["revision"]) == ("revert", begun["commit"])
    assert (rollback.body["proof"]["kind"], rollback.body["proof"]["where"]) == ("endpoint", url)
    learnt = Record.from_extra(emitted(live, MODEL.decision))
    assert learnt.parents == (rollback.id,)
    observed = Record(
        "decision",
        MODEL.name,
        {"observation": {"batch": "2013-11", "at": "2013-12-01T00:00:00Z", "quality_passed": True}},
    )
    history, left_out = read_history([observed, learnt])
    assert not left_out
    assert since_retrain(history) == [], "the governor counts evidence against the other model no more"
    assert history[-1].changed_the_model

    challenger = {"artifact_uri": live.year.autumn.uri, "sha256": live.year.autumn.sha256, "holdout_uri": "x"}
    with pytest.raises(AirflowFailException, match="version 2 of 'flight-delay' was taken back"):
        run(live, RegisterModelOperator, "register", model=MODEL.name, challenger=challenger)
    assert guarded(live, labelled)["verdict"] == "cannot tell", (
        "version 2 was taken back, and is nobody's goal"
    )


def test_a_release_around_the_pipeline_is_in_no_record_and_is_held_against_the_last_that_is(live):
    live.context["inlet_events"][MODEL.released("production")].pop()
    guard = guarded(live, joined(live))
    assert (guard["verdict"], guard["order"]["release"], guard["order"]["before"]) == ("worse", "2", "1")
    assert guard["order"]["revision"] == ""


def test_predictions_count_from_the_commit_on_that_brought_the_model(live, tmp_path):
    """Other changes of the file begin no release, a model that comes back does; and a merge counts when it was merged."""
    first = DESIRED.brought(live.remote.client(tmp_path / "cache"))
    assert first.sha == live.remote.tip()
    content = live.remote.show(FILE)
    live.remote.put(FILE, content + "replicas: 3\n")
    live.remote.commit("Scale")
    assert DESIRED.brought(live.remote.client(tmp_path / "cache")) == first
    live.remote.put(FILE, content.replace("sha256:", "sha256:  "))
    live.remote.commit("Indent")
    assert DESIRED.brought(live.remote.client(tmp_path / "cache")) == first
    old = content.replace(live.year.autumn.sha256, live.year.summer.sha256)
    git("checkout", "--quiet", "-b", "back", cwd=live.remote.work)
    live.remote.put(FILE, old)
    git("commit", "--quiet", "--all", "--message=Back", cwd=live.remote.work)
    git("checkout", "--quiet", "main", cwd=live.remote.work)
    git("merge", "--quiet", "--no-ff", "--message=Merge", "back", cwd=live.remote.work)
    git("push", "--quiet", "origin", "main", cwd=live.remote.work)
    assert DESIRED.brought(live.remote.client(tmp_path / "cache")).subject == "Merge"
    live.remote.put(FILE, content)
    again = live.remote.commit("Forward again")
    assert DESIRED.brought(live.remote.client(tmp_path / "cache")).sha == again

    found = guarded(live, joined(live), since="release")
    assert (found["verdict"], found["act"]) == ("cannot tell", False)
    assert "no row that both have predicted is of the time since the release" in found["reason"]
    assert "the newest is of 2013-11-30; where predictions have another clock" in found["reason"]
    assert found["since"] == live.remote.client(tmp_path / "cache").describe(again).time
    for odd, said in (("", "since is empty"), ("soon", "since 'soon' is no time")):
        with pytest.raises(AirflowFailException, match=said):
            guarded(live, {"uri": "nowhere"}, since=odd)


def test_a_table_that_was_altered_or_was_never_joined_decides_nothing(live, tmp_path):
    labelled = joined(live)
    with pytest.raises(AirflowFailException, match="has been altered"):
        guarded(live, {**labelled, "sha256": "0" * 64})
    frame = pd.read_parquet(labelled["uri"].removeprefix("file://"))
    for number, (odd, said) in enumerate(
        (
            (frame.drop(columns="sha256"), "the joined table has no column 'sha256'"),
            (frame.assign(at="yesterday"), "of the joined table holds values that are no times"),
            (
                pd.concat([frame, frame.head(2)]),
                "2 rows of the joined table are of the same key, sha256 as another one",
            ),
        )
    ):
        odd.to_parquet(tmp_path / f"{number}.parquet", index=False)
        with pytest.raises(AirflowFailException, match=said):
            guarded(live, str(tmp_path / f"{number}.parquet"))


def test_what_is_asked_of_the_guard_is_checked_when_the_dag_is_read():
    for field, value in (("min_coverage", 1.5), ("delay", timedelta(days=-1))):
        with pytest.raises(InvalidInput) as error:
            ModelGuardOperator(task_id="g", model="m", labelled="x", desired=DESIRED, **{field: value})
        assert error.value.field == field


def test_scores_that_were_kept_beside_the_release_s_need_no_data(live):
    folder = live.year.folder
    made, rows = pd.read_parquet(folder / "made.parquet"), pd.read_parquet(folder / "rows.parquet")
    stored = live.year.summer
    score = artifact.load(stored.uri, stored.sha256).model.predict_proba(rows[list(flights.FEATURES)])[:, 1]
    shadow = folder / "shadow.parquet"
    made.assign(sha256=stored.sha256, score=score).to_parquet(shadow, index=False)
    again = guarded(live, joined(live))
    kept = guarded(live, joined(live, predictions=[str(folder / "made.parquet"), str(shadow)]), data="")
    assert kept["value"] == pytest.approx(again["value"])
    assert kept["verdict"] == again["verdict"] == "worse"


def test_without_scores_of_the_model_before_nobody_can_tell(live):
    found = guarded(live, joined(live), data="")
    assert (found["verdict"], found["act"]) == ("cannot tell", False)
    assert "no row was predicted by both" in found["reason"]


def test_rows_that_the_release_has_learned_from_judge_nobody(live, tmp_path):
    frame = pd.read_parquet(joined(live)["uri"].removeprefix("file://"))
    frame.assign(at=pd.to_datetime(frame["at"]) - timedelta(days=1)).to_parquet(tmp_path / "early.parquet")
    found = guarded(live, str(tmp_path / "early.parquet"), since="2013-09-01")
    assert (found["verdict"], found["act"]) == ("cannot tell", False)
    assert "version 2 has learned from rows up to 2013-09-30" in found["reason"]
    assert guarded(live, str(tmp_path / "early.parquet"), since="2013-10-01")["verdict"] == "worse"


def test_an_estimate_asks_for_labels_and_takes_nothing_back(live, tmp_path):
    few = pd.read_parquet(live.year.folder / "labels.parquet").head(2500)
    few.to_parquet(tmp_path / "few.parquet", index=False)
    made = pd.read_parquet(live.year.folder / "made.parquet").head(2500)
    made.to_parquet(tmp_path / "made.parquet", index=False)
    labelled = joined(live, predictions=str(tmp_path / "made.parquet"), labels=str(tmp_path / "few.parquet"))
    found = guarded(live, labelled, estimated="0.4", expected={"value": 0.7})
    assert (found["verdict"], found["act"]) == ("ask for labels", False)
    loss = {"policy": GuardPolicy(metric="brier_score"), "estimated": 0.1, "expected": 0.2}
    assert guarded(live, labelled, **loss)["verdict"] == "wait", "a loss that is less is no reason to ask"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("", None), ("None", None), ({}, None), ("0.7", 0.7), ({"value": 7}, 7.0)],
)
def test_a_figure_is_a_number_an_earlier_result_or_what_a_template_gave(given, expected):
    assert figure("expected", given) == expected


@pytest.mark.parametrize("given", ["high", "nan", {"value": "-inf"}, [0.7]])
def test_what_is_no_figure_is_refused_and_not_held_against_anything(given):
    with pytest.raises(InvalidInput) as error:
        figure("expected", given)
    assert error.value.field == "expected"


ORDER = {"model": MODEL.name, "release": "2", "before": "1", "reason": "worse"}


def test_a_model_that_does_not_fit_any_more_changes_nothing(live):
    order = {**ORDER, "release_sha256": live.year.autumn.sha256, "before_sha256": live.year.summer.sha256}
    tip = live.remote.tip()
    for arguments, said in (
        (
            {"data": str(live.year.folder / "no_carrier.parquet")},
            "reads 'carrier', which today's data do not have",
        ),
        ({"max_age": timedelta(days=30)}, "learned from nothing in the last"),
        ({"data": ""}, "No data of today were given"),
    ):
        with pytest.raises(AirflowFailException, match=said):
            back(live, order, **arguments)
    live.registry.block(MODEL.name, "1", "worse in May")
    with pytest.raises(AirflowFailException, match="itself taken back: worse in May"):
        back(live, order)
    assert live.remote.tip() == tip
    assert live.registry.version(MODEL.name, "2").blocked == ""


def test_the_image_that_serves_must_be_in_its_registry(live, connections, tmp_path):
    order = {**ORDER, "release_sha256": live.year.autumn.sha256, "before_sha256": live.year.summer.sha256}
    layout, digest = image(tmp_path / "image")
    with registry(tmp_path / "registry") as there:
        with client(there) as push:
            push.push("team/serve", layout, digest)
        login = {"login": LOGIN, "extra": {"ca_file": str(there.ca_file)}}
        connections("images", "container_registry", there.host, password=PASSWORD, **login)
        connections("stranger", "container_registry", there.host, password="wrong", **login)
        connections("elsewhere", "container_registry", "registry.example.com")
        name = f"{there.host}/team/serve"
        live.remote.put(FILE, live.remote.show(FILE) + f"image: {name}@{digest}\n")
        tip = live.remote.commit("Name the image")
        for given, conn_id, said in (
            (f"{name}:gone", "images", "is not in its registry any more"),
            (f"{name}:gone", "", "is still there: no registry_conn_id is given"),
            (f"{name}:gone", "elsewhere", "'elsewhere' is of another registry, registry.example.com"),
            (f"{name}:gone", "stranger", "Nobody can tell whether the image that serves it"),
            ({"file": FILE}, "images", "image names no value"),
        ):
            with pytest.raises(AirflowFailException, match=said):
                back(live, order, image=given, registry_conn_id=conn_id)
        assert live.remote.tip() == tip, "nothing was changed"
        begun = back(live, order, image={"file": FILE, "at": "image"}, registry_conn_id="images")
    assert begun["fit"]["verdict"] == "fits"
    assert f"Its registry has {name}@{digest}." in begun["fit"]["reasons"]


def test_scores_that_readers_see_since_then_prove_a_rollback(live):
    """A model that scores partitions: real manifests, of what ran before the commit and of what runs again."""
    data = str(live.year.folder / "rows.parquet")
    bad = {
        "name": MODEL.name,
        "version": "2",
        "sha256": live.year.autumn.sha256,
        "artifact_uri": live.year.autumn.uri,
    }
    batch = {"partition": "2013-11", "data": data, "key": "key"}
    first = run(live, BatchScoreOperator, "score", model=bad, **batch)
    old = {**bad, "version": "1", "sha256": live.year.summer.sha256, "artifact_uri": live.year.summer.uri}
    early = run(live, BatchScoreOperator, "early", model=old, rescore="all", **batch)
    assert (first["outcome"], early["outcome"], early["shown"]) == ("scored", "scored", True)
    early["shown_at"] = (datetime.now(timezone.utc) - timedelta(minutes=1)).isoformat()
    run(live, BatchScoreOperator, "score", model=bad, rescore="all", **batch)
    order = {**ORDER, "release_sha256": live.year.autumn.sha256, "before_sha256": live.year.summer.sha256}
    begun = back(live, order)
    kept = run(live, BatchScoreOperator, "kept", model=begun, **batch)
    assert kept["outcome"] == "kept", "without rescore= the scores of the bad model stay"
    ending = {"rollback": begun, "desired": DESIRED, **HERE}
    for proof, said in (
        (kept, f"the batch shows {live.year.autumn.sha256[:12]}"),
        (early, "before the change at"),
        (first, f"the batch shows {live.year.autumn.sha256[:12]}"),
    ):
        with pytest.raises(AirflowFailException, match=said):
            run(live, FinishModelRollbackOperator, "finish", proof=proof, **ending)
    assert live.registry.by_alias(MODEL.name, "champion").version == "2"
    proof = run(live, BatchScoreOperator, "again", model=begun, rescore="all", **batch)
    assert (proof["outcome"], proof["shown"]) == ("found", True), (
        "its scores were there, and readers see them again"
    )
    ended = run(live, FinishModelRollbackOperator, "finish", proof=proof, **ending)
    assert (ended["version"], live.registry.by_alias(MODEL.name, "champion").version) == ("1", "1")
    told = Record.from_extra(emitted(live, MODEL.rolled_back("production"))).body["proof"]
    assert (told["kind"], told["where"]) == ("batch", proof["manifest"])


@pytest.mark.parametrize("policy", [GuardPolicy(first=640, looks=1, mode="act"), GuardPolicy(mode="observe")])
def test_what_the_guard_leaves_alone_is_not_taken_back(live, policy):
    """Handed from task to task, as the page of the guard shows: a verdict that is none, and one that is only said."""
    tip, found = live.remote.tip(), guarded(live, joined(live), policy=policy)
    assert found["order"]["before"] == "1", "there is an order, whatever the verdict"
    with pytest.raises(AirflowSkipException, match=f"takes nothing back: {found['verdict']}"):
        back(live, found)
    with pytest.raises(AirflowSkipException, match="takes nothing back: cannot tell"):
        back(live, {**found, "verdict": "cannot tell", "order": None})
    assert live.remote.tip() == tip
    assert live.registry.version(MODEL.name, "2").blocked == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "there is no order"),
        ("text", "order"),
        ({"order": None}, "there is no order"),
        ({**ORDER}, "there is no order"),
    ],
)
def test_what_is_no_order_is_refused(live, given, said):
    with pytest.raises(AirflowFailException, match=said):
        back(live, given)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "its manifest is not there"),
        ("{", "its manifest is of no model"),
        ("[" * 100_000, "its manifest is of no model"),
        ("5", "its manifest is of no model"),
    ],
    ids=["none", "cut", "deep", "number"],
)
def test_a_batch_whose_file_is_no_manifest_proves_nothing(tmp_path, content, why):
    file = tmp_path / "manifest.json"
    if content is not None:
        file.write_text(content)
    batch = {"partition": "2013-11", "outcome": "scored", "sha256": "1" * 64, "manifest": file.as_uri(), "shown": True,
             "shown_at": "2026-01-31T10:00:00Z"}  # fmt: skip
    found = FinishModelRollbackOperator(task_id="finish", rollback={}, proof=batch, desired=DESIRED)._proof()
    assert found.against == why
