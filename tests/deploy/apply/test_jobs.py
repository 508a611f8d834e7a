"""Jobs before and after a release: in their order, once, waited for; and where one fails, nothing goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.sets import PART_OF
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.exceptions import InvalidInput
from tests.deploy.apply.cluster import KINDS, Died, client_of, configmap, members, relation
from tests.deploy.apply.test_operators import WEB, as_run, task
from tests.deploy.conftest import Cluster
from tests.deploy.helm.running import deployments_live
from tests.deploy.helm.test_rollback import after
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.workloads import Step, Workloads, ends, runs, says


def job(name: str, when: str, namespace: str = "shop", **more: str) -> dict[str, Any]:
    """Return a Job with these annotations."""
    annotations = {"pipeops/hook": when} | {f"pipeops/hook-{key}": value for key, value in more.items()}
    container = {"name": "main", "image": "shop/jobs:1"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


class Played:
    """Jobs that run, and what there was when each began."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.codes = api, dict[str, int]()
        self.began: list[str] = []
        self.there: dict[str, set[str]] = {}
        self.ready: dict[str, bool] = {}
        self.workloads = Workloads(api, self.script)

    def script(self, pod: dict[str, Any]) -> Sequence[Step]:
        name = pod["metadata"]["labels"]["job-name"]
        self.began.append(name)
        self.there[name] = set(members(self.api))
        self.ready[name] = any("status" in one for one in self.api.all("deployments"))
        return [runs(), says(f"{name} says why"), ends(self.codes.get(name, 0))]


@pytest.fixture
def played(cluster: Cluster) -> Iterator[Played]:
    found = Played(cluster.api)
    found.workloads.start()
    with deployments_live(cluster.api):
        yield found
    found.workloads.stop()
    assert not found.workloads.problems


MANIFESTS = json.dumps(
    {
        "kind": "List",
        "items": [
            configmap("settings"),
            job("smoke", "after"),
            job("second", "before", order="10"),
            job("first", "before", order="-5"),
        ],
    }
) + "\n---\n" + WEB  # fmt: skip
NOTHING_ELSE = {"jobs/first", "jobs/second"}


def jobs(api: ApiServer) -> dict[str, str]:
    """Return the uids of the Jobs that there were, each with its name."""
    kind = api.kinds["batch", "v1", "jobs"]
    return {item["metadata"]["uid"]: item["metadata"]["name"] for _, _, item, _ in kind.history}


def through(context: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Run a deferrable task to its end, each part of it by an operator of its own."""
    payload = None
    while True:
        operator = task(deferrable=True, **arguments)
        try:
            if payload is None:
                return operator.execute(context)  # type: ignore[no-any-return]
            return operator.execute_complete(context, payload)  # type: ignore[no-any-return]
        except TaskDeferred as deferred:
            payload = after(deferred)


@pytest.mark.parametrize("deferrable", [False, True])
def test_they_run_in_their_order_around_the_release(
    played: Played, context: dict[str, Any], deferrable: bool
) -> None:
    run = through if deferrable else (lambda context, **more: task(**more).execute(context))
    result = run(context, manifests=MANIFESTS)
    assert played.began == ["first", "second", "smoke"]
    assert played.there["first"] <= {"jobs/first"}, "before anything else"
    assert played.there["second"] <= NOTHING_ELSE
    assert "deployments/web" in played.there["smoke"]
    assert played.ready["smoke"], "after all was ready"
    assert (result["objects"], result["health"]) == (2, "Healthy")
    again = run(context, manifests=MANIFESTS)
    assert (again["health"], len(played.began)) == ("Healthy", 3), "a retry runs none of them again"
    run(as_run(context, "next"), manifests=MANIFESTS)
    assert played.began[3:] == ["first", "second", "smoke"], "the next release runs them anew"
    assert len(jobs(played.api)) == 6


@pytest.mark.parametrize("deferrable", [False, True])
def test_one_that_fails_stops_the_release_before_anything_else_is_applied(
    played: Played, context: dict[str, Any], deferrable: bool
) -> None:
    played.codes["second"] = 3
    run = through if deferrable else (lambda context, **more: task(**more).execute(context))
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"(?s)Job.*second.*second says why"):
            run(context, manifests=MANIFESTS)
    assert played.began == ["first", "second"], "a retry finds it failed, and does not run it again"
    assert set(members(played.api)) == NOTHING_ELSE
    parent = played.api.read("configmaps", "shop", "web")
    assert parent is not None
    assert "pipeops/holder" not in parent["metadata"]["annotations"], "nobody is held up by it"
    played.codes.clear()
    run(as_run(context, "next"), manifests=MANIFESTS)
    assert played.began[2:] == ["first", "second", "smoke"]


def test_one_that_fails_afterwards_fails_the_release(played: Played, context: dict[str, Any]) -> None:
    played.codes["smoke"] = 1
    with pytest.raises(AirflowFailException, match="smoke"):
        task(manifests=MANIFESTS).execute(context)
    assert "deployments/web" in members(played.api)


def test_what_has_ended_well_may_go_and_is_not_run_again(played: Played, context: dict[str, Any]) -> None:
    bodies = [
        configmap("settings"),
        job("migrate", "before", cleanup="succeeded"),
        job("smoke", "after", cleanup="succeeded"),
    ]
    for _ in range(2):
        task(manifests=bodies).execute(context)
        assert set(members(played.api)) == {"configmaps/settings"}
    assert played.began == ["migrate", "smoke"]


def test_one_that_left_the_manifests_is_pruned(played: Played, context: dict[str, Any]) -> None:
    task(manifests=[configmap("settings"), job("migrate", "before")]).execute(context)
    assert set(members(played.api)) == {"configmaps/settings", "jobs/migrate"}
    result = task(manifests=[configmap("settings")]).execute(as_run(context, "next"))
    assert result["deleted"] == ["Job shop/migrate"]


def test_one_of_before_that_does_not_go_is_told(
    played: Played, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [configmap("settings"), job("migrate", "before")]
    task(manifests=bodies).execute(context)
    hold = {"finalizers": ["example.com/audit"]}
    played.api.change("jobs", "shop", "migrate", lambda item: item["metadata"].update(hold))
    monkeypatch.setattr("airflow_pipeops.deploy.apply.cluster._GONE", 0.5)
    changed = [configmap("settings", "2"), job("migrate", "before")]
    with pytest.raises(AirflowFailException, match=r"Job shop/migrate .*does not go.*example\.com/audit"):
        task(manifests=changed).execute(as_run(context, "next"))
    there = played.api.read("configmaps", "shop", "settings")
    assert there is not None
    assert there["data"] == {"value": "1"}


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no Job": ({**configmap("a"), "metadata": {"name": "a", "annotations": {"pipeops/hook": "before"}}}, {}, "is no Job"),
    "another time": (job("a", "during"), {}, "during.*before, after"),
    "no number": (job("a", "before", order="soon"), {}, "no whole number"),
    "another cleanup": (job("a", "before", cleanup="never"), {}, "never.*next, succeeded"),
    "nobody waits": (job("a", "after"), {"wait": False}, "runs after all is ready, and nobody waits"),
    "a field": ({**job("a", "before"), "spec": {"templates": {}}}, {}, r"\.spec\.templates: field not declared"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "arguments", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_told_before_anything_is_touched(
    played: Played, context: dict[str, Any], body: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told):
        task(manifests=[configmap("settings"), body], **arguments).execute(context)
    assert not members(played.api)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({}, r"Job shop/migrate is there, .*no member of the set.*another name"),
        ({PART_OF: "applyset-other-v1"}, r"Job shop/migrate belongs to another apply set, applyset-other-v1"),
    ],
)
def test_a_job_of_somebody_else_is_left_alone(
    played: Played, context: dict[str, Any], labels: dict[str, str], told: str, when: str
) -> None:
    theirs = job("migrate", when)
    theirs["metadata"] = {"name": "migrate", "namespace": "shop", "labels": labels}
    there = played.api.put("batch", "v1", "jobs", theirs)
    with pytest.raises(AirflowFailException, match=told):
        task(manifests=[configmap("settings"), job("migrate", when)]).execute(context)
    left = played.api.read("jobs", "shop", "migrate")
    assert left is not None
    assert left["metadata"]["uid"] == there["metadata"]["uid"]
    assert played.api.read("configmaps", "shop", "settings") is None


def test_a_job_of_somebody_else_that_came_after_the_look_is_left_alone() -> None:
    server = ApiServer(*KINDS)
    wanted = Wanted("web", "shop", [configmap("a"), job("migrate", "before")], "first", "1")
    theirs = job("migrate", "before")
    theirs["metadata"] = {"name": "migrate", "namespace": "shop"}

    async def run() -> None:
        applier = Applier(client_of(server), wanted, relation)
        look = await applier.look()
        server.put("batch", "v1", "jobs", theirs)
        await applier.apply(look, release_of(wanted, look.all))

    with pytest.raises(InvalidInput, match="no member of the set"):
        asyncio.run(run())
    assert [*jobs(server).values()] == ["migrate"]


# ---- killed at any request -----------------------------------------------------------------------------------------------

STORY = [
    configmap("a", "2"),
    job("migrate", "before"),
    job("clean", "before", cleanup="succeeded"),
    job("smoke", "after"),
]


def attempt(server: ApiServer, wanted: Wanted, dies_at: int = 0, *, acted: bool = False) -> int:
    """Run one attempt of a task, whose Jobs end well as soon as they are begun; return how much it asked."""
    client = client_of(server, dies_at, acted=acted)

    async def run() -> None:
        while True:
            applier = Applier(client, wanted, relation)
            look = await applier.look()
            done = await applier.apply(look, release_of(wanted, look.all))
            if done.pending is None:
                break
            end(done.pending[0].name)
        while (pending := await Applier(client, wanted, relation).after(look.hooks[-1:])) is not None:
            end(pending[0].name)

    def end(name: str) -> None:
        said = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}
        server.change("jobs", "shop", name, lambda item: item.update(status=said))

    asyncio.run(run())
    return client._http.asked  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("acted", [False, True])
def test_killed_at_any_request_each_runs_once(acted: bool) -> None:
    """What came before it are Jobs of the same names, of the release before."""
    total = attempt(_with_a_first(), Wanted("web", "shop", STORY, "second", "2"))
    for dies_at in range(1, total + 1):
        server = _with_a_first()
        before = jobs(server)
        wanted = Wanted("web", "shop", STORY, "second", "2")
        with pytest.raises(Died):
            attempt(server, wanted, dies_at, acted=acted)
        attempt(server, wanted)
        made = [name for uid, name in jobs(server).items() if uid not in before]
        assert sorted(made) == ["clean", "migrate", "smoke"], f"killed at request {dies_at} of {total}"
        assert members(server) == {"configmaps/a": "2", "jobs/migrate": "2", "jobs/smoke": "2"}


def _with_a_first() -> ApiServer:
    server = ApiServer(*KINDS)
    attempt(server, Wanted("web", "shop", [configmap("a"), *STORY[1:]], "first", "1"))
    return server
