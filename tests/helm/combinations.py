"""The settings of the chart, and rows of them in which every two occur together, however they are chosen.

Each combination of all is rendered template by template; see ``parts.py``.
"""

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


def _switched(base: Values, *switches: str) -> list[Values]:
    """Return values with each combination of some switches."""
    found = product((True, False), repeat=len(switches))
    return [{**base, **dict(zip(switches, each, strict=True))} for each in found]


#: setting -> its levels; the first is what a chart without values does. A switch of a feature is turned where that is on.
SETTINGS: Mapping[str, list[Values]] = {
    "account": [
        {},
        {"serviceAccount": {"perDuty": True, "annotations": {"eks.amazonaws.com/role-arn": "arn"}}},
        {"serviceAccount": {"create": False, "name": "mine"}},
        {"serviceAccount": {"create": False, "perDuty": True}},
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
    "deploy": [{}, *({"rbac": {"deploy": more}} for more in _switched({"enabled": True}, "helm", "definitions"))],
    "workflows": [
        *_flag("workflows"),
        {"workflows": FULL_WORKFLOWS},
        {"workflows": {"enabled": True, "serviceAccount": {"create": False, "name": "mine"}}},
    ],
    "application": [
        {},
        *({"argocd": {"application": more}} for more in _switched(APPLICATION, "prune", "selfHeal")),
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
#: setting -> those on which it depends what :func:`fitting` gives beside it.
COUPLED: Mapping[str, tuple[str, ...]] = {
    "connections": ("git", "seed"),
    "gitops": ("git",),
    "tests": ("gitops",),
    "project": ("application", "gitops"),
}
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
def rows() -> tuple[tuple[int, ...], ...]:
    """Choose rows of levels in which every two settings occur in all their combinations. Always the same ones."""
    chance = random.Random(7)
    groups = list(combinations(range(len(_SIZES)), 2))
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
