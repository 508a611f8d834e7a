"""Compare two batches with Evidently: scores by column, and its HTML report, of a seeded sample of each side."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.columns import ColumnDrift, Prepared, prepare
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

#: Rows of a side above this are sampled.
SAMPLE_ROWS = 100_000
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """How far a batch is from its reference.

    :param columns: one finding for each column, in the order of the columns.
    :param share: drifted columns among those that were judged; an extra or undecided column is not counted.
    :param drifted: whether the share reaches the limit, or the schema is broken.
    :param rows: rows of each side, and how many of them were compared.
    :param html: the report of Evidently; empty if nothing could be compared.
    """

    columns: tuple[ColumnDrift, ...]
    share: float
    drifted: bool
    rows: dict[str, Any]
    html: str

    @property
    def broken(self) -> list[ColumnDrift]:
        """Columns that went missing, changed their type or are all null."""
        return [item for item in self.columns if item.broken]


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    columns: dict[str, str] | None = None,
    drift_share: float = 0.5,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = SEED,
) -> Comparison:
    """Compare two batches column by column, with Evidently's default test for each.

    :param columns: name -> ``numerical``, ``categorical`` or empty; ``None`` for all of both sides.
    :param drift_share: from this share of drifted columns on, the batch has drifted.
    :param sample_rows: larger sides are sampled to so many rows.
    :param seed: of the sample.
    :raises InvalidInput: for an empty side, an unknown column, or no common column.
    """
    for side, frame in (("reference", reference), ("current", current)):
        if frame.empty:
            raise InvalidInput(
                f"{side} has no rows", field=side, value=0, remedy="Nothing can be said of no data."
            )
    left, right = _sample(reference, sample_rows, seed), _sample(current, sample_rows, seed)
    prepared = prepare(left, right, columns)
    scored, html = _evidently(prepared, left, right) if prepared.kinds else ({}, "")
    order = columns if columns is not None else dict.fromkeys([*reference.columns, *current.columns])
    found = tuple({**prepared.findings, **scored}[name] for name in order)
    judged = [item for item in found if item.verdict in ("drift", "no drift") or item.broken]
    share = round(sum(item.drifted for item in judged) / len(judged), 6) if judged else 0.0
    rows = {
        "reference": len(reference),
        "current": len(current),
        "compared": {"reference": len(left), "current": len(right)},
        "seed": seed if len(left) < len(reference) or len(right) < len(current) else None,
    }
    drifted = bool(judged) and (share >= drift_share or any(item.broken for item in found))
    return Comparison(found, share, drifted, rows, html)


def _sample(frame: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    return frame if len(frame) <= rows else frame.sample(rows, random_state=seed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Evidently from calling home, and its progress bar and warnings out of the task's log."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


def _evidently(
    prepared: Prepared, left: pd.DataFrame, right: pd.DataFrame
) -> tuple[dict[str, ColumnDrift], str]:
    with _quiet():
        try:
            snapshot = _run(prepared, list(prepared.kinds))
            values, html = _values(snapshot), str(snapshot.get_html_str(as_iframe=False))
        except Exception:  # one column can end the whole report: find out which, and keep the others
            values, html = _one_by_one(prepared)
    return {name: _column(name, values.get(name), left[name], right[name]) for name in prepared.kinds}, html


def _one_by_one(prepared: Prepared) -> tuple[dict[str, dict[str, Any]], str]:
    values: dict[str, dict[str, Any]] = {}
    for name in prepared.kinds:
        try:
            values.update(_values(_run(prepared, [name])))
        except Exception as error:
            values[name] = {"error": type(error).__name__}
    sound = [name for name, value in values.items() if "error" not in value]
    html = str(_run(prepared, sound).get_html_str(as_iframe=False)) if sound else ""
    return values, html


def _run(prepared: Prepared, names: list[str]) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    # Explicit types: what Evidently does not know by itself (nullable, unsigned, Arrow) it would leave out in silence.
    definition = DataDefinition(
        numerical_columns=[name for name in names if prepared.kinds[name] == "numerical"],
        categorical_columns=[name for name in names if prepared.kinds[name] == "categorical"],
    )
    # The preset runs each test three times; one metric for each column gives the same scores.
    report = Report([ValueDrift(column=name) for name in names])
    current = Dataset.from_pandas(prepared.current[names], data_definition=definition)
    reference = Dataset.from_pandas(prepared.reference[names], data_definition=definition)
    return report.run(current, reference)


def _values(snapshot: Any) -> dict[str, dict[str, Any]]:
    return {
        metric["config"]["column"]: {**metric["config"], "value": metric["value"]}
        for metric in snapshot.dict()["metrics"]
        if metric["config"].get("column")
    }


def _column(name: str, found: dict[str, Any] | None, before: pd.Series, after: pd.Series) -> ColumnDrift:
    nulls = (round(float(before.isna().mean()), 6), round(float(after.isna().mean()), 6))
    if found is None or "error" in found:
        why = found["error"] if found else "no answer"
        return ColumnDrift(name, "undecided", detail=f"the test failed: {why}", nulls=nulls)
    method, threshold = str(found.get("method") or ""), found.get("threshold")
    try:
        score = float(found["value"])
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score) or threshold is None:
        return ColumnDrift(name, "undecided", method=method, detail="the test gave no number", nulls=nulls)
    low = score < threshold if "p_value" in method else score >= threshold
    verdict = "drift" if low else "no drift"
    return ColumnDrift(name, verdict, round(score, 6), float(threshold), method, nulls=nulls)
