"""What a person was asked, and has answered, as a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Of what was shown, in characters; a record is small.
_SHOWN = 4000


class RecordedApprovalOperator(DeliveryOperator, ApprovalOperator):
    """Airflow's ``ApprovalOperator``, which records the answer: who gave it, when, and what they saw.

    The record is of kind *approval*. Its ``approved_by`` is the name that Airflow knows the person by, and empty where
    nobody has answered in time and a default was taken. Where ``fail_on_reject`` makes the task fail, a rejection leaves no
    record: Airflow writes none for a task that fails. Returns what ``ApprovalOperator`` does, and ``record_id``.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, *DeliveryOperator.template_fields)
    emits = ("approval",)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer, and record it."""
        given = super().execute_complete(context, event)
        person = event.get("responded_by_user") or {}
        answers = list(event["chosen_options"])
        body = {
            "subject": str(self.subject)[:_SHOWN],
            "body": str(self.body or "")[:_SHOWN],
            "answer": ", ".join(answers),
            "approved": answers == [self.APPROVE],
            "approved_by": str(person.get("name") or person.get("id") or ""),
            "user": str(person.get("id") or ""),
            "answered_at": event["responded_at"].isoformat(),
            "timed_out": bool(event.get("timedout")),
            "asked": [str(user.get("name") or user.get("id")) for user in self.assigned_users or ()],
        }
        with no_retry():
            return {**given, "record_id": self.emit(context, "approval", body)}
