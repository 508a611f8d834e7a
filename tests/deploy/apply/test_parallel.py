"""Objects of one kind are applied side by side: others' turn comes after them, and what goes wrong is told at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_pipeops.base.parallel import WORKERS
from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.wanted import Done, Wanted
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from tests.deploy.apply.cluster import KINDS, configmap, members, service
from tests.kubernetes.apiserver import ApiServer, Fault
from tests.kubernetes.objects import Refused


class Counting(ApiServer):
    """Notes what it does at once, and in which order."""

    def __init__(self) -> None:
        super().__init__(*KINDS)
        self.now = self.most = 0
        #: (begin, end, path) of what was applied or deleted.
        self.acts: list[tuple[float, float, str]] = []

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.monotonic()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await super()._app(scope, receive, send)
        finally:
            self.now -= 1
            if scope["method"] in ("PATCH", "DELETE") and b"dryRun" not in scope["query_string"]:
                self.acts.append((began, time.monotonic(), scope["path"]))

    def spans(self, *plurals: str) -> list[tuple[float, float]]:
        """Return from when to when objects of each kind were applied."""
        found = []
        for plural in plurals:
            times = [
                (begin, end)
                for begin, end, path in self.acts
                if f"/{plural}/" in path and not path.endswith("/web")  # the parent is held and let go
            ]
            found.append((min(begin for begin, _ in times), max(end for _, end in times)))
        return found


@pytest.fixture
def server() -> Iterator[Counting]:
    running = Counting()
    running.start()
    yield running
    running.stop()


def deployment(name: str, image: str = "shop/web:1") -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def bodies(count: int) -> list[dict[str, Any]]:
    """Return objects of three kinds, as charts have them: those of one application together."""
    return [
        made(f"{made.__name__}-{number}")
        for number in range(count)
        for made in (deployment, service, configmap)
    ]


def released(server: ApiServer, wanted: Wanted) -> Done:
    async def source() -> Endpoint:
        return Endpoint(server.url, "Bearer token")

    async def run() -> Done:
        async with KubernetesClient(source, pause=0.01) as client:
            applier = Applier(client, wanted, lambda *_: "newer")
            look = await applier.look()
            return await applier.apply(look, release_of(wanted, look.manifests))

    return asyncio.run(run())


def test_objects_of_a_kind_go_side_by_side_and_kinds_one_after_the_other(server: Counting) -> None:
    server.faults.append(Fault("delay", method="PATCH", seconds=0.05))
    done = released(server, Wanted("web", "shop", bodies(20), "first", "1"))
    assert 1 < server.most <= WORKERS
    assert len(done.answers) == 60
    applied = [answer["kind"] for _, answer in done.answers]
    assert applied == ["ConfigMap"] * 20 + ["Service"] * 20 + ["Deployment"] * 20
    maps_, services, deployments = server.spans("configmaps", "services", "deployments")
    assert maps_[1] <= services[0]
    assert services[1] <= deployments[0]

    server.faults[:] = [Fault("delay", method="DELETE", seconds=0.05)]
    server.acts.clear()
    server.most = 0
    done = released(server, Wanted("web", "shop", bodies(1), "second", "2", prune_allowed=57))
    assert len(done.deleted) == 57
    assert 1 < server.most <= WORKERS
    # What is deleted goes the other way round; what was applied before came first.
    server.acts[:] = [one for one in server.acts if not one[2].endswith("-0")]
    deployments, services, maps_ = server.spans("deployments", "services", "configmaps")
    assert deployments[1] <= services[0]
    assert services[1] <= maps_[0]
    assert set(members(server)) == {
        "configmaps/configmap-0",
        "services/service-0",
        "deployments/deployment-0",
    }


def test_one_error_tells_all_that_a_wave_met_and_nothing_is_pruned(server: Counting) -> None:
    released(server, Wanted("web", "shop", [configmap("old")], "first", "1"))
    asked: dict[str, int] = {}

    def admit(plural: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        asked[name] = asked.get(name, 0) + 1
        if name in ("configmap-0", "configmap-2") and asked[name] > 1:  # the trial was in order
            raise Refused(403, "Forbidden", f'admission webhook "w" denied the request: {name} is not wanted')

    server.admission.append(admit)
    # What is begun at once has all come to the server before any of it is answered.
    server.faults.append(Fault("delay", method="PATCH", path="*configmap-*", seconds=0.2))
    with pytest.raises(InvalidInput, match=r"configmap-0 is not wanted.*configmap-2 is not wanted"):
        released(server, Wanted("web", "shop", bodies(4), "second", "2"))
    assert "configmaps/old" in members(server)
    assert "services/service-0" not in members(server), "the next kind was not begun"


def test_a_trial_tells_all_that_is_refused(server: Counting) -> None:
    def admit(plural: str, body: dict[str, Any]) -> None:
        if body["metadata"]["name"] in ("configmap-0", "configmap-1"):
            raise Refused(403, "Forbidden", 'admission webhook "w" denied the request: not wanted')

    server.admission.append(admit)
    server.faults.append(Fault("delay", method="PATCH", seconds=0.2))
    with pytest.raises(InvalidInput, match=r"(?s)configmap-0.*configmap-1"):
        released(server, Wanted("web", "shop", bodies(2), "first", "1"))
    assert members(server) == {}


def test_a_server_that_is_busy_is_left_alone_as_long_as_it_says(server: Counting) -> None:
    wanted = [configmap(f"c{number}") for number in range(20)]
    released(server, Wanted("web", "shop", wanted, "first", "1"))
    busy = Fault("status", method="PATCH", path="*/configmaps/c*", count=WORKERS, status=429, retry_after="1")
    server.faults.append(busy)
    server.requests.clear()
    began = time.monotonic()
    released(server, Wanted("web", "shop", [*wanted, configmap("more")], "second", "2"))
    assert time.monotonic() - began >= 1.0
    tried = [one for one in server.requests if one.startswith("PATCH") and "/configmaps/c" in one]
    assert len(tried) == 2 * 20 + WORKERS, "a trial, an apply, and once more what was refused"
    assert set(members(server).values()) == {"2"}
