"""The shared stream of a server, against a source that does as it is told: who is woken, what is asked, what is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Observed, Operation, Source, Trouble
from airflow_pipeops.waits.streams import pacing
from airflow_pipeops.waits.streams import stream as streams
from airflow_pipeops.waits.streams.pacing import Pace
from airflow_pipeops.waits.streams.seats import Seat
from airflow_pipeops.waits.streams.snapshot import Reading
from airflow_pipeops.waits.streams.stream import SharedStream, shared_stream
from airflow_pipeops.waits.verdict import Expectation, Memory
from tests.waits.judging import Wait

NEW, OLD = "a" * 40, "b" * 40
#: Everything about a hundred times as fast as in life.
FAST = Pace(
    tick=0.01,
    linger=0.2,
    arrival=0.1,
    resync=60.0,
    resyncs=1000.0,
    polls=1000.0,
    refresh_pause=0.3,
    refresh_most=1.0,
    pause=0.02,
    pause_most=0.1,
    blind=0.3,
)


@dataclass(frozen=True)
class Ref:
    name: str
    namespace: str = ""
    project: str = ""


def app(name: str = "api", health: str = "Healthy", revision: str = NEW, at: float = 100.0) -> Observed:
    operation = Operation(
        "Succeeded", revisions=(revision,), has_result=True, started_at=10.0, finished_at=20.0
    )
    return Observed(
        name=name,
        namespace="argocd",
        uid="u",
        sources=(Source("https://git/x", "main"),),
        desired=(revision,),
        sync="Synced",
        health=health,
        health_since=15.0,
        compared_at=at,
        operation=operation,
        automatic=True,
    )


class Server:
    """What a server does, as the test says: its applications, what it drops, and every question it was asked."""

    home = None

    def __init__(self, *apps: Observed) -> None:
        self.apps = {one.name: one for one in apps}
        self.version = 1
        self.streams, self.polls = True, True
        self.asked: list[str] = []
        self.listeners: list[asyncio.Queue[Any]] = []
        self.stream_error: PipeOpsError | None = None
        self.read_error: PipeOpsError | None = None
        self.silent = False
        #: A stream ends as soon as it has told what there is.
        self.brief = False
        self.most_at_once = self._at_once = 0
        self.connections = 0

    # what the test does

    def set(self, observed: Observed, *, tell: bool = True) -> None:
        self.version += 1
        self.apps[observed.name] = observed
        if tell:
            self.tell(self._reading(observed.name))

    def remove(self, name: str) -> None:
        del self.apps[name]
        self.tell(Reading("argocd", name, None, None))

    def tell(self, item: Any) -> None:
        for listener in self.listeners:
            listener.put_nowait(item)

    def cut(self) -> None:
        self.tell(Unreachable("cut"))

    def count(self, kind: str) -> int:
        return sum(one.startswith(kind) for one in self.asked)

    # what it answers

    def _reading(self, name: str) -> Reading:
        if name not in self.apps:
            raise NotFound(f"{name} is not there")
        return Reading("argocd", name, self.version, self.apps[name])

    async def connect(self) -> Server:
        self.connections += 1
        return self

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._at_once == 0, "a question was under way when the connection was closed"

    async def events(self) -> AsyncGenerator[Reading, None]:
        self.asked.append("stream")
        if self.stream_error:
            raise self.stream_error
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.listeners.append(queue)
        try:
            for name in [] if self.silent else list(self.apps):
                yield self._reading(name)
            while True:
                item = Unreachable("ended at once") if self.brief else await queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.listeners.remove(queue)

    async def read(self, ref: Ref) -> Reading:
        self.asked.append(f"read {ref.name}")
        return await self._answer(ref)

    async def refresh(self, ref: Ref) -> Reading | None:
        self.asked.append(f"refresh {ref.name}")
        if ref.name in self.apps:
            found = self.apps[ref.name]
            self.version += 1
            self.apps[ref.name] = replace(found, compared_at=(found.compared_at or 0.0) + 10.0)
        return await self._answer(ref)

    async def _answer(self, ref: Ref) -> Reading:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0.01)
            if self.read_error:
                raise self.read_error
            return self._reading(ref.name)
        finally:
            self._at_once -= 1

    def refused(self, error: PipeOpsError) -> bool:
        return isinstance(error, AccessDenied) and "401" in str(error)


def wait(name: str = "api", **more: Any) -> Wait:
    expectation = Expectation(revisions={"*": NEW}, **{"settle": 0.0, **more})
    return Wait(Ref(name), expectation)


class World:
    """A stream on a server, and whoever waits by it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stream = shared_stream("key", "test", server.connect)
        self.tasks: list[asyncio.Task[None]] = []

    def follow(self, *waits: Any, interval: float = 0.1, fail_fast: bool = False) -> asyncio.Task[None]:
        async def work() -> None:
            seat = Seat(self.stream, waits, interval)
            try:
                await seat.follow(fail_fast=fail_fast)
            finally:
                seat.close()

        self.tasks.append(asyncio.ensure_future(work()))
        return self.tasks[-1]

    async def until(self, fact: Callable[[], Any], seconds: float = 60.0) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not fact():
            assert asyncio.get_running_loop().time() < end, (self.server.asked, self.stream.listener.why)
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.stream.close()
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PACE", FAST)


def run(server: Server, story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def inside() -> None:
        world = World(server)
        try:
            await asyncio.wait_for(story(world), 120)
        finally:
            await world.end()

    asyncio.run(inside())


def test_a_thousand_waits_share_one_stream_and_each_ends_on_an_answer() -> None:
    names = [f"app-{number}" for number in range(1000)]
    server = Server(*(app(name, "Progressing") for name in names))
    waits = {name: wait(name, require_refresh=False) for name in names}

    async def story(world: World) -> None:
        for one in waits.values():
            world.follow(one)
        await world.until(lambda: all(one.state.verdict.rule == "progressing" for one in waits.values()))
        # One was read to learn which namespace is meant; all others are known by the stream.
        assert server.count("read") <= FAST.reads
        before = server.count("read")
        for name in names:
            server.set(app(name))
        await world.until(lambda: all(task.done() for task in world.tasks))
        assert {one.state.verdict.state for one in waits.values()} == {"done"}
        assert server.count("stream") == 1
        assert server.count("read") - before <= 1100
        assert server.most_at_once <= FAST.reads

    run(server, story)


def test_only_those_concerned_are_woken() -> None:
    server = Server(app("one", "Progressing"), app("other", "Progressing"))
    judged: list[str] = []

    class Counting(Wait):
        async def judge(self, seen: Observed | Trouble) -> Any:
            judged.append(self.ref.name)
            return await super().judge(seen)

    async def story(world: World) -> None:
        slow = wait(settle=60.0).state.expectation
        one, other = (Counting(Ref(name), slow) for name in ("one", "other"))
        world.follow(one)
        world.follow(other)
        await world.until(lambda: {"one", "other"} <= set(judged) and world.stream.listener.arrived)
        await asyncio.sleep(0.05)
        judged.clear()
        server.set(app("one", "Degraded"))
        await world.until(lambda: judged)
        await asyncio.sleep(0.05)
        assert set(judged) == {"one"}

    run(server, story)


def test_a_burst_of_changes_wakes_a_wait_a_few_times_only() -> None:
    server = Server(app("api", "Progressing"))
    judged: list[str] = []

    class Counting(Wait):
        async def judge(self, seen: Observed | Trouble) -> Any:
            judged.append("")
            return await super().judge(seen)

    async def story(world: World) -> None:
        world.follow(Counting(Ref("api"), wait().state.expectation))
        await world.until(lambda: judged)
        await asyncio.sleep(0.05)
        judged.clear()
        for number in range(3000):
            server.set(app("api", "Progressing", at=200.0 + number))
        await world.until(lambda: world.stream.board.entry(Ref("api")).observed.compared_at == 3199.0)
        assert len(judged) < 300

    run(server, story)


def test_a_change_that_the_server_does_not_tell_is_found_by_reading_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PACE", replace(FAST, resync=0.4))
    server = Server(app("api", "Progressing"))
    waiting = wait()

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.set(app("api", at=200.0), tell=False)
        await world.until(task.done)
        assert server.count("stream") == 1

    run(server, story)


def test_hearsay_is_never_the_last_word() -> None:
    """The stream told "Healthy", and nothing of what came after: the server drops events silently."""
    server = Server(app("api", "Progressing"))
    waiting = wait(settle=0.3)

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.set(replace(app("api", at=200.0), health_since=200.0))
        await world.until(lambda: waiting.state.verdict.rule == "settling")
        server.set(replace(app("api", "Degraded", at=210.0), health_since=205.0), tell=False)
        await world.until(lambda: waiting.state.verdict.rule == "degraded")
        assert not task.done()

    run(server, story)


def test_what_was_heard_before_a_cut_completes_nothing() -> None:
    server = Server(app("api", "Progressing"))
    waiting = wait(settle=0.2)

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.set(replace(app("api", at=200.0), health_since=200.0))
        await world.until(lambda: waiting.state.verdict.rule == "settling")
        server.stream_error = server.read_error = Unreachable("down")
        server.cut()
        await world.until(lambda: waiting.state.verdict.rule == "unreachable")
        await asyncio.sleep(0.4)
        assert not task.done()
        server.stream_error = server.read_error = None
        await world.until(task.done)
        assert waiting.state.verdict.state == "done"

    run(server, story)


def test_cuts_every_moment_do_not_stop_a_wait() -> None:
    server = Server(app("api", "Progressing"))
    waiting = wait(settle=0.3)

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.set(replace(app("api", at=200.0), health_since=200.0))
        while not task.done():
            server.cut()
            await asyncio.sleep(0.05)
        assert waiting.state.verdict.state == "done"
        assert server.connections == 1

    run(server, story)


def test_a_stream_that_is_cut_at_its_beginning_each_time_starves_no_wait() -> None:
    """What it tells is forgotten with it before anybody has looked; so it is asked for by name, as without a stream."""

    class Cut(Server):
        async def events(self) -> AsyncGenerator[Reading, None]:
            self.asked.append("stream")
            for name in self.apps:
                yield self._reading(name)
            raise Unreachable("EOF")

    server, one = Cut(app(health="Progressing")), wait(require_refresh=False)
    unseen = wait("unseen", transport_grace=0.2)

    async def story(world: World) -> None:
        world.follow(one)
        await world.until(lambda: one.state.verdict.rule == "progressing")
        server.set(app(), tell=False)
        await world.until(lambda: one.state.verdict.state == "done")
        server.read_error = Unreachable("no answer")
        world.follow(unseen)
        await world.until(lambda: unseen.state.verdict.state == "failed")

    run(server, story)


def test_a_stream_that_ends_as_soon_as_it_has_told_what_there_is_is_polled_instead() -> None:
    """What it told is forgotten with it, so nobody who waits by it would ever see anything."""
    server = Server(app("api", "Progressing"))
    server.brief = True
    waiting = wait()

    async def story(world: World) -> None:
        task = world.follow(waiting, interval=0.05)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.apps["api"] = app("api", at=200.0)
        await world.until(task.done)
        assert waiting.state.verdict.state == "done"

    run(server, story)


def test_a_stream_that_tells_nothing_is_polled_instead() -> None:
    server = Server(app("api", "Progressing"))
    server.silent = True
    waiting = wait()

    async def story(world: World) -> None:
        task = world.follow(waiting, interval=0.05)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.apps["api"] = app("api", at=200.0)
        await world.until(task.done)

    run(server, story)


@pytest.mark.parametrize("kind", ["refused", "poll"])
def test_polling_where_no_stream_can_be_had(kind: str) -> None:
    server = Server(app("api", "Progressing"))
    server.stream_error = AccessDenied("no streams through this proxy (403)")
    server.streams = kind == "refused"
    waiting = wait(settle=0.1)

    async def story(world: World) -> None:
        task = world.follow(waiting, interval=0.05)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.apps["api"] = app("api", at=200.0)
        await world.until(task.done)
        assert waiting.state.verdict.state == "done"
        assert server.streams or server.count("stream") == 0

    run(server, story)


def test_an_old_answer_completes_nothing_where_it_is_polled() -> None:
    server = Server(app("api", "Progressing"))
    server.streams = False
    waiting = wait(settle=0.2)

    async def story(world: World) -> None:
        task = world.follow(waiting, interval=0.05)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        server.apps["api"] = replace(app("api", at=200.0), health_since=200.0)
        await world.until(lambda: waiting.state.verdict.rule == "settling")
        server.read_error = Unreachable("down")
        await world.until(lambda: waiting.state.verdict.rule == "unreachable")
        assert not task.done()

    run(server, story)


def test_a_refused_credential_ends_all_waits_after_one_more_try() -> None:
    names = [f"app-{number}" for number in range(200)]
    server = Server(*(app(name, "Progressing") for name in names))
    waits = [wait(name) for name in names]

    async def story(world: World) -> None:
        for one in waits:
            world.follow(one)
        await world.until(lambda: all(one.state.verdict.rule == "progressing" for one in waits))
        before = len(server.asked)
        server.stream_error = server.read_error = AccessDenied("expired (401)")
        server.cut()
        await world.until(lambda: all(task.done() for task in world.tasks))
        assert {type(task.exception()) for task in world.tasks} == {AccessDenied}
        # The stream was tried with the old credential and with one that was read anew.
        assert server.connections == 2
        assert len(server.asked) - before <= 2 + 2 * FAST.reads
        # Whoever comes in this moment learns of it without asking again.
        asked = len(server.asked)
        late = world.follow(wait("app-1"))
        await world.until(late.done)
        assert len(server.asked) == asked

    run(server, story)


def test_a_credential_that_was_renewed_is_read_and_used() -> None:
    server = Server(app("api", "Progressing"))
    waiting = wait()

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "progressing")
        connect = server.connect

        async def renewed() -> Server:
            server.stream_error = server.read_error = None
            return await connect()

        world.stream.listener._connect = renewed  # type: ignore[assignment]
        server.stream_error = server.read_error = AccessDenied("expired (401)")
        # The open stream goes on; it is a question that is refused first.
        server.set(app("api", at=200.0))
        await world.until(task.done)
        assert task.exception() is None
        assert waiting.state.verdict.state == "done"

    run(server, story)


def test_one_that_is_missing_twice_is_missing() -> None:
    server = Server(app("other"))
    waiting = wait("api")

    async def story(world: World) -> None:
        task = world.follow(waiting)
        await world.until(task.done)
        assert waiting.state.verdict.rule == "app_not_found"
        assert server.count("read api") == 2

    run(server, story)


def test_news_of_others_does_not_keep_the_missing_from_being_asked_for() -> None:
    server = Server(app("other", revision=OLD))
    waiting = wait("api")

    async def story(world: World) -> None:
        world.follow(wait("other", timeout=None))
        await world.until(lambda: world.stream.board.home)
        task, number = world.follow(waiting), 0
        while not task.done():
            number += 1
            assert number < 600, "nobody asked"
            server.set(app("other", revision=OLD, at=200.0 + number))
            await asyncio.sleep(0.02)
        assert waiting.state.verdict.rule == "app_not_found"

    run(server, story)


def test_a_deletion_is_told_and_confirmed() -> None:
    server = Server(app("api", "Progressing"))
    waiting, gone = wait(), wait(gone=True)

    async def story(world: World) -> None:
        world.follow(waiting)
        world.follow(gone)
        await world.until(lambda: waiting.state.memory.looked and gone.state.memory.looked)
        server.remove("api")
        await world.until(lambda: all(task.done() for task in world.tasks), 8.0)
        assert waiting.state.verdict.rule == "app_deleted"
        assert (gone.state.verdict.state, gone.state.verdict.rule) == ("done", "gone")

    run(server, story)


def test_an_error_that_no_look_can_mend_ends_the_wait() -> None:
    server = Server(app("other"))
    server.read_error = InvalidInput("redirected elsewhere")

    async def story(world: World) -> None:
        task = world.follow(wait("api"))
        await world.until(task.done)
        assert isinstance(task.exception(), InvalidInput)

    run(server, story)


def test_a_stream_is_kept_while_waits_come_and_go_and_closed_after_the_last() -> None:
    server = Server(*(app(f"app-{number}") for number in range(5)))

    async def story(world: World) -> None:
        for number in range(5):
            task = world.follow(wait(f"app-{number}", require_refresh=False))
            await world.until(task.done)
            await asyncio.sleep(0.05)
        assert server.count("stream") == 1
        await world.until(lambda: not server.listeners)
        again = shared_stream("key", "test", server.connect)
        assert again is not world.stream

    run(server, story)


def test_refreshes_are_asked_for_once_for_all_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "OWN_COMPARISON", 0.0)
    server = Server(app("api", revision=OLD))
    waits = [wait(timeout=None) for _ in range(50)]

    async def story(world: World) -> None:
        for one in waits:
            world.follow(one)
        await asyncio.sleep(1.5)
        # Pauses of 0.3, 0.6, 1.0 s: whoever asks, and however many.
        assert 1 <= server.count("refresh") <= 4
        assert all(one.state.memory.acknowledged for one in waits)

    run(server, story)


def test_a_refresh_that_was_wanted_before_unjudged_news_waits_for_the_judgement() -> None:
    server = Server(app("api", revision=OLD))

    async def story(world: World) -> None:
        world.stream.enter()
        ticket = world.stream.join(Ref("api", "argocd"), 60.0, lambda _: None)
        await world.until(lambda: world.stream.sight(ticket))
        wanted_at = world.stream.clock()
        server.set(app("api", revision=OLD, at=200.0))
        await world.until(lambda: world.stream.board.entry(ticket.ref).number > ticket.heard)
        # Asked for at that moment: nobody can have seen to it before the news came.
        world.stream.asker.want_refresh(ticket, wanted_at)
        await asyncio.sleep(5 * FAST.tick)
        assert server.count("refresh") == 0
        world.stream.sight(ticket)
        world.stream.asker.want_refresh(ticket, world.stream.clock())
        await world.until(lambda: server.count("refresh") == 1)
        world.stream.exit()

    run(server, story)


def test_a_free_place_is_taken_at_once_and_not_with_the_next_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PACE", replace(FAST, tick=0.2, reads=2))
    names = [f"app-{number}" for number in range(40)]
    server = Server(*(app(name) for name in names))
    waits = [wait(name, require_refresh=False) for name in names]

    async def story(world: World) -> None:
        for one in waits:
            world.follow(one)
        began = world.stream.clock()
        await world.until(lambda: all(task.done() for task in world.tasks))
        # Twenty pairs of answers of 10 ms each; a pair with each beat would take 4 s.
        assert world.stream.clock() - began < 3.5
        assert server.most_at_once <= 2

    run(server, story)


def test_a_controller_that_compares_by_itself_is_asked_once_only() -> None:
    server = Server(app("api", revision=OLD))
    waiting = wait(timeout=None)

    async def story(world: World) -> None:
        world.follow(waiting)
        for number in range(10):
            await asyncio.sleep(0.1)
            server.set(app("api", revision=OLD, at=200.0 + number))
        assert server.count("refresh") == 1

    run(server, story)


def test_a_refresh_that_was_asked_for_before_a_wait_began_does_not_count_for_it() -> None:
    server = Server(app("api", revision=OLD))
    early, late = wait(timeout=None), wait(timeout=None)

    async def story(world: World) -> None:
        world.follow(early)
        await world.until(lambda: early.state.memory.acknowledged)
        world.follow(late)
        await world.until(lambda: late.state.memory.looked)
        await asyncio.sleep(0.1)
        assert late.state.memory.acknowledged == 0
        await world.until(lambda: late.state.memory.acknowledged)

    run(server, story)


def test_a_refresh_of_the_worker_is_not_asked_for_again_at_once() -> None:
    server = Server(app("api", revision=OLD))

    async def story(world: World) -> None:
        waiting = wait(timeout=None)
        now = waiting._clock()
        waiting.state.memory = Memory(
            now=now, started_at=now, looked=True, acknowledged=1, asks=1, asked_at=now, finished_at=20.0
        )
        world.follow(waiting)
        await world.until(lambda: waiting.state.verdict.rule == "not_compared")
        await asyncio.sleep(0.1)
        assert server.count("refresh") == 0

    run(server, story)


def test_several_waits_of_one_trigger_and_the_first_failure() -> None:
    bad = replace(
        app("bad"),
        sync="OutOfSync",
        operation=Operation(
            "Failed", revisions=(NEW,), asked=(NEW,), has_result=True, started_at=10.0, finished_at=20.0
        ),
    )
    server = Server(app("good", "Progressing"), bad)

    async def story(world: World) -> None:
        waits = [wait("good"), wait("bad")]
        task = world.follow(*waits, fail_fast=True)
        await world.until(task.done)
        assert [one.state.verdict.state for one in waits] == ["wait", "failed"]

    run(server, story)


def test_several_are_done_only_if_all_are_at_one_moment() -> None:
    """The first is done, and ill again before the second is done: never was all of it live."""
    server = Server(app("one"), app("two", "Progressing"))

    async def story(world: World) -> None:
        one, two = (wait(name, require_refresh=False) for name in ("one", "two"))
        task = world.follow(one, two)
        await world.until(lambda: one.over and two.state.verdict.rule == "progressing")
        server.set(app("one", "Progressing", at=101.0))
        server.set(app("two", at=101.0))
        await world.until(lambda: two.over and not one.over)
        assert not task.done()
        reads = server.count("read")
        server.set(app("one", at=102.0))
        await world.until(task.done)
        assert one.done
        assert two.done
        assert server.count("read") > reads

    run(server, story)


def test_an_older_answer_of_a_lagging_replica_is_not_believed() -> None:
    server = Server(app("api"))

    async def story(world: World) -> None:
        board = world.stream.board
        board.told(Reading("argocd", "api", 7, app("api", "Degraded")))
        board.told(Reading("argocd", "api", 6, app("api", "Healthy")))
        entry = board.snapshot.get(("argocd", "api"))
        assert entry is not None
        assert entry.observed.health == "Degraded"
        board.told(Reading("argocd", "api", 5, replace(app("api"), uid="another")))
        assert entry.observed.uid == "another"

    run(server, story)


def test_a_deadline_comes_also_where_nothing_can_be_seen() -> None:
    server = Server(app("api"))
    server.stream_error = server.read_error = Unreachable("down")

    async def story(world: World) -> None:
        waiting = wait(timeout=0.5)
        task = world.follow(waiting)
        await world.until(task.done, 8.0)
        assert waiting.state.verdict.rule == "deadline"

    run(server, story)


def test_a_server_that_has_too_much_to_do_is_left_alone_for_a_while() -> None:
    names = [f"app-{number}" for number in range(100)]
    server = Server(*(app(name) for name in names))
    server.streams, server.read_error = False, Unreachable("too much to do (429)")

    async def story(world: World) -> None:
        for name in names:
            world.follow(wait(name), interval=0.02)
        await asyncio.sleep(1.0)
        # A hundred waits every 0.02 s would be 5,000 questions.
        assert server.count("read") <= 20 * FAST.reads

    run(server, story)


def test_many_old_states_renew_the_stream_instead_of_a_thousand_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PACE", replace(FAST, resync=0.4, renewal=5))
    names = [f"app-{number}" for number in range(50)]
    server = Server(*(app(name, "Progressing") for name in names))
    waits = [wait(name, require_refresh=False) for name in names]

    async def story(world: World) -> None:
        for one in waits:
            world.follow(one)
        await world.until(lambda: server.count("stream") >= 3)
        assert server.count("read") <= 2 * FAST.reads

    run(server, story)


def test_streams_are_told_apart_by_key_and_loop() -> None:
    async def inside() -> SharedStream:
        one = shared_stream("a", "a", Server().connect)
        assert shared_stream("a", "a", Server().connect) is one
        assert shared_stream("b", "b", Server().connect) is not one
        return one

    assert asyncio.run(inside()) is not asyncio.run(inside())
