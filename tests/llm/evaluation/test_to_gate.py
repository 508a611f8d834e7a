"""What an evaluation has found is what a gate reads: equal arms do not fail, and a regression does."""

from __future__ import annotations

import random
from pathlib import Path

from airflow_pipeops.llm import results
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.policy import GatePolicy
from tests import openai
from tests.llm.evaluation.conftest import plan, run, subject


def test_a_gate_reads_the_table(model: openai.Model, url: str, tmp_path: Path) -> None:
    chance = random.Random(3)

    def answers(body: openai.Body) -> str:
        asked = body["messages"][-1]["content"]
        right = 0.4 if asked.startswith("Say") else 0.9
        return asked.removeprefix("Say ")[::-1] if chance.random() < right else "no"

    model.answers = answers
    arms = {"same": "{{word}}", "worse": "Say {{word}}"}
    outcomes = {}
    for name, prompt in arms.items():
        subjects = (subject("baseline"), subject("candidate", prompt=prompt))
        found = run(url, tmp_path / name, plan(60, subjects=subjects, runs=2))
        frame = results.of_bytes(results.to_bytes(results.table(found.rows)))
        policy = GatePolicy(metric="exact")
        outcomes[name] = judge(frame, policy, items=[f"i{n:04d}" for n in range(60)]).verdict
    assert outcomes["worse"].outcome == "worse", outcomes["worse"]
    assert outcomes["same"].outcome != "worse", outcomes["same"]
