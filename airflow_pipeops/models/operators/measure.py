"""The champion against new data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import function
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.models.operators.arguments import UI_COLOR, champion_of, data_uris, registry_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class MeasureModelOperator(DeliveryOperator):
    """Measure the champion, or the version that is named, on labelled data that arrived after it was trained, and emit the
    evaluation.

    Returns ``{metric, value, reference, rows, version, sha256, record_id}``: ``reference`` is what that version
    reached on its own held-out data when it was trained.

    :param model: name of the model.
    :param data: URI of a labelled Parquet or CSV file, or several; templated.
    :param scorer: ``scorer(model, frame) -> float``, by import path.
    :param alias: of the champion in the registry.
    :param version: measure this version instead of the one that the alias names by then; templated.
    :param metric: name of what the scorer measures.
    :param trusted: types that a stored model may hold beyond scikit-learn's own.
    :param mlflow_conn_id: the registry.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = ("model", "data", "version", *DeliveryOperator.template_fields)
    emits = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        data: str | Sequence[str],
        scorer: str,
        alias: str = "champion",
        version: str = "",
        metric: str = "auc",
        trusted: Sequence[str] = (),
        mlflow_conn_id: str = "mlflow_default",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.data = data
        self.scorer = scorer
        self.alias = alias
        self.version = version
        self.metric = metric
        self.trusted = trusted
        self.mlflow_conn_id = mlflow_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the model, score, record."""
        from airflow_pipeops.models import artifact, evaluation, storage

        with no_retry():
            scorer = function(self.scorer, "scorer")
            registry = registry_of(self.mlflow_conn_id)
            current = (
                registry.version(self.model, self.version)
                if self.version
                else champion_of(registry, self.model, self.alias)
            )
            loaded = artifact.load(current.artifact_uri, current.sha256, trusted=self.trusted)
            frame, data_digest = storage.read_tables(data_uris(self.data), self.csv)
            value = evaluation.number(scorer(loaded.model, frame))
            reference = current.metrics.get(self.metric)
            if reference is None and current.holdout_uri:
                held_out, _ = storage.read_tables([current.holdout_uri])
                reference = evaluation.number(scorer(loaded.model, held_out))
            body = {
                "metric": self.metric,
                "value": value,
                "reference": reference,
                "rows": len(frame),
                "data_digest": data_digest,
                "version": current.version,
                "sha256": current.sha256,
                "reason": f"Version {current.version}: {self.metric} {value:.4f} on {len(frame)} new rows"
                + (f", {reference:.4f} on its held-out data." if reference is not None else "."),
            }
            record_id = self.emit(context, "evaluation", body)
        return {**body, "record_id": record_id}
