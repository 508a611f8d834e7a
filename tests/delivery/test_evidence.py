from __future__ import annotations

import hashlib

import pytest

from airflow_pipeops.delivery.evidence import store
from airflow_pipeops.exceptions import InvalidInput


def test_it_is_stored_under_its_digest_once(tmp_path) -> None:
    first = store(b"<html>", "drift.html", media_type="text/html", base_uri=tmp_path.as_uri())
    again = store(b"<html>", "drift.html", media_type="text/html", base_uri=tmp_path.as_uri())
    assert first == again
    assert first.sha256 == hashlib.sha256(b"<html>").hexdigest()
    assert [path.read_bytes() for path in tmp_path.rglob("drift.html")] == [b"<html>"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
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
