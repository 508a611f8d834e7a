"""One wait for one application, whatever its controller: the state that survives a deferral, and the judging of looks."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops import exceptions
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.waits.messages import decisive_last
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.status import Observed, Trouble, summary
from airflow_pipeops.waits.streams.pacing import judge_again_in, refresh_in
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict, decide, questions

#: Answers whether a revision contains the expected one: ``(expected, revision) -> bool``.
Oracle = Callable[[str, str], Awaitable[bool]]

_ERRORS: Mapping[str, type[PipeOpsError]] = {
    "access_denied": exceptions.AccessDenied,
    "app_not_found": exceptions.NotFound,
    "app_deleted": exceptions.NotFound,
    "unreachable": exceptions.Unreachable,
    "deadline": exceptions.WaitTimeout,
    "cannot_tell": exceptions.NotJudged,
    "degraded": exceptions.ReleaseFailed,
    "suspended": exceptions.ReleaseFailed,
    "superseded": exceptions.NotJudged,
    "deleting": exceptions.ReleaseFailed,
    "recreated": exceptions.ReleaseFailed,
    "owner_missing": exceptions.NotFound,
    "source_missing": exceptions.NotFound,
}

#: Rules that name something a person gave wrongly.
WRONG_INPUT = frozenset(
    {
        "not_contained",
        "not_owned",
        "pinned_elsewhere",
        "revision_conflict",
        "revision_missing",
        "revision_not_digest",
        "revision_not_sha",
        "skip_reconcile",
        "source_ambiguous",
        "source_unknown",
        "wrong_project",
    }
)


class Clock:
    """Seconds since the epoch that do not jump: the time of day at the start, and monotonic time from there."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return self._offset + time.monotonic()


@dataclass
class Decided(JsonForm):
    """Where a wait stands: all of it is JSON, so that it can cross a deferral.

    :param verdict: the last judgement.
    :param memory: what the next look must know.
    :param expectation: what must come true, with the answers that are known.
    :param summary: the few facts of the last look.
    """

    verdict: Verdict
    memory: Memory
    expectation: Expectation
    summary: dict[str, Any] = field(default_factory=dict)

    def error(self, message: str) -> PipeOpsError:
        """Return the error that a failed verdict stands for."""
        if self.verdict.rule in WRONG_INPUT:
            return InvalidInput(decisive_last(message), field="revision")
        return _ERRORS.get(self.verdict.rule, exceptions.SyncFailed)(decisive_last(message))


class Wait:
    """One wait for one application. It judges; who looks, and how often, is the business of others.

    :param ref: which application, in the terms of its controller.
    :param expectation: what must come true.
    :param memory: what an earlier part of the same wait remembered.
    :param rulebook: how what its controller says is judged.
    :param oracle: answers the expectation's questions; needed where its ``oracle`` is true.
    :param on_change: told each verdict whose rule differs from the one before.
    """

    def __init__(
        self,
        ref: Any,
        expectation: Expectation,
        memory: Memory | None = None,
        *,
        rulebook: Rulebook,
        oracle: Oracle | None = None,
        on_change: Callable[[Verdict], None] | None = None,
    ) -> None:
        self.ref = ref
        self.state = Decided(Verdict("wait", "", ""), memory or Memory(), expectation)
        self._rulebook = rulebook
        self._oracle, self._on_change, self._clock = oracle, on_change, Clock()
        self._refresh_at, self._refresh_for = math.inf, ""
        self._compared_at: float | None = None

    @property
    def over(self) -> bool:
        """Whether the verdict is ``done`` or ``failed``."""
        return self.state.verdict.state != "wait"

    @property
    def done(self) -> bool:
        """Whether the verdict is ``done``."""
        return self.state.verdict.state == "done"

    @property
    def failed(self) -> bool:
        """Whether the verdict is ``failed``."""
        return self.state.verdict.state == "failed"

    def again_in(self) -> float:
        """Return the seconds after which the verdict may be another though nothing new is seen."""
        return judge_again_in(self.state.expectation, self.state.memory, self._clock())

    def look_again_in(self, poll_interval: float) -> float:
        """Return the seconds until the next look of somebody who polls: sooner where time alone may settle it."""
        pause = poll_interval * random.uniform(0.8, 1.2)
        if self.state.verdict.rule in ("settling", "stale"):
            pause = min(pause, max(0.2, self.again_in()))
        return pause

    def refresh_in(self) -> float | None:
        """Return the seconds after which a refresh is wanted, ``None`` for none."""
        return None if math.isinf(self._refresh_at) else max(0.0, self._refresh_at - self._clock())

    def asked_before(self) -> tuple[float, float | None] | None:
        """Return how many seconds ago a refresh was asked for, and which operation's end was known then."""
        memory = self.state.memory
        if memory.asked_at is None:
            return None
        return max(0.0, self._clock() - memory.asked_at), memory.finished_at

    async def judge(self, seen: Observed | Trouble) -> Verdict:
        """Judge one look."""
        state = self.state
        if isinstance(seen, Observed):
            await self._ask(seen)
            state.summary = summary(seen)
        before, now = state.verdict.rule, self._clock()
        state.verdict, state.memory = decide(seen, state.expectation, state.memory, now, self._rulebook)
        if isinstance(seen, Observed):
            self._plan_refresh(seen, now)
        if self._on_change and state.verdict.rule != before:
            self._on_change(state.verdict)
        return state.verdict

    def _plan_refresh(self, seen: Observed, now: float) -> None:
        verdict, compared = self.state.verdict, seen.compared_at != self._compared_at
        self._compared_at = seen.compared_at
        planned = not math.isinf(self._refresh_at) and verdict.rule == self._refresh_for
        if not verdict.refresh and (seen.refreshed or not planned):
            self._refresh_at = math.inf
            return
        moment = now + refresh_in(verdict, self.state.memory)
        # A comparison that has come meanwhile moves what was planned; a repeated look does not.
        self._refresh_at = moment if compared or not planned else min(self._refresh_at, moment)
        self._refresh_for = verdict.rule

    async def _ask(self, observed: Observed) -> None:
        if self._oracle is None:
            return
        for wanted, revision in questions(
            observed, self.state.expectation, self.state.memory, rulebook=self._rulebook
        ):
            try:
                contained = await self._oracle(wanted, revision)
            except PipeOpsError as error:
                # Not known yet is never taken for yes; the next look asks again.
                if not error.retryable and not isinstance(error, NotFound):
                    raise
                continue
            expectation = self.state.expectation
            known = {**expectation.contained, f"{wanted}..{revision}": contained}
            self.state.expectation = replace(expectation, contained=known)


def raise_error_of(event: Mapping[str, Any] | None) -> None:
    """Raise the error that a trigger ended with, if it did."""
    if not event:
        raise exceptions.BadResponse("the trigger ended without an event")
    if "error" in event:
        kind = getattr(exceptions, str(event.get("type")), exceptions.SystemFailure)
        raise (
            kind if isinstance(kind, type) and issubclass(kind, PipeOpsError) else exceptions.SystemFailure
        )(event["error"])
