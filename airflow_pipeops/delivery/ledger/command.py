"""What ``airflow pipeops ledger ingest`` and ``airflow pipeops audit export`` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.commands.answers import WELL, connections_of_the_database

if TYPE_CHECKING:
    from airflow_pipeops.delivery.ledger.ingest import Ingest


def ingest_command(args: Any) -> int:
    """Take up all that is new."""
    appended, ingest = _taken_up()
    print(
        f"{appended} entries were appended; the ledger at {ingest.ledger.folder} has {ingest.index.revision}."
    )
    return WELL


def export_command(args: Any) -> int:
    """Write an export for auditors, of a ledger that is brought up to date before.

    :param args: with ``start``, ``end`` and ``path``.
    :return: the code that the command ends with.
    """
    from airflow_pipeops.delivery.ledger.export import export

    with connections_of_the_database():
        _, ingest = _taken_up()
        path = Path(args.path)
        found = export(ingest.ledger, ingest.index, ingest.signer, path, start=args.start, end=args.end)
    print(
        f"{path} has the entries {found.first} to {found.last}, {found.statements} signed statements and"
        f" {found.exceptions} exceptions."
    )
    return WELL


def _taken_up() -> tuple[int | None, Ingest]:
    from airflow_pipeops.base.configuration import index_path
    from airflow_pipeops.delivery.ledger.feeder import lock_file
    from airflow_pipeops.delivery.ledger.ingest import Ingest

    with connections_of_the_database():  # the key that signs is one
        ingest = Ingest.configured()
        return ingest.run(lock_file(index_path()), wait=True), ingest
