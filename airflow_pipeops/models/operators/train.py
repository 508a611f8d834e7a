"""Features and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import function, share
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.models.operators.arguments import UI_COLOR, check_name, data_uris, storage_root

if TYPE_CHECKING:
    from airflow.sdk import Context

_SHARE = "Give a share between 0 and 1."


class BuildFeaturesOperator(DeliveryOperator):
    """Turn batches of data into one table of features, stored under its digest.

    Returns ``{uri, sha256, rows, columns, data_digest}``.

    :param data: URI of a Parquet or CSV file, or several, in time order; templated.
    :param transform: ``transform(frame) -> frame``, by import path.
    :param storage_conn_id: where built artifacts are kept.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = ("data", *DeliveryOperator.template_fields)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        data: str | Sequence[str],
        transform: str,
        storage_conn_id: str = "pipeops_artifacts",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data = data
        self.transform = transform
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, transform, store."""
        from airflow_pipeops.models import storage

        with no_retry():
            transform = function(self.transform, "transform")
            frame, data_digest = storage.read_tables(data_uris(self.data), self.csv)
            features = transform(frame)
            uri, digest = storage.put_table(features, storage_root(self.storage_conn_id), "features")
        return {
            "uri": uri,
            "sha256": digest,
            "rows": len(features),
            "columns": [str(column) for column in features.columns],
            "data_digest": data_digest,
        }


class TrainModelOperator(DeliveryOperator):
    """Train a model on the earlier rows and keep the later ones to judge it by.

    The same data, trainer and seed give the same artifact digest, so a repeated attempt changes nothing. Returns
    ``{name, artifact_uri, sha256, metrics, train_rows, holdout_rows, holdout_uri, reference_uri, data_digest, seconds}``,
    and ``record_id`` where it is recorded.

    :param trainer: ``trainer(frame, seed) -> fitted scikit-learn estimator``, by import path.
    :param data: URI of a Parquet or CSV file of features, or several, in time order; templated.
    :param name: of the model.
    :param scorer: ``scorer(model, frame) -> float``; with it, the model's metric on the holdout is stored.
    :param metric: name of what the scorer measures.
    :param holdout: share of the rows, the latest, that is kept apart.
    :param time_column: orders the rows, and rows of the same value stay together; by default the rows are in order.
    :param seed: given to the trainer.
    :param target: name of the predicted column, for the manifest.
    :param trusted: types that the stored model may hold beyond scikit-learn's own; see ``models.serialized``.
    :param storage_conn_id: where built artifacts are kept.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    """

    template_fields: Sequence[str] = ("data", "name", *DeliveryOperator.template_fields)
    emits = ("training",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        trainer: str,
        data: str | Sequence[str],
        name: str,
        scorer: str | None = None,
        metric: str = "auc",
        holdout: float = 0.2,
        time_column: str | None = None,
        seed: int = 0,
        target: str | None = None,
        trusted: Sequence[str] = (),
        storage_conn_id: str = "pipeops_artifacts",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        share("holdout", holdout, _SHARE)
        self.trainer = trainer
        self.data = data
        self.name = name
        self.scorer = scorer
        self.metric = metric
        self.holdout = holdout
        self.time_column = time_column
        self.seed = seed
        self.target = target
        self.trusted = trusted
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, split, fit, store."""
        with no_retry():
            made = train_model(
                trainer=self.trainer,
                data=self.data,
                name=self.name,
                scorer=self.scorer,
                metric=self.metric,
                holdout=self.holdout,
                time_column=self.time_column,
                seed=self.seed,
                target=self.target,
                trusted=self.trusted,
                storage_conn_id=self.storage_conn_id,
                csv=self.csv,
            )
            body = {**made, "trainer": self.trainer, "seed": self.seed}
            record_id = self.emit(context, "training", body)
            return {**made, "record_id": record_id} if record_id else made


def train_model(
    *,
    trainer: str,
    data: str | Sequence[str],
    name: str,
    scorer: str | None = None,
    metric: str = "auc",
    holdout: float = 0.2,
    time_column: str | None = None,
    seed: int = 0,
    target: str | None = None,
    trusted: Sequence[str] = (),
    storage_conn_id: str = "pipeops_artifacts",
    csv: Csv | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model, here or in a pod; the arguments are those of :class:`TrainModelOperator`.

    :return: what the operator returns.
    """
    from airflow_pipeops.models import storage, training

    check_name(name)
    share("holdout", holdout, _SHARE)
    fit, score = function(trainer, "trainer"), function(scorer, "scorer") if scorer else None
    frame, data_digest = storage.read_tables(data_uris(data), Csv.of(csv))
    return training.train(
        frame,
        storage_root(storage_conn_id),
        name=name,
        trainer=fit,
        scorer=score,
        metric=metric,
        holdout=holdout,
        time_column=time_column,
        seed=seed,
        target=target,
        data_digest=data_digest,
        trusted=trusted,
    )
