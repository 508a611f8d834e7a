"""Ask what the remediator holds: a gate of a pipeline, or a reader of batches, asks before it goes on."""

from __future__ import annotations

from airflow_pipeops.operations.remediation.history import History, Operation, place


def held(deliverable: str, environment: str, storage_conn_id: str = "pipeops_remediation") -> str:
    """Say why nothing of a deliverable is promoted.

    :param deliverable: its name.
    :param environment: to which it would be.
    :param storage_conn_id: of the remediator's history.
    :return: the reason; empty if it may be.
    """
    return _why(_history(storage_conn_id), f"promotion {place(deliverable, environment)}")


def quarantined(batch: str, storage_conn_id: str = "pipeops_remediation") -> str:
    """Say why a batch is kept out.

    :param batch: as the finding's target named it.
    :param storage_conn_id: of the remediator's history.
    :return: the reason; empty if it is not.
    """
    return _why(_history(storage_conn_id), f"batch {batch}")


def _history(storage_conn_id: str) -> History:
    from airflow_pipeops.base.storage import StorageHook
    from airflow_pipeops.operations.remediation.journal import Journal

    return Journal(StorageHook(storage_conn_id).get_conn()).read()[1]


def _why(history: History, mark: str) -> str:
    if not (number := history.marks.get(mark)):
        return ""
    by: Operation | None = history.get(number)
    return f"operation {number}: {by.reason if by else 'its history is gone'}"
