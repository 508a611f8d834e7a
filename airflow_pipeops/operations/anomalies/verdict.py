"""What is said of a value of a series. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.operations.anomalies.series import SHAPES, Name

#: ``set aside``: it is known why it would be unusual, such as changed code.
Outcome = Literal["ordinary", "anomalous", "cannot tell", "set aside"]


@dataclass(frozen=True)
class AnomalyVerdict(JsonForm):
    """A judgement of one value.

    :param outcome: ``ordinary``, ``anomalous``, ``cannot tell`` or ``set aside``.
    :param finding: what is unusual: ``too slow``, ``missing``, ``change of level``, and the like; empty for nothing.
    :param reason: in a sentence.
    :param subject: what was measured.
    :param kind: of the series.
    :param variant: of the series.
    :param owner: whose budget it is counted in.
    :param dag: whether the subject is a DAG.
    :param at: time of the value.
    :param run: that it is of, where that is known.
    :param seen: the value.
    :param expected: what it should have been; of failures, their share.
    :param history: values that this rests on.
    :param lacking: how many more are needed, where it cannot be told.
    :param phase: of the day or week whose values it was compared with.
    :param chance: of one so far off, at most; none where that is not how it was judged.
    :param alpha: below which it is an alarm: what is left of the budget, over the values judged in a week.
    :param budget_left: false alarms of this week's budget that are not used up by what was judged.
    :param onset: earliest, likely and latest time at which it began; of a value: of the one before it, its own, and when it
        was known.
    :param running: whether it was judged while the run was still running.
    """

    outcome: Outcome
    reason: str
    subject: str
    kind: str
    at: str
    seen: float
    finding: str = ""
    variant: str = ""
    owner: str = ""
    dag: bool = False
    run: str = ""
    expected: float | None = None
    history: int = 0
    lacking: int = 0
    phase: str = ""
    chance: float | None = None
    alpha: float | None = None
    budget_left: float | None = None
    onset: tuple[str, ...] = ()
    running: bool = False

    @property
    def anomalous(self) -> bool:
        """Whether somebody should look."""
        return self.outcome == "anomalous"


def iso(seconds: float) -> str:
    """Return a time as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def amount(kind: str, value: float) -> str:
    """Return a value as a sentence has it."""
    if kind == "failure":
        return f"{value:.0%}"
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return digits + SHAPES[kind].unit


def unusual(name: Name, finding: str, seen: float, expected: float, running: bool, phase: str) -> str:
    """Say what is unusual about a value."""
    usual = f"{amount(name.kind, expected)} is usual" + (f" for this {phase}" if phase else "")
    if finding == "missing":
        return f"{name.subject}: no run for {amount('interval', seen)}, where {usual}"
    if running:
        return f"{name.subject} still runs after {amount(name.kind, seen)}, where {usual}"
    return f"{name.subject}: {SHAPES[name.kind].says} {amount(name.kind, seen)}, where {usual}"


@dataclass(frozen=True)
class AnomalyGroup(JsonForm):
    """Anomalies that are one alarm, since what they are of hangs together.

    :param root: of which nothing that it is made from is anomalous.
    :param subjects: all of them, the root first.
    :param verdicts: of all of them, those of the root first.
    """

    root: str
    subjects: tuple[str, ...]
    verdicts: tuple[AnomalyVerdict, ...]

    @property
    def says(self) -> str:
        """The first reason, and how many more there are."""
        more = len(self.subjects) - 1
        return self.verdicts[0].reason + (f"; {more} downstream are unusual, too" if more else "")


def grouped(
    verdicts: Sequence[AnomalyVerdict], parents: dict[str, frozenset[str]]
) -> tuple[AnomalyGroup, ...]:
    """Make one alarm of what hangs together: whoever waits for a failed or slow parent is unusual because of it.

    :param verdicts: of which only the anomalous ones count.
    :param parents: subject -> those that it is made from, directly.
    :return: the groups, in the order in which their first value came.
    """
    found: dict[str, list[AnomalyVerdict]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.at):
        if verdict.anomalous:
            found.setdefault(verdict.subject, []).append(verdict)
    above = {subject: _ancestors(subject, parents) & found.keys() for subject in found}
    # Two that wait for each other have both of them above: the one that came first stands for them.
    order = {subject: place for place, subject in enumerate(found)}
    group: dict[str, str] = {}
    for subject in sorted(found, key=lambda subject: (len(above[subject]), order[subject])):
        roots = [group[other] for other in above[subject] if other in group]
        group[subject] = min(roots, key=order.__getitem__) if roots else subject
    members: dict[str, list[str]] = {}
    for subject in sorted(group, key=lambda subject: (len(above[subject]), order[subject])):
        members.setdefault(group[subject], []).append(subject)
    return tuple(
        AnomalyGroup(root, tuple(all_of), tuple(one for subject in all_of for one in found[subject]))
        for root, all_of in sorted(members.items(), key=lambda item: order[item[0]])
    )


def _ancestors(subject: str, parents: dict[str, frozenset[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*parents.get(subject, ())]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += parents.get(one, ())
    return seen - {subject}
