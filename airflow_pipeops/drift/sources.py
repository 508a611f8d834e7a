"""Where a side of a comparison comes from. Plain values: nothing is read or connected to before the comparison starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_pipeops.base.arguments import files, not_empty, one_of
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.drift.profile import Profile

Format: TypeAlias = Literal["parquet", "csv", "delta", "iceberg"]
FORMATS = ("parquet", "csv", "delta", "iceberg")

_SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".csv.gz": "csv"}


@dataclass(frozen=True)
class Files:
    """Files of one schema, read out of core by the embedded DuckDB, or by Spark.

    :param paths: paths or URIs; each may be a file, a folder, or a pattern such as ``s3://lake/day=2026-01-*/*.parquet``.
        Of a Delta or Iceberg table: its one URI (Iceberg: of its metadata file).
    :param format: ``parquet``, ``csv``, ``delta`` or ``iceberg``; by the suffix where it is not given.
    :param storage_conn_id: connection of type ``pipeops_storage``; relative paths are below its root.
    :param checksum: read all bytes once more for their SHA-256. Without it the identity is made of names and sizes, beside
        the digest of the aggregates that every comparison and profile has.
    :param csv: what CSV files do not say of themselves: a :class:`~airflow_pipeops.base.delimited.Csv`, or a mapping of its
        fields.
    """

    paths: tuple[str, ...]
    format: Format | Literal[""] = ""
    storage_conn_id: str | None = None
    checksum: bool = False
    csv: Csv = field(default_factory=Csv)

    def __init__(
        self,
        paths: str | Sequence[str],
        format: Format | Literal[""] = "",
        storage_conn_id: str | None = None,
        checksum: bool = False,
        csv: Csv | Mapping[str, Any] | None = None,
    ) -> None:
        given = tuple(files("paths", paths))
        one_of("format", format, ("", *FORMATS), called="format", remedy=f"Use one of {', '.join(FORMATS)}.")
        if format in ("delta", "iceberg") and len(given) > 1:
            raise InvalidInput(f"a {format} source is one table", field="paths", value=list(given))
        object.__setattr__(self, "paths", given)
        object.__setattr__(self, "format", format or _format(given))
        object.__setattr__(self, "storage_conn_id", storage_conn_id)
        object.__setattr__(self, "checksum", checksum)
        object.__setattr__(self, "csv", Csv.of(csv))

    @property
    def name(self) -> str:
        """How people call it: the last parts of the paths, joined."""
        return "+".join(path.rstrip("/").rsplit("/", 1)[-1] for path in self.paths)


@dataclass(frozen=True)
class Frame:
    """Rows that are in memory already, or a frame of Spark, which stays where it is.

    :param data: a pandas or polars frame, an Arrow table, anything with an Arrow stream, or a frame of Spark.
    :param name: how people call it.
    """

    data: Any = field(repr=False)
    name: str = "frame"

    @property
    def in_spark(self) -> bool:
        """Whether it is a frame of Spark."""
        return type(self.data).__module__.startswith("pyspark.")


@dataclass(frozen=True)
class Query:
    """What a query gives in the system behind an Airflow connection; only aggregates leave it.

    :param sql: one ``SELECT``, in the system's own dialect.
    :param conn_id: of any connection whose hook is a ``DbApiHook``; ``None`` for Spark's own catalogue.
    :param hook: the hook itself, where the connection alone does not tell which (or in a test).
    :param dialect: where it cannot be told from the connection's type.
    :param name: how people call it.
    """

    sql: str
    conn_id: str | None = None
    hook: Any = field(default=None, repr=False, compare=False)
    dialect: str | None = None
    name: str = "query"

    def __post_init__(self) -> None:
        text = self.sql.strip().rstrip(";").rstrip() if isinstance(self.sql, str) else ""
        not_empty("sql", text, "sql holds no query", "Give one SELECT.")
        object.__setattr__(self, "sql", text)


@dataclass(frozen=True)
class TableRef:
    """A table or view in the system behind an Airflow connection; only aggregates leave it.

    :param table: its name, qualified by schema (and catalogue) with dots; parts with a dot of their own as a list.
    :param conn_id: see :class:`Query`.
    :param where: keep the rows that this condition holds for, such as ``"day = DATE '2026-01-01'"``.
    :param hook: see :class:`Query`.
    :param dialect: see :class:`Query`.
    """

    table: str | Sequence[str]
    conn_id: str | None = None
    where: str = ""
    hook: Any = field(default=None, repr=False, compare=False)
    dialect: str | None = None

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, str) and part for part in self.parts):
            raise InvalidInput("table names no table", field="table", value=self.table)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the name."""
        return tuple(self.table.split(".")) if isinstance(self.table, str) else tuple(self.table)

    @property
    def name(self) -> str:
        """The qualified name."""
        return ".".join(self.parts)


Source: TypeAlias = "Files | Frame | Query | TableRef | Profile"


def _format(paths: tuple[str, ...]) -> Format:
    found = {kind for path in paths for suffix, kind in _SUFFIXES.items() if path.lower().endswith(suffix)}
    folders = [path for path in paths if not path.lower().endswith(tuple(_SUFFIXES))]
    for path in folders:
        last = path.rstrip("/").rsplit("/", 1)[-1]
        if "." in last.strip(".") and not set("*?[") & set(last) and "=" not in last:
            raise InvalidInput(
                f"{path} is of no known format",
                field="paths",
                value=path,
                remedy=f"Use files that end in {', '.join(_SUFFIXES)}, a folder, or say format=.",
            )
    if len(found) > 1:
        raise InvalidInput(
            "paths mixes formats", field="paths", value=sorted(found), remedy="Give one format."
        )
    return found.pop() if found else "parquet"
