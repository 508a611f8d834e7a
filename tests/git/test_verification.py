"""The ledger against what left it by commits: the operator writes checkpoints, the command reads them back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.ledger.checkpoints import TRAILER, newest, of_trailer
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.hook import SigningKeyHook
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.ingest import Ingest
from airflow_pipeops.git.operators import GitOpsCommitOperator
from tests.commands import called
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import entry, record
from tests.git.conftest import FILE

WEB = Deliverable("web")


@pytest.fixture
def database(tmp_path: Path, remote, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A configured ledger, with the tables that it grows from, and a key."""
    key = (
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    settings = {
        "AIRFLOW__PIPEOPS__LEDGER_PATH": (tmp_path / "ledger").as_uri(),
        "AIRFLOW__PIPEOPS__INDEX_PATH": str(tmp_path / "index.db"),
        "AIRFLOW__PIPEOPS__LEDGER_KEY_CONN_ID": "signing",
        "AIRFLOW_CONN_SIGNING": json.dumps(
            {
                "conn_type": "pipeops_signing_key",
                "login": "pipeops.example.com",
                "extra": {"private_key": key.replace("\n", " ")},
            }
        ),
        "AIRFLOW_CONN_PIPEOPS_GITOPS_REPO": json.dumps(
            {"conn_type": "git_repository", "host": remote.path.as_uri(), "extra": {"branch": "main"}}
        ),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = Database(f"sqlite:///{tmp_path / 'airflow.db'}")
    monkeypatch.setattr(Events, "of_airflow", classmethod(lambda cls: cls(made.engine)))
    return made


def ingest(tmp_path: Path) -> None:
    found = Ingest.configured()
    found.run(tmp_path / "lock", wait=True)
    found.index.close()


def commit(context, count: int) -> None:
    GitOpsCommitOperator(
        task_id="promote", file=FILE, set={"images[name=web].digest": str(count)}, message="Deploy", deliverable=WEB,
        environment="staging",
    ).execute(context)  # fmt: skip


def verified(capsys, **given) -> tuple[int, str]:
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    code, out, _ = called(capsys, "verify", "--repository", "pipeops_gitops_repo", *options)
    return code, out


def test_each_commit_carries_the_newest_checkpoint_and_a_rewritten_ledger_is_found(
    tmp_path, database, remote, context, capsys, caplog
) -> None:
    commit(context, 0)
    assert TRAILER not in remote.log("%B")[0]  # there is no ledger yet
    assert "carries no checkpoint: this worker sees none; see [pipeops] ledger_path" in caplog.text
    for count in (1, 2):
        database.add(entry(record(body={"n": count}), 0))
        ingest(tmp_path)
        context["ti"].run_id = f"run-{count}"
        commit(context, count)
    ledger = Ledger.open((tmp_path / "ledger").as_uri())
    (line,) = [line for line in remote.log("%B") if line.startswith(f"{TRAILER}: pipeops.example.com 2 ")]
    assert of_trailer(line.partition(": ")[2]) == newest(ledger)
    status, said = verified(capsys)
    assert (status, said.count("agrees with commit"), said.count("agrees with the ledger's own")) == (0, 2, 1)
    status, said = verified(capsys, output="json")
    assert json.loads(said)["good"]
    assert verified(capsys, output="plain") == (0, "")

    shutil.rmtree(tmp_path / "ledger")
    (tmp_path / "index.db").unlink()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE asset_event SET extra = replace(extra, '\"n\": 1', '\"n\": 7')")
    ingest(tmp_path)
    status, said = verified(capsys)
    assert status == 1
    assert "something was changed among the entries 1 to 1" in said


def test_a_key_of_others_signs_nothing_here(tmp_path, database, remote, context, capsys) -> None:
    database.add(entry(record(), 0))
    ingest(tmp_path)
    stranger = Ed25519PrivateKey.generate()
    from airflow_pipeops.delivery.ledger.signatures import Signer

    status, said = verified(capsys, key=str(Signer("pipeops.example.com", stranger).public))
    assert status == 1
    assert "no known key has signed the checkpoint of the ledger's own checkpoint" in said
    status, _ = verified(capsys, key="nonsense")
    assert status == 2


def test_the_form_shows_the_public_key(database) -> None:
    passed, said = SigningKeyHook("signing").test_connection()
    assert passed
    assert said.startswith("The public key is pipeops.example.com+")


def test_the_index_of_a_configured_ledger_is_where_it_is_said_to_be(tmp_path, database) -> None:
    database.add(entry(record(), 0))
    ingest(tmp_path)
    index = Index.open(tmp_path / "index.db")
    assert index.revision == 1
    index.close()
