"""The worker is killed between any two steps of a release: there is one change, and the next attempt finds what there is.

A task runs in a process of its own that ends itself by SIGKILL at a request or a kept file. The next attempt, in another
process, goes on. In the gate twice, every night fifty times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.base.http import Http
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator, UndoManifestsOperator
from tests.argo_workflows.test_crash import TIMES, end_of
from tests.deploy.apply.cluster import configmap, members
from tests.deploy.apply.test_jobs import job, jobs
from tests.deploy.apply.test_operators import WEB, repository, task
from tests.deploy.conftest import Cluster
from tests.deploy.helm.running import deployments_live
from tests.git.conftest import Remote
from tests.kubernetes.apiserver import ApiServer
from tests.threads import repeated

__all__ = ["repository"]

JOBS = {"kind": "List", "items": [job("migrate", "before"), job("smoke", "after")]}


class Steps:
    """Counts what a worker does to the outside, and ends it at one of them.

    :param dies_at: number of the step; 0 for never.
    :param acted: whether the step has its effect.
    """

    def __init__(self, dies_at: int, *, acted: bool) -> None:
        self.count, self._dies_at, self._acted = 0, dies_at, acted
        ask, keep = Http.object, DeliveryOperator.keep

        async def asking(http: Any, *args: Any, **more: Any) -> Any:
            dies = self._next()
            answer = await ask(http, *args, **more)
            self._after(dies)
            return answer

        def keeping(operator: Any, *args: Any, **more: Any) -> Any:
            dies = self._next()
            kept = keep(operator, *args, **more)
            self._after(dies)
            return kept

        Http.object = asking  # type: ignore[method-assign]
        DeliveryOperator.keep = keeping  # type: ignore[method-assign]

    def _next(self) -> bool:
        self.count += 1
        dies = self.count == self._dies_at
        if dies and not self._acted:
            os.kill(os.getpid(), signal.SIGKILL)
        return dies

    def _after(self, dies: bool) -> None:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, context: dict[str, Any], cls: Any, dies_at: int = 0, *, acted: bool = False) -> int:
    """Run the task in a process of its own; return how it ended."""
    pid = os.fork()
    if pid:
        return end_of(pid)
    code = 1
    try:
        steps = Steps(dies_at, acted=acted)
        result = task(cls).execute(context)
        (folder / "result").write_text(json.dumps({**result, "steps": steps.count}))
        code = 0
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def finished(folder: Path, context: dict[str, Any], cls: Any = ApplyManifestsOperator) -> dict[str, Any]:
    """Run the attempt that goes to its end, and return its result."""
    assert attempt(folder, context, cls) == 0, (folder / "error").read_text()
    found: dict[str, Any] = json.loads((folder / "result").read_text())
    return found


@contextmanager
def lively(api: ApiServer) -> Iterator[None]:
    """Let Deployments come to life, and Jobs end well."""
    complete = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}

    def play() -> None:
        for one in api.all("jobs"):
            api.change("jobs", "shop", one["metadata"]["name"], lambda item: item.update(status=complete))

    with repeated(0.01, play), deployments_live(api):
        yield


def commits(repository: Remote, folder: Path, context: dict[str, Any]) -> dict[str, Any]:
    """Release a commit, and make the next; return what the whole release of a commit took."""
    repository.put(
        "deploy/jobs.yaml",
        json.dumps(JOBS),
    )
    repository.put("deploy/old.yaml", json.dumps(configmap("old")))
    repository.commit("first")
    context["ti"].run_id = "first"
    found = finished(folder, context)
    repository.put("deploy/web.yaml", WEB.replace("web:1", "web:2"))
    (repository.work / "deploy/old.yaml").unlink()
    repository.commit("second")
    context["ti"].run_id = "second"
    return found


def generation(api: ApiServer) -> int:
    found = api.read("deployments", "shop", "web")
    assert found is not None
    return int(found["metadata"]["generation"])


def releases(api: ApiServer) -> list[str]:
    """Return by which runs the set was released, as its parent remembers it; nobody holds it."""
    parent = api.read("configmaps", "shop", "web")
    assert parent is not None
    told = parent["metadata"]["annotations"]
    assert not {"pipeops/holder", "pipeops/intent"} & set(told)
    return [one["key"].split("/")[1] for one in json.loads(told["pipeops/releases"])]


@pytest.mark.parametrize("at", TIMES)
def test_a_release_is_one_wherever_its_worker_is_killed(
    cluster: Cluster, repository: Remote, context: dict[str, Any], tmp_path: Path, at: int
) -> None:
    api, chance = cluster.api, random.Random(at)
    with lively(api):
        steps = commits(repository, tmp_path, context)["steps"]
        before, known = generation(api), jobs(api)
        for _ in range(2):
            dies_at, acted = chance.randint(1, steps - 5), chance.random() < 0.5
            ended = attempt(tmp_path, context, ApplyManifestsOperator, dies_at, acted=acted)
            # A later attempt may be through before: it finds much of it done.
            assert ended in (-signal.SIGKILL, 0), (tmp_path / "error").read_text()
            if "configmaps/old" not in members(api):
                assert "deployments/web" in members(api)
        result = finished(tmp_path, context)
    assert (result["health"], result["objects"]) == ("Healthy", 2)
    assert set(members(api)) == {"configmaps/settings", "deployments/web", "jobs/migrate", "jobs/smoke"}
    assert generation(api) == before + 1, "one change"
    assert releases(api) == ["first", "second"]
    assert sorted(name for uid, name in jobs(api).items() if uid not in known) == ["migrate", "smoke"]


@pytest.mark.parametrize("at", TIMES)
def test_an_undo_is_one_wherever_its_worker_is_killed(
    cluster: Cluster, repository: Remote, context: dict[str, Any], tmp_path: Path, at: int
) -> None:
    api, chance = cluster.api, random.Random(at)
    with lively(api):
        commits(repository, tmp_path, context)
        steps = finished(tmp_path, context)["steps"]
        before = generation(api)
        context["ti"].run_id = "undo"
        for _ in range(2):
            dies_at, acted = chance.randint(1, steps // 2), chance.random() < 0.5
            ended = attempt(tmp_path, context, UndoManifestsOperator, dies_at, acted=acted)
            assert ended in (-signal.SIGKILL, 0), (tmp_path / "error").read_text()
        result = finished(tmp_path, context, UndoManifestsOperator)
    assert (result["undo"], result["health"]) == (True, "Healthy")
    assert {"configmaps/old", "configmaps/settings", "deployments/web"} <= set(members(api))
    found = api.read("deployments", "shop", "web")
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:1"
    assert generation(api) == before + 1
    assert releases(api) == ["undo"]
