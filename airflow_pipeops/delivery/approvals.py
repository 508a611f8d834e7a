"""What a person was asked, and has answered, as a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.delivery.questions import answer_body

if TYPE_CHECKING:
    from airflow.sdk import Context


class RecordedApprovalOperator(DeliveryOperator, ApprovalOperator):
    """Airflow's ``ApprovalOperator``, which records the answer: who gave it, when, and what they saw.

    The record is of kind *approval*. Its ``approved_by`` is the name that Airflow knows the person by, and empty where
    nobody has answered in time and a default was taken. Where ``fail_on_reject`` makes the task fail, it emits nothing, and
    the API server records the rejection. Returns what ``ApprovalOperator`` does, and ``record_id``.
    """

    template_fields: Sequence[str] = (
        "environment",
        *ApprovalOperator.template_fields,
        *DeliveryOperator.template_fields,
    )
    emits = ("approval",)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer, and record it."""
        given = super().execute_complete(context, event)
        body = answer_body(
            subject=self.subject,
            body=self.body,
            chosen=event["chosen_options"],
            person=event.get("responded_by_user"),
            at=event["responded_at"],
            timed_out=bool(event.get("timedout")),
            asked=self.assigned_users or (),
        )
        with no_retry():
            return {**given, "record_id": self.emit(context, "approval", body)}
