"""Which columns are compared, and as what. What cannot be compared becomes a finding: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import imported
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("numerical", "categorical")

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


@dataclass(frozen=True)
class ColumnDrift:
    """What was found about one column.

    :param verdict: ``drift``, ``no drift``, ``missing`` (in the current data), ``extra`` (not in the reference),
        ``retyped``, ``all null``, ``unsupported`` or ``undecided``.
    :param score: the statistic; ``None`` where there is none.
    :param nulls: share of nulls in the reference and in the current data.
    """

    column: str
    verdict: str
    score: float | None = None
    threshold: float | None = None
    method: str = ""
    detail: str = ""
    nulls: tuple[float | None, float | None] = (None, None)

    @property
    def drifted(self) -> bool:
        """Whether it counts as drifted; a column that is gone or changed its type does."""
        return self.verdict == "drift" or self.broken

    @property
    def broken(self) -> bool:
        """Whether the schema is broken here."""
        return self.verdict in ("missing", "retyped", "all null")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "column": self.column,
            "verdict": self.verdict,
            "drifted": self.drifted,
            "score": self.score,
            "threshold": self.threshold,
            "method": self.method,
            "detail": self.detail,
            "nulls": list(self.nulls),
        }


@dataclass(frozen=True)
class Prepared:
    """Both sides, with only the columns that can be compared, as plain floats and texts.

    :param kinds: column -> ``numerical`` or ``categorical``.
    :param findings: the columns that cannot be compared.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    kinds: dict[str, str]
    findings: dict[str, ColumnDrift]


def wanted(given: str | Iterable[str] | Mapping[str, str] | None) -> dict[str, str] | None:
    """Read which columns to compare.

    :param given: names; or name -> ``numerical`` | ``categorical``; or ``"module:name"`` of either; ``None`` for all.
    :return: name -> kind, empty where it shall be inferred; ``None`` for all columns.
    """
    found = imported(given, "columns") if isinstance(given, str) else given
    if found is None:
        return None
    asked = dict(found) if isinstance(found, Mapping) else {name: "" for name in found}
    for name, kind in asked.items():
        if not isinstance(name, str) or kind not in ("", *KINDS):
            raise InvalidInput(
                f"columns: {name!r} as {kind!r} is not understood",
                field="columns",
                value=name,
                remedy=f"Give names, or a mapping of names to {' or '.join(KINDS)}.",
            )
    if not asked:
        raise InvalidInput("columns names no column", field="columns", value=[])
    return asked


def prepare(reference: pd.DataFrame, current: pd.DataFrame, asked: dict[str, str] | None) -> Prepared:
    """Sort the columns into those that can be compared and findings.

    :raises InvalidInput: for an asked column that neither side has, or if no column is common.
    """
    import pandas as pd

    names = list(asked) if asked is not None else list(dict.fromkeys([*reference.columns, *current.columns]))
    unknown = [name for name in names if name not in reference.columns and name not in current.columns]
    if unknown:
        raise InvalidInput(
            f"columns {', '.join(map(repr, unknown))} are in neither the reference nor the current data",
            field="columns",
            value=unknown,
            remedy="Check the spelling.",
        )
    if not set(names) & set(reference.columns) & set(current.columns):
        raise InvalidInput(
            "the reference and the current data have no column in common",
            field="current",
            remedy="Check that both are of the same data set.",
        )
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    findings: dict[str, ColumnDrift] = {}
    for name in names:
        if name not in current.columns:
            findings[name] = ColumnDrift(
                name, "missing", detail="it is in the reference and not in the current data"
            )
        elif name not in reference.columns:
            findings[name] = ColumnDrift(
                name, "extra", detail="it is in the current data and not in the reference"
            )
        else:
            found = _pair(name, reference[name], current[name], (asked or {}).get(name, ""))
            if isinstance(found, ColumnDrift):
                findings[name] = found
            else:
                kinds[name], left[name], right[name] = found
    return Prepared(pd.DataFrame(left), pd.DataFrame(right), kinds, findings)


def _pair(name: str, before: pd.Series, after: pd.Series, forced: str) -> ColumnDrift | tuple[str, Any, Any]:
    nulls = (round(float(before.isna().mean()), 6), round(float(after.isna().mean()), 6))

    def finding(verdict: str, detail: str) -> ColumnDrift:
        return ColumnDrift(name, verdict, detail=detail, nulls=nulls)

    if 1 in nulls:
        return finding(
            "all null", f"every value of the {'reference' if nulls[0] == 1 else 'current data'} is null"
        )
    kind, second = _inferred(before), _inferred(after)
    if forced != "categorical":
        if kind != second:
            return finding("retyped", f"{_said(before, kind)} became {_said(after, second)}")
        if not kind:
            return finding("unsupported", f"values of type {_said(before, kind)} cannot be compared")
        if forced and kind == "categorical":
            return finding("retyped", "text was asked to be compared as numbers")
    if "categorical" in (forced, kind) and forced != "numerical":
        distinct = max(before.astype(str).nunique(), after.astype(str).nunique())
        if distinct > MAX_CATEGORIES:
            return finding(
                "unsupported", f"{distinct:,} distinct values; more than {MAX_CATEGORIES:,} say nothing"
            )
        return "categorical", _as_text(before), _as_text(after)
    left, right = _as_number(before, kind), _as_number(after, kind)
    if not (left.notna().any() and right.notna().any()):
        return finding("all null", "no finite value on one side")
    return "numerical", left, right


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


def _said(series: pd.Series, kind: str) -> str:
    return f"{kind or 'mixed'} ({series.dtype})"


def _as_text(series: pd.Series) -> pd.Series:
    return series.astype(object).where(series.notna(), None).map(str, na_action="ignore")


def _as_number(series: pd.Series, kind: str) -> pd.Series:
    import pandas as pd

    if kind == "datetime":
        times = pd.to_datetime(series, utc=True)
        return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    if kind == "duration":
        return pd.to_timedelta(series).dt.total_seconds()
    number = pd.to_numeric(series, errors="coerce").astype("float64")
    return number.where(number.abs() != float("inf"))
