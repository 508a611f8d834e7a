"""Champion and challenger on the same rows, with an interval of the gain from a paired bootstrap.

The interval is the gain, give or take the bootstrap's standard error times a quantile of Student's t. A bootstrap cannot
know what a label of which it has seen three rows looks like elsewhere, and its error is too small by just that: so the
degrees of freedom are those of the rarer label, and where it has fewer than :data:`MIN_RARER` rows there is no interval.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Scorer = Callable[[Any, "pd.DataFrame"], float]

#: Resampling more rows than this narrows the interval by less than it costs in time.
MAX_ROWS = 20_000

#: With fewer rows of the rarer label nothing is said about a gain.
MIN_RARER = 10


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    :param challenger: the scorer's number of the challenger.
    :param champion: the same of the champion; ``None`` without one.
    :param interval: 95 % interval of the gain, turned so that positive is better; ``None`` without a champion, or where
        nobody can tell.
    :param rows: that both were scored on.
    :param doubt: why nobody can tell, in plain words.
    """

    challenger: float
    champion: float | None
    interval: tuple[float, float] | None
    rows: int
    doubt: str = ""


def compare(
    challenger: Any,
    champion: Any | None,
    frame: pd.DataFrame,
    scorer: Scorer,
    *,
    target: str | None = None,
    higher_is_better: bool = True,
    rounds: int = 200,
    seed: int = 0,
) -> Comparison:
    """Score both models on the same rows, and both again on each of ``rounds`` resamples of those rows.

    :param scorer: ``scorer(model, frame) -> float``; it may call ``predict`` and ``predict_proba`` of the model, on rows
        that it has sorted, filtered or numbered anew, as long as they are the same for both models.
    :param target: name of the label's column, by which the rows of the rarer label are counted.
    :return: both numbers, and the interval of the gain.
    :raises InvalidInput: for a scorer that gives no finite number, or asks the two models about different rows.
    """
    import numpy as np

    frame = frame.reset_index(drop=True)
    new = _Remembering(challenger)
    value = new.scored(scorer, frame)
    if champion is None:
        return Comparison(value, None, None, len(frame))
    old = _Remembering(champion)
    other = old.scored(scorer, frame)
    _check_paired(new, old)
    sign = 1 if higher_is_better else -1
    random = np.random.default_rng(seed)
    pool = random.permutation(len(frame))[:MAX_ROWS]
    rarer = _rarer(challenger, frame.iloc[pool], target)
    if rarer < MIN_RARER:
        of_a_label = " of the rarer label" if rarer < len(pool) else ""
        doubt = f"{rarer} rows{of_a_label} among the {len(pool)} compared are too few, at least {MIN_RARER} are needed"
        return Comparison(value, other, None, len(frame), doubt)
    gains = []
    for _ in range(rounds):
        sample = frame.iloc[random.choice(pool, size=len(pool), replace=True)]
        try:
            gains.append(new.scored(scorer, sample) - old.scored(scorer, sample))
        except InvalidInput:
            # The scorer has no number for it: a label that a resample can miss has a handful of rows.
            doubt = "there are resamples of these rows that cannot be scored, as where a label has few rows"
            return Comparison(value, other, None, len(frame), doubt)
        _check_paired(new, old)
    gain, half = sign * (value - other), _half(np.std(gains, ddof=1), rarer)
    return Comparison(value, other, (gain - half, gain + half), len(frame))


def _half(error: Any, rows: int, confidence: float = 0.95) -> float:
    """Return half of the interval: a resample's error is that of ``rows`` rows and knows of ``rows - 1``."""
    from scipy.stats import t

    return float(error * (rows / (rows - 1)) ** 0.5 * t.ppf(0.5 + confidence / 2, rows - 1))


def _rarer(model: Any, frame: pd.DataFrame, target: str | None) -> int:
    """Return the rows of the rarer label; all rows, where the model tells no classes or nobody knows the label's column."""
    if not hasattr(model, "classes_"):
        return len(frame)
    if target is None:
        # Nobody said which column it is: one that was not learned from and holds nothing but the model's classes.
        other = [
            name for name in frame.columns if name not in getattr(model, "feature_names_in_", frame.columns)
        ]
        labels = [name for name in other if frame[name].isin(model.classes_).all()]
        target = labels[0] if len(labels) == 1 else None
    if target not in frame.columns:
        return len(frame)
    counts = frame[target].value_counts()
    return int(counts.min()) if len(counts) > 1 else 0


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
    """A model that predicts each row once: of a row that it has seen, by its content, it knows the answer.

    A row's place or index says nothing, since a scorer may sort, filter, or number its rows anew.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        #: For a method and the columns that it was given: the rows it has seen, and its answers.
        self._known: dict[Any, tuple[pd.Index[Any], np.ndarray[Any, Any]]] = {}
        #: The columns and rows that the model was asked about in the last scoring, one entry a call.
        self.asked: list[tuple[tuple[str, ...], np.ndarray[Any, Any]]] = []

    def scored(self, scorer: Scorer, frame: pd.DataFrame) -> float:
        """Let the scorer score this model on a table of its own, which it may change."""
        self.asked = []
        return number(scorer(self, frame.copy()))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in ("predict", "predict_proba", "decision_function"):
            return found

        @functools.wraps(found)
        def remembered(rows: Any) -> Any:
            return self._remembered(name, found, rows)

        return remembered

    def _remembered(self, name: str, predict: Callable[[Any], Any], rows: Any) -> Any:
        import numpy as np
        import pandas as pd

        if not isinstance(rows, pd.DataFrame) or not len(rows):
            return predict(rows)
        try:
            content = pd.util.hash_pandas_object(rows, index=False).to_numpy()
        except TypeError:  # a value that has no hash, such as a list
            return predict(rows)
        columns = tuple(map(str, rows.columns))
        self.asked.append((columns, content))
        key = (name, columns, tuple(map(str, rows.dtypes)))
        seen, answers = self._known.get(key, (pd.Index([], dtype=content.dtype), None))
        unseen = np.flatnonzero(seen.get_indexer(content) < 0)
        if len(unseen):
            fresh = unseen[np.unique(content[unseen], return_index=True)[1]]
            found = np.asarray(predict(rows.iloc[fresh]))
            if len(found) != len(fresh):  # no answer for each row, such as a list of several outputs
                return predict(rows)
            seen = seen.append(pd.Index(content[fresh]))
            answers = found if answers is None else np.concatenate([answers, found])
            self._known[key] = seen, answers
        assert answers is not None
        return answers[seen.get_indexer(content)]


def _check_paired(new: _Remembering, old: _Remembering) -> None:
    """Refuse what is no pair: a scorer that draws rows of its own scores each model on others.

    :raises InvalidInput: if the two models were not asked about the same rows, as far as their columns can be compared.
    """
    import numpy as np

    same = len(new.asked) == len(old.asked) and all(
        len(ours) == len(theirs) and (columns != others or bool(np.array_equal(ours, theirs)))
        for (columns, ours), (others, theirs) in zip(new.asked, old.asked, strict=True)
    )
    if not same:
        raise InvalidInput(
            "the scorer asked the champion about other rows than the challenger, so that nothing can be compared",
            field="scorer",
            remedy="Let it score all rows that it is given, or draw them with a seed of its own.",
        )
