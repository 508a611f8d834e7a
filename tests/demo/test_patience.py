"""Patience follows progress: whoever moves is waited for, however slowly."""

from __future__ import annotations

import os
import shutil
import threading

from airflow_pipeops.demo.patience import Patience, files, states
from airflow_pipeops.demo.sandbox.store import ApplicationStore


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_moves_is_waited_for_and_what_stands_still_is_not() -> None:
    clock, moved = Clock(), [0]
    patience = Patience(10, lambda: moved[0], clock=clock)
    for _ in range(50):
        clock.now += 9
        moved[0] += 1
        assert not patience.ended
    clock.now += 9
    assert not patience.ended
    clock.now += 2
    assert patience.ended
    assert patience.waited == 461


def test_it_ends_in_any_case_where_that_is_asked_for() -> None:
    clock = Clock()
    patience = Patience(10, clock, longest=100, clock=clock)
    clock.now = 99
    assert not patience.ended
    clock.now = 100
    assert patience.ended


def test_a_line_in_a_log_is_progress(tmp_path) -> None:
    log = tmp_path / "run" / "attempt=1.log"
    before = files(tmp_path, tmp_path / "not-there")
    log.parent.mkdir()
    log.write_text("one\n", encoding="utf-8")
    began = files(tmp_path)
    assert began != before
    with log.open("a", encoding="utf-8") as file:
        file.write("two\n")
    assert files(tmp_path) != began


def test_a_log_that_goes_away_meanwhile_is_no_error(tmp_path) -> None:
    os.symlink(tmp_path / "gone", tmp_path / "link")
    assert files(tmp_path) == (0, 0)


def test_a_folder_that_goes_away_meanwhile_is_no_error(tmp_path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    end = threading.Event()

    def come_and_go() -> None:
        while not end.is_set():
            for number in range(20):
                (tmp_path / f"incoming-{number}" / "eb").mkdir(parents=True)
            for number in range(20):
                shutil.rmtree(tmp_path / f"incoming-{number}")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert {files(tmp_path) for _ in range(500)} == {(1, 4)}
    finally:
        end.set()
        other.join()


def test_an_application_that_is_only_looked_at_does_not_move(tmp_path) -> None:
    file = tmp_path / "applications.sqlite"
    store = ApplicationStore(file)
    store.create({"metadata": {"name": "shop"}, "spec": {}, "status": {"sync": {"status": "Synced"}}})
    before = states(file)
    for second in range(3):
        store.update(
            "shop", lambda one, at=second: one["status"].update(reconciledAt=f"2026-01-01T00:00:0{at}Z")
        )
        assert states(file) == before
    store.update("shop", lambda one: one["status"].update(sync={"status": "OutOfSync"}))
    assert states(file) != before
    store.close()
