"""Measure a model on the labels that have come in, or estimate it where they have not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_pipeops.base.arguments import one_of, one_or_more
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.base.documents import number, whole
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput, PerformanceDropped
from airflow_pipeops.models.operators.arguments import figure
from airflow_pipeops.models.performance import METRICS, Performance, measure, rarest

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.drift.operators.inputs import Given
    from airflow_pipeops.models.performance.labelled import Labelled

#: What happens if the metric is worse than its reference.
OnWorse = Literal["record", "fail"]
#: What a gate does where nobody can tell.
OnUnknown = Literal["fail", "accept"]


class ModelPerformanceOperator(DeliveryOperator):
    """Join the labels that came late to the predictions, and measure a metric with its confidence interval.

    Returns ``{metric, value, low, high, rows, reference, worse, estimated, verdict, counts, batch, record_id}``, which
    :class:`~airflow_pipeops.governor.operators.RetrainGovernorOperator` takes as ``performance=``. ``verdict`` is
    ``steady``, ``worse`` (the whole interval is on the wrong side of the reference), ``no reference``, or ``too few
    labels``; then, with ``estimate_from``, the metric is estimated without labels (``estimated``), by NannyML.

    :param predictions: files, table or query; as for the other operators of this package.
    :param labels: the same; by default the predictions hold their labels.
    :param key: column or columns that join the two.
    :param prediction_column: name of the score, class or number.
    :param label_column: name of the label.
    :param positive: the label that counts as positive; by default labels are 0 and 1, or numbers. Not for metrics of more
        classes.
    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param reference: what the metric should be: a number, or the ``value`` of an earlier result; templated.
    :param threshold: from this score on, a row counts as positive.
    :param confidence: of the interval.
    :param min_rows: labelled rows needed.
    :param min_class_rows: labelled rows that the rarest class needs, for a metric that rests on each class: all but
        ``accuracy``, ``log_loss``, ``brier_score``, ``multiclass_accuracy``, ``f1_weighted`` and those of numbers. On a day
        without a positive label there are ``too few labels``.
    :param min_coverage: share of the predictions that must have a label.
    :param estimate_from: labelled predictions of a time when all was well, to estimate from while labels are too few.
    :param features: columns that the errors of a regressor depend on, for an estimate.
    :param on_worse: ``record`` it and go on, or ``fail`` the task, without retry, also where nobody can tell: with too few
        labels and without an estimate, or without a reference.
    :param on_unknown: ``accept`` lets the gate that ``on_worse="fail"`` makes open where nobody can tell.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    :raises InvalidInput: for an unknown column or metric, or keys that do not name one row.
    :raises PerformanceDropped: if it is worse, or nobody can tell, and ``on_worse`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "predictions",
        "labels",
        "reference",
        "estimate_from",
        *DeliveryOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)

    def __init__(
        self,
        *,
        predictions: Given,
        labels: Given | None = None,
        key: str | Sequence[str] = (),
        prediction_column: str = "prediction",
        label_column: str = "label",
        positive: Any = None,
        metric: str = "roc_auc",
        reference: Any = None,
        threshold: float = 0.5,
        confidence: float = 0.95,
        min_rows: int = 100,
        min_class_rows: int = 10,
        min_coverage: float = 0.0,
        estimate_from: Given | None = None,
        features: Sequence[str] = (),
        on_worse: OnWorse = "record",
        on_unknown: OnUnknown = "fail",
        storage_conn_id: str | None = None,
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keys = list(one_or_more("key", key, str))
        self.metric = one_of("metric", metric, tuple(METRICS))
        self.on_worse: OnWorse = one_of("on_worse", on_worse, get_args(OnWorse))
        self.on_unknown: OnUnknown = one_of("on_unknown", on_unknown, get_args(OnUnknown))
        for field, value, sound, remedy in (
            (
                "positive",
                positive,
                positive is None or METRICS[metric].task == "binary",
                f"Leave it out: {metric} is no metric of two classes.",
            ),
            (
                "min_coverage",
                min_coverage,
                number(min_coverage) is not None and 0 <= min_coverage <= 1,
                "Use a share from 0 to 1.",
            ),
            ("min_rows", min_rows, (whole(min_rows) or 0) >= 1, "Use at least 1."),
            ("min_class_rows", min_class_rows, (whole(min_class_rows) or 0) >= 1, "Use at least 1."),
            ("key", key, labels is None or bool(keys), "Name the columns that join labels to predictions."),
        ):
            if not sound:
                raise InvalidInput(f"{field} is {value!r}", field=field, value=value, remedy=remedy)
        self.predictions = predictions
        self.labels = labels
        self.key = keys
        self.prediction_column = prediction_column
        self.label_column = label_column
        self.positive = positive
        self.reference = reference
        self.threshold = threshold
        self.confidence = confidence
        self.min_rows = min_rows
        self.min_class_rows = min_class_rows
        self.min_coverage = min_coverage
        self.estimate_from = estimate_from
        self.features = list(one_or_more("features", features, str))
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Join, measure or estimate, record, and fail if that is asked for."""
        with no_retry():
            reference = figure("reference", self.reference)
            batch, predictions = self._read(
                self.predictions, "predictions", [*self.key, self.prediction_column, *self.features]
            )
            joined = self._joined(predictions)
            rarer, found = self._measured(joined)
            if found is None and self.estimate_from is not None:
                found = self._estimated(predictions)
            worse = found is not None and reference is not None and found.worse_than(reference)
            known = "no reference" if reference is None else "worse" if worse else "steady"
            verdict = "too few labels" if found is None else known
            facts: dict[str, Any] = {
                **(found.to_json() if found else {"metric": self.metric, "value": None}),
                "reference": reference,
                "worse": worse,
                "verdict": verdict,
                "counts": {**joined.to_json(), "rarest_class": rarer},
                "batch": batch,
            }
            self.log.info("%s", _said(facts))
            if self.on_worse == "fail":
                self._demand(facts)
            record = self.emit(context, "evaluation", {"subject": "performance", **facts})
            return {**facts, "record_id": record}

    def _demand(self, facts: Mapping[str, Any]) -> None:
        """Fail unless the metric is known to be no worse than its reference.

        :raises PerformanceDropped: if it is worse, or nobody can tell.
        """
        if facts["worse"]:
            raise PerformanceDropped(_said(facts), remedy="Look at the batch, then retrain or roll back.")
        if facts["verdict"] != "steady" and self.on_unknown == "fail":
            raise PerformanceDropped(
                f"nobody can tell whether the model is worse ({facts['verdict']}): {_said(facts)}",
                remedy="Wait for more labels, or give a reference or estimate_from; on_unknown='accept' lets this pass.",
            )

    def _joined(self, predictions: pd.DataFrame) -> Labelled:
        from airflow_pipeops.models.performance.labelled import join

        labels = None
        if self.labels is not None:
            _, labels = self._read(self.labels, "labels", [*self.key, self.label_column])
        return join(
            predictions, labels, key=self.key, prediction=self.prediction_column, label=self.label_column
        )

    def _measured(self, joined: Labelled) -> tuple[int | None, Performance | None]:
        """Return the rows of the rarest class, and the metric; ``None`` for what the labels are too few for."""
        from airflow_pipeops.models.performance.labelled import positives

        if len(joined.labels) < self.min_rows or joined.coverage < self.min_coverage:
            return None, None
        several = METRICS[self.metric].task == "multiclass"
        labels = joined.labels if several else positives(joined.labels, self.positive)
        rows = rarest(self.metric, labels, joined.predictions, threshold=self.threshold)
        if rows < self.min_class_rows:
            return rows, None
        return rows, measure(
            self.metric, labels, joined.predictions, threshold=self.threshold, confidence=self.confidence
        )

    def _estimated(self, predictions: pd.DataFrame) -> Performance:
        from airflow_pipeops.models.performance.estimates import estimate
        from airflow_pipeops.models.performance.labelled import positives

        columns = [self.prediction_column, self.label_column, *self.features]
        _, before = self._read(self.estimate_from, "estimate_from", columns)
        before = before[before[self.label_column].notna()]
        before = before.assign(
            **{self.label_column: positives(before[self.label_column].to_numpy(), self.positive)}
        )
        return estimate(
            self.metric,
            _doubles(before),
            _doubles(predictions[predictions[self.prediction_column].notna()]),
            label=self.label_column,
            prediction=self.prediction_column,
            features=tuple(self.features),
            threshold=self.threshold,
            confidence=self.confidence,
        )

    def _read(self, given: Any, field: str, columns: Sequence[str]) -> tuple[str, pd.DataFrame]:
        from airflow_pipeops.drift.engines.rows import read_rows
        from airflow_pipeops.drift.operators.inputs import source_of

        source = source_of(given, field, self.storage_conn_id, self.csv)
        wanted = list(columns)
        if field == "predictions" and self.labels is None:
            wanted.append(self.label_column)
        return str(source.name), read_rows(source, field, columns=list(dict.fromkeys(wanted)))


def _doubles(frame: pd.DataFrame) -> pd.DataFrame:
    """Return nullable integers and decimals as doubles, which NannyML computes with."""
    from pandas.api.types import infer_dtype, is_extension_array_dtype, is_numeric_dtype

    odd = [
        name
        for name, column in frame.items()
        if infer_dtype(column, skipna=True) == "decimal"
        or (is_extension_array_dtype(column.dtype) and is_numeric_dtype(column.dtype))
    ]
    return frame.astype(dict.fromkeys(odd, "float64"))


def _said(facts: Mapping[str, Any]) -> str:
    counts = facts["counts"]
    labels = f"{counts['labelled']:,} of {counts['predicted']:,} predictions have a label"
    if facts["value"] is None and counts["rarest_class"] is not None:
        labels += f", and {counts['rarest_class']:,} are of the rarest class"
    if facts["value"] is None:
        return f"{facts['metric']} of {facts['batch']} is not known: {labels}"
    how = "is estimated at" if facts["estimated"] else "is"
    against = f", and {facts['reference']:.4f} is its reference" if facts["reference"] is not None else ""
    interval = f"{facts['low']:.4f} to {facts['high']:.4f}"
    return f"{facts['metric']} of {facts['batch']} {how} {facts['value']:.4f} ({interval}){against}; {labels}"
