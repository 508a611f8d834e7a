"""Drift of N rows against N rows, 12 numeric and 8 categorical columns: this engine, Evidently, NannyML, SciPy, a bare scan.

Run: python tests/benchmarks/drift.py --rows 1000000 --against evidently,scan

Data are made once, seeded, as Parquet files of a million rows each, below --cache. Every contestant runs in a process of its
own and reads the same files; seconds are of reading and comparing, without imports; memory is the process's peak. The bare
scan is DuckDB's sum of every number and maximum of every text, which must decode every value. On a machine that does other
things too, compare the CPU seconds. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PART = 1_000_000
CARDINALITIES = (2, 3, 5, 12, 30, 100, 500, 2000)
NUMERIC = [
    "normal",
    "same",
    "lognormal",
    "exponential",
    "bimodal",
    "uniform",
    "t_missing",
    "gamma32",
    "normal32",
    "price",
    "poisson",
    "big",
]
CATEGORICAL = [f"c{size}" for size in CARDINALITIES]
ROOT = Path(__file__).parents[2]


def make(cache: Path, rows: int) -> dict[str, list[str]]:
    """Make what is not there yet; return the files of both sides."""
    found: dict[str, list[str]] = {"reference": [], "current": []}
    for side, files in found.items():
        (cache / side).mkdir(parents=True, exist_ok=True)
        for part in range(math.ceil(rows / PART)):
            size = min(PART, rows - part * PART)
            path = cache / side / f"part-{part:03d}-{size}.parquet"
            if not path.exists():
                write(path, size, side == "current", part)
            files.append(str(path))
    return found


def write(path: Path, rows: int, current: bool, part: int) -> None:
    """Write one part of one side; the current side is moved a little in most columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    r, s = np.random.default_rng([part, current]), float(current)
    columns = {
        "normal": r.normal(0.15 * s, 1, rows),
        "same": r.normal(10, 3, rows),
        "lognormal": r.lognormal(0.05 * s, 1, rows),
        "exponential": r.exponential(1 + 0.1 * s, rows),
        "bimodal": np.where(r.random(rows) < 0.5 + 0.1 * s, r.normal(-2, 0.5, rows), r.normal(2, 0.7, rows)),
        "uniform": r.random(rows),
        "t_missing": np.where(r.random(rows) < 0.02 + 0.08 * s, np.nan, r.standard_t(3, rows)),
        "gamma32": r.gamma(2, 2 + 0.05 * s, rows).astype("float32"),
        "normal32": r.normal(100, 15, rows).astype("float32"),
        "price": np.round(r.lognormal(3, 0.6 + 0.02 * s, rows), 2),
        "poisson": r.poisson(20 + 0.5 * s, rows),
        "big": r.integers(0, 100_000, rows).astype("int32"),
    }
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    for place, size in enumerate(CARDINALITIES):
        weight = np.exp(0.15 * s * (place % 2) * np.cos(np.arange(size))) / np.arange(1, size + 1)
        index = r.choice(size, rows, p=weight / weight.sum()).astype("int32")
        mask = r.random(rows) < 0.01 + 0.04 * s if place in (3, 6) else None
        names = pa.array([f"{chr(97 + place)}_{i:05d}" for i in range(size)])
        codes = pa.array(index, mask=mask)
        arrays[f"c{size}"] = pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())
    half = path.with_suffix(".part")
    pq.write_table(pa.table(arrays), half, compression="zstd", row_group_size=250_000)
    half.rename(path)


def read_all(files: list[str]):
    """Read a side with pandas, as users of the others do."""
    import pandas as pd

    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def scanner(threads: int | None):
    """Return a function that scans one side."""
    import duckdb

    connection = duckdb.connect(config={"threads": str(threads or len(os.sched_getaffinity(0)))})
    asked = [f"SUM({name})" for name in NUMERIC] + [f"MAX({name})" for name in CATEGORICAL]
    return lambda files: connection.execute(
        f"SELECT {', '.join(asked)} FROM read_parquet({files})"
    ).fetchall()


def scan(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Read every value of both sides once, after the files are in the page cache."""
    run = scanner(options.threads)
    run(data["reference"][:1])
    return lambda: [run(files) for files in data.values()], lambda found: {}


def scan_current(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Read every value of the current side once."""
    run = scanner(options.threads)
    run(data["current"][:1])
    return lambda: run(data["current"]), lambda found: {}


def import_all() -> None:
    """Import what this engine imports at its first use: of nobody are imports timed."""
    import duckdb  # noqa: F401
    import fsspec  # noqa: F401
    import scipy.special  # noqa: F401

    from airflow_pipeops.drift import run as comparing  # noqa: F401
    from airflow_pipeops.drift.engines import duck  # noqa: F401


def ours(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Compare with this engine."""
    import_all()
    from airflow_pipeops.drift.comparison import Engine
    from airflow_pipeops.drift.engine import compare
    from airflow_pipeops.drift.sources import Files

    engine = Engine(memory_limit=options.memory_limit, threads=options.threads)
    sides = [Files(files) for files in data.values()]
    return lambda: compare(*sides, engine=engine), lambda found: {
        "drifted": sum(item.drifted for item in found.columns)
    }


def ours_page(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Compare with this engine, and make the page of the report as the operator does."""
    import_all()
    import evidently  # noqa: F401

    from airflow_pipeops.drift.comparison import Engine
    from airflow_pipeops.drift.engine import compare
    from airflow_pipeops.drift.evidently_report import page
    from airflow_pipeops.drift.sources import Files

    engine = Engine(memory_limit=options.memory_limit, threads=options.threads)
    sides = [Files(files) for files in data.values()]
    spent = {}

    def run():
        started = time.perf_counter()
        found = compare(*sides, engine=engine, sampled=40)
        spent["seconds_reading"] = round(time.perf_counter() - started, 3)
        return page(found.sample.reference, found.sample.current, "Compared.")

    return run, lambda found: {"bytes": len(found), **spent}


def ours_profile(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Compare with a saved profile; making it is not timed here, loading it is."""
    import_all()
    from airflow_pipeops.drift.comparison import Engine
    from airflow_pipeops.drift.engine import compare
    from airflow_pipeops.drift.profile import Profile
    from airflow_pipeops.drift.sources import Files

    engine = Engine(memory_limit=options.memory_limit, threads=options.threads)
    current = Files(data["current"])
    return lambda: compare(Profile.load(options.profile), current, engine=engine), lambda found: {
        "drifted": sum(item.drifted for item in found.columns)
    }


def make_profile(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Make and save the profile of the reference."""
    import_all()
    from airflow_pipeops.drift.comparison import Engine
    from airflow_pipeops.drift.engine import profile
    from airflow_pipeops.drift.sources import Files

    engine = Engine(memory_limit=options.memory_limit, threads=options.threads)
    return lambda: profile(Files(data["reference"]), engine=engine).save(options.profile), lambda found: {
        "bytes": os.path.getsize(options.profile)
    }


def evidently(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Evidently's preset, with the kinds of the columns given."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL)

    def run():
        sides = [Dataset.from_pandas(read_all(files), data_definition=definition) for files in data.values()]
        return Report([DataDriftPreset()]).run(sides[1], sides[0]).dict()

    return run, lambda found: {"drifted": found["metrics"][0]["value"]["count"]}


def evidently_columns(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """Evidently, one metric for each column: the same scores, each test once instead of three times."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL)

    def run():
        sides = [Dataset.from_pandas(read_all(files), data_definition=definition) for files in data.values()]
        return (
            Report([ValueDrift(column=name) for name in (*NUMERIC, *CATEGORICAL)])
            .run(sides[1], sides[0])
            .dict()
        )

    return run, lambda found: {}


def scipy(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """SciPy's Wasserstein distance and Jensen-Shannon distance, one column at a time."""
    import numpy as np
    import pandas as pd
    from scipy.spatial import distance
    from scipy.stats import wasserstein_distance

    def column(side: str, name: str):
        return pd.concat([pd.read_parquet(file, columns=[name])[name] for file in data[side]]).dropna()

    def run():
        for name in NUMERIC:
            left, right = column("reference", name).to_numpy(), column("current", name).to_numpy()
            wasserstein_distance(left, right) / max(np.std(left), 0.001)
        for name in CATEGORICAL:
            left, right = column("reference", name).value_counts(), column("current", name).value_counts()
            both = left.index.union(right.index)
            distance.jensenshannon(left.reindex(both, fill_value=0), right.reindex(both, fill_value=0))

    return run, lambda found: {}


def nannyml(data: dict[str, list[str]], options: argparse.Namespace) -> tuple:
    """NannyML's univariate drift, one chunk."""
    import nannyml as nml

    def run():
        left, right = read_all(data["reference"]), read_all(data["current"])
        calculator = nml.UnivariateDriftCalculator(
            column_names=[*NUMERIC, *CATEGORICAL],
            treat_as_categorical=CATEGORICAL,
            continuous_methods=["wasserstein"],
            categorical_methods=["jensen_shannon"],
            chunk_number=1,
        )
        calculator.fit(left)
        return calculator.calculate(right)

    return run, lambda found: {}


CONTESTANTS = {
    "scan": scan,
    "scan_current": scan_current,
    "ours": ours,
    "ours_page": ours_page,
    "make_profile": make_profile,
    "ours_profile": ours_profile,
    "evidently": evidently,
    "evidently_columns": evidently_columns,
    "scipy": scipy,
    "nannyml": nannyml,
}
CHOICES = ("scan", "ours_page", "evidently", "evidently_columns", "scipy", "nannyml")


def child(name: str, data: dict[str, list[str]], options: argparse.Namespace) -> None:
    """Run one contestant in this process and print its figures."""
    run, said = CONTESTANTS[name](data, options)
    started, cpu = time.perf_counter(), time.process_time()
    found = run()
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    # Not ru_maxrss, which begins with what the parent process had.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8")).group(1))  # type: ignore[union-attr]
    facts = {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(used, 3),
        "peak_mb": peak // 1024,
        **said(found),
    }
    print("FIGURES " + json.dumps(facts))


def measure(name: str, options: argparse.Namespace, rows: int, repeat: int) -> dict:
    """Run a contestant in its own process; the best of some runs."""
    python = nannyml_python(options.cache) if name == "nannyml" else sys.executable
    words = [
        python,
        str(Path(__file__).resolve()),
        "--child",
        name,
        "--rows",
        str(rows),
        "--cache",
        str(options.cache),
    ]
    words += ["--memory-limit", options.memory_limit, "--profile", options.profile]
    words += ["--threads", str(options.threads)] if options.threads else []
    quiet = {
        "DO_NOT_TRACK": "1",
        "NML_DISABLE_USAGE_LOGGING": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    best: dict = {}
    for _ in range(repeat):
        run = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **quiet})
        lines = [line for line in run.stdout.splitlines() if line.startswith("FIGURES ")]
        if run.returncode or not lines:
            reason = (
                "killed" if run.returncode < 0 else (run.stderr.strip().splitlines() or ["no output"])[-1]
            )
            return {"failed": reason[:200]}
        found = json.loads(lines[-1].removeprefix("FIGURES "))
        best = found if not best or found["seconds"] < best["seconds"] else best
    print(f"{rows:>12,} rows  {name:18} {best}", flush=True)
    return best


def nannyml_python(cache: Path) -> str:
    """NannyML pins libraries that others need newer: it gets an environment of its own, made once."""
    place = cache / "nannyml-venv"
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "nannyml==0.13.1", "statsmodels", "pyarrow"], check=True
        )
    return str(python)


def ratios(found: dict[str, dict]) -> dict[str, float]:
    """How many times the others need what we need, and how many bare scans we need."""

    def over(one: str, other: str, what: str) -> float | None:
        top, bottom = found.get(one, {}).get(what), found.get(other, {}).get(what)
        return round(top / bottom, 2) if top and bottom else None

    pairs = {
        "ours_over_scan": ("ours", "scan", "seconds"),
        "ours_over_scan_cpu": ("ours", "scan", "cpu_seconds"),
        "profile_over_scan_of_current": ("ours_profile", "scan_current", "seconds"),
        "profile_over_scan_of_current_cpu": ("ours_profile", "scan_current", "cpu_seconds"),
        **{f"{name}_over_ours": (name, "ours", "seconds") for name in CHOICES if name != "scan"},
        **{f"{name}_memory_over_ours": (name, "ours", "peak_mb") for name in CHOICES if name != "scan"},
    }
    values = {name: over(*pair) for name, pair in pairs.items()}
    return {name: value for name, value in values.items() if value is not None}


def main() -> None:
    """Make the data, run the contestants, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", default="1000000", help="rows per side; several with commas give a growth exponent"
    )
    parser.add_argument("--against", default="scan", help=f"some of {','.join(CHOICES)}")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "airflow-pipeops" / "benchmarks" / "drift"
    )
    parser.add_argument("--memory-limit", default="96MB", help="of the embedded DuckDB")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument(
        "--repeat", type=int, default=1, help="runs of us and of the scan; the best one counts"
    )
    parser.add_argument("--profile", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]
    if options.child:
        return child(options.child, make(options.cache, sizes[0]), options)
    asked = [name for name in options.against.split(",") if name]
    if unknown := [name for name in asked if name not in CHOICES]:
        parser.error(f"--against: {', '.join(unknown)} is unknown; there are {', '.join(CHOICES)}")
    result: dict = {"columns": {"numeric": len(NUMERIC), "categorical": len(CATEGORICAL)}, "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            make(options.cache, rows)
            options.profile = str(Path(folder) / f"{rows}.npz")
            order = ["scan", "ours", "make_profile", "scan_current", "ours_profile"]
            found = {name: measure(name, options, rows, options.repeat) for name in order}
            found.update({name: measure(name, options, rows, 1) for name in asked if name != "scan"})
            result["rows"][str(rows)] = {"figures": found, "ratios": ratios(found)}
    if len(sizes) > 1:
        ends = [result["rows"][str(size)]["figures"]["ours"]["seconds"] for size in (sizes[0], sizes[-1])]
        result["growth_exponent"] = round(math.log(ends[1] / ends[0]) / math.log(sizes[-1] / sizes[0]), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
