"""Compare a batch with its reference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import DriftFound, InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.delivery.records import Evidence
    from airflow_pipeops.drift.evidently_report import Comparison
    from airflow_pipeops.tables import Table

#: So many columns are named in a record, the drifted ones first; all of them are in the evidence.
_NAMED = 40


class DataDriftOperator(DeliveryOperator):
    """Compare a batch with its reference, by Evidently's default test for each column.

    Returns ``{drifted, share, columns: [{column, verdict, drifted, score, threshold, method, detail, nulls}], rows, batch,
    record_id, report}``. A column that went missing, changed its type or is all null is a finding with its own verdict, and
    makes the batch drifted. The HTML report and the whole result are kept as evidence.

    :param reference: URI of a Parquet or CSV file, or a list of such: what the model learned from.
    :param current: the same, of the batch.
    :param columns: names; or name -> ``numerical`` | ``categorical``; or ``"module:name"`` of either; by default all.
    :param drift_share: from this share of drifted columns on, the batch has drifted.
    :param on_drift: ``record`` it and go on, or ``fail`` the task, without retry.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :raises InvalidInput: for an empty side, a damaged file, or an unknown column.
    :raises DriftFound: if the batch drifted and ``on_drift`` is ``fail``.
    """

    template_fields: Sequence[str] = ("reference", "current", "columns", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("drift",)
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        reference: str | Sequence[str],
        current: str | Sequence[str],
        columns: str | Sequence[str] | Mapping[str, str] | None = None,
        drift_share: float = 0.5,
        on_drift: str = "record",
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_drift not in ("record", "fail"):
            raise InvalidInput(
                f"on_drift {on_drift!r} is unknown",
                field="on_drift",
                value=on_drift,
                remedy="Use record or fail.",
            )
        if not 0 < drift_share <= 1:
            raise InvalidInput(
                f"drift_share {drift_share!r} is no share",
                field="drift_share",
                value=drift_share,
                remedy="Use more than 0 and at most 1.",
            )
        self.reference = reference
        self.current = current
        self.columns = columns
        self.drift_share = drift_share
        self.on_drift = on_drift
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, keep the report, record, and fail if that is asked for."""
        with no_retry():
            from airflow_pipeops.drift.columns import wanted
            from airflow_pipeops.drift.evidently_report import compare
            from airflow_pipeops.tables import read

            asked = wanted(self.columns)
            reference = read(self.reference, field="reference", storage_conn_id=self.storage_conn_id)
            current = read(self.current, field="current", storage_conn_id=self.storage_conn_id)
            found = compare(reference.frame, current.frame, columns=asked, drift_share=self.drift_share)
            facts = self.facts(found, reference, current)
            evidence = self.evidence(context, found, facts)
            self.log.info("%s; report: %s", _summary(found, current), self.report_url or "none")
            if found.drifted and self.on_drift == "fail":
                raise DriftFound(_summary(found, current), remedy=f"See the report: {self.report_url}.")
            record = self.emit(context, "drift", facts, evidence=evidence)
            columns = [item.to_json() for item in found.columns]
            return {
                "drifted": found.drifted,
                "share": found.share,
                "columns": columns,
                "rows": found.rows,
                "batch": current.name,
                "record_id": record,
                "report": next((item.uri for item in evidence if item.name == "drift.html"), ""),
            }

    def evidence(self, context: Context, found: Comparison, facts: Mapping[str, Any]) -> list[Evidence]:
        """Keep the whole result, and Evidently's report."""
        whole = {**facts, "columns": [item.to_json() for item in found.columns]}
        text = json.dumps(whole, indent=1, sort_keys=True, allow_nan=False)
        kept = [self.keep(context, text, "drift.json", "application/json")]
        if found.html:
            kept.insert(0, self.keep(context, found.html, "drift.html", "text/html"))
        return kept

    def facts(self, found: Comparison, reference: Table, current: Table) -> dict[str, Any]:
        """Return the body of the record: enough to repeat the verdict."""
        from importlib.metadata import version

        telling = sorted(found.columns, key=lambda item: not item.drifted)
        named = [
            {"column": item.column, "verdict": item.verdict, "score": item.score, "threshold": item.threshold}
            for item in telling[:_NAMED]
        ]
        return {
            "drifted": found.drifted,
            "share": found.share,
            "drift_share": self.drift_share,
            "columns": named,
            "columns_total": len(found.columns),
            "columns_drifted": sum(item.drifted for item in found.columns),
            "rows": found.rows,
            "batch": current.name,
            "reference": {"digest": reference.digest, "name": reference.name},
            "current": {"digest": current.digest, "name": current.name},
            "library": f"evidently {version('evidently')}",
        }


def _summary(found: Comparison, current: Table) -> str:
    drifted = [item.column for item in found.columns if item.drifted]
    names = f": {', '.join(drifted[:10])}{' and more' if len(drifted) > 10 else ''}" if drifted else ""
    verdict = "drifted" if found.drifted else "did not drift"
    return f"batch {current.name} {verdict}: {len(drifted)} of {len(found.columns)} columns ({found.share:.0%}){names}"
