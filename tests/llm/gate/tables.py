"""Tables of evaluations, as tests need them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from airflow_pipeops.llm.results import COLUMNS


def table(scores: dict[str, Any], *, scorer: str = "exact", **columns: Any) -> pd.DataFrame:
    """A table of one scorer.

    :param scores: arm -> an array of shape (items, runs); NaN where a score is missing.
    :param scorer: its name.
    :param columns: further columns: a value for all, one for each item, or of shape (items, runs) by arm.
    """
    parts = []
    for arm, given in scores.items():
        values = np.asarray(given, dtype=float)
        values = values[:, None] if values.ndim == 1 else values
        items, runs = values.shape
        item = np.repeat(np.arange(items), runs)
        made = pd.DataFrame(
            {
                "item": [f"i{number}" for number in item],
                "arm": arm,
                "run": np.tile(np.arange(runs), items),
                "scorer": scorer,
                "value": values.ravel(),
                "hard": False,
                "output_digest": [f"{arm}{number}" for number in range(items * runs)],
            }
        )
        for name, value in columns.items():
            value = value[arm] if isinstance(value, dict) else value
            flat = np.asarray(value, dtype=object)
            made[name] = flat.ravel() if flat.shape == (items, runs) else flat[item] if flat.ndim else value
        parts.append(made)
    frame = pd.concat(parts, ignore_index=True)
    for name in COLUMNS:
        if name not in frame:
            frame[name] = None
    return frame


def coins(items: int, runs: int, seed: int, loss: float = 0.0) -> dict[str, Any]:
    """Scores of yes and no of two arms, the candidate of which passes so much less."""
    random = np.random.default_rng(seed)
    chance = random.beta(1.2, 0.6, size=items)
    return {
        arm: (random.random((items, runs)) < np.clip(each, 0, 1)[:, None]).astype(float)
        for arm, each in (("candidate", chance - loss), ("baseline", chance))
    }
