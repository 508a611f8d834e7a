"""Server-side apply of the API server for tests follows the rules of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.kubernetes.apiserver import APPLY, ApiServer, serving

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "spec": {"containers": [{"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}]}]}
        },
    },
}
PLACE = "/apis/apps/v1/namespaces/shop/deployments/web"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with serving(("apps", "v1", "deployments", True)) as running:
        yield running


def apply(server: ApiServer, body: Any, manager: str, place: str = PLACE, **query: str) -> httpx.Response:
    import json

    headers = {"Authorization": "Bearer token", "Content-Type": APPLY}
    params = {"fieldManager": manager, **query}
    return httpx.patch(server.url + place, params=params, headers=headers, content=json.dumps(body))


def merge(server: ApiServer, body: Any, manager: str) -> httpx.Response:
    headers = {"Authorization": "Bearer token", "Content-Type": "application/merge-patch+json"}
    return httpx.patch(server.url + PLACE, params={"fieldManager": manager}, headers=headers, json=body)


def changed(**spec: Any) -> dict[str, Any]:
    return {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], **spec}}  # type: ignore[dict-item]


def managers(item: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["manager"], one["operation"]) for one in item["metadata"]["managedFields"]]


def test_the_same_again_changes_nothing(server: ApiServer) -> None:
    first = apply(server, DEPLOYMENT, "us")
    again = apply(server, DEPLOYMENT, "us")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert managers(first.json()) == [("us", "Apply")]


def test_another_managers_field_is_a_conflict_with_its_cause_until_it_is_forced(server: ApiServer) -> None:
    apply(server, DEPLOYMENT, "us")
    merge(server, {"spec": {"replicas": 5}}, "autoscaler")
    refused = apply(server, DEPLOYMENT, "us")
    assert refused.status_code == 409
    (cause,) = refused.json()["details"]["causes"]
    assert cause["reason"] == "FieldManagerConflict"
    assert cause["message"].startswith('conflict with "autoscaler"')
    assert cause["field"] == ".spec.replicas"
    assert server.read("deployments", "shop", "web")["spec"]["replicas"] == 5  # type: ignore[index]
    forced = apply(server, DEPLOYMENT, "us", force="true").json()
    assert forced["spec"]["replicas"] == 2
    assert managers(forced) == [("us", "Apply")]


def test_the_same_value_is_shared_and_no_conflict(server: ApiServer) -> None:
    apply(server, DEPLOYMENT, "us")
    shared = apply(server, DEPLOYMENT, "them")
    assert shared.status_code == 200
    assert managers(shared.json()) == [("us", "Apply"), ("them", "Apply")]
    without = {key: value for key, value in DEPLOYMENT["spec"].items() if key != "replicas"}  # type: ignore[attr-defined]
    left = apply(server, {**DEPLOYMENT, "spec": without}, "us").json()
    assert left["spec"]["replicas"] == 2, "the other one still wants it"
    assert "replicas" not in apply(server, {**DEPLOYMENT, "spec": without}, "them").json()["spec"]


def test_of_a_list_that_is_a_map_the_entries_of_others_stay(server: ApiServer) -> None:
    apply(server, DEPLOYMENT, "us")
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "mesh", "image": "mesh:1"}]}}}}
    both = apply(server, {**DEPLOYMENT, "metadata": {"name": "web"}, **sidecar}, "mesh").json()
    assert [one["name"] for one in both["spec"]["template"]["spec"]["containers"]] == ["web", "mesh"]
    container = {"name": "web", "image": "web:2"}
    after = apply(server, changed(template={"spec": {"containers": [container]}}), "us").json()
    assert after["spec"]["template"]["spec"]["containers"] == [container, {"name": "mesh", "image": "mesh:1"}]
    assert after["metadata"]["generation"] == 3


def test_what_was_made_otherwise_belongs_to_whoever_was_there_before(server: ApiServer) -> None:
    server.put("apps", "v1", "deployments", {**DEPLOYMENT, "metadata": {"name": "web", "namespace": "shop"}})
    refused = apply(server, changed(replicas=3), "us").json()
    assert 'conflict with "before-first-apply"' in refused["message"]


def test_a_dry_run_answers_and_stores_nothing(server: ApiServer) -> None:
    assert apply(server, DEPLOYMENT, "us", dryRun="All").json()["spec"]["replicas"] == 2
    assert server.read("deployments", "shop", "web") is None
    apply(server, DEPLOYMENT, "us")
    assert apply(server, changed(replicas=3), "us", dryRun="All").json()["spec"]["replicas"] == 3
    assert server.read("deployments", "shop", "web")["spec"]["replicas"] == 2  # type: ignore[index]


def test_a_field_that_the_kind_does_not_have_is_refused(server: ApiServer) -> None:
    wrong = changed(template={"spec": {"containers": [{"name": "web", "imagee": "web:1"}]}})
    refused = apply(server, wrong, "us", fieldValidation="Strict")
    assert refused.status_code == 500
    assert (
        ".spec.template.spec.containers[0].imagee: field not declared in schema" in refused.json()["message"]
    )


def test_a_stale_version_a_manager_without_a_name_and_managed_fields_are_refused(server: ApiServer) -> None:
    apply(server, DEPLOYMENT, "us")
    stale = {**DEPLOYMENT, "metadata": {"name": "web", "resourceVersion": "1"}}
    assert apply(server, stale, "us").status_code == 409
    assert apply(server, DEPLOYMENT, "").status_code == 400
    assert apply(server, {**DEPLOYMENT, "metadata": {"managedFields": []}}, "us").status_code == 400
