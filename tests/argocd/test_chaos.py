"""Waits in Airflow's own TriggerRunner against the sandbox over real HTTP, while everything breaks that can.

In each story something breaks; at its end every wait was reported once, rightly, and the requests that the server saw were
few. The clocks of the shared stream are shortened where the rule is the same; see ``PACE``.
"""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argocd.triggers import ArgoCDSteadyTrigger, ArgoCDWaitTrigger
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.exceptions import AccessDenied, WaitTimeout
from tests.argocd.triggerer import Triggerer
from tests.demo.sandbox.conftest import Repository, Server

#: A tenth of the usual pauses.
PACE = {
    "pause": 0.1,
    "pause_most": 2.0,
    "refresh_pause": 6.0,
    "refresh_most": 60.0,
    "arrival": 1.0,
    "blind": 3.0,
}


class World:
    """A sandbox with applications of one ConfigMap each, which are healthy at once, and a triggerer.

    Both are shared by all stories; each story has a connection of its own, and so a stream of its own.
    """

    def __init__(self, folder: Path, apps: int, interval: float = 1.0) -> None:
        (folder / "airflow").mkdir()
        self.server = Server(folder / "state", interval=interval)
        self.repository = Repository(folder / "desired")
        self.names = [f"app-{number:03d}" for number in range(apps)]
        self.connections: dict[str, dict[str, Any]] = {}
        self.triggerer = Triggerer(folder / "airflow", self.connections, pace=PACE)
        self.values = itertools.count(1)
        try:
            self._fill()
        except BaseException:
            self.stop()  # nobody else will: a sandbox that is left behind slows everything after it
            raise

    def _fill(self) -> None:
        self.triggerer.start()
        self.commit()
        for name in self.names:
            self.server.call("POST", "/api/v1/applications?validate=false", self._application(name))
        for name in self.names:
            self.server.until(name, lambda app: app["status"]["sync"]["status"] == "Synced", 90)

    def _application(self, name: str) -> dict[str, Any]:
        source = {"repoURL": self.repository.url, "path": name, "targetRevision": "main"}
        return {
            "metadata": {"name": name},
            "spec": {
                "project": "default",
                "source": source,
                "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
                "syncPolicy": {"automated": {"selfHeal": True}},
            },
        }

    def commit(self) -> str:
        """Change all applications by one commit."""
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
        text = json.dumps({**manifest, "data": {"value": str(next(self.values))}})
        files: dict[str, str | None] = {f"{name}/settings.json": text for name in self.names}
        return self.repository.write(files)

    def story(self, name: str) -> Story:
        """Begin a story."""
        self.connections[name] = {
            "conn_type": "argocd",
            "host": self.server.url,
            "password": self.server.tokens["deployer"],
            "extra": json.dumps({"project": "default", "timeout": 5}),
        }
        return Story(self, name)

    def stop(self) -> None:
        """End both."""
        self.triggerer.stop()
        self.server.stop()


class Story:
    """One story: its waits, their events, and what was asked of the server meanwhile."""

    def __init__(self, world: World, connection: str) -> None:
        self.world, self.server, self.triggerer, self.names = (
            world,
            world.server,
            world.triggerer,
            world.names,
        )
        self.connection, self.rows = connection, list[int]()
        self._before = self._requests()
        self._first = len(self.triggerer.events)
        self._asked = self.triggerer.asked["GetConnection"]

    def _requests(self) -> Counter[str]:
        return Counter(self.server.call("GET", "/sandbox/admin/requests", agent="airflow-pipeops"))

    @property
    def requests(self) -> dict[str, int]:
        """What the server was asked by us, and not by the test, since the story began."""
        now = self._requests()
        return {kind: now[kind] - self._before[kind] for kind in now}

    @property
    def connections_read(self) -> int:
        """How often a connection was read."""
        return self.triggerer.asked["GetConnection"] - self._asked

    def wait_for(self, revision: str, **more: Any) -> None:
        """Store a wait for each application."""
        expectation = {"revisions": {"*": revision}, "settle": 1.0, **more}
        for name in self.names:
            self.rows.append(
                self.triggerer.add(
                    ArgoCDWaitTrigger(
                        argocd_conn_id=self.connection,
                        waits=[{"app": name, "project": "", "expectation": expectation}],
                        poll_interval=1.0,
                        dwell=0.0,
                    )
                )
            )

    def watching(self) -> None:
        """Return when the triggerer has been given all waits, and listens."""
        self.triggerer.until(lambda: set(self.rows) <= self.triggerer._given)
        self.triggerer.until(lambda: self._requests()["open"] >= 1)
        time.sleep(2.0)  # all are judged once

    @property
    def events(self) -> list[Any]:
        """The payloads of the story's events so far."""
        return [payload for number, payload, _ in self.triggerer.events[self._first :] if number in self.rows]

    def end(self, seconds: float = 120.0) -> dict[str, Decided]:
        """Wait for all events; each must have come once."""
        self.triggerer.until(lambda: not set(self.rows) & set(self.triggerer.rows), seconds)
        assert not self.triggerer.failures, self.triggerer.failures
        assert len(self.events) == len(self.rows)
        decided = [item for payload in self.events for item in payload.get("decided", {}).items()]
        assert len(dict(decided)) == len(decided), "something was reported twice"
        return {app: Decided.from_json(one) for app, one in decided}

    def all_done(self, decided: dict[str, Decided], revision: str) -> None:
        """Every wait ended well, and rightly."""
        assert set(decided) == set(self.names)
        assert {one.verdict.state for one in decided.values()} == {"done"}
        for name in self.names:
            assert self.server.get(name)["status"]["operationState"]["syncResult"]["revision"] == revision

    def give_up(self) -> None:
        """Cancel the waits that are left."""
        for number in self.rows:
            self.triggerer.cancel(number)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("chaos"), 12)
    yield world
    world.stop()


@pytest.fixture
def story(world: World, request: pytest.FixtureRequest) -> Iterator[Story]:
    story = world.story("".join(letter if letter.isalnum() else "_" for letter in request.node.name))
    yield story
    story.server.clear()
    story.give_up()


def test_all_waits_share_one_stream(story: Story) -> None:
    revision = story.world.commit()
    story.wait_for(revision)
    story.all_done(story.end(), revision)
    requests, count = story.requests, len(story.names)
    assert requests["streams"] == 1
    # For each a refresh at the beginning and one after its operation, and the last word.
    assert requests["refreshes"] <= 2 * count
    assert requests["reads"] <= 2 * count + 8
    assert story.connections_read == 1


def test_the_stream_is_cut_again_and_again(story: Story) -> None:
    story.server.fault("drop_stream", path="/api/v1/stream/*", after=len(story.names) + 3)
    revision = story.world.commit()
    story.wait_for(revision)
    story.all_done(story.end(), revision)
    # With pauses that begin at 0.1 s it could have been hundreds.
    assert story.requests["streams"] <= 60


def test_bursts_of_429_and_503(story: Story) -> None:
    story.server.fault("error", path="/api/v1/*", status=503, probability=0.4)
    story.server.fault("error", path="/api/v1/*", status=429, probability=0.4)
    revision = story.world.commit()
    story.wait_for(revision)
    story.triggerer.until(lambda: story.requests["all"] >= 10)
    time.sleep(3.0)
    story.server.clear()
    story.all_done(story.end(), revision)
    assert story.requests["all"] <= 30 * len(story.names)


@pytest.mark.parametrize("ms", [200, pytest.param(3000, marks=pytest.mark.nightly)])
def test_a_slow_server(ms: int, story: Story) -> None:
    story.server.fault("delay", path="/api/v1/*", ms=ms)
    revision = story.world.commit()
    story.wait_for(revision)
    story.all_done(story.end(240), revision)


@pytest.mark.nightly
def test_a_server_that_never_answers_in_time(story: Story) -> None:
    story.server.fault("delay", path="/api/v1/*", ms=30_000)
    story.wait_for("f" * 40, timeout=12.0)
    decided = story.end()
    assert {one.verdict.rule for one in decided.values()} == {"deadline"}
    assert {type(one.error("x")) for one in decided.values()} == {WaitTimeout}
    assert {one.verdict.details["last_rule"] for one in decided.values()} == {"unreachable"}


def test_an_expired_token_ends_every_wait_once(story: Story) -> None:
    story.wait_for("f" * 40, timeout=None)
    story.watching()
    before = story.requests["all"]
    story.server.fault("error", path="/api/v1/*", status=401)
    # The stream that is open goes on, as with the real server: it is a cut that shows it, or a question.
    story.triggerer.add(_somewhere_else(story))
    story.triggerer.until(lambda: len(story.events) == len(story.names))
    assert {payload.get("type") for payload in story.events} == {AccessDenied.__name__}
    assert story.requests["all"] - before <= 10
    assert story.connections_read == 2


def _somewhere_else(story: Story) -> ArgoCDWaitTrigger:
    wait = {"app": "no-such-app", "project": "", "expectation": {"revisions": {"*": "f" * 40}}}
    return ArgoCDWaitTrigger(argocd_conn_id=story.connection, waits=[wait], dwell=0.0)


def test_a_token_that_was_renewed_is_used(story: Story) -> None:
    story.wait_for("f" * 40, timeout=None)
    story.watching()
    story.world.connections[story.connection]["password"] = story.server.tokens["admin"]
    story.server.fault("error", path="/api/v1/applications/*", status=401, count=1)
    number = story.triggerer.add(_somewhere_else(story))
    story.triggerer.until(lambda: number not in story.triggerer.rows)
    assert story.connections_read == 2
    assert not story.events


def test_a_steady_watch_uses_the_same_stream(story: Story) -> None:
    for name in story.names[:3]:
        story.rows.append(
            story.triggerer.add(
                ArgoCDSteadyTrigger(
                    argocd_conn_id=story.connection,
                    app=name,
                    watch={"duration": 3.0, "grace": 1.0},
                    poll_interval=1.0,
                    dwell=0.0,
                )
            )
        )
    story.triggerer.until(lambda: len(story.events) == 3)
    assert [payload["outcome"]["verdict"] for payload in story.events] == ["steady"] * 3
    requests = story.requests
    assert (requests["streams"], requests["refreshes"]) == (1, 0)
    assert requests["reads"] <= 8


def test_the_server_dies_and_comes_back(story: Story) -> None:
    story.wait_for("f" * 40, timeout=None)
    story.watching()
    listening = story._requests()["open"]  # the streams of earlier stories linger for a minute
    story.server.restart(signal.SIGKILL)
    story.triggerer.until(lambda: story._requests()["open"] >= 1)
    time.sleep(2.0)
    assert not story.events
    assert not story.triggerer.failures
    assert story._requests()["streams"] <= 3 * listening


def test_a_killed_triggerer_loses_nothing_and_repeats_nothing(story: Story) -> None:
    revision = story.world.commit()
    story.wait_for(revision)
    # The kill comes in the middle of the events.
    story.triggerer.until(lambda: len(story.events) >= 1, 120)
    story.triggerer.kill()
    streams = story.requests["streams"]
    story.triggerer.start()
    story.all_done(story.end(), revision)
    assert story.requests["streams"] <= streams + 1
    assert story.requests["all"] <= 8 * len(story.names)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_two_hundred_waits_survive_a_killed_triggerer(tmp_path: Path) -> None:
    # A comparison takes the sandbox about 0.15 s: two hundred of them every half minute would be all that it does.
    world = World(tmp_path, 200, interval=300.0)
    try:
        story = world.story("many")
        story.wait_for("f" * 40, timeout=None)
        story.watching()
        world.triggerer.until(lambda: story.requests["refreshes"] >= 200, 300)
        world.triggerer.kill()
        before = story.requests
        world.triggerer.start()
        story.watching()
        revision = world.commit()
        later = world.story("later")
        later.wait_for(revision)
        later.all_done(later.end(600), revision)
        after = story.requests
        assert not story.events
        assert not world.triggerer.failures
        # One stream for each connection; two refreshes and one last word for each wait, and one refresh more for
        # each that was started again: what it had learnt by then was lost with the process.
        assert after["streams"] - before["streams"] == 2
        assert after["refreshes"] - before["refreshes"] <= 3 * 200
        assert after["reads"] - before["reads"] <= 2 * 200
    finally:
        world.stop()
