"""One wait for one application, and one look at it. Used by tasks and by triggers alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_pipeops import exceptions
from airflow_pipeops.argocd.observe import observe
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
)
from airflow_pipeops.gitops.observed import Observed, Trouble, summary
from airflow_pipeops.gitops.verdict import Expectation, Memory, Verdict, decide, questions

if TYPE_CHECKING:
    from airflow_pipeops.argocd.client import AppRef, ArgoCDClient

#: Answers whether a revision contains the expected one: ``(expected, revision) -> bool``.
Oracle = Callable[[str, str], Awaitable[bool]]

#: Rules that name something a person gave wrongly.
_WRONG_INPUT = frozenset(
    {
        "revision_missing",
        "revision_not_sha",
        "source_unknown",
        "source_ambiguous",
        "pinned_elsewhere",
        "hydrator",
        "skip_reconcile",
    }
)
_ERRORS: Mapping[str, type[PipeOpsError]] = {
    "access_denied": exceptions.AccessDenied,
    "app_not_found": exceptions.NotFound,
    "app_deleted": exceptions.NotFound,
    "unreachable": exceptions.Unreachable,
    "deadline": exceptions.WaitTimeout,
    "degraded": exceptions.ReleaseFailed,
    "suspended": exceptions.ReleaseFailed,
    "superseded": exceptions.ReleaseFailed,
    "deleting": exceptions.ReleaseFailed,
    "recreated": exceptions.ReleaseFailed,
}


class Clock:
    """Seconds since the epoch that do not jump: the time of day at the start, and monotonic time from there."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return self._offset + time.monotonic()


@dataclass
class Decided:
    """Where a wait stands: all of it is JSON, so that it can cross a deferral.

    :param summary: the few facts of the last look.
    """

    verdict: Verdict
    memory: Memory
    expectation: Expectation
    summary: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "verdict": self.verdict.to_json(),
            "memory": self.memory.to_json(),
            "expectation": self.expectation.to_json(),
            "summary": self.summary,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decided:
        """Read the JSON form."""
        return cls(
            Verdict.from_json(data["verdict"]),
            Memory.from_json(data["memory"]),
            Expectation.from_json(data["expectation"]),
            dict(data.get("summary") or {}),
        )

    def error(self, message: str) -> PipeOpsError:
        """Return the error that a failed verdict stands for."""
        if self.verdict.rule in _WRONG_INPUT:
            return InvalidInput(message, field="revision")
        return _ERRORS.get(self.verdict.rule, exceptions.SyncFailed)(message)


class Wait:
    """One wait for one application. It judges; who looks, and how often, is the business of others.

    :param ref: which application.
    :param expectation: what must come true.
    :param memory: what an earlier part of the same wait remembered.
    :param oracle: answers the expectation's questions; needed where its ``oracle`` is true.
    :param on_change: told each verdict whose rule differs from the one before.
    """

    def __init__(
        self,
        ref: AppRef,
        expectation: Expectation,
        memory: Memory | None = None,
        *,
        oracle: Oracle | None = None,
        on_change: Callable[[Verdict], None] | None = None,
    ) -> None:
        self.ref = ref
        self.state = Decided(Verdict("wait", "", ""), memory or Memory(), expectation)
        self._oracle, self._on_change, self._clock = oracle, on_change, Clock()

    @property
    def over(self) -> bool:
        """Whether the verdict is ``done`` or ``failed``."""
        return self.state.verdict.state != "wait"

    async def judge(self, seen: Observed | Trouble) -> Verdict:
        """Judge one look."""
        state = self.state
        if isinstance(seen, Observed):
            await self._ask(seen)
            state.summary = summary(seen)
        before = state.verdict.rule
        state.verdict, state.memory = decide(seen, state.expectation, state.memory, self._clock())
        if self._on_change and state.verdict.rule != before:
            self._on_change(state.verdict)
        return state.verdict

    async def _ask(self, observed: Observed) -> None:
        if self._oracle is None:
            return
        for wanted, revision in questions(observed, self.state.expectation):
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


def wait_to_json(wait: Wait) -> dict[str, Any]:
    """Return a wait as it travels in a trigger's arguments."""
    return {
        "app": wait.ref.name,
        "project": wait.ref.project,
        "app_namespace": wait.ref.namespace,
        "expectation": wait.state.expectation.to_json(),
        "memory": wait.state.memory.to_json(),
    }


def wait_from_json(
    given: Mapping[str, Any],
    project: str,
    oracle: Oracle | None,
    on_change: Callable[[str, Verdict], None] | None = None,
) -> Wait:
    """Read what :func:`wait_to_json` wrote, in this version or an earlier one.

    :param project: the connection's project, for a wait that names none.
    :param on_change: told of an application each verdict whose rule differs from the one before.
    """
    from airflow_pipeops.argocd.client import AppRef

    app = str(given["app"])
    return Wait(
        AppRef(app, str(given.get("project") or project), str(given.get("app_namespace") or "")),
        Expectation.from_json(given["expectation"]),
        Memory.from_json(given.get("memory") or {}),
        oracle=oracle,
        on_change=partial(on_change, app) if on_change else None,
    )


async def look(client: ArgoCDClient, ref: AppRef, *, refresh: bool = False) -> Observed | Trouble | None:
    """Look at an application once.

    :param refresh: have the controller compare first; ``None`` where it did not acknowledge that in time.
    """
    try:
        if not refresh:
            return observe(await client.get(ref))
        application = await client.refresh(ref)
        return None if application is None else observe(application, refreshed=True)
    except AccessDenied as error:
        return Trouble("denied", str(error))
    except NotFound as error:
        return Trouble("missing", str(error))
    except Unreachable as error:
        return Trouble("unreachable", str(error))
    except BadResponse as error:
        return Trouble("nonsense", str(error))
