"""The verdict of the data set, from those of its columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.drift.results import ColumnResult
from airflow_pipeops.drift.settings import Settings


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
