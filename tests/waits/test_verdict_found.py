"""Stories in which the model of the controller found the wait wrong, made short; each stays as a case of its own."""

from __future__ import annotations

from typing import Any

from tests.waits.model import Content, World
from tests.waits.waiter import Waiter, expecting


def waiting(content: Content | None, *, webhook: bool = True, match: str = "exact", **world: Any) -> Waiter:
    """Return a wait for a commit that has just been pushed."""
    controller = World(contents=[Content()], commits=[0], **{"delays": [0.1], **world})
    controller.begin()
    expected = controller.commit(content, webhook=webhook)
    return Waiter(controller, expected, expecting(expected, match=match, oracle=match == "contains"))


def look(waiter: Waiter, seconds: float, pause: float = 1.0) -> str:
    """Look regularly, and return the last rule."""
    end = waiter.world.now + seconds
    while waiter.world.now < end and not waiter.over:
        waiter.world.run(pause)
        waiter.look()
    assert waiter.verdict is not None
    return waiter.verdict.rule


def test_health_of_the_old_pods_was_taken_for_that_of_the_new_ones() -> None:
    waiter = waiting(Content(rollout=45.0), lag=3.0)
    look(waiter, 100)
    assert waiter.verdict is not None
    assert waiter.verdict.state == "done"
    assert waiter.world.now > 45


def test_a_slow_comparison_outlasted_the_settle_window_on_our_clock() -> None:
    for delays in ([0.1, 25.0], [8.0, 0.6], [25.0, 1.2, 0.1], [0.6, 0.6, 12.0]):
        waiter = waiting(Content(rollout=45.0), lag=3.0, delays=delays)
        assert look(waiter, 300) == "healthy"


def test_a_dry_run_hid_that_the_pods_were_still_the_old_ones() -> None:
    waiter = waiting(Content(rollout=20.0), lag=3.0)
    world = waiter.world
    waiter.look()
    while world.operation or "operationState" not in world.status:
        world.run(0.1)
    for _ in range(12):
        world.ask(1, dry=True)
        waiter.look()
        world.run(0.5)
    assert look(waiter, 200) == "healthy"


def test_a_newer_commit_of_which_nobody_knew_what_it_contains_was_called_superseding() -> None:
    waiter = waiting(Content(rollout=45.0), match="contains")
    look(waiter, 10)
    waiter.deaf = True
    waiter.world.commit(Content(rollout=1.0), webhook=True)
    assert look(waiter, 60) == "not_compared"
    waiter.deaf = False
    assert look(waiter, 60) == "healthy"


def test_a_failure_of_the_commit_before_the_fix_was_taken_for_that_of_the_fix() -> None:
    waiter = waiting(Content(refuses=99), match="contains", retries=0, delays=[0.1, 3.0])
    waiter.world.run(20.0)
    waiter.world.closed = True  # else auto-sync starts before anybody can see the two side by side
    waiter.world.commit(Content(), webhook=True)
    assert look(waiter, 30) == "older_operation_failed"
    waiter.world.closed = False
    assert look(waiter, 200) == "healthy"


def test_a_failed_hook_left_everything_green() -> None:
    waiter = waiting(Content(hook=2.0, hook_fails=99), retries=1)
    assert look(waiter, 100) == "operation_failed"
    assert waiter.world.status["sync"]["status"] == "Synced"


def test_a_condition_that_a_closed_window_left_behind_failed_a_good_release() -> None:
    waiter = waiting(Content(refuses=1, rollout=30.0), retries=0)
    world = waiter.world
    world.run(20.0)
    assert any(item["type"] == "SyncError" for item in world.status["conditions"])
    world.closed = True
    assert world.ask(1)
    world.run(5.0)
    assert any(item["type"] == "SyncError" for item in world.status["conditions"])
    assert look(waiter, 100) == "healthy"


def test_a_ghost_of_the_operation_that_applied_it() -> None:
    waiter = waiting(Content(hook=600.0))
    world = waiter.world
    world.run(5.0)
    world.ghost()
    assert look(waiter, 500, pause=5.0) == "healthy"
    assert world.now > 300


def test_a_status_from_a_backup_is_no_news() -> None:
    waiter = waiting(Content(rollout=5.0))
    look(waiter, 8)
    waiter.world.restart(0.0, "old")
    assert look(waiter, 60) == "healthy"


def test_a_backup_hides_the_operation_that_the_pods_are_from() -> None:
    controller = World(contents=[Content()], commits=[0], delays=[3.0, 3.0, 0.0, 3.0], lag=0.7, retries=0)
    controller.begin()
    controller.run(0.3)
    controller.commit(Content(rollout=2.0), webhook=True)
    controller.run(9.0)
    expected = controller.commit(None, webhook=False)
    waiter = Waiter(controller, expected, expecting(expected, match="exact", oracle=False))
    controller.restart(0.0, "old")
    waiter.refresh()
    assert waiter.verdict is not None
    assert waiter.verdict.rule == "progressing"
    assert look(waiter, 60) == "healthy"


def test_a_partial_synchronisation_hides_that_the_one_before_it_failed() -> None:
    waiter = waiting(None, delays=[0.0, 25.0])
    world = waiter.world
    world.project_gone = True
    world.ask(1)
    while world.operation:
        world.run(0.5)
    assert world.status["operationState"]["phase"] != "Succeeded"
    world.project_gone = False
    world.ask(1, partial=True)
    assert look(waiter, 200) == "healthy"
    assert waiter.verdict is not None
    (note,) = waiter.verdict.details["warnings"]
    assert "hides how the one before it ended" in note


def test_an_operation_of_another_revision_failed_after_it_had_applied_all_that_is_wanted() -> None:
    controller = World(contents=[Content()], commits=[0], delays=[8.0, 0.0, 8.0, 8.0, 0.0], automatic=False)
    controller.begin()
    controller.run(0.3)
    controller.commit(Content(hook=4.0, hook_fails=99), webhook=True)
    controller.run(1.0)
    expected = controller.commit(None, webhook=False)
    waiter = Waiter(controller, expected, expecting(expected, match="exact", oracle=False, on_manual="fail"))
    controller.recreate()
    controller.ask(1)
    assert look(waiter, 300, pause=4.0) == "healthy"
