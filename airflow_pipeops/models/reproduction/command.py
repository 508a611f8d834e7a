"""``airflow pipeops reproduce``."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.commands.answers import (
    FAILED,
    NOT_WELL,
    WELL,
    connections_of_the_database,
    opened,
    rows,
    shown,
)
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.delivery.queries.facts import Fact

_CODES = {"different": NOT_WELL, "cannot tell": FAILED}


def reproduce_command(args: Any) -> int:
    """Make a model again from its record, and say whether it is the same."""
    from airflow_pipeops.delivery.queries.references import reference, resolve
    from airflow_pipeops.models.reproduction.rebuild import reproduced

    if not args.tolerance >= 0:
        raise InvalidInput(
            f"--tolerance is {args.tolerance}",
            field="--tolerance",
            value=args.tolerance,
            remedy="Give 0 or more.",
        )
    with opened(args) as connection:
        uri, sha256 = _training_of(connection, resolve(connection, reference(args.ref)), args.ref)
    with connections_of_the_database():
        found = reproduced(uri, sha256, tolerance=args.tolerance, repository=args.checkout or "")
    code = _CODES.get(found.outcome, WELL)
    if shown({**found.to_json(), "training_uri": uri}, "json" if args.json else args.output):
        return code
    answers = [
        {"question": "Is it the same?", "answer": found.outcome},
        {"question": "Why?", "answer": found.reason},
        {"question": "Recorded", "answer": found.recorded or "unknown"},
        {"question": "Made again", "answer": found.found or "nothing"},
        *({"question": name, "answer": f"was {was}, is {now}"} for name, (was, now) in found.metrics.items()),
    ]
    rows(f"{args.ref}: {found.outcome}", answers, args.output, empty="")
    if found.differences and args.output == "table":
        told = [{"input": one.input, "recorded": one.recorded, "now": one.found} for one in found.differences]
        rows("What it was made from and is another now", told, args.output, empty="")
    return code


def _training_of(connection: sqlite3.Connection, found: Fact, ref: str) -> tuple[str, str]:
    """Find the file that says what a model was made from: in the record itself, or in what it was made from.

    :raises InvalidInput: if none of them names one.
    """
    from airflow_pipeops.delivery.queries.tracing import up

    nearest = [step.fact for step in up(connection, found.id).steps if step.fact is not None]
    for fact in [found, *nearest]:
        uri, sha256 = text(fact.body.get("training_uri")), text(fact.body.get("training_sha256"))
        if fact.kind in ("model", "training") and uri and sha256:
            return uri, sha256
    raise InvalidInput(
        f"no record of {ref} says what the model was made from",
        field="REF",
        value=ref,
        remedy="TrainModelOperator and RegisterModelOperator with a deliverable record it.",
    )
