"""All that the demo runs: Airflow, sandbox, repositories, a registry, a language model; one folder, one lifetime."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpx

from airflow_pipeops.demo.aircraft import write_items
from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.demo.configuration import connections, environment, write_passwords
from airflow_pipeops.demo.language_model import LanguageModel
from airflow_pipeops.demo.patience import Patience, files, states
from airflow_pipeops.demo.preflight import MARKER, Ports, empty, occupy, problems
from airflow_pipeops.demo.processes import Processes
from airflow_pipeops.demo.seeds import PROMPT, Seeds
from airflow_pipeops.exceptions import PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.models.registry import Registry

DAGS = frozenset(
    {
        *("code_to_release", "data_to_model", "desired_state_drift", "drift_to_retrain", "release_guard"),
        *("anomaly_to_remedy", "answer_times", "batch_scores", "model_guard", "model_to_stream"),
        *("prompt_to_release", "workflow_to_image"),
    }
)
#: A month of flights in the demo: a seeded sample, so that a year fits into minutes.
ROWS = 9000
#: Seconds without any progress after which the start is given up, and after which it is in any case.
_PATIENCE, _LONGEST = 180.0, 3600.0


class StackFailed(PipeOpsError):
    """The stack could not be started."""


class Stack:
    """Starts and stops everything.

    :param home: folder for all state; wiped at each start, if the demo made it.
    :param ports: where everything listens.
    :param say: prints one line.
    """

    def __init__(self, home: Path, ports: Ports, say: Callable[[str], None] = print) -> None:
        self.home = home.absolute()
        self.ports = ports
        self.seeds = Seeds(self.home, ports.endpoints)
        self.sandbox_url = f"http://127.0.0.1:{ports.sandbox}"
        self.url = f"http://127.0.0.1:{ports.airflow}"
        self.passwords: dict[str, str] = {}
        self._say = say
        self._processes = Processes(self.home)
        self._environment: dict[str, str] = {}
        self._held: IO[str] | None = None
        self._model: LanguageModel | None = None

    def __enter__(self) -> Stack:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """Check the machine, clean the folder, plant the repositories.

        :raises StackFailed: with one line for each problem; nothing was touched.
        """
        if (self.home / MARKER).exists():
            self._hold()
            self._processes.sweep()
        if found := problems(self.home, self.ports):
            raise StackFailed("\n".join(found))
        if self._held is None:
            self.home.mkdir(parents=True, exist_ok=True)
            self._hold()
        empty(self.home)
        for folder in (
            "home",
            "airflow",
            "data",
            "artifacts",
            "evidence",
            "sandbox",
            "predictions",
            "labels",
            "items",
            "timings",
        ):
            (self.home / folder).mkdir(parents=True)
        self._processes.begin()
        self._model = LanguageModel()
        self.seeds.plant(self._model.url)
        write_items(self.home / "items" / f"{PROMPT}.jsonl")
        passwords = self.home / "airflow" / "passwords.json"
        self.passwords = write_passwords(passwords)
        self._environment = environment(self.home, self.ports, passwords)

    def _hold(self) -> None:
        self._held = occupy(self.home)
        if self._held is None:
            raise StackFailed(
                f"a demo is running in {self.home}: end it with Ctrl-C there, or choose others with"
                " --home, --port and --node-port"
            )

    def start(self) -> None:
        """Start everything, and return when it works. What does not need each other starts side by side."""
        started = time.monotonic()
        self._say("· starting the sandbox: an Argo CD for demos and tests, not for production")
        self.start_sandbox()
        self._say("· starting Airflow's API server, and making the database beside it")
        # By far the slowest to start, and it asks the database nothing before the first request.
        self._start_airflow("api-server")
        self.migrate()
        self._say("· starting Airflow's scheduler, DAG processor and triggerer")
        # Their log servers would listen on all interfaces. Nobody needs them: all logs are in one folder.
        self._start_airflow("scheduler", "--skip-serve-logs")
        self._start_airflow("dag-processor")
        self._start_airflow("triggerer", "--skip-serve-logs")
        self.api = AirflowApi(self.url, "admin", self.passwords["admin"])
        self._wait("the API server", self._api_answers)
        self._wait("scheduler, DAG processor and triggerer", self._airflow_is_well)
        self._wait("the example DAGs", lambda: set(self.api.dags()) >= DAGS)
        self.start_seconds = time.monotonic() - started
        self._say(f"· everything is up after {self.start_seconds:.0f} s")

    def start_sandbox(self) -> None:
        """Start the sandbox; it answers a little later."""
        command = [
            sys.executable, "-m", "airflow_pipeops.demo.sandbox", "serve",
            "--state", str(self.home / "sandbox"), "--port", str(self.ports.sandbox),
            "--artifacts", str(self.home / "artifacts"), "--host-image", "airflow-pipeops", "--reconcile-interval", "3",
        ]  # fmt: skip
        self._processes.start("sandbox", command, self._environment)

    def migrate(self) -> None:
        """Make Airflow's database; when the sandbox has come up meanwhile, put the demo's connections into it."""
        listed = self.home / "airflow" / "connections.json"
        command = [sys.executable, "-m", "airflow_pipeops.demo.database", str(listed)]
        making = self._processes.start("database", command, self._environment, stdin=True)
        self._wait("the sandbox", lambda: httpx.get(f"{self.sandbox_url}/api/version", timeout=2).is_success)
        assert self._model is not None
        token = self.sandbox_token("deployer")
        found = connections(self.home, self.ports, self.seeds, token, self._model.url)
        listed.touch(mode=0o600)
        listed.write_text(json.dumps(found))
        assert making.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: finish() says how
            making.stdin.write(b"go\n")
            making.stdin.close()
        patience = Patience(_PATIENCE, self._starting, longest=_LONGEST)
        while making.poll() is None and not patience.ended:
            time.sleep(0.1)
        self._processes.finish("database", 0.1)
        listed.unlink()

    def _start_airflow(self, *arguments: str) -> None:
        # Their forks run the tasks and read the DAG files: what they have loaded, these need not load.
        forks = arguments[0] in ("scheduler", "dag-processor")
        module = "airflow_pipeops.demo.warm" if forks else "airflow"
        command = [sys.executable, "-m", module, *arguments]
        self._processes.start(arguments[0], command, self._environment)

    def airflow(self, *arguments: str, timeout: float = 180) -> str:
        """Run an ``airflow`` command in the stack's environment and return what it prints.

        :return: the standard output.
        :raises StackFailed: if it fails.
        """
        command = [sys.executable, "-m", "airflow", *arguments]
        run = subprocess.run(
            command, env=self.environment, capture_output=True, encoding="utf-8", timeout=timeout
        )
        if run.returncode:
            raise StackFailed(
                f"airflow {' '.join(arguments[:2])} failed:\n{(run.stdout + run.stderr)[-3000:]}"
            )
        return run.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the stack's processes; whatever is started with it is stopped with the stack."""
        return self._processes.marked(self._environment)

    def stop(self) -> None:
        """End every process."""
        self._processes.stop()
        if self._model is not None:
            self._model.close()
            self._model = None
        if self._held is not None:
            self._held.close()
            self._held = None

    def check(self) -> None:
        """Raise if one of the processes has ended by itself."""
        self._processes.check()

    def memory(self) -> int:
        """Return the memory of all processes in bytes."""
        return self._processes.memory()

    def sandbox_token(self, role: str) -> str:
        """Return the sandbox's token for ``admin``, ``deployer`` or ``viewer``."""
        return str(json.loads((self.home / "sandbox" / "tokens.json").read_text())[role])

    def endpoint(self, name: str) -> str:
        """Return the URL of a deliverable in an environment, for example ``delay-api-production``."""
        return f"http://127.0.0.1:{self.ports.endpoints[name]}"

    def deliver_history(self, months: Iterable[int]) -> Path:
        """Let the flights so far arrive, as one batch."""
        import pandas as pd

        from airflow_pipeops.demo.flights import YEAR, month, write

        frames = [month(number, ROWS, seed=number) for number in months]
        return write(
            pd.concat(frames, ignore_index=True),
            self.home / "data" / f"flights-{YEAR}-01-{len(frames):02}.parquet",
        )

    def deliver_month(self, month: int) -> Path:
        """Let a month of flights arrive."""
        from airflow_pipeops.demo.flights import write_month

        return write_month(month, self.home / "data", ROWS, seed=month)

    def registry(self) -> Registry:
        """Return the model registry."""
        from airflow_pipeops.models.registry import Registry

        return Registry(f"sqlite:///{self.home / 'mlflow.db'}")

    def _api_answers(self) -> bool:
        if not httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).is_success:
            return False
        self.api.login()
        return True

    def _airflow_is_well(self) -> bool:
        health = self.api.health()
        return all(health.get(part) == "healthy" for part in ("scheduler", "dag_processor", "triggerer"))

    def _wait(self, what: str, is_there: Callable[[], Any]) -> None:
        patience = Patience(_PATIENCE, self._starting, longest=_LONGEST)
        while not patience.ended:
            self._processes.check()
            try:
                if is_there():
                    self._say(f"  ✓ {what}")
                    return
            except (httpx.HTTPError, PipeOpsError):
                pass  # not yet
            time.sleep(0.3)
        raise StackFailed(
            f"{what} did not come up, and nothing has moved for {_PATIENCE:.0f} s. What each process said is in"
            f" {self.home / 'logs'}: look there, then start again"
        )

    def _starting(self) -> Hashable:
        # A start is work: the processors' seconds tell that it goes on, also where no line is logged for long.
        return files(self.home / "logs"), int(self._processes.cpu_seconds() / 5)

    def progress(self) -> Hashable:
        """Return something that differs when a task, a commit or an application has moved."""
        folders = self.home.glob("airflow/logs/dag_id=*")
        return files(*folders, self.home / "git"), states(self.home / "sandbox" / "applications.sqlite")
