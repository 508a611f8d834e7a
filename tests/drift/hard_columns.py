"""Columns that break statistics: by one value, by their scale, by ties, by their type."""

from __future__ import annotations

import numpy as np


def columns(rows: int = 20_000, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return reference and current values by name."""
    rng = np.random.default_rng(seed)
    normal, moved = rng.normal(size=rows), rng.normal(0.05, 1.02, rows - rows // 10)
    zeros = (rng.random(rows) < 0.93, rng.random(rows) < 0.9)
    big = 2**61 + rng.integers(0, 2**40, rows)
    return {
        "plain": (normal, moved),
        "alike": (normal, rng.normal(size=rows)),
        "outlier 1e12": (np.r_[normal, 1e12], moved),
        "outlier 1e300": (normal, np.r_[moved, -1e300]),
        "infinities": (np.r_[normal, np.inf, -np.inf], np.r_[moved, np.inf]),
        "not a number": (np.r_[normal, np.full(500, np.nan)], np.r_[np.nan, moved]),
        "ties": (rng.integers(0, 40, rows) / 8.0, rng.integers(0, 41, rows) / 8.0),
        "rounded": (normal.round(2), moved.round(2)),
        "float32": (normal.astype("float32"), moved.astype("float32")),
        "float32 ties": (
            rng.gamma(2, 1, rows).astype("float32").round(3),
            rng.gamma(2.1, 1, rows).astype("float32").round(3),
        ),
        "Cauchy": (rng.standard_cauchy(rows), rng.standard_cauchy(rows) + 0.1),
        "epoch": (1.7e9 + normal, 1.7e9 + moved),
        "epoch in nanoseconds": (
            (1.7e18 + 1e12 * normal).astype("int64"),
            (1.7e18 + 1e12 * moved).astype("int64"),
        ),
        "tiny": (normal * 1e-9, moved * 1e-9),
        "huge": (normal * 1e150, moved * 1e150),
        "constant": (np.full(rows, 3.7), np.full(rows, 3.7)),
        "two constants": (np.full(rows, 3.7), np.full(rows, 3.8)),
        "zero-inflated": (
            np.where(zeros[0], 0.0, rng.exponential(size=rows)),
            np.where(zeros[1], 0.0, rng.exponential(size=rows)),
        ),
        "big integers": (big, big[: rows // 2] + 2**35),
        "few integers": (rng.integers(0, 8, rows), rng.integers(0, 8, rows)),
        "integers": (rng.poisson(30, rows), rng.poisson(31, rows)),
        "bytes": (rng.integers(0, 200, rows).astype("uint8"), rng.integers(0, 220, rows).astype("uint8")),
        "two values": (rng.integers(0, 2, rows) * 1.0, (rng.random(rows) < 0.52) * 1.0),
        "skewed": (rng.lognormal(0, 3, rows), rng.lognormal(0.1, 3, rows)),
        "no overlap": (rng.random(rows), 5 + rng.random(rows)),
    }


def categories(rows: int = 20_000, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return reference and current categories by name."""
    rng = np.random.default_rng(seed)
    words = np.array(
        ["ä", "ß", "日本", "🙂", "a\u0301", "\u00e1", "", " ", "'; --", "NULL", "nan"], dtype=object
    )
    return {
        "two": (rng.choice(["a", "b"], rows, p=[0.5, 0.5]), rng.choice(["a", "b"], rows, p=[0.52, 0.48])),
        "one": (np.full(rows, "a"), np.full(rows, "a")),
        "unicode": (rng.choice(words, rows), rng.choice(words, rows)),
        "many": (rng.integers(0, 3000, rows).astype(str), rng.integers(0, 3000, rows).astype(str)),
        "new": (rng.choice(list("abc"), rows), rng.choice(list("abcd"), rows, p=[0.33, 0.33, 0.33, 0.01])),
        "vanished": (rng.choice(list("abcd"), rows), rng.choice(list("abc"), rows)),
        "skewed": (
            rng.zipf(1.5, rows).clip(max=5000).astype(str),
            rng.zipf(1.52, rows).clip(max=5000).astype(str),
        ),
    }
