"""A chapter of the service's track: its repair made it slow. That is found by those who ask it, and explained."""

from __future__ import annotations

import contextlib
from typing import Any

from airflow_pipeops.demo.teller import Teller
from airflow_pipeops.exceptions import Conflict, NotFound

DAG = "answer_times"
#: Tables of the second measurement: a few are enough once it is known what is usual.
_FEW = 10


class SlowUpstream:
    """Measures how long production takes to answer, before and after a release.

    :param teller: shared with the tracks.
    """

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.claims = teller.claims

    def measure(self) -> None:
        """Learn what is usual."""
        state = self.teller.follow(DAG, self.started("before"), "answers")
        self.claims.equal("how long answers take was measured while all was well", state, "success")

    def found(self, commit: str) -> None:
        """Measure again, after a release, and claim that the slow answers are found and its commit is suspected first."""
        self.teller.chapter(
            "Operations: a task is slow because its upstream is, by a change that the ledger knows"
        )
        run = self.started("after", tables=_FEW)
        self.teller.follow(DAG, run, "answers")
        look = self.teller.api.xcom(DAG, run, "look") or {}
        alarm: dict[str, Any] = next(iter(look.get("alarms", ())), {})
        self.claims.check(
            "slow answers are an alarm, though nothing failed",
            alarm.get("finding") in ("too slow", "change of level"),
            alarm or look,
        )
        self.teller.say(f"    answers: {alarm.get('reason')}")
        if not look.get("record_id"):
            return
        explanation = self.explained(look["record_id"])
        for suspect in explanation["suspects"][:3]:
            told = suspect["candidate"]
            self.teller.say(f"    why: {suspect['probability']:.0%} {told['kind']}: {told['what']}")
        first: dict[str, Any] = next((one["candidate"] for one in explanation["suspects"]), {})
        self.claims.equal(
            "the page names the commit that made them slow first",
            (first.get("kind"), first.get("digest")),
            ("code", commit),
        )

    def started(self, run: str, **conf: Any) -> str:
        """Start a run, however busy the server is."""

        def look() -> str:
            with contextlib.suppress(Conflict):  # it came through, and only the reply was lost
                self.teller.api.trigger(DAG, conf, run)
            return run

        return str(self.teller.wait(f"{DAG} {run} is started", look))

    def explained(self, record: str) -> dict[str, Any]:
        """Return what the Delivery page says of an alarm, which is what ``airflow pipeops why`` says."""

        def look() -> dict[str, Any] | None:
            try:
                found = self.teller.api.delivery(f"why/{record}")
            except NotFound:
                return None
            return dict(found["explanation"]) if found["explanation"] else None

        return dict(self.teller.wait("the ledger has the alarm", look))
