"""Connection forms, as Airflow's own server hands them to its page, and the test of what is filled in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager

from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.base.connections import without_id
from airflow_pipeops.base.storage import StorageHook
from airflow_pipeops.delivery.ledger.hook import SigningKeyHook
from airflow_pipeops.git.hook import EXTRAS, GitHook
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.provider.metadata import get_provider_info

FIELDS = [
    pytest.param(name, field, id=f"{kind['connection-type']}-{name}")
    for kind in get_provider_info()["connection-types"]
    for name, field in kind["conn-fields"].items()
]
DOCS = Path(__file__).parents[2] / "docs" / "connections.md"


def test_each_type_of_the_page_exists_after_the_documented_install() -> None:
    """A person finds in the form what the page tells them to choose."""
    table = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    named = {
        kind for line in table for kind in re.findall(r"\(`(\w+)`\)", line.split("|")[2] + line.split("|")[3])
    }
    assert named >= {"argocd", "git_repository", "http", "kubernetes", "mlflow", "pipeops_storage"}
    assert named <= set(ProvidersManager().hooks)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_no_field_shows_null_as_a_choice(name: str, field: dict[str, Any]) -> None:
    """Airflow's page lists each entry of ``enum``; one that is null is read as "null", chosen where nothing is."""
    choices = field["schema"].get("enum")
    if choices is not None:
        assert None not in choices
        assert field["schema"]["default"] in choices


@pytest.mark.parametrize(
    ("name", "field"), [field for field in FIELDS if re.search("key|phrase", str(field.values[0]))]
)
def test_a_key_keeps_its_lines_in_the_form_and_is_hidden_once_stored(
    name: str, field: dict[str, Any]
) -> None:
    """Airflow's field for passwords has one line; what is stored is masked by the name of the field alone."""
    from airflow._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS

    assert field["schema"]["format"] == ("multiline" if name.endswith("key") else "password")
    assert any(word in name for word in DEFAULT_SENSITIVE_FIELDS)


def test_the_form_of_git_has_the_fields_that_its_hook_takes() -> None:
    """The hook refuses an extra that it does not know, so a field of the form that it forgot would be of no use."""
    (form,) = [
        kind
        for kind in get_provider_info()["connection-types"]
        if kind["connection-type"] == "git_repository"
    ]
    assert sorted(form["conn-fields"]) == sorted(EXTRAS)


@pytest.mark.parametrize(
    ("hook", "connection", "said"),
    [
        (GitHook, {"conn_type": "git_repository"}, "the connection: "),
        (GitHook, {"conn_type": "git_repository", "host": "https://u:p@host/x.git"}, "the connection: "),
        (ArgoCDHook, {"conn_type": "argocd"}, "the connection has no host"),
        (ArgoCDHook, {"conn_type": "argocd", "host": "x", "extra": {"mode": "a"}}, "mode of the connection is 'a'"),
        (MLflowHook, {"conn_type": "mlflow"}, "the connection has no tracking URI"),
        (StorageHook, {"conn_type": "pipeops_storage"}, "the connection has no storage URI"),
        (SigningKeyHook, {"conn_type": "pipeops_signing_key"}, "the connection has no private key"),
    ],
)  # fmt: skip
def test_the_test_of_a_form_does_not_name_airflows_made_up_id(
    monkeypatch: pytest.MonkeyPatch, hook: Any, connection: dict[str, Any], said: str
) -> None:
    """While a form is without_id, Airflow keeps what was filled in under an id that nobody has ever seen."""
    monkeypatch.setenv("AIRFLOW_CONN_AQGHJKTEMP", json.dumps(connection))
    passed, message = hook("AQGHJKTEMP").test_connection()
    assert not passed
    assert said in message
    assert "AQGHJKTEMP" not in message


def test_another_connection_keeps_its_name() -> None:
    assert without_id("a", "connection 'a' and connection 'ab'") == "the connection and connection 'ab'"
