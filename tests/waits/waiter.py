"""A wait beside the model of the controller: it looks in every way there is, and its verdicts are held to the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.waits.judging import decide, questions
from tests.waits.model import SHAS, World, sha

#: Rules that a policy or the clock decides; that they speak is checked by tables.
BY_POLICY = {"deadline", "sync_window"}
#: What the server says of a window that is closed; who looks asks for it, too.
CLOSED = {"activeWindows": [{"kind": "deny", "schedule": "* * * * *", "duration": "1h"}]}


@dataclass
class Waiter:
    """One wait.

    :param expected: index of the commit that is waited for.
    :param deaf: nobody answers the questions about ancestry.
    :param windows: it asks which sync windows are closed, as the operators do.
    """

    world: World
    expected: int
    expectation: Expectation
    deaf: bool = False
    windows: bool = False
    memory: Memory = field(default_factory=Memory)
    verdict: Verdict | None = None
    started: float = 0.0
    troubled_since: float | None = None
    told: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.verdict is not None and self.verdict.state != "wait"

    @property
    def good(self) -> set[int]:
        """The revisions that are as good as the expected one."""
        if self.expectation.match == "contains" and self.expectation.oracle:
            return set(range(self.expected, len(self.world.commits)))
        return {self.expected}

    def look(self, *, age: int = 0, obey: bool = True) -> None:
        """Look, perhaps at what was true some seconds ago; and once more with a refresh where that is called for."""
        world = self.world
        found = len(world.versions) - 1
        for _ in range(age):
            if found > 0 and world.versions[found][0] > world.now - 30.0:
                found -= 1
        self.judge(found, refreshed=False)
        if obey and self.verdict and self.verdict.refresh and not self.over:
            self.refresh()

    def refresh(self) -> None:
        """Ask the controller to compare, and look at its answer; there may be none."""
        world = self.world
        world.annotate()
        for _ in range(30):
            world.run(0.5)
            if not world.annotated:
                self.judge(len(world.versions) - 1, refreshed=True)
                return

    def trouble(self, kind: str) -> None:
        if self.troubled_since is None:
            self.troubled_since = self.world.now
        self.take(Trouble(kind, "x"), len(self.world.versions) - 1)

    def judge(self, index: int, *, refreshed: bool) -> None:
        self.troubled_since = None
        application = json.loads(json.dumps(self.world.versions[index][1]))
        observed = observe(
            application,
            refreshed=refreshed,
            sync_windows=CLOSED if self.windows and self.world.closed else {},
        )
        if not self.deaf:
            for wanted, revision in questions(observed, self.expectation, self.memory):
                known = {
                    **self.expectation.contained,
                    f"{wanted}..{revision}": SHAS[revision] >= SHAS[wanted],
                }
                self.expectation = replace(self.expectation, contained=known)
        self.take(observed, index)

    def take(self, observed: Observed | Trouble, index: int) -> None:
        self.verdict, self.memory = decide(observed, self.expectation, self.memory, 5000.0 + self.world.now)
        self.told.append(
            f"{self.world.now:.1f} {self.verdict.state} {self.verdict.rule}: {self.verdict.reason}"
        )
        if self.verdict.state == "done":
            self.check_done(observed, index)
        elif self.verdict.state == "failed":
            self.check_failed(observed, index)

    def forget(self) -> None:
        """Cross a deferral."""
        self.memory = Memory.from_json(json.loads(json.dumps(self.memory.to_json())))
        self.expectation = Expectation.from_json(json.loads(json.dumps(self.expectation.to_json())))

    def check_done(self, observed: Any, index: int) -> None:
        assert isinstance(observed, Observed)
        world, story = self.world, "\n".join(self.told[-12:])
        written, application, began, _ = world.versions[index]
        compared = SHAS.get(application["status"]["sync"]["revision"])
        assert compared in self.good, f"done at a revision that does not contain the expected one\n{story}"
        asked = application.get("operation", {}).get("sync", {"dryRun": True})
        assert asked.get("dryRun"), f"done with an operation in flight\n{story}"
        green = world.was_green(self.good, began - world.lag, world.now)
        assert green, f"done, and never applied and healthy since {began - world.lag:.1f}\n{story}"
        if world.ended and world.ended[0] in self.good and world.ended[2] <= written:
            assert world.ended[1], f"done, and its last operation failed\n{story}"

    def check_failed(self, observed: Any, index: int) -> None:
        assert self.verdict is not None
        world, rule, story = self.world, self.verdict.rule, "\n".join(self.told[-12:])
        if rule in BY_POLICY:
            return
        if rule == "unreachable":
            assert self.troubled_since is not None
            assert world.now - self.troubled_since >= self.expectation.transport_grace
        elif rule == "recreated":
            assert world.uid != 1
        elif rule == "deleting":
            assert world.deleting
        elif rule in ("degraded", "comparison_error"):
            self.check_lasting(rule, story)
        else:
            self.check_hopeless(rule, story, world.versions[index][2])

    def check_lasting(self, rule: str, story: str) -> None:
        """For as long as the grace, nobody could have read anything better; a comparison from a cache reads nothing."""
        world, expectation = self.world, self.expectation
        grace = expectation.degraded_grace if rule == "degraded" else expectation.comparison_grace
        better = "Healthy" if rule == "degraded" else "Synced"
        part = "health" if rule == "degraded" else "sync"
        least = 1 if rule == "degraded" else 3
        for written, application, _, level in world.versions:
            if level >= least and world.now - grace < written <= world.now:
                assert application["status"].get(part, {}).get("status") != better, (
                    f"{rule} too soon\n{story}"
                )

    def check_hopeless(self, rule: str, story: str, began: float) -> None:
        """Left to itself, with all that is in its way removed, the controller does not get there.

        Nobody can know of a better commit that was pushed after the comparison had begun that the verdict rests on.
        """
        if any(self.world.pushed.get(revision, 0.0) >= began for revision in self.good - {self.expected}):
            return
        other = self.world.fork()
        other.outage = other.closed = other.project_gone = False
        other.alive = True
        world_drifted = other.at(other.now)[1]
        for _ in range(60):
            if rule == "not_applied":
                drifted = world_drifted or other.at(other.now)[1]
                assert (
                    drifted or other.ended is None or other.ended[0] not in self.good or not other.ended[1]
                ), story
                other.run(60.0)
                continue
            assert not other.is_green(self.good), (
                f"failed as {rule} at {self.world.now:.1f}, and well at {other.now:.1f}\n{story}"
            )
            other.run(60.0)

    def finish(self) -> None:
        """Leave the controller alone, look regularly, and see that the wait ends, and well where all is well."""
        world = self.world
        world.outage = world.closed = world.project_gone = False
        world.alive, self.deaf = True, False
        green_since: float | None = None
        while not self.over:
            world.run(4.0 if green_since is None or world.now - green_since < 60 else 15.0)
            self.look()
            if not world.is_green(self.good):
                green_since = None
            elif green_since is None:
                green_since = world.now
            elif self.expectation.require_applied is False:
                # A refresh is asked for at most every two minutes, and a ghost is told by its age.
                assert world.now - green_since < 600 or self.over, (
                    "still waiting, and long well\n" + "\n".join(self.told[-12:])
                )
            begun = 5000.0 + world.now - (self.memory.started_at or 5000.0 + world.now)
            assert begun < (self.expectation.timeout or 1e9) + 120, "no end"


def expecting(revision: int, **more: Any) -> Expectation:
    return Expectation(revisions={"*": sha(revision)}, **more)
