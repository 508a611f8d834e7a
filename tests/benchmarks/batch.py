"""Memory and time of batch scoring beside the script that reads all rows with pandas.

Usage: python tests/benchmarks/batch.py ROWS... Each measurement is a process of its own; memory is its peak. The rows are
those of real flights, repeated, each with a number of its own. Neither may take more memory than the machine has free, so
that one which needs more fails by itself and takes nobody else along.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
sys.path.insert(0, str(Path(__file__).parents[2]))

_BLOCK = 200_000


def peak() -> int:
    """Return the most memory that this process has had, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def free() -> int:
    """Return how much memory the machine has free, in bytes."""
    said = Path("/proc/meminfo").read_text(encoding="utf-8")
    return int(said.partition("MemAvailable:")[2].split()[0]) * 1024


def limit() -> None:
    """Let this process take no more than is free."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (free(), free()))


def prepare(folder: Path) -> None:
    """Store a model of real flights."""
    from airflow_pipeops.demo import flights
    from airflow_pipeops.models import artifact

    table = flights.features(flights.month(1))
    manifest = artifact.Manifest(
        "flight-delay", artifact.features_of(table, flights.FEATURES), flights.TARGET
    )
    stored = artifact.save(flights.train(table, 0), manifest, folder / "models")
    (folder / "model.json").write_text(json.dumps({"uri": stored.uri, "sha256": stored.sha256}))


def write(folder: Path, rows: int) -> Path:
    """Write so many rows, block by block."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_pipeops.demo import flights

    months = [flights.month(number) for number in range(2, 12)]
    path, written, number = folder / f"{rows}.parquet", 0, 0
    with pq.ParquetWriter(
        path, pa.Table.from_pandas(_numbered(months[0], 0)).schema, compression="zstd"
    ) as file:
        while written < rows:
            frame = months[number % len(months)].head(min(_BLOCK, rows - written))
            file.write_table(pa.Table.from_pandas(_numbered(frame, written), preserve_index=False), _BLOCK)
            written, number = written + len(frame), number + 1
    assert np.int64(written) == rows
    return path


def _numbered(frame: object, first: int) -> object:
    import numpy as np
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    return frame.assign(flight=np.arange(len(frame)) + first)


def ours(folder: Path, path: Path) -> int:
    """Score by the operator's own function; return the rows."""
    from airflow_pipeops.serving.batch.manifest import Pinned
    from airflow_pipeops.serving.batch.scoring import Order, score

    model = json.loads((folder / "model.json").read_text())
    pinned = Pinned("flight-delay", "1", model["sha256"], model["uri"])
    order = Order(path.stem, str(path), pinned, ("flight",))
    return int(score(order, folder / "store", lambda line: print(line, file=sys.stderr))["rows"])


def naive(folder: Path, path: Path) -> int:
    """Score as most scripts do; return the rows."""
    import pandas as pd

    from airflow_pipeops.demo import flights
    from airflow_pipeops.models import artifact

    model = json.loads((folder / "model.json").read_text())
    loaded = artifact.load(model["uri"], model["sha256"])
    frame = pd.read_parquet(path)
    frame["probability"] = loaded.model.predict_proba(frame[list(flights.FEATURES)])[:, 1]
    frame[["flight", "probability"]].to_parquet(folder / f"naive-{path.name}")
    return len(frame)


def main(rows: list[int]) -> None:
    """Measure both, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        print("| rows | how | seconds | CPU seconds | peak memory |\n|---|---|---|---|---|", flush=True)
        for count in rows:
            path = write(folder, count)
            for how in ("ours", "naive"):
                words = [sys.executable, __file__, how, str(folder), str(path)]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                if done.returncode:
                    why = (done.stderr.strip().splitlines() or ["killed"])[-1]
                    said = f"| failed: {why[:100]} | | |"
                else:
                    said = done.stdout.strip().splitlines()[-1]
                print(f"| {count:,} | {how} {said}", flush=True)
            path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["naive"]):
        limit()
        began = time.monotonic()
        scored = {"ours": ours, "naive": naive}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
        print(f"| {time.monotonic() - began:.1f} | {time.process_time():.1f} | {peak():,} MB |")
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("rows", type=int, nargs="+", help="for example 1_500_000")
        main(parser.parse_args().rows)
