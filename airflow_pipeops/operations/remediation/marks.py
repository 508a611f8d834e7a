"""Ask what the remediator holds: a promotion, or a reader of batches, asks before it goes on."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_pipeops.delivery.holds import HOLDS
from airflow_pipeops.exceptions import DataRejected, GateFailed, NotConfigured
from airflow_pipeops.operations.remediation.history import History, Operation, place


def held(deliverable: str, environment: str, storage_conn_id: str = HOLDS) -> str:
    """Say why nothing of a deliverable is promoted.

    :param deliverable: its name.
    :param environment: to which it would be.
    :param storage_conn_id: of the remediator's history.
    :return: the reason; empty if it may be.
    """
    return _why(_history(storage_conn_id), _promotion(deliverable, environment))


def quarantined(batch: str, storage_conn_id: str = HOLDS) -> str:
    """Say why a batch is kept out.

    :param batch: as the finding's target named it; of a URI, the name of its file counts, too.
    :param storage_conn_id: of the remediator's history.
    :return: the reason; empty if it is not.
    """
    return kept_out([batch], storage_conn_id).get(batch, "")


def kept_out(batches: Iterable[str], storage_conn_id: str = HOLDS) -> dict[str, str]:
    """Say which batches are kept out.

    :param batches: as for :func:`quarantined`.
    :param storage_conn_id: of the remediator's history.
    :return: each that is -> why.
    """
    history = _history(storage_conn_id)
    found = {}
    for batch in batches:
        for name in (batch, batch.rpartition("/")[2]):
            if name and (why := _why(history, f"batch {name}")):
                found[batch] = f"{why}. {_lift(f'batch {name}')}"
                break
    return found


def demand_promotable(deliverable: str, environment: str, storage_conn_id: str = HOLDS) -> None:
    """Refuse a promotion that is held.

    :param deliverable: its name.
    :param environment: to which it would be.
    :param storage_conn_id: of the remediator's history.
    :raises GateFailed: if it is; it says what holds it, and how to lift that.
    """
    if why := held(deliverable, environment, storage_conn_id):
        raise GateFailed(
            f"nothing of {deliverable} is promoted to {environment}: {why}",
            remedy=f"{_lift(_promotion(deliverable, environment))}; then clear this task.",
        )


def demand_admitted(*batches: str, storage_conn_id: str = HOLDS) -> None:
    """Refuse a batch that is kept out.

    :param batches: the names that it has, such as its URI and that of its partition.
    :param storage_conn_id: of the remediator's history.
    :raises DataRejected: if it is; it says what keeps it out, and how to let it in.
    """
    for batch, why in kept_out(batches, storage_conn_id).items():
        raise DataRejected(f"the batch {batch} is kept out: {why}")


def _promotion(deliverable: str, environment: str) -> str:
    return f"promotion {place(deliverable, environment)}"


def _lift(mark: str) -> str:
    return f"Once you have looked into it, lift it: airflow pipeops remediation --reset '{mark}'"


def _history(storage_conn_id: str) -> History:
    from airflow_pipeops.base.storage import StorageHook
    from airflow_pipeops.operations.remediation.journal import Journal

    try:
        root = StorageHook(storage_conn_id).get_conn()
    except NotConfigured:
        if storage_conn_id != HOLDS:
            raise
        return History()
    return Journal(root).read()[1]


def _why(history: History, mark: str) -> str:
    if not (number := history.marks.get(mark)):
        return ""
    by: Operation | None = history.get(number)
    return f"operation {number}: {f'{by.reason} (rule {by.rule!r}, since {by.acted})' if by else 'its history is gone'}"
