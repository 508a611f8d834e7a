"""A prompt on its way to production: real repositories, a sandbox, a registry, and an endpoint that answers."""

from __future__ import annotations

import json
import runpy
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.records import PER_ENVIRONMENT, Record, RecordKind
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.llm.gate.baseline import Pin
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.llm.prompts.registry import MLflowPlace
from airflow_pipeops.provider.examples import example_dags
from tests import openai
from tests.dags.test_example_dags import run_dag
from tests.git.conftest import git
from tests.ledgers import event as as_read
from tests.servers import free_ports

NAME = "flight-notice"
FILE = example_dags() / "prompt_to_release.py"


def write(repository: Path, work: Path, **files: str) -> str:
    """Commit files, as a person does; a name has ``__`` for a slash."""
    if not work.exists():
        git("clone", "--quiet", str(repository), str(work))
    for name, content in files.items():
        path = work / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", "Change", cwd=work)
    git("push", "--quiet", "origin", "HEAD:main", cwd=work)
    return git("rev-parse", "HEAD", cwd=work)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[tuple[Stack, int]]:
    """The demo's stack, with the service whose pods read a prompt; and the port of production."""
    stack = Stack(tmp_path_factory.mktemp("shop") / "home", Ports(airflow=free_ports(2), nodes=free_ports(6)))
    try:
        stack.prepare()
        stack.start_sandbox()
        stack.migrate()
        headers = {"Authorization": f"Bearer {stack.sandbox_token('deployer')}"}
        for application in stack.seeds.applications():
            if application["metadata"]["name"].startswith(NAME):
                httpx.post(
                    f"{stack.sandbox_url}/api/v1/applications", json=application, headers=headers, timeout=30
                ).raise_for_status()
        yield stack, stack.ports.endpoints[f"{NAME}-production"]
    finally:
        stack.stop()


def prompt(text: str) -> Prompt:
    return Prompt.from_json(
        {
            "name": NAME,
            "model": "small",
            "template": [
                {"role": "system", "content": "You write to passengers."},
                {"role": "user", "content": text},
            ],
            "variables": {"flight": "string", "minutes": "integer"},
            "parameters": {"max_tokens": 50, "temperature": 0},
        }
    )


ITEMS = [
    {
        "id": n,
        "flight": f"AB {n}",
        "minutes": 10 + n,
        "expected": f"Flight AB {n} leaves {10 + n} minutes late",
    }
    for n in range(80)
]


def serves(port: int, wanted: Prompt) -> Prompt:
    """What production works with, once it carries the digest of a prompt."""
    until = time.monotonic() + 120
    while (told := httpx.get(f"http://127.0.0.1:{port}/", timeout=10).json())["sha256"] != wanted.sha256:
        assert time.monotonic() < until, "production does not work with the prompt"
        time.sleep(0.2)
    return Prompt.from_json(told["prompt"])


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("named", [True, False], ids=["the gate is named", "the chain alone"])
def test_the_gate_finds_what_its_own_dag_has_released(context, approved: bool, named: bool) -> None:
    """By records that are laid where the tasks lay them, with the parents that the tasks give them."""
    dag = next(one for one in runpy.run_path(str(FILE)).values() if isinstance(one, DAG))
    gate = dag.get_task("gate")
    pin = Pin("candidate", "the released one", "d" * 64, at="2026-01-01T00:00:00+00:00")
    bodies: dict[str, tuple[RecordKind, dict[str, Any]]] = {
        "gate": ("evaluation", {"subject": "prompt gate", "promote": True, "candidate": pin.to_json()}),
        "promote_to_staging": ("change", {"commit": "1" * 40}),
        "staging_is_live": ("release", {"revision": "1" * 40}),
        **({"approve": ("approval", {"answer": "yes"})} if approved else {}),
        "promote_to_production": ("change", {"commit": "2" * 40}),
        "production_is_live": ("release", {"revision": "2" * 40}),
    }
    made: dict[str, Record] = {}
    for number, (name, (kind, body)) in enumerate(bodies.items()):
        task = dag.get_task(name)
        parents = [one.operator.task_id for one in task.parents]
        if name == "promote_to_production":
            assert "gate" in parents
            parents = parents if named else [one for one in parents if one != "gate"]
        made[name] = Record(
            kind, NAME, body, tuple(made[one].id for one in parents if one in made),
            environment=task.environment if kind in PER_ENVIRONMENT else None,
            at=f"2026-01-01T00:0{number}:00+00:00",
        )  # fmt: skip
        event = as_read(made[name].to_extra(), datetime.fromisoformat(made[name].at))
        for asset in task.record_assets(kind):
            context["inlet_events"].setdefault(asset, []).append(event)
    for asset in gate.inlets:
        context["inlet_events"].setdefault(asset, [])
    found = {"arms": {"baseline": "another one", "candidate": "new"}, "dataset_sha256": "d" * 64}
    gate.evaluation = found
    with pytest.raises(AirflowFailException, match="'baseline' is another one, and the released is released"):
        gate.execute(context)
    gate.evaluation = {**found, "arms": {"candidate": "new"}}
    with pytest.raises(AirflowFailException, match="absent of the baseline"):  # found, and held against
        gate.execute(context)


@pytest.mark.nightly  # the demo, which the gate runs, goes these ways in a whole Airflow, and asks a person besides
@pytest.mark.timeout(1800)
def test_a_prompt_goes_to_production_and_one_that_is_worse_does_not(
    shop: tuple[Stack, int], tmp_path: Path
) -> None:
    stack, port = shop
    repository, items = tmp_path / "prompts.git", tmp_path / "items"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    items.mkdir()
    (items / f"{NAME}.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    file = f"prompts__{NAME}__prompt.yaml"
    first = prompt("Flight {{flight}} leaves {{minutes}} minutes late")
    write(repository, tmp_path / "person", **{file: json.dumps(first.to_json(), indent=1)})
    model = openai.Model(answers=lambda body: body["messages"][-1]["content"])
    with openai.serving(model) as url:
        added = {
            "PIPEOPS_PROMPT_REPO": {"conn_type": "git_repository", "host": str(repository)},
            "PIPEOPS_PROMPT_ITEMS": {"conn_type": "pipeops_storage", "host": items.as_uri()},
            "PYDANTICAI_DEFAULT": {"conn_type": "pydanticai", "host": url, "password": openai.KEY},
        }
        env = {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in added.items()}

        done = run_dag(stack, "prompt_to_release", {"approval": "policy"}, env=env, timeout=900)
        assert done["state"] == "success", done["log"][-6000:]
        assert done["tasks"]["approve"] == "skipped"
        kinds = [one["kind"] for one in done["emitted"]]
        for kind, count in {"prompt": 1, "validation": 1, "change": 2, "release": 3}.items():
            assert kinds.count(kind) == count, kinds
        assert serves(port, first) == first
        place = MLflowPlace(stack.registry())
        shown = place.named(NAME, "production")
        assert shown is not None
        assert (shown.version, shown.sha256) == ("1", first.sha256)
        assert len(model.asked) == len(ITEMS), "nothing is in production yet, so one arm was asked"

        worse, better = (
            prompt("{{flight}}: {{minutes}} minutes"),
            prompt("Dear all. " + first.messages[1].content),
        )
        write(repository, tmp_path / "person", **{file: json.dumps(worse.to_json())})
        closed = run_dag(stack, "prompt_to_release", {"approval": "policy"}, env=env, timeout=900)
        assert (closed["state"], closed["tasks"]["gate"]) == ("failed", "failed"), closed["log"][-6000:]
        assert closed["tasks"]["promote_to_staging"] == "upstream_failed"
        assert "the gate stays closed (worse)" in closed["log"]
        assert serves(port, first) == first

        write(repository, tmp_path / "person", **{file: json.dumps(better.to_json())})
        opened = run_dag(stack, "prompt_to_release", {"approval": "policy"}, env=env, timeout=900)
        assert opened["state"] == "success", opened["log"][-6000:]
        assert (opened["tasks"]["gate"], opened["tasks"]["first_of_all"]) == ("success", "skipped")
        assert serves(port, better) == better
        again = place.named(NAME, "production")
        assert again is not None
        assert (again.version, again.sha256) == ("2", better.sha256)
