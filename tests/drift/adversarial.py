"""Columns that break careless aggregation, one seeded table of them, as an Arrow table with its true types."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa

ROWS = 3000


def table(seed: int = 0, shift: float = 0.0) -> pa.Table:
    """Return the rows of one side."""
    r = np.random.default_rng(seed)
    n = ROWS
    outlier = r.normal(shift, 1, n)
    outlier[7] = 1e12
    odd = r.normal(shift, 1, n)
    odd[:40] = np.nan
    odd[40:60] = np.inf
    odd[60:70] = -np.inf
    null = r.random(n) < 0.1
    huge = r.normal(size=n)
    huge[:5] = [1.7e308, -1.7e308, 5e-324, 1e200, -0.0]
    texts = np.array(
        ["", " ", "a", "A", "ä", "日本", "it's", 'say "hi"', "back\\slash", "%s", "null", "line\nbreak"]
    )
    day = datetime.date(2026, 1, 1)
    days = [day + datetime.timedelta(days=int(d)) for d in r.integers(0, 60, n)]
    at = 1_767_225_600_000_000 + r.integers(0, 10**13, n)
    columns = {
        "normal": pa.array(r.normal(shift, 1, n)),
        "outlier": pa.array(outlier),
        "odd": pa.array(odd),
        "nulls": pa.array(r.normal(shift, 1, n), mask=null),
        "huge": pa.array(huge),
        "cauchy": pa.array(r.standard_cauchy(n)),
        "epoch": pa.array(1.7e9 + r.normal(shift, 1, n)),
        "tiny": pa.array(1e-9 * r.normal(shift, 1, n)),
        "single": pa.array(r.normal(shift, 1, n).astype("float32")),
        "ties": pa.array(np.round(r.normal(shift, 1, n), 1)),
        "zeros": pa.array(np.where(r.random(n) < 0.7, 0.0, r.lognormal(size=n))),
        "constant": pa.array(np.full(n, 3.5)),
        "big": pa.array(r.integers(-(2**62), 2**62, n)),
        "small": pa.array(r.integers(0, 5, n).astype("int16")),
        "price": pa.array(
            [decimal.Decimal(int(v)) / 100 for v in r.integers(1, 10**6, n)], pa.decimal128(12, 2)
        ),
        "flag": pa.array(r.random(n) < 0.3, mask=null),
        "text": pa.array(r.choice(texts, n), mask=null),
        'Weird "name" `of` it\'s': pa.array(r.normal(shift, 1, n)),
        "day": pa.array(days),
        "at": pa.array(at, pa.timestamp("us")),
        "instant": pa.array(at, pa.timestamp("us", tz="UTC")),
        "group": pa.array(r.choice(["x", "y"], n)),
    }
    return pa.table(columns)
