"""Champion against challenger, and the champion against new data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import function
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.models.operators.arguments import UI_COLOR, champion_of, data_uris, registry_of, trained

if TYPE_CHECKING:
    from airflow.sdk import Context


class EvaluateModelOperator(DeliveryOperator):
    """Compare a challenger with the champion on the challenger's held-out data, and emit the evaluation.

    The verdict is a result and not a failure. A gain that cannot be told from chance, as where a label has a handful of
    rows, is no reason to promote; the label's column is the ``target`` that the challenger was trained with. Returns
    ``{promote, reason, metric, challenger, challenger_interval, champion, gain, interval, rows, challenger_sha256,
    champion_version, champion_sha256, record_id}``; ``challenger`` and ``champion`` are the metric's values.

    :param model: name of the model.
    :param challenger: what :class:`TrainModelOperator` returned; templated.
    :param scorer: ``scorer(model, frame) -> float``, by import path.
    :param holdout: URI of the held-out data, if not the challenger's own; templated.
    :param alias: of the champion in the registry.
    :param minimum_gain: smallest gain that is worth a release.
    :param floor: what a model must reach whatever the champion does: the worse end of the 95 % interval of its metric, so
        that no floor is reached by chance. Without a floor that interval (``challenger_interval``) is not looked for.
    :param cluster: column of the held-out data whose equal values mark rows that move together, such as the day; times count
        by their day. Intervals then come from whole days drawn anew, and are wider. Without it rows count as independent.
    :param metric: name of what the scorer measures.
    :param higher_is_better: ``False`` for an error or a loss.
    :param trusted: types that a stored model may hold beyond scikit-learn's own.
    :param mlflow_conn_id: the registry.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = ("model", "challenger", "holdout", *DeliveryOperator.template_fields)
    emits = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        challenger: Any,
        scorer: str,
        holdout: str | None = None,
        alias: str = "champion",
        minimum_gain: float = 0.0,
        floor: float | None = None,
        cluster: str | None = None,
        metric: str = "auc",
        higher_is_better: bool = True,
        trusted: Sequence[str] = (),
        mlflow_conn_id: str = "mlflow_default",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.challenger = challenger
        self.scorer = scorer
        self.holdout = holdout
        self.alias = alias
        self.minimum_gain = minimum_gain
        self.floor = floor
        self.cluster = cluster
        self.metric = metric
        self.higher_is_better = higher_is_better
        self.trusted = trusted
        self.mlflow_conn_id = mlflow_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Score both, judge, record."""
        with no_retry():
            body = self._evaluate()
            record_id = self.emit(context, "evaluation", body)
        self.log.info(body["reason"])
        return {**body, "record_id": record_id}

    def _evaluate(self) -> dict[str, Any]:
        from airflow_pipeops.models import artifact, champion, evaluation, storage

        given = trained(self.challenger)
        scorer = function(self.scorer, "scorer")
        current = registry_of(self.mlflow_conn_id).by_alias(self.model, self.alias)
        new = artifact.load(given["artifact_uri"], given["sha256"], trusted=self.trusted)
        old = (
            artifact.load(current.artifact_uri, current.sha256, trusted=self.trusted).model
            if current
            else None
        )
        frame, data_digest = storage.read_tables([self.holdout or given["holdout_uri"]], self.csv)
        measured = evaluation.compare(
            new.model,
            old,
            frame,
            scorer,
            target=new.manifest.target,
            cluster=self.cluster,
            level=self.floor is not None,
            higher_is_better=self.higher_is_better,
        )
        verdict = champion.judge(
            measured.challenger,
            measured.champion,
            minimum_gain=self.minimum_gain,
            floor=self.floor,
            interval=measured.interval,
            level=measured.level,
            doubt=measured.doubt,
            higher_is_better=self.higher_is_better,
        )
        return {
            "promote": verdict.promote,
            "reason": verdict.reason,
            "metric": self.metric,
            "challenger": measured.challenger,
            "challenger_interval": list(measured.level) if measured.level else None,
            "champion": measured.champion,
            "gain": verdict.gain,
            "interval": list(verdict.interval) if verdict.interval else None,
            "rows": measured.rows,
            "data_digest": data_digest,
            "challenger_sha256": given["sha256"],
            "champion_version": current.version if current else None,
            "champion_sha256": current.sha256 if current else None,
        }


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
