"""What ``airflow pipeops ledger ingest`` and ``airflow pipeops audit export`` do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow_pipeops.exceptions import PipeOpsError


def ingest_command(args: Any) -> None:
    """Take up all that is new; what is wrong ends it with one sentence and status 2."""
    from airflow_pipeops.base.configuration import index_path
    from airflow_pipeops.delivery.ledger.feeder import lock_file
    from airflow_pipeops.delivery.ledger.ingest import Ingest

    try:
        ingest = Ingest.configured()
        appended = ingest.run(lock_file(index_path()), wait=True)
    except PipeOpsError as error:
        print(f"airflow pipeops ledger ingest: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(
        f"{appended} entries were appended; the ledger at {ingest.ledger.folder} has {ingest.index.revision}."
    )


def export_command(args: Any) -> None:
    """Write an export for auditors, of a ledger that is brought up to date before.

    :param args: with ``start``, ``end`` and ``path``.
    """
    from airflow_pipeops.base.configuration import index_path
    from airflow_pipeops.delivery.ledger.export import export
    from airflow_pipeops.delivery.ledger.feeder import lock_file
    from airflow_pipeops.delivery.ledger.ingest import Ingest

    try:
        ingest = Ingest.configured()
        ingest.run(lock_file(index_path()), wait=True)
        path = Path(args.path)
        found = export(ingest.ledger, ingest.index, ingest.signer, path, start=args.start, end=args.end)
    except PipeOpsError as error:
        print(f"airflow pipeops audit export: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(
        f"{path} has the entries {found.first} to {found.last}, {found.statements} signed statements and"
        f" {found.exceptions} exceptions."
    )
