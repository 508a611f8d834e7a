"""The gate as a task: what it is held against, what it records, and what it does when it stays closed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm import results
from airflow_pipeops.llm.datasets.reading import read
from airflow_pipeops.llm.evaluation.operators import EvaluateOperator
from airflow_pipeops.llm.evaluation.scorers.texts import Exact
from airflow_pipeops.llm.evaluation.subjects import Subject
from airflow_pipeops.llm.gate.baseline import Pin, released
from airflow_pipeops.llm.gate.batches import batches
from airflow_pipeops.llm.gate.before import HeldAgainst
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.operators import EvaluationGateOperator, GateRateOperator
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.gate.rate import halves
from airflow_pipeops.models.storage import sha256
from tests import openai
from tests.ledgers import event
from tests.llm.gate.tables import coins, table

PROMPT = Deliverable("support-answers")
POLICY = GatePolicy("exact")
NOW = datetime.now(timezone.utc)


def evaluation(
    folder: Path, scores: dict[str, Any], given_at: datetime = NOW, **changes: Any
) -> dict[str, Any]:
    """What EvaluateOperator returns of such scores."""
    path = folder / "results.parquet"
    number = 0
    while path.exists():
        number += 1
        path = folder / f"results{number}.parquet"
    frame = changes.pop("frame", None)
    if frame is None:
        frame = table(scores, at=given_at.timestamp(), system="small fp_1", latency=1.0)
    path.write_bytes(results.to_bytes(frame))
    return {
        "results": path.as_uri(),
        "results_sha256": sha256(path.read_bytes()),
        "dataset_sha256": "d" * 64,
        "arms": {arm: f"{arm} prompt" for arm in scores},
        "scorers": {"exact": "e" * 64},
        "runs": 1,
        "items": int(frame["item"].nunique()),
        "models": dict.fromkeys(scores, "small"),
        "answers": results.answered(frame),
        "judges": [],
        "flips": {},
        "record_id": "a" * 64,
        **changes,
    }


@pytest.fixture
def better(tmp_path) -> dict[str, Any]:
    scores = coins(200, 1, 1)
    scores["candidate"] = np.maximum(scores["candidate"], scores["baseline"])
    return evaluation(tmp_path, scores)


@pytest.fixture
def worse(tmp_path) -> dict[str, Any]:
    return evaluation(tmp_path, coins(400, 1, 1, loss=0.3))


def gate(context: dict[str, Any], given: Any, **arguments: Any) -> dict[str, Any]:
    made = EvaluationGateOperator(task_id="gate", evaluation=given, **{"policy": POLICY, **arguments})
    for asset in made.inlets:
        context["inlet_events"].setdefault(asset, [])
    return made.execute(context)


@pytest.mark.parametrize(
    ("judges", "flips", "opens", "said"),
    [
        (["exact"], {}, False, "known on 0 answers"),
        (["other"], {"other": [9, 10]}, True, "better"),
    ],
)
def test_what_asks_a_model_is_a_judge_and_answers_for_itself_alone(
    context, better, judges, flips, opens, said
) -> None:
    found = gate(context, {**better, "judges": judges, "flips": flips}, on_verdict="record")
    assert found["opens"] is opens
    assert said in found["reason"]


@pytest.mark.parametrize(
    ("flips", "said"),
    [
        ({"exact": [0, 100], "other": [100, 100]}, "an equal answer again"),
        ({"exact": [40, 100], "other": [0, 900]}, "with the order in 40 of 100"),
        ({"exact": [0, 0]}, "with the order in 0 of 0"),
    ],
)
def test_one_judge_does_not_answer_for_another(context, tmp_path, flips, said) -> None:
    scores = coins(200, 2, 1)
    new = scores["baseline"] = np.repeat(scores["baseline"][:, :1], 2, axis=1)
    scores["candidate"] = 1 - new
    digests = {arm: np.repeat([f"{arm}{n}" for n in range(200)], 2).reshape(200, 2) for arm in scores}
    if "again" in said:
        digests = {arm: np.array([f"{arm}{n}" for n in range(400)]).reshape(200, 2) for arm in scores}
    frame = table(scores, output_digest=digests)
    labels = tmp_path / "labels.parquet"
    frame.loc[frame["run"] == 0, ["item", "arm", "run", "scorer", "value"]].to_parquet(labels)
    given = evaluation(tmp_path, scores, frame=frame, judges=["exact"], flips=flips)
    policy = GatePolicy("exact", margin=0.9, enough="not worse")
    found = gate(context, given, policy=policy, labels=str(labels), on_verdict="record")
    assert said in found["reason"]


def told(context: dict[str, Any], *records: Record) -> None:
    """Lay records on their assets."""
    for record in records:
        asset = PROMPT.asset(record.kind, record.environment)
        read = event(record.to_extra(), datetime.fromisoformat(record.at))
        context["inlet_events"].setdefault(asset, []).append(read)


def lived(pin: dict[str, Any], at: datetime, commit: str) -> list[Record]:
    """The records of a candidate that a gate let through, and that was released."""
    said = [{"at": (at + timedelta(minutes=n)).isoformat(timespec="seconds")} for n in range(3)]
    here: dict[str, Any] = {"environment": "production"}
    verdict = Record(
        "evaluation", PROMPT.name, {"subject": "prompt gate", "promote": True, "candidate": pin}, **said[0]
    )
    change = Record("change", PROMPT.name, {"commit": commit}, (verdict.id,), **here, **said[1])
    return [
        verdict,
        change,
        Record("release", PROMPT.name, {"revision": commit}, (change.id,), **here, **said[2]),
    ]


def test_a_better_one_opens_and_the_record_says_why(context, better) -> None:
    found = gate(context, better, deliverable=PROMPT)
    assert (found["outcome"], found["opens"], found["mode"]) == ("better", True, "beside")
    assert found["rate"] == "This gate was never tried on equal arms."
    record = Record.from_extra(context["outlet_events"][PROMPT.asset("evaluation")].extra)
    assert (record.body["promote"], record.body["outcome"]) == (True, "better")
    assert record.parents == ("a" * 64,)
    assert record.body["candidate"]["subject"] == "candidate prompt"
    assert [one.name for one in record.evidence] == ["gate.html"]
    assert found["report"] == record.evidence[0].uri


def test_a_worse_one_fails_without_a_retry_or_skips_or_is_recorded(context, worse) -> None:
    with pytest.raises(
        AirflowFailException, match=r"GateFailed: the gate stays closed \(worse\): exact: the candidate"
    ):
        gate(context, worse, deliverable=PROMPT)
    assert gate(context, worse, deliverable=PROMPT, on_verdict="record")["opens"] is False
    with DAG("d"):
        closed = EvaluationGateOperator(
            task_id="gate", evaluation=worse, policy=POLICY.to_json(), on_verdict="skip", deliverable=PROMPT
        )
        closed >> BaseOperator(task_id="release")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        closed.execute(context)
    assert list(skipped.value.tasks) == ["release"]
    assert context["ti"].xcoms["outcome"] == "worse"
    assert context["outlet_events"][PROMPT.asset("evaluation")].extra["body"]["promote"] is False


def test_recorded_answers_of_what_is_released_are_the_baseline_and_not_those_of_the_newest_run(
    context, tmp_path
) -> None:
    scores = coins(300, 1, 2)
    scores["candidate"] = np.maximum(scores["candidate"], scores["baseline"])
    live = evaluation(tmp_path, {"candidate": scores["baseline"]}, NOW - timedelta(days=1))
    newer = evaluation(tmp_path, {"candidate": np.ones(300)})
    pins = [Pin.of(one, "candidate").to_json() for one in (live, newer)]
    records = lived(pins[0], NOW - timedelta(days=2), "1" * 40)
    unreleased = Record(
        "evaluation", PROMPT.name, {"subject": "prompt gate", "promote": True, "candidate": pins[1]},
        at=NOW.isoformat(timespec="seconds"),
    )  # fmt: skip
    told(context, *records, unreleased)
    alone = evaluation(tmp_path, {"candidate": scores["candidate"]})
    here = {"deliverable": PROMPT, "environment": "production"}
    found = gate(context, alone, **here)
    assert (found["outcome"], found["mode"]) == ("better", "pinned")
    assert found["baseline"]["sha256"] == live["results_sha256"]
    # Beside, an arm that is not what is released is no baseline.
    with pytest.raises(
        AirflowFailException, match=r"'baseline' is baseline pro.*, and candidate pr.* is released"
    ):
        gate(context, evaluation(tmp_path, scores), **here)
    # Somebody has changed the recorded table.
    Path(live["results"].removeprefix("file://")).write_bytes(
        Path(newer["results"].removeprefix("file://")).read_bytes()
    )
    with pytest.raises(AirflowFailException, match="are not those that were recorded"):
        gate(context, alone, **here)


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ({"at": (NOW - timedelta(days=8)).isoformat()}, "are 8.0 days old, and 7 are the most"),
        ({"systems": ["small fp_0"]}, "behind 'small' was small fp_0, and is small fp_1 since"),
        ({"at": "yesterday"}, "nobody knows how old"),
        (
            {"dataset": "f" * 64},
            "the baseline answered the dataset ffffffffffff, and the candidate dddddddddddd",
        ),
        (
            {"scorers": {"exact": "0" * 64}},
            "the scorer 'exact' is 000000000000 of the baseline, and eeeeeeeeeeee",
        ),
        ({"scorers": {}}, "the scorer 'exact' is absent of the baseline"),
    ],
)
def test_recorded_answers_that_are_no_comparison_are_refused_by_name(context, tmp_path, pin, said) -> None:
    alone = evaluation(tmp_path, {"candidate": np.ones(30)})
    known = {**Pin.of(alone, "candidate").to_json(), **pin}
    told(context, *lived(known, NOW - timedelta(days=1), "1" * 40))
    with pytest.raises(AirflowFailException, match=said):
        gate(context, alone, deliverable=PROMPT, environment="production")


def test_the_age_of_a_baseline_is_that_of_its_oldest_answer(context, tmp_path) -> None:
    """Whenever it was gated: a task that is cleared, and answers that were found, make none of them younger."""
    scores = {"candidate": np.ones(30), "baseline": np.ones(30)}
    begun = NOW - timedelta(days=8)
    frame = table(scores, at=np.linspace(0, 7.5 * 86400, 30) + begun.timestamp())
    frame["at"] = frame["at"].astype(float)
    first = gate(context, evaluation(tmp_path, scores, frame=frame), on_verdict="record")
    assert first["candidate"]["at"] == begun.isoformat(timespec="seconds")
    told(context, *lived(first["candidate"], NOW - timedelta(days=1), "1" * 40))
    alone = evaluation(tmp_path, {"candidate": np.ones(30)})
    with pytest.raises(AirflowFailException, match=r"are 8\.0 days old, and 7 are the most"):
        gate(context, alone, deliverable=PROMPT, environment="production")


@pytest.mark.parametrize(
    ("apart", "more", "outcome", "said"),
    [
        (timedelta(minutes=59), {}, "better", "exact"),
        (timedelta(hours=5), {}, "cannot tell", "the two have answered up to 5.0 hours apart"),
        (timedelta(hours=5), {"system": "small fp_2"}, "", "behind 'small' was small fp_2, and is small fp_1 since"),
        (timedelta(days=8), {}, "", "are 8.0 days old, and 7 are the most"),
    ],
)  # fmt: skip
def test_arms_that_have_not_answered_together_are_held_apart(
    context, tmp_path, apart, more, outcome, said
) -> None:
    """What a provider has changed between them, and how busy it was, is not the candidate's doing."""
    scores = {"candidate": np.ones(400), "baseline": np.r_[np.ones(200), np.zeros(200)]}
    frame = table(scores)
    frame["latency"] = np.random.default_rng(1).uniform(1.0, 1.1, len(frame))
    frame["at"], frame["system"] = NOW.timestamp(), "small fp_1"
    late = frame["arm"] == "baseline"
    frame.loc[late, ["at", *more]] = [(NOW - apart).timestamp(), *more.values()]
    given = evaluation(tmp_path, scores, frame=frame)
    policy = GatePolicy("exact", guards={"latency": 0.2})
    if outcome:
        found = gate(context, given, policy=policy, on_verdict="record")
        assert (found["outcome"], found["mode"]) == (outcome, "beside")
        assert said in found["reason"]
        assert gate(context, given)["outcome"] == "better", "of quality it says nothing"
        return
    with pytest.raises(AirflowFailException, match=said):
        gate(context, given, policy=policy)


def test_latencies_of_answers_of_unknown_times_are_no_comparison(context, tmp_path) -> None:
    """As of two files of another tool: nobody knows whether one was made in a busy hour."""
    scores = {"candidate": np.ones(400), "baseline": np.r_[np.ones(200), np.zeros(200)]}
    frame = table(scores)
    frame["latency"] = np.random.default_rng(1).uniform(1.0, 1.1, len(frame))
    given = evaluation(tmp_path, scores, frame=frame)
    found = gate(context, given, policy=GatePolicy("exact", guards={"latency": 0.2}), on_verdict="record")
    assert (found["outcome"], found["mode"]) == ("cannot tell", "beside")
    assert "nobody knows when the two have answered" in found["reason"]
    assert gate(context, given)["outcome"] == "better", "of quality it says nothing"


def test_scores_of_pairs_are_no_recorded_answers(context, tmp_path) -> None:
    """A share of comparisons won says nothing without the other side, which was another one then."""
    alone = evaluation(tmp_path, {"candidate": np.ones(30)}, judges=["exact"], flips={"exact": [0, 30]})
    known = Pin.of(alone, "candidate").to_json()
    told(context, *lived(known, NOW - timedelta(days=1), "1" * 40))
    with pytest.raises(AirflowFailException, match="'exact' compares two answers"):
        gate(context, alone, deliverable=PROMPT, environment="production")


def test_a_text_is_no_list_of_items_that_flip(context, better) -> None:
    """Of the text "i12" the letter would bar an item "1" that must never fail."""
    with pytest.raises(AirflowFailException, match="flaky is a text"):
        gate(context, better, flaky="i12")
    assert gate(context, better, flaky=["i12"])["opens"]


def test_one_shard_is_no_evaluation(context, better) -> None:
    part = {**better, "shard": 0, "shards": 8}
    with pytest.raises(AirflowFailException, match=r"is shard 0 of 8.*MergeEvaluationsOperator"):
        gate(context, part)
    with pytest.raises(AirflowFailException, match="is shard 0 of 8"):
        GateRateOperator(task_id="rate", evaluation=part, policy=POLICY).execute(context)
    assert gate(context, {**part, "shards": 1})["opens"]


@pytest.mark.parametrize(
    ("pin", "more", "said"),
    [
        (None, {}, "no record says which verdict led to what is released"),
        ({}, {}, "the baseline answered the dataset dddddddddddd, and the candidate"),
        ({"dataset": ""}, {}, "the scorer 'exact' is eeeeeeeeeeee of the baseline"),
        ({"dataset": "", "scorers": ""}, {}, ""),
        ({"dataset": "", "scorers": "", "at": (NOW - timedelta(days=8)).isoformat()}, {}, "are 8.0 days old"),
        ({}, {"gate": HeldAgainst({"metric": "cost"})}, "compares costs, and the price of 'small' is not known"),
    ],
)  # fmt: skip
def test_what_a_gate_would_refuse_is_refused_before_anything_is_asked(
    context, tmp_path, monkeypatch, pin, more, said
) -> None:
    data = tmp_path / "items.jsonl"
    data.write_text(
        "".join(json.dumps({"id": n, "word": f"w{n}", "expected": "x"}) + "\n" for n in range(12))
    )
    model = openai.Model()
    with openai.serving(model) as url:
        for name, kind, host in (("PIPEOPS_ARTIFACTS", "pipeops_storage", (tmp_path / "s").as_uri()),
                                 ("LLM", "pydanticai", url)):  # fmt: skip
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": kind, "host": host}))
        if pin is not None:
            known = Pin.of(evaluation(tmp_path, {"candidate": np.ones(12)}), "candidate").to_json()
            ours = {"dataset": read(data.as_uri()).sha256, "scorers": {"exact": Exact().sha256}}
            known |= {name: value or ours[name] for name, value in pin.items()}
            told(context, *lived(known, NOW - timedelta(days=1), "1" * 40))
        given = {"gate": HeldAgainst(POLICY), **more}
        task = EvaluateOperator(
            task_id="evaluate", dataset=data.as_uri(), subjects=[Subject("candidate", "{{word}}", "small")],
            scorers=[Exact()], llm_conn_id="llm", deliverable=PROMPT, environment="production", **given,
        )  # fmt: skip
        for asset in task.inlets:
            context["inlet_events"].setdefault(asset, [])
        if not said:
            assert task.execute(context)["asked"] == 12
            return
        with pytest.raises(AirflowFailException, match=said):
            task.execute(context)
        assert not model.asked


def test_without_a_baseline_nothing_is_said(context, tmp_path) -> None:
    alone = evaluation(tmp_path, {"candidate": np.ones(30)})
    for arguments in ({}, {"deliverable": PROMPT, "environment": "production"}):
        with pytest.raises(
            AirflowFailException, match="no record says which verdict led to what is released"
        ):
            gate(context, alone, **arguments)
    with pytest.raises(AirflowFailException, match="the evaluation has no arm 'new'"):
        gate(context, alone, candidate="new")
    with pytest.raises(AirflowFailException, match="names no table"):
        gate(context, evaluation(tmp_path, coins(20, 1, 0), results=""))
    with pytest.raises(InvalidInput, match="both 'baseline'"):
        gate(context, alone, candidate="baseline")
    with pytest.raises(InvalidInput, match="on_verdict is 'warn'"):
        gate(context, alone, on_verdict="warn")


def test_what_was_taken_back_is_not_live() -> None:
    pins = [Pin("candidate", f"prompt {n}", "d", at=NOW.isoformat()).to_json() for n in range(3)]
    told = [
        record for n, pin in enumerate(pins) for record in lived(pin, NOW + timedelta(hours=n), f"{n}" * 40)
    ]
    assert released(told, "production").subject == "prompt 2"
    assert released(told, "staging") is None
    back = Record(
        "change",
        PROMPT.name,
        {"commit": "9" * 40, "reverts": "2" * 40},
        environment="production",
        at="2999-01-01T00:00:00+00:00",
    )
    assert released([*told, back], "production").subject == "prompt 1"
    # A release that no gate has led to leaves nobody knowing what is live.
    by_hand = Record(
        "release",
        PROMPT.name,
        {"revision": "7" * 40},
        environment="production",
        at="2999-01-01T00:00:00+00:00",
    )
    assert released([*told, by_hand], "production") is None


def test_the_rate_of_equal_arms_is_published_with_each_verdict(context, better, tmp_path) -> None:
    equal = coins(100, 2, 4)["baseline"]
    broken = np.where(np.arange(2) == 1, 0.0, equal)  # something has changed between the runs
    for scores, alarms in ((equal, 0), (broken, 1)):
        given = evaluation(tmp_path, {"baseline": scores})
        made = GateRateOperator(task_id="rate", evaluation=given, policy=POLICY, deliverable=PROMPT)
        for asset in made.inlets:
            context["inlet_events"].setdefault(asset, [])
        found = made.execute(context)
        assert found["alarms"] == alarms
        told(context, Record.from_extra(context["outlet_events"][PROMPT.asset("evaluation")].extra))
    assert found["runs"] == 2
    assert 20 < len(found["flaky"]) <= 100
    assert "in 1 of 2 runs (1% to 99%)" in gate(context, better, deliverable=PROMPT)["rate"]
    other = gate(context, better, deliverable=PROMPT, policy=GatePolicy("exact", alpha=0.01))
    assert other["rate"].startswith("This gate was never tried"), "another policy is another gate"
    with pytest.raises(AirflowFailException, match="'baseline' has no two runs"):
        GateRateOperator(task_id="rate", evaluation=better, policy=POLICY).execute(context)


def test_equal_halves_are_told_apart_as_seldom_as_promised() -> None:
    """Of one arm of five runs the fifth has no partner; judges are asked for numbers, and not whether they are good."""
    alarms = 0
    for seed in range(60):
        frame = halves(table({"baseline": coins(60, 5, seed)["baseline"]}), "baseline")
        assert frame.groupby("arm")["run"].nunique().to_dict() == {"baseline": 2, "candidate": 2}
        alarms += judge(frame, POLICY).verdict.outcome in ("better", "worse")
    assert alarms <= 14, "6 are expected; more than 14 have a chance of 1 in 1,500"


def test_the_page_shows_all_and_believes_nothing(context, tmp_path) -> None:
    scores = coins(60, 2, 1)
    scores["candidate"][0] = 0
    scores["candidate"][1, 0] = np.nan
    scores["baseline"][0] = 1
    frame = table(scores, topic=np.where(np.arange(60) % 2, "<script>alert(1)</script>", "plain"))
    frame["item"] = frame["item"].replace("i0", "<img src=x>")
    frame.loc[frame["item"] == "<img src=x>", "hard"] = True
    labels = tmp_path / "labels.parquet"
    pd.DataFrame(
        {
            "item": frame["item"],
            "arm": frame["arm"],
            "run": frame["run"],
            "scorer": "exact",
            "value": frame["value"],
        }
    ).dropna().to_parquet(labels)
    found = gate(
        context,
        evaluation(tmp_path, scores, frame=frame),
        policy=GatePolicy("exact", guards={"cost": 0.1}, slices=("topic",), judges=("exact",)),
        labels=str(labels),
        deliverable=PROMPT,
        on_verdict="record",
    )
    assert (found["outcome"], found["missing_scores"]) == ("worse", {"exact": [1, 0]})
    page = Path(found["report"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    for part in (
        "&lt;img src=x&gt; (exact)",
        "topic=&lt;script&gt;",
        "Missing scores",
        "kappa",
        "variance between items",
        "cost",
    ):
        assert part in page


def test_names_of_any_length_fit_into_a_record(context, tmp_path) -> None:
    scores = coins(300, 2, 1, loss=0.3)
    topics = np.array([f"{n % 30}" + "long" * 1000 for n in range(300)])
    frame = table(scores, topic=topics)
    frame["item"] = frame["item"] + "x" * 300
    frame["hard"] = True
    given = evaluation(tmp_path, scores, frame=frame)
    policy = GatePolicy("exact", slices=("topic",))
    found = gate(context, given, policy=policy, deliverable=PROMPT, on_verdict="record")
    assert len(found["failed"]) == 20
    assert found["record_id"]
    frame["hard"] = False
    found = gate(
        context,
        evaluation(tmp_path, scores, frame=frame),
        policy=policy,
        deliverable=PROMPT,
        on_verdict="record",
    )
    assert found["outcome"] == "worse"
    made = GateRateOperator(task_id="rate", evaluation=given, policy=POLICY, deliverable=PROMPT).execute(
        context
    )
    assert 10 < len(made["flaky"]) < 30


def test_batches_keep_clusters_whole_and_have_no_order_of_their_own() -> None:
    items = {f"i{n:03}": f"d{n // 4}" if n < 40 else "" for n in range(100)}
    found = batches(items, 10, "seed")
    assert sorted(item for part in found for item in part) == sorted(items)
    assert all(10 <= len(part) <= 13 for part in found[:-1])
    for n in range(10):
        inside = {k for k, part in enumerate(found) for item in part if items[item] == f"d{n}"}
        assert len(inside) == 1
    assert found == batches(dict(reversed(items.items())), 10, "seed")
    assert found != batches(items, 10, "other")
    assert found[0] != sorted(items)[: len(found[0])]
    with pytest.raises(InvalidInput, match="size is 0"):
        batches(items, 0)


def test_what_an_evaluation_has_kept_is_what_the_gate_reads(context, tmp_path, monkeypatch) -> None:
    """Recorded answers, scored by the operator of evaluations; tags become slices, and one item must never fail."""
    store = {"conn_type": "pipeops_storage", "host": f"file://{tmp_path}/store"}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_ARTIFACTS", json.dumps(store))
    lines = []
    for n in range(60):
        new = "yes" if n % 10 else "no"
        lines.append(
            {
                "id": f"q{n}", "expected": "yes", "cluster": f"c{n // 2}", "tags": {"topic": "ab"[n % 2]}, "hard": n == 1,
                "inputs": {"question": f"is it {n}?", "new": new, "old": "yes" if n % 3 else "no"},
            }
        )  # fmt: skip
    data = tmp_path / "items.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")

    def evaluated(name: str, *fields: tuple[str, str]) -> dict[str, Any]:
        return EvaluateOperator(
            task_id=name,
            dataset=data.as_uri(),
            subjects=[Subject(arm, recorded=field) for arm, field in fields],
            scorers=[Exact()],
        ).execute(context)

    policy = GatePolicy("exact", slices=("topic",))
    found = gate(context, evaluated("both", ("baseline", "old"), ("candidate", "new")), policy=policy)
    assert (found["outcome"], found["items"], found["units"]) == ("better", 60, 30)
    assert found["candidate"]["items"] == 60
    back = evaluated("back", ("baseline", "new"), ("candidate", "old"))
    assert gate(context, back, policy=policy, on_verdict="record")["outcome"] == "worse"
    lines[1]["inputs"]["new"] = "no"
    data.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    failed = gate(
        context,
        evaluated("hard", ("baseline", "old"), ("candidate", "new")),
        policy=policy,
        on_verdict="record",
    )
    assert (failed["outcome"], failed["failed"]) == ("worse", ["q1 (exact)"])
