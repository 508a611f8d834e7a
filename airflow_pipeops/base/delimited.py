"""CSV files, read in one way by everything here: the header by name, every value before a type is told, nothing guessed.

DuckDB reads the file as texts. A column's type is what *all* of its values say, and no value changes by being read: a zip
code of ``01234`` is a text, since a number would lose its zero; ``NA`` is a text, since only what is empty is null. What a
file does not say and its values leave open is refused, with the option of :class:`Csv` that settles it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast, get_args

from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput

#: What the values of a column are; ``null`` where there is none.
Type: TypeAlias = Literal["text", "integer", "number", "boolean", "date", "timestamp", "timestamptz", "time"]
TYPES: tuple[Type, ...] = get_args(Type)

#: What a header is split by, where nobody says it.
_DELIMITERS = (",", ";", "\t", "|")
#: Lines in which Spark looks for the header.
_HEAD = 20
#: Columns that are looked through at once.
_AT_ONCE = 250

# What a value looks like, a bit for each, so that a column is the sum of its values.
_BIT, _INTEGER, _NUMBER, _PADDED, _BOOLEAN, _DATE, _TIMESTAMP, _ZONED, _TIME, _COMMA, _TEXT = (
    1 << place for place in range(11)
)
_TELLING: tuple[tuple[int, Type], ...] = (
    (_BIT | _INTEGER, "integer"),
    (_BIT | _INTEGER | _NUMBER, "number"),
    (_BOOLEAN, "boolean"),
    (_DATE, "date"),
    (_DATE | _TIMESTAMP, "timestamp"),
    (_ZONED, "timestamptz"),
)
#: What else may be of a type, where the type is known beforehand.
_KNOWN: dict[str, int] = {
    "integer": _BIT | _INTEGER,
    "number": _BIT | _INTEGER | _NUMBER | _PADDED,
    "boolean": _BIT | _BOOLEAN,
    "date": _DATE,
    "timestamp": _DATE | _TIMESTAMP,
    "timestamptz": _ZONED,
    "time": _TIME,
    "text": -1,
}
_CASTS = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "time": "TIME",
    "text": "VARCHAR",
}

#: The same on Spark, whose ``TIMESTAMP`` is an instant.
_SPARK = {
    **_CASTS,
    "text": "STRING",
    "timestamp": "TIMESTAMP_NTZ",
    "timestamptz": "TIMESTAMP",
    "time": "STRING",
}

#: Families of a reference whose columns are told as one of these.
_LIKE: dict[str, tuple[str, ...]] = {
    "integer": ("integer", "number"),
    "number": ("integer", "number"),
    "boolean": ("boolean",),
    "date": ("date", "timestamp", "timestamptz"),
    "timestamp": ("date", "timestamp", "timestamptz"),
    "timestamptz": ("date", "timestamp", "timestamptz"),
    "time": ("time",),
    "text": ("text",),
    "uuid": ("text",),
}


@dataclass(frozen=True)
class Csv:
    """What a CSV file does not say of itself.

    :param delimiter: between values; by default the one of ``,``, ``;``, tab and ``|`` that the header has, or what a first
        line ``sep=;`` says.
    :param decimal: ``.`` or ``,``; by default a point, and a column of values such as ``1,5`` is refused.
    :param encoding: as Python names it, such as ``cp1252``; by default UTF-8, or UTF-16 where the file begins with its mark.
    :param nulls: texts that mean no value, besides the empty one.
    :param types: column -> one of :data:`TYPES`, where its values shall not tell.
    """

    delimiter: str = ""
    decimal: Literal["", ".", ","] = ""
    encoding: str = ""
    nulls: tuple[str, ...] = ()
    types: Mapping[str, Type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.nulls, str):
            object.__setattr__(self, "nulls", (self.nulls,))
        demand_types(self)
        object.__setattr__(self, "nulls", tuple(self.nulls))
        if self.delimiter and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise InvalidInput(
                f"csv: delimiter {self.delimiter!r} is not one character",
                field="csv",
                value=self.delimiter,
                remedy="Give one, such as ';' or '\\t'.",
            )
        one_of("csv", self.decimal, ("", ".", ","), called="csv: decimal", remedy="Use '.' or ','.")
        for name, kind in mapping("csv", self.types, "Give column -> type.").items():
            one_of("csv", kind, TYPES, called=f"csv: type of column {name!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise InvalidInput(
                f"csv: encoding {self.encoding!r} is unknown",
                field="csv",
                value=self.encoding,
                remedy="Name it as Python does, such as cp1252, latin-1 or utf-16.",
            ) from error

    @classmethod
    def of(cls, given: Csv | Mapping[str, Any] | None) -> Csv:
        """Read what a DAG says: one of these, a mapping of its fields, or nothing.

        :return: the options.
        :raises InvalidInput: for an unknown field or value.
        """
        if isinstance(given, Csv):
            return given
        found = dict(
            mapping("csv", given or {}, "Give a mapping, such as {'delimiter': ';', 'decimal': ','}.")
        )
        for name in found:
            one_of("csv", str(name), tuple(cls.__dataclass_fields__), called="csv: option")
        return cls(**found)


@dataclass(frozen=True)
class Layout:
    """One file, as DuckDB is told to read it.

    :param path: where DuckDB finds it, in UTF-8.
    :param names: of the columns.
    :param delimiter: between values.
    :param skip: lines before the header.
    """

    path: str
    names: tuple[str, ...]
    delimiter: str
    skip: int


def distinct(names: Sequence[str], field: str) -> None:
    """Refuse columns that cannot be told apart by name, on every engine.

    :raises InvalidInput: for two of one name, or that differ in upper and lower case only.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.lower())
        if other is not None:
            said = f"named {name!r}" if other == name else f"that differ in case only, {other!r} and {name!r}"
            raise InvalidInput(
                f"{field} has two columns {said}",
                field=field,
                value=name,
                remedy="Rename one of them.",
            )
        seen[name.lower()] = name


def pattern_free(path: str) -> str:
    """Write a path so that DuckDB, which takes every path for a pattern, finds this file and no other."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def in_spark_paths(session: Any, paths: Sequence[str]) -> list[str]:
    """Write paths so that Spark, which takes every path for a pattern, reads what is there by this very name.

    Only another one is a pattern, of ``*``, ``?`` and ``[...]`` as everywhere here; braces and backslashes are text.

    :param session: of Spark.
    :param paths: as a person wrote them.
    :return: as Spark reads them.
    """

    def there(path: str) -> bool:
        try:
            # The files are listed, and none is read.
            reader = session.read.option("__globPaths__", "false").format("binaryFile")
            return bool(reader.load(path).inputFiles())
        except Exception as error:
            if re.search("PATH_NOT_FOUND|FileNotFoundException", str(error)):
                return False
            raise

    found = []
    for path in paths:
        literal = bool(set("*?[") & set(path)) and there(path)
        found.append(re.sub(r"([*?\[\]{}\\])" if literal else r"([{}\\])", r"\\\1", path))
    return found


def layout(
    path: str, opened: Callable[[], IO[bytes]], options: Csv, known_as: str, field: str, folder: Path
) -> Layout | None:
    """Read the header of a file; where the file is in another encoding than UTF-8, write it anew.

    :param path: as DuckDB reads it.
    :param opened: opens it, compressed or not.
    :param options: what it does not say of itself.
    :param known_as: how people call it.
    :param field: the name under which the reader knows the value, for errors.
    :param folder: for a file in UTF-8.
    :return: how to read it; ``None`` for a file without a header.
    :raises InvalidInput: if it is damaged, in no known encoding, has an ambiguous header, or columns of one name.
    """
    packed = path.lower().endswith(".gz")
    with _readable(known_as, field, options):
        with opened() as raw, _unpacked(raw, packed) as stream:
            encoding = options.encoding or _marked(stream)
        if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig", "ascii"):
            with opened() as raw, _unpacked(raw, packed) as stream:
                path = str(folder / f"{len(list(folder.iterdir()))}.csv")
                with open(path, "w", encoding="utf-8", newline="") as plain:
                    shutil.copyfileobj(codecs.getreader(encoding)(stream), plain)
            with open(path, "rb") as stream:
                return _header(path, stream, options, known_as, field)
        with opened() as raw, _unpacked(raw, packed) as stream:
            return _header(path, stream, options, known_as, field)


@contextmanager
def _readable(known_as: str, field: str, options: Csv) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise not_in(options.encoding or "UTF-8", known_as, field) from error
    except (EOFError, gzip.BadGzipFile, csv.Error, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise InvalidInput(
            f"{known_as} is damaged or not csv ({type(error).__name__})",
            field=field,
            value=known_as,
            remedy="Deliver the file again; write it to another name first and rename it when complete.",
        ) from error


def not_in(encoding: str, known_as: str, field: str) -> InvalidInput:
    """Return the error for a file that is not in the encoding that was expected."""
    return InvalidInput(
        f"{known_as} is not in {encoding}",
        field=field,
        value=known_as,
        remedy="Say what it is in, such as csv={'encoding': 'cp1252'} for what Excel writes in the west of Europe; "
        "or write it in UTF-8.",
    )


@contextmanager
def _unpacked(stream: IO[bytes], packed: bool) -> Iterator[IO[bytes]]:
    if not packed:
        yield stream
        return
    with gzip.GzipFile(fileobj=stream) as found:
        yield cast("IO[bytes]", found)


def _marked(stream: IO[bytes]) -> str:
    return "utf-16" if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"


def _header(path: str, stream: IO[bytes], options: Csv, known_as: str, field: str) -> Layout | None:
    lines = codecs.getreader("utf-8-sig")(stream)
    delimiter, skip = options.delimiter, 0
    first = lines.readline()
    while first and (not first.strip("\r\n") or (stated := re.fullmatch(r"(?i)sep=(.)[\r\n]*", first))):
        if first.strip("\r\n") and stated:
            delimiter = delimiter or stated.group(1)
        first, skip = lines.readline(), skip + 1
    if not first:
        return None
    if "\0" in first:  # such as UTF-16 without its mark
        raise not_in(options.encoding or "UTF-8", known_as, field)
    while first.count('"') % 2 and (more := lines.readline()):  # a name with a line's end in it
        first += more
    delimiter = delimiter or _told(first, known_as, field)
    names = next(csv.reader(first.splitlines(keepends=True), delimiter=delimiter))
    named = tuple(name or f"column{place}" for place, name in enumerate(names, 1))
    distinct(named, known_as)
    return Layout(path, named, delimiter, skip)


def _told(header: str, known_as: str, field: str) -> str:
    """Tell the delimiter from the header."""
    bare = re.sub(r'"(?:[^"]|"")*"', "", header)
    found = [one for one in _DELIMITERS if one in bare]
    if len(found) > 1:
        raise InvalidInput(
            f"the header of {known_as} has {' and '.join(map(repr, found))}: its delimiter cannot be told",
            field=field,
            value=known_as,
            remedy=f"Say it, such as csv={{'delimiter': {found[0]!r}}}; or quote the names.",
        )
    return found[0] if found else ","


def texts(layouts: Sequence[Layout], options: Csv) -> str:
    """Return the SQL that names the rows of files of the same columns, all values as texts; in the first one's order."""
    alike: dict[tuple[tuple[str, ...], str, int, bool], list[str]] = {}
    for one in layouts:
        packed = one.path.lower().endswith(".gz")
        alike.setdefault((one.names, one.delimiter, one.skip, packed), []).append(one.path)
    scans = [_scan(paths, *how, options=options) for how, paths in alike.items()]
    if len(scans) == 1:
        return scans[0]
    selected = ", ".join(_quoted(name) for name in layouts[0].names)
    return "(" + " UNION ALL ".join(f"SELECT {selected} FROM {scan}" for scan in scans) + ") AS pipeops_texts"


def _scan(
    paths: Sequence[str], names: Sequence[str], delimiter: str, skip: int, packed: bool, options: Csv
) -> str:
    listed = ", ".join(_literal(pattern_free(path)) for path in paths)
    columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names)
    nulls = ", ".join(_literal(one) for one in ("", *options.nulls))
    return (
        f"read_csv([{listed}], columns = {{{columns}}}, auto_detect = false, header = true, skip = {skip}, "
        f"delim = {_literal(delimiter)}, quote = '\"', escape = '\"', nullstr = [{nulls}], "
        f"compression = '{'gzip' if packed else 'none'}')"
    )


def types_of(
    ask: Callable[[str], Sequence[Sequence[Any]]],
    rows: str,
    names: Sequence[str],
    options: Csv,
    like: Mapping[str, str],
    known_as: str,
    field: str,
    dialect: Literal["duckdb", "spark"] = "duckdb",
) -> dict[str, str]:
    """Tell the type of each column from all of its values.

    :param ask: runs a query.
    :param rows: what :func:`texts` returned.
    :param names: of the columns.
    :param options: what the files do not say.
    :param like: column -> family of the same column of a reference, which rules where all values fit it.
    :param known_as: how people call the data.
    :param field: the name under which the reader knows the value, for errors.
    :param dialect: of the query.
    :return: column -> one of :data:`TYPES`, or ``null`` where there is no value.
    :raises InvalidInput: for values that are not of the type that the options say, for numbers whose decimal sign cannot be
        told, and for options about a column that is not there.
    """
    if absent := [name for name in options.types if name not in names]:
        raise InvalidInput(
            f"{known_as} has no column {', '.join(map(repr, absent))}, of which csv says the type",
            field="csv",
            value=absent,
            remedy="Check the spelling.",
        )
    found: dict[str, str] = {}
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        looks = ", ".join(f"BIT_OR({_look(_quoted(name, dialect), options, dialect)})" for name in part)
        for name, seen in zip(part, ask(f"SELECT {looks} FROM {rows}")[0], strict=True):
            found[name] = _told_type(name, int(seen or 0), options, like.get(name, ""), known_as, field)
    return found


def _look(value: str, options: Csv, dialect: str) -> str:
    spark = dialect == "spark"
    sign = "," if options.decimal == "," else "[.]"
    power = "([eE][-+]?[0-9]+)?"

    def like(pattern: str) -> str:
        return f"{value} RLIKE '^(?:{pattern})$'" if spark else f"regexp_full_match({value}, '{pattern}')"

    def holds(pattern: str, kind: str) -> str:
        return f"{like(pattern)} AND TRY_CAST({value} AS {(_SPARK if spark else _CASTS)[kind]}) IS NOT NULL"

    day, hour = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
    fraction = f"(0|[1-9][0-9]*){sign}[0-9]*{power}|{sign}[0-9]+{power}|(0|[1-9][0-9]*)[eE][-+]?[0-9]+"
    start = "^[-+.,0-9tTfFiI]"
    begins = f"({value} RLIKE '{start}')" if spark else f"regexp_matches({value}, '{start}')"
    ladder = (
        (f"NOT {begins}", _TEXT),
        (f"{value} IN ('0', '1')", _BIT),
        (holds("-?(0|[1-9][0-9]{0,18})", "integer"), _INTEGER),
        (like(f"-?({fraction})|-?(?i:inf|infinity)"), _NUMBER),
        (like(f"[-+]?([0-9]+({sign}[0-9]*)?|{sign}[0-9]+){power}"), _PADDED),
        (f"LOWER({value}) IN ('true', 'false')", _BOOLEAN),
        (holds(day, "date"), _DATE),
        (holds(f"{day}[ T]{hour}", "timestamp"), _TIMESTAMP),
        (holds(f"{day}[ T]{hour}(Z|[-+][0-9]{{2}}(:?[0-9]{{2}})?)", "timestamptz"), _ZONED),
        ("FALSE" if spark else holds(hour, "time"), _TIME),
        (like("-?[0-9]+,[0-9]+") if not options.decimal else "FALSE", _COMMA),
    )
    cases = " ".join(f"WHEN {test} THEN {bit}" for test, bit in ladder)
    return f"CASE WHEN {value} IS NULL THEN NULL {cases} ELSE {_TEXT} END"


def _told_type(name: str, seen: int, options: Csv, like: str, known_as: str, field: str) -> str:
    stated = options.types.get(name)
    if stated is not None:
        if seen & ~_KNOWN[stated]:
            raise InvalidInput(
                f"column {name!r} of {known_as} has values that are no {stated}",
                field=field,
                value=name,
                remedy="Correct the file, name the texts that mean no value in csv={'nulls': [...]}, or read it as text.",
            )
        return stated
    if not seen:
        return like if like in TYPES else "null"
    if "text" in _LIKE.get(like, ()):
        return "text"
    if seen & _COMMA and not seen & ~(_KNOWN["number"] | _COMMA):
        raise InvalidInput(
            f"column {name!r} of {known_as} holds values such as 1,5: decimals, thousands or texts",
            field=field,
            value=name,
            remedy=f"Say csv={{'decimal': ','}}; or csv={{'types': {{{name!r}: 'text'}}}} to read it as text.",
        )
    for kind in _LIKE.get(like, ()):
        if not seen & ~_KNOWN[kind]:
            return kind
    return next((kind for bits, kind in _TELLING if not seen & ~bits), "text")


def typed(rows: str, types: Mapping[str, str], options: Csv) -> str:
    """Return the SQL that names the rows with their types."""
    return f"(SELECT {', '.join(_cast(name, kind, options) for name, kind in types.items())} FROM {rows}) AS pipeops_csv"


def _cast(name: str, kind: str, options: Csv, dialect: str = "duckdb") -> str:
    value = _quoted(name, dialect)
    if kind == "null":
        return f"CAST(NULL AS DOUBLE) AS {value}"
    if kind == "text":
        return value
    plain = f"REPLACE({value}, ',', '.')" if kind == "number" and options.decimal == "," else value
    return f"CAST({plain} AS {(_SPARK if dialect == 'spark' else _CASTS)[kind]}) AS {value}"


def in_spark(
    session: Any, paths: Sequence[str], options: Csv, like: Mapping[str, str], known_as: str, field: str
) -> tuple[Any, dict[str, str]]:
    """Read CSV files where Spark stands, by the same rules.

    :param session: of Spark.
    :param paths: as :func:`in_spark_paths` writes them.
    :param options: what the files do not say of themselves.
    :param like: as for :func:`types_of`.
    :param known_as: how people call the data.
    :param field: the name under which the reader knows the value, for errors.
    :return: the frame, and the type of each column.
    :raises InvalidInput: as for :func:`layout` and :func:`types_of`; also for a first line ``sep=;``, which Spark cannot
        pass over, and without a header.
    """
    encoding = codecs.lookup(options.encoding or "utf-8").name.replace(
        "iso8859", "iso-8859"
    )  # as Java names it
    reader = session.read.option("encoding", encoding).option("lineSep", "\n")
    head = "\n".join(str(row[0]) for row in reader.text(list(paths)).limit(_HEAD).collect())
    with _readable(known_as, field, options):
        found = _header("", io.BytesIO(head.encode()), options, known_as, field)
    if found is None or re.match("(?i)\ufeff?sep=", head):
        raise InvalidInput(
            f"{known_as} begins {'with a line sep=' if found else 'without a header'}",
            field=field,
            value=known_as,
            remedy="Spark reads files that begin with their header: deliver them so, or read them without Spark.",
        )
    quoted = [_quoted(name, "spark") for name in found.names]
    # A header in another order, or a row with more or fewer values, is an error and not a row of nulls.
    frame = (
        session.read.schema(", ".join(f"{name} STRING" for name in quoted))
        .option("header", True)
        .option("enforceSchema", False)
        .option("mode", "FAILFAST")
        .option("sep", found.delimiter)
        .option("encoding", encoding)
        .option("escape", '"')
        .csv(list(paths))
    )
    nulls = ", ".join(
        "'" + one.replace("\\", "\\\\").replace("'", "\\'") + "'" for one in ("", *options.nulls)
    )
    frame = frame.selectExpr(
        *(f"CASE WHEN {one} IN ({nulls}) THEN NULL ELSE {one} END AS {one}" for one in quoted)
    )
    # Spark reads what is not in the encoding as this sign, and says nothing.
    lost = frame.where(" OR ".join(f"CONTAINS({one}, '\ufffd')" for one in quoted)).limit(1)
    if lost.count():
        raise not_in(options.encoding or "UTF-8", known_as, field)

    view = f"pipeops_{uuid.uuid4().hex[:12]}"
    frame.createOrReplaceTempView(view)
    try:
        types = types_of(
            lambda sql: session.sql(sql).collect(), view, found.names, options, like, known_as, field, "spark"
        )
    finally:
        session.catalog.dropTempView(view)
    return frame.selectExpr(*(_cast(name, kind, options, "spark") for name, kind in types.items())), types


#: What DuckDB says of a line -> what is wrong with it.
_SAID = (
    (r"Expected Number of Columns: (\d+) Found: (\d+)", "has {1} values, and the header has {0} names"),
    (r"unterminated quote", "has a quote that is never closed"),
    (r"Maximum line size", "is longer than 2 MB"),
    (
        r"state machine reached an invalid state",
        "ends in another way than the lines before it, or has a stray quote",
    ),
)


def complaint(error: Exception, known_as: str, field: str) -> InvalidInput | None:
    """Turn DuckDB's error about a CSV file into one that names the line and quotes nothing; ``None`` for any other."""
    text = str(error)
    if "not utf-8 encoded" in text.lower() or "Invalid unicode" in text:
        return not_in("UTF-8", known_as, field)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    for pattern, said in _SAID:
        if found := re.search(pattern, text):
            where = f"line {int(line.group(1)):,}" if line else "a line"
            return InvalidInput(
                f"{known_as} is damaged or not csv: {where} {said.format(*found.groups())}",
                field=field,
                value=known_as,
                remedy="Write values with the delimiter, a quote or a line's end in them in double quotes.",
            )
    return None


def _quoted(name: str, dialect: str = "duckdb") -> str:
    if dialect == "spark":
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
