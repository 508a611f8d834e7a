"""A contract with kubectl: an apply set that one of us made is pruned by the other."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.deploy.apply.looking import Looker
from airflow_pipeops.deploy.apply.sets import PART_OF, TOOLING, set_id
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.exceptions import InvalidInput
from tests.deploy.apply.cluster import client_of, configmap, members, relation, release
from tests.deploy.conftest import Cluster
from tests.kubernetes.apiserver import ApiServer

KUBECTL = Path(sys.executable).with_name("kubectl")


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Any:
    """Apply objects as a set, with pruning, as a person does."""
    # Over plain HTTP, kubectl sends no token.
    cluster.api.tokens[""] = lambda *_: True
    connection = json.loads(os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"])
    config = tmp_path / "kubeconfig"
    config.write_text(connection["extra"]["kube_config"], encoding="utf-8")

    def apply(*bodies: dict[str, Any], applyset: str = "configmaps/web") -> str:
        wanted = tmp_path / "wanted.json"
        wanted.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}), encoding="utf-8")
        way = ("--server-side", f"--applyset={applyset}", "--prune", "--force-conflicts")
        done = subprocess.run(
            [
                str(KUBECTL),
                "apply",
                "--namespace=shop",
                "--validate=ignore",
                "-f",
                str(wanted),
                *(way if applyset else ()),
            ],
            env={**os.environ, "KUBECTL_APPLYSET": "true", "KUBECONFIG": str(config), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return apply


def wanted(*bodies: dict[str, Any], name: str = "web", **more: Any) -> Wanted:
    return Wanted(name, "shop", bodies, "task", **more)


def test_a_set_of_kubectls_is_taken_over_and_pruned(cluster: Cluster, kubectl: Any) -> None:
    cluster.api.put("", "v1", "configmaps", configmap("foreign"))
    kubectl(configmap("a"), configmap("b"))
    made = cluster.api.read("configmaps", "shop", "b")
    assert made is not None
    assert made["metadata"]["labels"][PART_OF] == set_id("web", "shop"), "it works out the same id"
    with pytest.raises(InvalidInput, match="belongs to kubectl"):
        release(cluster.api, wanted(configmap("a")))
    done = release(cluster.api, wanted(configmap("a"), take_over="kubectl"))
    assert [str(one) for one in done.deleted] == ["ConfigMap shop/b"]
    assert set(members(cluster.api)) == {"configmaps/a"}
    assert cluster.api.read("configmaps", "shop", "foreign") is not None


def test_a_set_of_ours_that_is_handed_over_is_pruned_by_kubectl(cluster: Cluster, kubectl: Any) -> None:
    cluster.api.put("", "v1", "configmaps", configmap("foreign"))
    release(cluster.api, wanted(configmap("a"), configmap("b")))
    cluster.api.change("configmaps", "shop", "web", handed_over)
    assert "configmap/b pruned" in kubectl(configmap("a"))
    assert set(members(cluster.api)) == {"configmaps/a"}
    assert cluster.api.read("configmaps", "shop", "foreign") is not None


def test_a_set_whose_parent_is_kubectls_default_goes_both_ways(cluster: Cluster, kubectl: Any) -> None:
    """``--applyset=NAME`` means a Secret."""
    kubectl(configmap("a"), configmap("b"), applyset="web")
    done = release(cluster.api, wanted(configmap("a"), name="secrets/web", take_over="kubectl"))
    assert [str(one) for one in done.deleted] == ["ConfigMap shop/b"]
    parent = cluster.api.read("secrets", "shop", "web")
    assert parent is not None
    assert parent["metadata"]["annotations"][TOOLING] == "pipeops/v1"
    release(cluster.api, wanted(configmap("a"), configmap("c"), name="secrets/web"))
    cluster.api.change("secrets", "shop", "web", handed_over)
    assert "configmap/c pruned" in kubectl(configmap("a"), applyset="web")
    assert set(members(cluster.api)) == {"configmaps/a"}


def test_a_set_of_ours_may_have_a_secret_as_its_parent(cluster: Cluster, kubectl: Any) -> None:
    release(cluster.api, wanted(configmap("a"), configmap("b"), name="secrets/web"))
    assert cluster.api.read("configmaps", "shop", "web") is None
    cluster.api.change("secrets", "shop", "web", handed_over)
    assert "configmap/b pruned" in kubectl(configmap("a"), applyset="web")


def test_what_was_applied_on_the_client_is_taken_over_where_its_owner_is_named(
    cluster: Cluster, kubectl: Any
) -> None:
    """As ``kubectl apply --server-side`` does: a field that the manifest has no more goes."""
    kubectl({**configmap("a"), "data": {"value": "1", "old": "1"}}, applyset="")
    made = cluster.api.read("configmaps", "shop", "a")
    assert made is not None
    assert [one["manager"] for one in made["metadata"]["managedFields"]] == ["kubectl-client-side-apply"]
    with pytest.raises(InvalidInput, match=r"\.data\.value is kubectl-client-side-apply's"):
        release(cluster.api, wanted(configmap("a", "2")))
    taken = wanted(configmap("a", "2"), force_from=["kubectl-client-side-apply"])
    assert [line for line in looked(cluster.api, taken) if line.startswith("!")] == [
        "! ConfigMap shop/a: what another tool applied is taken over, and these go: .data.old, "
        ".metadata.annotations.kubectl.kubernetes.io/last-applied-configuration"
    ]
    release(cluster.api, taken)
    found = cluster.api.read("configmaps", "shop", "a")
    assert found is not None
    assert found["data"] == {"value": "2"}
    assert [one["manager"] for one in found["metadata"]["managedFields"]] == ["pipeops"]
    assert "kubectl.kubernetes.io/last-applied-configuration" not in (
        found["metadata"].get("annotations") or {}
    )


def test_with_a_set_its_members_fields_are_taken_over(cluster: Cluster, kubectl: Any) -> None:
    kubectl({**configmap("a"), "data": {"value": "1", "old": "1"}})
    release(cluster.api, wanted(configmap("a", "2"), take_over="kubectl"))
    found = cluster.api.read("configmaps", "shop", "a")
    assert found is not None
    assert found["data"] == {"value": "2"}, "nobody else holds what left the manifest"


def handed_over(item: dict[str, Any]) -> None:
    item["metadata"]["annotations"][TOOLING] = "kubectl/v1.37"


def looked(server: ApiServer, what: Wanted) -> tuple[str, ...]:
    async def run() -> tuple[str, ...]:
        return (await Looker(client_of(server), what, relation).look()).lines

    return asyncio.run(run())
