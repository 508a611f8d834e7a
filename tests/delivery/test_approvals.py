"""An approval is recorded as Airflow hands it over when a person has answered."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.providers.standard.exceptions import HITLRejectException

from airflow_pipeops.delivery.approvals import RecordedApprovalOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record

SHOP = Deliverable("shop")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def ask(**given: Any) -> RecordedApprovalOperator:
    usual = {
        "subject": "Release?",
        "body": "7 tests passed",
        "deliverable": SHOP,
        "environment": "production",
    }
    return RecordedApprovalOperator(task_id="approve", parents=["a" * 64], **{**usual, **given})


def answer(option: str = "Approve", **given: Any) -> dict[str, Any]:
    user = {"id": "7", "name": "ada"}
    usual = {"chosen_options": [option], "params_input": {}, "responded_at": AT, "responded_by_user": user}
    return {**usual, "timedout": False, **given}


def emitted(context: dict) -> Record:
    return Record.from_extra(context["outlet_events"][SHOP.approval].extra)


def test_who_has_approved_what_and_when(context) -> None:
    done = ask().execute_complete(context, answer())
    record = emitted(context)
    assert (record.id, record.parents, record.environment) == (done["record_id"], ("a" * 64,), "production")
    assert record.body == {
        "subject": "Release?", "body": "7 tests passed", "answer": "Approve", "approved": True, "approved_by": "ada",
        "user": "7", "answered_at": AT.isoformat(), "timed_out": False, "asked": [],
    }  # fmt: skip
    assert done["chosen_options"] == ["Approve"]


def test_a_rejection_that_fails_no_task_is_recorded(context) -> None:
    ask().execute_complete(context, answer("Reject"))
    assert (emitted(context).body["approved"], emitted(context).body["answer"]) == (False, "Reject")


def test_a_rejection_that_fails_the_task_is_not_emitted_by_it(context) -> None:
    with pytest.raises(HITLRejectException):
        ask(fail_on_reject=True).execute_complete(context, answer("Reject"))
    assert len(context["outlet_events"]) == 0


def test_a_default_is_nobodys_approval(context) -> None:
    ask(defaults="Approve").execute_complete(context, answer(responded_by_user=None, timedout=True))
    body = emitted(context).body
    assert (body["approved_by"], body["timed_out"], body["approved"]) == ("", True, True)


def test_what_is_shown_is_a_template_and_without_a_deliverable_nothing_is_recorded(context) -> None:
    assert {"subject", "body", "parents"} <= set(RecordedApprovalOperator.template_fields)
    done = ask(deliverable=None, environment=None).execute_complete(context, answer())
    assert done["record_id"] is None


def test_a_long_text_in_any_script_and_many_people_leave_room_in_the_record(context) -> None:
    for text in ("部署" * 9000, "\U0001f680" * 9000, "\x01" * 9000):
        people = [{"id": str(n), "name": "n" * 30} for n in range(900)]
        done = ask(subject=text, body=text, assigned_users=people).execute_complete(context, answer())
        assert done["record_id"]
        assert text.startswith(emitted(context).body["body"])
        assert len(emitted(context).body["body"]) > 600
