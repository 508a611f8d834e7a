"""The story of the demo: code, infrastructure, a model and a prompt ship through one delivery graph.

Three tracks run side by side, as teams do: the service's, the model's and the prompt's. Each claim is checked against a
running endpoint, Git, the registry or the ledger; nothing is claimed because a task was green.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_pipeops.delivery.ledger.index import reader
from airflow_pipeops.delivery.passport import lines
from airflow_pipeops.delivery.queries.attention import agenda
from airflow_pipeops.delivery.queries.history import history
from airflow_pipeops.delivery.queries.live import live
from airflow_pipeops.delivery.queries.tracing import up
from airflow_pipeops.demo.answers import check
from airflow_pipeops.demo.claims import Claims
from airflow_pipeops.demo.model_track import ModelTrack
from airflow_pipeops.demo.prompt_track import PromptTrack
from airflow_pipeops.demo.seeds import DELIVERABLES, PROMPT
from airflow_pipeops.demo.service_track import ServiceTrack
from airflow_pipeops.demo.teller import Teller

if TYPE_CHECKING:
    from airflow_pipeops.delivery.queries.facts import Fact
    from airflow_pipeops.demo.stack import Stack

DAGS = (
    *("code_to_release", "data_to_model", "drift_to_retrain", "release_guard", "desired_state_drift"),
    *("prompt_to_release", "answer_times", "model_guard"),
)


def run(stack: Stack, *, claims_file: Path | None = None, say: Callable[[str], None] = print) -> bool:
    """Tell the story on a running stack.

    :param claims_file: where to write the claims as JSON.
    :param say: prints one line.
    :return: whether every claim holds.
    """
    started = time.monotonic()
    claims = Claims(say)
    teller = Teller(stack, claims, say)
    peak = _MemoryPeak(stack)
    with peak, ThreadPoolExecutor(max_workers=3) as pool:
        teller.chapter("The desired state is a Git repository; six applications follow it")
        teller.create_applications()
        for dag in DAGS:
            teller.api.unpause(dag)
        tracks = [pool.submit(track(teller).run) for track in (ServiceTrack, ModelTrack, PromptTrack)]
        try:
            for track in as_completed(tracks):
                track.result()
        except BaseException:
            teller.stop()  # else the other tracks would be waited for
            raise
    seconds = time.monotonic() - started

    teller.chapter("What is live, and what it was made from")
    stack.airflow("pipeops", "ledger", "ingest")
    releases = {}
    with closing(reader(stack.home / "airflow" / "pipeops" / "index.db")) as connection:
        for deliverable in (*DELIVERABLES, PROMPT):
            cell = live(connection, deliverable, "production")
            if cell is None:
                claims.check(f"{deliverable} has a release record", False, "none")
                continue
            releases[deliverable] = cell.release
            walk = up(connection, cell.release)
            claims.check(
                f"the passport of {deliverable} in production has no gap", walk.complete, len(walk.gaps)
            )
            for line in lines(walk):
                say(f"    {line}")
        unhealed = [item.what for item in agenda(connection).items if item.need == "out of sync"]
        told = history(connection, kinds=_TOLD, limit=1000).items
        records = int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    for line in table(reversed(told)):
        say(f"    {line}")
    claims.check("what was healed needs nobody any more", not unhealed, unhealed)
    check(teller, releases)
    say(
        f"The story took {seconds / 60:.1f} minutes; all processes together needed {peak.bytes / 2**30:.1f} GiB at most."
    )
    if claims_file is not None:
        claims.write(claims_file, seconds=round(seconds), peak_memory_bytes=peak.bytes, records=records)
    return claims.hold


#: Kinds of record that the end of the story tells.
_TOLD = ("release", "decision", "evaluation", "differences", "incident")


def table(facts: Iterable[Fact]) -> list[str]:
    """Return what happened, a line for each release, decision, evaluation, difference from Git and incident."""
    rows = []
    for fact in facts:
        body = fact.body
        told = (
            body.get("reason")
            or body.get("what")
            or "; ".join(body.get("reasons", ()))
            or body.get("app", "")
        )
        label = body.get("action") or fact.environment or fact.kind
        rows.append(f"{fact.at[11:19]}  {fact.deliverable:13} {fact.kind:11} {label:11} {str(told)[:110]}")
    return rows


class _MemoryPeak:
    """Samples the memory of the stack now and then: the system counts page by page, for most of a second."""

    def __init__(self, stack: Stack) -> None:
        self.bytes = 0
        self._stack = stack
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _MemoryPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(20):
            self.bytes = max(self.bytes, self._stack.memory())
