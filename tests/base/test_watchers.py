"""What all watchers share, with Airflow's own streams and state stores."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import AssetStateStoreAccessor, AssetStateStoreAccessors
from airflow.triggers.shared_stream import SharedStreamManager

from airflow_pipeops.argocd.watchers import ArgoCDReleasedTrigger
from airflow_pipeops.base import watchers
from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError, Unreachable
from airflow_pipeops.flux.watchers import FluxReadyTrigger
from airflow_pipeops.git.triggers import GitPushTrigger
from airflow_pipeops.validation.triggers import DataBatchTrigger

#: What is there to be seen, or the error of looking.
WORLD: list[Any] = []


class Lamp(Watcher):
    """Tells each change of the world."""

    arguments = ("poll_interval",)
    subject = "the lamp"

    def __init__(self, poll_interval: float = 0.01) -> None:
        super().__init__()
        self.poll_interval = poll_interval

    async def look(self, source: Any) -> Any:
        seen = WORLD[-1]
        if isinstance(seen, Exception):
            raise seen
        data, _ = await self.recall("lamp")
        told = told_before(data)
        if data is not None and data["seen"] != seen:
            yield self.keyed({"seen": seen}, told, seen)
            told += 1
        self.remember("lamp", {"seen": seen, "told": told})


class Stores:
    """The state stores of assets, where Airflow's accessors find them."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}
        self.broken = False

    def accessor(self, *names: str) -> AssetStateStoreAccessors:
        return AssetStateStoreAccessors(inlets=[Asset(name=name, uri=f"x://{name}") for name in names])


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Stores:
    found = Stores()

    async def aget(self: Any, key: str, default: Any = None) -> Any:
        if found.broken:
            raise RuntimeError("the API server is away")
        return found.values.get((self._name, key), default)

    async def aset(self: Any, key: str, value: Any) -> None:
        if found.broken:
            raise RuntimeError("the API server is away")
        found.values[self._name, key] = json.loads(json.dumps(value))

    monkeypatch.setattr(AssetStateStoreAccessor, "aget", aget)
    monkeypatch.setattr(AssetStateStoreAccessor, "aset", aset)
    WORLD[:] = ["off"]
    return found


class Runner:
    """Runs a watcher as the triggerer does; what it told is stored when the test says so."""

    def __init__(self, watcher: Watcher, accessor: Any) -> None:
        self.watcher, self.told, self._sequence = watcher, [], []
        watcher.asset_state_store, watcher.trigger_id = accessor, 1
        watcher._log = logging.getLogger("watcher")  # where pytest can see it

    async def __aenter__(self) -> Runner:
        self.manager = SharedStreamManager()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.manager.stop_all()

    async def _run(self) -> None:
        key = self.watcher.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=1, trigger=self.watcher, key=key)
        async for event in self.watcher.filter_shared_stream(stream):
            self._sequence.append(self.manager.bind_pending_event(trigger_id=1, key=key))
            self.told.append(event.payload)

    def confirm(self) -> None:
        """Say that all events so far are in the database."""
        assert None not in self._sequence
        self.manager.confirm_persisted(self._sequence)

    async def until(self, fact: Callable[[], Any]) -> None:
        for _ in range(500):
            if fact():
                return
            assert not self._task.done(), self._task
            await asyncio.sleep(0.01)
        raise AssertionError(f"it did not come to that; told {self.told}")


def seen(kept: Stores, name: str = "a") -> Any:
    return kept.values.get((name, "lamp"), {}).get("seen")


def test_what_was_told_is_kept_when_airflow_has_stored_it_and_not_before(kept: Stores) -> None:
    async def story() -> list[Any]:
        keys = []
        for stored in (False, False, True):
            async with Runner(Lamp(), kept.accessor("a")) as runner:
                if not keys:
                    await runner.until(lambda: seen(kept) == "off")
                WORLD.append("on")
                await runner.until(lambda runner=runner: runner.told)
                await asyncio.sleep(0.1)
                assert seen(kept) == "off"
                if stored:
                    runner.confirm()
                    await runner.until(lambda: seen(kept) == "on")
                assert [one["seen"] for one in runner.told] == ["on"]
                keys.append(runner.told[0]["key"])
        async with Runner(Lamp(), kept.accessor("a")) as runner:
            await asyncio.sleep(0.1)
            assert runner.told == []
        return keys

    assert len(set(asyncio.run(story()))) == 1, "an event that is told again has the same key"


def test_equal_news_at_another_time_have_another_key(kept: Stores) -> None:
    async def story() -> list[Any]:
        async with Runner(Lamp(), kept.accessor("a")) as runner:
            await runner.until(lambda: seen(kept))
            for count, state in enumerate(("on", "off", "on", "off"), 1):
                WORLD.append(state)
                await runner.until(lambda count=count: len(runner.told) == count)
            return runner.told

    told = asyncio.run(story())
    assert len({one["key"] for one in told}) == 4


def test_assets_that_share_a_trigger_each_keep_what_was_told(kept: Stores) -> None:
    async def story() -> None:
        both = kept.accessor("a", "b")
        with pytest.raises(ValueError, match="2 concrete"):
            await both.aset("lamp", 1)
        async with Runner(Lamp(), both) as runner:
            await runner.until(lambda: seen(kept, "a") == seen(kept, "b") == "off")
        WORLD.append("on")
        async with Runner(Lamp(), both) as runner:
            await runner.until(lambda: runner.told)

    asyncio.run(story())


@pytest.mark.parametrize(
    "watcher",
    [
        GitPushTrigger("repo"),
        DataBatchTrigger(),
        ArgoCDReleasedTrigger(apps=["api"]),
        FluxReadyTrigger(names=["apps"]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_every_watcher_recalls_and_keeps_where_two_assets_share_it(kept: Stores, watcher: Watcher) -> None:
    async def story() -> None:
        watcher.asset_state_store = kept.accessor("a", "b")
        assert await watcher.recall("x") == (None, True)
        await watcher.keep({"x": 1})
        assert kept.values == {("a", "x"): 1, ("b", "x"): 1}
        assert watcher.shared_stream_key() is None

    asyncio.run(story())


def test_a_store_that_is_away_at_first_is_read_later_and_nothing_is_missed(kept: Stores, caplog: Any) -> None:
    kept.values["a", "lamp"] = {"seen": "off", "told": 3}
    kept.broken, WORLD[:] = True, ["on"]

    async def story() -> None:
        async with Runner(Lamp(), kept.accessor("a")) as runner:
            await asyncio.sleep(0.2)
            assert runner.told == []
            kept.broken = False
            await runner.until(lambda: runner.told)
            runner.confirm()
            await runner.until(lambda: kept.values["a", "lamp"] == {"seen": "on", "told": 4})

    asyncio.run(story())
    assert caplog.text.count("cannot be read") == 1


def test_a_store_that_cannot_be_written_is_written_later(kept: Stores) -> None:
    async def story() -> None:
        async with Runner(Lamp(), kept.accessor("a")) as runner:
            await runner.until(lambda: seen(kept))
            kept.broken = True
            WORLD.append("on")
            await runner.until(lambda: runner.told)
            runner.confirm()
            await asyncio.sleep(0.1)
            kept.broken = False
            await runner.until(lambda: seen(kept) == "on")
            assert len(runner.told) == 1

    asyncio.run(story())


@pytest.mark.parametrize("error", [Unreachable("no route"), ZeroDivisionError("s3cr3t")])
def test_trouble_is_said_once_and_survived(
    kept: Stores, caplog: Any, monkeypatch: Any, error: Exception
) -> None:
    monkeypatch.setattr(watchers, "LONGEST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)

    async def story() -> None:
        async with Runner(Lamp(), kept.accessor("a")) as runner:
            await runner.until(lambda: seen(kept))
            WORLD.append(error)
            await asyncio.sleep(0.2)
            WORLD.append("on")
            await runner.until(lambda: runner.told)
            await runner.until(lambda: "answers again" in caplog.text)

    asyncio.run(story())
    assert caplog.text.count("Cannot look at the lamp") == 1
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(("error", "first"), [(Unreachable("x"), 20), (InvalidInput("x"), 80)])
def test_pauses_grow_up_to_a_limit(kept: Stores, error: PipeOpsError, first: float) -> None:
    async def pauses() -> list[Any]:
        WORLD.append(error)
        steps = Lamp(poll_interval=10)._steps()
        found = [await anext(steps) for _ in range(8)]
        await steps.aclose()
        return found

    found = asyncio.run(pauses())
    assert 0.9 * first <= found[0] <= first
    assert all(later >= 0.9 * sooner for sooner, later in itertools.pairwise(found))
    assert 270 <= found[-1] <= 300
    assert len(set(found)) == len(found), "they are jittered"


def test_run_counts_an_event_as_taken_when_the_next_is_asked_for(kept: Stores) -> None:
    async def story() -> None:
        lamp = Lamp()
        lamp.asset_state_store = kept.accessor("a")
        events = lamp.run()
        following = asyncio.ensure_future(anext(events))
        while not seen(kept):
            await asyncio.sleep(0.01)
        WORLD.append("on")
        assert (await following).payload["seen"] == "on"
        assert seen(kept) == "off"
        following = asyncio.ensure_future(anext(events))
        while seen(kept) != "on":
            await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 10))
