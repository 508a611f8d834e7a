"""Explain a failure where it happens: as a task, and as a callback."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import instance_of
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.operations.changes.settings import DEFAULT, Settings
from airflow_pipeops.redaction import cleaned, excerpt

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.operations.changes.suspects import Explanation

log = logging.getLogger(__name__)

#: Suspects in a record.
_TOLD = 3
#: Letters of what a model makes of them.
_WORDS = 1000


class ExplainOperator(DeliveryOperator):
    """Rank what changed before something went wrong, keep the page, and record the explanation.

    It reads the index of the ledger, so it runs where that file can be read: ``[pipeops] index_path``. What it says is a
    result and not a failure, also where nobody can tell. Returns ``{outcome, reason, symptom, suspects, none, words,
    record_id}``.

    :param ref: what went wrong: a record, ``DELIVERABLE[@ENVIRONMENT[@TIME]]``, or ``[DAG/]RUN``; templated. By default
        the run of this task, which then waits for an upstream that fails (``trigger_rule="one_failed"``).
    :param settings: the numbers of the ranking, such as the probability from which a suspect is called.
    :param phrase: puts what was found into words, which are shown beside it and which nothing reads, such as
        :class:`~airflow_pipeops.llm.phrasing.Phrasing`. Whatever goes wrong with it is told in the log, and ``words`` are
        empty then.
    """

    template_fields: Sequence[str] = ("ref", *DeliveryOperator.template_fields)
    emits = ("explanation",)
    ui_color = "#fdf0e0"

    def __init__(
        self,
        *,
        ref: str = "",
        settings: Settings = DEFAULT,
        phrase: Callable[[Mapping[str, Any]], str] | None = None,
        **kwargs: Any,
    ) -> None:
        if not ref:
            kwargs.setdefault("trigger_rule", "one_failed")
        super().__init__(**kwargs)
        self.ref = ref
        self.settings = instance_of("settings", settings, Settings, "Give Settings(certain=0.8), say.")
        self.phrase = phrase
        if phrase is not None and not callable(phrase):
            raise InvalidInput(
                f"phrase is {phrase!r}",
                field="phrase",
                value=str(phrase),
                remedy="Give Phrasing(llm_conn_id, model).",
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Rank, keep, and record."""
        with no_retry():
            found = _found(lambda connection: _asked(connection, context, self.ref, self.settings))
            from airflow_pipeops.operations.changes.page import page

            whole = json.dumps(found.to_json(), indent=1, sort_keys=True)
            words = self._words(found)
            kept = [
                self.keep(context, page(found, words), "what-changed.html", "text/html"),
                self.keep(context, whole, "what-changed.json", "application/json"),
            ]
            self.log.info("%s: %s", found.outcome, found.reason)
            body = {**_body(found), "words": words}
            parents = [one.candidate.id for one in found.suspects[:_TOLD]]
            if found.symptom.record:
                parents.insert(0, found.symptom.record)
            record = self.emit(context, "explanation", body, parents=parents, evidence=kept)
        return {**body, "record_id": record}

    def _words(self, found: Explanation) -> str:
        if self.phrase is None:
            return ""
        try:
            return excerpt(str(self.phrase(_body(found)) or ""), _WORDS)
        except Exception as error:  # the ranking stands without it
            self.log.warning("Not put into words: %s: %s", type(error).__name__, excerpt(str(error), 300))
            return ""


def explain_failure(context: Context) -> None:
    """Say in the log of a failed task what changed before, and keep the page: an ``on_failure_callback``.

    It records nothing, since Airflow writes no event of a task that failed, and fails nothing: whatever goes wrong with it
    is told in the log.

    :param context: of the task that failed.
    """
    try:
        from airflow_pipeops.delivery.evidence import store, url
        from airflow_pipeops.operations.changes.page import page

        found = _found(lambda connection: _asked(connection, context, ""))
        dag = context["ti"].dag_id
        kept = store(
            str(cleaned(page(found))).encode(), "what-changed.html", media_type="text/html", dag_id=dag
        )
        told = "; ".join(f"{one.candidate.what} ({one.probability:.0%})" for one in found.suspects[:_TOLD])
        log.warning(
            "What changed before: %s. %s. See %s", found.outcome, told or found.reason, url(kept, dag)
        )
    except Exception as error:  # the task has failed already, and of that its log is to tell
        log.warning("What changed before is not known: %s: %s", type(error).__name__, cleaned(str(error)))


def _found(work: Callable[[sqlite3.Connection], Explanation]) -> Explanation:
    from airflow_pipeops.base.configuration import index_path
    from airflow_pipeops.delivery.ledger.index import reader

    path = index_path()
    if not Path(path).exists():
        raise NotFound(
            f"there is no index of the ledger at {path}",
            remedy="Let the task run where [pipeops] index_path can be read, or ask airflow pipeops why.",
        )
    with closing(reader(path)) as connection:
        return work(connection)


def _asked(
    connection: sqlite3.Connection, context: Context, ref: str, settings: Settings = DEFAULT
) -> Explanation:
    from airflow_pipeops.operations.changes.gathering import explain, why
    from airflow_pipeops.operations.changes.questions import run_symptom

    ti = context["ti"]
    if ref and ref != f"{ti.dag_id}/{ti.run_id}":
        return why(connection, ref, settings=settings)
    well = context.get("prev_start_date_success")
    failed = getattr(ti, "end_date", None) or datetime.now(timezone.utc)
    symptom = run_symptom(
        connection,
        ti.dag_id,
        ti.run_id,
        failed.isoformat(),
        start=well.isoformat() if isinstance(well, datetime) else "",
        what=f"the run {ti.run_id} of {ti.dag_id} failed",
    )
    return explain(connection, symptom, settings=settings)


def _body(found: Explanation) -> dict[str, Any]:
    return {
        "outcome": found.outcome,
        "reason": found.reason[:500],
        "symptom": found.symptom.to_json(),
        "none": round(found.none, 4),
        "suspects": [
            {
                "record": one.candidate.id,
                "kind": one.candidate.kind,
                "what": one.candidate.what[:100],
                "probability": round(one.probability, 4),
                "reason": one.reason[:500],
            }
            for one in found.suspects[:_TOLD]
        ],
    }
