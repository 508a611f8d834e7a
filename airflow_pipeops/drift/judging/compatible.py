"""The numbers, choices and thresholds of Evidently 0.7, from aggregates: what its ``ValueDrift`` says, defects and all.

For who must stay comparable with reports of before. Where the robust mode differs it is on purpose: see
``docs/drift-statistics.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.settings import COMPATIBLE_METHODS, Settings
from airflow_pipeops.drift.statistics import Score, ordered, pvalues
from airflow_pipeops.drift.statistics import counts as stats
from airflow_pipeops.drift.statistics.aggregates import Aggregate, CategoricalAggregate, NumericAggregate
from airflow_pipeops.drift.statistics.bins import sturges_edges
from airflow_pipeops.drift.statistics.cells import Cells, intervals, joined
from airflow_pipeops.drift.statistics.histogram import (
    Open,
    binned,
    by_value,
    common_type,
    distinct,
    distinct_together,
    divergence,
    more_than,
    on_edges,
    pandas_type,
)
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Up to so many reference rows Evidently tests for significance; above it measures a distance.
SMALL = 1000

#: Up to so many distinct values a numeric column is compared as categories, and integers are taken for such.
FEW, FEW_INTEGERS = 5, 10


@dataclass(frozen=True)
class Outcome:
    """What Evidently says of one column.

    :param method: as in :data:`airflow_pipeops.drift.settings.COMPATIBLE_METHODS`.
    :param score: a distance or a p-value; NaN where Evidently has no number.
    :param detail: why not, or why it is open.
    :param refine: intervals of values that settle an open score.
    """

    method: str
    score: Score
    detail: str = ""
    refine: tuple[tuple[float, float], ...] = ()


def outcome(column: str, reference: Aggregate, current: Aggregate, settings: Settings) -> Outcome:
    """Compare one column as Evidently does."""
    method = settings.methods.get(column, "")
    try:
        if isinstance(reference, NumericAggregate) and isinstance(current, NumericAggregate):
            return _numeric(method or settings.method, reference, current, settings.kinds.get(column, ""))
        assert isinstance(reference, CategoricalAggregate)
        assert isinstance(current, CategoricalAggregate)
        if not settings.kinds.get(column) and _looks_like_text(current):
            return Outcome("", _NONE, "more than half of the values differ: Evidently takes it for free text")
        return _categorical(method or settings.method, reference, current)
    except Open as error:
        return Outcome(method or settings.method or "", _UNKNOWN, str(error), error.refine)
    except (InvalidInput, ZeroDivisionError, ValueError) as error:
        return Outcome(method or settings.method or "", _NONE, f"Evidently gives no number: {error}")


_NONE = Score(float("nan"), float("nan"), float("nan"))
_UNKNOWN = Score(float("nan"), float("-inf"), float("inf"))


def _numeric(
    method: str | None, reference: NumericAggregate, current: NumericAggregate, kind: str
) -> Outcome:
    cells = joined(reference, current)
    if kind == "categorical" or (not kind and _looks_categorical(current, cells)):
        before, after = by_value(cells)
        chosen = (
            method if method and _fits(method, "categorical") else _default_categorical(before, len(before))
        )
        return Outcome(chosen, Score.of(_CATEGORICAL[chosen](before, after)))
    chosen = method if method and _fits(method, "numeric") else _default_numeric(reference, cells)
    if chosen in ("chisquare", "z"):
        before, after = by_value(cells)
        return Outcome(chosen, Score.of(_CATEGORICAL[chosen](before, after)))
    if chosen in ("psi", "kl_div", "jensenshannon"):
        found = binned(reference, current)
        return Outcome(chosen, divergence(chosen, found), refine=found.refine)
    score = _NUMERIC[chosen](reference, current, cells)
    refine = () if score.exact else intervals(cells, ~cells.single)
    return Outcome(chosen, score, refine=refine)


def _fits(method: str, kind: str) -> bool:
    return kind in COMPATIBLE_METHODS[method][0]


def _looks_categorical(current: NumericAggregate, cells: Cells) -> bool:
    if not pandas_type(current).startswith("int"):
        return False
    return not more_than(FEW_INTEGERS, distinct(current), cells, "the current side")


def _looks_like_text(current: CategoricalAggregate) -> bool:
    kind = current.dtype.lower()
    return current.distinct > 0.5 * current.present and not kind.startswith(("bool", "cat", "int", "uint"))


def _default_numeric(reference: NumericAggregate, cells: Cells) -> str:
    many = more_than(FEW, distinct_together(cells), cells, "the column")
    if reference.finite <= SMALL:
        return "ks" if many else _significance(len(cells.low))
    return "wasserstein" if many else "jensenshannon"


def _default_categorical(before: Array, values: int) -> str:
    return _significance(values) if before.sum() <= SMALL else "jensenshannon"


def _significance(values: int) -> str:
    return "chisquare" if values > 2 else "z"


# --- numbers -------------------------------------------------------------------------------------------------------


def _wasserstein(reference: NumericAggregate, _: NumericAggregate, cells: Cells) -> Score:
    """Normed by the deviation of the reference, which pandas rounds to the column's own type, and at least 0.001."""
    import numpy as np

    score, variance = ordered.wasserstein(cells), ordered.moments(reference).variance
    kind: Any = np.float32 if pandas_type(reference) == "float32" else np.float64

    def norm(part: float) -> float:
        with np.errstate(over="ignore"):
            return max(float(np.sqrt(kind(part * reference.scale * reference.scale))), 0.001)

    scale = reference.scale
    value = score.value * scale / norm(variance.value)
    if score.exact and norm(variance.low) == norm(variance.high):
        return Score.of(value)
    low, high = score.low * scale / norm(variance.high), score.high * scale / norm(variance.low)
    return _settled(Score(value, min(low, value), max(high, value)), cells)


def _settled(score: Score, cells: Cells) -> Score:
    """Where every cell is one value only rounding is left: call it exact."""
    return Score.of(score.value) if cells.exact else score


def _energy(reference: NumericAggregate, _: NumericAggregate, cells: Cells) -> Score:
    score, unit = ordered.energy(cells), reference.scale**0.5
    return _settled(Score(score.value * unit, score.low * unit, score.high * unit), cells)


def _smirnov(reference: NumericAggregate, current: NumericAggregate, cells: Cells) -> Score:
    distance = ordered.kolmogorov_smirnov(cells)
    at_border, inside = ordered.smirnov_places(cells)
    n, m = cells.rows

    def p(place: tuple[int, int], gap: float) -> float:
        return pvalues.smirnov(gap, (place[0], n), (place[1], m))

    value = p(at_border, distance.value)
    return Score.of(value) if distance.exact else Score(value, p(inside, distance.high), value)


def _mises(_: NumericAggregate, __: NumericAggregate, cells: Cells) -> Score:
    import numpy as np

    n, m = cells.rows
    if max(n, m) <= pvalues.MISES_EXACT:
        from scipy import stats as scipy_stats

        by_value(cells)  # it must be known value by value
        samples = [np.repeat(np.arange(len(side)), side) for side in (cells.before, cells.after)]
        return Score.of(float(scipy_stats.cramervonmises_2samp(*samples, method="exact").pvalue))
    # Its series ends at a term below the precision: with each term more the p-value jumps by so much.
    return _falling(
        ordered.cramer_von_mises(cells),
        lambda part: pvalues.cramer_von_mises(part, n, m),
        cells,
        jump=pvalues.MISES_PRECISION,
    )


def _anderson(_: NumericAggregate, __: NumericAggregate, cells: Cells) -> Score:
    n, m = cells.rows
    if len(cells.low) < 2:
        raise ValueError("all values are the same")
    return _falling(ordered.anderson_darling(cells), lambda part: pvalues.anderson_darling(part, n, m), cells)


def _falling(score: Score, p: Callable[[float], float], cells: Cells, *, jump: float = 0.0) -> Score:
    ends = p(score.high), p(score.low)  # sorted: far out Evidently's tail is a rounding
    return _settled(Score(p(score.value), max(0.0, min(ends) - jump), max(ends) + jump), cells)


def _student(reference: NumericAggregate, current: NumericAggregate, _: Cells) -> Score:
    before, after = ordered.moments(reference), ordered.moved(current, reference)
    rows = before.rows, after.rows

    def p(shift: float, variances: tuple[float, float]) -> float:
        return pvalues.student((shift, 0.0), variances, rows)[1]

    shift = ordered.mean_shift(before, after)
    value = p(shift.value, (before.variance.value, after.variance.value))
    if not (reference.rounded or current.rounded):
        return Score.of(value)
    low = p(shift.high, (before.variance.low, after.variance.low))
    return Score(value, low, p(shift.low, (before.variance.high, after.variance.high)))


def _hellinger_numeric(reference: NumericAggregate, current: NumericAggregate, cells: Cells) -> Score:
    """On Sturges bins of the *distinct* values; between bounds where a cell straddles an edge."""
    import numpy as np

    least, most = distinct_together(cells)
    low, high = float(cells.low[0]), float(cells.high[-1])
    kind = common_type(reference, current)
    edges = sturges_edges(low, high, least, kind)
    if len(edges) != len(sturges_edges(low, high, most, kind)):
        raise Open(f"there are between {least} and {most} distinct values", intervals(cells, ~cells.single))
    found = on_edges(reference, current, edges)
    n, m = found.rows
    own_type = "float32" if kind == "float32" else "float64"
    own: Any = edges.astype(own_type)  # Evidently computes in the column's own type
    width = (own[-1] - own[0]) / (len(own) - 1)
    each = np.diff(own).astype("float64")

    def distance(before: Array, after: Array) -> float:
        terms = np.sqrt(before / each / n * (after / each / m)).astype(own.dtype) * width
        common = np.add.accumulate(terms)[-1]  # one after the other, as there
        return float(float(1 - np.clip(common, 0, 1)) ** 0.5)

    if found.exact:
        return Score.of(distance(found.before_least, found.after_least))
    middle = (found.before_least + found.before_most) / 2, (found.after_least + found.after_most) / 2
    ends = distance(found.before_most, found.after_most), distance(found.before_least, found.after_least)
    return Score(distance(*middle), max(0.0, ends[0] - 1e-9), ends[1] + 1e-9)


_NUMERIC: dict[str, Callable[[NumericAggregate, NumericAggregate, Cells], Score]] = {
    "wasserstein": _wasserstein,
    "ed": _energy,
    "ks": _smirnov,
    "t_test": _student,
    "cramer_von_mises": _mises,
    "anderson": _anderson,
    "hellinger": _hellinger_numeric,
}


def _categorical(
    method: str | None, reference: CategoricalAggregate, current: CategoricalAggregate
) -> Outcome:
    names, before, after = stats.aligned(reference.counts, current.counts)
    chosen = method if method and _fits(method, "categorical") else ""
    small = reference.present <= SMALL
    chosen = chosen or (_significance(len(names)) if small else "jensenshannon")
    if reference.capped or current.capped:
        return _capped(chosen, reference, current)
    return Outcome(chosen, Score.of(_CATEGORICAL[chosen](before, after)))


def _capped(method: str, reference: CategoricalAggregate, current: CategoricalAggregate) -> Outcome:
    """Bounds where categories beyond a cap are known in sum only.

    Putting categories together can only bring two rows of shares nearer, so the distance of the shares with one common rest
    is a lower bound; the rests share no category at worst, which gives the upper one.
    """
    import numpy as np

    both = sorted(reference.counts.keys() & current.counts.keys())
    n, m = float(reference.present), float(current.present)
    p = np.array([reference.counts[name] for name in both], "float64") / n
    q = np.array([current.counts[name] for name in both], "float64") / m
    rest = max(0.0, 1 - float(p.sum())), max(0.0, 1 - float(q.sum()))
    detail = "categories beyond the cap are known in sum only"
    together = np.r_[p, rest[0]], np.r_[q, rest[1]]
    apart = np.r_[p, rest[0], 0.0], np.r_[q, 0.0, rest[1]]
    functions = {"jensenshannon": stats.jensen_shannon, "hellinger": stats.hellinger}
    if method not in functions:
        return Outcome(method, _UNKNOWN, detail)
    low, high = (functions[method](*shares) for shares in (together, apart))
    return Outcome(method, Score((low + high) / 2, low * (1 - 1e-12), high * (1 + 1e-12)), detail)


def _fit(before: Array, after: Array) -> float:
    import numpy as np

    if len(before) < 2:
        return float("nan")  # no freedom: SciPy has no number either
    value = stats.chi_square_fit(before, after)
    return 0.0 if np.isinf(value) else pvalues.chi_square(value, len(before) - 1)


def _proportions(before: Array, after: Array) -> float:
    if len(before) == 1:
        return 1.0
    rows = int(before.sum()), int(after.sum())
    hits = int(before[1:].sum()), int(after[1:].sum())
    return pvalues.normal(stats.z_statistic((hits[0], rows[0]), (hits[1], rows[1])))


def _likelihood(before: Array, after: Array) -> float:
    """Evidently forgets to scale the expected rows, so SciPy refuses sides of different sizes."""
    import numpy as np

    n, m = float(before.sum()), float(after.sum())
    if abs(n - m) > 1.4901161193847656e-08 * min(n, m):
        raise ValueError("its G-test needs sides of the same size")
    if len(before) < 2:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 2 * float(np.sum(np.where(after > 0, after * np.log(after / before), 0.0)))
    return 0.0 if np.isinf(value) else pvalues.chi_square(value, len(before) - 1)


def _filled(function: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    return lambda before, after: function(
        stats.filled(before / before.sum()), stats.filled(after / after.sum())
    )


def _plain(function: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    return lambda before, after: function(before / before.sum(), after / after.sum())


_CATEGORICAL: dict[str, Callable[[Any, Any], float]] = {
    "psi": _filled(stats.psi),
    "kl_div": _filled(stats.kullback_leibler),
    "jensenshannon": _plain(stats.jensen_shannon),
    "hellinger": _plain(stats.hellinger),
    "chisquare": _fit,
    "z": _proportions,
    "g_test": _likelihood,
}
