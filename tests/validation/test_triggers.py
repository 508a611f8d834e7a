"""The batch trigger, run for real on a folder."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.validation.triggers import DataBatchTrigger, arrived


class Store:
    """An asset state store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    found = tmp_path / "batches"
    found.mkdir()
    uri = json.dumps({"conn_type": "pipeops_storage", "host": found.as_uri()})
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_DATA", uri)
    return found


def trigger(store: Store | None = None) -> DataBatchTrigger:
    made = DataBatchTrigger(poll_interval=timedelta(milliseconds=50))
    made.asset_state_store = store
    return made


async def names(made: DataBatchTrigger, count: int, seconds: float = 120.0) -> list[str]:
    """Return the names of the next events; fewer if no more come in time."""
    found: list[str] = []

    async def listen() -> None:
        async for event in made.run():
            found.append(event.payload["name"])
            if len(found) == count:
                # The generator goes on to note what it reported, then waits.
                await asyncio.sleep(0)

    task = asyncio.create_task(listen())
    try:
        await until(lambda: len(found) >= count, seconds)
        await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return found


async def until(fact: Callable[[], bool], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not fact() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)


def test_two_at_once_are_reported_in_name_order(folder: Path) -> None:
    for name in ("2013-02.parquet", "2013-01.parquet", "notes.txt", ".hidden.parquet", "_tmp.parquet"):
        (folder / name).write_bytes(b"data")
    assert asyncio.run(names(trigger(), 2)) == ["2013-01.parquet", "2013-02.parquet"]


def test_payload(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"data")

    async def first() -> Any:
        async for event in trigger().run():
            return event.payload

    payload = asyncio.run(first())
    assert payload.pop("key") == asyncio.run(first())["key"]
    assert payload == {"uri": (folder / "a.parquet").as_uri(), "name": "a.parquet", "size": 4}


def test_a_file_that_still_grows_is_not_reported(folder: Path) -> None:
    async def story() -> list[str]:
        growing = folder / "a.parquet"
        growing.write_bytes(b"x")
        stop = asyncio.Event()

        async def grow() -> None:
            while not stop.is_set():
                with growing.open("ab") as file:
                    file.write(b"x")
                await asyncio.sleep(0.005)

        writer = asyncio.create_task(grow())
        early = await names(trigger(), 1, seconds=0.5)
        stop.set()
        await writer
        assert early == []
        return await names(trigger(), 1)

    assert asyncio.run(story()) == ["a.parquet"]


def test_write_and_rename(folder: Path) -> None:
    async def story() -> list[str]:
        (folder / "a.parquet.tmp").write_bytes(b"half")
        made = trigger()
        task = asyncio.create_task(names(made, 1))
        await asyncio.sleep(0.2)
        assert not task.done()
        (folder / "a.parquet.tmp").rename(folder / "a.parquet")
        return await task

    assert asyncio.run(story()) == ["a.parquet"]


def test_a_restart_repeats_nothing_and_loses_nothing(folder: Path) -> None:
    store = Store()
    (folder / "b.parquet").write_bytes(b"data")
    assert asyncio.run(names(trigger(store), 1)) == ["b.parquet"]
    (folder / "c.parquet").write_bytes(b"data")
    (folder / "a.parquet").write_bytes(b"late, and first by name")
    assert asyncio.run(names(trigger(store), 2)) == ["a.parquet", "c.parquet"]
    assert asyncio.run(names(trigger(store), 1, seconds=0.5)) == []


def test_an_outage_is_survived(folder: Path) -> None:
    async def story() -> list[str]:
        away = folder.with_name("away")
        folder.rename(away)
        task = asyncio.create_task(names(trigger(), 1))
        await asyncio.sleep(0.15)
        (away / "a.parquet").write_bytes(b"data")
        away.rename(folder)
        return await task

    assert asyncio.run(story()) == ["a.parquet"]


def test_serialization_round_trip() -> None:
    path, kwargs = DataBatchTrigger(
        storage_conn_id="x", pattern="*.csv", poll_interval=timedelta(minutes=1)
    ).serialize()
    assert kwargs == {"storage_conn_id": "x", "pattern": "*.csv", "poll_interval": 60.0}
    assert import_string(path)(**kwargs).serialize() == (path, kwargs)
    assert DataBatchTrigger.hash(path, kwargs) == DataBatchTrigger.hash(path, dict(kwargs))


@pytest.mark.parametrize("wrong", [{"poll_interval": 0}, {"pattern": "months/*.parquet"}, {"pattern": ""}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        DataBatchTrigger(**wrong)


def test_only_what_lies_in_the_folder_is_read(folder: Path, context: dict[str, Any], caplog) -> None:
    """Whatever an event names, a worker fetches nothing but files of the connection's own folder."""
    root = folder.as_uri()
    (folder.parent / "batches2").mkdir()
    outside = [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        f"{root}/../secret.parquet",
        f"{root}/sub/x.parquet",
        f"{root}2/x.parquet",
        root,
        f"{root}/",
        f"{root}/..",
        f"{root}/.",
        str(folder / "x.parquet"),
        5,
        None,
    ]
    signals = [{"uri": uri, "key": str(number)} for number, uri in enumerate(outside)]
    good = {"uri": f"{root}/2013-04.parquet", "name": "2013-04.parquet", "size": 5, "key": "good"}
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    extras = [{"from_trigger": True, "payload": one} for one in (*signals, good, good, {"commit": "x"})]
    context["triggering_asset_events"] = {
        "batch": [
            SimpleNamespace(timestamp=start + timedelta(seconds=second), extra=extra)
            for second, extra in enumerate(extras)
        ]
    }
    assert arrived(context) == [good["uri"]]
    assert caplog.text.count("is not in the folder of pipeops_data") == len(outside)


def test_a_file_that_comes_again_has_another_key(folder: Path) -> None:
    async def keys(store: Store, count: int) -> list[str]:
        found: list[str] = []
        async for event in trigger(store).run():
            found.append(event.payload["key"])
            if len(found) == count:
                break
        return found

    file = folder / "a.parquet"
    file.write_bytes(b"one")
    first = asyncio.run(keys(Store(), 1))
    assert asyncio.run(keys(Store(), 1)) == first, "told again after a triggerer was killed"
    stamp = file.stat().st_mtime + 60
    file.unlink()
    file.write_bytes(b"two")
    os.utime(file, (stamp, stamp))
    assert asyncio.run(keys(Store(), 1)) != first
