"""Evidently's HTML report about two samples: plots for a person, beside the verdict that was reached on all rows."""

from __future__ import annotations

import contextlib
import html
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.columns import Prepared, prepare

if TYPE_CHECKING:
    import pandas as pd

_BANNER = (
    '<div style="font: 15px/1.5 system-ui, sans-serif; padding: 1rem 1.5rem; background: #edf2f7; color: #1a202c">'
    "<b>{verdict}</b><br>Below are Evidently's plots and its own tests, on a sample of {rows}. Where the two differ, the "
    "verdict above counts: it was reached on all rows.</div>"
)


def page(reference: pd.DataFrame, current: pd.DataFrame, verdict: str) -> str:
    """Return the report as one HTML page; empty if Evidently can say nothing about these columns.

    :param reference: sample of the reference.
    :param current: sample of the other side, with the same columns.
    :param verdict: what was decided, in one sentence; it stands at the top.
    """
    prepared = prepare(reference, current, None)
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
    return f"{head}{body}{banner}{rest}" if body else report


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Evidently from calling home, and its progress bar and warnings out of the task's log."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
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
