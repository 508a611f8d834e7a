"""The wait against a model of the controller: never a false green, never a red that heals, and always an end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.waits.model import Content, World
from tests.waits.waiter import Waiter, expecting

contents = st.builds(
    Content,
    refuses=st.sampled_from([0, 0, 0, 1, 3, 99]),
    hook=st.sampled_from([0.0, 0.0, 4.0, 30.0]),
    hook_fails=st.sampled_from([0, 0, 1, 99]),
    rollout=st.sampled_from([0.0, 2.0, 10.0, 45.0]),
    stumbles=st.sampled_from([0.0, 0.0, 8.0, 50.0, 90.0]),
    broken=st.sampled_from([False, False, False, True]),
    unreadable=st.sampled_from([False, False, False, False, True]),
)
simple = st.builds(Content, hook=st.sampled_from([0.0, 4.0]), rollout=st.sampled_from([0.0, 2.0, 10.0, 45.0]))
#: What fails, and nothing else.
failing = st.sampled_from(
    [
        Content(hook=4.0, hook_fails=99),
        Content(hook=0.1, hook_fails=1),
        Content(refuses=99),
        Content(refuses=1),
    ]
)
times = st.sampled_from([0.1, 0.4, 0.9, 2.0, 5.0, 11.0, 30.0, 61.0, 125.0])
delays = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.2, 3.0, 8.0, 25.0]), min_size=1, max_size=5)


class ControllerMachine(RuleBasedStateMachine):
    """One wait, one controller, and everything that may come between them."""

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        draw: Any = data.draw
        self.world = World(
            contents=[Content()],
            commits=[0],
            delays=draw(delays, "delays"),
            automatic=draw(st.sampled_from([True, True, False]), "automatic"),
            heals=draw(st.booleans(), "heals"),
            retries=draw(st.sampled_from([0, 1, 2, 5, -1]), "retries"),
            lag=draw(st.sampled_from([0.0, 0.7, 3.0]), "lag"),
        )
        self.world.begin()
        self.world.run(draw(st.sampled_from([0.3, 7.9, 100.0]), "before"))
        for before in draw(st.just([]) | st.lists(failing | contents, max_size=1), "earlier"):
            self.world.commit(before, webhook=True)
            self.world.run(draw(st.sampled_from([1.0, 9.0, 60.0]), "earlier delay"))
        content = draw(st.none() | simple | failing | contents, "content")
        expected = self.world.commit(content, webhook=draw(st.booleans(), "webhook"))
        self.world.run(draw(st.sampled_from([0.0, 0.4, 3.0, 40.0, 200.0]), "delay"))
        self.world.closed = draw(st.sampled_from([False, False, True]), "closed")
        match, oracle = draw(
            st.sampled_from([("exact", False), ("contains", True), ("contains", False), ("exact", True)]),
            "match",
        )
        self.waiter = Waiter(
            self.world,
            expected,
            expecting(
                expected,
                match=match,
                oracle=oracle,
                on_manual=draw(st.sampled_from(["fail", "wait"]), "on_manual"),
                on_window=draw(st.sampled_from(["wait", "wait", "fail"]), "on_window"),
                on_out_of_sync=draw(st.sampled_from(["wait", "wait", "fail"]), "on_out_of_sync"),
                require_applied=draw(st.sampled_from([False, False, False, True]), "require_applied"),
                timeout=1800.0,
            ),
            windows=True,
            started=self.world.now,
        )

    def going(self) -> bool:
        return hasattr(self, "waiter") and not self.waiter.over

    @precondition(going)
    @rule(seconds=times)
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @precondition(going)
    @rule(obey=st.booleans(), age=st.sampled_from([0, 0, 0, 1, 2, 5]))
    def look(self, obey: bool, age: int) -> None:
        self.waiter.look(age=age, obey=obey)

    @precondition(going)
    @rule(count=st.integers(2, 12), pause=st.sampled_from([0.5, 2.0, 5.0, 9.0]))
    def look_regularly(self, count: int, pause: float) -> None:
        for _ in range(count):
            if not self.waiter.over:
                self.world.run(pause)
                self.waiter.look()

    @precondition(going)
    @rule()
    def refresh(self) -> None:
        self.waiter.refresh()

    @precondition(going)
    @rule(kind=st.sampled_from(["unreachable", "nonsense", "denied"]))
    def look_in_vain(self, kind: str) -> None:
        if kind != "denied" or self.waiter.memory.troubles == 0:
            self.waiter.trouble(kind)

    @precondition(going)
    @rule()
    def defer(self) -> None:
        self.waiter.forget()

    @precondition(going)
    @rule(deaf=st.booleans())
    def git_is_unreachable(self, deaf: bool) -> None:
        self.waiter.deaf = deaf

    @precondition(going)
    @rule(content=st.none() | simple | failing | contents, webhook=st.booleans())
    def commit(self, content: Content | None, webhook: bool) -> None:
        self.world.commit(content, webhook=webhook)

    @precondition(going)
    @rule()
    def somebody_else_refreshes(self) -> None:
        self.world.annotate()

    @precondition(going)
    @rule(back=st.integers(0, 2), dry=st.sampled_from([False, False, True]), partial=st.booleans())
    def somebody_syncs(self, back: int, dry: bool, partial: bool) -> None:
        revision = max(0, len(self.world.commits) - 1 - back)
        self.world.ask(revision, dry=dry, partial=partial)

    @precondition(going)
    @rule()
    def somebody_terminates(self) -> None:
        self.world.terminate()

    @precondition(going)
    @rule()
    def operation_becomes_a_ghost(self) -> None:
        self.world.ghost()

    @precondition(going)
    @rule()
    def somebody_edits_the_cluster(self) -> None:
        self.world.drift()

    @precondition(going)
    @rule(seconds=st.sampled_from([0.5, 4.0, 40.0, 100.0]))
    def health_flaps(self, seconds: float) -> None:
        self.world.flap(seconds)

    @precondition(going)
    @rule(on=st.booleans())
    def repository_outage(self, on: bool) -> None:
        self.world.outage, self.world.outage_since = on, self.world.now

    @precondition(going)
    @rule(closed=st.booleans())
    def sync_window(self, closed: bool) -> None:
        self.world.closed = closed

    @precondition(going)
    @rule(alive=st.booleans())
    def controller_stalls(self, alive: bool) -> None:
        self.world.alive = alive

    @precondition(going)
    @rule(gone=st.booleans())
    def project_is_gone(self, gone: bool) -> None:
        self.world.project_gone = gone

    @precondition(going)
    @rule(skew=st.sampled_from([0.0, 0.0, -1.0, 1.0]), status=st.sampled_from(["", "", "lost", "old"]))
    def controller_restarts(self, skew: float, status: str) -> None:
        self.world.restart(skew, status)

    @precondition(going)
    @rule()
    def application_is_created_again(self) -> None:
        self.world.recreate()

    @rule()
    def nothing_happens(self) -> None:
        """There is always something that can be done, also when the wait is over."""

    def teardown(self) -> None:
        if hasattr(self, "waiter") and not self.waiter.over:
            self.waiter.finish()


class TestController(ControllerMachine.TestCase):  # type: ignore[misc, name-defined]
    """The same stories at each run."""

    settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)


@pytest.mark.nightly
@pytest.mark.timeout(0)
class TestControllerAtLength(ControllerMachine.TestCase):  # type: ignore[misc, name-defined]
    """As many as the profile says, others at each run."""

    settings = settings(stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
