"""Airflow's configuration for the demo: all by environment, all below one folder."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.seeds import Seeds

USERS = {"admin": "ADMIN", "op": "OP", "viewer": "VIEWER"}


def environment(home: Path, ports: Ports, passwords: Path) -> dict[str, str]:
    """Return the environment of every process of the demo."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    airflow = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__FERNET_KEY": _fernet_key(),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ports.airflow}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow' / 'airflow.db'}",
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
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "PIPEOPS__EVIDENCE_URI": (home / "evidence").as_uri(),
        # The sandbox gives a process its own Python, so a base image would only cost time.
        "PIPEOPS__BUILDER": "oci-layout",
    }
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home / "airflow"),
        **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
        **no_proxy(),
        # On busy cores the threads of scikit-learn wait for each other.
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
    }


def no_proxy() -> dict[str, str]:
    """Return the variables that keep our own calls, all over the loopback interface, away from a proxy."""
    known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    value = ",".join(dict.fromkeys(["127.0.0.1", "localhost", *filter(None, known.split(","))]))
    return {"NO_PROXY": value, "no_proxy": value}


def connections(home: Path, ports: Ports, seeds: Seeds, token: str) -> dict[str, dict[str, Any]]:
    """Return the demo's connections by id, in the form of ``airflow connections import``."""
    author = {"author_name": "airflow-pipeops", "author_email": "pipeops@example.com"}
    endpoints = {
        name.replace("-", "_"): {"conn_type": "http", "host": f"http://127.0.0.1:{port}"}
        for name, port in ports.endpoints.items()
    }
    return {
        "pipeops_app_repo": {"conn_type": "git_repository", "host": seeds.app_repository.as_uri()},
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
        "mlflow_default": {"conn_type": "mlflow", "host": f"sqlite:///{home / 'mlflow.db'}"},
        "pipeops_data": {"conn_type": "pipeops_storage", "host": (home / "data").as_uri()},
        "pipeops_artifacts": {"conn_type": "pipeops_storage", "host": (home / "artifacts").as_uri()},
        **endpoints,
    }


def write_passwords(path: Path) -> dict[str, str]:
    """Make a password for each user and keep them where Airflow reads them."""
    made = {user: secrets.token_urlsafe(12) for user in USERS}
    path.write_text(json.dumps(made))
    path.chmod(0o600)
    return made


def _fernet_key() -> str:
    import base64

    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
