"""What a task links to: the application, its operation, the commit; empty until it is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.argocd import operators, sensors
from airflow_pipeops.argocd.links import ArgoCDAppLink, ArgoCDOperationLink, app_url
from airflow_pipeops.delivery.links import CommitLink

APP = app_url("https://argo.example.com/", "team a", "api")


@pytest.mark.parametrize(
    ("link", "known"),
    [
        (ArgoCDAppLink(), "https://argo.example.com/applications/team%20a/api"),
        (ArgoCDOperationLink(), "https://argo.example.com/applications/team%20a/api?operation=true"),
        (CommitLink(), "https://github.com/a/b/commit/1"),
    ],
)
def test_where_they_lead(link: Any, known: str) -> None:
    task = SimpleNamespace(argocd_url=APP, commit_url="https://github.com/a/b/commit/1")
    assert link.get_link(task, ti_key=None) == known
    assert link.get_link(SimpleNamespace(argocd_url="", commit_url=""), ti_key=None) == ""
    assert link.get_link(SimpleNamespace(), ti_key=None) == ""


@pytest.mark.parametrize("name", [*operators.__all__, *sensors.__all__])
def test_every_operator_has_them(name: str) -> None:
    made = getattr(operators, name, None) or getattr(sensors, name)
    names = [link.name for link in made.operator_extra_links]
    assert names == ["Argo CD application", "Argo CD operation", "Commit"]
    assert len(set(made.template_fields)) == len(made.template_fields)
