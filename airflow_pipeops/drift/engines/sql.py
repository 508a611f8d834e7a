"""The SQL that boils a column down, written once and transpiled by sqlglot to each engine.

It uses what every engine agrees on to the last bit: ``+ - * /``, ``ABS``, ``FLOOR``, ``CAST``, ``COUNT``, ``SUM``, ``MIN``,
``MAX`` and ``GROUP BY``. Numbers are written with an exponent (``5E-1``), which makes them doubles where ``0.5`` would be a
decimal. A column's name is spliced in as a quoted identifier and a text as an escaped literal, both by sqlglot's rules for
the dialect; nothing else that comes from outside is, but the relation, which its owner wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from airflow_pipeops.drift.engines.dialects import NUMBERS, SECONDS, known
from airflow_pipeops.exceptions import InvalidInput

#: Fine bins. The certified interval of Kolmogorov-Smirnov is about as wide as the fullest bin, some 1/4000.
RESOLUTION = 4096
#: Rows that the map of a column is chosen from; a bad choice is found out afterwards and mended.
SAMPLE = 20_000
TILES = 64

#: So many scales away from zero a value counts as not finite: beyond it, sums of squares would overflow.
HORIZON = 1e148

# A CASE instead of the WHERE would count nulls in the same pass, and costs each row a third more on DuckDB.
_CELLS = """
SELECT {g}k, COUNT(*) AS n, SUM(z) AS s, SUM(z * z) AS q, MIN(x) AS lo, MAX(x) AS hi FROM (
  SELECT {g}x, z, CAST(FLOOR((SIGN(z) * (1E0 - 1E0 / (1E0 + ABS(z))) + 1E0) * pipeops_half) AS SMALLINT) AS k FROM (
    SELECT {g}x, (x - pipeops_centre) * pipeops_inverse AS z FROM (
      SELECT {v}pipeops_value AS x FROM pipeops_source) AS a WHERE ABS(x) <= pipeops_bound) AS b) AS c GROUP BY {g}k"""

_PRESENT = "SELECT {g}COUNT(x) AS n FROM (SELECT {v}pipeops_value AS x FROM pipeops_source) AS a{by}"

_TILES = """
SELECT t, MIN(x) AS lo, MAX(x) AS hi, COUNT(*) AS n FROM (
  SELECT x, NTILE({tiles}) OVER (ORDER BY x) AS t FROM (
    SELECT pipeops_value AS x FROM pipeops_source LIMIT {sample}) AS a
  WHERE ABS(x) <= 1E300) AS b GROUP BY t"""

_CATEGORIES = """
SELECT v, n, COUNT(v) OVER () AS d, SUM(n) OVER () AS t FROM (
  SELECT v, COUNT(*) AS n FROM (SELECT pipeops_value AS v FROM pipeops_source) AS a GROUP BY v) AS b
ORDER BY CASE WHEN v IS NULL THEN 0 ELSE 1 END, n DESC, v LIMIT {top}"""

_SEGMENTED = """
SELECT g, v, n, d, t FROM (
  SELECT g, v, n, COUNT(v) OVER (PARTITION BY g) AS d, SUM(n) OVER (PARTITION BY g) AS t,
    ROW_NUMBER() OVER (PARTITION BY g ORDER BY CASE WHEN v IS NULL THEN 0 ELSE 1 END, n DESC, v) AS r FROM (
    SELECT g, v, COUNT(*) AS n FROM (SELECT pipeops_segment AS g, pipeops_value AS v FROM pipeops_source) AS a
    GROUP BY g, v) AS b) AS c WHERE r <= {top}"""

_AMONG = """
SELECT {g}v, COUNT(*) AS n FROM (SELECT {p}pipeops_value AS v FROM pipeops_source) AS a
WHERE v IN (pipeops_listed) GROUP BY {g}v"""

_ROWS = "SELECT COUNT(*) AS n FROM pipeops_source"
_SEGMENTS = "SELECT g, COUNT(*) AS n FROM (SELECT pipeops_segment AS g FROM pipeops_source) AS a GROUP BY g LIMIT {top}"

_VALUES = """
SELECT {g}x, COUNT(*) AS n FROM (SELECT {v}pipeops_value AS x FROM pipeops_source) AS a
WHERE pipeops_ranges GROUP BY {g}x"""

_TOKEN = re.compile(r"\bpipeops_(\w+)\b")


@dataclass(frozen=True)
class Map:
    """Where the fine bins lie: ``z = (x - centre) / scale``, the same literals on both sides and on every engine.

    :param centre: the value in the middle bin.
    :param scale: a power of two, so that multiplying by its inverse is exact.
    """

    centre: float = 0.0
    scale: float = 1.0

    @property
    def bound(self) -> float:
        """Greatest magnitude that is put into a cell."""
        return min(self.scale * HORIZON, 8e307)

    def literals(self, resolution: int) -> dict[str, str]:
        """Return what the templates need."""
        return {
            "half": number(resolution / 2),
            "bound": number(self.bound),
            "centre": number(self.centre),
            "inverse": number(1 / self.scale),
        }


def number(value: float) -> str:
    """Write a double so that each engine reads the same double."""
    text = repr(float(value)).upper()
    if "E" not in text:
        text += "E0"
    text = text.replace("E+", "E")
    return f"({text})" if value < 0 else text


def identifier(name: str, dialect: str) -> str:
    """Quote a column's name."""
    if dialect == "duckdb":  # the embedded engine does without the transpiler, which takes a second to import
        return '"' + name.replace('"', '""') + '"'
    from sqlglot import exp

    return exp.to_identifier(name, quoted=True).sql(dialect=dialect)


def text(value: str, dialect: str) -> str:
    """Write a text as a literal."""
    if "\x00" in value:
        raise InvalidInput("a category holds a NUL character, which no SQL literal can", field="category")
    if dialect == "duckdb":
        return "'" + value.replace("'", "''") + "'"
    from sqlglot import exp

    return exp.Literal.string(value).sql(dialect=dialect)


def as_number(name: str, family: str, dialect: str) -> str | None:
    """Return the expression of a column as a double; ``None`` where the dialect has none for its family."""
    column = identifier(name, dialect)
    if family in (*NUMBERS, "null"):
        return _transpiled("CAST(pipeops_column AS DOUBLE)", dialect).replace("pipeops_column", column)
    template = SECONDS[known(dialect)].get(family)
    return None if template is None else template.format(column)


def rows(dialect: str, source: str) -> str:
    """Count rows."""
    return _filled(_ROWS, dialect, source=source)


def segments(dialect: str, source: str, segment: str, top: int) -> str:
    """Count rows by segment, of at most ``top`` segments."""
    return _filled(_SEGMENTS.format(top=top), dialect, source=source, segment=segment)


def tiles(dialect: str, source: str, value: str) -> str:
    """Return the bounds of equal parts of a sample, from which the map is chosen: some numbers instead of its rows."""
    return _filled(_TILES.format(tiles=TILES, sample=SAMPLE), dialect, source=source, value=value)


def cells(
    dialect: str,
    source: str,
    value: str,
    where: Map,
    resolution: int = RESOLUTION,
    segment: str | None = None,
) -> str:
    """Aggregate a numeric column: one row for each fine bin that has a finite value."""
    template = _CELLS.format(**_by(segment))
    literals = where.literals(resolution)
    return _filled(template, dialect, source=source, value=value, segment=segment or "", **literals)


def present(dialect: str, source: str, value: str, segment: str | None = None) -> str:
    """Count what is not null, finite or not: only asked where the cells do not hold all rows."""
    grouped = " GROUP BY g" if segment else ""
    template = _PRESENT.format(**_by(segment), by=grouped)
    return _filled(template, dialect, source=source, value=value, segment=segment or "")


def values(
    dialect: str, source: str, value: str, ranges: Sequence[tuple[float, float]], segment: str | None = None
) -> str:
    """Count each distinct value within some cells: what an undecided verdict is refined with."""
    template = _VALUES.format(**_by(segment))
    ranged = _ranges(ranges)
    return _filled(template, dialect, source=source, value=value, segment=segment or "", ranges=ranged)


def categories(dialect: str, source: str, value: str, top: int, segment: str | None = None) -> str:
    """Count the rows of the most frequent categories, and say how many there are in all."""
    template = (_SEGMENTED if segment else _CATEGORIES).format(top=top)
    return _filled(template, dialect, source=source, value=value, segment=segment or "")


def among(dialect: str, source: str, value: str, listed: Sequence[str], segment: str | None = None) -> str:
    """Count the rows of these categories.

    :param dialect: of the engine.
    :param source: how the rows are named in a ``FROM``.
    :param value: expression of the column.
    :param listed: literals, see :func:`text`.
    :param segment: expression of the column that is segmented by.
    :return: the query.
    """
    parts = _by(segment)
    template = _AMONG.format(g=parts["g"], p=parts["v"])
    joined = ", ".join(listed)
    return _filled(template, dialect, source=source, value=value, segment=segment or "", listed=joined)


def _by(segment: str | None) -> dict[str, str]:
    return {"g": "g, ", "v": "pipeops_segment AS g, "} if segment else {"g": "", "v": ""}


def _ranges(ranges: Sequence[tuple[float, float]]) -> str:
    return " OR ".join(f"(x >= {number(low)} AND x <= {number(high)})" for low, high in ranges)


def _filled(template: str, dialect: str, **parts: str) -> str:
    # One pass: what is spliced in is not looked through again.
    return _TOKEN.sub(lambda found: parts[found.group(1)], _transpiled(template, dialect))


@lru_cache(maxsize=256)
def _transpiled(template: str, dialect: str) -> str:
    if known(dialect) == "duckdb":
        return " ".join(template.split())
    import sqlglot

    return sqlglot.transpile(template, read="duckdb", write=dialect)[0]
