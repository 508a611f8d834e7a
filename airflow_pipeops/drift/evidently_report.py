"""Evidently's HTML report about two samples: plots for a person, beside the verdict that was reached on all rows."""

from __future__ import annotations

import contextlib
import html
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.markup import inert, inert_names

if TYPE_CHECKING:
    import pandas as pd

#: With more distinct values the statistic calls every sample drifted, of the same distribution too.
MAX_CATEGORIES = 1000

#: What pandas infers about the values -> what they are compared as.
_INFERRED = {
    "string": "categorical",
    "categorical": "categorical",
    "boolean": "categorical",
    "integer": "numerical",
    "floating": "numerical",
    "mixed-integer-float": "numerical",
    "decimal": "numerical",
    "datetime64": "datetime",
    "datetime": "datetime",
    "date": "datetime",
    "timedelta64": "duration",
    "timedelta": "duration",
}

_BANNER = (
    '<div style="font: 15px/1.5 system-ui, sans-serif; padding: 1rem 1.5rem; background: #edf2f7; color: #1a202c">'
    "<b>{verdict}</b><br>Below are Evidently's plots and its own tests, on a sample of {rows}. Where the two differ, the "
    "verdict above counts: it was reached on all rows.</div>"
)


@dataclass(frozen=True)
class Prepared:
    """Both samples, with only the columns that can be plotted, as plain floats and texts.

    :param reference: sample of the reference.
    :param current: sample of the other side.
    :param kinds: column -> ``numerical`` or ``categorical``.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    kinds: dict[str, str]


def page(reference: pd.DataFrame, current: pd.DataFrame, verdict: str) -> str:
    """Make the report.

    :param reference: sample of the reference.
    :param current: sample of the other side, with the same columns.
    :param verdict: what was decided, in one sentence; it stands at the top.
    :return: one HTML page; empty if Evidently can say nothing about these columns.
    """
    prepared = _prepared(reference, current)
    if not prepared.kinds:
        return ""
    with _quiet():
        try:
            report = _report(prepared, list(prepared.kinds))
        except Exception:  # one column can end the whole report: find out which, and keep the others
            sound = [name for name in prepared.kinds if _works(prepared, name)]
            report = _report(prepared, sound) if sound else ""
    rows = f"{len(reference):,} and {len(current):,} rows"
    banner = _BANNER.format(verdict=html.escape(verdict), rows=rows)
    head, body, rest = report.partition("<body>")
    return f"{_titled(head, verdict)}{body}{banner}{rest}" if body else report


def _titled(head: str, verdict: str) -> str:
    """Name the page after its verdict, for a browser's tab and history."""
    title = f"<title>{html.escape(verdict)}</title>"
    named, count = re.subn(r"<title>.*?</title>", lambda _: title, head, count=1, flags=re.DOTALL)
    return named if count else head.replace("</head>", f"{title}</head>", 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Evidently from calling home, and its progress bar and warnings out of the task's log."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def _works(prepared: Prepared, name: str) -> bool:
    try:
        _report(prepared, [name])
    except Exception:
        return False
    return True


def _report(prepared: Prepared, names: list[str]) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    # Explicit types: what Evidently does not know by itself (nullable, unsigned, Arrow) it would leave out in silence.
    definition = DataDefinition(
        numerical_columns=[name for name in names if prepared.kinds[name] == "numerical"],
        categorical_columns=[name for name in names if prepared.kinds[name] == "categorical"],
    )
    # The preset runs each test three times; one metric for each column draws the same plots.
    report = Report([ValueDrift(column=name) for name in names])
    after: Any = Dataset.from_pandas(prepared.current[names], data_definition=definition)
    before: Any = Dataset.from_pandas(prepared.reference[names], data_definition=definition)
    return str(report.run(after, before).get_html_str(as_iframe=False))


def _prepared(reference: pd.DataFrame, current: pd.DataFrame) -> Prepared:
    import pandas as pd

    found = {name: _pair(reference[name], current[name]) for name in reference.columns}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    # Evidently writes names and values into its page as they are: one with markup in it would run there.
    called = inert_names(map(str, pairs))
    harmless = {called[str(name)]: pair for name, pair in pairs.items()}
    return Prepared(
        pd.DataFrame({name: before for name, (_, before, _) in harmless.items()}),
        pd.DataFrame({name: after for name, (_, _, after) in harmless.items()}),
        {name: kind for name, (kind, _, _) in harmless.items()},
    )


def _pair(before: pd.Series, after: pd.Series) -> tuple[str, pd.Series, pd.Series] | None:
    """Return what a column is plotted as, and its values; nothing where it cannot be."""
    kind = _inferred(before)
    if before.isna().all() or after.isna().all() or not kind or kind != _inferred(after):
        return None
    if kind == "categorical":
        texts = _as_text(before), _as_text(after)
        return (kind, *texts) if max(text.nunique() for text in texts) <= MAX_CATEGORIES else None
    left, right = _as_number(before, kind), _as_number(after, kind)
    return ("numerical", left, right) if left.notna().any() and right.notna().any() else None


def _inferred(series: pd.Series) -> str:
    from pandas.api.types import infer_dtype, is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

    if is_bool_dtype(series.dtype):
        return "categorical"
    if is_numeric_dtype(series.dtype):
        return "numerical"
    if is_datetime64_any_dtype(series.dtype):
        return "datetime"
    if series.dtype.name == "category":
        return "categorical"
    return _INFERRED.get(infer_dtype(series, skipna=True), "")


def _as_text(series: pd.Series) -> pd.Series:
    return (
        series.astype(object)
        .where(series.notna(), None)
        .map(lambda value: inert(str(value)), na_action="ignore")
    )


def _as_number(series: pd.Series, kind: str) -> pd.Series:
    import pandas as pd

    if kind == "datetime":
        times = pd.to_datetime(series, utc=True)
        return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    if kind == "duration":
        return pd.to_timedelta(series).dt.total_seconds()
    number = pd.to_numeric(series, errors="coerce").astype("float64")
    return number.where(number.abs() != float("inf"))
