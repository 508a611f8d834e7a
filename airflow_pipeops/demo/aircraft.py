"""Aircraft that flew from New York in 2013, as their register has them, and who made each: what a prompt is judged by."""

from __future__ import annotations

import csv
import json
from pathlib import Path

#: Each so many-th aircraft of the register is an item.
_EACH = 27


def items() -> list[dict[str, str]]:
    """Return the items: ``id``, ``aircraft``, and the first word of the maker's name as ``expected``."""
    from airflow_pipeops.demo.flights import files

    with (files() / "planes.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["year"] not in ("", "NA")]
    return [
        {
            "id": row["tailnum"],
            "aircraft": f"{row['tailnum']}: {row['model']} of {float(row['year']):.0f}, {row['engines']} engines,"
            f" {row['seats']} seats",
            "expected": row["manufacturer"].split()[0],
        }
        for row in rows[::_EACH]
    ]


def write_items(path: Path) -> None:
    """Write the items as the dataset of an evaluation, a line of JSON each."""
    path.write_text("".join(json.dumps(item) + "\n" for item in items()), encoding="utf-8")
