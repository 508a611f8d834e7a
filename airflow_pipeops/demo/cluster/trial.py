"""``python -m airflow_pipeops.demo.cluster.trial``: run ``code_to_release`` on an Airflow, and wait until it is live.

This is ``helm test`` of the chart. The run is green only if the wait for the environment was: that the service is live at
the revision that the run committed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

import httpx

from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.exceptions import NotFound, PipeOpsError, SystemFailure, Unreachable

DAG = "code_to_release"
_TOLD = frozenset({"success", "failed", "upstream_failed", "skipped", "up_for_retry", "deferred"})


class Trial:
    """One run, followed to its end.

    :param api: of the Airflow.
    :param environment: how far the run goes.
    :param seconds: for all of it.
    :param say: is called with each line for people.
    :param pause: seconds between two looks.
    """

    def __init__(
        self,
        api: AirflowApi,
        environment: str,
        seconds: float,
        say: Callable[[str], None],
        pause: float = 2.0,
    ) -> None:
        self.api, self.environment, self.say, self.pause = api, environment, say, pause
        self._end = time.monotonic() + seconds
        self._states: dict[str, str] = {}

    def run(self) -> bool:
        """Trigger the DAG and follow the run.

        :return: whether the environment is live.
        :raises PipeOpsError: where that did not become known in time.
        """
        self._until("Airflow answers", self._logged_in)
        self._until(f"the DAG {DAG} is known", self._unpaused)
        run = self.api.trigger(DAG, {"environment": self.environment})
        self.say(f"triggered {DAG}: {run}")
        self._until(f"{run} ends", lambda: self._ended(run))
        state, live = self.api.run(DAG, run)["state"], self._states.get(f"{self.environment}_is_live")
        self.say(f"the run ended as {state}; the wait for {self.environment} as {live or 'not begun'}")
        return state == "success" and live == "success"

    def _logged_in(self) -> bool:
        self.api.login()
        return True

    def _unpaused(self) -> bool:
        try:
            self.api.unpause(DAG)
        except NotFound:
            return False
        return True

    def _ended(self, run: str) -> bool:
        state = self.api.run(DAG, run)["state"]
        for task in self.api.task_instances(DAG, run):
            name, now = task["task_id"], task["state"]
            if self._states.get(name) != now and now in _TOLD:
                self.say(f"  {name}: {now}")
            self._states[name] = now
        return state in ("success", "failed")

    def _until(self, what: str, is_so: Callable[[], bool]) -> None:
        last = ""
        while True:
            try:
                if is_so():
                    return
            except (Unreachable, httpx.HTTPError) as error:
                last = f": {error}"
            if time.monotonic() > self._end:
                raise SystemFailure(f"waited in vain until {what}{last}{self._standing()}")
            time.sleep(self.pause)

    def _standing(self) -> str:
        open_ones = ", ".join(
            f"{name} is {state}" for name, state in self._states.items() if state not in _TOLD
        )
        return f"; {open_ones}" if open_ones else ""


def main() -> int:
    """Run the trial; 0 if the environment is live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of Airflow's API server")
    parser.add_argument("--environment", default="staging")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for all of it")
    options = parser.parse_args()
    try:
        api = AirflowApi(options.url, os.environ["AIRFLOW_USER"], os.environ["AIRFLOW_PASSWORD"])
        return (
            0
            if Trial(api, options.environment, options.timeout, lambda line: print(line, flush=True)).run()
            else 1
        )
    except KeyError as error:
        print(f"the variable {error} is not set: it belongs to the Secret of the test", file=sys.stderr)
    except PipeOpsError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
