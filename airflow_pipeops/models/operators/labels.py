"""Labels that came for predictions that were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import one_or_more
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.models.operators.arguments import UI_COLOR, storage_root

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.drift.operators.inputs import Given
    from airflow_pipeops.models.labels.cohorts import Span

#: So many cohorts, the newest, are told in a record.
_TOLD = 30


class JoinLabelsOperator(DeliveryOperator):
    """Join the labels that have come to the predictions that were kept, and measure each cohort of predictions.

    Predictions have a key, a time, the digest of the model and a score; a key may have a row for each model, those of
    shadows beside that of the released one. Labels have the key, the time when they became known, and the label. They may
    come days later, twice, corrected (the newest counts) or withdrawn (null); labels without a prediction are counted, and
    join when it comes. Joining the same again gives the same file.

    Returns ``{uri, sha256, counts, lost, cohorts, metric, record_id}``: ``uri`` is the joined table, stored by its digest;
    ``cohorts`` are measured with their interval, or say why not: see ``docs/model-guard.md``; ``lost`` says of each model,
    by digest, why -> how many rows have no score, and is null for files of one's own.

    :param predictions: ``{"samples": <SAMPLE_URI>, "model": ...}``, what an endpoint was asked and its models answered;
        ``{"scores": <name>}``, what :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator` scored; either with
        a ``since`` where not all is wanted; or files, table or query, as for the other operators of this package.
    :param labels: files, table or query.
    :param key: column or columns that name one prediction, in both.
    :param at: column of the time when a prediction was made, and when a label became known.
    :param digest: column of the model's digest.
    :param score: column of the score, class or number.
    :param label: column of the label.
    :param metric: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param by: how long a cohort is: ``day``, ``week`` or ``month``.
    :param delay: after which the label of a prediction should be there; no cohort is measured before.
    :param min_coverage: share of the labels that must be there then; else they are missing.
    :param min_rows: labelled rows that a cohort needs.
    :param positive: the label that counts as positive; by default labels are 0 and 1.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param estimate: estimate the metric of cohorts that wait, without labels, from those that were measured; needs the extra
        ``nannyml``.
    :param artifacts_conn_id: where the joined table is stored.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`.
    :raises InvalidInput: for what cannot be joined; nothing is stored then.
    """

    template_fields: Sequence[str] = ("predictions", "labels", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        predictions: Given,
        labels: Given,
        key: str | Sequence[str] = "key",
        at: str = "at",
        digest: str = "sha256",
        score: str = "score",
        label: str = "label",
        metric: str = "roc_auc",
        by: Span = "month",
        delay: timedelta = timedelta(days=1),
        min_coverage: float = 0.8,
        min_rows: int = 100,
        positive: Any = None,
        threshold: float = 0.5,
        estimate: bool = False,
        artifacts_conn_id: str = "pipeops_artifacts",
        storage_conn_id: str | None = None,
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        from airflow_pipeops.models.labels.cohorts import Ask
        from airflow_pipeops.models.labels.joining import Columns

        self.predictions = predictions
        self.labels = labels
        self.columns = Columns(one_or_more("key", key, str), at, digest, score, label)
        self.ask = Ask(metric, by, delay, min_coverage, min_rows, positive, threshold, estimate)
        self.artifacts_conn_id = artifacts_conn_id
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Join, store, measure, record."""
        from airflow_pipeops.models import storage
        from airflow_pipeops.models.labels.cohorts import cohorts
        from airflow_pipeops.models.labels.joining import join

        with no_retry():
            predictions, lost = self._predicted()
            labels = self._read(self.labels, "labels", self.columns.labelled)
            joined = join(predictions, labels, self.columns)
            found = cohorts(joined.frame, self.ask, datetime.now(timezone.utc))
            uri, sha256 = storage.put_table(joined.frame, storage_root(self.artifacts_conn_id), "labelled")
            facts: dict[str, Any] = {
                "metric": self.ask.metric,
                "uri": uri,
                "sha256": sha256,
                "counts": joined.counts.to_json(),
                "lost": lost,
                "cohorts": [one.to_json() for one in found],
            }
            self.log.info("%s", facts["counts"])
            for one in found[-_TOLD:]:
                self.log.info(
                    "%s of %s: %s %s %s", one.name, one.sha256[:12], one.state, one.value, one.reason
                )
            reason = (
                f"{joined.counts.labelled:,} of {joined.counts.predictions:,} predictions have their labels"
            )
            told = {**facts, "subject": "cohorts", "cohorts": facts["cohorts"][-_TOLD:], "reason": reason}
            record = self.emit(context, "evaluation", told)
        return {**facts, "record_id": record}

    def _predicted(self) -> tuple[pd.DataFrame, dict[str, dict[str, int]] | None]:
        """Return the predictions, and what those that were kept say they lack."""
        from airflow_pipeops.models.labels.kept import is_kept, predictions_of

        if not is_kept(self.predictions):
            return self._read(self.predictions, "predictions", self.columns.predicted), None
        return predictions_of(
            self.predictions, self.columns, lambda name: storage_root(name or self.artifacts_conn_id)
        )

    def _read(self, given: Any, field: str, columns: Sequence[str]) -> pd.DataFrame:
        from airflow_pipeops.drift.engines.rows import read_rows
        from airflow_pipeops.drift.operators.inputs import source_of

        source = source_of(given, field, self.storage_conn_id, self.csv)
        return read_rows(source, field, columns=list(columns))
