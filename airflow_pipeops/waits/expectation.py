"""What a wait expects, remembers and answers: plain data that survives JSON, and so a deferral and a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Expectation:
    """What must come true.

    :param revisions: expected revision per source: ``"*"`` for the only Git repository, else an index from 0 or a URL.
    :param match: ``exact``; ``contains`` (a descendant is as good; needs ``oracle``); ``any`` (no revision at all).
    :param basis: ``desired`` (what the controller compares with), ``applied`` (what the last operation applied), or
        ``idle`` (nothing but that no operation is in progress).
    :param oracle: somebody can answer :func:`questions`; without, ``contains`` becomes ``exact`` and says so.
    :param contained: the answers so far, ``{"<expected>..<revision>": bool}``.
    :param operation_id: correlation id of the operation that we started.
    :param on_suspended: ``wait``, ``accept`` or ``fail``; so too ``on_out_of_sync`` (it stays so after a good sync).
    :param on_manual: ``fail`` or ``wait`` where somebody must start the synchronisation; so too ``on_window``.
    :param on_recreated: ``fail``, or ``restart`` the wait where the application was deleted and created anew.
    :param require_applied: an operation must have applied the revision, even where it changes nothing in this application.
    :param project: the project that it must be in; empty for any.
    :param gone: wait until the application is gone instead; nothing else but the times and ``transport_grace`` counts then.
    :param settle: seconds for which health must hold. ``degraded_grace``, ``comparison_grace``, ``hydration_grace``,
        ``out_of_sync_grace`` (where ``on_out_of_sync`` is ``fail``), ``absent_grace`` (the branch is known not to contain
        the commit), ``transport_grace``: seconds for which each may last before it fails. ``timeout``: seconds
        altogether, ``None`` for ever.
    :param chart: chart version that a Helm release must be at.
    :param failed_attempts: how many different attempts of a controller that tries for ever must fail before that counts.
    """

    revisions: Mapping[str, str] = field(default_factory=dict)
    match: str = "exact"
    basis: str = "desired"
    oracle: bool = False
    contained: Mapping[str, bool] = field(default_factory=dict)
    operation_id: str = ""
    require_health: bool = True
    require_applied: bool = False
    require_refresh: bool = True
    on_suspended: str = "wait"
    on_out_of_sync: str = "wait"
    on_manual: str = "fail"
    on_window: str = "wait"
    settle: float = 5.0
    degraded_grace: float = 60.0
    comparison_grace: float = 180.0
    transport_grace: float = 600.0
    timeout: float | None = 1800.0
    on_recreated: str = "fail"
    project: str = ""
    gone: bool = False
    hydration_grace: float = 300.0
    out_of_sync_grace: float = 30.0
    absent_grace: float = 120.0
    chart: str = ""
    failed_attempts: int = 2

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Expectation:
        """Read the JSON form; unknown names are left out."""
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})


@dataclass(frozen=True)
class Memory:
    """What one look must know of those before it. Times are the caller's ``now``, except where the server's is said.

    :param since: for how long, without a gap, each thing has been so (a name, and when it was first seen).
    :param acknowledged: refreshes that the controller acknowledged.
    :param compared_at: when the newest comparison seen began (server's time); a look at an older one says nothing.
    :param spec_after: what ``acknowledged`` was when a spec was first seen that is not the compared one.
    :param rendered: commits that a hydrator made of the expected one, newest last.
    :param rule: the rule of the last verdict, and since when it was that.
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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Memory:
        """Read the JSON form; unknown names are left out."""
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        return cls(**{**known, "rendered": tuple(known.get("rendered") or ())})


@dataclass(frozen=True)
class Verdict:
    """A judgement with its reason.

    :param state: ``wait``, ``done`` or ``failed``.
    :param rule: stable name of the rule that decided.
    :param reason: one sentence that a person can act on.
    :param details: facts behind it, as JSON.
    :param refresh: whoever looks should ask the controller for a refresh now.
    """

    state: str
    rule: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    refresh: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read the JSON form; unknown names are left out."""
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})
