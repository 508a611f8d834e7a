"""One look at an application beside its expectation: what the rules of the wait ask of it."""

from __future__ import annotations

import math

from airflow_pipeops.waits.expectation import Expectation, Memory
from airflow_pipeops.waits.sources import wanted_of
from airflow_pipeops.waits.status import Hydration, Observed, Operation, is_sha, shorts

__all__ = ["ABSENT_AFTER", "GHOST_AFTER", "NEXT_SECOND", "VISIBLE_WITHIN", "Look", "is_ghost", "wanted_of"]

#: A running operation whose request is gone, and which is this much older (seconds) than a later comparison, is a ghost.
GHOST_AFTER = 300.0
#: After the end of an operation it takes so long until a comparison is surely in a later second of the server's clock.
NEXT_SECOND = 1.05
#: How long our own operation or request may stay invisible (an API server reads from a cache), seconds.
VISIBLE_WITHIN = 60.0
#: So many acknowledged refreshes must have found that a commit is not there before it is taken for the whole truth.
ABSENT_AFTER = 3
#: Of the commits that a hydrator made, so many are remembered.
_RENDERED = 20


class Look:
    """One observation, with everything that several rules ask of it."""

    def __init__(self, observed: Observed, expectation: Expectation, memory: Memory) -> None:
        self.o, self.e, self.m = observed, expectation, memory
        #: The expected revision per source, as given.
        self.asked, self.problem = wanted_of(observed.sources, expectation)
        #: ``contains`` without anybody who can tell.
        self.exact_only = expectation.match == "contains" and not expectation.oracle
        self.hydrating = bool(observed.hydration and self.asked and expectation.basis == "desired")
        self.rendered: tuple[str, ...] = ()
        #: What a hydrator made of the expected revision.
        self.rendered = self._rendered(observed.hydration) if self.hydrating else ()
        #: The revision per source that the controller must compare with.
        self.wanted = {0: self.rendered[-1]} if self.rendered else {} if self.hydrating else self.asked
        operation = observed.operation
        self.ghost = bool(operation and is_ghost(operation, observed.compared_at))
        #: The operation that counts: a dry run changes nothing, and a ghost will never end.
        self.operation = None if operation is None or operation.dry_run or self.ghost else operation
        op = self.operation
        #: The operation that is under way; a dry run, too, since it hides how the one before it ended.
        self.running: Operation | None = None
        if (
            operation
            and not self.ghost
            and (operation.queued or operation.phase in ("Running", "Terminating"))
        ):
            self.running = operation
        #: The controller could compare: what it says about revisions is no branch name and no leftover.
        self.compared = observed.sync in ("Synced", "OutOfSync") and bool(observed.desired)
        self.desired_ok = self.acceptable(observed.desired)
        self.applied_ok = bool(op and self.acceptable(op.at))
        #: The newest entry of the history: a whole operation, hooks and all, that ended well.
        self.deployed_ok = bool(observed.deployed) and self.acceptable(observed.deployed)
        self.ours = bool(op and expectation.operation_id and expectation.operation_id in op.ids.values())
        self.why_stale = self._why_stale()
        self.fresh = not self.why_stale

    def acceptable(self, revisions: tuple[str, ...]) -> bool:
        """Whether every expected source is at an acceptable revision."""
        if self.problem or (self.hydrating and not self.rendered):
            return False
        return all(
            index < len(revisions) and self.as_good(wanted, revisions[index])
            for index, wanted in self.wanted.items()
        )

    def as_good(self, wanted: str, revision: str) -> bool:
        if wanted == revision or revision in self.rendered:
            return True
        return self._oracle_speaks and self.e.contained.get(f"{wanted}..{revision}") is True

    def known(self, wanted: str, revision: str) -> bool:
        """Whether it is settled if the one contains the other; it may still be unknown only where somebody can tell."""
        if not self._oracle_speaks or wanted == revision or not (is_sha(wanted) and is_sha(revision)):
            return True
        return f"{wanted}..{revision}" in self.e.contained

    @property
    def settled(self) -> bool:
        """The controller could compare, and it is known of each compared revision whether it will do."""
        return self.compared and all(
            index < len(self.o.desired) and self.known(wanted, self.o.desired[index])
            for index, wanted in self.wanted.items()
        )

    @property
    def _oracle_speaks(self) -> bool:
        return self.e.match == "contains" and self.e.oracle

    def settled_by_server(self) -> float:
        """For how many seconds health has held by the server's own clock, counted from the last operation's end."""
        since, ended = self.o.health_since, self.operation.finished_at if self.operation else None
        if since is None or self.o.compared_at is None or not self.fresh:
            return 0.0
        return max(0.0, self.o.compared_at - max(since, ended if ended is not None else since))

    @property
    def ended_at(self) -> float | None:
        """When the last operation ended, by the server's clock; what a dry run hides had ended when that began."""
        op = self.o.operation
        return (op.started_at if op.dry_run else op.finished_at) if op else None

    @property
    def ended(self) -> str:
        """The name under which it is remembered since when that end is known."""
        return f"ended:{self.ended_at}"

    def judged_after(self) -> float:
        """How many seconds after the end of the last operation the comparison began, by the server's clock."""
        ended = self.ended_at
        if ended is None or self.o.compared_at is None:
            return math.inf
        return self.o.compared_at - ended

    @property
    def worth_comparing(self) -> bool:
        """Whether a comparison that begins now would say enough.

        After an operation, one in the same second would prove nothing; one at the end of the settle window proves both that
        the status is newer and that health is not that of the old pods. Whether the new pods are ready by then does not
        matter: they tell of that themselves.
        """
        ended, compared = self.ended_at, self.o.compared_at
        if not self.m.acknowledged or ended is None or compared is None or compared > ended:
            return True
        return self.held(self.ended) >= max(NEXT_SECOND, self.e.settle)

    def held(self, name: str) -> float:
        """For how many seconds this has been so without a gap."""
        return self.m.now - self.m.since.get(name, self.m.now)

    def _why_stale(self) -> str:
        """What the status is older than; empty if it tells the present."""
        if self.o.compared_at is None:
            return "the first comparison"
        if self.e.require_refresh and not self.m.acknowledged:
            first = self.m.first_compared_at
            if not self.m.looked or (first is not None and self.o.compared_at <= first):
                return "the beginning of this wait"
        ended = self.operation.finished_at if self.operation else None
        if ended is not None and self.o.compared_at <= ended:
            return "the end of the last synchronisation"
        if self.o.other_spec and (self.m.spec_after is None or self.m.acknowledged <= self.m.spec_after):
            return "the last change of the application's sources"
        return ""

    def _rendered(self, hydration: Hydration | None) -> tuple[str, ...]:
        if hydration is None or not hydration.done:
            return self.m.rendered
        # A commit that changes nothing is not rendered again: what was rendered before it stands for it, too.
        good = any(
            dry and all(self.as_good(wanted, dry) for wanted in self.asked.values())
            for dry in (hydration.done_dry, hydration.compared_dry)
        )
        if not good or hydration.done in self.m.rendered[-1:]:
            return self.m.rendered
        return (*self.m.rendered, hydration.done)[-_RENDERED:]

    @property
    def passed(self) -> bool:
        """It was live once and has been replaced, or the compared revision is known to include it."""
        if any(self.o.sources[index].pinned for index in self.asked) or not self.wanted:
            return False
        replaced = all(wanted in self.o.replaced for wanted in self.wanted.values()) and not self.deployed_ok
        return replaced or (
            self.e.match == "exact"
            and self.e.oracle
            and all(
                index < len(self.o.desired)
                and self.e.contained.get(
                    f"{wanted}..{self.o.desired[index]}", wanted == self.o.desired[index]
                )
                for index, wanted in self.wanted.items()
            )
        )

    @property
    def tips(self) -> tuple[str, ...]:
        """The newest commits that were seen of the branches that the expected commits should be on."""
        if self.hydrating and self.o.hydration:
            return (self.o.hydration.compared_dry or self.o.hydration.dry,)
        if not self.compared:
            return ()
        return tuple(self.o.desired[index] for index in self.asked if index < len(self.o.desired))

    @property
    def absent(self) -> bool:
        """Somebody who knows says that one of the branches does not contain its expected commit."""
        if not self._oracle_speaks:
            return False
        pairs = zip(self.asked.items(), self.tips, strict=False)
        return any(
            self.e.contained.get(f"{wanted}..{tip}") is False and not self.o.sources[index].pinned
            for (index, wanted), tip in pairs
        )

    @property
    def only_pruning(self) -> bool:
        """Nothing differs but what should be removed."""
        differing = [item for item in self.o.resources if item.sync == "OutOfSync"]
        return bool(differing) and all(item.prune for item in differing)

    @property
    def only_healing_failed(self) -> bool:
        """What failed was a partial synchronisation of a revision that is wholly deployed and in sync all the same."""
        op = self.operation
        failed = op is not None and op.failed and op.partial and not self.ours
        return failed and self.e.basis == "desired" and self.o.sync == "Synced" and self.deployed_ok

    @property
    def fully_applied(self) -> bool:
        """A whole operation applied an acceptable revision."""
        op = self.operation
        whole = op is not None and op.phase == "Succeeded" and not op.partial and self.applied_ok
        return whole or self.deployed_ok

    @property
    def promoted_to(self) -> str:
        """The branch that somebody must bring the rendered commit to, where the hydrator does not write there itself."""
        hydration = self.o.hydration
        return hydration.branch if hydration and self.rendered and hydration.staging else ""

    @property
    def revisions(self) -> tuple[str, ...]:
        """The revisions that a green verdict would be about."""
        return self.operation.at if self.e.basis == "applied" and self.operation else self.o.desired

    @property
    def expected(self) -> str:
        """The expected revisions as people write them."""
        return shorts(tuple(self.wanted.values())) if self.wanted else "any revision"

    @property
    def targets(self) -> str:
        """What the application's sources follow."""
        return ", ".join(dict.fromkeys(repr(source.target or "HEAD") for source in self.o.sources))

    @property
    def state(self) -> str:
        """What health is about: it changes whenever an earlier spell of the same health says nothing any more."""
        op = self.operation
        return f"{self.o.health}|{','.join(self.o.desired)}|{op.finished_at if op else None}|{self.o.health_since}"

    def asks(self) -> dict[tuple[str, str], None]:
        """The pairs (expected, revision) that somebody should answer."""
        found: dict[tuple[str, str], None] = {}
        seen = [
            (index, wanted, revisions[index])
            for index, wanted in self.wanted.items()
            for revisions in self._seen()
            if index < len(revisions)
        ]
        if self.hydrating and self.o.hydration and self._oracle_speaks:
            hydration = self.o.hydration
            dries = (hydration.done_dry, hydration.compared_dry, hydration.dry, self.o.sources[0].target)
            seen += [(index, wanted, dry) for index, wanted in self.asked.items() for dry in dries]
        for index, wanted, revision in seen:
            # An OCI artifact of Flux says which commit it is from.
            versioned = self.o.sources[index].versioned and not self.o.reconciled
            commits = is_sha(revision) and is_sha(wanted) and not versioned
            if commits and revision != wanted and f"{wanted}..{revision}" not in self.e.contained:
                found[wanted, revision] = None
        return found

    def _seen(self) -> tuple[tuple[str, ...], ...]:
        if not self._oracle_speaks:
            return (self.o.desired,)
        targets = () if self.hydrating else tuple(source.target for source in self.o.sources)
        return self.o.desired, self.operation.at if self.operation else (), self.o.deployed, targets


def is_ghost(operation: Operation, compared_at: float | None) -> bool:
    """Whether an operation shows as running and nobody works on it any more."""
    if operation.queued or operation.phase not in ("Running", "Terminating"):
        return False
    begun = operation.started_at
    old = begun is not None and compared_at is not None and compared_at - begun > GHOST_AFTER
    return old or (operation.phase == "Running" and operation.finished_at is not None)
