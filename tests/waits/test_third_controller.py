"""A third controller: a Kubernetes Deployment, waited for by its generation. All that it takes stands in this file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_pipeops.exceptions import NotFound, PipeOpsError
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import Kind
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from airflow_pipeops.waits.controller import Controller, until_decided
from airflow_pipeops.waits.expectation import Expectation, Verdict
from airflow_pipeops.waits.rulebook import Rulebook, facts_of
from airflow_pipeops.waits.rules import deleting, fail, recreated, wait
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.wait import Decided, Wait
from tests.kubernetes.apiserver import ApiServer, Fault, serving

DEPLOYMENTS = Kind("apps", "v1", "deployments")


@dataclass(frozen=True)
class DeploymentRef:
    """Which Deployment, and the generation that was applied."""

    namespace: str
    name: str
    generation: int
    project: str = ""


@dataclass(frozen=True)
class Rollout:
    """How far a Deployment has come, in its own terms."""

    wanted: int
    seen: int
    replicas: int
    updated: int
    available: int
    stuck: str


def observed(ref: DeploymentRef, item: dict[str, Any]) -> Observed:
    metadata, status = item["metadata"], item.get("status") or {}
    stuck = [
        one["message"]
        for one in status.get("conditions") or ()
        if one["type"] == "Progressing" and one["status"] == "False"
    ]
    rollout = Rollout(
        ref.generation,
        int(status.get("observedGeneration") or 0),
        int(item["spec"].get("replicas", 1)),
        int(status.get("updatedReplicas") or 0),
        int(status.get("availableReplicas") or 0),
        "; ".join(stuck),
    )
    gone = "deletionTimestamp" in metadata
    return Observed(ref.name, ref.namespace, uid=metadata["uid"], deleting=gone, reconciled=rollout)


def not_seen(look: Look) -> Verdict | None:
    rollout: Rollout = look.observed.reconciled
    if rollout.seen >= rollout.wanted:
        return None
    return wait("not_seen", f"the controller saw generation {rollout.seen}, and {rollout.wanted} was applied")


def stuck(look: Look) -> Verdict | None:
    return fail("stuck", look.observed.reconciled.stuck) if look.observed.reconciled.stuck else None


def rolled_out(look: Look) -> Verdict:
    rollout: Rollout = look.observed.reconciled
    if min(rollout.updated, rollout.available) < rollout.replicas:
        return wait("rolling_out", f"{rollout.available} of {rollout.replicas} new pods are available")
    return Verdict(
        "done", "rolled_out", f"{rollout.replicas} pods of generation {rollout.seen} are available"
    )


class DeploymentController:
    """Deployments, as whoever waits for them sees them."""

    rulebook = Rulebook((deleting, recreated, not_seen, stuck, rolled_out), facts_of, confirms=False)

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client

    async def look(self, ref: DeploymentRef) -> Observed | Trouble:
        try:
            return observed(ref, await self._client.get(DEPLOYMENTS, ref.name, ref.namespace))
        except PipeOpsError as error:
            problem = problem_of(error)
            if isinstance(problem, Trouble):
                return problem
            raise

    async def refresh(self, wait: Wait) -> None:
        """It looks by itself."""

    async def explain(self, ref: DeploymentRef, decided: Decided) -> str:
        return f"Deployment {ref.namespace}/{ref.name}: {decided.verdict.reason}"


# ---- and that it holds ---------------------------------------------------------------------------------------------------


def deployment(generation: int, seen: int, updated: int, available: int, **more: Any) -> dict[str, Any]:
    status = {"observedGeneration": seen, "updatedReplicas": updated, "availableReplicas": available, **more}
    metadata = {"name": "web", "namespace": "shop", "uid": "u1", "generation": generation}
    return {"metadata": metadata, "spec": {"replicas": 2}, "status": status}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(("apps", "v1", "deployments")) as server:
        yield server


def waited(api: ApiServer, *states: dict[str, Any], between: Callable[[], None] = lambda: None) -> Wait:
    """Wait for generation 2 while the Deployment takes one state after the other."""

    async def source() -> Endpoint:
        return Endpoint(api.url, "Bearer token")

    async def story() -> Wait:
        async with KubernetesClient(source, pause=0.01, timeout=5.0) as client:
            controller: Controller = DeploymentController(client)
            one = Wait(
                DeploymentRef("shop", "web", 2),
                Expectation(match="any", timeout=20.0, transport_grace=5.0),
                rulebook=controller.rulebook,
            )
            left = iter(states)
            for first in left:
                api.put("apps", "v1", "deployments", first)
                break

            def on(_: Verdict) -> None:
                following = next(left, None)
                if following is not None:
                    between()
                    api.change(
                        "deployments", "shop", "web", lambda item: item.update(status=following["status"])
                    )

            one._on_change = on
            await until_decided(controller, [one], 0.02)
            return one

    return asyncio.run(story())


def test_the_old_generation_that_is_available_is_not_the_new_one(api: ApiServer) -> None:
    one = waited(api, deployment(2, 1, 2, 2), deployment(2, 2, 1, 2), deployment(2, 2, 2, 2))
    assert (one.state.verdict.state, one.state.verdict.rule) == ("done", "rolled_out")


def test_what_will_not_come_fails_with_its_reason(api: ApiServer) -> None:
    stalled = {"type": "Progressing", "status": "False", "message": "exceeded its progress deadline"}
    one = waited(api, deployment(2, 1, 2, 2), deployment(2, 2, 1, 1, conditions=[stalled]))
    assert (one.state.verdict.state, one.state.verdict.rule) == ("failed", "stuck")
    assert "progress deadline" in one.state.verdict.reason


def test_a_server_that_fails_for_a_while_is_outlasted(api: ApiServer) -> None:
    one = waited(
        api,
        deployment(2, 1, 2, 2),
        deployment(2, 2, 2, 2),
        between=lambda: api.faults.append(Fault("status", count=3, status=503)),
    )
    assert one.state.verdict.state == "done"


def test_one_that_is_not_there_fails(api: ApiServer) -> None:
    one = waited(api)
    assert one.state.verdict.rule == "app_not_found"
    assert isinstance(one.state.error("gone"), NotFound)
