"""``airflow pipeops changes`` and ``gaps``: what changed between two times, and what records name and nobody holds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.commands.answers import (
    NOT_WELL,
    WELL,
    moment_of,
    named,
    opened,
    rows,
    shown,
)
from airflow_pipeops.delivery.queries.facts import moment

if TYPE_CHECKING:
    from airflow_pipeops.delivery.queries.differences import Change
    from airflow_pipeops.delivery.queries.live import Cell


def changes_command(args: Any) -> int:
    """Say where another release is live than before; of one place, also what it is made from and what happened."""
    from airflow_pipeops.delivery.queries.differences import change, changed

    start, end = _span(args)
    deliverable, _, environment = (args.deliverable or "").partition("@")
    found: list[Change] = []
    with opened(args) as connection:
        if environment:
            found = [change(connection, deliverable, environment, start, end, limit=args.limit)]
        else:
            names, after = [deliverable] if deliverable else [], ""
            while True:
                some, after = changed(connection, start, end, names=names, after=after)
                found += some
                if not after:
                    break
    if shown({"start": start, "end": end, "items": [one.to_json() for one in found]}, args.output):
        return WELL
    table = [
        {
            "deliverable": one.deliverable,
            "environment": one.environment,
            "before": _version(one.before),
            "after": _version(one.after),
            "released": moment_of(one.after.at) if one.after else "",
            "approved by": (one.after and one.after.approved_by) or "unknown",
            "release": one.after.release[:12] if one.after else "",
        }
        for one in found
    ]
    title = f"{moment_of(start)} to {moment_of(end)}"
    rows(f"Live otherwise, {title}", table, args.output, empty="nothing was released anew or taken away")
    if environment and args.output == "table":
        (one,) = found
        for said, facts in (
            ("Made from, too", one.added),
            ("No longer made from", one.dropped),
            ("Meanwhile", one.between),
        ):
            rows(said, [named(fact) for fact in facts], args.output, empty="nothing")
        if one.more:
            print(f"More happened than {args.limit} records; raise --limit, or choose a shorter time.")
    return WELL


def gaps_command(args: Any) -> int:
    """Say which records name a parent that nobody holds, or that is not believed."""
    from airflow_pipeops.delivery.queries.tracing import gaps

    start, end = _span(args)
    with opened(args) as connection:
        found = gaps(connection, start, end, deliverable=args.deliverable or "", limit=args.limit)
    code = NOT_WELL if found else WELL
    if not shown({"start": start, "end": end, "items": [one.to_json() for one in found]}, args.output):
        table = [{**named(one.child), "names": one.parent[:12]} for one in found]
        rows("Gaps", table, args.output, empty="every record that is named is there, and believed")
    return code


def _span(args: Any) -> tuple[str, str]:
    end = (
        moment(args.end, "--to")
        if args.end
        else datetime.now(timezone.utc).isoformat(timespec="microseconds")
    )
    return moment(args.start, "--from"), end


def _version(cell: Cell | None) -> str:
    if cell is None:
        return "never released"
    return cell.version if cell.state == "live" else f"removed (was {cell.version})"
