"""May this go on? Asked by what promotes or takes in a batch; answered by the remediator, which stands above them all.

It is named and not imported: whoever holds knows what is held, and not the other way round.
"""

from __future__ import annotations

from typing import Final

from airflow_pipeops.base.arguments import function

#: Connection of the remediator's history. Where it is not configured, there is no remediator, and nothing is held.
HOLDS: Final = "pipeops_remediation"
_MARKS: Final = "airflow_pipeops.operations.remediation.marks"


def demand_promotable(deliverable: str, environment: str, storage_conn_id: str = HOLDS) -> None:
    """Refuse a promotion that is held.

    :param deliverable: its name.
    :param environment: to which it would be.
    :param storage_conn_id: of the remediator's history.
    :raises GateFailed: if it is; it says what holds it, and how to lift that.
    """
    function(f"{_MARKS}:demand_promotable", "holds")(deliverable, environment, storage_conn_id)


def demand_admitted(*batches: str, storage_conn_id: str = HOLDS) -> None:
    """Refuse a batch that is kept out.

    :param batches: the names that it has, such as its URI and that of its partition.
    :param storage_conn_id: of the remediator's history.
    :raises DataRejected: if it is; it says what keeps it out, and how to let it in.
    """
    function(f"{_MARKS}:demand_admitted", "holds")(*batches, storage_conn_id=storage_conn_id)
