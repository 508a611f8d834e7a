"""One look beside its expectation: what the rules of any controller ask of it."""

from __future__ import annotations

from functools import cached_property

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.waits.expectation import Expectation, Memory
from airflow_pipeops.waits.sources import wanted_of
from airflow_pipeops.waits.status import Observed, Operation, shorts

#: After the end of an operation it takes so long until a comparison is surely in a later second of the server's clock.
NEXT_SECOND = 1.05
#: How long our own operation or request may stay invisible (an API server reads from a cache), seconds.
VISIBLE_WITHIN = 60.0
#: So many acknowledged refreshes must have found that a commit is not there before it is taken for the whole truth.
ABSENT_AFTER = 3


class Look:
    """One observation, with everything that several rules ask of it; a controller may add what is its own."""

    def __init__(self, observed: Observed, expectation: Expectation, memory: Memory) -> None:
        self.observed, self.expectation, self.memory = observed, expectation, memory
        #: The expected revision per source, as given.
        self.asked, self.problem = wanted_of(observed.sources, expectation, observed.called)
        #: ``contains`` without anybody who can tell.
        self.exact_only = expectation.match == "contains" and not expectation.oracle
        op = self.believed
        #: The operation that counts: a dry run changes nothing.
        self.operation = None if op is None or op.dry_run else op
        #: The controller could compare: what it says about revisions is no branch name and no leftover.
        self.compared = observed.sync in ("Synced", "OutOfSync") and bool(observed.desired)
        self.desired_ok = self.acceptable(observed.desired)
        ids = self.operation.ids.values() if self.operation else ()
        self.ours = bool(expectation.operation_id) and expectation.operation_id in ids
        self.why_stale = self._why_stale()
        self.fresh = not self.why_stale

    @property
    def believed(self) -> Operation | None:
        """The last operation, as far as what is said of it is to be believed."""
        return self.observed.operation

    @cached_property
    def wanted(self) -> dict[int, str]:
        """The revision per source that the controller must compare with."""
        return self.asked

    def acceptable(self, revisions: tuple[str, ...]) -> bool:
        """Whether every expected source is at an acceptable revision."""
        return not self.problem and all(
            index < len(revisions) and self.as_good(wanted, revisions[index])
            for index, wanted in self.wanted.items()
        )

    def as_good(self, wanted: str, revision: str) -> bool:
        """Whether a revision will do in place of the wanted one."""
        return wanted == revision or (
            self.oracle_speaks and self.expectation.contained.get(f"{wanted}..{revision}") is True
        )

    def known(self, wanted: str, revision: str) -> bool:
        """Whether it is settled if the one contains the other; it may still be unknown only where somebody can tell."""
        if not self.oracle_speaks or wanted == revision or not (is_sha(wanted) and is_sha(revision)):
            return True
        return f"{wanted}..{revision}" in self.expectation.contained

    @property
    def settled(self) -> bool:
        """The controller could compare, and it is known of each compared revision whether it will do."""
        return self.compared and all(
            index < len(self.observed.desired) and self.known(wanted, self.observed.desired[index])
            for index, wanted in self.wanted.items()
        )

    @property
    def oracle_speaks(self) -> bool:
        """Somebody can tell which revision contains which."""
        return self.expectation.match == "contains" and self.expectation.oracle

    def settled_by_server(self) -> float:
        """For how many seconds health has held by the server's own clock, counted from the last operation's end."""
        observed = self.observed
        since, ended = observed.health_since, self.operation.finished_at if self.operation else None
        if since is None or observed.compared_at is None or not self.fresh:
            return 0.0
        return max(0.0, observed.compared_at - max(since, ended if ended is not None else since))

    @property
    def ended_at(self) -> float | None:
        """When the last operation ended, by the server's clock; what a dry run hides had ended when that began."""
        op = self.observed.operation
        return (op.started_at if op.dry_run else op.finished_at) if op else None

    @property
    def ended(self) -> str:
        """The name under which it is remembered since when that end is known."""
        return f"ended:{self.ended_at}"

    def held(self, name: str) -> float:
        """For how many seconds this has been so without a gap."""
        memory = self.memory
        return memory.now - memory.since.get(name, memory.now)

    def _why_stale(self) -> str:
        """What the status is older than; empty if it tells the present."""
        observed, memory = self.observed, self.memory
        if observed.compared_at is None:
            return "the first comparison"
        if self.expectation.require_refresh and not memory.acknowledged:
            first = memory.first_compared_at
            if not memory.looked or (first is not None and observed.compared_at <= first):
                return "the beginning of this wait"
        ended = self.operation.finished_at if self.operation else None
        if ended is not None and observed.compared_at <= ended:
            return "the end of the last synchronisation"
        if observed.other_spec and (memory.spec_after is None or memory.acknowledged <= memory.spec_after):
            return "the last change of the application's sources"
        return ""

    @property
    def tips(self) -> tuple[str, ...]:
        """The newest commits that were seen of the branches that the expected commits should be on."""
        if not self.compared:
            return ()
        return tuple(
            self.observed.desired[index] for index in self.asked if index < len(self.observed.desired)
        )

    @property
    def absent(self) -> bool:
        """Somebody who knows says that one of the branches does not contain its expected commit."""
        if not self.oracle_speaks:
            return False
        pairs = zip(self.asked.items(), self.tips, strict=False)
        return any(
            self.expectation.contained.get(f"{wanted}..{tip}") is False
            and not self.observed.sources[index].pinned
            for (index, wanted), tip in pairs
        )

    @property
    def expected(self) -> str:
        """The expected revisions as people write them."""
        return shorts(tuple(self.wanted.values())) if self.wanted else "any revision"

    @property
    def targets(self) -> str:
        """What the application's sources follow."""
        return ", ".join(dict.fromkeys(repr(source.target or "HEAD") for source in self.observed.sources))

    @property
    def state(self) -> str:
        """What health is about: it changes whenever an earlier spell of the same health says nothing any more."""
        observed, ended = self.observed, self.operation.finished_at if self.operation else None
        return f"{observed.health}|{','.join(observed.desired)}|{ended}|{observed.health_since}"

    def asks(self) -> dict[tuple[str, str], None]:
        """The pairs (expected, revision) that somebody should answer."""
        found: dict[tuple[str, str], None] = {}
        for index, wanted, revision in self.comparable():
            # An OCI artifact of Flux says which commit it is from.
            versioned = self.observed.sources[index].versioned and not self.observed.reconciled
            commits = is_sha(revision) and is_sha(wanted) and not versioned
            if commits and revision != wanted and f"{wanted}..{revision}" not in self.expectation.contained:
                found[wanted, revision] = None
        return found

    def comparable(self) -> list[tuple[int, str, str]]:
        """What may contain what is wanted: ``(source index, wanted revision, revision)``."""
        return [
            (index, wanted, revisions[index])
            for index, wanted in self.wanted.items()
            for revisions in self.seen()
            if index < len(revisions)
        ]

    def seen(self) -> tuple[tuple[str, ...], ...]:
        """The revisions per source that are named anywhere, as far as they matter."""
        observed = self.observed
        if not self.oracle_speaks:
            return (observed.desired,)
        targets = tuple(source.target for source in observed.sources)
        return (
            observed.desired,
            self.operation.at if self.operation else (),
            observed.deployed,
            targets,
        )

    def remember(self, memory: Memory) -> Memory:
        """Return a memory with what only looks of this kind need."""
        return memory
