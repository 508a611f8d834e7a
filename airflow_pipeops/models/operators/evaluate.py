"""Champion against challenger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import function, mapping, one_of, one_or_more
from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.delivery.events import records_on
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators.arguments import UI_COLOR, registry_of, trained
from airflow_pipeops.models.operators.comparison import check_planned, policy_of, question_of, told
from airflow_pipeops.models.paired.decision import Enough
from airflow_pipeops.models.paired.units import columns_of
from airflow_pipeops.models.performance import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.models.artifact import Loaded
    from airflow_pipeops.models.paired.comparison import Compared


class EvaluateModelOperator(DeliveryOperator):
    """Compare a challenger with the champion on the challenger's held-out data, and emit the evaluation.

    The verdict (``outcome``) is a result and not a failure: ``better``, ``not worse``, ``worse``, ``cannot tell`` or
    ``invalid``; see ``docs/models.md``. What cannot be told from chance, as where a label has a handful of rows, is no
    reason to promote. Returns ``{promote, outcome, reason, metric, challenger, challenger_interval, champion, gain,
    interval, alpha, error, error_by_rows, rows, units, unit, challengers, guards, harmed, small, further_units, data_digest,
    challenger_sha256, champion_version, champion_sha256, record_id}``; ``challenger`` and ``champion`` are the metric's
    values.

    :param model: name of the model.
    :param challenger: what :class:`TrainModelOperator` returned; templated.
    :param metric: that decides: one of :data:`~airflow_pipeops.models.performance.METRICS`; with a ``scorer``, the name of
        what it measures.
    :param scorer: ``scorer(model, frame) -> float``, by import path, for a metric of one's own. Its intervals come from 200
        resamples; without guards, slices, ``positive`` and ``threshold``, which are the scorer's.
    :param holdout: URI of the held-out data, if not the challenger's own; templated.
    :param alias: of the champion in the registry.
    :param minimum_gain: smallest gain that is worth a release; the whole interval must be above it.
    :param margin: how much of the metric may be lost by a challenger that is ``not worse``.
    :param enough: the outcome that promotes: ``better``; or ``not worse``, where a fresher model is reason enough.
    :param guards: further metric -> how much of it may be lost.
    :param slices: columns of the held-out data; in none of their values may the metric get worse beyond doubt.
    :param slice_margin: how much of the metric a slice may lose.
    :param floor: what a model must reach whatever the champion does: the worse end of the 95 % interval of its metric, so
        that no floor is reached by chance.
    :param cluster: column of the held-out data whose equal values mark rows that move together, such as the day; times count
        by their day. Two columns where rows move together in two ways, as by day and by user. By default the time column
        that the challenger was trained with; ``()`` where rows are independent.
    :param positive: the label that counts as positive; by default labels are 0 and 1.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param challengers: how many are tried at once on this held-out data, this one included. With a ``deliverable`` those
        whose evaluations lie on its asset are counted, too.
    :param max_uses: so many challengers may be judged on the same held-out data; after that they are ``invalid``.
    :param planned_units: where the held-out data grow and are judged each time, as those of a shadow do: after about how
        many units (days) a decision is wanted. The intervals then hold however often anybody looks.
    :param higher_is_better: of the scorer's number; ``False`` for an error or a loss.
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
        metric: str = "roc_auc",
        scorer: str | None = None,
        holdout: str | None = None,
        alias: str = "champion",
        minimum_gain: float = 0.0,
        margin: float = 0.0,
        enough: Enough = "better",
        guards: Mapping[str, float] | None = None,
        slices: Sequence[str] = (),
        slice_margin: float = 0.0,
        floor: float | None = None,
        cluster: str | Sequence[str] | None = None,
        positive: Any = None,
        threshold: float = 0.5,
        challengers: int = 1,
        max_uses: int = 20,
        planned_units: int | None = None,
        higher_is_better: bool = True,
        trusted: Sequence[str] = (),
        mlflow_conn_id: str = "mlflow_default",
        csv: Csv | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.challenger = challenger
        self.metric = metric
        self.scorer = scorer
        self.holdout = holdout
        self.alias = alias
        self.minimum_gain = minimum_gain
        self.margin = margin
        self.enough = enough
        self.guards = dict(mapping("guards", guards or {}, "Give {metric: how much of it may be lost}."))
        self.slices = one_or_more("slices", slices, str)
        self.slice_margin = slice_margin
        self.floor = floor
        self.cluster = cluster
        self.positive = positive
        self.threshold = threshold
        self.challengers = challengers
        self.max_uses = max_uses
        self.planned_units = planned_units
        self.higher_is_better = higher_is_better
        self.trusted = trusted
        self.mlflow_conn_id = mlflow_conn_id
        self.csv = Csv.of(csv)
        self._check()
        if (
            self.deliverable is not None
            and (judged := self.deliverable.asset("evaluation")) not in self.inlets
        ):
            self.inlets = [*self.inlets, judged]

    def execute(self, context: Context) -> dict[str, Any]:
        """Score both, judge, record."""
        with no_retry():
            body = self._evaluate(context)
            record_id = self.emit(context, "evaluation", body)
        self.log.info(body["reason"])
        return {**body, "record_id": record_id}

    def _check(self) -> None:
        """Refuse what contradicts itself while the DAG is read."""
        policy_of(self)
        check_planned(self.planned_units)
        if self.scorer is None:
            for field, names in (("metric", (self.metric,)), ("guards", tuple(self.guards))):
                for name in names:
                    one_of(field, name, tuple(METRICS), called="metric")
            return
        given = {"guards": self.guards, "slices": self.slices, "positive": self.positive is not None}
        given |= {"planned_units": bool(self.planned_units), "cluster": len(columns_of(self.cluster)) > 1}
        if set_ := [name for name, value in given.items() if value]:
            raise InvalidInput(
                f"{set_[0]} is for the metrics of this package, and {self.scorer!r} is a scorer of your own",
                field=set_[0],
                value=str(getattr(self, set_[0])),
                remedy=f"Leave scorer= out and name a metric ({', '.join(METRICS)}), or leave {set_[0]}= out.",
            )

    def _evaluate(self, context: Context) -> dict[str, Any]:
        from airflow_pipeops.models import artifact, champion, storage

        given = trained(self.challenger)
        current = registry_of(self.mlflow_conn_id).by_alias(self.model, self.alias)
        new = artifact.load(given["artifact_uri"], given["sha256"], trusted=self.trusted)
        old = artifact.load(current.artifact_uri, current.sha256, trusted=self.trusted) if current else None
        frame, data_digest = storage.read_tables([self.holdout or given["holdout_uri"]], self.csv)
        cluster = self._cluster(new, frame)
        measured = self._measured(new, old, frame, cluster)
        uses = self._tried(context, data_digest, given["sha256"])
        # The best of a search: each of its trials has looked at the same rows.
        challengers = max(self.challengers, int(given.get("trials") or 1))
        kind = METRICS[self.metric].higher_is_better if self.scorer is None else self.higher_is_better
        verdict = champion.judge(
            measured.challenger,
            measured.gain,
            policy_of(self),
            floor=self.floor,
            level=measured.level,
            doubt=measured.doubt,
            guards=measured.guards,
            slices=measured.slices,
            challengers=challengers,
            uses=uses,
            invalid=_no_pair(new, old, frame),
            higher_is_better=kind,
        )
        return {
            **told(self.metric, measured, verdict, cluster, max(challengers, uses)),
            "rows": len(frame),
            "data_digest": data_digest,
            "challenger_sha256": given["sha256"],
            "champion_version": current.version if current else None,
            "champion_sha256": current.sha256 if current else None,
        }

    def _cluster(self, new: Loaded, frame: pd.DataFrame) -> tuple[str, ...]:
        """Return the columns by which rows move together."""
        if self.cluster is not None:
            return columns_of(self.cluster)
        column = new.manifest.time_column
        return (column,) if column is not None and column in frame.columns else ()

    def _measured(
        self, new: Loaded, old: Loaded | None, frame: pd.DataFrame, cluster: tuple[str, ...]
    ) -> Compared:
        from airflow_pipeops.models import evaluation
        from airflow_pipeops.models.paired.comparison import compare

        if self.scorer is not None:
            return evaluation.compare(
                new.model,
                old.model if old else None,
                frame,
                function(self.scorer, "scorer"),
                metric=self.metric,
                target=new.manifest.target,
                cluster=cluster[0] if cluster else None,
                level=self.floor is not None,
                higher_is_better=self.higher_is_better,
            )
        if new.manifest.target is None:
            raise InvalidInput(
                "the challenger does not say which column it predicts",
                field="challenger",
                remedy="Train it with target=, or pass a scorer= that knows.",
            )
        question = question_of(self, new.manifest.target, cluster)
        return compare(new.model, old.model if old else None, frame, question)

    def _tried(self, context: Context, data_digest: str, sha256: str) -> int:
        """Count the challengers that were evaluated on the same data, this one included."""
        if self.deliverable is None:
            return 1
        earlier = records_on(context, self.deliverable.asset("evaluation"))
        tried = {
            one.body.get("challenger_sha256") for one in earlier if one.body.get("data_digest") == data_digest
        }
        return len(tried - {None, sha256}) + 1


def _no_pair(new: Loaded, old: Loaded | None, frame: pd.DataFrame) -> str:
    """Say why two models cannot be compared on these rows; empty where they can, or nobody knows of times."""
    from airflow_pipeops.models.times import seen

    if old is not None and old.sha256 == new.sha256:
        return "the challenger is the champion itself"
    return seen([one.manifest for one in (new, old) if one], frame)
