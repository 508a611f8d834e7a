"""Evaluations as tasks, with connections and evidence as Airflow has them."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm import results
from airflow_pipeops.llm.datasets.reading import read
from airflow_pipeops.llm.evaluation.operators import (
    EvaluateOperator,
    ImportEvaluationOperator,
    MergeEvaluationsOperator,
)
from airflow_pipeops.llm.evaluation.scorers.judges import PairwiseJudge, RubricJudge
from airflow_pipeops.llm.evaluation.scorers.texts import Exact
from airflow_pipeops.llm.gate.operators import EvaluationGateOperator
from airflow_pipeops.llm.gate.policy import GatePolicy
from tests import openai
from tests.llm.evaluation.conftest import rows, subject

SUBJECT = {"arm": "candidate", "prompt": "{{word}}", "model": "small", "parameters": {"max_tokens": 20}}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text(
        "\n".join(
            json.dumps(
                {**row, "split": "test", "tags": {"parity": str(place % 2)}, "inputs": {"word": row["word"]}}
            )
            for place, row in enumerate(rows(24))
        )
    )
    return path.as_uri()


@pytest.fixture
def evaluate(
    url: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    connections = {
        "LLM": {
            "conn_type": "pydanticai",
            "host": url,
            "password": openai.KEY,
            "extra": {"model": "openai:small"},
        },
        "PIPEOPS_ARTIFACTS": {"conn_type": "pipeops_storage", "host": (tmp_path / "store").as_uri()},
    }
    for name, fields in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(fields))
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())

    def act(**more: Any) -> dict[str, Any]:
        given = {"dataset": dataset, "subjects": [SUBJECT], "scorers": [Exact()], "llm_conn_id": "llm"}
        with no_retry():
            task = EvaluateOperator(**{"task_id": "evaluate", **given, **more})
        task.render_template_fields(context)
        return task.execute(context)

    return act


def test_it_returns_small_facts_and_keeps_the_scores(
    evaluate: Callable[..., dict[str, Any]], model: openai.Model, context: dict[str, Any], tmp_path: Path
) -> None:
    found = evaluate(deliverable=Deliverable("answers", environments=("production",)), split="test")
    frame = results.load(found["results"], found["results_sha256"])
    assert (found["outcome"], found["items"], found["scores"], len(frame)) == ("complete", 24, 24, 24)
    assert found["leakage"] == {"candidate": "cannot tell"}, "its texts are short"
    assert (frame["value"] == 1.0).all()
    assert sorted(frame["parity"].unique()) == ["0", "1"]
    assert model.keys == {f"Bearer {openai.KEY}"}
    assert len(json.dumps(found)) < 2000
    (extra,) = [event.extra for event in context["outlet_events"].values()]
    assert (extra["kind"], extra["id"]) == ("evaluation", found["record_id"])
    assert extra["body"]["dataset_sha256"] == read((tmp_path / "items.jsonl").as_uri()).sha256
    kept = json.dumps(extra) + "".join(
        path.read_bytes().decode("latin-1") for path in (tmp_path / "evidence").rglob("*") if path.is_file()
    )
    assert "word 3" not in kept  # questions and answers stay in the storage
    everything = "".join(
        path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()
    )
    assert openai.KEY not in everything


def test_shards_are_put_together_whole_or_not(
    evaluate: Callable[..., dict[str, Any]], context: dict[str, Any]
) -> None:
    parts = [evaluate(shard=number, shards=3) for number in range(3)]
    merge = MergeEvaluationsOperator(task_id="merge", evaluations=parts[::-1])
    found = merge.execute(context)
    assert (found["items"], found["asked"], found["outcome"]) == (24, 24, "complete")
    assert len(results.load(found["results"])) == 24
    for given, said in [
        (parts[:2], "of 3 shards there are 0, 1"),
        ([*parts, parts[0]], "of 3 shards there are 0, 0, 1, 2"),
        ([parts[0], parts[1], {**parts[2], "dataset_sha256": "other"}], "they differ in dataset_sha256"),
        ([], "there is no evaluation"),
        ([{"results": "file:///x.parquet"}], "one of the evaluations is no shard"),
    ]:
        with pytest.raises(AirflowFailException, match=said):
            MergeEvaluationsOperator(task_id="merge", evaluations=given).execute(context)


def test_each_judge_has_flips_of_its_own_in_all_shards(
    evaluate: Callable[..., dict[str, Any]], context: dict[str, Any], model: openai.Model
) -> None:
    """One judge goes by position, and the other always says that both are alike."""
    model.answers = lambda body: {"position": '{"better": "first"}', "even": '{"better": "tie"}'}.get(
        body["model"], body["messages"][-1]["content"]
    )
    judges = [
        PairwiseJudge(name=name, model=name, rubric="Which is better?") for name in ("position", "even")
    ]
    arms = [SUBJECT | {"arm": "baseline", "prompt": "Say {{word}}"}, SUBJECT]
    parts = [
        evaluate(shard=number, shards=2, subjects=arms, scorers=[Exact(), *judges]) for number in range(2)
    ]
    found = MergeEvaluationsOperator(task_id="merge", evaluations=parts).execute(context)
    assert found["judges"] == ["position", "even"]
    assert found["flips"] == {"position": [24, 24], "even": [0, 24]}


def test_a_prompt_comes_from_another_task_with_its_braces(evaluate: Callable[..., dict[str, Any]]) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    class Read(PlainXComArg):
        def resolve(self, context: Any) -> Any:
            return {"name": "say", "model": "small", "template": "{{word}}", "variables": {"word": "string"}}

    with DAG("d"):
        from airflow.sdk import BaseOperator

        read = Read(BaseOperator(task_id="read"))
    found = evaluate(subjects=[{"arm": "candidate", "prompt": read}, SUBJECT | {"arm": "other"}])
    assert found["outcome"] == "complete"


def test_arms_answer_together_or_are_asked_anew(
    evaluate: Callable[..., dict[str, Any]], model: openai.Model, tmp_path: Path
) -> None:
    """The baseline's answers are found in the store, where they lie for two hours: a provider may have changed since."""

    def aged(found: dict[str, Any], hours: float) -> None:
        for path in (tmp_path / "store").rglob("answers/*/*.json"):
            answer = json.loads(path.read_text())
            path.write_text(json.dumps({**answer, "at": answer["at"] - 3600 * hours}))

    judge = RubricJudge(model="judge", rubric="Is it good?", scale=(1, 5))
    model.answers = lambda body: "4" if body["model"] == "judge" else body["messages"][-1]["content"][::-1]
    arms = [SUBJECT | {"arm": "baseline", "prompt": "Say {{word}}"}, SUBJECT]
    first = evaluate(subjects=arms[:1], scorers=[Exact(), judge])
    assert first["models"] == {"baseline": "small"}
    assert first["answers"]["baseline"]["systems"] == ["small fp_test"]
    aged(first, 0.9)
    young = evaluate(subjects=arms, scorers=[Exact(), judge])
    assert (young["found"], young["asked"]) == (48, 48), "within the hour each is asked for once"
    aged(young, 2)
    again = evaluate(subjects=arms, scorers=[Exact(), judge])
    assert (again["found"], again["asked"]) == (96, 0), "all are of one time"
    for path in (tmp_path / "store").rglob("answers/*/*.json"):
        if json.loads(path.read_text())["at"] < time.time() - 2.5 * 3600:
            continue
        path.unlink()
    old = {*(tmp_path / "store").rglob("answers/*/*.json")}
    assert len(old) == 48, "those of the baseline, and what the judge said of them"
    third = evaluate(subjects=arms, scorers=[Exact(), judge])
    assert third["asked"] == 96, "the baseline's, and the judge's opinion of them, are asked for anew"
    frame = results.load(third["results"])
    assert frame["at"].max() - frame["at"].min() < 600
    assert datetime.fromisoformat(third["answers"]["baseline"]["oldest"]).timestamp() > time.time() - 600
    aged(third, 3)
    evaluate(subjects=arms[:1], scorers=[Exact()], max_age=timedelta(hours=1))
    assert evaluate(subjects=arms, scorers=[Exact()], apart=timedelta(days=1))["asked"] == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dataset_sha256": "0" * 64}, "has the digest"),
        ({"split": "dev"}, "has no split 'dev'"),
        ({"max_cost": 1.0}, "the price of 'small' is not known"),
        ({"max_tokens": 100, "subjects": [{**SUBJECT, "parameters": {}}]}, "may answer without end"),
        ({"llm_conn_id": "absent"}, "a connection is missing: 'absent'"),
        ({"prices": {"small": {"in": 1}}}, "the price of 'small' is"),
        ({"subjects": [{**SUBJECT, "temperature": 1}]}, "a subject has no field 'temperature'"),
        ({"subjects": [{**SUBJECT, "parameters": {"n": 2}}]}, "has the parameter 'n'"),
        ({"dataset": "file:///nowhere.jsonl"}, "there is no file"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_asked(
    evaluate: Callable[..., dict[str, Any]], more: dict[str, Any], said: str, model: openai.Model
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        evaluate(**more)
    assert not model.asked


def test_who_says_nothing_of_masking_has_it(dataset: str) -> None:
    given: dict[str, Any] = {
        "task_id": "evaluate",
        "dataset": dataset,
        "subjects": [SUBJECT],
        "scorers": [Exact()],
    }
    assert [EvaluateOperator(**given, mask=said).mask for said in (None, "", True, False)] == [
        True, True, True, False,
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="mask is 'no'"):
        EvaluateOperator(**given, mask="no")


def test_a_connection_without_a_host_says_so(
    evaluate: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_LLM", '{"conn_type": "pydanticai", "extra": {"model": "anthropic:claude"}}'
    )
    with pytest.raises(AirflowFailException, match="connection 'llm' has no host"):
        evaluate()


def test_a_wrong_key_is_said_and_not_shown(
    evaluate: Callable[..., dict[str, Any]], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "http", "host": url, "password": "sk-wrong-0123456789"}
    monkeypatch.setenv("AIRFLOW_CONN_LLM", json.dumps(fields))
    with pytest.raises(AirflowFailException, match="refuses the API key") as caught:
        evaluate()
    assert "sk-wrong" not in str(caught.value)


PROMPTFOO: dict[str, Any] = {
    "evalId": "eval-1",
    "results": {
        "version": 3,
        "results": [
            {
                "testIdx": place,
                "promptIdx": 0,
                "vars": {"question": f"q{item}"},
                "provider": {"id": "openai:small", "label": ""},
                "prompt": {"label": "p", "raw": "p"},
                "success": item != 1,
                "failureReason": 0 if item != 1 else 1,
                "error": None if item != 1 else "Expected output to contain x",
                "score": 1.0 if item != 1 else 0.25,
                "namedScores": {"tone": 0.5},
                "latencyMs": 1500,
                "cost": 0.002,
                "response": {
                    "output": f"a{item}",
                    "cached": False,
                    "tokenUsage": {"prompt": 7, "completion": 3},
                },
            }
            # Repetitions get places of their own, and come in another order.
            for place, item in enumerate([0, 1, 2, 1, 0, 2])
        ],
    },
}


@pytest.fixture
def imported(tmp_path: Path, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())

    def act(source: Any, content: Any, facts: bool = False, **more: Any) -> Any:
        path = tmp_path / "given.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        given = {"file": path.as_uri(), **more}
        found = ImportEvaluationOperator(task_id="import", source=source, **given).execute(context)
        return found if facts else results.load(found["results"], found["results_sha256"])

    return act


def test_promptfoo_s_items_are_told_by_what_they_ask(imported: Callable[..., pd.DataFrame]) -> None:
    frame = imported("promptfoo", PROMPTFOO)
    assert sorted(frame["scorer"].unique()) == ["passed", "score", "tone"]
    assert set(frame["arm"]) == {"openai-small"}
    assert frame.groupby("item")["run"].nunique().tolist() == [2, 2, 2]
    assert frame.query("scorer == 'score'").groupby("item")["value"].mean().round(2).tolist().count(0.25) == 1
    assert (frame["latency"] == 1.5).all()
    broken = json.loads(json.dumps(PROMPTFOO))
    broken["results"]["results"][0].update(failureReason=2, success=False, score=0)
    broken["results"]["results"][1]["gradingResult"] = {
        "componentResults": [{"metadata": {"graderError": True}}]
    }
    frame = imported("promptfoo", broken, arm="candidate")
    assert frame["value"].isna().sum() == 6  # an error of the provider or the grader is no failure
    assert set(frame["arm"]) == {"candidate"}


def test_a_repetition_from_promptfoo_s_cache_is_refused(imported: Callable[..., pd.DataFrame]) -> None:
    cached = json.loads(json.dumps(PROMPTFOO))
    for one in cached["results"]["results"]:
        one["response"]["cached"] = True
    with pytest.raises(AirflowFailException, match="Run promptfoo with --no-cache"):
        imported("promptfoo", cached)


def test_deepeval_s_metrics_are_scorers(imported: Callable[..., pd.DataFrame]) -> None:
    run = {
        "testRunData": {
            "testCases": [
                {
                    "name": f"test_case_{place}",
                    "input": question,
                    "actualOutput": "a",
                    "metricsData": [
                        {"name": "Answer Relevancy", "score": 0.9, "threshold": 0.5, "success": True},
                        {"name": "Bias", "score": None, "error": "judge timed out"},
                    ],
                }
                for place, question in enumerate(["q0", "q1", "q0"])
            ]
        }
    }
    frame = imported("deepeval", run, arm="new")
    assert frame.groupby("item")["run"].nunique().tolist() in ([1, 2], [2, 1])
    assert frame.groupby("scorer")["value"].count().to_dict() == {"Answer-Relevancy": 3, "Bias": 0}
    assert "q0" not in frame.to_csv()


def test_what_no_float_can_hold_is_no_score(imported: Callable[..., pd.DataFrame]) -> None:
    case = {"input": "q", "tokenCost": 10**400, "metricsData": [{"name": "m", "score": 10**400}]}
    (row,) = imported("deepeval", {"testCases": [case]}).to_dict("records")
    assert (row["error"], pd.isna(row["value"]), pd.isna(row["cost"])) == ("there is no score", True, True)
    tokens = {"prompt": 10**400, "completion": 3}
    result = {"vars": {"a": "q"}, "score": 1, "cost": 10**400, "response": {"tokenUsage": tokens}}
    first, _ = imported("promptfoo", {"results": [result]}).to_dict("records")
    assert (pd.isna(first["cost"]), pd.isna(first["tokens_in"]), first["tokens_out"]) == (True, True, 3)


def test_descriptors_of_evidently_are_scorers(tmp_path: Path, imported: Callable[..., pd.DataFrame]) -> None:
    path = tmp_path / "dataset.parquet"
    pd.DataFrame(
        {
            "id": ["a", "b"],
            "thread": ["t", "t"],
            "Sentiment": [0.5, -0.5],
            "Denials": [True, None],
            "Class": ["OK", "DECLINE"],
        }
    ).to_parquet(path)
    frame = imported(
        "evidently",
        "",
        file=path.as_uri(),
        item="id",
        scores=["Sentiment", "Denials", "Class"],
        cluster="thread",
    )
    values = frame.set_index(["item", "scorer"])["value"]
    assert values["a", "Denials"] == 1.0
    assert pd.isna(values["b", "Denials"])
    assert list(frame.query("scorer == 'Class'")["label"]) == ["OK", "DECLINE"]
    assert set(frame["cluster"]) == {"t"}


def written_by(tool: str) -> str:
    """What a tool wrote: promptfoo 0.123.1 with ``eval --repeat 2``, DeepEval 4.3.1 with its results folder."""
    return gzip.decompress((Path(__file__).parent / "outputs" / f"{tool}.json.gz").read_bytes()).decode()


def test_a_file_that_promptfoo_wrote(imported: Callable[..., pd.DataFrame]) -> None:
    frame = imported("promptfoo", written_by("promptfoo-0.123.1"))
    assert set(frame["arm"]) == {"echo-plain", "echo-short", "answers-plain", "answers-short"}
    assert {"france", "kenya", "chile"} < set(frame["item"])
    assert len(frame.query("scorer == 'passed'")) == 32  # four tests, two prompts, two providers, twice
    values = frame.set_index(["item", "arm", "run", "scorer"])["value"]
    assert values["france", "answers-plain", 1, "brevity"] == 0.5
    assert values["kenya", "echo-short", 0, "passed"] == 0.0
    # A metric is there where a test names it, and nowhere else.
    assert set(frame.query("scorer == 'rubric'")["item"]) == {"chile"}
    assert set(frame.query("item == 'chile'")["scorer"]) == {"passed", "score", "rubric"}
    # What a provider or a grader failed at is missing: also the metric of an answer that never came.
    failed = frame.query("item == 'kenya' and arm.str.startswith('answers')")
    assert set(failed["scorer"]) == {"passed", "score", "accuracy"}
    assert failed["value"].isna().all()
    assert set(failed.query("scorer == 'passed'")["error"]) == {"the provider failed"}
    assert failed["cost"].isna().all()  # 0, says promptfoo of what it does not know
    assert set(frame.query("item == 'france' and arm == 'answers-plain'")["cost"]) == {0.00012}
    assert set(frame.query("item == 'chile' and scorer == 'rubric'")["error"]) == {"a grader failed"}
    assert frame["value"].isna().sum() == 3 * 4 + 3 * 8


def test_repetitions_of_a_promptfoo_that_stores_each_are_samples(
    imported: Callable[..., pd.DataFrame],
) -> None:
    found = json.loads(written_by("promptfoo-0.123.1-cached"))
    frame = imported("promptfoo", found)
    assert sum(one["response"]["cached"] for one in found["results"]["results"]) == 7
    assert frame.groupby("item")["output_digest"].nunique().tolist() == [4, 4]  # two prompts, twice
    assert set(frame.query("scorer == 'digit' or scorer == 'code'")["value"]) == {
        0.0
    }  # of a set of assertions
    assert len(frame) == 4 * 3 + 4 * 6
    found["metadata"]["promptfooVersion"] = "0.121.3"
    with pytest.raises(AirflowFailException, match="Run promptfoo with --no-cache"):
        imported("promptfoo", found)


def test_a_file_that_deepeval_wrote(imported: Callable[..., pd.DataFrame]) -> None:
    frame = imported("deepeval", written_by("deepeval-4.3.1"))
    assert frame.groupby("scorer")["value"].count().to_dict() == {"Exact-Match": 6, "Length": 4}
    assert set(frame["run"]) == {0, 1}
    assert frame["item"].nunique() == 3
    assert set(frame.query("item == 'france'")["latency"]) == {0.4}
    assert set(frame.query("value.isna()")["error"]) == {"the metric failed"}
    unscored = json.loads(written_by("deepeval-4.3.1"))
    del unscored["testCases"][4]["metricsData"]
    assert (
        imported("deepeval", unscored)["value"].isna().sum() == 4
    )  # an answer that nothing has scored is seen to be so
    talks = imported("deepeval", written_by("deepeval-4.3.1-conversations"))
    assert talks["value"].tolist() == [0.5, 0.5]
    assert "hello" in set(talks["item"])
    assert not talks["item"].str.contains("test_case").any()  # which is a place


def test_a_table_that_evidently_wrote(
    tmp_path: Path, imported: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset
    from evidently.descriptors import Contains, ExactMatch, TextLength

    answers = {"id": ["france", "peru"], "answer": ["Paris", "Lima is it"], "expected": ["Paris", "Lima"]}
    descriptors = [
        TextLength("answer", alias="length"),
        ExactMatch(columns=["answer", "expected"], alias="exact"),
        Contains("answer", items=["Lima"], alias="names it"),
    ]
    definition = DataDefinition(text_columns=["answer", "expected"], id_column="id")
    path = tmp_path / "descriptors.parquet"
    Dataset.from_pandas(pd.DataFrame(answers), definition, descriptors).as_dataframe().to_parquet(path)
    frame = imported("evidently", "", file=path.as_uri(), item="id", scores=["length", "exact", "names it"])
    values = frame.set_index(["item", "scorer"])["value"].to_dict()
    assert values == {
        ("france", "length"): 5.0, ("france", "exact"): 1.0, ("france", "names-it"): 0.0,
        ("peru", "length"): 10.0, ("peru", "exact"): 0.0, ("peru", "names-it"): 1.0,
    }  # fmt: skip


def gated(context: dict[str, Any], evaluation: Any, **more: Any) -> dict[str, Any]:
    given = {"task_id": "gate", "evaluation": evaluation, "on_verdict": "record", **more}
    return EvaluationGateOperator(**given).execute(context)


def beside(context: dict[str, Any], *parts: dict[str, Any]) -> dict[str, Any]:
    return MergeEvaluationsOperator(task_id="merge", evaluations=list(parts)).execute(context)


def promptfoo(right: int, **changes: Any) -> dict[str, Any]:
    """A file of 40 tests, of which so many are passed; the prompt and its digest are in ``changes``."""
    test = changes.pop("test", {})
    one = {
        "provider": {"id": "small", "label": ""},
        "promptId": "p1",
        "prompt": {"label": "p", "raw": "p"},
        "response": {"output": "a", "cached": False},
        "latencyMs": 10,
        **changes,
    }
    made = [
        {
            **one,
            "vars": {"question": f"q{n}"},
            "testCase": {"assert": [{"type": "contains", "value": f"a{n}", "metric": "right"}], **test},
            "success": n < right, "score": float(n < right), "namedScores": {"right": float(n < right)},
        }
        for n in range(40)
    ]  # fmt: skip
    inner = {"timestamp": "2026-01-01T00:00:00.000Z", "results": made}
    return {"results": inner, "metadata": {"promptfooVersion": "0.123.1"}}


def test_two_files_of_promptfoo_come_to_the_gate(
    imported: Callable[..., Any], context: dict[str, Any]
) -> None:
    new = imported("promptfoo", promptfoo(40, promptId="p2"), facts=True, arm="candidate")
    old = imported("promptfoo", promptfoo(20), facts=True, arm="baseline")
    assert new["dataset_sha256"] == old["dataset_sha256"]
    assert new["scorers"] == old["scorers"]
    assert new["arms"]["candidate"] != old["arms"]["baseline"]
    assert old["answers"]["baseline"]["oldest"] == "2026-01-01T00:00:00+00:00"
    assert (new["judges"], new["runs"], new["version"]) == ([], 1, "0.123.1")
    again = imported("promptfoo", promptfoo(21), facts=True, arm="other")
    assert again["arms"]["other"] == old["arms"]["baseline"], "provider and prompt answered, not a file"
    both = beside(context, new, old)
    assert (both["items"], sorted(both["arms"])) == (40, ["baseline", "candidate"])
    found = gated(context, both, policy=GatePolicy("right"))
    assert (found["outcome"], found["opens"], found["mode"]) == ("better", True, "beside")
    assert gated(context, beside(context, again, new), policy=GatePolicy("right"), candidate="other",
                 baseline="candidate")["outcome"] == "worse"  # fmt: skip
    # Another assertion, tool or item under the same name is no comparison.
    harder = {"assert": [{"type": "equals", "value": "a", "metric": "right"}]}
    changed = promptfoo(20)
    changed["metadata"]["promptfooVersion"] = "0.124.0"
    fewer = promptfoo(20)
    fewer["results"]["results"].pop()
    for content, said in [
        (promptfoo(20, test=harder), "differ in dataset_sha256"),
        (fewer, "differ in dataset_sha256"),
        (changed, r"differ in scorers\[passed\]"),
    ]:
        other = imported("promptfoo", content, facts=True, arm="baseline")
        with pytest.raises(AirflowFailException, match=said):
            beside(context, new, other)
    with pytest.raises(AirflowFailException, match="have both the arm 'candidate'"):
        beside(context, new, new)
    # Judged by a model, it opens nothing before the model was measured.
    rubric = {"assert": [{"type": "llm-rubric", "value": "is it kind?", "metric": "right"}]}
    parts = [
        imported("promptfoo", promptfoo(right, test=rubric), facts=True, arm=arm)
        for arm, right in (("candidate", 40), ("baseline", 20))
    ]
    assert parts[0]["judges"] == ["passed", "right", "score"]
    assert gated(context, beside(context, *parts), policy=GatePolicy("right"))["outcome"] == "cannot tell"


def test_one_file_of_promptfoo_with_two_arms_comes_to_the_gate(
    imported: Callable[..., Any], context: dict[str, Any]
) -> None:
    found = imported("promptfoo", written_by("promptfoo-0.123.1"), facts=True)
    assert (found["runs"], len(set(found["arms"].values()))) == (2, 4)
    assert "rubric" in found["judges"]
    arms = {"candidate": "answers-plain", "baseline": "echo-plain"}
    said = gated(context, found, policy=GatePolicy("accuracy"), **arms)
    assert said["outcome"] in ("cannot tell", "invalid")
    assert (said["candidate"]["runs"], said["baseline"]["arm"]) == (2, "echo-plain")
    with pytest.raises(AirflowFailException, match="one subject is given, and the file has the arms"):
        imported("promptfoo", written_by("promptfoo-0.123.1"), subject="s")


def test_two_files_of_deepeval_come_to_the_gate(
    imported: Callable[..., Any], context: dict[str, Any]
) -> None:
    def run(right: int, model: str | None = None, expected: str = "yes") -> dict[str, Any]:
        return {
            "testCases": [
                {
                    "input": f"q{n}", "actualOutput": f"a{right}", "expectedOutput": expected,
                    "metricsData": [{"name": "Exact Match", "score": float(n < right), "evaluationModel": model}],
                }
                for n in range(40)
            ]
        }  # fmt: skip

    new = imported("deepeval", run(40), facts=True, arm="candidate", subject="the new one")
    old = imported("deepeval", run(20), facts=True, arm="baseline", at="2026-01-01T00:00:00Z")
    assert new["arms"] == {"candidate": "the new one"}
    assert (new["answers"]["candidate"]["oldest"], old["answers"]["baseline"]["oldest"][:10]) == (
        "",
        "2026-01-01",
    )
    found = gated(context, beside(context, new, old), policy=GatePolicy("Exact-Match"))
    assert (found["outcome"], found["opens"]) == ("better", True)
    by_model = [
        imported("deepeval", run(right, "gpt"), facts=True, arm=arm)
        for arm, right in (("candidate", 40), ("baseline", 20))
    ]
    said = gated(context, beside(context, *by_model), policy=GatePolicy("Exact-Match"))
    assert (said["outcome"], by_model[0]["judges"]) == ("cannot tell", ["Exact-Match"])
    for other, name in (
        (imported("deepeval", run(20, expected="no"), facts=True, arm="baseline"), "dataset_sha256"),
        (by_model[1], r"scorers\[Exact-Match\]"),
    ):
        with pytest.raises(AirflowFailException, match=f"differ in {name}"):
            beside(context, new, other)


def test_a_table_of_evidently_with_two_arms_comes_to_the_gate(
    tmp_path: Path, imported: Callable[..., Any], context: dict[str, Any]
) -> None:
    path = tmp_path / "dataset.parquet"
    arms = [(arm, n) for arm in ("baseline", "candidate") for n in range(40)]
    pd.DataFrame(
        {
            "id": [f"q{n}" for _, n in arms],
            "who": [arm for arm, _ in arms],
            "names it": [arm == "candidate" or n < 20 for arm, n in arms],
        }
    ).to_parquet(path)
    found = imported(
        "evidently", "", facts=True, file=path.as_uri(), item="id", scores=["names it"], arm="who"
    )
    said = gated(context, found, policy=GatePolicy("names-it"))
    assert (said["outcome"], said["items"], said["opens"]) == ("better", 40, True)


@pytest.mark.parametrize(
    ("source", "content", "said"),
    [
        ("promptfoo", "{", "are no JSON"),
        ("promptfoo", "{}", "has no results of promptfoo"),
        ("deepeval", '{"testCases": []}', "has no results of DeepEval"),
        ("deepeval", '{"testCases": [{"metricsData": [{"name": "m", "score": 1}]}]}', "names no item"),
        ("deepeval", '{"testCases": [{"input": "q", "metricsData": []}]}', "has no scores"),
    ],
)
def test_a_file_of_something_else_is_refused(
    source: str, content: str, said: str, imported: Callable[..., pd.DataFrame]
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        imported(source, content)


def test_an_import_without_columns_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no column is named as a score"):
        ImportEvaluationOperator(task_id="import", source="evidently", file="file:///x.parquet")
    with pytest.raises(InvalidInput, match="parallel is 0"):
        EvaluateOperator(task_id="e", dataset="x", subjects=[subject()], scorers=[Exact()], parallel=0)
    with pytest.raises(InvalidInput, match="tries is 0"):
        EvaluateOperator(task_id="e", dataset="x", subjects=[subject()], scorers=[Exact()], tries=0)
