"""How often a gate errs on its own: by runs of equal arms (A/A). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.intervals import proportion

if TYPE_CHECKING:
    import pandas as pd

#: So many letters of ids fit into a record.
_LETTERS = 6000

#: What the records of such runs say that they are about.
SUBJECT = "gate rate"


@dataclass(frozen=True)
class GateRate(JsonForm):
    """The alarms of a gate on equal arms.

    :param alarms: runs of which it said that one arm is better or worse.
    :param runs: that were judged.
    :param interval: of the share, at 95 %.
    :param flaky: items of the newest run whose scores differ between equal arms.
    """

    alarms: int = 0
    runs: int = 0
    interval: tuple[float, float] = (0.0, 1.0)
    flaky: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.runs:
            return "This gate was never tried on equal arms."
        low, high = self.interval
        said = f"On equal arms this gate has said otherwise in {self.alarms} of {self.runs} runs"
        return f"{said} ({low:.0%} to {high:.0%})."


def rate(
    bodies: Iterable[Mapping[str, Any]], window: int, policy: Mapping[str, Any] | None = None
) -> GateRate:
    """Add up the runs of equal arms.

    :param bodies: of their records, oldest first.
    :param window: so many of the newest count.
    :param policy: of the gate; runs of another one do not count. ``None`` counts all.
    :return: the rate.
    """
    kept = [
        one
        for one in bodies
        if one.get("subject") == SUBJECT and (policy is None or map_(one.get("policy")) == policy)
    ][-window:]
    if not kept:
        return GateRate()
    alarms = sum(one.get("outcome") in ("better", "worse") for one in kept)
    flaky = kept[-1].get("flaky")
    return GateRate(
        alarms,
        len(kept),
        proportion(alarms, len(kept), 0.95),
        tuple(map(str, flaky)) if isinstance(flaky, list) else (),
    )


def halves(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Make two equal arms of one: its even runs are the baseline's, and its odd ones the candidate's.

    :param frame: the table of an evaluation.
    :param arm: name of the one.
    :return: the table of both.
    :raises InvalidInput: if it has no two runs.
    """
    rows = frame[frame["arm"] == arm]
    pairs = (int(rows["run"].max()) + 1) // 2 if len(rows) else 0
    if not pairs:
        raise InvalidInput(
            f"the arm {arm!r} has no two runs",
            field="evaluation",
            value=arm,
            remedy="Evaluate with runs=2 or more: a run is held against another of the same prompt.",
        )
    rows = rows[rows["run"] < 2 * pairs]
    return rows.assign(
        arm=["candidate" if run % 2 else "baseline" for run in rows["run"]], run=rows["run"] // 2
    )


def flaky(frame: pd.DataFrame, scorer: str, most: int = 100) -> tuple[str, ...]:
    """Return the items that two equal arms score differently, those that differ most first.

    :param frame: what :func:`halves` returned.
    :param scorer: by which.
    :param most: so many are named.
    :return: ids of items.
    """
    means = frame[frame["scorer"] == scorer].groupby(["item", "arm"])["value"].mean().unstack("arm")
    apart = (means["candidate"] - means["baseline"]).abs()
    ordered = apart[apart > 0].sort_values(ascending=False, kind="stable")
    found, letters = [], 0
    for item in map(str, ordered.index[:most]):
        letters += len(item)
        if letters > _LETTERS:
            break
        found.append(item)
    return tuple(found)
