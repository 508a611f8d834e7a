"""``airflow pipeops why``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.commands.answers import NOT_WELL, WELL, moment_of, opened, rows, shown
from airflow_pipeops.delivery.queries.facts import moment

if TYPE_CHECKING:
    import sqlite3

    from airflow_pipeops.operations.changes.suspects import Explanation, Symptom

#: Suspects that a table shows.
_SHOWN = 10


def why_command(args: Any) -> int:
    """Say what changed before something went wrong, and which of it is to be suspected."""
    from airflow_pipeops.operations.changes.gathering import why

    with opened(args) as connection:
        found = why(connection, args.ref, symptom=_run(connection, args))
    code = WELL if found.outcome == "likely" else NOT_WELL
    if shown(found.to_json(), "json" if args.json else args.output):
        return code
    table = [
        {
            "likely": f"{one.probability:.0%}",
            "since": moment_of(one.candidate.at),
            "kind": one.candidate.kind,
            "of": "@".join(filter(None, [one.candidate.deliverable, one.candidate.environment])),
            "what": one.candidate.what,
            "record": one.candidate.id[:12],
            "why": one.reason,
        }
        for one in found.suspects[:_SHOWN]
    ]
    rows(_title(found), table, args.output, empty="nothing is recorded that changed before")
    if args.output == "table":
        print(f"None of these: {found.none:.0%}. {found.outcome.capitalize()}: {found.reason}.")
        for place, one in enumerate(found.suspects, 1):
            if said := list(filter(None, [one.check.command, one.candidate.link])):
                what = ": ".join(filter(None, [one.candidate.what, one.check.what]))
                print(f"{place}. {what}", *said, sep="\n   ")
        if found.cut:
            print("More is recorded than was looked at.")
    return code


def _title(found: Explanation) -> str:
    asked = found.symptom
    where = f" in {asked.environment}" if asked.environment else ""
    began = f"began between {moment_of(asked.start)} and {moment_of(asked.end)}"
    return f"{asked.deliverable}{where}: {asked.what} ({asked.kind}); {began}"


def _run(connection: sqlite3.Connection, args: Any) -> Symptom | None:
    """Of a run, what Airflow's database knows of it, where that can be read; else the ledger alone answers."""
    from airflow_pipeops.operations.changes.questions import run_of, run_symptom
    from airflow_pipeops.operations.changes.runs import failed_run

    found = run_of(connection, args.ref)
    if found is None or args.as_it_is:
        return None
    try:
        run = failed_run(*found)
    except Exception as error:  # whatever it is, what the ledger holds is worth reading
        print(f"Airflow's database was not asked about the run: {type(error).__name__}", file=sys.stderr)
        return None
    if run is None:
        return None
    return run_symptom(connection, *found, moment(run.end), start=run.well, what=run.what)
