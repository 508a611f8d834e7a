"""One look at an Application: what Argo CD alone has, a source hydrator and operations that nobody works on any more."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from airflow_pipeops.waits.expectation import Memory
from airflow_pipeops.waits.situation import NEXT_SECOND, Look
from airflow_pipeops.waits.status import Operation

#: A running operation whose request is gone, and which is this much older (seconds) than a later comparison, is a ghost.
GHOST_AFTER = 300.0
#: Of the commits that a hydrator made, so many are remembered.
_RENDERED = 20


class ApplicationLook(Look):
    """One look at an Application."""

    @cached_property
    def hydrating(self) -> bool:
        """What is expected must first be rendered into another branch."""
        return bool(self.observed.hydration and self.asked and self.expectation.basis == "desired")

    @cached_property
    def rendered(self) -> tuple[str, ...]:
        """What a hydrator made of the expected revision, newest last."""
        memory = self.memory
        hydration = self.observed.hydration if self.hydrating else None
        if hydration is None:
            return ()
        if not hydration.done:
            return memory.rendered
        # A commit that changes nothing is not rendered again: what was rendered before it stands for it, too.
        good = any(
            dry and all(Look.as_good(self, wanted, dry) for wanted in self.asked.values())
            for dry in (hydration.done_dry, hydration.compared_dry)
        )
        if not good or hydration.done in memory.rendered[-1:]:
            return memory.rendered
        return (*memory.rendered, hydration.done)[-_RENDERED:]

    @cached_property
    def wanted(self) -> dict[int, str]:
        """The revision per source that the controller must compare with; of a hydrator, the rendered one."""
        if self.hydrating:
            return {0: self.rendered[-1]} if self.rendered else {}
        return self.asked

    @cached_property
    def ghost(self) -> bool:
        """Whether the operation shows as running and nobody works on it."""
        observed = self.observed
        return observed.operation is not None and is_ghost(observed.operation, observed.compared_at)

    @property
    def believed(self) -> Operation | None:
        """The last operation, unless it is a ghost, which will never end."""
        return None if self.ghost else self.observed.operation

    @property
    def running(self) -> Operation | None:
        """The operation that is under way; a dry run, too, since it hides how the one before it ended."""
        observed = self.observed
        return observed.operation if in_progress(observed.operation, observed.compared_at) else None

    def acceptable(self, revisions: tuple[str, ...]) -> bool:
        """Whether every expected source is at an acceptable revision; none is before the expected one was rendered."""
        return (not self.hydrating or bool(self.rendered)) and super().acceptable(revisions)

    def as_good(self, wanted: str, revision: str) -> bool:
        """Whether a revision will do in place of the wanted one."""
        return revision in self.rendered or super().as_good(wanted, revision)

    @cached_property
    def applied_ok(self) -> bool:
        """The last operation is about an acceptable revision."""
        return self.operation is not None and self.acceptable(self.operation.at)

    @cached_property
    def deployed_ok(self) -> bool:
        """So is the newest entry of the history: a whole operation, hooks and all, that ended well."""
        return bool(self.observed.deployed) and self.acceptable(self.observed.deployed)

    def judged_after(self) -> float:
        """How many seconds after the end of the last operation the comparison began, by the server's clock."""
        ended = self.ended_at
        if ended is None or self.observed.compared_at is None:
            return math.inf
        return self.observed.compared_at - ended

    @property
    def worth_comparing(self) -> bool:
        """Whether a comparison that begins now would say enough.

        After an operation, one in the same second would prove nothing; one at the end of the settle window proves both that
        the status is newer and that health is not that of the old pods. Whether the new pods are ready by then does not
        matter: they tell of that themselves.

        :return: whether a refresh makes sense now.
        """
        ended, compared = self.ended_at, self.observed.compared_at
        if not self.memory.acknowledged or ended is None or compared is None or compared > ended:
            return True
        return self.held(self.ended) >= max(NEXT_SECOND, self.expectation.settle)

    @property
    def passed(self) -> bool:
        """It was live once and has been replaced, or the compared revision is known to include it."""
        observed, expectation = self.observed, self.expectation
        if any(observed.sources[index].pinned for index in self.asked) or not self.wanted:
            return False
        replaced = (
            all(wanted in observed.replaced for wanted in self.wanted.values()) and not self.deployed_ok
        )
        return replaced or (
            expectation.match == "exact"
            and expectation.oracle
            and all(
                index < len(observed.desired)
                and expectation.contained.get(
                    f"{wanted}..{observed.desired[index]}", wanted == observed.desired[index]
                )
                for index, wanted in self.wanted.items()
            )
        )

    @property
    def tips(self) -> tuple[str, ...]:
        """The newest commits that were seen of the branches that the expected commits should be on."""
        observed = self.observed
        if self.hydrating and observed.hydration:
            return (observed.hydration.compared_dry or observed.hydration.dry,)
        return super().tips

    @property
    def only_pruning(self) -> bool:
        """Nothing differs but what should be removed."""
        differing = [item for item in self.observed.resources if item.sync == "OutOfSync"]
        return bool(differing) and all(item.prune for item in differing)

    @property
    def only_healing_failed(self) -> bool:
        """What failed was a partial synchronisation of a revision that is wholly deployed and in sync all the same."""
        op = self.operation
        failed = op is not None and op.failed and op.partial and not self.ours
        return (
            failed
            and self.expectation.basis == "desired"
            and self.observed.sync == "Synced"
            and self.deployed_ok
        )

    @property
    def fully_applied(self) -> bool:
        """A whole operation applied an acceptable revision."""
        op = self.operation
        whole = op is not None and op.phase == "Succeeded" and not op.partial and self.applied_ok
        return whole or self.deployed_ok

    @property
    def promoted_to(self) -> str:
        """The branch that somebody must bring the rendered commit to, where the hydrator does not write there itself."""
        hydration = self.observed.hydration
        return hydration.branch if hydration and self.rendered and hydration.staging else ""

    @property
    def revisions(self) -> tuple[str, ...]:
        """The revisions that a green verdict would be about."""
        return (
            self.operation.at
            if self.expectation.basis == "applied" and self.operation
            else self.observed.desired
        )

    def comparable(self) -> list[tuple[int, str, str]]:
        """What may contain what is wanted; of a hydrator, also the commits before they are rendered."""
        observed = self.observed
        found = super().comparable()
        if self.hydrating and observed.hydration and self.oracle_speaks:
            hydration = observed.hydration
            dries = (
                hydration.done_dry,
                hydration.compared_dry,
                hydration.dry,
                observed.sources[0].target,
            )
            found += [(index, wanted, dry) for index, wanted in self.asked.items() for dry in dries]
        return found

    def seen(self) -> tuple[tuple[str, ...], ...]:
        """The revisions per source that are named anywhere; a hydrator's sources follow what is not rendered yet."""
        found = super().seen()
        return found[:-1] if self.hydrating and self.oracle_speaks else found

    def remember(self, memory: Memory) -> Memory:
        """Return a memory with the rendered commits."""
        return replace(memory, rendered=self.rendered)


def in_progress(operation: Operation | None, compared_at: float | None = None) -> bool:
    """Whether an operation is queued or running, and not only shown as running by mistake."""
    if operation is None:
        return False
    running = operation.queued or operation.phase in ("Running", "Terminating")
    return running and not is_ghost(operation, compared_at)


def not_begun(operation: Operation) -> bool:
    """Whether an operation is asked for and nothing was done yet: nobody has taken it up, or a sync window holds it back."""
    return operation.queued and (not operation.phase or "blocked by sync window" in operation.message)


def is_ghost(operation: Operation, compared_at: float | None) -> bool:
    """Whether an operation shows as running and nobody works on it any more."""
    if operation.queued or operation.phase not in ("Running", "Terminating"):
        return False
    begun = operation.started_at
    old = begun is not None and compared_at is not None and compared_at - begun > GHOST_AFTER
    return old or (operation.phase == "Running" and operation.finished_at is not None)
