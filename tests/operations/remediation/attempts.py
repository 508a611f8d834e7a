"""Attempts at a remediation, each in a process of its own, which may be killed at a step. Used by the tests.

The settings are: git, cache, journal, out, owner, finding, at, sight (what the judge sees, or empty for the first half), and
kill.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_pipeops.git.commits import Writer
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.operations.remediation.decision import Surroundings
from airflow_pipeops.operations.remediation.execution import Remediator
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.hands import OutsideHands
from airflow_pipeops.operations.remediation.history import Operation
from airflow_pipeops.operations.remediation.journal import Journal
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen
from tests.mortal import attempts, mortal, step

SCALE = {"file": "app.yaml", "path": "replicas", "least": 1, "most": 9, "step": 1}
POLICY = RemediationPolicy.of(
    {
        "mode": "act",
        "rules": [{"name": "more", "finding": "anomaly", "action": "scale_up", "parameters": SCALE}],
    }
)


mortal(Journal, "write")
mortal(OutsideHands, "plan", "do")
mortal(Writer, "_commit", "_push")


def attempt(given: dict[str, Any]) -> dict[str, Any]:
    """Do what one of the two tasks does, and keep the record as Airflow keeps the event of a task: under its key."""
    out = Path(given["out"])
    Path(given["journal"]).mkdir(exist_ok=True)

    def tell(number: int, told: tuple[Operation, ...]) -> None:
        step()
        with (out / "calls").open("a") as calls:
            calls.write(f"{number} {','.join(one.place for one in told)}\n")
        step()

    def unused() -> Any:
        raise AssertionError("nothing else is needed")

    clock = lambda: datetime.fromisoformat(given["at"])  # noqa: E731
    remediator = Remediator(
        POLICY, Journal(Path(given["journal"]), clock),
        OutsideHands(unused, lambda: GitRepository(given["git"], cache_dir=given["cache"]), unused),
        killed=lambda: "", tell=tell, owner=given["owner"], clock=clock,
    )  # fmt: skip
    finding = Finding.of(given["finding"])
    if given["sight"]:
        answer = remediator.look(finding.key, Seen.of(given["sight"]))
    else:
        answer = remediator.answer(finding, Surroundings())
    state = answer.operation.state if answer.operation else ""
    (out / f"record-{given['owner']}").write_text(state)
    return {"outcome": answer.order.outcome, "stage": answer.order.stage, "state": state}


attempts(attempt)
