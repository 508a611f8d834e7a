"""Any system behind an Airflow connection with a ``DbApiHook``: it runs the generated SQL, and only aggregates come back."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.drift.columns import Column, Unmeasured
from airflow_pipeops.drift.engines import sql as statements
from airflow_pipeops.drift.engines.dialects import CONNECTIONS, known
from airflow_pipeops.drift.engines.sessions import Cancelled, by_name, frame_of, unique
from airflow_pipeops.drift.sources import Query, TableRef
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, PipeOpsError, Unreachable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Attempts of one query, and the seconds before the second; each pause is twice as long, and of random length.
ATTEMPTS = 3
FIRST_PAUSE = 0.5

#: Classes of the DB-API that say the connection or the server failed, and not the query.
_PASSING = (
    "OperationalError",
    "InterfaceError",
    "AdminShutdown",
    "ConnectionError",
    "ConnectionRefusedError",
)
_DENIED = re.compile(
    r"permission denied|access denied|not authori[sz]ed|authentication failed|insufficient priv", re.I
)

#: What a driver says of a column where it gives a number instead of a name.
_SNOWFLAKE = "number double text date timestamp variant timestamp_ltz timestamp_tz timestamp_ntz object array binary time"


class Warehouse:
    """A query or table behind a connection.

    :param timeout: seconds for one query; then it is cancelled.
    """

    def __init__(self, source: Query | TableRef, field: str, *, timeout: float = 3600.0) -> None:
        self._source, self._field, self._timeout = source, field, timeout
        self._hook, self.dialect = _hook(source, field)
        self._connection: Any = None
        self._cursor: Any = None
        self._cancelled = False
        self._lock = threading.Lock()
        self.engine = self.dialect
        self.relation = self._named()

    def _named(self) -> str:
        if isinstance(self._source, Query):
            return f"({self._source.sql}\n) AS pipeops_rows"
        name = ".".join(statements.identifier(part, self.dialect) for part in self._source.parts)
        if self._source.where:
            return f"(SELECT * FROM {name} WHERE {self._source.where}\n) AS pipeops_rows"
        return name

    def schema(self) -> tuple[Column, ...]:
        """Return the columns, as the driver describes an empty result."""
        _, description = self._run(f"SELECT * FROM {self.relation} WHERE 1 = 0")
        codes = [item[1] for item in description]
        names = self._types(codes)
        found = [
            Column.of(str(item[0]), name, self.dialect) for item, name in zip(description, names, strict=True)
        ]
        return unique(found, self._field)

    def _types(self, codes: list[Any]) -> list[str]:
        numbers = sorted({int(code) for code in codes if isinstance(code, int)})
        if not numbers:
            return [_type_name(code) for code in codes]
        if self.dialect in ("postgres", "redshift"):
            listed = ", ".join(map(str, numbers))
            query = f"SELECT oid, typname, typtype FROM pg_catalog.pg_type WHERE oid IN ({listed})"
            known_types = {
                int(oid): "enum" if kind == "e" else str(name) for oid, name, kind in self._run(query)[0]
            }
        elif self.dialect == "snowflake":
            known_types = dict(enumerate((*_SNOWFLAKE.split(), "boolean")))
        else:
            known_types = {}
        return [
            known_types.get(code, f"code {code}") if isinstance(code, int) else _type_name(code)
            for code in codes
        ]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        return self._run(sql)[0]

    def table(self, sql: str) -> dict[str, Any]:
        """Run a query; return lists by name."""
        found, description = self._run(sql)
        return by_name([str(item[0]).lower() for item in description], found)

    def frame(self, sql: str) -> pd.DataFrame:
        """Run a query; return its rows as they are."""
        found, description = self._run(sql)
        return frame_of([str(item[0]) for item in description], found)

    def batches(self, sql: str, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Run a query; give its rows as they come. It is not begun anew in the middle: whoever reads begins again."""
        import pyarrow as pa

        try:
            # psycopg reads a whole result into memory, unless the server keeps it.
            with contextlib.closing(self._opened("pipeops_rows")) as cursor:
                with self._deadline():
                    cursor.execute(sql)
                while found := self._fetched(cursor, size):
                    arrays = [_array(values) for values in zip(*map(tuple, found), strict=True)]
                    yield pa.RecordBatch.from_arrays(arrays, names=list(columns))
        except (GeneratorExit, PipeOpsError):
            raise
        except Exception as error:
            raise self._error(error) from error

    def _fetched(self, cursor: Any, size: int) -> list[Any]:
        with self._deadline():
            return list(cursor.fetchmany(size))

    def _run(self, sql: str) -> tuple[list[tuple[Any, ...]], Any]:
        """Run a query that only reads, again over a new connection where the old one broke."""
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            if self._cancelled:
                raise Cancelled("the comparison was cancelled")
            try:
                return self._once(sql)
            except PipeOpsError:
                raise
            except Exception as error:
                failure = self._error(error)
                if attempt == ATTEMPTS or not failure.retryable:
                    raise failure from error
                self._drop()
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
        raise AssertionError("unreachable")

    def _once(self, sql: str) -> tuple[list[tuple[Any, ...]], Any]:
        with contextlib.closing(self._opened()) as cursor, self._deadline():
            # Without parameters: a percent sign in a name or a query is one.
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()], cursor.description

    def _opened(self, kept_as: str = "") -> Any:
        """Return a cursor; where the driver knows such, one whose result the server keeps under a name."""
        with self._lock:
            if self._connection is None:
                self._connection = self._hook.get_conn()
            knows = type(self._connection).__module__.startswith(
                "psycopg"
            )  # or psycopg2, by what Airflow has
            named = [kept_as] if kept_as and knows else []
            self._cursor = self._connection.cursor(*named)
            return self._cursor

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self._stop()

        timer = threading.Timer(self._timeout, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if late.is_set():
                self._drop()
                raise _TooLong(
                    f"{self._field}: a query took longer than {self._timeout:g} seconds and was cancelled",
                    remedy="Raise timeout, or compare a smaller part.",
                ) from error
            raise
        finally:
            timer.cancel()

    def _error(self, error: Exception) -> PipeOpsError:
        """Turn the driver's error into one of ours; its text only where it tells of the query, never of values."""
        if self._cancelled:
            return Cancelled("the comparison was cancelled")
        kinds = [kind.__name__ for kind in type(error).__mro__]
        code = str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")
        what = f"{kinds[0]} {code}".strip()
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if code.startswith(("28", "42501")) or _DENIED.search(first):
            return AccessDenied(
                f"{self._field}: {self._source.name} may not be read ({what})",
                remedy="Check the connection's user and its grants.",
            )
        if any(kind in _PASSING for kind in kinds) and not code.startswith(("42", "22", "53100")):
            return Unreachable(f"{self._field}: the {self.dialect} server did not answer ({what})")
        detail = f": {first[:200]}" if "ProgrammingError" in kinds and first else ""
        return Unmeasured(
            f"{self._field}: {self._source.name} failed on {self.dialect} ({what}{detail})",
            field=self._field,
            value=self._source.name,
            remedy="Run it there by hand.",
        )

    def identity(self) -> dict[str, Any]:
        """Return the connection's name, and the table or the query's digest."""
        found = {
            "kind": type(self._source).__name__.lower(),
            "name": self._source.name,
            "engine": self.engine,
        }
        if self._source.conn_id:
            found["conn_id"] = self._source.conn_id
        if isinstance(self._source, Query):
            found["query"] = hashlib.sha256(self._source.sql.encode()).hexdigest()
        elif self._source.where:
            found["where"] = self._source.where
        return found

    def cancel(self) -> None:
        """End the running query."""
        self._cancelled = True
        self._stop()

    def _stop(self) -> None:
        for owner in (self._connection, self._cursor):
            stop = getattr(owner, "cancel", None)
            if callable(stop):
                with contextlib.suppress(Exception):
                    stop()
                return
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        with contextlib.suppress(Exception):
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._drop()


class _TooLong(Unreachable):
    """Not worth another attempt within the same task: it would take as long again."""

    retryable = False


def _hook(source: Query | TableRef, field: str) -> tuple[Any, str]:
    """Return the hook and the dialect."""
    hook, kind = source.hook, ""
    if hook is None:
        from airflow_pipeops.base.connections import read

        connection = read(str(source.conn_id))
        kind = str(connection.conn_type or "")
        hook = _of_connection(connection, kind)
    kind = kind or str(getattr(hook, "conn_type", "") or "")
    if not callable(getattr(hook, "get_conn", None)) or not hasattr(hook, "get_records"):
        raise InvalidInput(
            f"the hook of connection {source.conn_id!r} runs no SQL ({type(hook).__name__})",
            field=field,
            value=source.conn_id,
            remedy="Use a connection whose hook is a DbApiHook, or give hook=.",
        )
    dialect = source.dialect or CONNECTIONS.get(kind, "")
    message = f"the SQL dialect of connection type {kind!r} is unknown"
    not_empty(field, dialect, message, "Give dialect=.")
    return hook, known(dialect)


def _of_connection(connection: Any, kind: str) -> Any:
    if kind == "databricks":  # its own hook speaks REST
        from airflow.providers.databricks.hooks.databricks_sql import DatabricksSqlHook

        return DatabricksSqlHook(databricks_conn_id=connection.conn_id)
    parameters = {"use_legacy_sql": False} if kind in ("gcpbigquery", "google_cloud_platform") else {}
    if kind == "google_cloud_platform":  # its own hook knows no SQL
        from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

        return BigQueryHook(gcp_conn_id=connection.conn_id, use_legacy_sql=False)
    return connection.get_hook(hook_params=parameters)


def _array(values: Sequence[Any]) -> pa.Array:
    """Make a column; what Arrow would give another type by the values beside it (decimals), or as bytes, becomes text."""
    import pyarrow as pa

    if {Decimal, UUID} & set(map(type, values)):
        values = [
            format(value, "f") if isinstance(value, Decimal) else None if value is None else str(value)
            for value in values
        ]
    return pa.array(values)


def _type_name(code: Any) -> str:
    """Return the name of a type: some drivers give a text, some a class or an object with a name."""
    if isinstance(code, str):
        return code
    name = getattr(code, "name", None) or getattr(code, "__name__", None)
    return str(name or code)
