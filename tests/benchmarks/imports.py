"""What the modules that the example DAGs import add to ``import airflow.sdk``: seconds and modules.

Run: python tests/benchmarks/imports.py [--each]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

BASE = (
    "from airflow.sdk import DAG, task, Asset, AssetWatcher, BaseOperator, BaseSensorOperator, BaseHook\n"
    "import airflow.triggers.base\n"
)
PROGRAM = """import json, sys, time
{base}
before, start = len(sys.modules), time.perf_counter()
import importlib
for module in {modules!r}: importlib.import_module(module)
print(json.dumps([time.perf_counter() - start, len(sys.modules) - before]))
"""


def measure(modules: list[str], runs: int = 5) -> dict[str, float]:
    """Import ``modules`` in fresh interpreters and return the median seconds and the count of new modules."""
    found = []
    for _ in range(runs):
        program = PROGRAM.format(base=BASE, modules=modules)
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        found.append(json.loads(run.stdout.splitlines()[-1]))
    return {"seconds": round(statistics.median(s for s, _ in found), 3), "new_modules": found[0][1]}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "package"))
    from test_imports import MODULES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", action="store_true", help="also each module for itself")
    each = MODULES if parser.parse_args().each else []
    figures = {"all": measure(MODULES), **{module: measure([module]) for module in each}}
    for name, row in figures.items():
        print(f"{name:45} {row['seconds']:7.3f} s  {row['new_modules']:4d} modules")
    print(json.dumps(figures))
