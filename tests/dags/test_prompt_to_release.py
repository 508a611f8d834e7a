"""A prompt on its way to production: real repositories, a sandbox, a registry, and an endpoint that answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.llm.prompts.prompt import Prompt
from airflow_pipeops.llm.prompts.registry import MLflowPlace
from tests import openai
from tests.dags.test_example_dags import run_dag
from tests.git.conftest import git
from tests.servers import free_ports

NAME = "flight-notice"


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
