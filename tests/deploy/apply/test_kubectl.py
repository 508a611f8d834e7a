"""A contract with kubectl: an apply set that one of us made is pruned by the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.deploy.apply.sets import PART_OF, TOOLING, set_id
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.exceptions import InvalidInput
from tests.deploy.apply.cluster import configmap, members, release
from tests.deploy.conftest import Cluster

KUBECTL = Path(sys.executable).with_name("kubectl")


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Any:
    """Apply objects as a set, with pruning, as a person does."""
    # Over plain HTTP, kubectl sends no token.
    cluster.api.tokens[""] = lambda *_: True
    connection = json.loads(os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"])
    config = tmp_path / "kubeconfig"
    config.write_text(connection["extra"]["kube_config"], encoding="utf-8")

    def apply(*bodies: dict[str, Any]) -> str:
        wanted = tmp_path / "wanted.json"
        wanted.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}), encoding="utf-8")
        done = subprocess.run(
            [
                str(KUBECTL), "apply", "--server-side", "--namespace=shop", "--applyset=configmaps/web", "--prune",
                "--force-conflicts", "--validate=ignore", "-f", str(wanted),
            ],
            env={**os.environ, "KUBECTL_APPLYSET": "true", "KUBECONFIG": str(config), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return apply


def wanted(*bodies: dict[str, Any], **more: Any) -> Wanted:
    return Wanted("web", "shop", bodies, "task", **more)


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
    cluster.api.change(
        "configmaps",
        "shop",
        "web",
        lambda item: item["metadata"]["annotations"].update({TOOLING: "kubectl/v1.37"}),
    )
    assert "configmap/b pruned" in kubectl(configmap("a"))
    assert set(members(cluster.api)) == {"configmaps/a"}
    assert cluster.api.read("configmaps", "shop", "foreign") is not None
