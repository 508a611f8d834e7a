"""The registry: versions and aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.operators import DeliveryOperator, idempotency_key, no_retry
from airflow_pipeops.delivery.records import parent_ids
from airflow_pipeops.models.operators.arguments import UI_COLOR, registry_of, trained

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.models.registry import Run


class RegisterModelOperator(DeliveryOperator):
    """Register a trained model once, and emit it. Returns ``{name, version, artifact_uri, sha256, ..., record_id}``.

    :param model: name of the model in the registry.
    :param challenger: what :class:`TrainModelOperator` returned; templated.
    :param commit: SHA of the commit that the training code came from, if known; templated.
    :param mlflow_conn_id: the registry.
    """

    template_fields: Sequence[str] = ("model", "challenger", "commit", *DeliveryOperator.template_fields)
    emits = ("model",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        challenger: Any,
        commit: str | None = None,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.challenger = challenger
        self.commit = commit
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Verify the artifact, register it, record it."""
        from airflow_pipeops.models import artifact
        from airflow_pipeops.models.registry import demand_free

        with no_retry():
            given = trained(self.challenger)
            artifact.verify(given["artifact_uri"], given["sha256"])
            registry = registry_of(self.mlflow_conn_id)
            version = registry.register(
                self.model,
                given["artifact_uri"],
                given["sha256"],
                key=idempotency_key(context),
                reference_uri=given.get("reference_uri"),
                holdout_uri=given.get("holdout_uri"),
                metrics=given.get("metrics"),
                training_uri=given.get("training_uri"),
                run=_run_of(given),
            )
            demand_free(version)
            body = {
                "name": version.name,
                "version": version.version,
                "artifact_uri": version.artifact_uri,
                "sha256": version.sha256,
                "reference_uri": version.reference_uri,
                "metrics": dict(version.metrics),
                "data_digest": given.get("data_digest"),
                "training_uri": given.get("training_uri"),
                "training_sha256": given.get("training_sha256"),
                "registry_url": registry.page(version.name, version.version),
            }
            training = parent_ids([given.get("record_id")])
            record_id = self.emit(context, "model", body, commit=self.commit or None, parents=training)
        return {**body, "record_id": record_id}


def _run_of(given: Mapping[str, Any]) -> Run | None:
    """Return what the registry shows of a training, if there is a file that says so."""
    from airflow_pipeops.models.registry import Run
    from airflow_pipeops.models.reproduction.manifest import read

    if not given.get("training_uri"):
        return None
    made = read(given["training_uri"], given["training_sha256"])
    told = {name: made.arguments.get(name) for name in ("trainer", "seed", "holdout", "time_column")}
    return Run(
        parameters={**told, **made.arguments.get("parameters", {})},
        metrics=made.result.get("metrics", {}),
        curves=made.result.get("curves", {}),
        tags={
            "sha256": given["sha256"],
            "behaviour": str(made.result.get("behaviour", "")),
            "training_uri": given["training_uri"],
            "data_digest": str(made.data.get("digest", "")),
            "features": str((made.feature_set or {}).get("digest", "")),
            "commit": made.code.commit or "",
            "code": made.code.digest,
            "packages": made.packages_digest,
            "image": made.image or "",
        },
    )


class SetModelAliasOperator(DeliveryOperator):
    """Let an alias, for example ``champion``, name a version.

    Returns ``{name, alias, version, previous, record_id}``; with a deliverable it is recorded, since an alias moves.

    :param model: name of the model.
    :param version: as the registry counts; templated.
    :param alias: to move.
    :param mlflow_conn_id: the registry.
    """

    template_fields: Sequence[str] = ("model", "version", "alias", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("alias",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        model: str,
        version: Any,
        alias: str = "champion",
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the alias, if it is not there already."""
        with no_retry():
            previous = registry_of(self.mlflow_conn_id).set_alias(self.model, self.alias, str(self.version))
            moved = {
                "name": self.model,
                "alias": self.alias,
                "version": str(self.version),
                "previous": previous,
            }
            return {**moved, "record_id": self.emit(context, "alias", moved)}
