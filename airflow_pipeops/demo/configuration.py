"""Airflow's configuration for the demo: all by environment, all below one folder."""

from __future__ import annotations

import json
import os
import secrets
import site
import sys
from pathlib import Path
from typing import Any

from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.seeds import Seeds

#: All that the demo takes from the machine: where programs are, and who runs them.
INHERITED = ("USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "LD_LIBRARY_PATH")
#: Seconds after which Airflow takes for dead what is only slow.
_SLOW = "900"
#: Seconds for which a writer waits for another one. Some of Airflow's routes write in the API server's event loop, for which
#: the holder of the lock may wait in turn. All stands still for as long as this, so it ends before those give up who asked.
LOCKED = 20
USERS = {"admin": "ADMIN", "op": "OP", "viewer": "VIEWER"}


def environment(home: Path, ports: Ports, passwords: Path) -> dict[str, str]:
    """Return the environment of every process of the demo."""
    airflow = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__FERNET_KEY": _fernet_key(),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ports.airflow}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow' / 'airflow.db'}?timeout={LOCKED}",
        # The API server starts while the database is being made.
        "DATABASE__CHECK_MIGRATIONS": "False",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(ports.airflow),
        "API__BASE_URL": f"http://127.0.0.1:{ports.airflow}",
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        # There are no log servers; a port on which nothing listens is better than that of another Airflow here.
        "LOGGING__WORKER_LOG_SERVER_PORT": "9",
        "LOGGING__TRIGGER_LOG_SERVER_PORT": "9",
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {
                    "name": "pipeops-examples",
                    "classpath": "airflow_pipeops.provider.examples.ExampleDagsBundle",
                    "kwargs": {},
                }
            ]
        ),
        # The DAGs stay as they are: to read all of them every 30 seconds takes a core of a slow machine. A DAG that is
        # switched on watches from its next reading on: up to two minutes later, and the story asks for it at once.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        # On a busy machine everything comes later, and nothing of it is lost for that.
        "CORE__DAGBAG_IMPORT_TIMEOUT": _SLOW,
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": _SLOW,
        "DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": _SLOW,
        "DAG_PROCESSOR__STALE_DAG_THRESHOLD": _SLOW,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": _SLOW,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": _SLOW,
        "SCHEDULER__TASK_QUEUED_TIMEOUT": _SLOW,
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": _SLOW,
        "TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": _SLOW,
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "PIPEOPS__EVIDENCE_URI": (home / "evidence").as_uri(),
        "PIPEOPS__LEDGER_KEY_CONN_ID": "pipeops_signing_key",
        # The sandbox gives a process its own Python, so a base image would only cost time.
        "PIPEOPS__BUILDER": "airflow_pipeops.demo.packager:Packager",
    }
    return {
        **surroundings(home),
        "AIRFLOW_HOME": str(home / "airflow"),
        **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
        # The flights are of another year than the commits by which their models are released.
        "AIRFLOW_VAR_MODEL_GUARD_SINCE": "2013-10-01",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
    }


def surroundings(home: Path) -> dict[str, str]:
    """Return the environment that the demo works in, so that the machine decides nothing.

    No proxy, as all calls go over the loopback interface; no setting of another Airflow, Git, MLflow or Python; English,
    UTF-8 and UTC; and a home directory of its own.

    :return: variable -> value.
    """
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "HOME": str(home / "home"),
        "PYTHONUSERBASE": site.getuserbase(),  # packages may be installed for the user alone
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        # On busy cores the threads of scikit-learn wait for each other.
        "OMP_NUM_THREADS": "1",
    }


def connections(
    home: Path, ports: Ports, seeds: Seeds, token: str, model_url: str
) -> dict[str, dict[str, Any]]:
    """Return the demo's connections by id, in the form of ``airflow connections import``."""
    author = {"author_name": "airflow-pipeops", "author_email": "pipeops@example.com"}
    endpoints = {
        name.replace("-", "_"): {"conn_type": "http", "host": f"http://127.0.0.1:{port}"}
        for name, port in ports.endpoints.items()
    }
    return {
        "pipeops_app_repo": {"conn_type": "git_repository", "host": seeds.app_repository.as_uri()},
        "pipeops_prompt_repo": {"conn_type": "git_repository", "host": seeds.prompt_repository.as_uri()},
        "pydanticai_default": {"conn_type": "pydanticai", "host": model_url},
        "pipeops_prompt_items": {"conn_type": "pipeops_storage", "host": (home / "items").as_uri()},
        "pipeops_gitops_repo": {
            "conn_type": "git_repository",
            "host": seeds.deploy_repository.as_uri(),
            "extra": json.dumps(author),
        },
        "argocd_default": {
            "conn_type": "argocd",
            "host": f"http://127.0.0.1:{ports.sandbox}",
            "password": token,
            "extra": json.dumps({"project": "default"}),
        },
        "pipeops_signing_key": {
            "conn_type": "pipeops_signing_key",
            "login": "demo.pipeops",
            "extra": json.dumps({"private_key": _signing_key()}),
        },
        "mlflow_default": {"conn_type": "mlflow", "host": f"sqlite:///{home / 'mlflow.db'}"},
        **{
            f"pipeops_{name}": {"conn_type": "pipeops_storage", "host": (home / name).as_uri()}
            for name in ("data", "artifacts", "predictions", "labels", "timings")
        },
        **endpoints,
    }


def write_passwords(path: Path) -> dict[str, str]:
    """Make a password for each user and keep them where Airflow reads them."""
    made = {user: secrets.token_urlsafe(12) for user in USERS}
    path.write_text(json.dumps(made), encoding="utf-8")
    path.chmod(0o600)
    return made


def _signing_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _fernet_key() -> str:
    import base64

    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
