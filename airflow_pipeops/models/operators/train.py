"""Training: where it runs, what it is given, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, get_args

from airflow.sdk.exceptions import AirflowSkipException

from airflow_pipeops.base.arguments import function, mapping, one_of, positive, share
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.build.operators.elsewhere import ElsewhereOperator, RunIn
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.models.operators.arguments import (
    UI_COLOR,
    check_name,
    data_uris,
    feature_set_of,
    moment,
    storage_root,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.build.elsewhere import Work
    from airflow_pipeops.models.reproduction.manifest import TrainingManifest

_SHARE = "Give a share between 0 and 1."


class TrainModelOperator(ElsewhereOperator):
    """Train a model on the earlier rows and keep the later ones to judge it by.

    The same data, trainer, parameters and seed give the same artifact digest, so a repeated attempt changes nothing. All
    that it was made from is stored beside it as ``training.json``, from which ``airflow pipeops reproduce`` makes it again.
    Returns ``{name, artifact_uri, sha256, behaviour, probes_uri, probes_sha256, metrics, train_rows, holdout_rows,
    holdout_uri, reference_uri, data_digest, parameters, seconds, training_uri, training_sha256}``, and ``record_id`` where
    it is recorded.

    :param trainer: ``trainer(frame, seed, **parameters) -> fitted scikit-learn estimator``, by import path.
    :param data: URI of a Parquet or CSV file of features, or several, in time order; templated.
    :param name: of the model.
    :param scorer: ``scorer(model, frame) -> float``; with it, the model's metric on the holdout is stored.
    :param metric: name of what the scorer measures.
    :param holdout: share of the rows, the latest, that is kept apart.
    :param time_column: orders the rows, and rows of the same value stay together; by default the rows are in order.
    :param seed: given to the trainer.
    :param parameters: further arguments of the trainer, as JSON; templated.
    :param target: name of the predicted column, for the manifest. Rows whose label is null are left out.
    :param label_delay: for which a label comes after its row: what was not known when the holdout begins is not learned
        from.
    :param feature_set: what :class:`BuildFeaturesOperator` returned under that name; templated. Whoever serves the model
        must carry that code.
    :param trusted: types that the stored model may hold beyond scikit-learn's own; see ``models.serialized``.
    :param storage_conn_id: where built artifacts are kept.
    :param csv: what CSV files do not say of themselves: the fields of :class:`~airflow_pipeops.base.delimited.Csv`, such as
        ``{"decimal": ","}``.
    :param until: time in ISO 8601 after which it is skipped and does not begin: the budget of a search is spent; templated.
    :param run_in: ``worker``; ``kubernetes``, as a Job; or ``argo``, as a workflow. What is returned is the same.
    :param run_options: of where it runs: ``image``, ``secrets`` and ``env``, and else the arguments of
        :class:`~airflow_pipeops.build.elsewhere.KubernetesWork` or of
        :class:`~airflow_pipeops.argo_workflows.operators.workflow.ArgoWorkflowOperator`; templated.
    :param timeout: for a training elsewhere.
    """

    template_fields: Sequence[str] = (
        "data",
        "name",
        "parameters",
        "feature_set",
        "until",
        *ElsewhereOperator.template_fields,
    )
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
        parameters: Mapping[str, Any] | None = None,
        target: str | None = None,
        label_delay: timedelta | float = timedelta(0),
        feature_set: Mapping[str, str] | None = None,
        trusted: Sequence[str] = (),
        storage_conn_id: str = "pipeops_artifacts",
        csv: Csv | Mapping[str, Any] | None = None,
        until: str | None = None,
        run_in: RunIn = "worker",
        run_options: Mapping[str, Any] | None = None,
        timeout: timedelta = timedelta(hours=6),
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
        self.parameters = parameters
        self.target = target
        self.label_delay = label_delay
        self.feature_set = feature_set
        self.trusted = trusted
        self.storage_conn_id = storage_conn_id
        self.csv = Csv.of(csv)
        self.until = until
        self.run_in: RunIn = one_of("run_in", run_in, get_args(RunIn))
        self.run_options = run_options
        self.timeout = positive("timeout", timeout)

    def execute(self, context: Context) -> dict[str, Any]:
        """Train here, or where it is told to."""
        with no_retry():
            end = moment("until", self.until)
            if end is not None and datetime.now(timezone.utc) > (end if end.tzinfo else end.astimezone()):
                raise AirflowSkipException(f"the time for trials was over at {self.until}")
            if self.run_in == "worker":
                return self._recorded(context, train_model(**self.arguments()))
            return self.away(context)

    def work(self) -> Work:
        """Return what is done elsewhere."""
        from airflow_pipeops.build.elsewhere import Work
        from airflow_pipeops.models.reproduction.environment import IMAGE

        return Work(
            "train",
            "airflow_pipeops.models.pod",
            "training_uri",
            "this package, its extra mlflow, and the trainer",
            "Make one table of the files first, by BuildFeaturesOperator.",
            IMAGE,
        )

    def finished(self, context: Context, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Record a training that was done elsewhere, by the file that it left."""
        ran = {"image_ran": answer["image_ran"]} if "image_ran" in answer else {}
        return self._recorded(context, {**read_back(answer), **ran})

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the training, as JSON."""
        delay = self.label_delay
        return {
            "trainer": self.trainer,
            "data": data_uris(self.data),
            "name": self.name,
            "scorer": self.scorer,
            "metric": self.metric,
            "holdout": self.holdout,
            "time_column": self.time_column,
            "seed": self.seed,
            "parameters": self.parameters,
            "target": self.target,
            "label_delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
            "feature_set": self.feature_set,
            "trusted": list(self.trusted),
            "storage_conn_id": self.storage_conn_id,
            "csv": asdict(self.csv),
        }

    def _recorded(self, context: Context, made: dict[str, Any]) -> dict[str, Any]:
        made = {**made, "run_in": self.run_in}
        record_id = self.emit(context, "training", made)
        return {**made, "record_id": record_id} if record_id else made


def read_back(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`train_model` returned elsewhere, from the file that it left.

    :param answer: ``{training_uri, training_sha256, seconds}``.
    :return: the same, whole.
    """
    from airflow_pipeops.models.reproduction import manifest

    uri, sha256 = str(answer["training_uri"]), str(answer["training_sha256"])
    return told(manifest.read(uri, sha256), uri, sha256, float(answer.get("seconds") or 0))


def told(made: TrainingManifest, uri: str, sha256: str, seconds: float) -> dict[str, Any]:
    """Return what a task returns of a training.

    :param made: what it left.
    :param uri: of that file.
    :param sha256: of that file.
    :param seconds: that it took.
    :return: plain facts; ``code`` is ``{digest, commit, dirty}``.
    """
    return {
        **{name: value for name, value in made.result.items() if name != "curves"},
        "data_rows": made.data["rows"],
        "trainer": made.arguments["trainer"],
        "seed": made.arguments["seed"],
        "parameters": dict(made.arguments["parameters"]),
        "feature_set": made.feature_set,
        "code": {"digest": made.code.digest, "commit": made.code.commit, "dirty": made.code.dirty},
        "packages_digest": made.packages_digest,
        "python": made.python,
        "image": made.image,
        "training_uri": uri,
        "training_sha256": sha256,
        "seconds": seconds,
    }


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
    parameters: Mapping[str, Any] | None = None,
    target: str | None = None,
    label_delay: timedelta | float = timedelta(0),
    feature_set: Mapping[str, str] | None = None,
    trusted: Sequence[str] = (),
    storage_conn_id: str = "pipeops_artifacts",
    csv: Csv | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model, here or in a pod; the arguments are those of :class:`TrainModelOperator`.

    :param label_delay: also in seconds.
    :return: what the operator returns.
    """
    from airflow_pipeops.models import storage, training
    from airflow_pipeops.models.reproduction import manifest

    check_name(name)
    share("holdout", holdout, _SHARE)
    delay = label_delay if isinstance(label_delay, timedelta) else timedelta(seconds=label_delay)
    delay = positive("label_delay", delay, zero=True)
    given = dict(mapping("parameters", parameters or {}, "Give names and values."))
    features = feature_set_of(feature_set)
    fit, score = function(trainer, "trainer"), function(scorer, "scorer") if scorer else None
    table = storage.read_table(data_uris(data), Csv.of(csv))
    root = storage_root(storage_conn_id)
    # Before it is run: what syncs a folder of code may change it in the meantime.
    code = manifest.of_functions([trainer, scorer])
    began = time.monotonic()
    made = training.train(
        table.frame,
        root,
        name=name,
        trainer=fit,
        scorer=score,
        metric=metric,
        holdout=holdout,
        time_column=time_column,
        seed=seed,
        parameters=given,
        target=target,
        label_delay=delay,
        feature_set=features,
        data_digest=table.digest,
        trusted=trusted,
    )
    asked: dict[str, Any] = {
        "trainer": trainer,
        "data": list(table.files),
        "name": name,
        "scorer": scorer,
        "metric": metric,
        "holdout": holdout,
        "time_column": time_column,
        "seed": seed,
        "parameters": given,
        "target": target,
        "label_delay": delay.total_seconds(),
        "feature_set": features,
        "trusted": list(trusted),
        "csv": asdict(Csv.of(csv)),
    }
    whole = manifest.TrainingManifest(
        asked,
        {"digest": table.digest, "rows": table.rows, "files": dict(table.digests)},
        features,
        code,
        result=made,
    )
    uri, sha256 = whole.put(root)
    return told(whole, uri, sha256, round(time.monotonic() - began, 3))
