"""The service's track, in a world that the test makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow_pipeops.demo.service_track import ServiceTrack


class World:
    """Production, which a commit of somebody else heals a few times before the watcher has seen that it is down."""

    def __init__(self, healed_unseen: int) -> None:
        self.healed_unseen, self.scaled, self.up = healed_unseen, 0, True
        self.started: set[str] = set()

    def scale_behind_git(self, name: str, environment: str, replicas: int) -> None:
        self.scaled, self.up = self.scaled + 1, bool(replicas)

    def endpoint(self, application: str, path: str) -> dict[str, str] | None:
        return {"version": "2"} if self.up else None

    def runs(self, dag: str) -> set[str]:
        return {"before"} | self.started

    def wait(self, what: str, look: Any) -> Any:
        for _ in range(20):
            if (found := look()) is not None:
                return found
            if what != "production is down" and not self.up:
                if self.scaled > self.healed_unseen:
                    self.started.add("noticed")
                self.up = True
        raise AssertionError(f"waited in vain: {what}")


def test_a_difference_that_was_healed_before_anybody_saw_it_is_made_again() -> None:
    for unseen in range(3):
        world = World(unseen)
        teller: Any = SimpleNamespace(
            claims=None,
            **{name: getattr(world, name) for name in ("scale_behind_git", "endpoint", "runs", "wait")},
        )
        track = ServiceTrack(teller)
        assert track.noticed({"before"}) == "noticed"
        assert world.scaled == unseen + 1
