"""Judge a batch by a suite. Results hold counts and percentages, and never a value of the data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.validation.suite import Expectation, build

if TYPE_CHECKING:
    from airflow_pipeops.validation.batches import Batch

#: What is kept of a Great Expectations result: figures about the column, none of its values.
_FIGURES = ("element_count", "unexpected_count", "unexpected_percent", "missing_count", "missing_percent")

#: Expectations whose observed value is a count or a share, and so no value of the data.
_COUNTING = ("row_count", "column_count", "proportion", "unique_value_count")


@dataclass(frozen=True)
class Finding:
    """What one expectation found.

    :param expectation: what was expected.
    :param outcome: ``passed``, ``failed``, or ``error``: it could not be judged.
    :param reason: one sentence; empty where it passed.
    :param figures: counts and percentages.
    """

    expectation: Expectation
    outcome: Literal["passed", "failed", "error"]
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": self.expectation.type,
            "columns": list(self.expectation.columns),
            "severity": self.expectation.severity,
            "outcome": self.outcome,
            "reason": self.reason,
            **self.figures,
        }


@dataclass(frozen=True)
class Outcome:
    """The judgement of a batch.

    :param rows: number of rows judged.
    :param findings: one for each expectation, in their order.
    :param seconds: how long it took.
    :param docs: the page of Great Expectations' Data Docs, HTML; empty where nothing was left to judge.
    """

    rows: int
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    docs: str = ""

    @property
    def passed(self) -> bool:
        """Whether no critical expectation failed or could not be judged."""
        return not any(
            item.outcome != "passed" and item.expectation.severity == "critical" for item in self.findings
        )

    @property
    def failures(self) -> list[Finding]:
        """What failed, of any severity."""
        return [item for item in self.findings if item.outcome == "failed"]

    @property
    def errors(self) -> list[Finding]:
        """What could not be judged."""
        return [item for item in self.findings if item.outcome == "error"]


def judge(batch: Batch, wanted: list[Expectation]) -> Outcome:
    """Judge a batch.

    An empty batch fails; so does an expectation on a column that is not there. An exception inside Great
    Expectations is an error and not a failure: nobody knows what the data would have said.

    :return: what each expectation found.
    :raises InvalidInput: for an unknown expectation type or wrong arguments, before the data is looked at.
    """
    started = time.monotonic()
    built = build(wanted)
    if not batch.rows:
        rows = Expectation("batch_is_not_empty")
        return Outcome(0, (Finding(rows, "failed", "the batch is empty"),), time.monotonic() - started)
    findings: dict[int, Finding] = {}
    for number, expectation in enumerate(wanted):
        if reason := _unfit(batch, expectation):
            findings[number] = Finding(expectation, "failed", reason)
    rest = [item for number, item in enumerate(built) if number not in findings]
    results, docs = _validate(batch, rest) if rest else ((), "")
    for result in results:
        number = result.expectation_config.meta["number"]
        findings[number] = _finding(wanted[number], result)
    return Outcome(
        batch.rows, tuple(findings[number] for number in sorted(findings)), time.monotonic() - started, docs
    )


def _unfit(batch: Batch, expectation: Expectation) -> str:
    """Say why the columns cannot be judged at all: not there, or text where numbers are compared."""
    if expectation.type == "expect_column_to_exist":
        return ""
    missing = [column for column in expectation.columns if column not in batch.columns]
    if missing:
        return f"there is no column {', '.join(map(repr, missing))}"
    bounds = [expectation.kwargs.get(key) for key in ("min_value", "max_value")]
    numeric = any(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds)
    column = expectation.kwargs.get("column")
    lengths = "length" in expectation.type or "count" in expectation.type or "proportion" in expectation.type
    if numeric and column and not lengths and batch.holds_text(column):
        return f"column {column!r} holds text where numbers are expected"
    return ""


def _validate(batch: Batch, built: list[Any]) -> tuple[list[Any], str]:
    """Return the results, and the page of the Data Docs about them."""
    import logging

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from airflow_pipeops.validation.docs import page

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    suite = gx.ExpectationSuite(name="suite", expectations=built)
    # No samples: what a report shows to its readers must not be rows of the data.
    wanted = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
    result = batch.open(context).validate(suite, result_format=wanted)
    return list(result.results), page(result)


def _finding(expectation: Expectation, result: Any) -> Finding:
    if error := _exception(result.exception_info or {}):
        return Finding(expectation, "error", f"it could not be judged: {error}")
    figures = {key: _number(result.result.get(key)) for key in _FIGURES}
    if any(part in expectation.type for part in _COUNTING):
        figures["observed_value"] = _number(result.result.get("observed_value"))
    known = {key: value for key, value in figures.items() if value is not None}
    if result.success:
        return Finding(expectation, "passed", "", known)
    return Finding(expectation, "failed", _reason(expectation, known), known)


def _exception(info: Mapping[str, Any]) -> str:
    """Return the type of the exception inside a metric; its text may quote the data, so it is left out."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            lines = str(entry.get("exception_traceback") or "").strip().splitlines() or [""]
            name = lines[-1].split(":", 1)[0].rsplit(".", 1)[-1]
            return name if name.isidentifier() else "an exception in Great Expectations"
    return ""


def _reason(expectation: Expectation, figures: Mapping[str, float]) -> str:
    about = f" in column {', '.join(map(repr, expectation.columns))}" if expectation.columns else ""
    if "unexpected_count" in figures:
        share = figures.get("unexpected_percent", 0.0)
        return f"{int(figures['unexpected_count']):,} values ({share:.3g} %){about} are not as expected"
    if "observed_value" in figures:
        return f"{figures['observed_value']:,g} was found{about}"
    return f"not as expected{about}"


def _number(value: Any) -> float | None:
    """Return a finite number as a plain one, anything else as nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else round(number, 6)
