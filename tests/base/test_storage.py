"""A file that is created where there is none: of several at once one succeeds, and nobody sees half of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath
from upath import UPath

from airflow_pipeops.base.files import create
from airflow_pipeops.exceptions import Unsupported


@pytest.mark.parametrize("kind", ["path", "file"])
def test_of_several_at_once_one_succeeds(kind: str, tmp_path: Path) -> None:
    root = tmp_path if kind == "path" else ObjectStoragePath(tmp_path.as_uri())
    target, together, won = root / "folder" / "manifest.json", threading.Barrier(8), []

    def attempt(number: int) -> None:
        together.wait()
        if create(target, str(number).encode() * 100_000):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert target.read_bytes() == str(won[0]).encode() * 100_000
    assert not create(target, b"later")
    assert create(target, target.read_bytes()), "it is there as it should be"
    assert os.listdir(tmp_path / "folder") == ["manifest.json"]


def test_an_object_store_is_asked_to_create_and_what_is_there_tells(tmp_path: Path) -> None:
    target = UPath(f"memory://{tmp_path.name}/manifest.json")
    assert create(target, b"first")  # type: ignore[arg-type]
    assert not create(target, b"second")  # type: ignore[arg-type]
    assert create(target, b"first"), "the answer to the first try was lost"  # type: ignore[arg-type]
    assert target.read_bytes() == b"first"


def test_a_store_that_cannot_do_it_in_one_step_is_refused() -> None:
    with pytest.raises(Unsupported, match="ftp:// cannot create a file only where there is none"):
        create(type("Path", (), {"protocol": "ftp", "__str__": lambda self: "ftp://x"})(), b"")
