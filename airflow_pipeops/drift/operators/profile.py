"""Boil a data set down to a profile, so that later comparisons need not read it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.drift.operators.comparison import MeasuringOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.drift.operators.inputs import Given


class DriftProfileOperator(MeasuringOperator):
    """Save the profile of a reference: its aggregates, versioned by a digest of the data and by the model.

    Returns ``{profile, digest, data_digest, rows, columns, unmeasured, model_version, record_id}``; ``profile`` is a URI,
    which a comparison takes as ``reference={"profile": uri}``. ``columns`` counts those that were measured, ``unmeasured``
    names the others: a comparison calls them ``undecided``. The profile is kept as evidence of a ``dataset`` record. More
    parameters are those of :class:`~airflow_pipeops.drift.operators.comparison.MeasuringOperator`.

    :param source: as for :class:`~airflow_pipeops.drift.operators.comparison.ComparisonOperator`.
    :param columns: names; or name -> ``numerical`` | ``categorical``; or ``"module:name"``; by default all.
    :param segment_by: measure each value of this column for itself, too.
    :param model_version: the model that learned from these data.
    """

    template_fields: Sequence[str] = (
        "source",
        "columns",
        "model_version",
        *MeasuringOperator.template_fields,
    )
    emits: ClassVar[tuple[str, ...]] = ("dataset",)

    def __init__(
        self,
        *,
        source: Given,
        columns: str | Sequence[str] | Mapping[str, str] | None = None,
        segment_by: str | None = None,
        model_version: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.columns = columns
        self.segment_by = segment_by
        self.model_version = model_version

    def execute(self, context: Context) -> dict[str, Any]:
        """Measure, keep, record."""
        with no_retry():
            from airflow_pipeops.drift.columns import wanted
            from airflow_pipeops.drift.engine import profile
            from airflow_pipeops.drift.operators.inputs import source_of

            source = source_of(self.source, "source", self.storage_conn_id, self.csv)
            found = profile(
                source,
                columns=wanted(self.columns),
                segment_by=self.segment_by,
                model_version=self.model_version or "",
                engine=self.options(),
                **self.watched(),
            )
            for name, why in found.unmeasured.items():
                self.log.warning("Column %r could not be measured: %s", name, why)
            kept = self.keep(context, found.to_bytes(), "profile.npz", "application/octet-stream")
            facts = {
                "profile": kept.uri,
                "digest": found.digest,
                "data_digest": found.data_digest,
                "rows": found.rows[""],
                "columns": len(found.kinds) - len(found.unmeasured),
                "unmeasured": sorted(found.unmeasured),
                "model_version": found.model_version,
            }
            body = {"batch": found.name, **facts, "engine": found.engine}
            return {**facts, "record_id": self.emit(context, "dataset", body, evidence=[kept])}
