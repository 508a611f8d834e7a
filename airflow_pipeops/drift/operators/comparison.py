"""Compare a batch of data, or the predictions of a model, with a reference; and what all operators that measure share."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_pipeops.base.arguments import mapping, one_of, one_or_more
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.drift.settings import ROBUST, AskedKind, Mode, Settings
from airflow_pipeops.exceptions import DriftFound, InvalidInput, MissingExtra
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Evidence
    from airflow_pipeops.drift.comparison import Comparison, Engine
    from airflow_pipeops.drift.engines.sessions import Cancellation
    from airflow_pipeops.drift.operators.inputs import Given
    from airflow_pipeops.drift.sources import Source


class MeasuringOperator(DeliveryOperator):
    """Base of the operators that boil data down.

    :param engine: ``duckdb``, or ``spark`` for files and Spark's own tables. What is behind a connection is measured there.
    :param memory_limit: of the embedded DuckDB, for example ``1GB``.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    def __init__(
        self,
        *,
        engine: Literal["duckdb", "spark"] = "duckdb",
        memory_limit: str | None = None,
        storage_conn_id: str | None = None,
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.engine = one_of("engine", engine, ("duckdb", "spark"))
        self.memory_limit = memory_limit
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)
        self._cancellation: Cancellation | None = None

    def options(self) -> Engine:
        """Return how the data are read.

        :raises MissingExtra: without pyspark, where Spark is asked for.
        """
        from airflow_pipeops.drift.comparison import Engine

        limit: dict[str, Any] = {"memory_limit": self.memory_limit} if self.memory_limit else {}
        if self.engine == "duckdb":
            return Engine(**limit)
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("pyspark", "spark") from error
        return Engine(spark=SparkSession.builder.appName("airflow-pipeops").getOrCreate(), **limit)

    def watched(self) -> dict[str, Any]:
        """Return how a measurement tells of its progress, and how a kill of the task ends its running query."""
        from airflow_pipeops.drift.engines.sessions import Cancellation

        self._cancellation = Cancellation()
        return {"progress": self._progress, "cancellation": self._cancellation}

    def on_kill(self) -> None:
        """End the running query."""
        if self._cancellation is not None:
            self._cancellation.cancel()

    def _progress(self, done: int, total: int, column: str) -> None:
        if done % 25 == 0 or done == total:
            self.log.info("Measured %d of %d columns", done, total)


#: So many columns are named in a record, the drifted ones first; all of them are in the evidence.
_NAMED = 40
#: So many are in the task's result.
_RETURNED = 200
#: So many are plotted, the drifted ones first: a page of more takes minutes to make and to open.
_PLOTTED = 40
_ON_DRIFT = ("record", "fail", "branch")
_BY_COLUMN = "Give {column: value}."


class ComparisonOperator(MeasuringOperator):
    """Compare a side with its reference, column by column, wherever the data are.

    Returns ``{verdict, drifted, share, reasons, columns, columns_total, segments, targets, predictions, rows, batch,
    reference, record_id, report}``. A column that went missing, changed its type or is all null is a finding with its own
    verdict. The whole result is kept as evidence, and so is an HTML report of Evidently from a sample. More parameters are
    those of :class:`~airflow_pipeops.drift.operators.comparison.MeasuringOperator`.

    :param reference: what the model learned from: a URI, a list, an asset, ``{"table": ..., "conn_id": ...}``,
        ``{"query": ..., "conn_id": ...}``, or ``{"profile": uri}`` of a saved profile.
    :param current: the side to judge.
    :param columns: names; or name -> ``numerical`` | ``categorical``; or ``"module:name"`` of either; by default all.
    :param mode: ``robust``; or ``evidently-compatible``, with Evidently's numbers, tests and thresholds.
    :param method: statistic of all columns; by default the mode's choice.
    :param threshold: of all columns; by default the method's.
    :param methods: by column.
    :param thresholds: by column.
    :param weights: by column, one by default.
    :param critical: columns whose drift alone is drift of the whole.
    :param targets: label columns, reported apart.
    :param predictions: columns that a model wrote, reported apart.
    :param drift_share: from this share of drifted columns on, by weight, the whole has drifted.
    :param false_alarms: chance of any alarm while nothing drifts.
    :param min_rows: with fewer rows a column is ``undecided``, and so is the whole, should that matter.
    :param segment_by: compare each value of this column for itself, too.
    :param on_drift: ``record`` it and go on; ``fail`` the task, without retry, where it is undecided, too; or ``branch``:
        go on with ``if_drift`` or ``if_no_drift``, and skip what else follows directly.
    :param if_drift: ids of tasks that follow where it drifted; where it is undecided, too.
    :param if_no_drift: ids of tasks that follow where it did not.
    :param report: make the HTML report.
    :raises InvalidInput: for an empty side, a damaged file, or an unknown column; nothing is recorded then.
    :raises DriftFound: if it drifted or nobody can tell, and ``on_drift`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "reference",
        "current",
        "columns",
        *MeasuringOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("drift",)
    operator_extra_links = (ReportLink(),)
    ui_color = "#e9f7ef"
    #: What the record says it is about.
    subject = "data"

    def __init__(
        self,
        *,
        reference: Given,
        current: Given,
        columns: str | Sequence[str] | Mapping[str, str] | None = None,
        mode: Mode = ROBUST,
        method: str | None = None,
        threshold: float | None = None,
        methods: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        critical: Collection[str] = (),
        targets: Collection[str] = (),
        predictions: Collection[str] = (),
        drift_share: float = 0.5,
        false_alarms: float = 0.01,
        min_rows: int = 100,
        segment_by: str | None = None,
        on_drift: Literal["record", "fail", "branch"] = "record",
        if_drift: Sequence[str] = (),
        if_no_drift: Sequence[str] = (),
        report: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of("on_drift", on_drift, _ON_DRIFT)
        self.if_drift = list(one_or_more("if_drift", if_drift, str))
        self.if_no_drift = list(one_or_more("if_no_drift", if_no_drift, str))
        if (on_drift == "branch") != bool(self.if_drift or self.if_no_drift):
            raise InvalidInput(
                f"on_drift is {on_drift!r}, and if_drift and if_no_drift name "
                f"{len(self.if_drift) + len(self.if_no_drift)} tasks",
                field="on_drift",
                value=on_drift,
                remedy="To branch, set on_drift='branch' and name the tasks of at least one side.",
            )
        self.reference = reference
        self.current = current
        self.columns = columns
        #: Checked here, when the DAG is parsed.
        self.settings = Settings(
            mode=mode,
            method=method,
            threshold=threshold,
            methods=dict(mapping("methods", methods or {}, _BY_COLUMN)),
            thresholds=dict(mapping("thresholds", thresholds or {}, _BY_COLUMN)),
            weights=dict(mapping("weights", weights or {}, _BY_COLUMN)),
            critical=one_or_more("critical", critical, str),
            targets=one_or_more("targets", targets, str),
            predictions=one_or_more("predictions", predictions, str),
            drift_share=drift_share,
            false_alarms=false_alarms,
            min_rows=min_rows,
        )
        self.segment_by = segment_by
        self.on_drift = on_drift
        self.report = report

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, keep the evidence, record; then fail or branch, if that is asked for."""
        with no_retry():
            from airflow_pipeops.drift.columns import wanted

            asked = wanted(self.columns)
            reference, current = self.sides()
            found = self.compare(reference, current, asked)
            evidence = self.evidence(context, found)
            summary = _summary(found)
            self.log.info("%s; report: %s", summary, self.report_url or "none")
            if found.dataset.verdict != "no drift" and self.on_drift == "fail":
                remedy = f"See {self.report_url or evidence[0].uri}."
                raise DriftFound(summary, remedy=remedy)
            record = self.emit(context, "drift", self.facts(found), evidence=evidence)
            result = {**self.result(found), "record_id": record, "report": _html(evidence)}
        if self.on_drift == "branch":
            self._branch(context, found, result)
        return result

    def sides(self) -> tuple[Source, Source]:
        """Return where the two sides come from."""
        from airflow_pipeops.drift.operators.inputs import source_of

        return (
            source_of(self.reference, "reference", self.storage_conn_id, self.csv),
            source_of(self.current, "current", self.storage_conn_id, self.csv),
        )

    def compare(
        self, reference: Source, current: Source, columns: Mapping[str, AskedKind] | None
    ) -> Comparison:
        """Compare the two sides, and draw what the page plots; a kill of the task ends the running query."""
        from airflow_pipeops.drift import engine

        sampled = _PLOTTED if self.report else 0
        return engine.compare(
            reference,
            current,
            columns=columns,
            settings=self.settings,
            segment_by=self.segment_by,
            sampled=sampled,
            engine=self.options(),
            **self.watched(),
        )

    def evidence(self, context: Context, found: Comparison) -> list[Evidence]:
        """Keep the whole result, and Evidently's report."""
        text = json.dumps(found.to_json(), indent=1, sort_keys=True, allow_nan=False)
        kept = [self.keep(context, text, "drift.json", "application/json")]
        if self.report and (page := self.page(found)):
            kept.insert(0, self.keep(context, page, "drift.html", "text/html"))
        return kept

    def page(self, found: Comparison) -> str:
        """Return Evidently's report of the rows that were drawn; empty without any, as where the reference is a profile."""
        from airflow_pipeops.drift.evidently_report import page

        if found.sample is None:
            self.log.info("No HTML report: no rows of both sides can be plotted")
            return ""
        return page(found.sample.reference, found.sample.current, _summary(found))

    def facts(self, found: Comparison) -> dict[str, Any]:
        """Return the body of the record: enough to repeat the verdict."""
        named = [
            {
                "column": item.column,
                "verdict": item.verdict,
                "score": _rounded(item.score),
                "threshold": item.threshold,
                "noise": _rounded(item.noise),
            }
            for item in found.telling[:_NAMED]
        ]
        return {
            "subject": self.subject,
            "verdict": found.dataset.verdict,
            "drifted": found.drifted,
            "share": _rounded(found.share),
            "drift_share": self.settings.drift_share,
            "mode": self.settings.mode,
            "columns": named,
            "columns_total": len(found.whole),
            "columns_drifted": sum(item.drifted for item in found.whole),
            "rows": {side: rows.get("", 0) for side, rows in found.rows.items()},
            "batch": found.current.get("name", ""),
            "reference": _identified(found.reference),
            "current": _identified(found.current),
        }

    def result(self, found: Comparison) -> Mapping[str, Any]:
        """Return what the next tasks need."""
        # Per dimension there is more in the evidence; a result travels through Airflow's database.
        columns = [
            {name: value for name, value in item.to_json().items() if name != "dimensions"}
            for item in found.telling[:_RETURNED]
        ]
        return {
            "verdict": found.dataset.verdict,
            "drifted": found.drifted,
            "share": found.share,
            "reasons": list(found.dataset.reasons),
            "columns": columns,
            "columns_total": len(found.whole),
            "segments": {name: verdict.verdict for name, verdict in list(found.segments.items())[:_RETURNED]},
            "targets": dict(found.dataset.targets),
            "predictions": dict(found.dataset.predictions),
            "rows": {side: rows.get("", 0) for side, rows in found.rows.items()},
            "batch": found.current.get("name", ""),
            "reference": _identified(found.reference),
        }

    def _branch(self, context: Context, found: Comparison, result: Mapping[str, Any]) -> None:
        """Skip what follows directly and is not on the side that was taken."""
        from airflow.providers.standard.utils.skipmixin import SkipMixin

        ti: Any = context["ti"]
        # The skip leaves this method by an exception, so what a return would do is done before it.
        result = cleaned(dict(result))
        ti.xcom_push("return_value", result)
        for name, value in result.items():
            ti.xcom_push(name, value)
        self.post_execute(context, result)
        following = self.if_no_drift if found.dataset.verdict == "no drift" else self.if_drift
        skipping: Any = SkipMixin
        skipping().skip_all_except(ti, following)


def _summary(found: Comparison) -> str:
    names = [item.column for item in found.whole if item.drifted]
    listed = f": {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}" if names else ""
    said = {"drift": "drifted", "no drift": "did not drift"}.get(found.dataset.verdict, "is undecided")
    batch = found.current.get("name") or "the current data"
    return (
        f"batch {batch} {said}: {len(names)} of {len(found.whole)} columns ({found.share:.0%}){listed}"
        f" ({'; '.join(found.dataset.reasons)})"
    )


def _identified(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells one side from others, without the lists that may be long."""
    kept = ("kind", "name", "digest", "data_digest", "sha256", "listing", "engine", "model_version")
    return {name: identity[name] for name in kept if identity.get(name)}


def _html(evidence: Sequence[Evidence]) -> str:
    return next((item.uri for item in evidence if item.media_type == "text/html"), "")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 9)


class DataDriftOperator(ComparisonOperator):
    """Compare a batch of data with its reference. Arguments and result are those of :class:`ComparisonOperator`."""


class PredictionDriftOperator(ComparisonOperator):
    """Compare the predictions of a model, and nothing else: the earliest sign that needs no labels.

    One drifted prediction column is drift. The other arguments and the result are those of :class:`ComparisonOperator`.

    :param predictions: the columns that the model wrote: a score, a class, or several.
    """

    subject = "predictions"

    def __init__(self, *, predictions: str | Sequence[str], **kwargs: Any) -> None:
        names = list(one_or_more("predictions", predictions, str))
        super().__init__(columns=names, critical=names, **kwargs)
