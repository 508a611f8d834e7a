"""The push trigger against a real repository, through restarts and failures."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pydoc import locate

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.triggers import GitPushTrigger

LIMIT = 15


class Store:
    """What the triggerer gives a watcher: a key-value store of one asset."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.failures = 0

    @property
    def tips(self) -> list[str]:
        return [value["tip"] for value in self.values.values()]

    async def aget(self, key, default=None):
        return self.values.get(key, default)

    async def aset(self, key, value):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the API server is away")
        self.values[key] = value


@pytest.fixture(autouse=True)
def point(monkeypatch, remote):
    def to(host: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_REPO", json.dumps({"conn_type": "git_repository", "host": host}))

    to(str(remote.path))
    return to


def trigger(store=None, **options) -> GitPushTrigger:
    made = GitPushTrigger("repo", poll_interval=0.05, **options)
    made.asset_state_store = store
    made._log = logging.getLogger("trigger")  # where pytest can see it
    return made


@asynccontextmanager
async def running(made: GitPushTrigger):
    """Run a trigger as the triggerer does; yields a queue of payloads."""
    payloads: asyncio.Queue = asyncio.Queue()

    async def drive() -> None:
        async for event in made.run():
            payloads.put_nowait(event.payload)

    task = asyncio.create_task(drive())
    try:
        yield payloads
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await made.cleanup()


async def until(fact) -> None:
    async def wait() -> None:
        while not fact():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), LIMIT)


async def following(payloads) -> dict:
    """Return the next payload, without its key."""
    payload = await asyncio.wait_for(payloads.get(), LIMIT)
    assert len(payload.pop("key")) == 32
    return payload


def test_one_event_for_each_new_tip(remote):
    async def story() -> None:
        store = Store()
        first = remote.tip()
        async with running(trigger(store)) as payloads:
            await until(lambda: store.values)
            second = remote.commit("second")
            assert await following(payloads) == {
                "commit": second,
                "previous": first,
                "branch": "main",
                "git_conn_id": "repo",
            }
            third = remote.commit("third")
            assert (await following(payloads))["commit"] == third
            await asyncio.sleep(0.3)
            assert payloads.empty()
        assert store.tips == [third]

    asyncio.run(story())


def test_pushes_during_a_restart_are_one_event(remote):
    async def story() -> None:
        store = Store()
        first = remote.tip()
        async with running(trigger(store)):
            await until(lambda: store.values)
        remote.commit("second")
        third = remote.commit("third")
        async with running(trigger(store)) as payloads:
            assert await following(payloads) == {
                "commit": third,
                "previous": first,
                "branch": "main",
                "git_conn_id": "repo",
            }
            await until(lambda: third in store.tips)
        async with running(trigger(store)) as payloads:
            await asyncio.sleep(0.3)
            assert payloads.empty()

    asyncio.run(story())


def test_fire_on_start(remote):
    async def story() -> None:
        async with running(trigger(Store(), fire_on_start=True)) as payloads:
            assert await following(payloads) == {
                "commit": remote.tip(),
                "previous": None,
                "branch": "main",
                "git_conn_id": "repo",
            }

    asyncio.run(story())


def test_a_force_push_is_an_event(remote):
    async def story() -> None:
        first = remote.tip()
        second = remote.commit("second")
        store = Store()
        async with running(trigger(store)) as payloads:
            await until(lambda: store.values)
            subprocess.run(
                ["git", "push", "-q", "--force", "origin", f"{first}:main"], cwd=remote.work, check=True
            )
            assert await following(payloads) == {
                "commit": first,
                "previous": second,
                "branch": "main",
                "git_conn_id": "repo",
            }

    asyncio.run(story())


def test_force_pushes_back_and_forth_are_different_happenings(remote):
    """A, B, A, B: the tip is the same as before, and so is the one before it; each is another push."""

    async def story() -> None:
        first = remote.tip()
        second = remote.commit("second", push=False)
        store, told, keys = Store(), [], []
        async with running(trigger(store)) as payloads:
            await until(lambda: store.values)
            for tip in (second, first, second, first):
                subprocess.run(
                    ["git", "push", "-q", "--force", "origin", f"{tip}:main"], cwd=remote.work, check=True
                )
                payload = await asyncio.wait_for(payloads.get(), LIMIT)
                told.append(payload["commit"])
                keys.append(payload["key"])
        assert told == [second, first, second, first]
        assert len(set(keys)) == 4

    asyncio.run(story())


def test_a_push_that_was_not_stored_is_told_again_with_its_key(remote):
    async def story() -> None:
        store = Store()
        async with running(trigger(store)):
            await until(lambda: store.values)
        kept = dict(store.values)
        remote.commit("second")
        keys = []
        for _ in range(2):
            async with running(trigger(store)) as payloads:
                keys.append((await asyncio.wait_for(payloads.get(), LIMIT))["key"])
            store.values = dict(kept)  # a triggerer that is killed keeps nothing
        assert keys[0] == keys[1]

    asyncio.run(story())


def test_the_first_commit_of_a_new_branch_is_a_push(remote, caplog):
    async def story() -> None:
        async with running(trigger(Store(), branch="later")) as payloads:
            await until(lambda: "no branch 'later'" in caplog.text)
            subprocess.run(["git", "push", "-q", "origin", "HEAD:later"], cwd=remote.work, check=True)
            assert (await following(payloads))["branch"] == "later"

    with caplog.at_level(logging.INFO):
        asyncio.run(story())


def test_an_unreachable_repository_is_logged_once_and_loses_nothing(remote, caplog, monkeypatch):
    monkeypatch.setattr("airflow_pipeops.base.watchers.LONGEST_PAUSE", 0.1)

    async def story() -> None:
        store = Store()
        away = remote.path.with_suffix(".away")
        async with running(trigger(store)) as payloads:
            await until(lambda: store.values)
            second = remote.commit("second", push=False)
            os.rename(remote.path, away)
            await until(lambda: "Cannot look at repo" in caplog.text)
            await asyncio.sleep(0.5)
            os.rename(away, remote.path)
            subprocess.run(["git", "push", "-q", "origin", "HEAD:main"], cwd=remote.work, check=True)
            assert (await following(payloads))["commit"] == second
            await until(lambda: "answers again" in caplog.text)

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    assert caplog.text.count("Cannot look at repo") == 1


def test_a_renewed_connection_is_taken_up(remote, point, caplog, monkeypatch):
    monkeypatch.setattr("airflow_pipeops.base.watchers.LONGEST_PAUSE", 0.1)
    point("/nowhere")

    async def story() -> None:
        async with running(trigger(Store(), fire_on_start=True)) as payloads:
            await until(lambda: "Cannot look at repo" in caplog.text)
            point(str(remote.path))
            assert (await following(payloads))["commit"] == remote.tip()

    asyncio.run(story())


def test_a_store_that_stumbles_repeats_nothing(remote):
    async def story() -> None:
        store = Store()
        async with running(trigger(store)) as payloads:
            await until(lambda: store.values)
            store.failures = 2
            second = remote.commit("second")
            assert (await following(payloads))["commit"] == second
            await until(lambda: second in store.tips)
            assert payloads.empty()

    asyncio.run(story())


def test_the_event_loop_is_never_blocked_and_no_process_is_left(remote, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    async def story() -> float:
        longest = 0.0
        async with running(trigger(Store())):
            deadline = time.monotonic() + LIMIT
            while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
                before = time.monotonic()
                assert before < deadline
                await asyncio.sleep(0.005)
                longest = max(longest, time.monotonic() - before)
        return longest

    assert asyncio.run(story()) < 1.0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_it_travels_through_airflow():
    """Serialized as Airflow does it for a watcher, and inflated again."""
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.encoders import encode_trigger
    from airflow.triggers.base import BaseEventTrigger

    made = GitPushTrigger("repo", branch="main", poll_interval=timedelta(seconds=3), fire_on_start=True)
    path, kwargs = made.serialize()
    encoded = json.loads(json.dumps(encode_trigger({"classpath": path, "kwargs": kwargs})))
    again = locate(encoded["classpath"])(
        **{key: smart_decode_trigger_kwargs(value) for key, value in encoded["kwargs"].items()}
    )
    assert again.serialize() == (path, kwargs)
    assert (again.poll_interval, again.branch, again.fire_on_start) == (3.0, "main", True)
    assert BaseEventTrigger.hash(path, kwargs) == BaseEventTrigger.hash(*again.serialize())
    assert isinstance(made, BaseEventTrigger)


def test_two_assets_with_one_trigger(remote):
    class Two:
        def __init__(self) -> None:
            self._by_name = {"a": Store(), "b": Store()}
            self._by_uri: dict = {}

    async def story() -> None:
        store = Two()
        async with running(trigger(store)):
            await until(lambda: all(one.values for one in store._by_name.values()))

    asyncio.run(story())


@pytest.mark.parametrize("interval", [0, -1, timedelta(0), float("nan")])
def test_a_bad_interval(interval):
    with pytest.raises(InvalidInput, match="poll_interval"):
        GitPushTrigger("repo", poll_interval=interval)
