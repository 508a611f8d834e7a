"""Whether a model is given at serving what it would have been given at training: value by value, with the likely cause.

The features of logged requests are made again as of each request's time, and compared. Of two values that differ, the first
of these causes is named that explains it:

``missing``: one is null. ``type``: one is a number and the other a text, or a time. ``stale``: it is what the feature was
earlier. ``rounding``: one is the other, rounded. ``timezone``: they are whole quarters of an hour apart, or hours of the day
that are all shifted alike. ``category``: texts that differ in case or spaces, or stand for each other one to one. ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.serialisation import JsonForm

if TYPE_CHECKING:
    import pandas as pd

CAUSES = ("missing", "type", "stale", "rounding", "timezone", "category", "other")
#: The chance of a false alarm, over all features.
_ALARM = 0.01
#: Seconds of a quarter of an hour, by which zones differ, and of the largest offset between two of them.
_QUARTER, _WORLD = 900, 26 * 3600
#: Decimals that somebody may have rounded to.
_DECIMALS = range(9)

Outcome = Literal["same", "skew", "cannot tell"]


@dataclass(frozen=True)
class FeatureSkew(JsonForm):
    """What was found of one feature.

    :param name: of the feature.
    :param rows: that were compared.
    :param differing: of them.
    :param causes: cause -> rows.
    :param served: of the first row that differs, as a text.
    :param recomputed: of that row, as a text.
    """

    name: str
    rows: int
    differing: int
    causes: Mapping[str, int] = field(default_factory=dict)
    served: str = ""
    recomputed: str = ""

    @property
    def share(self) -> float:
        """Share of the rows that differ."""
        return self.differing / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class SkewReport(JsonForm):
    """The verdict, and what it rests on.

    :param outcome: ``same``, ``skew`` or ``cannot tell``.
    :param reason: in one sentence.
    :param rows: requests that were compared.
    :param features: what was found of each.
    """

    outcome: Outcome
    reason: str
    rows: int
    features: tuple[FeatureSkew, ...] = ()


def compared(
    served: pd.DataFrame,
    recomputed: pd.DataFrame,
    features: Sequence[str],
    *,
    earlier: Sequence[pd.DataFrame] = (),
    allowed: float = 0.001,
    tolerance: float = 1e-9,
) -> SkewReport:
    """Compare the features of the same requests.

    :param served: as the model was given them.
    :param recomputed: as training would make them; the same rows in the same order.
    :param features: columns that are compared.
    :param earlier: recomputed as of earlier times, by which stale values are known.
    :param allowed: share of the rows that may differ.
    :param tolerance: relative difference of two numbers that counts as none.
    :return: the verdict.
    :raises InvalidInput: for columns that are absent.
    """
    has_columns("requests", served.columns, features)
    has_columns("features", recomputed.columns, features)
    found = []
    for name in features:
        past = [frame[name].reset_index(drop=True) for frame in earlier if name in frame.columns]
        found.append(
            _of_feature(
                name,
                served[name].reset_index(drop=True),
                recomputed[name].reset_index(drop=True),
                past,
                tolerance,
            )
        )
    return judged(found, len(served), allowed)


def judged(found: Sequence[FeatureSkew], rows: int, allowed: float) -> SkewReport:
    """Judge what was found.

    :param found: of each feature.
    :param rows: that were compared.
    :param allowed: share of the rows that may differ.
    :return: ``skew`` where more differ than chance allows, ``same`` where no more than allowed differ among enough rows,
        else ``cannot tell``.
    """
    from scipy.stats import binom

    features = tuple(sorted(found, key=lambda one: -one.share))
    if not rows or not features:
        return SkewReport("cannot tell", "there is no request to compare", rows, features)
    beyond = [
        one
        for one in features
        if binom.sf(one.differing - 1, one.rows, allowed) < _ALARM / len(features) and one.differing
    ]
    if beyond:
        worst = beyond[0]
        cause = max(worst.causes, key=lambda name: (worst.causes[name], -CAUSES.index(name)))
        others = f"; so do {len(beyond) - 1} others more than allowed" if len(beyond) > 1 else ""
        reason = (
            f"{worst.name!r} differs in {worst.share:.2%} of {rows:,} requests, most of all by {cause}: served"
            f" {worst.served}, recomputed {worst.recomputed}{others}"
        )
        return SkewReport("skew", reason, rows, features)
    needed = round(1 / allowed)
    if rows < needed:
        reason = f"{rows:,} requests are too few to tell a share of {allowed:.2%}; {needed:,} would do"
        return SkewReport("cannot tell", reason, rows, features)
    if features[0].share > allowed:
        reason = f"{features[0].name!r} differs in {features[0].share:.2%} of {rows:,} requests, which chance may explain"
        return SkewReport("cannot tell", reason, rows, features)
    reason = f"no feature differs in more than {features[0].share:.2%} of {rows:,} requests"
    return SkewReport("same", reason, rows, features)


def _of_feature(
    name: str, served: pd.Series[Any], again: pd.Series[Any], past: Sequence[pd.Series[Any]], tolerance: float
) -> FeatureSkew:
    import numpy as np

    differs = ~_same(served, again, tolerance)
    if not differs.any():
        return FeatureSkew(name, len(served), 0)
    one, other = served[differs], again[differs]
    unexplained = np.ones(len(one), dtype=bool)
    causes = {}
    explained = {
        "missing": (one.isna() | other.isna()).to_numpy(),
        "type": _kinds(one) != _kinds(other),
        "stale": _any(_same(one, before[differs], tolerance) for before in past),
        "rounding": _rounded(one, other),
        "timezone": _zoned(one, other),
        "category": _coded(one, other),
        "other": np.ones(len(one), dtype=bool),
    }
    for cause in CAUSES:
        by_this = explained[cause] & unexplained
        if count := int(by_this.sum()):
            causes[cause] = count
        unexplained &= ~by_this
    # As Python writes it: a column of numbers would give one that says of which type of NumPy it is.
    told = [repr(first.astype(object).iloc[0])[:80] for first in (one, other)]
    return FeatureSkew(name, len(served), int(differs.sum()), causes, *told)


def _any(found: Any) -> Any:
    import numpy as np

    listed = list(found)
    return np.logical_or.reduce(listed) if listed else False


def _same(one: pd.Series[Any], other: pd.Series[Any], tolerance: float) -> Any:
    """Tell which values are the same: both null, both of one kind and equal, or numbers within the tolerance."""
    import numpy as np

    nulls = (one.isna() & other.isna()).to_numpy()
    kinds = _kinds(one)
    alike = (kinds == _kinds(other)) & (kinds != "")
    left, right = one.astype(object).to_numpy(), other.astype(object).to_numpy()
    equal = np.array(
        [same and bool(a == b) for a, b, same in zip(left, right, alike, strict=True)], dtype=bool
    )
    ours, theirs = _numbers(one), _numbers(other)
    near = np.abs(ours - theirs) <= tolerance * np.maximum(1.0, np.abs(theirs))
    return nulls | equal | (near & alike)


def _kinds(given: pd.Series[Any]) -> Any:
    """Return for each value whether it is a number, a text, a time, or nothing."""
    import numpy as np

    def kind(value: Any) -> str:
        if isinstance(value, (bool, np.bool_, int, float, np.number)):
            return "number"
        return "text" if isinstance(value, str) else "time" if hasattr(value, "timestamp") else "object"

    return np.array(
        ["" if null else kind(value) for value, null in zip(given.astype(object), given.isna(), strict=True)],
        dtype=object,
    )


def _numbers(given: pd.Series[Any]) -> Any:
    """Return numbers as doubles, and NaN for everything else."""
    import numpy as np

    kinds = _kinds(given)
    values = given.astype(object).to_numpy()
    return np.array(
        [float(value) if kind == "number" else np.nan for value, kind in zip(values, kinds, strict=True)]
    )


def _rounded(one: pd.Series[Any], other: pd.Series[Any]) -> Any:
    """Tell which numbers are the other, rounded to some decimals or to a shorter float, either way round."""
    import numpy as np

    a, b = _numbers(one), _numbers(other)
    with np.errstate(over="ignore", invalid="ignore"):
        found = (a.astype("float32") == b.astype("float32")) | (a.astype("float16") == b)
        found |= b.astype("float16") == a
        for decimals in _DECIMALS:
            for short, long in ((a, b), (b, a)):
                cut = np.trunc(long * 10.0**decimals) / 10.0**decimals
                found |= np.isclose(short, np.round(long, decimals), rtol=0, atol=1e-12) | (short == cut)
    return found


def _zoned(one: pd.Series[Any], other: pd.Series[Any]) -> Any:
    """Tell which times are whole quarters of an hour apart, and whether hours of the day are all shifted alike."""
    import numpy as np

    def seconds(value: Any) -> float:
        try:
            import pandas as pd

            found = pd.Timestamp(value)
            return float((found.tz_localize("UTC") if found.tz is None else found).timestamp())
        except (ValueError, TypeError):
            return np.nan

    numbers, others = _numbers(one), _numbers(other)
    if np.isfinite(numbers).all() and np.isfinite(others).all():
        whole = all(((x >= 0) & (x < 24) & (x % 1 == 0)).all() for x in (numbers, others))
        shifts = np.unique((numbers - others) % 24)
        shifted = whole and len(shifts) == 1 and len(np.unique(numbers)) > 1
        return np.full(len(one), shifted)
    times = np.array(
        ["time" in pair or pair == ("text", "text") for pair in zip(_kinds(one), _kinds(other), strict=True)]
    )
    apart = np.array(
        [seconds(a) - seconds(b) if maybe else np.nan for a, b, maybe in zip(one, other, times, strict=True)]
    )
    return (np.abs(apart) <= _WORLD) & (apart % _QUARTER == 0) & (apart != 0)


def _coded(one: pd.Series[Any], other: pd.Series[Any]) -> Any:
    """Tell which texts differ in case and spaces alone, or whether all stand for each other one to one."""
    import numpy as np
    import pandas as pd

    texts = (_kinds(one) == "text") & (_kinds(other) == "text")
    plain = [column.astype(str).str.strip().str.casefold().to_numpy() for column in (one, other)]
    found = texts & (plain[0] == plain[1])
    pairs = pd.DataFrame({"one": one.astype(str).to_numpy(), "other": other.astype(str).to_numpy()})
    each = pairs.drop_duplicates()
    one_to_one = (
        each["one"].is_unique and each["other"].is_unique and len(each) > 1 and len(pairs) > len(each)
    )
    whole = np.isfinite(_numbers(one)).all() and (_numbers(one) % 1 == 0).all()
    return found | np.full(len(one), bool(one_to_one and (texts.all() or whole)))
