"""Where the doctor looks for connections: in secrets backends too, and it says so where one cannot be asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.connection import Connection

from airflow_pipeops.provider.doctor import command


def backend(**held: str) -> Any:
    """A secrets backend with connections of these types; one called ``broken`` it fails over."""

    def get_connection(conn_id: str) -> Connection | None:
        if conn_id == "broken":
            raise TimeoutError("the vault is sealed")
        return Connection(conn_id=conn_id, conn_type=held[conn_id]) if conn_id in held else None

    return SimpleNamespace(get_connection=get_connection)


@pytest.fixture(autouse=True)
def backends(monkeypatch: pytest.MonkeyPatch) -> None:
    vault, environment = backend(vaulted="argocd"), backend(here="git_repository", web="http")
    monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", lambda: [vault, environment])
    monkeypatch.setattr(command, "_tried", lambda conn_id, hook: (True, hook))
    monkeypatch.setattr(command, "_known", lambda: {})


def standings(found: Any) -> dict[str, str]:
    return {check.about: check.standing for check in found}


def test_connections_that_are_asked_for() -> None:
    found = command.checks(("vaulted", "here", "web", "nowhere", "broken"))
    assert standings(found) == {
        "connection vaulted (argocd)": "good",
        "connection here (git_repository)": "good",
        "connection nowhere": "bad",
        "connection broken": "unknown",
    }
    assert "the vault is sealed" in next(one.found for one in found if one.about == "connection broken")


@pytest.mark.parametrize(("conn_id", "standing"), [("nowhere", "bad"), ("broken", "unknown"), ("web", None)])
def test_a_connection_that_a_setting_names(
    conn_id: str, standing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__REGISTRY_CONN_ID", conn_id)
    assert standings(command._connections(())).get(f"connection {conn_id}") == standing
