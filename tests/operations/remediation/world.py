"""A world in which the remediator is killed, raced and lied to; it notes what was done, and when."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.operations.remediation.actions import ACTIONS
from airflow_pipeops.operations.remediation.decision import Surroundings
from airflow_pipeops.operations.remediation.execution import Answer, Remediator
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.history import History, Operation
from airflow_pipeops.operations.remediation.journal import Journal
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SCALE = {"file": "a.yaml", "path": "replicas", "least": 1, "most": 9, "step": 1}
POLICY = {
    "mode": "act",
    "rules": [
        {"name": "again", "finding": "failed_run", "action": "retry_task"},
        {
            "name": "more",
            "finding": "anomaly",
            "action": "scale_up",
            "parameters": SCALE,
            "per_hour": 2,
            "dwell": 1800,
        },
        {
            "name": "less",
            "finding": "drift",
            "action": "scale_down",
            "parameters": SCALE,
            "per_hour": 2,
            "dwell": 1800,
        },
        {"name": "out", "finding": "failed_gate", "action": "quarantine_batch", "affected": 2, "budget": 4},
        {"name": "page", "finding": "late_labels", "action": "notify"},
    ],
    "limits": {"per_environment": 3, "total": 4, "environments": 2, "share": 0.5},
}
TARGET = {"dag": "d", "run": "r", "task": "t", "batch": "b", "commit": "c"}


class Killed(BaseException):
    """The process is gone."""


class Memory(Journal):
    """A history that is not written to a disk; a version is taken by one writer alone, all the same."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(None, clock)
        self.versions = [History()]
        self.between: Callable[[], None] = lambda: None

    def read(self) -> tuple[int, History]:
        found = len(self.versions) - 1, self.versions[-1]
        self.between()
        return found

    def write(self, number: int, history: History) -> bool:
        if number != len(self.versions):
            return False
        self.versions.append(history)
        self.between()
        return True


@dataclass
class World:
    """Everything outside.

    :param chance: of what goes wrong.
    :param policy: of the remediator.
    """

    chance: random.Random
    policy: RemediationPolicy = field(default_factory=lambda: RemediationPolicy.of(POLICY))
    now: datetime = START
    kill_switch: bool = False
    crash: float = 0.0
    acts: list[tuple[datetime, str, Operation]] = field(default_factory=list)
    effects: set[tuple[str, str]] = field(default_factory=set)
    crashed: set[str] = field(default_factory=set)
    told: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    resets: list[tuple[datetime, str]] = field(default_factory=list)
    population: int | None = 4

    def __post_init__(self) -> None:
        self.journal = Memory(self.clock)

    def clock(self) -> datetime:
        """Tell the time, which is never the same twice."""
        self.now += timedelta(microseconds=1)
        return self.now

    def remediator(self, owner: str) -> Remediator:
        """One attempt of one task."""
        return Remediator(
            self.policy, self.journal, self, killed=lambda: "the switch" if self.kill_switch else "",
            tell=lambda number, told: self.told.append((number, tuple(one.place for one in told))),
            owner=owner, clock=self.clock,
        )  # fmt: skip

    def plan(self, operation: Operation) -> Mapping[str, Any]:
        """See what there is."""
        return {"from": 1}

    def do(self, action: str, operation: Operation) -> Mapping[str, Any]:
        """Act; whoever was killed in the middle finds out."""
        assert not self.kill_switch, "the switch was read, and was off"
        known = self.journal.versions[-1].get(operation.id)
        assert known is not None, "no act without its intent"
        assert known.state == ("intended" if action == operation.action else "unhelped")
        others = [
            one for one in self.journal.versions[-1].operations if one.open and one.place == operation.place
        ]
        assert others == [known], "never two at once on one deliverable"
        if (operation.id, action) in self.effects:
            assert operation.id in self.crashed, "done again without having been killed"
            return {}
        if self.chance.random() < self.crash:
            self.crashed.add(operation.id)
            raise Killed
        self.effects.add((operation.id, action))
        self.acts.append((self.clock(), action, operation))
        if self.chance.random() < self.crash:
            self.crashed.add(operation.id)
            raise Killed
        return {}

    def finding(
        self, kind: str, deliverable: str = "a", environment: str = "production", **more: Any
    ) -> Finding:
        """What a judge has found just now."""
        return Finding(kind, deliverable, environment, self.now.isoformat(), target=TARGET, **more)  # type: ignore[arg-type]

    def answer(self, finding: Finding, owner: str = "task", **around: Any) -> Answer:
        """Hand a finding to a task."""
        return self.remediator(owner).answer(finding, Surroundings(population=self.population, **around))

    def look(self, operation: str, sight: str, owner: str = "task") -> Answer:
        """Let the judge look."""
        return self.remediator(owner).look(operation, Seen.of(sight))

    def later(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)

    @property
    def history(self) -> History:
        """As it stands."""
        return self.journal.versions[-1]

    def check(self) -> None:
        """Whatever has happened: the bounds held."""
        limits = self.policy.limits
        done = [(at, one) for at, action, one in self.acts if action == one.action]
        for position, (at, one) in enumerate(done):
            before = [(then, other) for then, other in done[: position + 1] if at - then < timedelta(hours=1)]
            assert len(before) <= limits.total
            assert sum(other.environment == one.environment for _, other in before) <= limits.per_environment
            assert len({other.environment for _, other in before}) <= limits.environments
            rule = next(rule for rule in self.policy.rules if rule.name == one.rule)
            same = [
                then
                for then, other in done[: position + 1]
                if (other.rule, other.place) == (one.rule, one.place)
            ]
            assert sum(at - then < timedelta(hours=1) for then in same) <= rule.per_hour
            assert sum(at - then < timedelta(hours=24) for then in same) <= rule.per_day
            reset = max(
                (when for when, scope in self.resets if scope == one.place and when <= at), default=START
            )
            assert sum(then >= reset and at - then < timedelta(days=30) for then in same) <= rule.budget
        self._no_cycle()

    def _no_cycle(self) -> None:
        """Never an action, its inverse, and the action again, without a person between."""
        for place in {one.place for _, _, one in self.acts}:
            seen: list[str] = []
            persons = sorted(when for when, scope in self.resets if scope == place)
            for at, action, one in self.acts:
                if one.place != place:
                    continue
                while persons and persons[0] <= at:
                    persons.pop(0)
                    seen = []
                inverse = ACTIONS[action].inverse
                assert not (inverse and action in seen and inverse in seen[seen.index(action) :]), seen
                seen.append(action)
