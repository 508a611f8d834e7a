"""The watchers of ended workflows: each end once, over restarts, and what ended meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.status import read
from airflow_pipeops.argo_workflows.watchers import (
    ArgoWorkflowFailedTrigger,
    ArgoWorkflowSucceededTrigger,
    news,
    remembered,
)
from airflow_pipeops.exceptions import InvalidInput
from tests.argo_workflows.objects import workflow
from tests.argo_workflows.running import MANIFEST
from tests.argo_workflows.server import ArgoServer
from tests.kubernetes.apiserver import Fault


class Kept:
    """Airflow's store of an asset's state, which outlives a triggerer."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = value


class Watch:
    """A watcher that is looked through step by step."""

    def __init__(self, cls: Any, store: Kept, **given: Any) -> None:
        path, arguments = cls("team=ml", poll_interval=0.05, **given).serialize()
        assert path.endswith(cls.__name__)
        self.trigger = cls(**arguments)
        self.trigger.asset_state_store = store
        self.steps = self.trigger._steps()

    async def look(self) -> list[dict[str, Any]]:
        """Look once, and keep what was told."""
        told = []
        async for step in self.steps:
            if isinstance(step, float):
                await self.trigger.keep(self.trigger._take())
                return told
            told.append(step.payload)
        raise AssertionError("a watcher never ends")


def ended(argo: ArgoServer, name: str, phase: str) -> str:
    made = argo.submit({**MANIFEST, "metadata": {"name": name, "labels": {"team": "ml"}}})
    argo.finish(name, phase, message="it broke" if phase != "Succeeded" else "")
    return str(made["metadata"]["uid"])


@pytest.mark.parametrize("conn_id", ["argo_workflows_default", "kubernetes_default"])
@pytest.mark.parametrize(
    ("cls", "phase", "other"),
    [
        (ArgoWorkflowSucceededTrigger, "Succeeded", "Failed"),
        (ArgoWorkflowFailedTrigger, "Failed", "Succeeded"),
        (ArgoWorkflowFailedTrigger, "Error", "Succeeded"),
    ],
)
def test_each_end_is_told_once_over_restarts(
    argo: ArgoServer, cls: Any, phase: str, other: str, conn_id: str
) -> None:
    store, given = Kept(), {"argo_workflows_conn_id": conn_id}
    ended(argo, "before", phase)
    argo.submit({**MANIFEST, "metadata": {"name": "not-ours"}})
    argo.finish("not-ours", phase)

    async def story() -> None:
        watch = Watch(cls, store, **given)
        assert await watch.look() == []
        uid = ended(argo, "one", phase)
        ended(argo, "another", other)
        (told,) = await watch.look()
        assert (told["name"], told["uid"], told["phase"]) == ("one", uid, phase)
        assert len(told["key"]) == 32
        assert await watch.look() == []
        ended(argo, "meanwhile", phase)
        again = Watch(cls, store, **given)
        assert [one["name"] for one in await again.look()] == ["meanwhile"]
        assert await again.look() == []

    asyncio.run(story())


def test_what_was_archived_meanwhile_is_told_afterwards(argo: ArgoServer) -> None:
    store = Kept()

    async def story() -> None:
        assert await Watch(ArgoWorkflowSucceededTrigger, store).look() == []
        ended(argo, "one", "Succeeded")
        argo.remove("one")
        assert [one["name"] for one in await Watch(ArgoWorkflowSucceededTrigger, store).look()] == ["one"]

    asyncio.run(story())


def test_a_retried_workflow_that_fails_again_is_told_again(argo: ArgoServer) -> None:
    store = Kept()

    async def story() -> None:
        watch = Watch(ArgoWorkflowFailedTrigger, store)
        await watch.look()
        ended(argo, "one", "Failed")
        (first,) = await watch.look()
        import httpx

        headers = {"Authorization": "Bearer token"}
        httpx.put(f"{argo.url}/api/v1/workflows/argo/one/retry", json={"name": "one"}, headers=headers)
        assert await watch.look() == []
        argo.finish("one", "Failed")
        (second,) = await watch.look()
        assert second["uid"] == first["uid"]
        assert second["key"] != first["key"]

    asyncio.run(story())


def test_a_server_that_fails_for_a_while_costs_nothing(argo: ArgoServer) -> None:
    store = Kept()

    async def story() -> None:
        watch = Watch(ArgoWorkflowSucceededTrigger, store)
        await watch.look()
        argo.faults.append(Fault("status", status=401, count=1))
        ended(argo, "one", "Succeeded")
        assert await watch.look() == []
        assert [one["name"] for one in await watch.look()] == ["one"]

    asyncio.run(story())


def test_labels_must_be_given() -> None:
    with pytest.raises(InvalidInput, match="no workflow is named"):
        ArgoWorkflowSucceededTrigger("")


def test_news_are_ends_that_are_not_known_yet() -> None:
    done, running = read(workflow("Succeeded")), read(workflow("Running", uid="u2"))
    assert news([done, running], ("Succeeded",), None) == []
    assert news([done, running], ("Succeeded",), {}) == [done]
    assert news([done], ("Succeeded",), remembered([done], {})) == []
    assert news([done], ("Failed",), {}) == []
    # The results of its tasks are not in yet.
    assert news([read(workflow("Succeeded", labels={}))], ("Succeeded",), {}) == []


def test_what_is_remembered_is_bounded() -> None:
    old = {f"u{at}": f"2026-01-01T00:00:00Z/{at:06}" for at in range(2000)}
    kept = remembered([read(workflow("Succeeded"))], old)
    assert len(kept) == 501
    assert "u1999" in kept
    assert kept["u1"] == read(workflow("Succeeded")).attempt
