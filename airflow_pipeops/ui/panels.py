"""The API of the page: for each panel one bounded question to the index of the ledger, behind Airflow's access control."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, HTTPException, Query, Response
from sqlalchemy.orm import Session

from airflow_pipeops.delivery import passport as passports
from airflow_pipeops.delivery.queries import (
    attention,
    gathering,
    history,
    live,
    recorded,
    references,
    timeline,
)
from airflow_pipeops.delivery.queries.facts import moment
from airflow_pipeops.delivery.questions import waiting
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.changes import gathering as changes
from airflow_pipeops.ui.access import ASSETS, Asked, AskedDep
from airflow_pipeops.ui.commits import pages
from airflow_pipeops.ui.contents import checkpoint, contents, proof

Name = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000)]

router = APIRouter(prefix="/api", dependencies=[ASSETS])


@router.get("/state")
def state(asked: AskedDep, session: SessionDep) -> Response:
    """Say whether anything is new: the one question that an open page repeats."""
    questions = _sign(_waiting(asked, session))

    def work() -> dict[str, Any]:
        newest = history.history(asked.connection, allowed=asked.allowed, limit=1).items
        return {"revision": asked.revision, "waiting": questions, "at": newest[0].at if newest else ""}

    return asked.answer(work, questions)


@router.get("/now")
def now(asked: AskedDep, session: SessionDep, after: Name = "") -> Response:
    """Say what needs a person."""
    questions = _waiting(asked, session)

    def work() -> dict[str, Any]:
        found = attention.agenda(asked.connection, allowed=asked.allowed, after=after)
        newest = history.history(asked.connection, allowed=asked.allowed, limit=1).items
        needs = [] if after else list(questions)
        return {
            "revision": asked.revision,
            "needs": [*needs, *(item.to_json() for item in found.items)],
            "at": newest[0].at if newest else "",
            "after": found.after,
            "hidden": bool(asked.hidden or asked.closed),
        }

    return asked.answer(work, _sign(questions))


@router.get("/deliverables")
def deliverables(asked: AskedDep, limit: Limit = 1000, after: Name = "") -> Response:
    """Name the deliverables."""

    def work() -> dict[str, Any]:
        found = history.deliverables(asked.connection, allowed=asked.allowed, limit=limit + 1, after=after)
        return {"items": found[:limit], "after": found[limit - 1] if len(found) > limit else ""}

    return asked.answer(work)


@router.get("/matrix")
def matrix(asked: AskedDep, limit: Limit = 100, after: Name = "", at: Name = "") -> Response:
    """Say what is live of every deliverable."""
    return asked.answer(
        lambda: {
            **live.matrix(
                asked.connection, at=moment(at) if at else "", allowed=asked.allowed, limit=limit, after=after
            ).to_json(),
            "partly": sorted(asked.partly)[:1000],
        }
    )


@router.get("/passport/{ref:path}")
def passport(asked: AskedDep, ref: str) -> Response:
    """Say what something was made from."""
    note = checkpoint()
    return asked.answer(lambda: _passport(asked, ref, note), hashlib.sha256(note.encode()).hexdigest()[:12])


@router.get("/history")
def facts(
    asked: AskedDep,
    deliverable: Name = "",
    environment: Name = "",
    kinds: Name = "",
    start: Name = "",
    end: Name = "",
    limit: Limit = 100,
    after: Name = "",
) -> Response:
    """Say what happened, the newest first, with what is not believed; what happens in no environment counts for each."""
    return asked.answer(
        lambda: history.history(
            asked.connection,
            deliverable=deliverable,
            environment=environment,
            nowhere=True,
            kinds=[kind for kind in kinds.split(",") if kind],
            start=moment(start, "start") if start else history.FIRST,
            end=moment(end, "end") if end else history.LAST,
            believed=False,
            allowed=asked.allowed,
            limit=limit,
            after=after,
        ).to_json()
    )


@router.get("/before")
def before(
    asked: AskedDep,
    moment_: Annotated[str, Query(alias="moment", max_length=100)],
    deliverable: Name = "",
    environment: Name = "",
    limit: Limit = 20,
    after: Name = "",
) -> Response:
    """Say what changed before a moment."""
    return asked.answer(
        lambda: history.before(
            asked.connection,
            moment(moment_, "moment"),
            deliverable=deliverable,
            environment=environment,
            allowed=asked.allowed,
            limit=limit,
            after=after,
        ).to_json()
    )


@router.get("/why/{ref:path}")
def why(asked: AskedDep, ref: str) -> Response:
    """Say what of that which changed before something went wrong is to be suspected."""
    return asked.answer(lambda: _why(asked, ref))


@router.get("/data")
def data(asked: AskedDep, deliverable: Name = "", limit: Limit = 200) -> Response:
    """Say how far the data of a deliverable are from their reference, how good its model is, and what was decided."""
    return asked.answer(lambda: _data(asked, deliverable, limit))


@router.get("/figures")
def figures(
    asked: AskedDep,
    deliverable: Name,
    environment: Name = "",
    days: Annotated[int, Query(ge=1, le=3660)] = 90,
) -> Response:
    """Count what was delivered."""
    # Of whole hours, so that the answer stays the same for a while.
    end = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return asked.answer(lambda: _figures(asked, deliverable, environment, end, days), end.isoformat())


@router.get("/records")
def records(
    asked: AskedDep,
    dag: Name,
    run: Name = "",
    task: Name = "",
    map_index: Annotated[int, Query(alias="map", ge=-1)] = -1,
    limit: Limit = 100,
    after: Name = "",
) -> Response:
    """Say what a DAG, one of its runs or a task has recorded."""
    if dag in asked.hidden:
        raise HTTPException(403, f"You may not read the DAG {dag!r}.")
    # Each is shown for itself, as the DAG's: nothing is put together from what others have recorded.
    allowed = asked.open if dag in asked.readable else asked.allowed
    return asked.answer(
        lambda: recorded.recorded(
            asked.connection,
            dag,
            run=run,
            task=task,
            map_index=map_index,
            allowed=allowed,
            limit=limit,
            after=after,
        ).to_json()
    )


def _waiting(asked: Asked, session: Session) -> list[dict[str, Any]]:
    return [one for one in waiting(session, asked.hidden) if one["deliverable"] not in asked.closed]


def _sign(questions: list[dict[str, Any]]) -> str:
    """Return what changes when any question comes or goes."""
    told = [(one["asked"], one["at"]) for one in questions]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12] if told else "0"


def _passport(asked: Asked, ref: str, note: str) -> dict[str, Any]:
    connection, allowed = asked.connection, asked.allowed
    wanted = references.reference(ref)
    start = references.resolve(connection, wanted, allowed=allowed)
    found = passports.passport(connection, start, allowed=allowed)
    facts = [step.fact for step in found.walk.steps if step.fact is not None]
    return {
        "asked": ref,
        "walk": found.walk.to_json(),
        "cell": found.cell.to_json() if found.cell else None,
        "live": found.live,
        "since": found.since,
        "until": found.until,
        "previous": found.before.release if found.before else "",
        "answers": [answer.to_json() for answer in found.answers],
        "commits": pages(facts),
        **contents(connection, facts),
        "proof": proof(start.seq, note),
    }


def _why(asked: Asked, ref: str) -> dict[str, Any]:
    try:
        found = changes.why(asked.connection, ref, allowed=asked.allowed)
    except (
        InvalidInput
    ) as error:  # it is a record of what did not go wrong, which is no error of whoever looks at it
        return {"explanation": None, "reason": str(error)}
    return {"explanation": found.to_json(), "reason": ""}


def _data(asked: Asked, deliverable: str, limit: int) -> dict[str, Any]:
    connection, allowed = asked.connection, asked.allowed
    if not deliverable:
        page = history.history(connection, kinds=["drift", "evaluation"], allowed=allowed, limit=1)
        return {"measured": page.items[0].deliverable if page.items else ""}
    kept = history.history(
        connection, deliverable=deliverable, kinds=["drift", "validation"], allowed=allowed, limit=50
    ).items
    return {
        "drift": [
            one.to_json() for one in timeline.drift(connection, deliverable, allowed=allowed, limit=limit)
        ],
        "performance": [
            one.to_json()
            for one in timeline.performance(connection, deliverable, allowed=allowed, limit=limit)
        ],
        "decisions": [
            one.to_json() for one in timeline.decisions(connection, deliverable, allowed=allowed, limit=limit)
        ],
        "reports": [fact.to_json() for fact in kept if fact.evidence and fact.dag not in asked.hidden],
    }


def _figures(asked: Asked, deliverable: str, environment: str, end: datetime, days: int) -> dict[str, Any]:
    rows = live.matrix(asked.connection, names=[deliverable], allowed=asked.allowed).items
    places = [cell.environment for row in rows for cell in row.cells]
    # The last of them that says so, else the last: what is shipped to people.
    chosen = environment or next(
        (name for name in places if name.startswith("prod")), places[-1] if places else ""
    )
    found = None
    if chosen:
        start = (end - timedelta(days=days)).isoformat()
        found = gathering.figures(
            asked.connection, deliverable, chosen, start, end.isoformat(), parts=6, allowed=asked.allowed
        )
    return {"environments": places, "environment": chosen, "figures": found.to_json() if found else None}
