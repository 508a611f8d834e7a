"""What differs between SQL engines and no transpiler knows: names of types, and seconds since 1970.

A family says how a column can be compared: ``integer`` and ``number`` by value, ``boolean``, ``text`` and ``uuid`` as
categories, ``date``, ``time``, ``timestamp``, ``timestamptz`` and ``interval`` as seconds. All else (``nested``, ``binary``,
``unknown``) is refused by name.
"""

from __future__ import annotations

import re

from airflow_pipeops.base.arguments import one_of

#: Dialects that SQL is generated for. Tests run it on DuckDB, Spark and PostgreSQL; for the others they compare its text.
DIALECTS = (
    "duckdb",
    "spark",
    "databricks",
    "trino",
    "snowflake",
    "bigquery",
    "postgres",
    "redshift",
    "clickhouse",
    "mysql",
)

#: Type of an Airflow connection -> dialect.
CONNECTIONS = {
    "postgres": "postgres",
    "redshift": "redshift",
    "trino": "trino",
    "presto": "trino",
    "snowflake": "snowflake",
    "google_cloud_platform": "bigquery",
    "gcpbigquery": "bigquery",
    "databricks": "databricks",
    "databricks_sql": "databricks",
    "clickhouse": "clickhouse",
    "hiveserver2": "spark",
    "mysql": "mysql",
}

NUMBERS = ("integer", "number")
CATEGORIES = ("boolean", "text", "uuid")
TIMES = ("date", "time", "timestamp", "timestamptz", "interval")

_MICROSECONDS = dict.fromkeys(TIMES, "CAST(EPOCH_US({}) AS DOUBLE) / 1E6")
_EXTRACTED = dict.fromkeys(TIMES, "CAST(EXTRACT(EPOCH FROM {}) AS DOUBLE PRECISION)")
_SPARK = {
    "date": "CAST(UNIX_DATE({}) AS DOUBLE) * 8.64E4",
    "timestamptz": "CAST(UNIX_MICROS({}) AS DOUBLE) / 1E6",
    # Without a zone there is no instant: its own clock is read, whatever the session's zone.
    "timestamp": "CAST(UNIX_DATE(CAST({0} AS DATE)) AS DOUBLE) * 8.64E4 + CAST(HOUR({0}) AS DOUBLE) * 3.6E3"
    " + CAST(MINUTE({0}) AS DOUBLE) * 6E1 + CAST(EXTRACT(SECOND FROM {0}) AS DOUBLE)",
}

#: Seconds since 1970 (of a time: since midnight; of an interval: its length) as a double. What is absent is refused by name.
SECONDS: dict[str, dict[str, str]] = {
    "duckdb": {
        **_MICROSECONDS,
        "date": "CAST(EPOCH_US(CAST({} AS TIMESTAMP)) AS DOUBLE) / 1E6",
        # DuckDB has no such function for instants in nanoseconds, nor for times of day with a zone.
        "timestamptz": "CAST(EPOCH_US(CAST({} AS TIMESTAMPTZ)) AS DOUBLE) / 1E6",
    },
    "postgres": _EXTRACTED,
    "redshift": {name: _EXTRACTED[name] for name in ("date", "timestamp", "timestamptz")},
    "spark": _SPARK,
    "databricks": _SPARK,
    "trino": {
        "date": "CAST(DATE_DIFF('day', DATE '1970-01-01', {}) AS DOUBLE) * 8.64E4",
        "timestamp": "TO_UNIXTIME({})",
        "timestamptz": "TO_UNIXTIME({})",
    },
    "snowflake": {
        "date": "CAST(DATE_PART(EPOCH_SECOND, {}) AS DOUBLE)",
        "timestamp": "CAST(DATE_PART(EPOCH_MICROSECOND, {}) AS DOUBLE) / 1E6",
        "timestamptz": "CAST(DATE_PART(EPOCH_MICROSECOND, {}) AS DOUBLE) / 1E6",
    },
    "bigquery": {
        "date": "CAST(UNIX_DATE({}) AS FLOAT64) * 8.64E4",
        "time": "CAST(TIME_DIFF({}, TIME '00:00:00', MICROSECOND) AS FLOAT64) / 1E6",
        "timestamp": "CAST(UNIX_MICROS(TIMESTAMP({})) AS FLOAT64) / 1E6",
        "timestamptz": "CAST(UNIX_MICROS({}) AS FLOAT64) / 1E6",
    },
    "clickhouse": {
        "date": "CAST(toInt32(toDate32({})) AS Nullable(Float64)) * 8.64E4",
        "timestamptz": "CAST(toUnixTimestamp64Micro(toDateTime64({}, 6, 'UTC')) AS Nullable(Float64)) / 1E6",
    },
    "mysql": {"date": "CAST(TO_DAYS({}) - 719528 AS DOUBLE) * 8.64E4"},
}

#: A number from 0 to 1, drawn for each row.
_COINS = {
    "spark": "RAND({seed})",
    "databricks": "RAND({seed})",
    "mysql": "RAND({seed})",
    "snowflake": "UNIFORM(CAST(0 AS FLOAT), CAST(1 AS FLOAT), RANDOM({seed}))",
    "postgres": "RANDOM()",
    "redshift": "RANDOM()",
    "trino": "RANDOM()",
    "bigquery": "RAND()",
    "clickhouse": "randCanonical({seed})",
}

_FAMILIES = {
    "integer": "tinyint smallint int integer bigint hugeint int1 int2 int4 int8 int16 int32 int64 int128 int256"
    " mediumint byteint long short byte utinyint usmallint uinteger ubigint uhugeint uint8 uint16 uint32 uint64"
    " uint128 uint256 serial bigserial",
    "number": "float double real decimal numeric number float4 float8 float32 float64 bignumeric dec fixed"
    " double_precision doubleprecision money smallmoney decfloat decimal32 decimal64 decimal128 decimal256 bignum",
    "boolean": "boolean bool logical",
    "text": "varchar char text string character nchar nvarchar bpchar enum enum8 enum16 fixedstring name citext"
    " character_varying longtext mediumtext tinytext ntext",
    "uuid": "uuid uniqueidentifier",
    "date": "date date32",
    "time": "time timetz time_ntz time_without_time_zone",
    "timestamp": "timestamp timestamp_ntz datetime datetime2 timestamp_s timestamp_ms timestamp_ns timestamp_us"
    " smalldatetime timestampntz timestamp_without_time_zone",
    "timestamptz": "timestamptz timestamp_ltz timestamp_tz timestamp_with_time_zone"
    " timestamp_with_local_time_zone datetimeoffset datetime64",
    "interval": "interval",
    "nested": "list array struct map row record tuple nested json jsonb variant object super union geography"
    " geometry vector hstore bit xml",
    "binary": "blob binary varbinary bytea bytes image",
    "null": "null void nulltype nothing",
}
_BY_NAME = {name: family for family, names in _FAMILIES.items() for name in names.split()}

#: Where the same word means an instant and not a wall clock.
_INSTANTS = {
    "spark": ("timestamp",),
    "databricks": ("timestamp",),
    "bigquery": ("timestamp",),
    "clickhouse": ("datetime",),
}


def known(dialect: str) -> str:
    """Return the dialect.

    :raises InvalidInput: if no SQL is generated for it.
    """
    return one_of("dialect", dialect, DIALECTS, called="the SQL dialect")


def coin(dialect: str, seed: int) -> tuple[str, str]:
    """Return how a row's coin is tossed: a statement to run before, or none, and an expression from 0 to 1.

    Two expressions of two seeds are independent. ClickHouse takes the seed for no more than that.
    """
    before = f"SELECT SETSEED({seed % 2**20 / 2**20})" if dialect == "postgres" else ""
    return before, _COINS[dialect].format(seed=int(seed))


def family(type_name: str, dialect: str = "duckdb") -> str:
    """Tell how a column of this type can be compared.

    :param type_name: as the engine writes it, such as ``DECIMAL(18,2)``, ``timestamp with time zone`` or ``array<int>``.
    :param dialect: of the engine.
    :return: the family.
    """
    text = type_name.strip().lower()
    while wrapped := re.fullmatch(r"(?:nullable|lowcardinality)\((.*)\)", text):
        text = wrapped.group(1)
    if text.endswith("[]") or re.search(r"\[\d+\]$", text) or text.startswith("_"):
        return "nested"
    zoned = re.search(r"with (?:local )?time zone", text) is not None
    base = re.sub(r"[^a-z0-9]+", "_", re.split(r"[(<]", text)[0]).strip("_")
    if base.startswith("interval"):
        return "interval"
    found = _BY_NAME.get(base) or _BY_NAME.get(base.split("_")[0], "unknown")
    if found == "timestamp" and (zoned or base in _INSTANTS.get(dialect, ())):
        return "timestamptz"
    return found


def numpy_type(type_name: str) -> str:
    """Return NumPy's name for the values, ``float64`` where it has none: what the statistics are told of a column."""
    base = re.split(r"[(<]", type_name.strip().lower())[0].strip()
    return {
        "tinyint": "int8",
        "byte": "int8",
        "smallint": "int16",
        "int2": "int16",
        "short": "int16",
        "int": "int32",
        "integer": "int32",
        "int4": "int32",
        "bigint": "int64",
        "int8": "int64",
        "long": "int64",
        "int64": "int64",
        "utinyint": "uint8",
        "usmallint": "uint16",
        "uinteger": "uint32",
        "ubigint": "uint64",
        "float": "float32",
        "float4": "float32",
        "real": "float32",
        "float32": "float32",
    }.get(base, "float64")
