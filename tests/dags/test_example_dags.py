"""Each example DAG, run to its end by ``dag.test()`` against real Git repositories and a real sandbox."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakKeyDictionary

import httpx
import pandas as pd
import pytest
from airflow.sdk import DAG

from airflow_pipeops.argocd.operators import ArgoCDSyncOperator
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.demo import flights
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import DAGS, Stack
from airflow_pipeops.demo.warm import LIBRARIES
from airflow_pipeops.flux.sensors import FluxReadySensor
from airflow_pipeops.models import training
from airflow_pipeops.provider.examples import example_dags
from tests import warm
from tests.servers import free_ports

RUNNER = Path(__file__).with_name("run_dag.py")
FILES = sorted(example_dags().glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_short_and_draws_its_flow(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "─▶" in (ast.get_docstring(ast.parse(text)) or "")
    assert len(text.splitlines()) <= 240, "short enough to read in one sitting"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_by_hand_asks_by_a_form(path: Path) -> None:
    """Each field is described, and may be left as it is; where there are choices, the form offers them."""
    dag = next(item for item in runpy.run_path(str(path)).values() if isinstance(item, DAG))
    assert dag.params
    for name in dag.params:
        field = dag.params.get_param(name)
        assert field.description, name
        field.resolve()
        assert "enum" in field.schema or field.schema["type"] in (["null", "string"], "number"), name
    assert "pipeops" in dag.tags, "its runs get a note"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_who_waits_for_a_commit_takes_a_later_one_that_contains_it(path: Path) -> None:
    """Many deliverables live in one repository: while one waits, others commit."""
    dag = next(item for item in runpy.run_path(str(path)).values() if isinstance(item, DAG))
    waits = [
        one for one in dag.tasks if isinstance(one, (ArgoCDAppSensor, ArgoCDSyncOperator, FluxReadySensor))
    ]
    for one in waits:
        assert one.git_conn_id == "pipeops_gitops_repo", one.task_id


def test_some_wait_for_commits() -> None:
    """Else what is asked of them above is asked of nobody."""
    waiting = {path.stem for path in FILES if "ArgoCDAppSensor(" in path.read_text(encoding="utf-8")}
    assert waiting >= {"code_to_release", "data_to_model", "desired_state_drift", "model_guard"}


def test_the_demo_knows_them_all() -> None:
    assert {path.stem for path in FILES} == DAGS


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Iterator[Stack]:
    """Repositories, sandbox, Airflow's database and connections; no Airflow processes."""
    stack = Stack(
        tmp_path_factory.mktemp("laptop") / "home", Ports(airflow=free_ports(2), nodes=free_ports(6))
    )
    try:
        stack.prepare()
        stack.start_sandbox()
        stack.migrate()
        headers = {"Authorization": f"Bearer {stack.sandbox_token('deployer')}"}
        for application in stack.seeds.applications():
            httpx.post(
                f"{stack.sandbox_url}/api/v1/applications", json=application, headers=headers, timeout=30
            ).raise_for_status()
        yield stack
    finally:
        stack.stop()


#: Processes that have loaded what a run of a DAG needs; each belongs to a stack, and ends with it.
_WARM: WeakKeyDictionary[Stack, subprocess.Popen[bytes]] = WeakKeyDictionary()
_MODELS = ("pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.metrics", "skops.io")
#: What a DAG's tasks load, where that takes long.
_LOADED = {"drift_to_retrain": LIBRARIES, "batch_scores": _MODELS, "model_guard": _MODELS}


def run_dag(
    stack: Stack,
    dag: str,
    conf: dict | None = None,
    payloads: Sequence[dict] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 800,
) -> dict:
    """Run a DAG in a process of its own, by hand or by what watchers told; return the states."""
    if stack not in _WARM:
        command = [sys.executable, warm.__file__, *warm.DAGS, *_LOADED.get(dag, ())]
        _WARM[stack] = stack._processes.start("warm", command, stack.environment, stdin=True)
    with TemporaryDirectory() as folder:
        words = [str(RUNNER), dag, json.dumps(conf or {}), json.dumps(list(payloads))]
        warm.asked(_WARM[stack], words, env or {}, Path(folder))
        done = warm.Running(Path(folder), stack.check).wait(timeout)
        log = done.stdout + done.stderr
        assert done.returncode == 0, log[-6000:]
        found: dict = json.loads(done.stdout.splitlines()[-1])
    found["log"] = log
    return found


@pytest.mark.nightly  # a tenth of the gate's time; the demo, which the gate runs, goes the same ways in a whole Airflow
@pytest.mark.timeout(1800)
def test_from_commit_and_data_to_releases_and_back(laptop: Stack) -> None:
    """One after the other, since each lives on what the one before has done."""
    laptop.seeds.push_version(1)
    code = run_dag(laptop, "code_to_release")
    assert code["state"] == "success", code["log"][-5000:]
    assert httpx.get(laptop.endpoint("delay-api-production") + "/version").json() == {"version": "1"}

    laptop.seeds.push_version(2)
    parent = ["git", "-C", str(laptop.seeds.app_repository), "rev-parse", "main~1"]
    first = subprocess.run(parent, capture_output=True, text=True, check=True).stdout.strip()
    earlier = run_dag(laptop, "code_to_release", {"revision": first, "environment": "staging"})
    assert earlier["state"] == "success", earlier["log"][-5000:]
    assert earlier["tasks"]["staging_is_live"] == "success"
    assert earlier["tasks"]["promote_to_production"] == "skipped"
    assert httpx.get(laptop.endpoint("delay-api-staging") + "/version").json() == {"version": "1"}

    laptop.deliver_history((1, 2))
    model = run_dag(laptop, "data_to_model")
    assert model["state"] == "success", model["log"][-5000:]
    assert model["tasks"]["champion"] == "success"
    assert httpx.get(laptop.endpoint("flight-delay-production") + "/v2/health/ready").status_code == 200

    laptop.deliver_month(3)
    drift = run_dag(
        laptop, "drift_to_retrain", {"batch": sorted(laptop.home.glob("data/*.parquet"))[-1].name}
    )
    assert drift["state"] == "success", drift["log"][-5000:]
    unknown = run_dag(laptop, "drift_to_retrain", {"batch": "no-such.parquet"})
    assert unknown["tasks"]["new_batches"] == "failed"
    assert "there is no batch 'no-such.parquet'" in unknown["log"]
    assert drift["tasks"]["judge.decide[0]"] == "success"

    nobody = run_dag(laptop, "drift_to_retrain", {"version": "99"})
    assert nobody["tasks"]["champion"] == "failed", "the form's version is held against, not the champion"

    guard = run_dag(laptop, "release_guard")
    assert guard["state"] == "success", guard["log"][-5000:]
    assert guard["tasks"]["delay_api.watch"] == "success"
    assert guard["tasks"]["delay_api.revert"] == "skipped", "a steady release is left alone"
    one = run_dag(laptop, "release_guard", {"deliverable": "flight-delay", "on_degraded": "report"})
    assert one["tasks"]["flight_delay.watch"] == "success"
    assert one["tasks"]["delay_api.watch"] == "skipped", "nobody asked for it"
    assert one["tasks"]["flight_delay_staging.watch"] == "skipped", "production is what the form begins with"
    staging = run_dag(laptop, "release_guard", {"deliverable": "flight-delay", "environment": "staging"})
    assert staging["tasks"]["flight_delay_staging.watch"] == "success"
    assert staging["tasks"]["flight_delay.watch"] == "skipped", "nobody asked for production"

    infrastructure = run_dag(laptop, "desired_state_drift", {"policy": "heal"})
    assert infrastructure["state"] == "success", infrastructure["log"][-5000:]
    assert infrastructure["tasks"]["heal"] == "skipped", "there is no difference to heal"


@pytest.fixture
def data_only(tmp_path) -> Iterator[Stack]:
    """Airflow's database and connections, and no deliverable in the sandbox."""
    stack = Stack(tmp_path / "home", Ports(airflow=free_ports(2), nodes=free_ports(6)))
    try:
        stack.prepare()
        stack.start_sandbox()
        stack.migrate()
        yield stack
    finally:
        stack.stop()


def put_champion(stack: Stack) -> None:
    """Train a model on two months, and register it as what production would serve."""
    frame = pd.concat([flights.month(number, 3000, seed=number) for number in (1, 2)], ignore_index=True)
    trained = training.train(
        flights.features(frame),
        stack.home / "artifacts",
        name="flight-delay",
        trainer=flights.train,
        scorer=flights.score,
        metric="auc",
        holdout=0.1,
        time_column="day",
        seed=0,
        target="late",
        data_digest="",
    )
    uris = {name: trained[name] for name in ("reference_uri", "holdout_uri", "metrics")}
    version = stack.registry().register("flight-delay", trained["artifact_uri"], trained["sha256"], **uris)
    stack.registry().set_alias("flight-delay", "champion", version.version)


@pytest.mark.timeout(900)
def test_of_several_batches_each_is_judged_for_itself(data_only: Stack) -> None:
    """One run stands for five batches: what cannot be read fails alone, what is bad is recorded as such."""
    data = data_only.home / "data"
    names = [data_only.deliver_month(number).name for number in (3, 4)]
    (data / "damaged.parquet").write_bytes((data / names[0]).read_bytes()[:5000])
    flights.write(flights.month(5, 3000).drop(columns="late"), data / "no-label.parquet")
    uris = [
        data.as_uri() + "/damaged.parquet",
        f"{data.as_uri()}/{names[0]}",
        "file:///etc/passwd",
        data.as_uri() + "/no-label.parquet",
        f"{data.as_uri()}/{names[1]}",
    ]
    payloads = [
        {"uri": uri, "name": uri.rpartition("/")[2], "size": 1, "key": str(key)}
        for key, uri in enumerate(uris)
    ]

    first = [{**payloads[at], "key": f"{at} first"} for at in (1, 0)]
    unread = run_dag(data_only, "drift_to_retrain", payloads=first)
    assert unread["state"] == "failed", "a batch that cannot be read is seen, also without a champion"
    assert unread["tasks"]["judge.quality[0]"] == "success", unread["log"][-5000:]

    unknown = run_dag(data_only, "drift_to_retrain", payloads=[payloads[1], payloads[4]])
    assert unknown["state"] == "success", unknown["log"][-5000:]
    assert unknown["tasks"]["champion"] == "success"
    for index in (0, 1):
        assert unknown["tasks"][f"judge.quality[{index}]"] == "success", unknown["log"][-5000:]
        for task in ("drift", "champion_score", "decide"):
            states = [unknown["tasks"].get(f"judge.{task}{at}", "skipped") for at in ("", f"[{index}]")]
            assert states == ["skipped", "skipped"], task

    put_champion(data_only)
    again = [{**payload, "key": payload["key"] + " again"} for payload in payloads]
    found = run_dag(data_only, "drift_to_retrain", payloads=again)
    assert found["state"] == "failed", "a batch that cannot be judged is seen"
    tasks = ("batch", "quality", "usable", "drift", "champion_score", "decide")
    states = [[found["tasks"][f"judge.{task}[{index}]"] for task in tasks] for index in range(len(uris))]
    good = ["success"] * 6
    assert states == [
        ["success", "failed", *["upstream_failed"] * 4],
        good,
        ["failed", *["upstream_failed"] * 5],
        ["success", "success", "skipped", "skipped", "skipped", "success"],
        good,
    ]
    assert "'file:///etc/passwd' is not a file right in" in found["log"]
    bodies = [extra["body"] for extra in found["emitted"] if extra.get("kind") == "decision"]
    decided = {body["observation"]["batch"]: (body["action"], body["rule"]) for body in bodies}
    assert set(decided) == {*names, "no-label.parquet"}
    assert decided["no-label.parquet"] == ("investigate", "quality")
    assert decided[names[0]][1] != "quality"
    assert decided[names[1]][1] != "quality"
