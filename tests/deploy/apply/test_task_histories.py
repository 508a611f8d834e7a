"""Random histories of whole tasks: apply, prune, undo, rollback, older commits, and kills at any request, against a model.

Never an orphan, never a delete outside the set, never an older commit over a newer one, and each undo is of the release
before it. The repository and the evidence are real; the worker dies by its connection to the cluster.
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator, UndoManifestsOperator
from airflow_pipeops.deploy.apply.sets import Scope, scope_told
from tests.conftest import FakeTaskInstance
from tests.deploy.apply.cluster import KINDS, Died, client_of, configmap, members, service
from tests.git.conftest import git
from tests.kubernetes.apiserver import ApiServer

COMMITS = 8
PLURAL = {"ConfigMap": "configmaps", "Service": "services"}


def bodies(commit: int) -> list[dict[str, Any]]:
    """Return what a commit wants: it is a function of the commit. Some want much, or kinds, that others do not."""
    chosen = random.Random(commit)
    names = [f"n{number}" for number in range(12 if commit % 4 == 3 else 4)]
    made = [configmap(name, str(chosen.randint(1, 3))) for name in names if chosen.random() < 0.7]
    if commit % 3 != 1:
        made += [service(name, str(commit)) for name in names[:4] if chosen.random() < 0.5]
    return made or [configmap("n0")]


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository, and its commits from the oldest on."""
    path = tmp_path_factory.mktemp("histories") / "repository"
    git("init", "--quiet", "--initial-branch=main", str(path))
    made = []
    for number in range(COMMITS):
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        git(*who, "commit", "--quiet", "--allow-empty", "-m", str(number), cwd=path)
        made.append(git("rev-parse", "HEAD", cwd=path))
    return path, made


class History:
    """A cluster, the tasks that are run against it, and a model of what must be there."""

    def __init__(self, seed: int, commits: list[str], patch: pytest.MonkeyPatch) -> None:
        self.random, self.commits = random.Random(seed), commits
        self.server = ApiServer(*KINDS)
        self.runs = itertools.count()
        self.foreign = [
            self.server.put("", "v1", "configmaps", configmap("foreign")),
            self.server.put("", "v1", "services", service("foreign")),
        ]
        #: The commits of the releases that ended, and that of the one that was begun and given up.
        self.released: list[int] = []
        self.begun: int | None = None
        self.dies: tuple[int, bool] = (0, False)
        patch.setattr(
            "airflow_pipeops.kubernetes.connections.connect",
            lambda *_, **__: client_of(self.server, self.dies[0], acted=self.dies[1]),
        )

    @property
    def newest(self) -> int:
        """The commit that the set has, or begins to have."""
        return self.begun if self.begun is not None else self.released[-1] if self.released else -1

    def run(self, cls: Any, commit: int, *, may_die: bool = True, **arguments: Any) -> bool:
        """Try a task until it ends, dying at random on the way; whether it ended and was not given up."""
        given: dict[str, Any] = {"task_id": "deploy", "name": "web", "namespace": "shop", "wait": False}
        if cls is ApplyManifestsOperator:
            given |= {"manifests": bodies(commit), "commit": self.commits[commit]}
        context: Any = {
            "ti": FakeTaskInstance(run_id=f"run-{next(self.runs)}"),
            "outlet_events": OutletEventAccessors(),
            "inlet_events": {},
            "triggering_asset_events": {},
            "params": {},
            "dag_run": SimpleNamespace(run_id="run", conf={}),
        }
        while True:
            at = self.random.randint(1, 60) if may_die and self.random.random() < 0.6 else 0
            self.dies = at, self.random.random() < 0.5
            try:
                result = cls(**{**given, **arguments}).execute(context)
            except Died:
                self.check_scope()
                if self.random.random() < 0.3:
                    self.given_up()
                    return False
                continue
            finally:
                self.dies = 0, False
            assert result["commit"] == self.commits[commit]
            self.check(commit)
            return True

    def given_up(self) -> None:
        """Nobody tries the task again; its lease runs out. What it began is what the parent says."""

        def expire(item: dict[str, Any]) -> None:
            annotations = item["metadata"]["annotations"]
            if "pipeops/holder" in annotations:
                held = json.loads(annotations["pipeops/holder"])
                annotations["pipeops/holder"] = json.dumps({**held, "until": 0})

        self.server.change("configmaps", "shop", "web", expire)
        told = self.told()
        if "pipeops/intent" in told:
            self.begun = self.commits.index(json.loads(told["pipeops/intent"])["commit"])
        else:
            self.begun = None
            self.released = [
                self.commits.index(one["commit"]) for one in json.loads(told.get("pipeops/releases", "[]"))
            ]

    def told(self) -> dict[str, Any]:
        parent = self.server.read("configmaps", "shop", "web")
        return dict(parent["metadata"]["annotations"]) if parent else {}

    def check(self, commit: int) -> None:
        """What is there after a release that ended is what it wants, and nothing else of the set."""
        wanted = bodies(commit)
        sha = self.commits[commit]
        assert members(self.server) == {
            f"{PLURAL[one['kind']]}/{one['metadata']['name']}": sha for one in wanted
        }
        for body in wanted:
            item = self.server.read(PLURAL[body["kind"]], "shop", body["metadata"]["name"])
            part = "data" if "data" in body else "spec"
            assert item is not None
            assert item[part] == body[part]
        assert "pipeops/holder" not in self.told()
        assert "pipeops/intent" not in self.told()
        self.check_scope()

    def check_scope(self) -> None:
        """Every member is where the parent says members may be; what is not of the set is as it was."""
        parent = self.server.read("configmaps", "shop", "web")
        scope = scope_told(parent) if parent else Scope()
        kinds = {name.partition("/")[0] for name in members(self.server)}
        assert kinds <= {f"{one.lower()}s" for one in scope.kinds}
        assert self.server.read("configmaps", "shop", "foreign") == self.foreign[0]
        assert self.server.read("services", "shop", "foreign") == self.foreign[1]

    def refused(self, said: str, cls: Any, commit: int, **arguments: Any) -> None:
        """A task that may not be done changes nothing."""
        before = {plural: self.server.all(plural) for plural in ("configmaps", "services")}
        with pytest.raises(AirflowFailException, match=said):
            self.run(cls, commit, may_die=False, **arguments)
        assert {plural: self.server.all(plural) for plural in before} == before

    def leaving(self, commit: int) -> int:
        """Return how many objects a release of a commit would prune."""
        wanted = {f"{PLURAL[one['kind']]}/{one['metadata']['name']}" for one in bodies(commit)}
        return len(set(members(self.server)) - wanted)

    def step(self) -> None:
        choice = self.random.random()
        newer = self.newest + 1
        if choice < 0.15 and self.newest > 0:
            older = self.random.randrange(self.newest)
            self.refused("is older than", ApplyManifestsOperator, older, prune_allowed=100)
        elif choice < 0.3 and self.newest > 0:
            older = self.random.randrange(self.newest)
            self.ended(older, self.run(ApplyManifestsOperator, older, rollback=True, prune_allowed=100))
        elif choice < 0.5:
            self.undo()
        elif newer < COMMITS:
            several = self.leaving(newer)
            if several > max(3, int(0.2 * len(members(self.server)))):
                self.refused("would be deleted", ApplyManifestsOperator, newer)
            self.ended(newer, self.run(ApplyManifestsOperator, newer, prune_allowed=100))

    def undo(self) -> None:
        """The release before; where one was begun and never ended, the one that ended last."""
        before = self.released if self.begun is not None else self.released[:-1]
        if not before:
            if self.told():
                self.refused("no release before", UndoManifestsOperator, 0, prune_allowed=100)
            return
        if self.run(UndoManifestsOperator, before[-1], prune_allowed=100):
            self.released, self.begun = list(before), None

    def ended(self, commit: int, ended: bool) -> None:
        if ended:
            self.released, self.begun = [*self.released, commit], None


@pytest.mark.parametrize("seed", range(200))
def test_a_random_history_of_tasks(
    seed: int, commits: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, made = commits
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")
    monkeypatch.setenv(
        "AIRFLOW_CONN_PIPEOPS_APP_REPO", json.dumps({"conn_type": "git_repository", "host": str(path)})
    )
    history = History(seed, made, monkeypatch)
    for _ in range(5):
        history.step()
    last = max(history.newest, 0)
    history.run(ApplyManifestsOperator, last, may_die=False, prune_allowed=100)
