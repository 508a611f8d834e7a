"""What others do between look and apply is neither overwritten nor taken; what they do during the wait is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.parents import HOLDER
from airflow_pipeops.deploy.apply.sets import PART_OF, set_id
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.exceptions import Conflict, InvalidInput
from tests.deploy.apply.cluster import KINDS, client_of, configmap, relation, release
from tests.deploy.apply.test_jobs import after
from tests.deploy.apply.test_operators import SECRET, WEB, task
from tests.deploy.conftest import Cluster
from tests.deploy.differences.test_sets import written
from tests.kubernetes.apiserver import ApiServer, serving

Object = dict[str, Any]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        yield server


def wanted(*bodies: Object, name: str = "web", commit: str = "") -> Wanted:
    return Wanted(name, "shop", bodies, f"task-{name}{commit}", commit)


def slow(server: ApiServer, what: Wanted, meanwhile: Callable[[], object]) -> None:
    """Look, let somebody do something, hold, and apply; what comes after the hold is done when it has let the set go."""

    async def run() -> None:
        applier = Applier(client_of(server), what, relation)
        look = await applier.look()
        holds = applier._hold

        async def held(*of: Any) -> Any:
            parent = await holds(*of)
            await asyncio.to_thread(meanwhile)
            return parent

        applier._hold = held  # type: ignore[method-assign]
        await applier.apply(look, release_of(what, look.manifests))

    asyncio.run(run())


def value(server: ApiServer, name: str = "a") -> Any:
    found = server.read("configmaps", "shop", name)
    return None if found is None else found["data"]["value"]


def test_what_another_set_has_made_meanwhile_stays_its_own(api: ApiServer) -> None:
    other = wanted(configmap("a", "theirs"), name="other")
    with pytest.raises(
        InvalidInput, match=f"ConfigMap shop/a belongs to another apply set, {set_id('other', 'shop')}"
    ):
        slow(api, wanted(configmap("a", "ours")), lambda: release(api, other))
    found = api.read("configmaps", "shop", "a")
    assert found is not None
    assert (found["data"], found["metadata"]["labels"][PART_OF]) == (
        {"value": "theirs"},
        set_id("other", "shop"),
    )


def test_what_somebody_has_made_meanwhile_is_told_by_field_and_owner(api: ApiServer) -> None:
    with pytest.raises(Exception, match=r"fields of other managers.*data.value"):
        slow(
            api,
            wanted(configmap("a", "ours")),
            lambda: api.put("", "v1", "configmaps", configmap("a", "theirs")),
        )
    assert value(api) == "theirs"


@pytest.mark.parametrize("there", [True, False], ids=["changed and pruned", "made and changed"])
def test_a_worker_that_slept_through_a_newer_release_changes_nothing(api: ApiServer, there: bool) -> None:
    """Its hold is over: the newer release has pruned what it knew, or made what it had not found."""
    if there:
        release(api, wanted(configmap("a"), configmap("b"), commit="1"))

    def newer() -> None:
        def over(item: Object) -> None:
            told = json.loads(item["metadata"]["annotations"][HOLDER])
            item["metadata"]["annotations"][HOLDER] = json.dumps({**told, "until": 1.0})

        api.change("configmaps", "shop", "web", over)
        release(api, wanted(configmap("b", "3"), *(() if there else [configmap("a", "3")]), commit="3"))

    with pytest.raises(Conflict, match="taken by nobody meanwhile"):
        slow(api, wanted(configmap("a", "2"), configmap("b", "2"), commit="2"), newer)
    assert (value(api), value(api, "b")) == (None if there else "3", "3")


def test_a_server_that_takes_no_version_for_what_is_not_there_is_applied_to_all_the_same(
    api: ApiServer,
) -> None:
    asked = api._apply

    def strict(
        kind: Any, namespace: str, name: str, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        from tests.kubernetes.objects import Refused

        if "resourceVersion" in body["metadata"] and (namespace, name) not in kind.objects:
            raise Refused(409, "Conflict", "there is no such object at this version")
        return asked(kind, namespace, name, body, query)

    api._apply = strict  # type: ignore[method-assign]
    release(api, wanted(configmap("a")))
    assert value(api) == "1"


@pytest.mark.parametrize("given", ["stringData: {key: hunter2hunter2}", "data: {key: aHVudGVyMmh1bnRlcjI=}"])
@pytest.mark.parametrize(
    ("patch", "fails"),
    [
        ({"data": {"key": "b3RoZXI="}}, True),
        ({"data": {"more": "b3RoZXI="}, "metadata": {"labels": {"a": "b"}}}, False),
    ],
)
def test_a_secret_that_somebody_changes_while_it_is_waited_for_is_told(
    cluster: Cluster, context: dict[str, Any], patch: dict[str, Any], fails: bool, given: str
) -> None:
    secret = SECRET.replace("stringData: {key: hunter2hunter2}", given)
    with pytest.raises(TaskDeferred) as deferred:
        task(manifests=f"{WEB}---\n{secret}", deferrable=True).execute(context)
    _, arguments = deferred.value.trigger.serialize()
    assert "aHVudGVyMmh1bnRlcjI=" not in json.dumps(arguments)
    written(cluster.api, "/api/v1/namespaces/shop/secrets/key", patch)
    cluster.start()
    event = after(deferred.value)
    if not fails:
        assert task(deferrable=True).execute_complete(context, event)["rule"] == "ready"
        return
    with pytest.raises(
        AirflowFailException, match=r"Secret key was changed since it was applied.*overwritten"
    ):
        task(deferrable=True).execute_complete(context, event)
