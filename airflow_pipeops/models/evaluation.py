"""Champion and challenger on the same rows, with a paired bootstrap interval of the gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Scorer = Callable[[Any, "pd.DataFrame"], float]

#: Resampling more rows than this narrows the interval by less than it costs in time.
MAX_ROWS = 20_000


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    :param challenger: score of the challenger.
    :param champion: score of the champion; ``None`` without one.
    :param interval: 95 % interval of challenger minus champion; ``None`` without a champion.
    :param rows: number of rows scored.
    """

    challenger: float
    champion: float | None
    interval: tuple[float, float] | None
    rows: int


def compare(
    challenger: Any,
    champion: Any | None,
    frame: pd.DataFrame,
    scorer: Scorer,
    *,
    higher_is_better: bool = True,
    rounds: int = 200,
    seed: int = 0,
) -> Comparison:
    """Score both models on the same rows, and both again on each of ``rounds`` resamples of those rows.

    :param scorer: ``scorer(model, frame) -> float``; it may call ``predict`` and ``predict_proba`` of the model.
    :return: both scores, and the interval of their difference.
    """
    import numpy as np

    frame = frame.reset_index(drop=True)
    value = number(scorer(challenger, frame))
    if champion is None:
        return Comparison(value, None, None, len(frame))
    other = number(scorer(champion, frame))
    random = np.random.default_rng(seed)
    pool = random.permutation(len(frame))[:MAX_ROWS]
    new, old = _Remembering(challenger, frame), _Remembering(champion, frame)
    gains = []
    for _ in range(rounds):
        sample = frame.iloc[random.choice(pool, size=len(pool), replace=True)]
        try:
            gains.append(number(scorer(new, sample)) - number(scorer(old, sample)))
        except InvalidInput:
            continue  # a resample of few rows may hold one label only
    if len(gains) < rounds // 2:
        return Comparison(value, other, None, len(frame))
    sign = 1 if higher_is_better else -1
    low, high = sorted(sign * float(bound) for bound in np.quantile(gains, [0.025, 0.975]))
    return Comparison(value, other, (low, high), len(frame))


def number(value: Any) -> float:
    """Refuse what a scorer gave if it is no finite number.

    :return: the number.
    :raises InvalidInput: if it is none.
    """
    import math

    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInput(f"the scorer returned {value!r}, not a finite number", field="scorer")
    return found


class _Remembering:
    """A model that predicts each row of a known table once; a resample of it costs a look-up."""

    def __init__(self, model: Any, frame: pd.DataFrame) -> None:
        self._model, self._frame = model, frame
        self._known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in ("predict", "predict_proba", "decision_function"):
            return found

        def remembered(rows: pd.DataFrame) -> Any:
            if name not in self._known:
                self._known[name] = found(self._frame[list(rows.columns)])
            return self._known[name][rows.index]

        return remembered
