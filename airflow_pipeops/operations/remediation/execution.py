"""An operation from its intent to its end, one step at a time, each written down before the next.

::

    1  intended      the history says what will be done, from what to what, and by whom; of two that say so, one is first
    2  acted         the kill switch is read once more, then the act is done; it finds itself if it was done already
    3  helped        the judge that has found the fault sees it away, for the window
       unhelped      else
    4  undone        the inverse, once
    5  handed_over   a person is called, once for all that is handed over meanwhile

Killed between any two, the same task goes on where it stood: nothing is done twice. Nobody else does: after its lease, a
person is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final, Protocol

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.operations.remediation.actions import ACTIONS
from airflow_pipeops.operations.remediation.decision import Order, Surroundings, decide, to_call
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.history import Call, History, Operation, State
from airflow_pipeops.operations.remediation.journal import Journal
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen, prove

log = logging.getLogger(__name__)

#: A call that was begun and not sent is somebody else's after this many seconds.
_SENDING: Final = 600.0
_MARKS: Final[Mapping[str, Callable[[Operation], str]]] = {
    "hold_promotion": lambda one: f"promotion {one.place}",
    "quarantine_batch": lambda one: f"batch {one.target['batch']}",
}


class Hands(Protocol):
    """Does what is decided. Each act must find itself if it was done before."""

    def plan(self, operation: Operation) -> Mapping[str, Any]:
        """See what there is before an act; nothing is changed."""

    def do(self, action: str, operation: Operation) -> Mapping[str, Any]:
        """Do an action of an operation: its own, or its inverse."""


@dataclass(frozen=True)
class Answer:
    """What became of a finding.

    :param order: that was decided.
    :param operation: that it led to, as it stands now; ``None`` where nothing was done.
    :param called: number of the call that was made on the way; 0 for none.
    """

    order: Order
    operation: Operation | None
    called: int = 0


class Remediator:
    """Answers findings.

    :param policy: that people agreed on.
    :param journal: with the history.
    :param hands: that act.
    :param killed: says which kill switch is on; empty if none.
    :param tell: calls a person; it is handed the number of the call, and what is handed over.
    :param owner: the task, the same for each of its attempts.
    :param clock: tells the time, with a zone.
    """

    def __init__(
        self,
        policy: RemediationPolicy,
        journal: Journal,
        hands: Hands,
        *,
        killed: Callable[[], str],
        tell: Callable[[int, tuple[Operation, ...]], None],
        owner: str,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.policy, self.journal, self.hands = policy, journal, hands
        self.killed, self.tell, self.owner, self.clock = killed, tell, owner, clock

    def answer(self, finding: Finding, around: Surroundings) -> Answer:
        """Decide about a finding, and do what was decided up to the proof.

        :param finding: what is wrong.
        :param around: what else is known.
        :return: what became of it.
        """
        around = replace(around, owner=self.owner, killed=self.killed())
        orders: list[Order] = []

        def begin(history: History) -> History | None:
            now = self.clock()
            orders.append(decide(finding, self.policy, history, now, around))
            begun = _begun(orders[-1], finding, history, now, around, self.policy)
            return None if begun is None else history.with_operation(begun)

        history = self.journal.update(begin)
        order = orders[-1]
        operation = history.get(order.operation or finding.key)
        if operation is not None and order.outcome in ("act", "go on") and operation.state == "intended":
            operation = self._act(operation)
        called = self.call() if order.stage != "kill_switch" else 0
        return Answer(order, operation, called)

    def look(self, operation: str, seen: Seen) -> Answer:
        """Judge an operation by what is seen now, and go on with it.

        :param operation: its id.
        :param seen: what the judge says.
        :return: how it stands; it is at its end unless it is still ``acted``.
        """
        found = self.journal.read()[1].get(operation)
        if found is None:
            return Answer(Order("refuse", "answered", "There is no such operation."), None)
        if found.state == "acted":
            found = self._proven(found, seen)
        if found.state == "unhelped" and found.undoer == self.owner and not self._late(found):
            found = self._undo(found)
        if found.state == "undone":
            found = self._set(found, "handed_over", f"It was taken back by {found.inverse}. {found.reason}")
        return Answer(
            Order("go on", "proof", found.reason, found.rule, found.action, found.id), found, self.call()
        )

    def call(self) -> int:
        """Call a person about all that was handed over and not told, if it is time to.

        :return: number of the call; 0 for none.
        """
        mine: list[Call] = []

        def claim(found: History) -> History | None:
            now = self.clock()
            mine.clear()
            history = _left(found, self.policy, now)
            last = history.calls[-1] if history.calls else None
            if last is not None and not last.sent:
                age = (now - datetime.fromisoformat(last.at)).total_seconds()
                if last.owner != self.owner and age < _SENDING:
                    return None if history is found else history
                mine.append(replace(last, owner=self.owner))
                return replace(history, calls=(*history.calls[:-1], mine[0]))
            if not (untold := to_call(history, self.policy.limits.quiet, now)):
                return None if history is found else history
            mine.append(Call((last.number if last else 0) + 1, now.isoformat(), self.owner))
            told = {one.id for one in untold}
            return replace(
                history,
                calls=(*history.calls, mine[0]),
                operations=tuple(
                    replace(one, told=mine[0].number) if one.id in told else one for one in history.operations
                ),
            )

        history = self.journal.update(claim)
        if not mine:
            return 0
        number = mine[0].number
        self.tell(number, tuple(one for one in history.operations if one.told == number))
        self.journal.update(
            lambda known: replace(
                known,
                calls=tuple(replace(one, sent=True) if one.number == number else one for one in known.calls),
            )
        )
        return number

    def _act(self, operation: Operation) -> Operation:
        if self._late(operation):
            return operation
        try:
            if not operation.plan and (plan := self.hands.plan(operation)):
                operation = self._set(operation, "intended", operation.reason, plan=dict(plan))
            if operation.state != "intended":
                return operation
            if killed := self.killed():
                return self._set(operation, "stopped", f"{killed} was switched on before it was done.")
            result = dict(self.hands.do(operation.action, operation))
        except PipeOpsError as error:
            if error.retryable:
                raise
            log.exception("%s could not be done", operation.action)
            # It may have been done in part: it counts as done.
            said = f"{operation.action} could not be done: {error.message[:500]}"
            return self._set(operation, "handed_over", said, acted=self.clock().isoformat(), helped=False)
        return self._set(operation, "acted", operation.reason, acted=self.clock().isoformat(), result=result)

    def _proven(self, operation: Operation, seen: Seen) -> Operation:
        proof = prove(operation, seen, self.clock())
        if proof.verdict == "wait":
            if proof.clear_since == operation.clear_since:
                return operation
            return self._set(operation, "acted", proof.reason, clear_since=proof.clear_since)
        if proof.verdict == "helped":
            return self._set(operation, "helped", proof.reason, helped=True, clear_since=proof.clear_since)
        state: State = "unhelped" if proof.verdict == "did not help" and operation.inverse else "handed_over"
        return self._set(operation, state, proof.reason, helped=False, undoer=self.owner)

    def _undo(self, operation: Operation) -> Operation:
        if killed := self.killed():
            said = f"It was not taken back: {killed} is on. {operation.reason}"
            return self._set(operation, "handed_over", said)
        try:
            undo = dict(self.hands.do(operation.inverse, operation))
        except PipeOpsError as error:
            if error.retryable:
                raise
            said = f"{operation.inverse} could not be done: {error.message[:500]} {operation.reason}"
            return self._set(operation, "handed_over", said)
        result = {**operation.result, "undo": undo} if undo else dict(operation.result)
        return self._set(
            operation, "undone", operation.reason, undone=self.clock().isoformat(), result=result
        )

    def _late(self, operation: Operation) -> bool:
        """Whether this process slept for so long that the operation may be a person's by now."""
        return self.clock() - datetime.fromisoformat(operation.changed) > self.policy.limits.lease

    def _set(self, operation: Operation, state: State, reason: str, **facts: Any) -> Operation:
        """Bring an operation into another state, unless somebody has done so meanwhile."""

        def change(history: History) -> History | None:
            there = history.get(operation.id)
            if there is None or there.state != operation.state:
                return None
            changed = history.with_operation(there.set(state, self.clock(), reason, **facts))
            if mark := _MARKS.get(operation.action):
                marks = dict(changed.marks)
                if state == "acted":
                    marks.setdefault(mark(operation), operation.id)
                elif state == "undone" and marks.get(mark(operation)) == operation.id:
                    del marks[mark(operation)]
                changed = replace(changed, marks=marks)
            return changed

        return self.journal.update(change).get(operation.id) or operation


def _begun(
    order: Order,
    finding: Finding,
    history: History,
    now: datetime,
    around: Surroundings,
    policy: RemediationPolicy,
) -> Operation | None:
    """Return the operation with which an order begins, or that it ends; ``None`` where there is nothing to write."""
    if order.outcome == "hand over" and order.operation:
        left = history.get(order.operation)
        return left and _left_behind(left, now, order.reason)
    if order.outcome not in ("act", "hand over"):
        return None
    rule = next(one for one in policy.rules if one.name == order.rule)
    return Operation(
        finding.key,
        rule.name,
        rule.action,
        finding.deliverable,
        finding.environment,
        now.isoformat(),
        "intended" if order.outcome == "act" else "handed_over",
        now.isoformat(),
        owner=around.owner,
        finding=finding.to_json(),
        parameters=dict(rule.parameters),
        inverse=ACTIONS[rule.action].inverse,
        affected=finding.affected,
        patience=rule.patience.total_seconds(),
        window=rule.window.total_seconds(),
        reason=order.reason,
        approved_by=around.approved_by,
    )


def _left(history: History, policy: RemediationPolicy, now: datetime) -> History:
    """Return it with what nobody has ended in time handed over."""
    for one in history.operations:
        if one.open and now - datetime.fromisoformat(one.changed) > policy.limits.lease:
            said = f"{one.action} is {one.state} since {one.changed}, and nobody has ended it."
            history = history.with_operation(_left_behind(one, now, said))
    return history


def _left_behind(operation: Operation, now: datetime, reason: str) -> Operation:
    """Hand over what nobody has ended; nobody knows whether what was intended was done, too."""
    acted = operation.acted or (now.isoformat() if operation.state == "intended" else "")
    return operation.set("handed_over", now, reason, helped=False, acted=acted)
