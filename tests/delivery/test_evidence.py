from __future__ import annotations

import hashlib

import pytest

from airflow_pipeops.delivery.evidence import read, store, url
from airflow_pipeops.exceptions import InvalidInput


def test_it_is_stored_under_its_digest_once(tmp_path) -> None:
    first = store(b"<html>", "drift.html", media_type="text/html", base_uri=tmp_path.as_uri())
    again = store(b"<html>", "drift.html", media_type="text/html", base_uri=tmp_path.as_uri())
    assert first == again
    assert first.sha256 == hashlib.sha256(b"<html>").hexdigest()
    assert [path.read_bytes() for path in tmp_path.rglob("drift.html")] == [b"<html>"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "nul\0", "é" * 128, "half \ud800"])
def test_a_name_cannot_leave_its_folder(tmp_path, name: str) -> None:
    with pytest.raises(InvalidInput):
        store(b"", name, base_uri=tmp_path.as_uri())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_crash_left_half_written_is_written_again(tmp_path) -> None:
    first = store(b"a whole report", "drift.html", base_uri=tmp_path.as_uri())
    (path,) = tmp_path.rglob("drift.html")
    path.write_bytes(b"a whole")
    assert store(b"a whole report", "drift.html", base_uri=tmp_path.as_uri()) == first
    assert path.read_bytes() == b"a whole report"
    assert [item.name for item in path.parent.iterdir()] == ["drift.html"]


def test_a_damaged_file_of_the_same_size_is_written_again(tmp_path) -> None:
    first = store(b"a whole report", "drift.html", base_uri=tmp_path.as_uri())
    (path,) = tmp_path.rglob("drift.html")
    path.write_bytes(b"a holey report")
    assert store(b"a whole report", "drift.html", base_uri=tmp_path.as_uri()) == first
    assert path.read_bytes() == b"a whole report"


def test_the_longest_name(tmp_path) -> None:
    kept = store(b"x", "é" * 127, base_uri=tmp_path.as_uri(), dag_id="one")
    assert read(kept.sha256, kept.name, dag_id="one", base_uri=tmp_path.as_uri()) == b"x"


def test_only_readers_of_a_dag_that_stored_it_may_read_it(tmp_path) -> None:
    base = tmp_path.as_uri()
    kept = store(b"<html>", "drift.html", base_uri=base, dag_id="one")
    assert read(kept.sha256, "drift.html", dag_id="one", base_uri=base) == b"<html>"
    assert read(kept.sha256, "drift.html", dag_id="two", base_uri=base) is None
    store(b"<html>", "drift.html", base_uri=base, dag_id="two")
    assert read(kept.sha256, "drift.html", dag_id="two", base_uri=base) == b"<html>"
    assert read(kept.sha256, "other.html", dag_id="one", base_uri=base) is None
    assert read("0" * 64, "drift.html", dag_id="one", base_uri=base) is None


def test_what_was_tampered_with_is_not_there(tmp_path) -> None:
    kept = store(b"a report", "drift.html", base_uri=tmp_path.as_uri(), dag_id="one")
    next(tmp_path.rglob("drift.html")).write_bytes(b"a forgery")
    assert read(kept.sha256, "drift.html", dag_id="one", base_uri=tmp_path.as_uri()) is None


def test_its_address_is_below_airflows(monkeypatch, tmp_path) -> None:
    kept = store(b"x", "a b.html", base_uri=tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/base/")
    assert url(kept, "team/dag 1") == (
        f"https://airflow.example.com/base/pipeops/evidence/team%2Fdag%201/{kept.sha256}/a%20b.html"
    )
