"""A data-quality gate as a task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import DataRejected, InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.tables import Table
    from airflow_pipeops.validation.engine import Outcome

#: So many findings are named in a record; all of them are in the evidence.
_NAMED = 25


class ValidateDataOperator(DeliveryOperator):
    """Judge a batch of data by a Great Expectations suite.

    Returns ``{passed, batch, rows, digest, failures, errors, dataset_record_id, record_id}``: counts and percentages
    only, never a value of the data. The whole result is kept as evidence. A batch that is accepted becomes a
    ``dataset`` record; one that is not leaves a ``validation`` record alone.

    :param data: URI of a Parquet or CSV file, or a list of such.
    :param expectations: list of ``{"type", "kwargs", "severity"}``, or ``"module:name"`` of a list or function. Only
        ``critical`` (the default) fails the gate.
    :param on_failure: ``fail`` the task, without retry; or ``record`` the result and go on.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    :raises InvalidInput: for an unknown expectation or wrong arguments, before data is read; for a damaged file.
    :raises DataRejected: if a critical expectation fails, or cannot be judged, and ``on_failure`` is ``fail``.
    """

    template_fields: Sequence[str] = ("data", "expectations", *DeliveryOperator.template_fields)
    emits: ClassVar[tuple[str, ...]] = ("dataset", "validation")

    def __init__(
        self,
        *,
        data: str | Sequence[str],
        expectations: str | Sequence[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]],
        on_failure: str = "fail",
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_failure not in ("fail", "record"):
            raise InvalidInput(
                f"on_failure {on_failure!r} is unknown",
                field="on_failure",
                value=on_failure,
                remedy="Use fail or record.",
            )
        self.data = data
        self.expectations = expectations
        self.on_failure = on_failure
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge, record, and fail if the batch is refused."""
        with no_retry():
            from airflow_pipeops.tables import read
            from airflow_pipeops.validation.engine import judge
            from airflow_pipeops.validation.suite import build, expectations

            wanted = expectations(self.expectations)
            build(wanted)  # a wrong suite is told before the data is read
            table = read(self.data, storage_conn_id=self.storage_conn_id)
            outcome = judge(table.frame, wanted)
            for finding in (*outcome.failures, *outcome.errors):
                item = finding.expectation
                self.log.warning("%s %s (%s): %s", finding.outcome, item.type, item.severity, finding.reason)
            if not outcome.passed and self.on_failure == "fail":
                raise DataRejected(_summary(table, outcome), remedy="Correct the batch, or the expectations.")
            return self.record(context, table, outcome)

    def record(self, context: Context, table: Table, outcome: Outcome) -> dict[str, Any]:
        """Emit the records and return what the next task needs."""
        facts = {"batch": table.name, "rows": table.rows, "digest": table.digest}
        failures = [finding.to_json() for finding in outcome.failures]
        errors = [finding.to_json() for finding in outcome.errors]
        dataset = validation = None
        if self.deliverable is not None:
            if outcome.passed:
                files = list(table.files)
                body = {**facts, "files": files[:_NAMED], "columns": len(table.frame.columns)}
                dataset = self.emit(context, "dataset", body)
            body = {
                "subject": "data",
                **facts,
                "passed": outcome.passed,
                "evaluated": len(outcome.findings),
                "failed": len(failures),
                "errors": len(errors),
                "findings": [*errors, *failures][:_NAMED],
                "library": _version(),
            }
            parents = [dataset] if dataset else []
            validation = self.emit(
                context, "validation", body, parents=parents, evidence=[_evidence(facts, outcome)]
            )
        return {
            "passed": outcome.passed,
            **facts,
            "failures": failures,
            "errors": errors,
            "dataset_record_id": dataset,
            "record_id": validation,
        }


def _summary(table: Table, outcome: Outcome) -> str:
    critical = [
        f"{item.expectation.type}: {item.reason}"
        for item in (*outcome.failures, *outcome.errors)
        if item.expectation.severity == "critical"
    ]
    more = f" (and {len(critical) - 5} more)" if len(critical) > 5 else ""
    return f"batch {table.name} of {table.rows:,} rows is refused: {'; '.join(critical[:5])}{more}"


def _evidence(facts: Mapping[str, Any], outcome: Outcome) -> Any:
    from airflow_pipeops.delivery.evidence import store

    content = {
        **facts,
        "passed": outcome.passed,
        "findings": [finding.to_json() for finding in outcome.findings],
        "library": _version(),
    }
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    return store(text.encode(), "validation.json", media_type="application/json")


def _version() -> str:
    from importlib.metadata import version

    return f"great-expectations {version('great-expectations')}"
