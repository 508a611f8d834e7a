"""A real API server with the plugin, a ledger, and people who log in to it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_pipeops.delivery.ledger.feeder import lock_file
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.records import Record
from tests.browser import chromium
from tests.once import airflow_database
from tests.ui.managers import NARROW, NARROWER, OTHERS
from tests.ui.seeds import seed
from tests.warm import Warm

ROOT = Path(__file__).parents[2]
SIGNER = Ed25519PrivateKey.generate()
KEY = SIGNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ROLES = {"admin": "ADMIN", "viewer": "VIEWER", NARROW: "VIEWER", NARROWER: "VIEWER", "guest": ""}

#: DAGs that Airflow knows; the others that the ledger tells of were removed.
_DAGS = f"""
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for name in ("code_to_release", "drift_to_retrain", "{OTHERS}"):
    with DAG(name, schedule=None, tags=["pipeops"]) as dag:
        EmptyOperator(task_id="approve") >> EmptyOperator(task_id="production_is_live")
    globals()[name] = dag

from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
with DAG("asks", schedule=None) as asks:
    RecordedApprovalOperator(
        task_id="approve", deliverable=Deliverable("asked-about"), environment="production", parents=["{"a" * 64}"],
        subject="Release 1.9.0?", body="7 tests passed", fail_on_reject=True,
    )

import os
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import GateFailed, Unreachable

class Judge(DeliveryOperator):
    template_fields = ("says", *DeliveryOperator.template_fields)
    emits = ("evaluation",)

    def __init__(self, *, says, **given):
        super().__init__(**given)
        self.says = says

    def execute(self, context):
        if self.says == "down":
            raise Unreachable("nobody answers")
        if self.says == "killed":
            os.kill(os.getpid(), 9)
        with no_retry():
            record = self.emit(context, "evaluation", {{"promote": self.says == "yes", "n": self.says}})
            if self.says == "no":
                raise GateFailed("the challenger is worse")
        return {{"record_id": record}}

with DAG("fails", schedule=None) as fails:
    of = {{"deliverable": Deliverable("judged"), "environment": "production"}}
    judged = Judge.partial(task_id="judge", retries=1, retry_delay=0, parents=["{"a" * 64}"], **of)
    lost = Judge(task_id="lost", says="killed", trigger_rule="all_done", parents=["{"b" * 64}"], **of)
    judged.expand(says=["yes", "no", "down"]) >> lost
"""


@dataclass(frozen=True)
class Server:
    """Where Airflow answers, where evidence is kept, and where the index of the ledger is."""

    url: str
    evidence: str
    home: Path
    warm: Warm = field(hash=False)

    @property
    def index(self) -> Path:
        """The file of the index."""
        return self.home / "pipeops" / "index.db"

    @cache  # noqa: B019  # there are two servers, for as long as the tests last
    def token(self, user: str) -> str:
        """Return the token of a logged-in person."""
        answer = httpx.post(f"{self.url}/auth/token", json={"username": user, "password": "pass"}, timeout=30)
        return str(answer.json()["access_token"])

    def get(self, path: str, user: str | None = "viewer", **headers: str) -> httpx.Response:
        """Ask a route of ours."""
        given = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        return httpx.get(f"{self.url}/pipeops{path}", headers={**given, **headers}, timeout=60)

    def holds(self, records: Iterable[Record]) -> None:
        """Let the index hold these records, and no others, until the end of the module.

        As long as somebody else fills the ledger, the server does not.
        """
        if self.home not in _FILLING:
            self.index.parent.mkdir(exist_ok=True)
            _FILLING[self.home] = lock_file(str(self.index)).open("ab")
            fcntl.flock(_FILLING[self.home], fcntl.LOCK_EX)
        shutil.rmtree(self.home / "pipeops" / "ledger", ignore_errors=True)
        index = Index.open(self.index)
        index.clear()
        index.close()
        seed(self.index, list(records))

    def gets(self, records: Iterable[Record]) -> None:
        """Add records to the ledger."""
        seed(self.index, list(records))

    def python(self, program: str) -> str:
        """Run a program beside the server, on its database."""
        ran = self.warm.run("-c", program)
        ran.check_returncode()
        return ran.stdout


_FILLING: dict[Path, IO[bytes]] = {}


@pytest.fixture(scope="module", autouse=True)
def given_back() -> Iterator[None]:
    """After each module, servers fill their ledgers by themselves again."""
    yield
    for home, lock in _FILLING.items():
        shutil.rmtree(home / "pipeops" / "ledger", ignore_errors=True)
        index = Index.open(home / "pipeops" / "index.db")
        index.clear()
        index.close()
        lock.close()
    _FILLING.clear()


@contextmanager
def running(
    home: Path,
    base: str = "",
    dags: str = _DAGS,
    manager: str = "tests.ui.managers.PerDag",
    people: str = "",
    python: str = sys.executable,
    key: bool = True,
) -> Iterator[Server]:
    """Start a real API server in a folder; it knows the DAGs of one file, and a program makes people known."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, evidence = f"http://127.0.0.1:{port}{base}", (home / "evidence").as_uri()
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(ROLES, "pass")))
    (home / "dags").mkdir()
    (home / "dags" / "known.py").write_text(dags)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{user}:{role}" for user, role in ROLES.items()
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {
                    "name": "known",
                    "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                    "kwargs": {"path": str(home / "dags")},
                }
            ]
        ),
        "AIRFLOW__PIPEOPS__EVIDENCE_URI": evidence,
        "AIRFLOW__PIPEOPS__LEDGER_KEY_CONN_ID": "ledger_key" if key else "",
        "AIRFLOW_CONN_LEDGER_KEY": json.dumps(
            {"conn_type": "pipeops_signing_key", "login": "ledger.example.com", "extra": {"private_key": KEY}}
        ),
    }
    warm = Warm(environment, python=python)
    airflow = ("-m", "airflow")
    if people:  # they are in a database of another shape
        before: list[tuple[str, ...]] = [(*airflow, "db", "migrate"), ("-c", people)]
    else:
        airflow_database(home)
        before = []
    for words in (*before, (*airflow, "dags", "reserialize")):
        warm.run(*words).check_returncode()
    process = warm.start(*airflow, "api-server")
    try:
        deadline = time.monotonic() + 180
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the API server did not start: {process.said()[-3000:]}")
            time.sleep(0.2)
        yield Server(url, evidence, home, warm)
    finally:
        process.kill()
        warm.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("airflow")) as found:
        yield found


@pytest.fixture(scope="session")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, below a base path; and, as where nothing is configured, nobody signs its ledger."""
    with running(tmp_path_factory.mktemp("below"), "/af", key=False) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
