"""Three releases of the chart, whole: a change of a template is seen as a change of what a cluster gets.

``PIPEOPS_GOLDEN=write pytest tests/helm/test_golden.py`` writes the files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.helm.running import MAJORS
from tests.helm.combinations import IMAGE, ONE_BY_ONE
from tests.helm.programs import template
from tests.helm.test_chart import text

GOLDEN = Path(__file__).parent / "golden"
RELEASES: dict[str, dict[str, Any]] = {
    "default": {},
    "trial": {
        "image": IMAGE,
        "connections": {"existingSecret": "pipeops-connections"},
        "git": {"enabled": True},
        "argocd": {"project": {"enabled": True}},
        "examples": {"gitops": "argocd", "registry": "registry.example.com/team", "seed": {"enabled": True}},
        "tests": {"release": {"enabled": True, "secret": "airflow-admin"}},
    },
    "production": {
        "image": IMAGE,
        "imagePullSecrets": ["pull"],
        "connections": {"externalSecret": ONE_BY_ONE},
        "serviceAccount": {"perDuty": True},
        "rbac": {
            "argocd": {"enabled": True, "sync": True},
            "flux": {"enabled": True},
            "argoWorkflows": {"enabled": True, "retry": True},
            "build": {"enabled": True},
            "deploy": {
                "enabled": True,
                "helm": True,
                "definitions": True,
                "namespaces": ["shop-staging", "shop-production"],
            },
        },
        "examples": {"gitops": "flux", "repoURL": "https://git.example.com/team/deploy.git"},
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
    },
}


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_what_was_looked_at(name: str, major: str) -> None:
    # Releases of the project differ in their number only.
    made = re.sub(
        r"(pipeops-|app\.kubernetes\.io/version: \")\d+\.\d+\.\d+\w*",
        r"\1VERSION",
        template(major, RELEASES[name]),
    )
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("PIPEOPS_GOLDEN") == "write" and major == MAJORS[0]:
        path.parent.mkdir(exist_ok=True)
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


def notes(values: dict[str, Any]) -> str:
    """Return what a person is told at the end."""
    (found,) = (said for path, said in text(values).items() if path.endswith("NOTES.txt"))
    return found


def test_the_notes_say_what_to_do_next() -> None:
    trial, production = notes(RELEASES["trial"]), notes(RELEASES["production"])
    assert "None are here: set connections.existingSecret" in notes({})
    assert "http://pipeops-git.airflow.svc:8080/delay-api.git" in trial
    assert "argocd proj role create-token pipeops airflow" in trial
    assert "delay_api_staging  http://delay-api.delay-api-staging.svc" in trial
    assert "helm test pipeops -n airflow --timeout 1500s" in trial
    assert "serviceAccount: {create: false, name: pipeops-waiter}" in production
    assert "kubectl -n airflow get externalsecret pipeops-connections" in production
    for said in (trial, production, notes({})):
        account = yaml.safe_load(
            re.search(r"^  workers:\n(    .*\n)+  triggerer:\n(    .*\n)+", said, re.M)[0]
        )  # type: ignore[index]
        assert account["workers"]["celery"]["serviceAccount"] == {"create": False, "name": "pipeops"}
        assert "<no value>" not in said
        assert "%!" not in said
        assert not re.search(r"\n\n\n", said)
