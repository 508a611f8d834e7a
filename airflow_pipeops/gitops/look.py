"""One look at an application beside its expectation: what the rules of the wait ask of it."""

from __future__ import annotations

from airflow_pipeops.gitops.expectation import Expectation, Memory
from airflow_pipeops.gitops.observed import Observed, Operation, Source, is_sha, same_repository, shorts

#: A running operation whose request is gone, and which is this much older (seconds) than a later comparison, is a ghost.
GHOST_AFTER = 300.0


class Look:
    """One observation, with everything that several rules ask of it."""

    def __init__(self, observed: Observed, expectation: Expectation, memory: Memory) -> None:
        self.o, self.e, self.m = observed, expectation, memory
        self.wanted, self.problem = wanted_of(observed.sources, expectation)
        operation = observed.operation
        self.ghost = bool(operation and is_ghost(operation, observed.compared_at))
        #: The operation that counts: a dry run changes nothing, and a ghost will never end.
        self.operation = None if operation is None or operation.dry_run or self.ghost else operation
        op = self.operation
        self.running = bool(op and (op.queued or op.phase in ("Running", "Terminating")))
        self.desired_ok = self.acceptable(observed.desired)
        self.applied_ok = bool(op and self.acceptable(op.at))
        self.ours = bool(op and expectation.operation_id and expectation.operation_id in op.ids.values())
        self.fresh = self._compared_since_start() and self._compared_since_operation()

    def acceptable(self, revisions: tuple[str, ...]) -> bool:
        """Whether every expected source is at an acceptable revision."""
        if self.problem:
            return False
        return all(
            index < len(revisions) and self.as_good(wanted, revisions[index])
            for index, wanted in self.wanted.items()
        )

    def as_good(self, wanted: str, revision: str) -> bool:
        if wanted == revision:
            return True
        known = self.e.match == "contains" and self.e.oracle
        return known and self.e.contained.get(f"{wanted}..{revision}") is True

    def known(self, wanted: str, revision: str) -> bool:
        """Whether it is settled if the one contains the other; it may still be unknown only where somebody can tell."""
        asked = self.e.match == "contains" and self.e.oracle
        return not asked or f"{wanted}..{revision}" in self.e.contained

    def settled_by_server(self) -> float:
        """For how many seconds health has held by the server's own clock, counted from the last operation's end."""
        since, ended = self.o.health_since, self.operation.finished_at if self.operation else None
        if since is None or self.o.compared_at is None or not self.fresh:
            return 0.0
        return max(0.0, self.o.compared_at - max(since, ended if ended is not None else since))

    def _compared_since_start(self) -> bool:
        if not self.e.require_refresh or self.m.acknowledged:
            return True
        first, last = self.m.first_compared_at, self.o.compared_at
        return self.m.looked and last is not None and (first is None or last > first)

    def _compared_since_operation(self) -> bool:
        ended = self.operation.finished_at if self.operation else None
        return ended is None or (self.o.compared_at is not None and self.o.compared_at > ended)

    def held(self, name: str) -> float:
        """For how many seconds this has been so without a gap."""
        return self.m.now - self.m.since.get(name, self.m.now)

    @property
    def revisions(self) -> tuple[str, ...]:
        """The revisions that a green verdict would be about."""
        return self.operation.at if self.e.basis == "applied" and self.operation else self.o.desired

    @property
    def expected(self) -> str:
        """The expected revisions as people write them."""
        return shorts(tuple(self.wanted.values())) if self.wanted else "any revision"

    @property
    def state(self) -> str:
        """What health is about: it changes whenever an earlier spell of the same health says nothing any more."""
        op = self.operation
        return f"{self.o.health}|{','.join(self.o.desired)}|{op.finished_at if op else None}|{self.o.health_since}"


def wanted_of(sources: tuple[Source, ...], e: Expectation) -> tuple[dict[int, str], tuple[str, str] | None]:
    """Return the expected revision per source index, or which rule says that this can never be met, and why."""
    wanted: dict[int, str] = {}
    if e.match == "any" or e.basis == "idle":
        return wanted, None
    if not e.revisions:
        return wanted, (
            "revision_missing",
            "no revision is expected; give one, or match any revision explicitly",
        )
    for key, revision in e.revisions.items():
        indexes = _indexes(sources, key)
        if not indexes:
            return {}, ("source_unknown", f"the application has no source {key!r}; it has {_names(sources)}")
        first = sources[indexes[0]]
        if not all(same_repository(sources[index].repo, first.repo) for index in indexes):
            names = _names(sources)
            return {}, (
                "source_ambiguous",
                f"the application has several sources ({names}); say which one is meant",
            )
        if not first.versioned and not is_sha(revision):
            return {}, (
                "revision_not_sha",
                f"revision {revision!r} is no full commit id, and a branch or tag can move",
            )
        wanted.update(dict.fromkeys(indexes, revision))
    return wanted, None


def _indexes(sources: tuple[Source, ...], key: str) -> list[int]:
    if key == "*":
        git = [index for index, source in enumerate(sources) if not source.versioned]
        return git or list(range(len(sources)))
    if key.isdecimal():
        return [int(key)] if len(key) < 4 and int(key) < len(sources) else []
    return [index for index, source in enumerate(sources) if same_repository(source.repo, key)]


def _names(sources: tuple[Source, ...]) -> str:
    return ", ".join(source.repo for source in sources) or "none"


def is_ghost(operation: Operation, compared_at: float | None) -> bool:
    """Whether an operation shows as running and nobody works on it any more."""
    if operation.queued or operation.phase != "Running":
        return False
    begun = operation.started_at
    old = begun is not None and compared_at is not None and compared_at - begun > GHOST_AFTER
    return operation.finished_at is not None or old
