"""That the model behind an endpoint has changed is seen, and the endpoint's own noise is not taken for it."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops import Deliverable, ProviderDriftOperator
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.production.provider import Again, Pin, at_least, judge
from tests import openai

API = Deliverable("api")


def pin(answers: dict[str, list[str]], served: str = "m1") -> Pin:
    return Pin("m", served, ("f1",), "q", answers)


STEADY = {f"p{n}": ["a"] * 5 for n in range(20)}
NOISY = {f"p{n}": list("abcde") for n in range(20)}


@pytest.mark.parametrize(
    ("pinned", "again", "verdict", "said"),
    [
        (pin(STEADY), Again("m1", ("f1",), dict.fromkeys(STEADY, "a")), "no change", "0 of 20"),
        (
            pin(STEADY),
            Again("m1", ("f2",), dict.fromkeys(STEADY, "a")),
            "no change",
            "fingerprint is another",
        ),
        (pin(STEADY), Again("m1", ("f1",), dict.fromkeys(STEADY, "b")), "changed", "20 of 20"),
        (
            pin(STEADY),
            Again("m1", ("f1",), {name: "b" if name < "p14" else "a" for name in STEADY}),
            "changed",
            "6 of 20",
        ),
        (
            pin(STEADY),
            Again("m1", ("f1",), {**dict.fromkeys(STEADY, "a"), "p1": "b"}),
            "no change",
            "1 of 20",
        ),
        (pin(STEADY), Again("m2", ("f1",), dict.fromkeys(STEADY, "a")), "changed", "as m2 now"),
        (pin(STEADY), Again("m1", ("f1",), {"p1": "a"}), "cannot tell", "1 of 20"),
        (pin(NOISY), Again("m1", ("f1",), dict.fromkeys(NOISY, "z")), "cannot tell", "repeat themselves"),
        (pin({"p": ["a", "a"]}), Again("m1", (), {"p": "b"}), "cannot tell", "repeat themselves"),
    ],
)
def test_the_first_rule_that_matches_decides(pinned: Pin, again: Again, verdict: str, said: str) -> None:
    found = judge(pinned, again)
    assert (found.verdict, said in found.reason) == (verdict, True), found.reason
    assert Pin.from_json(json.loads(json.dumps(pinned.to_json()))).answers == pinned.answers


def test_one_answer_does_not_tell_how_steady_it_is() -> None:
    with pytest.raises(InvalidInput, match="fewer than 2 pinned"):
        judge(pin({"p": ["a"]}), Again("m1", (), {"p": "a"}))


def test_the_law_of_the_sum_is_exact() -> None:
    chances = [0.1, 0.5, 0.9, 0.25]
    for count in range(6):
        exact = sum(
            math.prod(chance if hit else 1 - chance for chance, hit in zip(chances, hits, strict=True))
            for hits in itertools.product([0, 1], repeat=4)
            if sum(hits) >= count
        )
        assert at_least(chances, count) == pytest.approx(exact)


@pytest.mark.parametrize("steady", [0.5, 0.9, 0.99])
def test_the_endpoints_own_noise_alarms_as_seldom_as_is_stated(steady: float) -> None:
    """Each probe has answers of its own, and noise of its own; nothing changes, and 5 % may alarm."""
    draw, runs = random.Random(7), 800

    def answer() -> str:
        return "a" if draw.random() < steady else str(draw.randrange(30))

    alarms = sum(
        judge(
            pin({f"p{n}": [answer() for _ in range(5)] for n in range(20)}),
            Again("m1", (), {f"p{n}": answer() for n in range(20)}),
            alpha=0.05,
        ).verdict
        == "changed"
        for _ in range(runs)
    )
    assert alarms / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


# --- against an endpoint --------------------------------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[openai.Model]:
    found = openai.Model()
    with openai.serving(found) as url:
        named = {"conn_type": "pydanticai", "host": url, "password": openai.KEY}
        monkeypatch.setenv("AIRFLOW_CONN_PYDANTICAI_DEFAULT", json.dumps(named))
        yield found


@pytest.fixture
def probes(tmp_path: Path) -> str:
    path = tmp_path / "probes.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "input": f"probe {n}"}) + "\n" for n in range(12)))
    return str(path)


def watch(context: dict, probes: str, **more: object) -> dict:
    return ProviderDriftOperator(task_id="w", probes=probes, model="small", deliverable=API, **more).execute(
        context
    )  # type: ignore[arg-type]


def test_a_model_that_changes_silently_is_seen(model, probes, store, context) -> None:
    first = watch(context, probes)
    assert (first["verdict"], first["drifted"], len(model.asked)) == ("pinned", None, 60)
    same = watch(context, probes, pinned=first["pinned"])
    assert (same["verdict"], same["drifted"], len(model.asked)) == ("no change", False, 72)
    model.answers = lambda body: body["messages"][-1]["content"].upper()
    other = watch(context, probes, pinned=first["pinned"])
    assert (other["verdict"], other["drifted"], other["strange"]) == ("changed", True, 12)
    body = context["outlet_events"][API.asset("drift")].extra["body"]
    assert (body["subject"], body["drifted"]) == ("provider", True)
    assert all(one["temperature"] == 0 for one in model.asked)
    assert b"PROBE" not in b"".join(path.read_bytes() for path in store.rglob("*.json"))


def test_faults_are_tried_again_and_missing_answers_are_no_change(model, probes, store, context) -> None:
    model.fault = lambda number, body: "busy" if number % 3 == 0 else ""
    first = watch(context, probes, runs=2)
    assert first["verdict"] == "pinned"
    model.fault = lambda number, body: "page"
    found = watch(context, probes, pinned=first["pinned"], runs=2)
    assert (found["verdict"], found["drifted"]) == ("cannot tell", None)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pinned": {"uri": "x"}}, "earlier run"),
        ({"parameters": {"temperature": 1}}, "were pinned"),
        ({"probes": "no.jsonl"}, "no file"),
    ],
)
def test_bad_input_costs_nothing(more, said, model, probes, store, context) -> None:
    first = watch(context, probes, runs=2)
    asked = len(model.asked)
    given = {"probes": probes, "pinned": first["pinned"], **more}
    with pytest.raises(AirflowFailException, match=said):
        ProviderDriftOperator(task_id="w", model="small", **given).execute(context)
    assert len(model.asked) == asked


def test_a_wrong_key_ends_it_at_once(model, probes, store, context, monkeypatch) -> None:
    name = "AIRFLOW_CONN_PYDANTICAI_DEFAULT"
    monkeypatch.setenv(name, json.dumps({**json.loads(os.environ[name]), "password": "wrong-key-12345"}))
    with pytest.raises(Exception, match="refuses the API key") as error:
        watch(context, probes)
    assert "wrong-key" not in str(error.value)
    assert len(model.asked) <= 8


@pytest.mark.parametrize("wrong", [{"runs": 1}, {"alpha": 0}])
def test_what_makes_no_sense_is_said_when_the_dag_is_read(wrong: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        ProviderDriftOperator(task_id="w", probes="p.jsonl", model="m", **wrong)
