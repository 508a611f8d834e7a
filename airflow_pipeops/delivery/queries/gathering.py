"""Read from the index what the figures are worked out of."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.facts import (
    COLUMNS,
    Fact,
    fact,
    listed,
    may_see,
    moment,
    revision_of,
    select,
)
from airflow_pipeops.delivery.queries.failing import attempts, verdicts
from airflow_pipeops.delivery.queries.figures import (
    Deployment,
    Dora,
    ModelFigures,
    Retrain,
    Share,
    dora,
    model_figures,
)
from airflow_pipeops.delivery.queries.history import LAST, history
from airflow_pipeops.delivery.queries.live import live
from airflow_pipeops.delivery.queries.runs import runs as divided
from airflow_pipeops.delivery.queries.tracing import down, up
from airflow_pipeops.exceptions import InvalidInput

#: Releases, decisions, and commits of one release that are read at most.
_RELEASES, _DECISIONS, _COMMITS = 5000, 200, 500
#: How far up from a release its commit is, and how far down from a decision its release.
_DEPTH, _WALKED = 10, 300


@dataclass(frozen=True)
class Figures(JsonForm):
    """All figures of a deliverable in an environment.

    :param deliverable: its name.
    :param environment: its name.
    :param dora: of the whole time.
    :param model: of the whole time; none if it is no model.
    :param parts: DORA's metrics of each part of the time.
    :param model_parts: the model's of each part; none if it is no model.
    :param cut: whether there were more releases than are read: then the earliest of them are left out.
    """

    deliverable: str
    environment: str
    dora: Dora
    model: ModelFigures | None
    parts: tuple[Dora, ...] = ()
    cut: bool = False
    model_parts: tuple[ModelFigures, ...] = ()


def figures(
    connection: sqlite3.Connection,
    deliverable: str,
    environment: str,
    start: str,
    end: str,
    *,
    parts: int = 1,
    allowed: Collection[str] | None = None,
) -> Figures | None:
    """Work out the figures of a deliverable in an environment.

    :param connection: to the index.
    :param deliverable: its name.
    :param environment: its name.
    :param start: of the time.
    :param end: of the time; it must be over, or be now.
    :param parts: into how many the time is divided.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the figures; none if the reader may not see it.
    :raises InvalidInput: if the time does not end after its start.
    """
    if not may_see(deliverable, allowed):
        return None
    start, end = moment(start, "start"), moment(end, "end")
    if start >= end:
        raise InvalidInput(f"the time ends at {end}, and starts at {start}", field="end", value=end)
    found, cut = deployments(connection, deliverable, environment, start)
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    edges = [moment((first + (last - first) * number / parts).isoformat()) for number in range(parts)] + [end]
    each = list(pairwise(edges)) if parts > 1 else []
    models = _models(connection, deliverable, environment, [(start, end), *each])
    return Figures(
        deliverable,
        environment,
        dora(found, start, end),
        models[0] if models else None,
        tuple(dora(found, *part) for part in each),
        cut,
        tuple(models[1:]),
    )


def deployments(
    connection: sqlite3.Connection, deliverable: str, environment: str, start: str
) -> tuple[list[Deployment], bool]:
    """Read what was deployed since a time, until today, so that what was mended later is known as mended.

    :param connection: to the index.
    :param deliverable: its name.
    :param environment: its name.
    :param start: of the time.
    :return: the deployments, the oldest first; and whether there were more than are read.
    """
    of: dict[str, Any] = {"deliverable": deliverable, "environment": environment}
    page = history(connection, **of, kinds=("release",), start=start, limit=_RELEASES)
    earlier = (
        history(connection, **of, kinds=("release",), end=start, limit=1).items if not page.after else ()
    )
    first = len(earlier)
    runs = divided(connection, [*earlier, *reversed(page.items)])
    near = _near(connection, [run[0] for run in runs])
    commits = _commits(connection, deliverable, runs, near)
    incidents = history(connection, **of, kinds=("incident", "rollback"), start=start, limit=_RELEASES).items
    failures = history(connection, **of, kinds=("failure",), start=start, limit=_RELEASES).items
    never = attempts(failures, page.items)
    failed = _failed(runs, near, incidents, never)
    found = [
        Deployment(
            run[0].id,
            run[0].at,
            commits[number],
            number in failed,
            any(_undoes(one) for one in (run[0], *near[run[0].id]) if one.kind in _ANSWERS),
        )
        for number, run in enumerate(runs)
    ]
    for number in sorted(failed):
        mended = next((at for at in range(number + 1, len(runs)) if at not in failed), None)
        if mended is not None:
            found[number] = replace(found[number], recovered=found[mended].at)
    whole = sorted(release.at for number, run in enumerate(runs) if number not in failed for release in run)
    for one in never:
        mended_at = next((at for at in whole if at > one.at), "")
        found.append(Deployment(one.id, one.at, (), failed=True, recovered=mended_at, live=False))
    return sorted(found[first:], key=lambda one: one.at), bool(page.after)


#: Kinds of record, next to a release, that say that it answers an incident.
_ANSWERS = ("release", "change", "rollback", "incident", "decision")


def _undoes(near: Fact) -> bool:
    """Whether a release, or what it was made from, undoes what was there before."""
    body = near.body
    if near.kind in ("rollback", "incident"):
        return True
    return bool(body.get("reverts") or body.get("rolled_back")) or body.get("action") == "rollback"


def _failed(
    runs: Sequence[Sequence[Fact]],
    near: dict[str, list[Fact]],
    incidents: Iterable[Fact],
    never: Iterable[Fact],
) -> set[int]:
    """Find the deployments that an incident names, that were live when one happened, or that the next one undid.

    What undoes something after a deployment that never went live undoes that one, unless it names another.
    """
    number_of = {release.id: number for number, run in enumerate(runs) for release in run}
    revisions = [revision_of(run[0]) for run in runs]
    failed = set()
    for incident in incidents:
        if incident.kind == "rollback" and incident.body.get("order"):
            # Of a model, proven by its own release. Where the bad one came around the pipeline, no deployment failed.
            undone = text(incident.body.get("reverts"))
            failed |= {number for number, revision in enumerate(revisions) if undone and revision == undone}
            continue
        named = {number_of[parent] for parent in incident.parents if parent in number_of}
        then = [
            number for number, run in enumerate(runs) if (run[0].at, run[0].seq) < (incident.at, incident.seq)
        ]
        failed |= named or set(then[-1:])
    for number, run in enumerate(runs):
        for one in (run[0], *near[run[0].id]):
            if one.kind not in ("release", "change", "rollback") or not _undoes(one) or not number:
                continue
            undone = text(one.body.get("reverts"))
            named = {at for at in range(number) if undone and revisions[at] == undone}
            if named or not any(runs[number - 1][-1].at < attempt.at < run[0].at for attempt in never):
                failed.add(max(named, default=number - 1))
    return failed


def _near(connection: sqlite3.Connection, releases: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Read what each release was made from: its parents, and theirs."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE above(release, id, depth) AS (
            SELECT value, value, 0 FROM json_each(:ids)
            UNION
            SELECT above.release, parents.parent_id, above.depth + 1 FROM above
            JOIN parents ON parents.child_id = above.id WHERE above.depth < 2
        )
        SELECT {COLUMNS}, above.release, min(above.depth) AS depth FROM above JOIN records INDEXED BY by_id
        ON records.id = above.id WHERE above.depth > 0 AND records.problem = '' GROUP BY above.release, records.seq
        ORDER BY depth, records.seq DESC
        """,
        {"ids": listed(one.id for one in releases)},
    )
    found: dict[str, list[Fact]] = defaultdict(list)
    for row in rows:
        found[row[14]].append(fact(row))
    return found


def _commits(
    connection: sqlite3.Connection,
    deliverable: str,
    runs: Sequence[Sequence[Fact]],
    near: dict[str, list[Fact]],
) -> list[tuple[str, ...] | None]:
    """Say for each deployment when the commits that it brought were made."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE above(release, id, depth) AS (
            SELECT value, value, 0 FROM json_each(:ids)
            UNION
            SELECT above.release, parents.parent_id, above.depth + 1 FROM above
            JOIN parents ON parents.child_id = above.id WHERE above.depth < {_DEPTH}
        )
        SELECT above.release, above.depth, records.at, records.seq FROM above JOIN records INDEXED BY by_id
        ON records.id = above.id WHERE records.problem = '' AND records.kind = 'commit'
        AND records.deliverable = :deliverable ORDER BY above.depth, records.seq DESC
        """,
        {"ids": listed(run[0].id for run in runs), "deliverable": deliverable},
    )
    born: dict[str, tuple[str, int]] = {}
    for release, _, at, seq in rows:
        born.setdefault(release, (at, seq))
    found: list[tuple[str, ...] | None] = []
    reached: tuple[str, int] | None = None
    for run in runs:
        mine = born.get(run[0].id)
        if mine is None:
            undone = any(_undoes(one) for one in (run[0], *near[run[0].id]) if one.kind in _ANSWERS)
            found.append(() if undone else None)
            continue
        found.append(_between(connection, deliverable, reached, mine))
        reached = max(reached, mine) if reached else mine
    return found


def _between(
    connection: sqlite3.Connection, deliverable: str, after: tuple[str, int] | None, until: tuple[str, int]
) -> tuple[str, ...]:
    """Say when the commits were made that were recorded after one and until another; of the first of all, its own alone."""
    later = "(at, seq) > (:after, :after_seq)" if after else "(at, seq) = (:until, :until_seq)"
    commits = select(
        connection,
        f"""seq IN (
            SELECT seq FROM records INDEXED BY by_kind WHERE deliverable = :deliverable AND kind = 'commit'
            AND at >= :after AND at <= :until AND {later} AND (at, seq) <= (:until, :until_seq) AND problem = ''
            ORDER BY at DESC LIMIT {_COMMITS}
        ) ORDER BY at, seq""",
        {
            "deliverable": deliverable,
            "after": after[0] if after else "",
            "after_seq": after[1] if after else 0,
            "until": until[0],
            "until_seq": until[1],
        },
    )
    made: dict[str, str] = {}
    for commit in commits:
        made.setdefault(commit.commit or commit.id, _made(commit))
    return tuple(made.values())


def _made(commit: Fact) -> str:
    """Say when a commit was committed; if it does not tell, when it was recorded."""
    try:
        return moment(text(commit.body.get("time")))
    except InvalidInput:
        return commit.at


def _models(
    connection: sqlite3.Connection, deliverable: str, environment: str, times: Sequence[tuple[str, str]]
) -> list[ModelFigures]:
    """Work out a model's figures of several times, of which the first holds the others."""
    if not history(connection, deliverable=deliverable, kinds=("model",), limit=1).items:
        return []
    kinds, (start, end) = ("evaluation", "failure"), times[0]
    judged = history(
        connection, deliverable=deliverable, kinds=kinds, start=start, end=end, limit=_RELEASES
    ).items
    decided = retrains(connection, deliverable, environment, start, end)
    newest: dict[str, str] = {}  # of the releases that were live at an end: of several, often one
    found = []
    for first, last in times:
        cell = live(connection, deliverable, environment, at=last)
        if cell and cell.release not in newest:
            data = up(connection, cell.release).made_from()
            newest[cell.release] = max((one.at for one in data), default="")
        said = verdicts(one for one in judged if first <= one.at < last)
        found.append(
            model_figures(
                decided,
                first,
                last,
                challengers=Share(said.count(False), len(said)),
                newest_data=newest[cell.release] if cell else "",
            )
        )
    return found


def retrains(
    connection: sqlite3.Connection, deliverable: str, environment: str, start: str, end: str
) -> list[Retrain]:
    """Read which retrains were started, and what came of them; the oldest first.

    :param connection: to the index.
    :param deliverable: its name.
    :param environment: where a model counts as released.
    :param start: of the time.
    :param end: of the time.
    :return: the retrains.
    """
    decided = history(
        connection, deliverable=deliverable, kinds=("decision",), start=start, end=LAST, limit=_DECISIONS
    ).items
    found = []
    for decision in reversed(decided):
        if (
            decision.body.get("action") != "retrain"
            or decision.body.get("acts") is not True
            or decision.at >= end
        ):
            continue
        moved = [
            one
            for one in up(connection, decision.id, limit=_WALKED).of_kind("drift")
            if one.body.get("drifted") is True and one.deliverable == deliverable
        ]
        came = down(connection, decision.id, limit=_WALKED)
        promoted = verdicts(came.of_kind("evaluation", "failure"))
        released = min(
            (one.at for one in came.of_kind("release") if one.environment == environment), default=""
        )
        found.append(
            Retrain(
                decision.id,
                decision.at,
                moved[0].at if moved else "",
                ("promoted" if any(promoted) else "rejected") if promoted else "",
                released,
                _helped(decided, released) if released else None,
            )
        )
    return found


def _helped(decided: Iterable[Fact], released: str) -> bool | None:
    """Whether the model was better than the one before, on the same batches, until the next retrain was decided on."""
    gains = []
    for decision in sorted(decided, key=lambda one: (one.at, one.seq)):
        if decision.at <= released:
            continue
        seen, policy = map_(decision.body.get("observation")), map_(decision.body.get("policy"))
        value, before = seen.get("performance"), seen.get("predecessor_performance")
        if isinstance(value, (int, float)) and isinstance(before, (int, float)):
            gains.append((value - before) * (1 if policy.get("higher_is_better", True) else -1))
        if decision.body.get("action") == "retrain" and decision.body.get("acts") is True:
            break
    return sum(gains) > 0 if gains else None
