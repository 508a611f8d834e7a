"""Real streams on which retraining can be replayed: every model is scored on every later block, once, and kept.

A model is trained after each block on the last ``window`` blocks. ``score[i, j]`` is the AUC on block ``j`` of the model
trained after block ``i``; every rule is a path through that matrix, so all rules see the same models and the same data.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from tests import realdata

#: In the name of a kept matrix; another number after a change here.
VERSION = 3


@dataclass
class Stream:
    """Labelled rows in the order of time, cut into blocks.

    :param features: numbers; categories as codes, with their positions in ``categorical``.
    """

    name: str
    features: pd.DataFrame
    target: np.ndarray
    block: np.ndarray
    window: int
    categorical: list[int] = field(default_factory=list)
    iterations: int = 60

    @cached_property
    def rows(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.block == number) for number in range(int(self.block.max()) + 1)]

    @property
    def blocks(self) -> int:
        return len(self.rows)

    def learned(self, trained: int) -> np.ndarray:
        """Return the rows that the model trained after a block learned from."""
        return np.concatenate(self.rows[max(0, trained - self.window + 1) : trained + 1])

    @cached_property
    def matrix(self) -> Matrix:
        """Every model on every later block; read if it is kept, computed and kept otherwise."""
        kept = realdata.folder() / f"retrain-{self.name}-{VERSION}.npz"
        with realdata.locked(kept.name):  # several processes may ask at once
            if not kept.exists():
                _keep(kept, **self._compute())
        with np.load(kept) as found:
            return Matrix(found["score"], found["wrong"], found["error"])

    def fit(self, trained: int):
        from sklearn.ensemble import HistGradientBoostingClassifier

        rows = self.learned(trained)
        model = HistGradientBoostingClassifier(
            max_iter=self.iterations,
            categorical_features=self.categorical or None,
            early_stopping=False,
            random_state=0,
        )
        return model.fit(self.features.to_numpy()[rows], self.target[rows])

    def _compute(self) -> dict[str, np.ndarray]:
        from sklearn.metrics import roc_auc_score

        score = np.full((self.blocks, self.blocks), np.nan)
        error = score.copy()
        wrong = np.zeros((self.blocks, len(self.target)), dtype=bool)
        data = self.features.to_numpy()
        for trained in range(self.window - 1, self.blocks - 1):
            model = self.fit(trained)
            later = np.concatenate(self.rows[trained + 1 :])
            chance = np.full(len(self.target), np.nan)
            chance[later] = model.predict_proba(data[later])[:, 1]
            wrong[trained, later] = (chance[later] > 0.5) != self.target[later]
            for number in range(trained + 1, self.blocks):
                rows = self.rows[number]
                score[trained, number] = roc_auc_score(self.target[rows], chance[rows])
                error[trained, number] = auc_error(score[trained, number], self.target[rows])
        return {"score": score, "wrong": wrong, "error": error}


@dataclass(frozen=True)
class Matrix:
    """``score[trained, block]`` with its standard ``error``; ``wrong[trained, row]`` says which rows were misjudged."""

    score: np.ndarray
    wrong: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Task:
    """A part of a stream: rules that need it learn from the blocks before ``start``, and all are scored from it on.

    The first model is the one trained after the block before ``start``.

    :param tuned: whether the governor's few constants were chosen while looking at this part.
    """

    name: str
    stream: Stream
    prefix: range
    start: int
    stop: int
    tuned: bool = False


def auc_error(auc: float, target: np.ndarray) -> float:
    """Return the standard error of an AUC (Hanley and McNeil, 1982)."""
    ones = float(target.sum())
    zeros = len(target) - ones
    both, neither = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (ones - 1) * (both - auc**2) + (zeros - 1) * (neither - auc**2)
    return float(np.sqrt(max(spread, 0) / (ones * zeros)))


def _keep(target: Path, **arrays: np.ndarray) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    with unfinished.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    unfinished.replace(target)


def _codes(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """Return categories as codes, the most frequent 254 of them; the rest count as one."""
    coded = frame.copy()
    categorical = [n for n, name in enumerate(frame) if not pd.api.types.is_numeric_dtype(frame[name])]
    for name in frame.columns[categorical]:
        order = frame[name].value_counts(dropna=False).index[:254]
        coded[name] = frame[name].map({value: code for code, value in enumerate(order)}).fillna(254)
    return coded.astype(float), categorical


def elec2() -> Stream:
    """Weeks of half-hours; a model learns from eight."""
    frame = realdata.elec2()
    frame = frame[: len(frame) // 336 * 336]
    block = np.arange(len(frame)) // 336
    return Stream("elec2-weeks", frame.drop(columns="up"), frame["up"].to_numpy(), block, 8)


def noaa() -> Stream:
    """Years of days; a model learns from five."""
    frame = realdata.noaa()
    frame = frame[: len(frame) // 365 * 365]
    block = np.arange(len(frame)) // 365
    return Stream("noaa-years", frame.drop(columns="rain"), frame["rain"].to_numpy(), block, 5)


def employment() -> Stream:
    """Twelfths of years; a model learns from six. Within a census year the order means nothing: it is shuffled."""
    frame = realdata.employment()
    frame = frame.sample(frac=1, random_state=0).sort_values("year", kind="stable", ignore_index=True)
    place = frame.groupby("year").cumcount() * 12 // frame.groupby("year")["id"].transform("size")
    block = ((frame["year"] - 2015) * 12 + place).to_numpy()
    drop = ["id", "employed", "year", "prediction", "predicted_probability"]
    features, categorical = _codes(frame.drop(columns=drop))
    return Stream("employment-months", features, frame["employed"].to_numpy(), block, 6, categorical, 40)


def flights(by: str) -> Stream:
    """Months (a model learns from two) or weeks (from eight)."""
    frame = realdata.flights()
    features, categorical = _codes(frame.drop(columns=["late", "day", "month"]))
    week = np.minimum((pd.to_datetime(frame["day"]).dt.dayofyear - 1) // 7, 51).to_numpy()
    block, window = (frame["month"].to_numpy() - 1, 2) if by == "months" else (week, 8)
    return Stream(f"flights-{by}", features, frame["late"].to_numpy(), block, window, categorical)


def tasks() -> dict[str, Callable[[], list[Task]]]:
    """Return what is replayed, by the name of its stream; nothing is read before it is called."""

    def of_elec2() -> list[Task]:
        stream = elec2()
        return [
            Task("elec2, first half", stream, range(8, 26), 26, 71, tuned=True),
            Task("elec2, second half", stream, range(53, 71), 71, stream.blocks),
        ]

    def of_employment() -> list[Task]:
        stream = employment()
        return [
            Task("employment, first half", stream, range(6, 12), 12, 30, tuned=True),
            Task("employment, second half", stream, range(18, 30), 30, stream.blocks),
        ]

    def of_noaa() -> list[Task]:
        stream = noaa()
        return [Task("NOAA weather, years", stream, range(5, 16), 16, stream.blocks)]

    def of_flight_weeks() -> list[Task]:
        stream = flights("weeks")
        return [Task("flights, weeks", stream, range(8, 19), 19, stream.blocks)]

    def of_flight_months() -> list[Task]:
        stream = flights("months")
        # Ten months are too few to hold some back: rules that learn from a prefix see what they are scored on.
        return [Task("flights, months", stream, range(2, 5), 2, stream.blocks)]

    return {
        "elec2": of_elec2,
        "employment": of_employment,
        "noaa": of_noaa,
        "flights-weeks": of_flight_weeks,
        "flights-months": of_flight_months,
    }
