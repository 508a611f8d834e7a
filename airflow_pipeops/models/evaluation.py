"""Champion and challenger on the same rows, with an interval of the gain from a paired bootstrap.

The interval is the gain, give or take the bootstrap's standard error times a quantile of Student's t. A bootstrap cannot
know what a label of which it has seen three rows looks like elsewhere, and its error is too small by just that: so the
degrees of freedom are those of the rarest label, and where it has fewer than
:data:`~airflow_pipeops.models.paired.gain.MIN_UNITS` rows there is no interval.

Rows that move together, as those of one day do, are fewer than they look. With a ``cluster`` column whole clusters are
drawn, and the degrees of freedom are at most those of the clusters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.comparison import Compared
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.units import Units, of_columns, too_few

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Scorer = Callable[[Any, "pd.DataFrame"], float]

#: Resampling more rows than this narrows the interval by less than it costs in time.
MAX_ROWS = 20_000

_CONFIDENCE = 0.95


def compare(
    challenger: Any,
    champion: Any | None,
    frame: pd.DataFrame,
    scorer: Scorer,
    *,
    metric: str = "the metric",
    target: str | None = None,
    cluster: str | None = None,
    level: bool = False,
    higher_is_better: bool = True,
    rounds: int = 200,
    seed: int = 0,
) -> Compared:
    """Score both models on the same rows, and both again on each of ``rounds`` resamples of those rows.

    :param scorer: ``scorer(model, frame) -> float``; it may call ``predict`` and ``predict_proba`` of the model, on rows
        that it has sorted, filtered or numbered anew, as long as they are the same for both models.
    :param metric: name of what the scorer measures.
    :param target: name of the label's column, by which the rows of the rarest label are counted.
    :param cluster: name of a column whose equal values mark rows that move together; of times, those of one day do.
    :param level: also find the interval of the challenger's own number, which a floor is held against.
    :return: both numbers, and the interval of the gain.
    :raises InvalidInput: for a scorer that gives no finite number, or asks the two models about different rows; for a
        cluster column that is not there, or holds nulls.
    """
    import numpy as np

    frame = frame.reset_index(drop=True)
    new = _Remembering(challenger)
    value = new.scored(scorer, frame)
    random = np.random.default_rng(seed)
    pool = random.permutation(len(frame))[:MAX_ROWS]
    units = of_columns(frame, cluster).part(pool)
    old, gain = None, None
    if champion is not None:
        old = _Remembering(champion)
        other = old.scored(scorer, frame)
        _check_paired(new, old)
        turned = (value - other) * (1 if higher_is_better else -1)
        gain = Gain(metric, value, other, turned, None, 0, len(frame), units.count, units.name)
    elif not level:
        return Compared(value, None)

    def unsure(doubt: str) -> Compared:
        return Compared(value, None, gain and replace(gain, doubt=doubt), doubt=doubt)

    rarest = _rarest(challenger, frame.iloc[pool], target)
    if doubt := too_few(units, rarest):
        return unsure(doubt)
    clusters = _clusters(pool, units)
    values, others = [], []
    for _ in range(rounds):
        sample = frame.iloc[_drawn(random, pool, clusters)]
        try:
            values.append(new.scored(scorer, sample))
            if old is not None:
                others.append(old.scored(scorer, sample))
        except InvalidInput:
            # The scorer has no number for it: a label that a resample can miss has a handful of rows.
            return unsure(
                "there are resamples of these rows that cannot be scored, as where a label has few rows"
            )
        if old is not None:
            _check_paired(new, old)
    rows = min(rarest, units.count)
    if gain is not None:
        gain = replace(
            gain, error=_error(np.std(np.subtract(values, others), ddof=1), rows), degrees=rows - 1
        )
    found = _level(value, float(np.std(values, ddof=1)), rows) if level else None
    doubt = "all resamples have the same number" if level and found is None else ""
    return Compared(value, found, gain, doubt=doubt)


def _error(spread: Any, rows: int) -> float:
    """Return the standard error: a resample's spread is that of ``rows`` rows and knows of ``rows - 1``."""
    return float(spread * (rows / (rows - 1)) ** 0.5)


def _level(value: float, error: float, rows: int) -> tuple[float, float] | None:
    """Return the interval of a model's own number; ``None`` where its rows agree and nobody knows what others could do.

    Of a number between 0 and 1 that is known: one further row, as bad or as good as can be, is added to those that were
    seen, so that ten rows which are all right do not make a certainty.
    """
    from scipy.stats import t

    from airflow_pipeops.models.performance.intervals import Part, bounded

    half = _error(error, rows) * float(t.ppf(0.5 + _CONFIDENCE / 2, rows - 1))
    low, high = value - half, value + half
    if not 0 <= value <= 1:
        return (low, high) if error else None
    part = Part(rows, value / (rows + 1), (1 - value) / (rows + 1), error**2)
    least, most = bounded(value, [part], _CONFIDENCE)
    return min(low, least), max(high, most)


def _clusters(pool: Any, units: Units) -> list[Any] | None:
    """Return the rows of each unit; ``None`` where each row stands for itself."""
    import numpy as np

    if not units.name:
        return None
    order = np.argsort(units.codes, kind="stable")
    return np.split(pool[order], np.flatnonzero(np.diff(units.codes[order])) + 1)


def _drawn(random: Any, pool: Any, clusters: list[Any] | None) -> Any:
    """Draw rows, or whole clusters, as many as there are, each of them perhaps several times."""
    import numpy as np

    if clusters is None:
        return random.choice(pool, size=len(pool), replace=True)
    return np.concatenate([clusters[one] for one in random.integers(len(clusters), size=len(clusters))])


def _rarest(model: Any, frame: pd.DataFrame, target: str | None) -> int:
    """Return the rows of the rarest label; all rows, where the model tells no classes or nobody knows the label's column."""
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
