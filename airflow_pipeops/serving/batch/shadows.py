"""A challenger that scored the same partitions as a shadow, held against what readers saw, once labels are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import has_columns, not_empty, one_of, one_or_more
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators.arguments import UI_COLOR
from airflow_pipeops.models.paired.decision import Policy
from airflow_pipeops.models.performance import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

_CHAMPION, _CHALLENGER = "champion_score", "challenger_score"


class EvaluateShadowOperator(DeliveryOperator):
    """Compare what a challenger scored as a shadow with what readers saw of the same rows, and emit the evaluation.

    The rows are those of one or more results of :class:`~airflow_pipeops.serving.batch.operators.BatchScoreOperator`, which
    carry the label (``carry=``). Rows whose label is not there yet are left out and counted. The verdict is that of
    ``EvaluateModelOperator``: see ``docs/models.md``. Returns ``{promote, outcome, reason, metric, challenger, champion,
    gain, interval, rows, unlabelled, units, partitions, challenger_sha256, champion_sha256, record_id}``.

    :param scores: one result, or a list of them; templated.
    :param challenger_sha256: of the challenger; templated.
    :param label_column: column that was carried beside the scores.
    :param key: column or columns that name a row.
    :param metric: of two classes, such as ``roc_auc``, or of numbers; see ``METRICS``.
    :param output_column: of the models that is compared.
    :param cluster: carried column whose equal values mark rows that move together, such as the day.
    :param minimum_gain: smallest gain that is worth a release.
    """

    template_fields: Sequence[str] = ("scores", "challenger_sha256", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("evaluation",)
    ui_color = UI_COLOR

    def __init__(
        self,
        *,
        scores: Any,
        challenger_sha256: str,
        label_column: str,
        key: str | Sequence[str],
        metric: str = "roc_auc",
        output_column: str = "probability",
        cluster: str | None = None,
        minimum_gain: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scores = scores
        self.challenger_sha256 = challenger_sha256
        self.label_column = label_column
        self.key = list(one_or_more("key", key, str))
        self.metric = one_of("metric", metric, tuple(METRICS))
        self.output_column = output_column
        self.cluster = cluster
        self.minimum_gain = minimum_gain
        Policy(minimum_gain)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read both, join, judge, record."""
        from airflow_pipeops.models import champion
        from airflow_pipeops.models.paired.influence import gain
        from airflow_pipeops.models.paired.units import of_columns

        with no_retry():
            given = [self.scores] if isinstance(self.scores, Mapping) else list(self.scores or ())
            not_empty("scores", given, "no scores were given", "Pass what BatchScoreOperator returned.")
            frame = self._rows(given)
            known = frame[frame[self.label_column].notna()].reset_index(drop=True)
            not_empty(
                "label_column",
                len(known),
                f"no row has a {self.label_column!r} yet",
                "Wait until labels are there.",
            )
            found = gain(
                self.metric,
                known[self.label_column].to_numpy(),
                known[_CHALLENGER].to_numpy(),
                known[_CHAMPION].to_numpy(),
                units=of_columns(known, self.cluster),
            )
            verdict = champion.judge(found.challenger, found, Policy(self.minimum_gain))
            body = {
                "promote": verdict.promote,
                "outcome": verdict.outcome,
                "reason": verdict.reason,
                "metric": self.metric,
                "challenger": found.challenger,
                "champion": found.champion,
                "gain": found.value,
                "interval": list(verdict.interval) if verdict.interval else None,
                "rows": len(known),
                "unlabelled": len(frame) - len(known),
                "units": found.units,
                "partitions": [str(one.get("partition")) for one in given],
                "challenger_sha256": self.challenger_sha256,
                "champion_sha256": given[0].get("sha256"),
            }
            self.log.info("%s", verdict.reason)
            parents = [one.get("record_id") for one in given]
            record_id = self.emit(context, "evaluation", body, parents=[one for one in parents if one])
            return {**body, "record_id": record_id}

    def _rows(self, given: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return the rows that both have scored, with both scores."""
        import pandas as pd

        champions = {one.get("sha256") for one in given}
        if len(champions) != 1:
            raise InvalidInput(
                "the partitions were scored by several champions",
                field="scores",
                value=sorted(str(one)[:12] for one in champions),
                remedy="Compare with one at a time.",
            )
        found = []
        for one in given:
            shadow: Mapping[str, Any] = next(
                (each for each in one.get("shadows") or () if each.get("sha256") == self.challenger_sha256),
                {},
            )
            if not shadow.get("manifest"):
                raise InvalidInput(
                    f"the challenger has no scores of partition {one.get('partition')}",
                    field="challenger_sha256",
                    value=self.challenger_sha256,
                    remedy=f"It said: {shadow.get('reason') or 'it was no shadow of that run'}",
                )
            columns = [
                *self.key,
                self.label_column,
                *([self.cluster] if self.cluster else []),
                self.output_column,
            ]
            shown = _read(str(one["manifest"]), list(dict.fromkeys(columns)))
            beside = _read(str(shadow["manifest"]), [*self.key, self.output_column])
            shown = shown.rename(columns={self.output_column: _CHAMPION})
            beside = beside.rename(columns={self.output_column: _CHALLENGER})
            if shown.duplicated(self.key).any():
                raise InvalidInput(
                    f"{', '.join(self.key)} names more than one row of partition {one.get('partition')}",
                    field="key",
                    value=self.key,
                    remedy="Name the key that the partition was scored by.",
                )
            joined = shown.merge(beside, on=self.key, how="inner", validate="one_to_one")
            found.append(joined.dropna(subset=[_CHAMPION, _CHALLENGER]))
        return pd.concat(found, ignore_index=True)


def _read(uri: str, columns: Sequence[str]) -> pd.DataFrame:
    import io

    import pandas as pd

    from airflow_pipeops.models import storage
    from airflow_pipeops.serving.batch.manifest import Manifest

    manifest = Manifest.from_bytes(storage.get(uri), uri)
    has_columns("scores", [name for name, _ in manifest.columns], columns)
    folder = uri.rpartition("/")[0]
    parts = [storage.get(f"{folder}/{part.name}", part.sha256) for part in manifest.parts]
    return pd.concat([pd.read_parquet(io.BytesIO(part), columns=list(columns)) for part in parts])
