"""A data-quality gate as a task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_pipeops.base.arguments import files, one_of
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import DataRejected, InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Evidence
    from airflow_pipeops.validation.batches import Batch
    from airflow_pipeops.validation.engine import Outcome
    from airflow_pipeops.validation.suite import Expectation

#: Number of findings named in a record; all of them are in the evidence.
_NAMED = 25

#: What becomes of a batch that is refused: the task fails, or it is recorded.
OnFailure = Literal["fail", "record"]
#: What Great Expectations computes with.
Engine = Literal["pandas", "spark"]


class ValidateDataOperator(DeliveryOperator):
    """Judge a batch of data by a Great Expectations suite.

    Returns ``{passed, batch, rows, digest, failures, errors, dataset_record_id, record_id, docs}``: counts and percentages
    only, never a value of the data. The whole result and its page of Data Docs (``docs``, without samples) are kept as
    evidence. A batch that is accepted becomes a ``dataset`` record; one that is not leaves a ``validation`` record alone.

    The batch is one of: files (``data``), read with pandas or by Spark; a table or a query of a database.

    :param data: URI of a Parquet or CSV file, or a list of such.
    :param table: table of ``sql_conn_id``, with or without its schema.
    :param query: SELECT on ``sql_conn_id``; trusted text, as all SQL in a DAG file.
    :param expectations: list of ``{"type", "kwargs", "severity"}``; a suite's JSON; the path of a ``.json`` file; or
        ``"module:name"`` of any of these or of a function. Only ``critical`` (the default) fails the gate.
    :param project: folder of a Great Expectations project, instead of ``expectations``; and
    :param suite: the suite's name in it.
    :param on_failure: ``fail`` the task, without retry; or ``record`` the result and go on.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param sql_conn_id: any connection whose hook gives a SQLAlchemy engine.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    :param engine: ``pandas`` or ``spark``, for ``data``.
    :param spark_config: settings of the Spark session.
    :raises InvalidInput: for an unknown expectation or wrong arguments, before data is read; for a damaged file.
    :raises DataRejected: if a critical expectation fails, or cannot be judged, and ``on_failure`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "data",
        "table",
        "query",
        "expectations",
        "project",
        "suite",
        *DeliveryOperator.template_fields,
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql", "expectations": "json"}
    emits: ClassVar[tuple[str, ...]] = ("batch", "dataset", "validation")
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        data: str | Sequence[str] = (),
        table: str = "",
        query: str = "",
        expectations: str
        | Sequence[Mapping[str, Any]]
        | Mapping[str, Any]
        | Callable[[], Iterable[Mapping[str, Any]]] = (),
        project: str = "",
        suite: str = "",
        on_failure: OnFailure = "fail",
        storage_conn_id: str | None = None,
        sql_conn_id: str | None = None,
        csv: Csv | Mapping[str, Any] | None = None,
        engine: Engine = "pandas",
        spark_config: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (table or query) and not sql_conn_id:
            raise InvalidInput(
                "a table or query needs its database", field="sql_conn_id", remedy="Give the connection's id."
            )
        if bool(project) != bool(suite):
            raise InvalidInput(
                "project and suite belong together", field="project", value=project, remedy="Give both."
            )
        self.data = data
        self.table = table
        self.query = query
        self.expectations = expectations
        self.project = project
        self.suite = suite
        self.on_failure: OnFailure = one_of("on_failure", on_failure, get_args(OnFailure))
        self.storage_conn_id = storage_conn_id
        self.sql_conn_id = sql_conn_id
        self.csv = Csv.of(csv)
        self.engine: Engine = one_of("engine", engine, get_args(Engine))
        self.spark_config = spark_config

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, record, and fail if the batch is refused."""
        with no_retry():
            from airflow_pipeops.validation.engine import judge
            from airflow_pipeops.validation.suite import build

            wanted = self.wanted()
            build(wanted)  # a wrong suite is told before the data is read
            batch, facts = self.batch()
            outcome = judge(batch, wanted)
            for finding in (*outcome.failures, *outcome.errors):
                item = finding.expectation
                self.log.warning("%s %s (%s): %s", finding.outcome, item.type, item.severity, finding.reason)
            evidence = self.evidence(context, facts, outcome)
            if not outcome.passed and self.on_failure == "fail":
                remedy = (
                    f"Correct the batch, or the expectations. Evidence: {self.report_url or evidence[0].uri}"
                )
                raise DataRejected(_summary(facts, outcome), remedy=remedy)
            return self.record(context, facts, outcome, evidence)

    def wanted(self) -> list[Expectation]:
        """Return the expectations of the suite."""
        from airflow_pipeops.validation.suite import expectations, project_suite

        if not self.project:
            return expectations(self.expectations)
        if self.expectations:
            raise InvalidInput(
                "both expectations and a project's suite are given",
                field="expectations",
                remedy="Give one of the two.",
            )
        return project_suite(self.project, self.suite)

    def batch(self) -> tuple[Batch, dict[str, Any]]:
        """Return the batch, and what identifies it."""
        from airflow_pipeops.validation.batches import FrameBatch, SparkBatch, SqlBatch

        given = [name for name in ("data", "table", "query") if getattr(self, name)]
        if len(given) > 1:
            raise InvalidInput(
                f"{' and '.join(given)} are given", field=given[1], remedy="Give exactly one of them."
            )
        if self.table or self.query:
            assert self.sql_conn_id is not None
            from airflow.sdk import BaseHook

            hook: Any = BaseHook.get_hook(self.sql_conn_id)
            batch = SqlBatch(hook.get_sqlalchemy_engine(), table=self.table, query=self.query)
            name = self.table or f"query {hashlib.sha256(self.query.encode()).hexdigest()[:12]}"
            facts = {"batch": name, "rows": batch.rows, "digest": None, "sql_conn_id": self.sql_conn_id}
            return batch, {**facts, "columns": len(batch.columns)}
        if self.engine == "spark":
            uris = files("data", self.data)
            spark = SparkBatch(uris, self.spark_config, self.csv)
            name = "+".join(uri.rstrip("/").rsplit("/", 1)[-1] for uri in uris)
            facts = {"batch": name, "rows": spark.rows, "digest": None, "files": uris[:_NAMED]}
            return spark, {**facts, "columns": len(spark.columns)}
        from airflow_pipeops.base.tables import read

        table = read(self.data, storage_conn_id=self.storage_conn_id, options=self.csv)
        facts = {"batch": table.name, "rows": table.rows, "digest": table.digest}
        frame = FrameBatch(table.frame)
        return frame, {**facts, "files": list(table.files)[:_NAMED], "columns": len(frame.columns)}

    def record(
        self, context: Context, facts: dict[str, Any], outcome: Outcome, evidence: Sequence[Evidence]
    ) -> dict[str, Any]:
        """Emit the records and return what the next task needs."""
        told = {name: facts[name] for name in ("batch", "rows", "digest")}
        failures = [finding.to_json() for finding in outcome.failures]
        errors = [finding.to_json() for finding in outcome.errors]
        arrived = self.emit(context, "batch", facts)
        batch = [arrived] if arrived else []
        dataset = self.emit(context, "dataset", facts, parents=batch) if outcome.passed else None
        body = {
            "subject": "data",
            **told,
            "passed": outcome.passed,
            "evaluated": len(outcome.findings),
            "failed": len(failures),
            "errors": len(errors),
            "findings": [*errors, *failures][:_NAMED],
            "library": _version(),
        }
        validation = self.emit(
            context, "validation", body, parents=[dataset] if dataset else batch, evidence=evidence
        )
        return {
            "passed": outcome.passed,
            **told,
            "failures": failures,
            "errors": errors,
            "dataset_record_id": dataset,
            "record_id": validation,
            "docs": next((item.uri for item in evidence if item.media_type == "text/html"), ""),
        }

    def evidence(self, context: Context, facts: Mapping[str, Any], outcome: Outcome) -> list[Evidence]:
        """Keep the whole result, and its page of Data Docs."""
        content = {
            **facts,
            "passed": outcome.passed,
            "findings": [finding.to_json() for finding in outcome.findings],
            "library": _version(),
        }
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        kept = [self.keep(context, text, "validation.json", "application/json")]
        if outcome.docs:
            kept.append(self.keep(context, outcome.docs, "data-docs.html", "text/html"))
        return kept


def _summary(facts: Mapping[str, Any], outcome: Outcome) -> str:
    critical = [
        f"{item.expectation.type}: {item.reason}"
        for item in (*outcome.failures, *outcome.errors)
        if item.expectation.severity == "critical"
    ]
    more = f" (and {len(critical) - 5} more)" if len(critical) > 5 else ""
    return f"batch {facts['batch']} of {facts['rows']:,} rows is refused: {'; '.join(critical[:5])}{more}"


def _version() -> str:
    from importlib.metadata import version

    return f"great-expectations {version('great-expectations')}"
