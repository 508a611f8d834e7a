"""What watches the cost of a deliverable, and rolls its model back: the shipped detection of anomalies, and remediator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.judging import AnomalyJudge
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.series import Name, Point
from airflow_pipeops.operations.remediation.decision import Surroundings
from airflow_pipeops.operations.remediation.execution import Remediator
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.history import History, Operation, Reset
from airflow_pipeops.operations.remediation.policy import Limits, RemediationPolicy, Rule
from airflow_pipeops.operations.remediation.verification import Seen

#: False alarms a week: what one of a hundred daily series has of the two that an owner bears by default.
WATCHED = AnomalyPolicy(budget=0.02)
#: Loss up to which it is well.
WELL = 0.02
#: Batches that the judge looks at.
JUDGED = 3
_DELIVERABLE, _ENVIRONMENT = "model", "production"
#: The series that is watched: what the errors of a batch cost.
_SERIES = Name(_DELIVERABLE, "cost", _ENVIRONMENT)


def remedy(label_delay: int, deploy: int) -> RemediationPolicy:
    """Return a policy that rolls a model back when what it costs is unusual.

    :param label_delay: batches until labels are there.
    :param deploy: batches until a release.
    :return: the policy.
    """
    day = timedelta(days=1)
    patience = (label_delay + deploy + 2) * day
    rule = Rule(
        "level", "anomaly", "roll_back_model", {_ENVIRONMENT: "act"}, parameters={"file": "model.yaml", "fields": {}},
        dwell=30 * day, patience=patience, window=3 * day,
    )  # fmt: skip
    return RemediationPolicy((rule,), Limits(lease=patience + 30 * day, quiet=day))


class _Memory:
    """The journal of a simulated world: one writer, no file."""

    def __init__(self) -> None:
        self.history = History()

    def read(self) -> tuple[int, History]:
        return 1, self.history

    def update(self, change: Callable[[History], History | None]) -> History:
        self.history = change(self.history) or self.history
        return self.history


class Responder:
    """Detects, acts, proves, and calls a person, who answers late.

    :param policy: which action may answer an anomaly.
    :param watched: what is an anomaly.
    :param level: metric of a model that is right.
    :param roll_back: rolls the model back; false where there is none before it.
    :param answer: batches until a person has looked.
    """

    def __init__(
        self,
        policy: RemediationPolicy,
        watched: AnomalyPolicy,
        level: float,
        roll_back: Callable[[], bool],
        answer: int,
    ) -> None:
        self.judge = AnomalyJudge(watched)
        self.usual = max(0.0, 1.0 - level)
        self.memory = _Memory()
        self.roll_back = roll_back
        self.answer = answer
        self.now = datetime.min.replace(tzinfo=timezone.utc)
        self.losses: list[float] = []
        self.alarm = self.moved = False
        self.calls = 0
        self.due: int | None = None
        self.remediator = Remediator(
            policy, self.memory, self, killed=lambda: "", tell=self._tell, owner="simulation",  # type: ignore[arg-type]
            clock=lambda: self.now,
        )  # fmt: skip

    def plan(self, operation: Operation) -> Mapping[str, Any]:
        """See what there is before an act: nothing that would be needed."""
        return {}

    def do(self, action: str, operation: Operation) -> Mapping[str, Any]:
        """Do an action.

        :param action: of the catalogue.
        :param operation: that it is of.
        :return: nothing.
        :raises InvalidInput: where there is no model before.
        """
        if not self.roll_back():
            raise InvalidInput("there is no model before this one")
        return {}

    def _tell(self, number: int, operations: tuple[Operation, ...]) -> None:
        self.calls = number

    def measured(self, at: datetime, now: datetime, loss: float) -> bool:
        """Take up what a batch has lost against its level.

        :param at: its time.
        :param now: when its labels have come.
        :param loss: as it was measured.
        :return: whether that is an anomaly.
        """
        self.losses = [*self.losses[1 - JUDGED :], loss]
        point = Point(at.timestamp(), self.usual + loss, known=now.timestamp())
        anomalous = self.judge.see(_SERIES, point).anomalous
        self.alarm = self.alarm or (anomalous and self._lost())
        return anomalous

    def told(self, many: bool) -> None:
        """Hear the alarm whose threshold is tuned: it needs no label, and so comes before them.

        :param many: whether it was raised on more of a batch than it should be.
        """
        self.moved = many
        self.alarm = self.alarm or many

    def _ill(self) -> bool:
        return self.moved or self._lost()

    def _lost(self) -> bool:
        return sum(self.losses) > WELL * len(self.losses)

    def advance(self, batch: int, now: datetime, releasing: str, verdict: str) -> None:
        """Answer what was found, and go on with what was begun.

        :param batch: the number of the newest one.
        :param now: the time.
        :param releasing: who is releasing the model; empty if nobody is.
        :param verdict: on what serves against the model before, on the same batches; empty if there is none.
        """
        self.now = now
        place = f"{_DELIVERABLE}@{_ENVIRONMENT}"
        for one in [item for item in self.memory.history.operations if item.open]:
            self.remediator.look(one.id, Seen("still" if self._ill() else "clear"))
        held = self.memory.history.with_person(_DELIVERABLE, _ENVIRONMENT)
        if held is not None and self.due is None:
            self.due = batch + max(1, self.answer)
        if self.due is not None and batch >= self.due:
            self.memory.history = self.memory.history.with_reset(Reset(place, now.isoformat(), "a person"))
            self.due, self.alarm = None, False
        if self.alarm and not self._ill():
            self.alarm = False
        if self.alarm and verdict:
            finding = Finding(
                "anomaly", _DELIVERABLE, _ENVIRONMENT, now.isoformat(), target={"order": {"verdict": verdict}}
            )
            self.remediator.answer(finding, Surroundings(releasing=releasing))
        if batch % 30 == 0:
            self.memory.history = self.memory.history.pruned(now)
