"""Helm itself installs, upgrades and uninstalls the chart, against a Kubernetes API over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.helm.running import MAJORS, kubeconfig, run
from tests.helm.programs import CHART
from tests.helm.test_golden import RELEASES
from tests.kubernetes.apiserver import ApiServer, serving

KINDS = (
    ("", "v1", "namespaces"),
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
    ("apps", "v1", "statefulsets", True),
    ("argoproj.io", "v1alpha1", "applications"),
    ("argoproj.io", "v1alpha1", "appprojects"),
    ("external-secrets.io", "v1", "externalsecrets"),
    ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ("rbac.authorization.k8s.io", "v1", "roles"),
    ("rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("source.toolkit.fluxcd.io", "v1", "gitrepositories"),
)
PLURALS = [plural for _, _, plural, *_ in KINDS]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        server.tokens[""] = lambda *_: True
        yield server


def made(api: ApiServer) -> set[tuple[str, str]]:
    """Return the kind and the name of all that there is, but for Helm's own Secrets."""
    return {(plural, one["metadata"]["name"]) for plural in PLURALS for one in api.all(plural)}


@pytest.mark.parametrize("major", MAJORS)
def test_a_trial_becomes_production_and_leaves_nothing_behind(
    api: ApiServer, major: str, tmp_path: Path
) -> None:
    config = kubeconfig(tmp_path / "config", api.url)

    def values(name: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(RELEASES[name]))
        return str(path)

    # The hooks are Jobs and pods, and nobody runs pods here.
    run(major, config, "install", "pipeops", str(CHART), "--values", values("trial"), "--no-hooks")
    trial = made(api)
    assert {("statefulsets", "pipeops-git"), ("appprojects", "pipeops")} <= trial
    assert len([name for kind, name in trial if kind == "applications"]) == 4
    run(major, config, "upgrade", "pipeops", str(CHART), "--values", values("production"), "--no-hooks")
    production = made(api)
    assert not {kind for kind, _ in production} & {"statefulsets", "appprojects", "applications"}
    assert {("kustomizations", "delay-api-staging"), ("serviceaccounts", "pipeops-waiter")} <= production
    assert {kind for kind, _ in production} >= {"clusterroles", "clusterrolebindings"}
    kept = api.all("namespaces")
    assert {one["metadata"]["name"] for one in kept} >= {"delay-api-staging", "flight-delay-production"}
    run(major, config, "upgrade", "pipeops", str(CHART), "--values", values("production"), "--no-hooks")
    assert made(api) == production
    run(major, config, "uninstall", "pipeops", "--no-hooks")
    assert made(api) == set()
    assert not [one for one in api.all("secrets") if one["metadata"]["labels"].get("owner") != "helm"]


def test_all_kinds_of_the_golden_releases_are_served_here() -> None:
    """Helm would say that the cluster lacks a kind; this says which."""
    folder = Path(__file__).parent / "golden"
    hooks = {"Job", "Pod"}
    found: set[Any] = set()
    for name in RELEASES:
        for one in yaml.load_all((folder / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader):
            found.add((one["apiVersion"], one["kind"]))
    served = {(f"{group}/{version}".strip("/"), plural) for group, version, plural, *_ in KINDS}
    assert len({one for one in found if one[1] not in hooks}) == len(served), json.dumps(sorted(found))
