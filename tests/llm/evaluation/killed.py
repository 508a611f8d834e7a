"""Evaluates until it is killed: killed.py URL FOLDER ITEMS TOKENS. Prints the facts as JSON if it comes to its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_pipeops.llm import results
from airflow_pipeops.llm.evaluation.pace import Budget, Prices
from tests.llm.evaluation.conftest import plan, run

if __name__ == "__main__":
    url, folder, items, budget = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    prices = Prices({"small": {"input": 1.0, "output": 1.0}})
    found = run(url, folder, plan(items), budget=Budget(tokens=budget), prices=prices, tell=print)
    frame = results.table(found.rows)
    print(json.dumps({"outcome": found.outcome, "values": frame["value"].sum(), **found.facts}))
