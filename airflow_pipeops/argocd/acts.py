"""When an act on an application has taken effect: a refresh, the end of an operation, a deletion. Pure.

These ask less than a release does, and must not be confused by what is wrong with the application otherwise: an operation
can be terminated, and an application deleted, that cannot be compared. So they have short rulebooks of their own, for the
judge of every wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from airflow_pipeops.argocd.rules import RULEBOOK
from airflow_pipeops.argocd.rules.comparison import skip_reconcile
from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.rulebook import Rulebook, facts_of
from airflow_pipeops.waits.rules import wait
from airflow_pipeops.waits.status import shorts


def _acknowledged(look: ApplicationLook) -> Verdict | None:
    if not look.observed.refreshed:
        return None
    return Verdict("done", "acknowledged", f"compared with {shorts(look.observed.desired)}")


def _not_acknowledged(_: ApplicationLook) -> Verdict:
    return wait(
        "not_acknowledged",
        "the controller has not acknowledged the refresh; it may be down or busy",
        refresh=True,
    )


def _ended(look: ApplicationLook) -> Verdict:
    operation, last, mark = look.running, look.observed.operation, look.memory.first_operation_at
    if operation is None:
        how = f" as {last.phase}: {last.message or '-'}" if last and last.phase else ""
        return Verdict("done", "ended", f"no operation is in progress; the last one ended{how}")
    if mark is not None and operation.started_at is not None and operation.started_at != mark:
        followed = f"it ended, and another one at {shorts(operation.at)} has followed"
        return Verdict("done", "followed", followed)
    at = f"the operation at {shorts(operation.at)} is {operation.phase or 'queued'}: {operation.message or '-'}"
    return wait("in_progress", at)


#: How each kind of act is judged; that an application is gone, every judge of a wait knows.
_RULEBOOKS: Mapping[str, Rulebook] = {
    "refreshed": Rulebook(
        (_acknowledged, skip_reconcile, _not_acknowledged), facts_of, confirms=False, look=ApplicationLook
    ),
    "ended": Rulebook((_ended,), facts_of, confirms=False, look=ApplicationLook),
    "gone": RULEBOOK,
}


@dataclass(frozen=True)
class Act(JsonForm):
    """What must take effect.

    :param kind: ``refreshed``, ``ended`` (no operation in progress, or another one than it was) or ``gone``.
    :param timeout: seconds.
    :param hard: of a refresh: also drop the cache of rendered manifests.
    :param mark: when the operation that must end was started, by the server's clock.
    :param uid: of the application that must go.
    :param transport_grace: seconds for which there may be no usable answer.
    """

    kind: Literal["refreshed", "ended", "gone"]
    timeout: float = 600.0
    hard: bool = False
    mark: float | None = None
    uid: str = ""
    transport_grace: float = 300.0

    @property
    def rulebook(self) -> Rulebook:
        """How looks are judged."""
        return _RULEBOOKS[self.kind]

    def expectation(self) -> Expectation:
        """Return what must come true."""
        return Expectation(
            match="any",
            gone=self.kind == "gone",
            timeout=self.timeout,
            transport_grace=self.transport_grace,
        )

    def memory(self) -> Memory:
        """Return what was seen when the act was done."""
        if self.kind == "ended":
            return Memory(looked=True, first_operation_at=self.mark)
        return Memory(uid=self.uid)
