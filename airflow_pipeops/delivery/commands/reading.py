"""``airflow pipeops status``, ``trace``, ``passport``, ``history`` and ``figures``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.commands.answers import (
    NOT_WELL,
    WELL,
    age,
    duration,
    moment_of,
    named,
    opened,
    rows,
    shown,
)
from airflow_pipeops.delivery.queries.facts import moment
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.delivery.queries.facts import Fact
    from airflow_pipeops.delivery.queries.figures import Dora, ModelFigures, Share, Spread
    from airflow_pipeops.delivery.queries.live import Cell

#: Deliverables that are read at once.
_PAGE = 500
#: Of figures, where nobody says how far back.
_DAYS = 90


def status_command(args: Any) -> int:
    """Say what is live everywhere, and what needs somebody."""
    from airflow_pipeops.delivery.queries.attention import agenda
    from airflow_pipeops.delivery.queries.live import matrix

    names = tuple(args.deliverable or ())
    at = moment(args.at, "--at") if args.at else ""
    with opened(args) as connection:
        cells: list[Cell] = []
        after, known = "", 0
        while True:
            page = matrix(connection, names=names, at=at, limit=_PAGE, after=after)
            known += len(page.items)
            cells += [cell for row in page.items for cell in row.cells]
            after = page.after
            if not after:
                break
        # What needed somebody at an earlier time is not what does now.
        needs = agenda(connection, names=names, limit=max(known, 1)) if not at else None
    if args.environment:
        cells = [cell for cell in cells if cell.environment == args.environment]
    asked = _asked(args, names) if not at else []
    items = [
        item
        for item in [*asked, *(item.to_json() for item in (needs.items if needs else ()))]
        if not args.environment or item["environment"] in ("", args.environment)
    ]
    code = NOT_WELL if args.check and items else WELL
    data = {"at": at, "live": [cell.to_json() for cell in cells], "needs": items}
    if shown(data, args.output):
        return code
    live = [_live(cell, at) for cell in cells]
    rows(
        "Live" + (f" at {moment_of(at)}" if at else ""),
        live,
        args.output,
        empty="nothing was released, as far as the ledger knows",
    )
    if args.output == "table" and needs is not None:
        told = [
            {**{part: item[part] for part in ("need", "deliverable", "environment")}, "for": age(item["at"]),
             "what": item["what"], "where": item["fact"]["id"][:12] if item["fact"] else "/".join(
                str(item["asked"][part]) for part in ("dag", "run", "task"))}
            for item in items
        ]  # fmt: skip
        last = f"; the last record is {age(needs.last)} old" if needs.last else ""
        rows("Needs somebody", told, args.output, empty=f"nothing{last}")
    return code


def _asked(args: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read which approvals wait, from Airflow's database; where it cannot be read, say so."""
    if args.as_it_is:
        return []
    from airflow.utils.session import create_session

    from airflow_pipeops.delivery.questions import waiting

    try:
        with create_session() as session:
            found = waiting(session)
    except Exception as error:  # whatever it is, what the ledger holds is worth reading
        print(f"Whether approvals wait is not known: {type(error).__name__}", file=sys.stderr)
        return []
    return [one for one in found if not names or one["deliverable"] in names]


def _live(cell: Cell, at: str) -> dict[str, Any]:
    when = datetime.fromisoformat(at) if at else None
    version = cell.version + (f" ({cell.alias})" if cell.alias else "")
    behind = "" if cell.behind is None else f"{cell.behind}{'+' if cell.behind >= 100 else ''}"
    return {
        "deliverable": cell.deliverable,
        "environment": cell.environment,
        "version": version if cell.state == "live" else f"removed (was {version})",
        "released": f"{age(cell.at, when)} ago",
        "health": cell.health or "unknown",
        "sync": cell.sync or "unknown",
        "behind": behind or "unknown",
        "approved by": cell.approved_by or "unknown",
        "drift": cell.drift or "unknown",
        "release": cell.release[:12],
    }


def trace_command(args: Any) -> int:
    """Walk up to what a record was made from, or down to what was made of it."""
    from airflow_pipeops.delivery.passport import line
    from airflow_pipeops.delivery.queries.references import reference, resolve
    from airflow_pipeops.delivery.queries.tracing import down, up

    with opened(args) as connection:
        start = resolve(connection, reference(args.ref))
        walk = (down if args.down else up)(connection, start.id, limit=args.limit)
    code = WELL if walk.complete else NOT_WELL
    if shown({**walk.to_json(), "complete": walk.complete}, args.output):
        return code
    if args.output == "plain":
        table = [
            {"depth": step.depth, "record": step.id, "by": step.by, "kind": step.fact.kind if step.fact else "",
             "gap": "gap" if step.gap else ""}
            for step in walk.steps
        ]  # fmt: skip
        rows("", table, "plain", empty="")
        return code
    for step in walk.steps:
        print("  " * step.depth + line(step))
    if walk.cut:
        print(f"There is more than {args.limit} records; raise --limit.")
    if walk.gaps:
        print(
            f"{len(walk.gaps)} of {len(walk.steps)} records are gaps: nobody holds them, or they are not believed."
        )
    return code


def passport_command(args: Any) -> int:
    """Say what is live somewhere, since when, made from what, approved by whom."""
    from airflow_pipeops.delivery.passport import lines, passport
    from airflow_pipeops.delivery.passport_page import page
    from airflow_pipeops.delivery.queries.references import reference, resolve, shipped

    with opened(args) as connection:
        found = passport(connection, shipped(connection, resolve(connection, reference(args.ref))))
    code = WELL if found.walk.complete else NOT_WELL
    if args.html:
        print(page(found))
        return code
    if shown(found.to_json(), "json" if args.json else args.output):
        return code
    where = f" in {found.fact.environment}" if found.fact.environment else ""
    state = {True: "live", False: "not live any more"}[found.live] if found.cell else found.fact.kind
    table = [
        {"question": one.question, "answer": one.answer, "records": " ".join(r[:12] for r in one.records[:3])}
        for one in found.answers
    ]
    rows(f"{found.fact.deliverable}{where}: {state}", table, args.output, empty="")
    if args.output == "table":
        print("\n".join(lines(found.walk)))
        if not found.walk.complete:
            print(
                f"The passport is not complete: {len(found.walk.gaps)} gaps"
                + ("; it was cut." if found.walk.cut else ".")
            )
    return code


def history_command(args: Any) -> int:
    """Say what happened, the newest first."""
    from airflow_pipeops.delivery.queries.history import FIRST, LAST, history

    place, _, environment = (args.deliverable or "").partition("@")
    with opened(args) as connection:
        found: list[Fact] = []
        after = args.after or ""
        while len(found) < args.limit:
            page = history(
                connection,
                deliverable=place,
                environment=environment or args.environment or "",
                kinds=tuple(args.kind or ()),
                start=moment(args.start, "--from") if args.start else FIRST,
                end=moment(args.end, "--to") if args.end else LAST,
                believed=not args.all,
                limit=args.limit - len(found),
                after=after,
            )
            found += page.items
            after = page.after
            if not after:
                break
    if not shown({"items": [one.to_json() for one in found], "after": after}, args.output):
        rows("History", [named(one) for one in found], args.output, empty="nothing that was recorded")
        if after and args.output == "table":
            print(f"There is more: --after '{after}'")
    return WELL


def figures_command(args: Any) -> int:
    """Say DORA's metrics of a deliverable in an environment, and those of its model."""
    from airflow_pipeops.delivery.queries.gathering import figures

    deliverable, _, environment = args.place.partition("@")
    if not deliverable or not environment:
        raise InvalidInput(
            f"{args.place!r} names no deliverable and environment",
            field="DELIVERABLE@ENVIRONMENT",
            value=args.place,
            remedy="Write for example delay-api@production; figures of several are not blended.",
        )
    now = datetime.now(timezone.utc)
    end = args.end or now.isoformat()
    start = args.start or (datetime.fromisoformat(moment(end, "--to")) - timedelta(days=_DAYS)).isoformat()
    with opened(args) as connection:
        found = figures(connection, deliverable, environment, start, end, parts=args.parts)
    assert found is not None  # everything may be seen here
    if shown(found.to_json(), args.output):
        return WELL
    title = f"{deliverable} in {environment}, {moment_of(found.dora.start)} to {moment_of(found.dora.end)}"
    table = _dora(found.dora) + (_model(found.model) if found.model else [])
    rows(title, table, args.output, empty="")
    if found.parts and args.output == "table":
        rows("Over time", [_part(part) for part in found.parts], args.output, empty="")
    return WELL


def _dora(found: Dora) -> list[dict[str, str]]:
    rate = "-" if found.per_week is None or not found.deployments else f"{found.per_week:.2f} a week"
    lead = f"{found.lead_time.count} commits; {found.unknown_commits} deployments of unknown commits"
    live = f"{found.deployments} deployments" + (
        f"; {found.never_live} never live" if found.never_live else ""
    )
    mended = f"{found.recovery_time.count} mended; {found.unrecovered} not yet"
    return [
        _figure("Change lead time", _spread(found.lead_time), lead),
        _figure("Deployment frequency", rate, live),
        _figure("Failed deployment recovery time", _spread(found.recovery_time), mended),
        _figure(
            "Change fail rate", _share(found.change_fail_rate), _of(found.change_fail_rate, "deployments")
        ),
        _figure("Deployment rework rate", _share(found.rework_rate), _of(found.rework_rate, "deployments")),
    ]


def _model(found: ModelFigures) -> list[dict[str, str]]:
    fixed = f"{found.drift_to_fix.count} fixed; {found.unfixed} not yet"
    helped = f"{_of(found.helped, 'that can be told')}; {found.retrains} retrains"
    return [
        _figure("Age of the data in production", duration(found.data_age), ""),
        _figure("From drift to a fixed model", _spread(found.drift_to_fix), fixed),
        _figure("Rejected challengers", _share(found.rejected), _of(found.rejected, "challengers")),
        _figure("Retrains that helped", _share(found.helped), helped),
    ]


def _part(found: Dora) -> dict[str, str]:
    return {
        "from": moment_of(found.start),
        "to": moment_of(found.end),
        "deployments": str(found.deployments),
        "lead time": _spread(found.lead_time),
        "recovery time": _spread(found.recovery_time),
        "failed": _of(found.change_fail_rate, ""),
        "rework": _of(found.rework_rate, ""),
    }


def _figure(name: str, value: str, of: str) -> dict[str, str]:
    return {"figure": name, "value": value, "of": of}


def _spread(found: Spread) -> str:
    return f"{duration(found.median)} (p90 {duration(found.p90)})" if found.count else "-"


def _share(found: Share) -> str:
    return "-" if found.value is None else f"{found.value:.0%}"


def _of(found: Share, what: str) -> str:
    return f"{found.count} of {found.of} {what}".strip()
