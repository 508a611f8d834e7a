"""What a wait expects, remembers and answers: plain data that survives JSON, and so a deferral and a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_pipeops.base.serialisation import JsonForm

#: Which revisions will do: only the expected one, also one that contains it, or any.
Match = Literal["exact", "contains", "any"]
#: What must be at the revision: what the controller compares with, or what the last operation applied; or ``idle``: nothing
#: but that no operation is in progress.
Basis = Literal["desired", "applied", "idle"]
#: What becomes of a wait that meets something which may last.
Policy = Literal["wait", "accept", "fail"]
#: Where a wait stands.
State = Literal["wait", "done", "failed"]


@dataclass(frozen=True)
class Expectation(JsonForm):
    """What must come true. Durations are seconds.

    :param revisions: expected revision per source: ``"*"`` for the only Git repository, else an index from 0 or a URL.
    :param match: ``exact``; ``contains`` (a descendant is as good; needs ``oracle``); ``any`` (no revision at all).
    :param basis: ``desired`` (what the controller compares with), ``applied`` (what the last operation applied), or
        ``idle`` (nothing but that no operation is in progress).
    :param oracle: somebody can answer :func:`questions`; without, ``contains`` becomes ``exact`` and says so.
    :param contained: the answers so far, ``{"<expected>..<revision>": bool}``.
    :param operation_id: correlation id of the operation that we started.
    :param require_health: it must be Healthy; otherwise whatever its health is will do.
    :param require_applied: an operation must have applied the revision, even where it changes nothing in this application.
    :param require_refresh: what was compared before this wait began does not count.
    :param on_suspended: where it is applied, and suspended.
    :param on_unknown: where nobody can say whether it is as expected.
    :param on_out_of_sync: where it stays out of sync after a good synchronisation.
    :param on_manual: where somebody must start the synchronisation.
    :param on_window: where a sync window is closed.
    :param settle: for which health must hold.
    :param degraded_grace: for which it may be Degraded.
    :param comparison_grace: for which the controller may be unable to compare.
    :param transport_grace: for which nothing may be seen.
    :param timeout: for the whole wait; ``None`` for ever.
    :param on_recreated: ``fail``, or ``restart`` the wait where the application was deleted and created anew.
    :param project: the project that it must be in; empty for any.
    :param gone: wait until the application is gone instead; only ``timeout`` and ``transport_grace`` count then.
    :param hydration_grace: for which the hydrator may fail to render.
    :param out_of_sync_grace: for which it may stay out of sync, where ``on_out_of_sync`` is ``fail``.
    :param absent_grace: for which the branch may be known not to contain the commit.
    :param chart: chart version that a Helm release must be at.
    :param failed_attempts: how many different attempts of a controller that tries for ever must fail before that counts.
    """

    revisions: Mapping[str, str] = field(default_factory=dict)
    match: Match = "exact"
    basis: Basis = "desired"
    oracle: bool = False
    contained: Mapping[str, bool] = field(default_factory=dict)
    operation_id: str = ""
    require_health: bool = True
    require_applied: bool = False
    require_refresh: bool = True
    on_suspended: Policy = "wait"
    on_unknown: Policy = "wait"
    on_out_of_sync: Policy = "wait"
    on_manual: Policy = "fail"
    on_window: Policy = "wait"
    settle: float = 5.0
    degraded_grace: float = 60.0
    comparison_grace: float = 180.0
    transport_grace: float = 600.0
    timeout: float | None = 1800.0
    on_recreated: Literal["fail", "restart"] = "fail"
    project: str = ""
    gone: bool = False
    hydration_grace: float = 300.0
    out_of_sync_grace: float = 30.0
    absent_grace: float = 120.0
    chart: str = ""
    failed_attempts: int = 2


@dataclass(frozen=True)
class Memory(JsonForm):
    """What one look must know of those before it. Times are the caller's ``now``, except where the server's is said.

    :param now: when the last look was judged.
    :param started_at: when the first one was.
    :param uid: of the object that was seen first.
    :param looked: something was seen at all.
    :param first_compared_at: when the comparison began that the first look showed (server's time).
    :param first_operation_at: when the operation began that the first look showed (server's time).
    :param finished_at: when the last operation ended (server's time).
    :param acknowledged: refreshes that the controller acknowledged.
    :param lost_after: what ``acknowledged`` was when the revision had been met and was replaced.
    :param met: the controller has compared with an acceptable revision.
    :param own_seen: the operation that we started has shown.
    :param asks: refreshes that were asked for since the last operation ended; the pauses between them grow.
    :param asked_at: when the last one was asked for.
    :param troubles: how many looks in a row were refused, or found nothing.
    :param since: for how long, without a gap, each thing has been so (a name, and when it was first seen).
    :param rule: the rule of the last verdict.
    :param rule_since: since when it has been that one.
    :param reason: what the last verdict said.
    :param compared_at: when the newest comparison seen began (server's time); a look at an older one says nothing.
    :param spec_after: what ``acknowledged`` was when a spec was first seen that is not the compared one.
    :param rendered: commits that a hydrator made of the expected one, newest last.
    :param attempts: failed attempts of a controller that tries for ever, and when each was first seen.
    """

    now: float = 0.0
    started_at: float | None = None
    uid: str = ""
    looked: bool = False
    first_compared_at: float | None = None
    first_operation_at: float | None = None
    finished_at: float | None = None
    acknowledged: int = 0
    lost_after: int | None = None
    met: bool = False
    own_seen: bool = False
    asks: int = 0
    asked_at: float | None = None
    troubles: int = 0
    since: Mapping[str, float] = field(default_factory=dict)
    rule: str = ""
    rule_since: float = 0.0
    reason: str = ""
    compared_at: float | None = None
    spec_after: int | None = None
    rendered: tuple[str, ...] = ()
    attempts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict(JsonForm):
    """A judgement with its reason.

    :param state: ``wait``, ``done`` or ``failed``.
    :param rule: stable name of the rule that decided.
    :param reason: one sentence that a person can act on.
    :param details: facts behind it, as JSON.
    :param refresh: whoever looks should ask the controller for a refresh now.
    """

    state: State
    rule: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    refresh: bool = False
