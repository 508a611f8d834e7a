"""What the tracks of the story share: following runs, approving, reading endpoints and Git."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx

from airflow_pipeops.demo.failures import named
from airflow_pipeops.demo.patience import Patience
from airflow_pipeops.demo.seeds import run_git
from airflow_pipeops.exceptions import Conflict, Unreachable

if TYPE_CHECKING:
    from airflow_pipeops.demo.claims import Claims
    from airflow_pipeops.demo.stack import Stack

#: Seconds without any progress, of any task, commit or application, after which a thing will not come.
PATIENCE = 300.0
#: Seconds between two looks; and, at last, between two at a run, whose end may be seen a little later: Airflow's API server
#: spends more on being asked for the tasks of runs than on all that the tasks want of it.
_SOON, _LATER = 0.5, 2.0
#: How long a person looks at a question before answering, seconds.
_THINKING = 4.0
#: Heartbeats of the scheduler before an answer: by then it has noted the question, however slow its rounds are.
_BEATS = 3
_TELLING = frozenset({"success", "failed", "awaiting_input"})
_ENDED = frozenset({"success", "failed"})


class StoryBroken(Exception):
    """The story cannot go on: something that had to happen did not."""


class Teller:
    """Knows the stack, and says what happens.

    :param stack: the running stack.
    :param claims: where claims are kept.
    :param say: prints one line.
    """

    def __init__(self, stack: Stack, claims: Claims, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.api = stack.api
        self.claims = claims
        self.say = say
        self._stopped = threading.Event()
        self._told: dict[tuple[str, str, str], str] = {}

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.say(f"\n── {title}")

    def create_applications(self) -> None:
        """Create the six Argo CD applications, as a platform team would once."""
        for manifest in self.stack.seeds.applications():
            answer = self.argocd("POST", "/api/v1/applications", json=manifest)
            if answer.status_code not in (200, 409):
                raise StoryBroken(
                    f"Argo CD refused application {manifest['metadata']['name']}: {answer.text}"
                )

    def argocd(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Call the sandbox as its administrator."""
        headers = {"Authorization": f"Bearer {self.stack.sandbox_token('admin')}"}
        return httpx.request(method, self.stack.sandbox_url + path, headers=headers, timeout=30, **kwargs)

    def scale_behind_git(self, name: str, environment: str, replicas: int) -> None:
        """Change a live Deployment, as somebody with ``kubectl`` would."""
        key = {"group": "apps", "kind": "Deployment", "namespace": f"{name}-{environment}", "name": name}
        body = {**key, "patch": {"spec": {"replicas": replicas}}}
        self.argocd("PATCH", "/sandbox/admin/live", json=body).raise_for_status()

    def stop(self) -> None:
        """End every wait: the story is over, for all tracks."""
        self._stopped.set()

    def wait(
        self, what: str, look: Callable[[], Any], patience: float = PATIENCE, pause: float = _SOON
    ) -> Any:
        """Look until there is something to see, for as long as anything moves.

        :param pause: seconds between two looks at last; at first they come sooner.
        :return: what ``look`` found.
        :raises StoryBroken: when patience ends first.
        :raises ProcessDied: when a process of the stack ends meanwhile.
        """
        left, silence, rest = Patience(patience, self.stack.progress), "", _SOON
        while not left.ended:
            self.stack.check()
            try:
                if (found := look()) is not None:
                    return found
                silence = ""
            except Unreachable as error:  # a server under load is as slow as whatever else is waited for
                silence = f"; at the end {error}"
            if self._stopped.wait(rest):
                raise StoryBroken(f"stopped while waiting: {what}")
            rest = min(1.2 * rest, pause)
        raise StoryBroken(
            f"waited {left.waited:.0f} s in vain, the last {patience:.0f} s without any progress: {what}{silence}"
        )

    def runs(self, dag: str) -> set[str]:
        """Return the ids of a DAG's runs so far."""
        return {run["dag_run_id"] for run in self.api.runs(dag)}

    def new_run(self, dag: str, known: set[str]) -> str:
        """Wait for a run that was not there before: started by an event, not by us."""

        def look() -> str | None:
            fresh = [run for run in self.api.runs(dag) if run["dag_run_id"] not in known]
            return fresh[0]["dag_run_id"] if fresh else None

        return str(self.wait(f"a run of {dag} starts by itself", look))

    def batches(self, dag: str, run: str) -> list[str | None]:
        """Return the names of the batches that started a run; ``None`` for what was none."""
        return [(event["extra"].get("payload") or {}).get("name") for event in self.api.upstream(dag, run)]

    def follow(
        self, dag: str, run: str, label: str, *, until: Callable[[dict[str, str]], bool] | None = None
    ) -> str:
        """Say each task that ends, until the run ends.

        :param until: ends the watch earlier, on the states of the tasks.
        :return: the run's state.
        """

        def look() -> str | None:
            state = self.api.run(dag, run)["state"]
            states = {named(task): task["state"] for task in self.api.task_instances(dag, run)}
            for task, now in states.items():
                if now in _TELLING and self._told.get((dag, run, task)) != now:
                    self._told[dag, run, task] = now
                    mark = {"success": "✓", "awaiting_input": "… a person is asked:"}.get(now, "✗")
                    self.say(f"    {label}: {mark} {task}")
            return state if state in _ENDED or (until and until(states)) else None

        return str(self.wait(f"{dag} {run} ends", look, pause=_LATER))

    def approve(self, dag: str, run: str, label: str) -> None:
        """Follow a run to its approval, and approve as a person would: not within the same second.

        Airflow 3.3.2 fails a task whose answer comes before its scheduler has noted the question, and asks again.
        """
        asked: dict[int, float] = {}
        beats: dict[int, set[str]] = {}
        answered: set[int] = set()

        def look() -> bool | None:
            task = self.api.task_instance(dag, run, "approve")
            attempt = int(task["try_number"])
            if task["state"] == "awaiting_input" and attempt not in answered:
                beats.setdefault(attempt, set()).add(self.api.scheduler_beat())
                thought = time.monotonic() - asked.setdefault(attempt, time.monotonic()) >= _THINKING
                if thought and len(beats[attempt]) > _BEATS:
                    with contextlib.suppress(Conflict):  # it came through, and only the reply was lost
                        self.api.respond(dag, run, "approve", "Approve")
                    answered.add(attempt)
            elif task["state"] == "success":
                return True
            return False if self.api.run(dag, run)["state"] in _ENDED else None

        self.follow(dag, run, label, until=lambda states: states.get("approve") == "awaiting_input")
        if not self.wait(f"{dag} {run} is approved", look):
            raise StoryBroken(f"{dag} ended before it was approved")

    def visit(self, name: str, path: str) -> None:
        """Ask an endpoint what its users ask, again and again, until it reports to be unwell."""

        def look() -> bool | None:
            with contextlib.suppress(httpx.HTTPError):
                for _ in range(10):
                    httpx.get(self.stack.endpoint(name) + path, timeout=30)
                return (
                    httpx.get(self.stack.endpoint(name) + "/healthz", timeout=30).status_code != 200 or None
                )
            return None

        self.wait(f"{name} gets unwell under its users' requests", look)

    def endpoint(self, name: str, path: str) -> Any:
        """Get JSON from a deliverable's endpoint; ``None`` while there is no usable answer.

        :param name: for example ``delay-api-production``.
        :return: the JSON, or ``None``.
        """
        try:
            answer = httpx.get(self.stack.endpoint(name) + path, timeout=30)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def desired(self, path: str) -> str:
        """Return a file of the desired state, at the tip of its branch."""
        return self.git("show", f"main:{path}")

    def git(self, *arguments: str) -> str:
        """Run Git on the desired-state repository."""
        return run_git(self.stack.seeds.deploy_repository, *arguments)
