"""What is live: per deliverable and environment, now or at a time."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.base.documents import text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.conditions import NEWEST, conditions, drift
from airflow_pipeops.delivery.queries.facts import Fact, Page, listed, may_see, revision_of, select
from airflow_pipeops.delivery.queries.history import LAST, deliverables
from airflow_pipeops.delivery.queries.restored import restored

#: How far up from a release its model, image, commit and approval are looked for.
_DEPTH = 10
#: Commits that are counted at most.
_BEHIND = 100
#: Moves of aliases that are looked at, of each kind that tells of one.
_ALIASES = 20
#: What is looked for among what a release was made from.
_TELLING = ("model", "image", "commit", "approval", "decision")
#: What is read of their bodies.
_FACTS = ("version", "name", "reference", "image", "commit", "approved", "approved_by")
#: Whether a change has emptied its place.
TAKES_AWAY = "(content ->> '$.body.uninstalled' = 1 OR content ->> '$.body.action' = 'deleted')"


@dataclass(frozen=True)
class Cell(JsonForm):
    """What is live of a deliverable in an environment.

    :param deliverable: its name.
    :param environment: its name.
    :param state: ``live``, or ``removed`` where a later change has taken it away.
    :param release: id of the release record.
    :param seq: its number in the ledger.
    :param at: when it was released, in UTC.
    :param version: as people know it: a model's version, an image's tag, or a short commit.
    :param alias: of a model's version, as the newest records of its aliases tell; several parted by commas.
    :param alias_at: when the newest of them was moved there: a registry may have moved it since.
    :param version_of: ``model``, ``image``, ``commit`` or ``revision``: of what.
    :param revision: of the desired state.
    :param health: as the newest record tells it: the release, or an incident since then; empty for unknown.
    :param health_at: when that was.
    :param sync: as the newest record tells it: the release, or a comparison with the desired state since then; empty for
        unknown.
    :param sync_at: when that was.
    :param commit: that it was born from; empty for unknown.
    :param behind: commits that were recorded after that one and are not live here; none if nobody can tell. 100 means
        as many or more.
    :param approved_by: who agreed; empty for unknown or nobody.
    :param approval: id of the record that says so.
    :param drift: verdict of the newest comparison of its data; empty if there is none.
    :param drift_at: when that was.
    :param url: of the controller's page.
    :param app: as the controller calls it.
    """

    deliverable: str
    environment: str
    state: str
    release: str
    seq: int
    at: str
    version: str = ""
    version_of: str = ""
    alias: str = ""
    alias_at: str = ""
    revision: str = ""
    health: str = ""
    health_at: str = ""
    sync: str = ""
    sync_at: str = ""
    commit: str = ""
    behind: int | None = None
    approved_by: str = ""
    approval: str = ""
    drift: str = ""
    drift_at: str = ""
    url: str = ""
    app: str = ""


@dataclass(frozen=True)
class Row(JsonForm):
    """What is live of a deliverable.

    :param deliverable: its name.
    :param cells: one for each environment that it was released to.
    """

    deliverable: str
    cells: tuple[Cell, ...] = ()


def matrix(
    connection: sqlite3.Connection,
    *,
    names: Sequence[str] = (),
    at: str = "",
    allowed: Collection[str] | None = None,
    limit: int = 100,
    after: str = "",
) -> Page[Row]:
    """Say what is live of every deliverable.

    :param connection: to the index.
    :param names: of these deliverables alone.
    :param at: at this time, in place of now.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: deliverables of a page.
    :param after: what the page before said.
    :return: a page, in the order of the alphabet.
    """
    if names:
        known = sorted(name for name in set(names) if may_see(name, allowed) and name > after)[: limit + 1]
    else:
        known = list(deliverables(connection, allowed=allowed, limit=limit + 1, after=after))
    more, known = len(known) > limit, known[:limit]
    cells: dict[str, list[Cell]] = defaultdict(list)
    for cell in _cells(connection, _releases(connection, known, at), at or LAST):
        cells[cell.deliverable].append(cell)
    return Page(tuple(Row(name, tuple(cells[name])) for name in known), known[-1] if more else "")


def live(
    connection: sqlite3.Connection,
    deliverable: str,
    environment: str,
    *,
    at: str = "",
    allowed: Collection[str] | None = None,
) -> Cell | None:
    """Say what is live of a deliverable in an environment.

    :param connection: to the index.
    :param deliverable: its name.
    :param environment: its name.
    :param at: at this time, in place of now.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the cell; none if nothing was released there.
    """
    if not may_see(deliverable, allowed):
        return None
    found = [one for one in _releases(connection, [deliverable], at) if one.environment == environment]
    return next(iter(_cells(connection, found, at or LAST)), None)


def cell_of(connection: sqlite3.Connection, release: Fact) -> Cell:
    """Say what was live right after a release."""
    return _cells(connection, [release], release.at)[0]


def _releases(connection: sqlite3.Connection, names: Sequence[str], at: str) -> list[Fact]:
    """Read the release that is live in each environment of each of these deliverables."""
    given = {"names": json.dumps(list(names)), "at": at or LAST}
    if not at:
        where = "seq IN (SELECT seq FROM live WHERE deliverable IN (SELECT value FROM json_each(:names)))"
    else:
        where = """seq IN (
            SELECT (
                SELECT seq FROM records AS past INDEXED BY by_place
                WHERE past.deliverable = live.deliverable AND past.environment = live.environment
                AND past.kind = 'release' AND past.at <= :at AND past.problem = ''
                ORDER BY past.at DESC, past.seq DESC LIMIT 1
            ) FROM live WHERE live.deliverable IN (SELECT value FROM json_each(:names))
        )"""
    return select(connection, f"{where} ORDER BY deliverable, environment", given)


def _cells(connection: sqlite3.Connection, releases: Sequence[Fact], end: str) -> list[Cell]:
    if not releases:
        return []
    back = restored(connection, releases)
    born_of = {one.id: origin for one in releases if (origin := back.get(one.id, one)) is not None}
    above = _made_from(connection, born_of.values())
    made_from = {one.id: above[born_of[one.id].id] if one.id in born_of else [] for one in releases}
    taken = _taken_away(connection, releases, end)
    names = {one.deliverable for one in releases}
    after = "~" if end == LAST else end + "~"  # up to the time itself
    drifts = _drifts(connection, names, after)
    cells = {release.id: _cell(release, made_from[release.id]) for release in releases}
    born = {
        ident: commit
        for ident, cell in cells.items()
        if ident not in taken and (commit := _born(made_from[ident], cell.deliverable))
    }
    behind = _behind(connection, born, after)
    now = conditions(connection, releases, after)
    aliases = _aliases(
        connection, {cell.deliverable for cell in cells.values() if cell.version_of == "model"}, after
    )
    found = []
    for ident, cell in cells.items():
        verdict, drift_at = drifts.get(cell.deliverable, ("", ""))
        named = aliases.get((cell.deliverable, cell.version), {})
        found.append(
            replace(
                cell,
                state="removed" if ident in taken else "live",
                behind=behind.get(ident),
                drift=verdict,
                drift_at=drift_at,
                alias=", ".join(sorted(named)),
                alias_at=max(named.values(), default=""),
                **vars(now[ident]),
            )
        )
    return found


def _drifts(connection: sqlite3.Connection, names: Iterable[str], end: str) -> dict[str, tuple[str, str]]:
    """Read the verdict of the newest comparisons of each deliverable's data, and its time."""
    rows = connection.execute(
        f"""
        SELECT found.seq, found.deliverable, found.environment, at,
            json_extract(content, '$.body.subject', '$.body.verdict', '$.body.drifted')
        FROM json_each(:names) AS name JOIN sorts ON sorts.deliverable = name.value AND sorts.kind = 'drift'
        JOIN records AS found ON found.seq = {NEWEST.format(where="1")} ORDER BY at DESC, found.seq DESC
        """,
        {"names": listed(names), "end": end},
    )
    facts: dict[str, list[Fact]] = defaultdict(list)
    for seq, name, environment, at, told in rows:
        body = dict(zip(("subject", "verdict", "drifted"), json.loads(told), strict=True))
        facts[name].append(Fact(seq, "", "drift", name, environment, at=at, body=body))
    said = {name: drift(those) for name, those in facts.items()}
    return {name: (text(one.body.get("verdict")), one.at) for name, one in said.items() if one is not None}


def _aliases(
    connection: sqlite3.Connection, names: Collection[str], end: str
) -> dict[tuple[str, str], dict[str, str]]:
    """Read what the aliases of models name, and since when, by the deliverable and the version as people know it."""
    rows = connection.execute(
        f"""
        SELECT deliverable, coalesce(content ->> '$.body.name', content ->> '$.body.model'), content ->> '$.body.alias',
            content ->> '$.body.version', at
        FROM json_each(:names) AS name, json_each('["alias", "rollback"]') AS kind JOIN records ON seq IN (
            SELECT seq FROM records AS found INDEXED BY by_kind WHERE found.deliverable = name.value
            AND found.kind = kind.value AND found.at < :end AND found.problem = ''
            ORDER BY found.at DESC, found.seq DESC LIMIT {_ALIASES}
        ) WHERE content ->> '$.body.alias' IS NOT NULL ORDER BY at DESC, seq DESC
        """,
        {"names": listed(names), "end": end},
    )
    moved: dict[tuple[str, str, str], tuple[str, str]] = {}
    for deliverable, model, alias, version, at in rows:
        moved.setdefault((deliverable, text(model), text(alias)), (text(version), at))
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for (deliverable, model, alias), (version, at) in moved.items():
        found[deliverable, f"{model} {version}"][alias] = at
    return found


def _born(above: Iterable[Fact], deliverable: str) -> Fact | None:
    """Return the nearest commit of a deliverable among what a release was made from."""
    return next((one for one in above if one.kind == "commit" and one.deliverable == deliverable), None)


def _made_from(connection: sqlite3.Connection, releases: Iterable[Fact]) -> dict[str, list[Fact]]:
    """Read the telling records that each release was made from, the nearest first; of their bodies, what tells alone."""
    ids = [one.id for one in releases]
    parents = _parents(connection, ids)
    telling = _telling(connection, parents)
    found: dict[str, list[Fact]] = {}
    for ident in ids:
        above, ahead, near = {ident}, [ident], found.setdefault(ident, [])
        for _ in range(_DEPTH):
            ahead = list(dict.fromkeys(up for one in ahead for up in parents[one] if up not in above))
            if not ahead:
                break
            above.update(ahead)
            near += sorted((telling[one] for one in ahead if one in telling), key=lambda one: -one.seq)
    return found


def _parents(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Read what records were made from, and what those were, a step at a time: many releases share what is above them."""
    found: dict[str, list[str]] = {}
    ahead = set(ids)
    for _ in range(_DEPTH):
        found |= {one: [] for one in ahead}
        for child, parent in connection.execute(
            "SELECT child_id, parent_id FROM parents WHERE child_id IN (SELECT value FROM json_each(?))",
            (listed(ahead),),
        ):
            found[child].append(parent)
        ahead = {parent for one in ahead for parent in found[one]} - found.keys()
        if not ahead:
            break
    return found | {one: [] for one in ahead}


def _telling(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Fact]:
    """Read those of these records that tell something of a release."""
    paths = ", ".join(f"'$.body.{name}'" for name in _FACTS)
    rows = connection.execute(
        f"""
        SELECT seq, id, kind, deliverable, environment, commit_sha, at, json_extract(content, {paths}, '$.parents')
        FROM records INDEXED BY by_id WHERE id IN (SELECT value FROM json_each(:ids)) AND problem = ''
        AND kind IN (SELECT value FROM json_each(:kinds))
        """,
        {"ids": listed(ids), "kinds": listed(_TELLING)},
    )
    found: dict[str, Fact] = {}
    for row in rows:
        *values, parents = json.loads(row[7])
        body = {name: value for name, value in zip(_FACTS, values, strict=True) if value is not None}
        above = tuple(map(text, parents)) if isinstance(parents, list) else ()
        found[row[1]] = Fact(row[0], row[1], row[2], row[3], row[4], row[5], row[6], body=body, parents=above)
    return found


def _cell(release: Fact, above: Sequence[Fact]) -> Cell:
    body = release.body
    mine = [one for one in above if one.deliverable == release.deliverable]
    version, version_of = version_in(release, mine)
    commit = _born(mine, release.deliverable)
    by, approval = _approved(release, mine)
    return Cell(
        release.deliverable,
        release.environment,
        "live",
        release.id,
        release.seq,
        release.at,
        version=version,
        version_of=version_of,
        revision=revision_of(release),
        commit=(commit.commit or text(commit.body.get("commit"))) if commit else "",
        approved_by=by,
        approval=approval,
        url=text(body.get("url")),
        app=text(body.get("app")),
    )


def version_in(release: Fact, above: Iterable[Fact]) -> tuple[str, str]:
    """Name the version of a release as people know it.

    :param release: the release.
    :param above: what it was made from, the nearest first.
    :return: the version, and of what it is.
    """
    for one in above:
        body = one.body
        if one.kind == "model" and body.get("version"):
            return f"{text(body.get('name')) or one.deliverable} {body['version']}", "model"
        if one.kind == "image":
            tag = _tag(text(body.get("reference")) or text(body.get("image")))
            if tag:
                return (tag[:7] if is_sha(tag) else tag), "image"
            if one.commit:
                return one.commit[:7], "commit"
        if one.kind == "commit" and (one.commit or body.get("commit")):
            return (one.commit or str(body["commit"]))[:7], "commit"
    if version := text(release.body.get("chart_version")):
        return version, "chart"
    revision = revision_of(release)
    return (revision[:7] if is_sha(revision) else revision[:40]), "revision"


def _tag(reference: str) -> str:
    name = reference.partition("@")[0]
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag


def _approved(release: Fact, above: Sequence[Fact]) -> tuple[str, str]:
    """Say who agreed to a release: to it, in its environment or in any; not to another, and not to a retrain."""
    decided = {one.id for one in above if one.kind == "decision"}
    for one in above:
        mine = one.environment == release.environment or not (one.environment or decided & set(one.parents))
        given: Any = one.body.get("approved_by")
        if one.kind == "approval" and mine and given and one.body.get("approved") is True:
            return ", ".join(map(str, given)) if isinstance(given, list) else str(given), one.id
    return "", ""


#: What :func:`_taken_away` needs to know of a release.
_PLACED = ("id", "deliverable", "environment", "at", "seq")


def _taken_away(connection: sqlite3.Connection, releases: Sequence[Fact], end: str) -> set[str]:
    """Find the releases that a later change of their environment has taken away."""
    rows = connection.execute(
        f"""
        SELECT release.value ->> 'id' FROM json_each(:releases) AS release WHERE EXISTS (
            SELECT 1 FROM records INDEXED BY by_place
            WHERE deliverable = release.value ->> 'deliverable' AND environment = release.value ->> 'environment'
            AND kind = 'change' AND at >= release.value ->> 'at' AND at <= :end AND problem = ''
            AND seq > release.value ->> 'seq' AND {TAKES_AWAY}
        )
        """,
        {
            "releases": json.dumps([{name: getattr(one, name) for name in _PLACED} for one in releases]),
            "end": end,
        },
    )
    return {row[0] for row in rows}


def _behind(connection: sqlite3.Connection, born: Mapping[str, Fact], end: str) -> dict[str, int]:
    """Count the commits that are newer than the one that each release was born from.

    :param connection: to the index.
    :param born: id of a release -> its commit.
    :param end: before this time.
    :return: the number of commits, by the id of the release.
    """
    given = [
        {"release": release, "deliverable": one.deliverable, "at": one.at, "seq": one.seq}
        for release, one in born.items()
    ]
    rows = connection.execute(
        f"""
        SELECT born.value ->> 'release', (
            SELECT count(DISTINCT commit_sha) FROM (
                SELECT commit_sha FROM records AS later INDEXED BY by_kind
                WHERE deliverable = born.value ->> 'deliverable' AND kind = 'commit' AND problem = ''
                AND at >= born.value ->> 'at' AND at < :end AND (at, seq) > (born.value ->> 'at', born.value ->> 'seq')
                AND NOT EXISTS (
                    SELECT 1 FROM records AS known INDEXED BY by_commit WHERE known.commit_sha = later.commit_sha
                    AND known.deliverable = later.deliverable AND known.kind = 'commit' AND known.problem = ''
                    AND (known.at, known.seq) <= (born.value ->> 'at', born.value ->> 'seq')
                ) ORDER BY at LIMIT {_BEHIND}
            )
        ) FROM json_each(:born) AS born
        """,
        {"born": json.dumps(given), "end": end},
    )
    return dict(rows.fetchall())
