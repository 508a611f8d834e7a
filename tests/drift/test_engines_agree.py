"""One generated query on three real engines: the same counts and bounds, and sums to 1e-12, on adversarial data."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_pipeops.drift.comparison import Engine
from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.opening import opened
from airflow_pipeops.drift.engines.rows import read_rows
from airflow_pipeops.drift.engines.sessions import Cancellation, Cancelled
from airflow_pipeops.drift.operators import DataDriftOperator, DriftProfileOperator
from airflow_pipeops.drift.profile import Profile
from airflow_pipeops.drift.sources import Files, Frame, Query, TableRef
from airflow_pipeops.drift.statistics.aggregates import CategoricalAggregate
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable
from tests.base.test_tables import HARD, TOLD
from tests.drift.adversarial import ROWS, table
from tests.servers import Hook, Postgres, postgres

_TYPES = {
    "double": "double precision",
    "float": "real",
    "int64": "bigint",
    "int16": "smallint",
    "bool": "boolean",
    "string": "text",
    "date32[day]": "date",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamptz",
    "decimal128(12, 2)": "numeric(12,2)",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        connection = running.connect()
        with connection, connection.cursor() as cursor:
            for name, seed, shift in (("reference", 0, 0.0), ("current", 1, 1.0)):
                fill(cursor, name, table(seed, shift))
            cursor.execute("CREATE ROLE stranger LOGIN")
        connection.close()
        yield running


def fill(cursor: Any, name: str, given: pa.Table) -> None:
    quoted = ['"' + column.replace('"', '""') + '"' for column in given.column_names]
    types = [_TYPES[str(column.type)] for column in given.columns]
    columns = ", ".join(f"{column} {kind}" for column, kind in zip(quoted, types, strict=True))
    cursor.execute(f"CREATE TABLE {name} ({columns})")
    text = io.BytesIO()
    pyarrow.csv.write_csv(given, text, pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed"))
    text.seek(0)
    cursor.copy_expert(f"COPY {name} FROM STDIN (FORMAT csv)", text)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    from airflow_pipeops.drift.engines.spark import local_session

    # Small data: compiling a query would take longer than interpreting it.
    quick = {
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    session = local_session(2, options=quick)
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("adversarial")
    pq.write_table(table(0), folder / "reference.parquet")
    pq.write_table(table(1, 1.0), folder / "current.parquet")
    return str(folder / "reference.parquet"), str(folder / "current.parquet")


@pytest.fixture(scope="module")
def embedded(files: tuple[str, str]) -> Profile:
    return profile(Files(files[0]))


def same(one: Profile, other: Profile) -> None:
    assert one.rows == other.rows
    assert one.kinds == other.kinds
    assert one.maps == other.maps
    for name, aggregate in one.columns[""].items():
        found = other.columns[""][name]
        assert (found.rows, found.missing) == (aggregate.rows, aggregate.missing), name
        if isinstance(aggregate, CategoricalAggregate):
            assert found.counts == aggregate.counts, name
            continue
        assert found.not_finite == aggregate.not_finite, name
        for part in ("key", "count", "low", "high"):
            assert (getattr(found, part) == getattr(aggregate, part)).all(), (name, part)
        for part in ("total", "squares"):
            assert getattr(found, part) == pytest.approx(getattr(aggregate, part), rel=1e-12, abs=1e-15), name
    assert one.data_digest == other.data_digest


def test_postgres_measures_the_same(server: Postgres, embedded: Profile) -> None:
    found = profile(TableRef("public.reference", hook=Hook(server)))
    same(embedded, found)
    assert (found.dialect, found.source["name"]) == ("postgres", "public.reference")


@pytest.mark.timeout(900)
def test_spark_measures_the_same(spark: Any, files: tuple[str, str]) -> None:
    names = [
        "outlier",
        "odd",
        "nulls",
        "huge",
        "tiny",
        "single",
        "big",
        "price",
        "flag",
        "text",
        "day",
        "at",
        "instant",
    ]
    columns = dict.fromkeys([*names, 'Weird "name" `of` it\'s'], "")
    found = profile(Files(files[0]), columns=columns, engine=Engine(spark=spark))
    same(profile(Files(files[0]), columns=columns), found)
    assert found.engine.startswith("spark ")


def test_one_side_in_a_warehouse_and_the_other_in_files(server: Postgres, files: tuple[str, str]) -> None:
    query = Query("SELECT * FROM current WHERE 'a%' LIKE 'a%%';", hook=Hook(server))
    expected, found = compare(Files(files[0]), Files(files[1])), compare(Files(files[0]), query)
    assert [(i.column, i.verdict) for i in found.columns] == [(i.column, i.verdict) for i in expected.columns]
    scores = [[i.score for i in one.columns] for one in (expected, found)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)
    assert found.current["engine"] == "postgres"
    assert found.current["data_digest"] == expected.current["data_digest"]


def test_segments_and_caps_in_a_warehouse(server: Postgres) -> None:
    names = {"normal": "", "text": "", "small": "categorical"}
    side = [TableRef(name, hook=Hook(server)) for name in ("reference", "current")]
    local = [Frame(table(0)), Frame(table(1, 1.0))]
    for engine in (Engine(), Engine(categories=4)):
        expected, found = (
            compare(*given, columns=names, segment_by="group", engine=engine) for given in (local, side)
        )
        assert [(i.column, i.segment, i.verdict) for i in found.columns] == [
            (i.column, i.segment, i.verdict) for i in expected.columns
        ]
        assert found.rows == expected.rows


@pytest.mark.timeout(900)
@pytest.mark.nightly
def test_segments_and_categories_on_spark(spark: Any) -> None:
    given = [table(0), table(1, 1.0)]
    frames = [Frame(spark.createDataFrame(one.select(["normal", "text", "group"]))) for one in given]
    engine = Engine(categories=4)
    expected = compare(
        *map(Frame, given), columns={"normal": "", "text": ""}, segment_by="group", engine=engine
    )
    found = compare(*frames, columns={"normal": "", "text": ""}, segment_by="group", engine=engine)
    assert [(i.column, i.segment, i.verdict) for i in found.columns] == [
        (i.column, i.segment, i.verdict) for i in expected.columns
    ]


def test_values_are_looked_up_in_a_warehouse(server: Postgres) -> None:
    from airflow_pipeops.drift.engines.gatherer import Gatherer, Wanted
    from airflow_pipeops.drift.engines.warehouse import Warehouse

    side = Warehouse(TableRef("reference", hook=Hook(server)), "reference")
    gatherer = Gatherer(side, Wanted({"ties": "numerical"}, segment_by="group"), "reference", lambda _: None)
    values, counts = gatherer.values("ties", [(-0.05, 0.15), (1.0, 1.0)], "")
    kept = [v for v in table(0)["ties"].to_pylist() if -0.05 <= v <= 0.15 or v == 1.0]
    assert values.tolist() == sorted(set(kept))
    assert counts.sum() == len(kept)
    assert (
        gatherer.values("ties", [(1.0, 1.0)], "x")[1].sum()
        < gatherer.values("ties", [(1.0, 1.0)], "")[1].sum()
    )
    side.close()


def test_postgres_types_are_named_or_refused(server: Postgres) -> None:
    query = """SELECT n::float8 AS x, ARRAY[n] AS list, '{}'::jsonb AS doc, 'a'::bytea AS raw, 'b'::bpchar AS letter,
        make_interval(secs => n) AS took, '12:00'::time AS clock, point(1, n) AS place, CURRENT_DATE AS day,
        gen_random_uuid() AS id, 'ok'::mood AS mood FROM generate_series(1, 300) AS n"""
    connection = server.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TYPE mood AS ENUM ('ok', 'bad')")
    connection.close()
    side = Query(query, hook=Hook(server))
    said = {item.column: item.verdict for item in compare(side, side).columns}
    assert [name for name, verdict in said.items() if verdict == "unsupported"] == [
        "list",
        "doc",
        "raw",
        "place",
    ]
    assert {said[name] for name in ("x", "letter", "took", "clock", "day", "mood")} == {"no drift"}


def test_what_fails_in_the_warehouse_is_one_clear_error(server: Postgres) -> None:
    left = Frame(table(0))
    with pytest.raises(InvalidInput, match=r"nope failed on postgres \(UndefinedTable 42P01: relation"):
        compare(left, TableRef("nope", hook=Hook(server)))
    with pytest.raises(InvalidInput, match="SyntaxError"):
        compare(left, Query("SELEC 1", hook=Hook(server)))
    # What the server says of a value stays there.
    secret = Query("SELECT ('secret-' || normal)::float8 AS normal FROM reference", hook=Hook(server))
    found = next(item for item in compare(left, secret).columns if item.column == "normal")
    assert "InvalidTextRepresentation 22P02" in found.detail, found
    assert found.verdict == "undecided"
    assert "secret" not in str(found)

    class Stranger(Hook):
        def get_conn(self) -> Any:
            return psycopg2.connect(host=str(server.folder / "socket"), user="stranger", dbname="postgres")

    with pytest.raises(AccessDenied, match="may not be read"):
        compare(left, TableRef("reference", hook=Stranger(server)))
    with pytest.raises(InvalidInput, match="runs no SQL"):
        compare(left, TableRef("reference", hook=object()))

    class Exotic(Hook):
        conn_type = "exotic"

    with pytest.raises(InvalidInput, match="type 'exotic' is unknown"):
        compare(left, TableRef("reference", hook=Exotic(server)))


def test_a_query_that_takes_too_long_is_cancelled(server: Postgres) -> None:
    slow = Query(
        "SELECT n::float8 AS normal FROM generate_series(1, 2) AS n, pg_sleep(30)", hook=Hook(server)
    )
    started = time.monotonic()
    with pytest.raises(Unreachable, match="longer than 1 seconds") as caught:
        compare(Frame(table(0)), slow, engine=Engine(timeout=1))
    assert time.monotonic() - started < 20
    assert not caught.value.retryable


def test_a_query_can_be_cancelled_from_another_thread(server: Postgres) -> None:
    slow = Query(
        "SELECT n::float8 AS normal FROM generate_series(1, 2) AS n, pg_sleep(60)", hook=Hook(server)
    )
    stop = Cancellation()
    timer = threading.Timer(1.0, stop.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        compare(Frame(table(0)), slow, cancellation=stop)
    timer.join()
    connection = server.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active'"
            " AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone() == (0,)
    connection.close()


def test_a_connection_that_breaks_is_opened_again(server: Postgres) -> None:
    class Fragile(Hook):
        """The server ends the first connection as soon as it is used."""

        def get_conn(self) -> Any:
            connection = super().get_conn()
            if self.connections == 1:
                other = server.connect()
                with other, other.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
                other.close()
            return connection

    hook = Fragile(server)
    assert profile(TableRef("reference", hook=hook), columns={"normal": ""}).rows == {"": ROWS}
    assert hook.connections == 2


def test_a_server_that_is_gone_is_unreachable_after_a_few_attempts(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("airflow_pipeops.drift.engines.warehouse.FIRST_PAUSE", 0.01)

    class Gone(Hook):
        def get_conn(self) -> Any:
            self.connections += 1
            return psycopg2.connect(host=str(tmp_path), user="tester", dbname="postgres")

    hook = Gone(None)  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="did not answer"):
        profile(TableRef("reference", hook=hook))
    assert hook.connections == 3


def test_through_an_airflow_connection(server: Postgres, monkeypatch, embedded: Profile) -> None:
    """The whole way: connection, provider's hook, driver."""
    socket = str(server.folder / "socket").replace("/", "%2F")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", f"postgres://tester@{socket}/postgres")
    found = profile(TableRef("reference", conn_id="lake"), columns={"normal": "", "text": ""})
    assert found.source == {"kind": "tableref", "name": "reference", "engine": "postgres", "conn_id": "lake"}
    assert found.columns[""]["text"].counts == embedded.columns[""]["text"].counts


@pytest.mark.timeout(900)
def test_what_spark_cannot_read_is_one_clear_error(spark: Any, tmp_path: Path) -> None:
    engine = Engine(spark=spark)
    with pytest.raises(NotFound, match=r"there is no nope\.parquet"):
        profile(Files(str(tmp_path / "nope.parquet")), engine=engine)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InvalidInput, match=r"Spark could not read bad\.parquet"):
        profile(Files(str(tmp_path / "bad.parquet")), engine=engine)
    with pytest.raises(NotFound, match="there is no absent"):
        profile(TableRef("absent"), engine=engine)
    found = profile(Query("SELECT id * 1.5D AS x, array(id) AS list FROM range(500)"), engine=engine)
    assert found.kinds == {"x": "numerical"}


def test_spark_reads_csv_as_everything_else_does(spark: Any, tmp_path: Path) -> None:
    """The table of hard columns that the other readers are held to, and the same refusals."""
    (tmp_path / "hard.csv").write_text(HARD)
    with Database() as database:
        side = opened(Files(str(tmp_path / "hard.csv")), "reference", duck=database, spark=spark)
        assert side.engine.startswith("spark ")
        assert {one.name: one.family for one in side.schema()} == {n: kind for n, (_, kind) in TOLD.items()}
        found = side.frame(f"SELECT * FROM {side.relation}")
        side.close()
    assert list(found["zip"]) == ["01234", "00001"]
    assert list(found["na"]) == ["NA", "null"]
    assert found["empty"].isna().all()
    rows = "".join(f"{n:05};{n % 7},5;\n" for n in range(500))
    (tmp_path / "shops.csv").write_text("zip;price;gone\n" + rows)
    engine = Engine(spark=spark)
    shops = Files(str(tmp_path / "shops.csv"), csv={"decimal": ","})
    assert profile(shops, engine=engine).data_digest == profile(shops).data_digest
    assert {item.verdict for item in compare(shops, shops, engine=engine).columns} == {"no drift"}
    for content, said in (
        ("a,A\n1,2\n", "differ in case only"),
        ("a;b\n1,5;x\n", "holds values such as 1,5"),
        ("a,b;c\n1,2\n", "its delimiter cannot be told"),
        ("a,b\n1\n", "Spark could not read"),
        ("sep=;\na;b\n1;2\n", "begins with a line sep="),
        ("", "begins without a header"),
    ):
        (tmp_path / "odd.csv").write_text(content)
        with pytest.raises(InvalidInput, match=said):
            profile(Files(str(tmp_path / "odd.csv")), engine=engine)
    (tmp_path / "odd.csv").write_bytes("a,b\nö,2\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="is not in UTF-8"):
        profile(Files(str(tmp_path / "odd.csv")), engine=engine)
    found = profile(Files(str(tmp_path / "odd.csv"), csv={"encoding": "latin-1"}), engine=engine)
    assert found.columns[""]["a"].counts == {"ö": 1}


ODD = ["part[1]", "part1", "a*b", "axb", "q?", "qq", "{x,y}", "x", "back\\slash", "l]r"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_name_is_no_pattern_on_spark(kind: str, spark: Any, tmp_path: Path) -> None:
    """What is there by a name is that, as DuckDB reads it; only another one is a pattern."""

    def write(path: Path, number: int) -> None:
        rows = pa.table({"x": [number]})
        if kind == "parquet":
            pq.write_table(rows, path)
        else:
            path.write_text(f"x\n{number}\n", encoding="utf-8")

    def read(name: str) -> list[int]:
        source = Files(str(tmp_path / name), format=kind)
        found = [list(read_rows(source, "reference", spark=engine)["x"]) for engine in (spark, None)]
        assert found[0] == found[1], name
        return found[0]

    for number, name in enumerate(ODD):
        write(tmp_path / f"{name}.{kind}", number)
    (tmp_path / "day[1]").mkdir()
    write(tmp_path / "day[1]" / f"a.{kind}", 77)
    (tmp_path / "day1").mkdir()
    write(tmp_path / "day1" / f"a.{kind}", 78)
    for number, name in enumerate(ODD):
        assert read(f"{name}.{kind}") == [number]
    assert read("day[1]") == [77]
    assert sorted(read(f"part[12].{kind}")) == [1]
    assert sorted(read(f"q*.{kind}")) == [4, 5]
    with pytest.raises(NotFound):
        read(f"{{x,part1}}.{kind}")
    every = Files([str(tmp_path / f"{name}.{kind}") for name in ODD], format=kind)
    assert sorted(read_rows(every, "reference", spark=spark)["x"]) == list(range(len(ODD)))


def test_columns_that_differ_in_case_only_are_refused_on_spark(spark: Any, tmp_path: Path) -> None:
    engine = Engine(spark=spark)
    pq.write_table(pa.table({"x": [1], "X": [2]}), tmp_path / "a.parquet")
    for source in (Files(str(tmp_path / "a.parquet")), Frame(spark.createDataFrame([(1, 2)], ["x", "X"]))):
        with pytest.raises(InvalidInput, match=r"two columns .*differ in case only"):
            profile(source, engine=engine)


@pytest.mark.timeout(900)
def test_a_column_that_a_system_cannot_compute_costs_its_own_verdict(
    server: Postgres, spark: Any, tmp_path: Path
) -> None:
    """Rows of a view that fail when one column is looked at."""
    sql = "SELECT id AS x, CAST(CASE WHEN id = 7 THEN 'no number' ELSE '1' END AS INT) AS y FROM {}"
    sources = {
        "spark": (Query(sql.format("range(500)")), Engine(spark=spark)),
        "postgres": (Query(sql.format("generate_series(0, 499) AS id"), hook=Hook(server)), Engine()),
    }
    for name, (source, engine) in sources.items():
        found = {item.column: item for item in compare(source, source, engine=engine).columns}
        assert (found["x"].verdict, found["y"].verdict) == ("no drift", "undecided"), name
        assert set(profile(source, engine=engine).unmeasured) == {"y"}
    pq.write_table(pa.table({"a": list(range(100_000)), "b": range(100_000)}), tmp_path / "damaged.parquet")
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    content[2000:4000] = bytes(2000)
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"could not read damaged\.parquet"):
        profile(Files(str(tmp_path / "damaged.parquet")), engine=Engine(spark=spark))


def drawn(source: Any, **how: Any) -> list[float]:
    return list(read_rows(source, "reference", columns=["normal"], sample=500, **how)["normal"])


def test_a_sample_is_drawn_by_the_engine_and_the_same_for_the_same_seed(
    server: Postgres, spark: Any, files: tuple[str, str]
) -> None:
    frame = spark.read.parquet(files[0]).select("normal")
    frame.createOrReplaceTempView("lake")
    every = sorted(table(0)["normal"].to_pylist())
    for source, how in (
        (TableRef("reference", hook=Hook(server)), {}),
        (Query("SELECT * FROM reference", hook=Hook(server)), {}),
        (Frame(frame), {}),
        (TableRef("lake"), {"spark": spark}),
        (Files(files[0]), {"spark": spark}),
        (Files(files[0]), {}),
        (Frame(table(0)), {}),
    ):
        once, again, other = drawn(source, **how), drawn(source, **how), drawn(source, seed=1, **how)
        assert once == again, source.name
        assert len(once) == len(other) == 500
        assert 0 < len(set(once) & set(other)) < 250
        # From all over, and not the rows that come first: a tenth of them below the tenth part of all.
        low = sum(value <= every[len(every) // 10] for value in once)
        assert 25 < low < 80, (source.name, low)
        assert set(once) <= set(every)


def test_a_sample_of_few_rows_is_all_of_them(server: Postgres) -> None:
    few = Query("SELECT * FROM reference LIMIT 400", hook=Hook(server))
    assert len(drawn(few)) == 400


def test_operators_read_sparks_own_tables(
    spark: Any, context: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    for name, seed, shift in (("before", 0, 0.0), ("after", 1, 1.0)):
        frame = spark.createDataFrame(table(seed, shift).select(["normal", "text"]))
        frame.createOrReplaceTempView(f"pipeops_{name}")
    how = {"engine": "spark", "columns": ["normal", "text"]}
    given = {"reference": {"table": "pipeops_before"}, "current": {"query": "SELECT * FROM pipeops_after"}}
    found = DataDriftOperator(task_id="drift", **given, **how).execute(context)
    assert found["columns"][0]["verdict"] == "drift"
    assert "drifted" in ObjectStoragePath(found["report"]).read_text()
    saved = DriftProfileOperator(task_id="profile", source=given["reference"], **how).execute(context)
    assert saved["rows"] == ROWS
    given["reference"] = {"profile": saved["profile"]}
    again = DataDriftOperator(task_id="again", **given, **how).execute(context)
    assert again["columns"] == found["columns"]
