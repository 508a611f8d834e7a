"""From aggregates to verdicts: per column, and of the data set.

``compare_columns(reference, current, settings)`` does it at once. Where all aggregates do not fit into memory, call
:func:`score_column` as each pair arrives and :func:`judge` with all that it returned: false alarms are bounded over all
columns together, so the verdict of one needs the p-values of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.drift.judging.compatible import Outcome, outcome
from airflow_pipeops.drift.judging.robust import Finding, absent, findings
from airflow_pipeops.drift.results import ColumnDrift, ColumnResult, ColumnVerdict, plain
from airflow_pipeops.drift.settings import COMPATIBLE_METHODS, ROBUST, Settings
from airflow_pipeops.drift.statistics.aggregates import Aggregate, CategoricalAggregate, NumericAggregate
from airflow_pipeops.drift.statistics.pvalues import benjamini_hochberg
from airflow_pipeops.exceptions import InvalidInput

#: A column, or a column of one segment.
Key = str | tuple[str, str]


@dataclass(frozen=True)
class Scored:
    """One column, compared and not yet judged: small, whatever the size of its aggregates.

    :param column: its name.
    :param segment: of which segment; empty for the whole.
    :param rows: of the reference and of the current side.
    :param nulls: share of values that are missing or not finite, of both sides.
    :param found: robust mode: what was found in each dimension.
    :param outcome: compatible mode: what Evidently says.
    :param finding: what is wrong with the column itself, where nothing was compared.
    """

    column: str
    segment: str
    rows: tuple[int, int]
    nulls: tuple[float | None, float | None]
    found: tuple[Finding, ...] = ()
    outcome: Outcome | None = None
    finding: ColumnDrift | None = None


def compare_columns(
    reference: Mapping[Any, Aggregate], current: Mapping[Any, Aggregate], settings: Settings | None = None
) -> list[ColumnResult]:
    """Compare all columns of two sides.

    :param reference: by column, or by (column, segment); the order is kept. A segment that is on one side only is a finding.
    :param current: the same.
    :param settings: how the columns are judged.
    :return: one result for each column, in the order of the reference.
    :raises InvalidInput: for a setting of an unknown column, or if nothing is common.
    """
    settings = settings or Settings()
    keys = list(dict.fromkeys([*reference, *current]))
    names = {key if isinstance(key, str) else key[0] for key in keys}
    settings.check(names)
    if not any(key in reference and key in current for key in keys):
        raise InvalidInput(
            "the reference and the current data have no column in common",
            field="current",
            remedy="Check that both are of the same data set.",
        )
    scored = []
    for key in keys:
        name, segment = (key, "") if isinstance(key, str) else key
        scored.append(score_column(name, reference.get(key), current.get(key), settings, segment=segment))
    return judge(scored, settings)


def score_column(
    column: str,
    reference: Aggregate | None,
    current: Aggregate | None,
    settings: Settings,
    *,
    segment: str = "",
) -> Scored:
    """Compare one column of both sides, either of which may lack it."""
    rows = (reference.rows if reference else 0, current.rows if current else 0)
    nulls = (_share(reference), _share(current))
    finding = _schema(column, reference, current, nulls)
    if finding is not None or reference is None or current is None:
        return Scored(column, segment, rows, nulls, finding=finding)
    if settings.mode != ROBUST:
        return Scored(column, segment, rows, nulls, outcome=outcome(column, reference, current, settings))
    fewest = min(_usable(reference), _usable(current))
    if fewest < settings.min_rows:
        detail = f"{fewest:,} usable rows on one side; at least {settings.min_rows:,} are needed"
        finding = ColumnDrift(column, "undecided", detail=detail, nulls=nulls)
        return Scored(column, segment, rows, nulls, finding=finding)
    return Scored(column, segment, rows, nulls, found=tuple(findings(column, reference, current, settings)))


def _share(one: Aggregate | None) -> float | None:
    return absent(one) / one.rows if one is not None and one.rows else None


def _usable(one: Aggregate) -> int:
    return one.rows - absent(one)


def _schema(
    column: str, reference: Aggregate | None, current: Aggregate | None, nulls: tuple[Any, Any]
) -> ColumnDrift | None:
    """Return what is wrong with the column itself, before any of its values are compared."""

    def finding(verdict: ColumnVerdict, detail: str) -> ColumnDrift:
        return ColumnDrift(column, verdict, detail=detail, nulls=nulls)

    if current is None:
        return finding("missing", "it is in the reference and not in the current data")
    if reference is None:
        return finding("extra", "it is in the current data and not in the reference")
    if reference.rows and current.rows and not _usable(reference) and not _usable(current):
        return finding("no drift", "no value is known on either side")
    for side, one in (("reference", reference), ("current data", current)):
        if not one.rows:
            return finding("undecided", f"the {side} has no rows")
        if not _usable(one):
            what = "null" if one.missing == one.rows else "null, NaN or infinite"
            return finding("all null", f"every value of the {side} is {what}")
    if type(reference) is not type(current):
        kinds = [
            "numbers" if isinstance(one, NumericAggregate) else "categories" for one in (reference, current)
        ]
        detail = f"{kinds[0]} ({reference.dtype}) became {kinds[1]} ({current.dtype})"
        return finding("retyped", detail)
    return None


def judge(scored: Sequence[Scored], settings: Settings) -> list[ColumnResult]:
    """Judge all columns together: the p-values are adjusted over all of them (Benjamini and Hochberg)."""
    if settings.mode != ROBUST:
        return [_compatible(one, settings) for one in scored]
    every = [finding for one in scored for finding in one.found]
    # Twice: with the p-values that speak most for drift, and with those that speak least.
    least = benjamini_hochberg([finding.p[0] for finding in every])
    most = benjamini_hochberg([finding.p[1] for finding in every])
    results, at = [], 0
    for one in scored:
        upto = at + len(one.found)
        results.append(_robust(one, least[at:upto], most[at:upto], settings))
        at = upto
    return results


def _about(one: Scored, settings: Settings) -> dict[str, Any]:
    return {
        "segment": one.segment,
        "rows": one.rows,
        "nulls": one.nulls,
        "role": settings.role(one.column),
        "weight": float(settings.weights.get(one.column, 1.0)),
    }


def _finding(one: Scored, settings: Settings) -> ColumnResult:
    assert one.finding is not None
    return ColumnResult(one.column, one.finding.verdict, detail=one.finding.detail, **_about(one, settings))


def _robust(one: Scored, least: Any, most: Any, settings: Settings) -> ColumnResult:
    if one.finding is not None:
        return _finding(one, settings)
    verdicts: list[ColumnVerdict] = []
    for finding, p_least, p_most in zip(one.found, least, most, strict=True):
        alarm = settings.false_alarms
        if finding.excess.low >= finding.threshold and p_most <= alarm:
            verdicts.append("drift")
        elif finding.excess.high < finding.threshold or p_least > alarm:
            verdicts.append("no drift")
        else:
            verdicts.append("undecided")
    strongest: tuple[ColumnVerdict, ...] = ("drift", "undecided", "no drift")
    verdict = next(kind for kind in strongest if kind in verdicts)
    # The one that decided; of several, the first: the distribution says most.
    at = verdicts.index(verdict)
    decided = one.found[at]
    named = decided.method if decided.dimension == "distribution" else decided.dimension
    refine = decided.refine if verdict == "undecided" else ()
    return ColumnResult(
        one.column,
        verdict,
        decided.score.value,
        decided.threshold,
        named,
        _explained(decided, verdict, float(most[at]), settings),
        low=decided.score.low,
        high=decided.score.high,
        noise=decided.noise,
        excess=decided.excess.value,
        p_value=float(most[at]),
        dimension=decided.dimension,
        refine=refine,
        dimensions=tuple(
            _dimension(finding, float(p), kind)
            for finding, p, kind in zip(one.found, most, verdicts, strict=True)
        ),
        **_about(one, settings),
    )


_DIMENSIONS = {
    "distribution": "the distribution changed",
    "missing": "the share of missing values changed",
    "unseen": "the reference has no rows where current ones are",
}


def _explained(finding: Finding, verdict: str, p: float, settings: Settings) -> str:
    size = f"{finding.method} {finding.score.value:.4g}, {finding.excess.value:.4g} over what chance gives"
    if verdict == "drift":
        return f"{_DIMENSIONS[finding.dimension]}: {size} (threshold {finding.threshold:g}, p {p:.2g})"
    if verdict == "undecided":
        return (
            f"{size}; it is between {finding.excess.low:.4g} and {finding.excess.high:.4g}, "
            f"on both sides of the threshold {finding.threshold:g}"
        )
    if finding.excess.value < finding.threshold:
        return f"{size}, below the threshold {finding.threshold:g}"
    return f"{size}, but so much comes by chance (p {p:.2g}, allowed {settings.false_alarms:g})"


def _dimension(finding: Finding, p: float, verdict: str) -> dict[str, Any]:
    return {
        "dimension": finding.dimension,
        "verdict": verdict,
        "method": finding.method,
        "score": plain(finding.score.value),
        "low": plain(finding.score.low),
        "high": plain(finding.score.high),
        "noise": plain(finding.noise),
        "excess": plain(finding.excess.value),
        "threshold": finding.threshold,
        "p_value": p,
    }


def _compatible(one: Scored, settings: Settings) -> ColumnResult:
    if one.finding is not None:
        return _finding(one, settings)
    found = one.outcome
    assert found is not None
    if found.method not in COMPATIBLE_METHODS:
        return ColumnResult(
            one.column, "undecided", detail=found.detail, refine=found.refine, **_about(one, settings)
        )
    _, default, how, name = COMPATIBLE_METHODS[found.method]
    limit = settings.thresholds.get(one.column, settings.threshold)
    threshold = default if limit is None else float(limit)
    score, known = found.score, found.score.value == found.score.value
    verdict, detail = _by_threshold(found, how, threshold), found.detail
    value = score.value if known else None
    refine = found.refine if verdict == "undecided" else ()
    if not known and not detail:
        detail = "the test gave no number"
    elif verdict == "undecided" and known:
        detail = detail or f"it is between {score.low:.6g} and {score.high:.6g}"
    return ColumnResult(
        one.column,
        verdict,
        value,
        threshold,
        name,
        detail,
        low=plain(score.low),
        high=plain(score.high),
        dimension="distribution",
        refine=refine,
        **_about(one, settings),
    )


def _by_threshold(found: Outcome, how: str, threshold: float) -> ColumnVerdict:
    tests = {
        ">=": lambda value: value >= threshold,
        ">": lambda value: value > threshold,
        "<=": lambda value: value <= threshold,
        "<": lambda value: value < threshold,
    }
    ends = [found.score.low, found.score.high]
    if any(end != end for end in ends):
        return "undecided"
    said = {tests[how](end) for end in ends}
    if len(said) > 1:
        return "undecided"
    return "drift" if said.pop() else "no drift"


__all__ = [
    "Aggregate",
    "CategoricalAggregate",
    "ColumnResult",
    "DatasetVerdict",
    "NumericAggregate",
    "Scored",
    "Settings",
    "compare_columns",
    "dataset_verdict",
    "judge",
    "score_column",
]


@dataclass(frozen=True)
class DatasetVerdict(JsonForm):
    """What the columns say together.

    :param verdict: ``drift``, ``no drift`` or ``undecided``.
    :param share: weight of the drifted features among those that were judged.
    :param low: share of all features if no undecided one drifted.
    :param high: the same if every undecided one drifted.
    :param judged: features that were judged.
    :param reasons: why, in plain words.
    :param critical: critical columns that drifted.
    :param broken: columns that are missing, retyped or all null.
    :param targets: verdict by target column.
    :param predictions: verdict by prediction column.
    """

    verdict: Literal["drift", "no drift", "undecided"]
    share: float
    low: float
    high: float
    judged: int
    reasons: tuple[str, ...]
    critical: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    targets: tuple[tuple[str, str], ...] = ()
    predictions: tuple[tuple[str, str], ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether it is drift for certain."""
        return self.verdict == "drift"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        roles = {"targets": dict(self.targets), "predictions": dict(self.predictions)}
        return {**super().to_json(), "drifted": self.drifted, **roles}


def dataset_verdict(results: Iterable[ColumnResult], settings: Settings | None = None) -> DatasetVerdict:
    """Judge the data set: by a broken schema, by a critical column, or by the weighted share of drifted features.

    An extra or unsupported column is not counted. One that is undecided, as with too few rows, may be either: the data set
    is ``undecided`` if that matters, and ``no drift`` only where it would be so with all of them drifted.
    """
    settings = settings or Settings()
    results = list(results)
    features = [item for item in results if item.role == "feature"]
    sure = [item for item in features if item.verdict in ("drift", "no drift") or item.broken]
    open_ones = [item for item in features if item.open]
    untold = sum(item.weight for item in features if item.verdict == "undecided")
    weight = sum(item.weight for item in [*sure, *open_ones])
    drifted = sum(item.weight for item in sure if item.drifted)
    whole = sum(item.weight for item in sure) + untold
    low, high = (drifted / whole, (drifted + untold) / whole) if whole else (0, 0)
    broken = tuple(_named(item) for item in results if item.broken)
    critical = tuple(_named(item) for item in results if item.column in settings.critical and item.drifted)
    maybe = any(item.verdict == "undecided" for item in results if item.column in settings.critical)
    reasons = []
    verdict: Literal["drift", "no drift", "undecided"]
    if broken:
        reasons.append(f"the schema is broken: {', '.join(broken)}")
    if critical:
        reasons.append(f"critical columns drifted: {', '.join(critical)}")
    reached = bool(weight) and low >= settings.drift_share
    if reached:
        reasons.append(
            f"{low:.0%} of the features drifted, by weight; {settings.drift_share:.0%} is the limit"
        )
    if reasons:
        verdict = "drift"
    elif maybe or (weight and high >= settings.drift_share):
        verdict, reasons = "undecided", ["the columns that are undecided decide it"]
    elif not weight:
        verdict, reasons = "undecided", ["no feature could be judged"]
    else:
        verdict = "no drift"
        most = f"at most {high:.0%}" if untold else f"{high:.0%}"
        reasons = [f"{most} of the features drifted, by weight; {settings.drift_share:.0%} is the limit"]
    share = drifted / weight if weight else 0.0
    return DatasetVerdict(
        verdict,
        share,
        float(low),
        float(high),
        len(sure) + len(open_ones),
        tuple(reasons),
        critical,
        broken,
        tuple((_named(item), item.verdict) for item in results if item.role == "target"),
        tuple((_named(item), item.verdict) for item in results if item.role == "prediction"),
    )


def _named(item: ColumnResult) -> str:
    return f"{item.column} ({item.segment})" if item.segment else item.column
