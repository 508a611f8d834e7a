"""A mounted prompt is proved by the ConfigMap and by each ready pod; what cannot be seen is not believed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput, ReleaseFailed, Unreachable
from airflow_pipeops.llm.prompts.agreement import PromptDisagreementTrigger
from airflow_pipeops.llm.prompts.configmap import ConfigMapPrompt, judge
from airflow_pipeops.llm.prompts.projections import Named, form_of, projection_of
from airflow_pipeops.models import agreement
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.test_connections import kubeconfig
from tests.llm.prompts.conftest import prompt

ONE, TWO = prompt(), prompt("{{flight}}!")


def configmap(content: str | None) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notice", "namespace": "shop"},
        "data": {} if content is None else {"prompt.json": content},
    }  # fmt: skip


def pod(
    name: str, sha256: str = "", *, ready: bool = True, annotated: bool = False, **metadata: Any
) -> dict[str, Any]:
    env = [{"name": "PORT", "value": "1"}] + ([{"name": "PROMPT_SHA256", "value": sha256}] if sha256 else [])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "notice"},
            "annotations": {"PROMPT_SHA256": sha256} if annotated else {},
            **metadata,
        },
        "spec": {"containers": [{"name": "server", "env": [] if annotated else env}]},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


A, B = ONE.sha256, TWO.sha256


@pytest.mark.parametrize(
    ("content", "pods", "sha256", "why"),
    [
        (ONE.canonical, [pod("a", A), pod("b", A, annotated=True)], A, ""),
        (ONE.canonical, [pod("a", A), pod("b", B)], "", "pod b carries"),
        (ONE.canonical, [pod("a", A), pod("b")], "", "pod b names no digest as PROMPT_SHA256"),
        (ONE.canonical, [pod("a", A), pod("b", B, ready=False)], A, ""),
        (ONE.canonical, [pod("a", A), pod("b", B, deletionTimestamp="now")], A, ""),
        (ONE.canonical, [pod("a", A, ready=False)], "", "no pod is ready"),
        (ONE.canonical, [], "", "no pod is ready"),
        (None, [pod("a", A)], "", "has no 'prompt.json'"),
        ("{}", [pod("a", A)], "", "is no prompt"),
        (TWO.canonical, [pod("a", A)], "", f"and the ConfigMap holds {B[:12]}"),
    ],
)
def test_each_ready_pod_must_carry_what_the_configmap_holds(content, pods, sha256, why):
    found = judge(configmap(content), pods, "prompt.json", "PROMPT_SHA256")
    assert found.sha256 == sha256
    assert why in found.why
    assert bool(found.why) == (sha256 == "")


@pytest.fixture
def cluster(connections) -> Iterator[ApiServer]:
    with serving() as server:
        extra = {"kube_config": kubeconfig(server.url, {"token": "token"})}
        connections("kubernetes_default", "kubernetes", "", extra=extra)
        yield server


@pytest.mark.timeout(120)
def test_the_proof_waits_for_the_rollout_and_no_longer_than_it_may(cluster: ApiServer):
    place = projection_of(form_of(ConfigMapPrompt("notice", "shop", "app=notice", patience=90))).opened()
    assert place.named("notice", "production") is None
    cluster.put("", "v1", "configmaps", configmap(ONE.canonical))
    cluster.put("", "v1", "pods", pod("old", B))
    cluster.put("", "v1", "pods", pod("other", B, labels={}))
    seen = place.named("notice", "production")
    assert seen is not None
    assert "pod old carries" in seen.why

    def roll_out() -> None:
        """The controller replaces the pod, once somebody waits for it."""
        before = len(cluster.requests)
        while sum("pods" in one for one in cluster.requests[before:]) < 2:
            time.sleep(0.05)
        cluster.change("pods", "shop", "old", lambda one: one.update(spec=pod("new", A)["spec"]))

    controller = threading.Thread(target=roll_out)
    controller.start()
    shown = place.release(ONE, "production", "c" * 40)
    controller.join(60)
    assert shown.sha256 == A
    hasty = ConfigMapPrompt("notice", "shop", "app=notice", patience=0).opened()
    with pytest.raises(ReleaseFailed, match=f"do not show {B[:12]}: they carry {A[:12]}"):
        hasty.release(TWO, "production", "c" * 40)
    with pytest.raises(ReleaseFailed, match="there is none"):
        ConfigMapPrompt("none", "shop", "app=notice", patience=0).opened().release(TWO, "production", "")
    with pytest.raises(InvalidInput, match="no selector"):
        ConfigMapPrompt("notice", "shop", "")


class Shown:
    """A place that shows what it is given."""

    def __init__(self, *given: Any) -> None:
        self.configmap, self.pods = given

    def named(self, name: str, label: str) -> Named:
        if self.pods is None:
            raise Unreachable("the cluster does not answer")
        return judge(self.configmap, self.pods, "prompt.json", "PROMPT_SHA256")

    def has(self, name: str, sha256: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("content", "pods", "verdict", "said"),
    [
        (ONE.canonical, [pod("a", A)], "agree", ""),
        (ONE.canonical, None, "cannot tell", "does not answer"),
        (ONE.canonical, [], "cannot tell", "no pod is ready"),
        (ONE.canonical, [pod("a")], "cannot tell", "names no digest"),
        (TWO.canonical, [pod("a", B)], "disagree", ""),
        (TWO.canonical, [pod("a", A)], "disagree", f"the ConfigMap holds {B[:12]}"),
        (TWO.canonical, [pod("a"), pod("b", A)], "disagree", f"the ConfigMap holds {B[:12]}"),
        ("Be rude.", [pod("a", A)], "disagree", "is no prompt"),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_an_edit_in_the_cluster_is_told_and_its_silence_hides_none_in_the_registry(
    moved, content, pods, verdict, said
):
    watcher = PromptDisagreementTrigger(
        prompt="notice",
        desired={"file": "f", "fields": {"prompt": "content"}},
        projection={"kind": "mlflow"},
        live={"kind": "configmap", "name": "notice", "namespace": "shop", "selector": "app=notice"},
    )
    git = SimpleNamespace(read=lambda *_: json.dumps({"prompt": ONE.canonical}).encode())
    alias, carried = (TWO.canonical, B) if moved else (ONE.canonical, A)
    sides = watcher._named(git, Shown(configmap(alias), [pod("a", carried)]), Shown(configmap(content), pods))
    found = agreement.judge(sides, 900, 900, "prompt")
    assert found.verdict == ("disagree" if moved else verdict), found.reason
    assert ("alias" in found.liar) is moved
    assert ("live" in found.liar) is (verdict == "disagree")
    assert said in sides.why
