"""Values that meet each other: rows in which every three settings of the chart occur together, however they are chosen."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping
from itertools import combinations, product
from typing import Any

Values = dict[str, Any]

IMAGE = "registry.example.com/airflow-pipeops@sha256:" + "1" * 64
CONNECTION = {
    "conn_type": "git_repository",
    "host": "http://git/x.git",
    "login": "a",
    "password": "hunter2-hunter2",
}
STORE = {"enabled": True, "store": {"kind": "ClusterSecretStore", "name": "vault"}, "keys": ["airflow/all"]}
ONE_BY_ONE = {
    "enabled": True,
    "store": {"name": "vault"},
    "connections": {
        "argocd_default": {"key": "airflow", "property": "argocd"},
        "pipeops_app_repo": {"key": "git"},
    },
}
FULL_WORKFLOWS = {
    "enabled": True,
    "gitSecret": "git-login",
    "registrySecret": "registry-login",
    "nodeSelector": {"pool": "ci"},
    "tolerations": [{"key": "ci", "operator": "Exists"}],
    "build": {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
}
APPLICATION = {"enabled": True, "repoURL": "https://git/gitops", "path": "apps"}


def _flag(*path: str, **more: Any) -> list[Values]:
    made: Values = {"enabled": True, **more}
    for name in reversed(path):
        made = {name: made}
    return [{}, made]


#: setting -> its levels; the first is what a chart without values does.
SETTINGS: Mapping[str, list[Values]] = {
    "account": [
        {},
        {"serviceAccount": {"perDuty": True, "annotations": {"eks.amazonaws.com/role-arn": "arn"}}},
        {"serviceAccount": {"create": False, "name": "mine"}},
    ],
    "connections": [
        {},
        {"connections": {"values": {"pipeops_app_repo": CONNECTION, "pipeops_gitops_repo": CONNECTION}}},
        {"connections": {"existingSecret": "mine"}},
        {"connections": {"externalSecret": STORE}},
        {"connections": {"externalSecret": ONE_BY_ONE}},
    ],
    "roles": [{}, {"rbac": {"create": False}}],
    "argocd": [*_flag("rbac", "argocd"), {"rbac": {"argocd": {"enabled": True, "sync": True}}}],
    "flux": _flag("rbac", "flux", namespaces=["flux-system", "apps"]),
    "argo workflows": [*_flag("rbac", "argoWorkflows"), {"rbac": {"argoWorkflows": {"enabled": True, "retry": True}}}],
    "build": _flag("rbac", "build"),
    "deploy": [*_flag("rbac", "deploy"), {"rbac": {"deploy": {"enabled": True, "helm": True, "definitions": True}}}],
    "workflows": [
        *_flag("workflows"),
        {"workflows": FULL_WORKFLOWS},
        {"workflows": {"enabled": True, "serviceAccount": {"create": False, "name": "mine"}}},
    ],
    "application": [
        {},
        {"argocd": {"application": APPLICATION}},
        {"argocd": {"application": {**APPLICATION, "automated": False}}},
    ],
    "project": _flag("argocd", "project", sourceRepos=["https://git/more"]),
    "gitops": [{}, {"examples": {"gitops": "argocd"}}, {"examples": {"gitops": "flux", "flux": {"gitSecret": "git"}}}],
    "namespaces": [{}, {"examples": {"createNamespaces": False}}],
    "git": _flag("git", storageClass="fast"),
    "seed": [{}, {"examples": {"registry": "registry.example.com/team", "seed": {"enabled": True}}}],
    "network": _flag("networkPolicy"),
    "budget": _flag("podDisruptionBudget", components=["triggerer", "worker"]),
    "tests": [{}, {"tests": {"release": {"enabled": True, "secret": "airflow-admin"}}}],
    "names": [{}, {"fullnameOverride": "x" * 63, "commonLabels": {"team": "data"}, "imagePullSecrets": ["pull"]}],
}  # fmt: skip
_SIZES = tuple(len(levels) for levels in SETTINGS.values())


def together(rows: Iterable[Values]) -> Values:
    """Merge values as Helm does."""
    whole: Values = {}
    for row in rows:
        for key, value in row.items():
            nested = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = together((whole[key], value)) if nested else value
    return whole


def fitting(row: Values) -> Values:
    """Give what a row cannot be without: an image, where connections are, and where the examples are."""
    given = together(({"image": IMAGE}, row))
    examples, git = given.get("examples", {}), given.get("git", {}).get("enabled")
    if (git or examples.get("seed")) and not given.get("connections"):
        given["connections"] = {"existingSecret": "mine"}
    if examples.get("gitops", "none") != "none" and not git:
        given["examples"] = {**examples, "repoURL": "https://git.example.com/team/deploy.git"}
    if examples.get("gitops") == "flux" and given.get("tests"):  # which waits for Argo CD
        del given["tests"]
    argocd = given.get("argocd", {})
    if argocd.get("project") and not argocd.get("application") and examples.get("gitops") != "argocd":
        shop = {"server": "https://kubernetes.default.svc", "namespace": "shop"}
        given["argocd"] = {**argocd, "project": {**argocd["project"], "destinations": [shop]}}
    return given


@functools.cache
def rows(strength: int = 3) -> tuple[tuple[int, ...], ...]:
    """Choose rows of levels in which every so many settings occur in all their combinations. Always the same ones."""
    chance = random.Random(7)
    groups = list(combinations(range(len(_SIZES)), strength))
    missing = {
        (group, levels) for group in groups for levels in product(*(range(_SIZES[at]) for at in group))
    }
    found: list[tuple[int, ...]] = [tuple(0 for _ in _SIZES)]
    missing -= _met(found[0], groups)
    while missing:
        # Each try begins with something that is missing, so that each row brings something.
        wanted = min(missing) if len(missing) < 50 else chance.choice(sorted(missing)[:400])
        tries = []
        for _ in range(12):
            row = [chance.randrange(size) for size in _SIZES]
            for at, level in zip(*wanted, strict=True):
                row[at] = level
            tries.append(tuple(row))
        best = max(tries, key=lambda row: len(_met(row, groups) & missing))
        found.append(best)
        missing -= _met(best, groups)
    return tuple(found)


def _met(row: tuple[int, ...], groups: list[tuple[int, ...]]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    return {(group, tuple(row[at] for at in group)) for group in groups}


def values_of(row: tuple[int, ...]) -> Values:
    """Return the values of a row."""
    return fitting(together(levels[at] for levels, at in zip(SETTINGS.values(), row, strict=True)))
