"""A member without a broker: what it makes of its table, and of how much waits."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from airflow_pipeops.serving.stream.member import Member
from airflow_pipeops.serving.stream.partition import Partition
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.releases import Model, Release
from airflow_pipeops.serving.stream.settings import Settings

GOOD = Release("r1", Model("m", "1", "file:///absent", "a" * 64)).to_text()


class Waiting:
    """Of a broker, how many records wait in each partition."""

    def __init__(self, **waits: int) -> None:
        self._waits = waits

    def waiting(self, partition: int, offset: int) -> int:
        """Return it."""
        return self._waits[f"p{partition}"]


def member(folder: Path, **waits: int) -> Member:
    return Member(Settings({}, "g", "in", "out", folder, member="m0"), Waiting(**waits))  # type: ignore[arg-type]


def test_a_table_that_is_as_it_was_again_is_no_error_any_more(tmp_path):
    (tmp_path / "r1").write_text(GOOD)
    one = member(tmp_path)
    one._look(first=True)
    (tmp_path / "r2").write_text("{")
    one._look()
    assert "release r2 is no JSON" in one.table_error
    assert [release.revision for release in one.table.releases] == ["r1"]
    (tmp_path / "r2").unlink()
    one._look()
    assert one.table_error == ""


@pytest.mark.parametrize(
    ("waits", "told", "behind"),
    [
        ({"p0": 0, "p1": 0}, (None, None), 0),
        ({"p0": 9, "p1": 0}, (30, None), 30),
        ({"p0": 9, "p1": 5}, (30, 90), 90),
        ({"p0": 9, "p1": 5}, (30, None), math.nan),
    ],
)
def test_how_late_scores_are_is_known_where_each_partition_that_waits_was_scored(
    tmp_path, waits, told, behind
):
    one = member(tmp_path, **waits)
    for number, ago in enumerate(told):
        stamp = None if ago is None else int((time.time() - ago) * 1000)
        one.partitions[number] = Partition(number, 7, Progress(time=stamp))
    one._measure(0.0)
    assert one.samples[-1].behind == pytest.approx(behind, abs=5, nan_ok=True)
