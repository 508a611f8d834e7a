"""A challenger that scored the same rows as a shadow, held against what was served of them, once labels are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import at_least, mapping, not_empty, one_of, one_or_more
from airflow_pipeops.base.documents import map_
from airflow_pipeops.delivery.events import records_on
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.joining import AT, LABEL
from airflow_pipeops.models.operators.arguments import UI_COLOR
from airflow_pipeops.models.operators.comparison import check_planned, looks, policy_of, question_of, told
from airflow_pipeops.models.paired.decision import Enough, decide
from airflow_pipeops.models.paired.units import columns_of
from airflow_pipeops.models.performance import METRICS
from airflow_pipeops.models.times import seen
from airflow_pipeops.serving.pairs import CHALLENGER, CHAMPION, Unscored, of_joined

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_pipeops.models.artifact import Manifest
    from airflow_pipeops.models.paired.comparison import Compared


@dataclass(frozen=True)
class _Shadowed:
    """What is compared.

    :param rows: with both scores.
    :param label: their column of labels.
    :param digest: of what they were read from.
    :param partitions: that they are of.
    :param champion: digest of the model that was served.
    :param models: what both say of themselves.
    :param at: column of the time at which they were predicted, where it tells what was learned before.
    :param why: reasons for which rows lack the challenger's score; ``None`` where nobody knows.
    """

    rows: pd.DataFrame
    label: str
    digest: str
    partitions: list[str]
    champion: str
    models: Sequence[Manifest]
    at: str = ""
    why: Collection[str] | None = None


class EvaluateShadowOperator(DeliveryOperator):
    """Compare what a challenger scored as a shadow with what was served of the same rows, and emit the evaluation.

    The rows are those of one or more results of :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator`, which
    carry the label (``carry=``); or those that :class:`~airflow_pipeops.models.operators.labels.JoinLabelsOperator` has
    joined labels to, as to the samples of an endpoint and its shadows. Rows whose label is not there yet are left out and
    counted, and so are those that a model gave no score for (``unscored``): where the challenger leaves out more than the
    champion, or both more than may be, the outcome is ``invalid``. So it is where a model has learned from rows of their
    time. The verdict is that of ``EvaluateModelOperator``: see ``docs/models.md``. Returns ``{promote,
    outcome, reason, metric, challenger, challenger_interval, champion, gain, interval, alpha, error, error_by_rows, rows,
    unlabelled, unscored, units, unit, challengers, guards, harmed, small, further_units, partitions, data_digest,
    challenger_sha256, champion_sha256, record_id}``.

    :param challenger_sha256: of the challenger; templated.
    :param scores: one result of a partition, or a list of them; templated.
    :param label_column: of scores: the column that was carried beside them.
    :param key: of scores: column or columns that name a row.
    :param labelled: in place of scores: what ``JoinLabelsOperator`` returned; templated.
    :param model: of labelled rows: name in the registry, which says where both models are.
    :param alias: of labelled rows: that of the champion.
    :param cluster: carried column, of labelled rows ``at`` or one of their key, whose equal values mark rows that move
        together, such as the day, or two of them; times count by their day. ``()`` where rows are independent: there is no
        default, since an interval of rows that are taken for independent is often several times too narrow.
    :param metric: that decides: one of :data:`~airflow_pipeops.models.performance.METRICS`.
    :param output_column: of scores: the one that is compared.
    :param minimum_gain: smallest gain that is worth a release; the whole interval must be above it.
    :param margin: how much of the metric may be lost by a challenger that is ``not worse``.
    :param enough: the outcome that promotes: ``better``; or ``not worse``, where a fresher model is reason enough.
    :param guards: further metric -> how much of it may be lost; of the same kind of output as ``metric``.
    :param slices: carried columns; in none of their values may the metric get worse beyond doubt.
    :param slice_margin: how much of the metric a slice may lose.
    :param positive: the label that counts as positive; by default labels are 0 and 1.
    :param threshold: from this score on, a row counts as positive, for metrics of classes.
    :param unscored: share of the labelled rows that may have no score.
    :param challengers: how many are tried at once on these partitions, this one included. With a ``deliverable`` those
        whose evaluations lie on its asset are counted, too; and without ``planned_units`` each look at more rows counts
        as one more.
    :param max_uses: so many may be judged on the same partitions; after that they are ``invalid``.
    :param planned_units: where it is judged again as labels come: after about how many units (days) a decision is wanted.
        The intervals then hold however often anybody looks.
    :param mlflow_conn_id: the registry.
    """

    template_fields: Sequence[str] = (
        "scores",
        "labelled",
        "model",
        "challenger_sha256",
        *DeliveryOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        challenger_sha256: str,
        scores: Any = None,
        label_column: str = "",
        key: str | Sequence[str] = (),
        labelled: Any = None,
        model: str = "",
        alias: str = "champion",
        cluster: str | Sequence[str] | None = None,
        metric: str = "roc_auc",
        output_column: str = "probability",
        minimum_gain: float = 0.0,
        margin: float = 0.0,
        enough: Enough = "better",
        guards: Mapping[str, float] | None = None,
        slices: Sequence[str] = (),
        slice_margin: float = 0.0,
        positive: Any = None,
        threshold: float = 0.5,
        unscored: float = 0.01,
        challengers: int = 1,
        max_uses: int = 20,
        planned_units: int | None = None,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scores = scores
        self.challenger_sha256 = challenger_sha256
        self.label_column = label_column
        self.key = list(one_or_more("key", key, str))
        self.labelled = labelled
        self.model = model
        self.alias = alias
        self.cluster = cluster
        self.metric = one_of("metric", metric, tuple(METRICS))
        self.output_column = output_column
        self.minimum_gain = minimum_gain
        self.margin = margin
        self.enough = enough
        self.guards = dict(mapping("guards", guards or {}, "Give {metric: how much of it may be lost}."))
        self.slices = one_or_more("slices", slices, str)
        self.slice_margin = slice_margin
        self.positive = positive
        self.threshold = threshold
        self.unscored = unscored
        self.challengers = at_least(
            "challengers", challengers, 1, f"challengers is {challengers}", "At least this one."
        )
        self.max_uses = max_uses
        self.planned_units = planned_units
        self.mlflow_conn_id = mlflow_conn_id
        self._check()
        if (
            self.deliverable is not None
            and (judged := self.deliverable.asset("evaluation")) not in self.inlets
        ):
            self.inlets = [*self.inlets, judged]

    def execute(self, context: Context) -> dict[str, Any]:
        """Read both, join, judge, record."""
        with no_retry():
            given = [self.scores] if isinstance(self.scores, Mapping) else list(self.scores or ())
            found = self._joined() if self.labelled is not None else self._scored(given)
            labelled = found.rows[found.rows[found.label].notna()].infer_objects()
            none = f"no row has a {found.label!r} yet"
            not_empty("label_column", len(labelled), none, "Wait until labels are there.")
            lost = Unscored.of(labelled)
            known = labelled.dropna(subset=[CHAMPION, CHALLENGER]).reset_index(drop=True)
            not_empty("scores", len(known), lost.told(len(labelled)), "See why the models refuse them.")
            facts = {
                "rows": len(known),
                "unlabelled": len(found.rows) - len(labelled),
                "unscored": lost.to_json(),
                "partitions": found.partitions,
                "data_digest": found.digest,
                "challenger_sha256": self.challenger_sha256,
                "champion_sha256": found.champion,
            }
            invalid = seen(found.models, known, at=found.at, needed=True) or lost.invalid(
                len(labelled), self.unscored, found.why
            )
            body = {**self._judged(context, self._measured(known, found.label), facts, invalid), **facts}
            if lost.rows and body["outcome"] != "invalid":
                body["reason"] += f" Left out: {lost.told(len(labelled))}."
            self.log.info("%s", body["reason"])
            parents = [map_(one).get("record_id") for one in (*given, self.labelled)]
            record_id = self.emit(context, "evaluation", body, parents=[one for one in parents if one])
            return {**body, "record_id": record_id}

    def _scored(self, given: Sequence[Mapping[str, Any]]) -> _Shadowed:
        """Read what partitions were scored with."""
        from airflow_pipeops.serving.batch import pairs

        not_empty("scores", given, "no scores were given", "Pass what BatchScoreOperator returned.")
        columns = [self.label_column, *columns_of(self.cluster), *self.slices]
        rows, digest, models = pairs.read(
            given, self.challenger_sha256, self.key, columns, self.output_column
        )
        partitions = [str(one.get("partition")) for one in given]
        return _Shadowed(rows, self.label_column, digest, partitions, str(given[0].get("sha256")), models)

    def _joined(self) -> _Shadowed:
        """Read what labels were joined to."""
        from airflow_pipeops.models.artifact import manifest_of
        from airflow_pipeops.models.operators.arguments import champion_of, labelled_of, registry_of

        registry = registry_of(self.mlflow_conn_id)
        champion = champion_of(registry, self.model, self.alias)
        challenger = registry.find(self.model, self.challenger_sha256)
        if challenger is None or challenger.sha256 == champion.sha256:
            what = "the champion itself" if challenger else "no version"
            raise InvalidInput(
                f"{self.challenger_sha256[:12]} is {what} of {self.model!r}",
                field="challenger_sha256",
                value=self.challenger_sha256,
                remedy="Register the challenger before it runs as a shadow, and name its digest.",
            )
        frame, digest = labelled_of(self.labelled)
        lost = map_(self.labelled).get("lost")
        rows = of_joined(frame, champion.sha256, challenger.sha256)
        return _Shadowed(
            rows,
            LABEL,
            digest,
            sorted(rows[AT].dt.strftime("%Y-%m-%d").unique()),
            champion.sha256,
            [manifest_of(one.artifact_uri, one.sha256) for one in (challenger, champion)],
            AT,
            None if lost is None else map_(map_(lost).get(challenger.sha256)),
        )

    def _check(self) -> None:
        """Refuse what contradicts itself while the DAG is read."""
        if self.cluster is None:
            raise InvalidInput(
                "cluster is not given, and rows that move together would be taken for independent",
                field="cluster",
                remedy="Name the carried column that says which rows move together, such as the day, or give "
                "cluster=() where each row stands for itself.",
            )
        both = {"label_column": self.label_column, "key": self.key}
        if self.labelled is None:
            for name, value in both.items():
                not_empty(name, value, f"{name} is not given", "Name it as it was carried beside the scores.")
        else:
            not_empty("model", self.model, "labelled rows name no model", "Name it as the registry does.")
            for name, value in {"scores": self.scores, **both}.items():
                if value:
                    raise InvalidInput(
                        f"{name} is of scored partitions, and labelled= is given",
                        field=name,
                        remedy="Give one of the two.",
                    )
        if not 0 <= self.unscored <= 1:
            raise InvalidInput(
                f"unscored is {self.unscored!r}",
                field="unscored",
                value=self.unscored,
                remedy="Give a share from 0 to 1.",
            )
        policy_of(self)
        check_planned(self.planned_units)
        task = METRICS[self.metric].task
        for name in self.guards:
            one_of(
                "guards",
                name,
                tuple(each for each, kind in METRICS.items() if kind.task == task),
                called=f"metric of what {self.metric} is measured on",
            )

    def _measured(self, rows: pd.DataFrame, label: str) -> Compared:
        from airflow_pipeops.models.paired.comparison import compare_said

        new, old = rows[CHALLENGER].to_numpy(), rows[CHAMPION].to_numpy()
        return compare_said(lambda _: new, lambda _: old, rows, question_of(self, label, self.cluster))

    def _judged(
        self, context: Context, measured: Compared, facts: Mapping[str, Any], invalid: str
    ) -> dict[str, Any]:
        uses = 1
        if self.deliverable is not None:
            earlier = records_on(context, self.deliverable.asset("evaluation"))
            uses = looks([one.body for one in earlier], facts, self.planned_units is not None)
        assert measured.gain is not None
        verdict = decide(
            measured.gain,
            policy_of(self),
            guards=measured.guards,
            slices=measured.slices,
            challengers=self.challengers,
            uses=uses,
            invalid=invalid,
        )
        return told(self.metric, measured, verdict, columns_of(self.cluster), max(self.challengers, uses))
