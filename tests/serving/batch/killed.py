"""Scores a partition in children that are killed, each when it comes for the first time to another line of the code that
reads, scores and stores.

Usage: python killed.py FOLDER KILLS, where FOLDER holds ``order.json``. Prints what became of it as JSON. This process has
imported everything that the first child did, and has no threads, so that a child begins at once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import duckdb  # noqa: F401
import great_expectations  # noqa: F401
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import sklearn.ensemble  # noqa: F401
import skops.io  # noqa: F401

import airflow_pipeops
from airflow_pipeops.serving.batch.scoring import Order, score
from airflow_pipeops.serving.batch.store import ScoreStore

PACKAGE = Path(airflow_pipeops.__file__).parent
#: The files whose lines are counted: all that writes, and all that decides what is written.
COUNTED = {
    str(PACKAGE / f"{name}.py")
    for name in (
        *("base/files", "base/storage"),
        *(f"serving/batch/{name}" for name in ("scoring", "store", "scan", "worker")),
    )
}


def child(order: Order, root: Path, kill_at: int, count: Path | None = None) -> int:
    """Score in a child that is killed when it comes to its n-th new line; return its status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines: set[tuple[str, int]] = set()

    def tracer(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in COUNTED:
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer

    sys.settrace(tracer)
    status = 0
    try:
        score(order, root, lambda line: None)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    sys.settrace(None)
    if count is not None:
        count.write_text(json.dumps([len(lines), list(sys.modules)]))
    os._exit(status)


def main(folder: Path, kills: int) -> dict[str, Any]:
    """Kill so many attempts, spread over all lines, each on a store of its own; then let one end."""
    order = Order.from_json(json.loads((folder / "order.json").read_text()))
    counted = folder / "lines"
    assert child(order, folder / "first", 0, counted) == 0
    for name in json.loads(counted.read_text())[1]:
        with suppress(ImportError):  # not each of them goes by its name
            importlib.import_module(name)
    assert child(order, folder / "whole", 0, counted) == 0
    total, _ = json.loads(counted.read_text())
    whole = seen(folder / "whole", order)
    outcomes = []
    for number in range(kills):
        root = folder / f"store-{number}"
        at = 1 + number * (total - 1) // max(1, kills - 1)
        status = child(order, root, at)
        between = seen(root, order)
        again = child(order, root, 0)
        after = seen(root, order)
        half = between["shown"] and between != whole
        outcomes.append({"at": at, "status": status, "again": again, "half": half, "same": after == whole})
    return {"lines": total, "outcomes": outcomes, "whole": whole}


def seen(root: Path, order: Order) -> dict[str, Any]:
    """Tell what is there: how many files and manifests, and what readers see."""
    store = ScoreStore(root, order.model.name)
    current = store.current(order.partition)
    facts: dict[str, Any] = {
        "parquet": len(list(root.rglob("*.parquet"))),
        "manifests": len(list(root.rglob("_manifest.json"))),
        "history": len(store.history(order.partition)),
        "shown": current is not None,
        "digest": "",
    }
    if current is not None:
        manifest, _ = store.files(current, order.partition)
        store.verify(manifest)
        facts["digest"] = manifest.output_digest
    return facts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
