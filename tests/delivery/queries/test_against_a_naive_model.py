"""Random graphs of records: each query says what a model that looks at every record says."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.queries import attention, runs, tracing
from airflow_pipeops.delivery.queries import history as of_history
from airflow_pipeops.delivery.queries import live as of_live
from airflow_pipeops.delivery.queries.references import reference, resolve
from airflow_pipeops.delivery.records import PER_ENVIRONMENT, Record
from tests.ledgers import at, entry, indexed, record, sha

NOBODY = "f" * 64
NAMES = ("delay-api", "flight-delay")
PLACES = ("production", "staging")
KINDS = ("commit", "image", "change", "release", "drift", "decision")


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """Entries whose records name earlier ones, or what nobody holds; some came late, some twice, some by hand."""
    found: list[Entry] = []
    made: list[Record] = []
    for number in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(KINDS))
        parents: list[Record | str] = []
        for parent in draw(st.lists(st.integers(-1, max(0, number - 1)), max_size=3, unique=True)):
            parents.append(made[parent] if 0 <= parent < len(made) else NOBODY)
        one = record(
            kind,
            {
                "revision": draw(st.sampled_from(("", sha("r0"), sha("r1"), sha("r2")))),
                "n": number,
                "file": "a.yaml",
                "set": {"tag": draw(st.integers(0, 1))},
                "changed": draw(st.booleans()),
            },
            *parents,
            deliverable=draw(st.sampled_from(NAMES)),
            environment=draw(st.sampled_from(PLACES)) if kind in PER_ENVIRONMENT else None,
            commit=sha(f"c{draw(st.integers(0, 4))}") if kind in ("commit", "image") else None,
            minutes=draw(st.integers(0, 6)),
        )
        made.append(one)
        by_hand = draw(st.integers(0, 5)) == 0
        changes = {"extra": {**one.to_extra(), "from_rest_api": True}, "task": None} if by_hand else {}
        found.append(entry(len(found) + 1, one, stored=at(10), **changes))
        if draw(st.integers(0, 7)) == 0:
            found.append(entry(len(found) + 1, one, stored=at(10)))
    return found


@contextmanager
def opened(entries: list[Entry]) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        connection = indexed(Path(folder) / "index.db", entries)
        try:
            yield connection
        finally:
            connection.close()


def believed(entries: list[Entry]) -> dict[str, tuple[int, Record]]:
    """What counts: what a task has emitted, each once, by id."""
    found: dict[str, tuple[int, Record]] = {}
    for one in entries:
        if one.task:
            read = Record.from_extra(one.extra)
            found.setdefault(read.id, (one.seq, read))
    return found


def place(item: tuple[int, Record]) -> tuple[str, int]:
    return item[1].at, item[0]


@given(ledgers())
@settings(max_examples=50)
def test_walks_up_and_down(entries: list[Entry]) -> None:
    known = believed(entries)
    children: dict[str, set[str]] = {}
    for ident, (_, one) in known.items():
        for parent in one.parents:
            children.setdefault(parent, set()).add(ident)

    def reached(start: str, following: object) -> dict[str, int]:
        depths, ahead, depth = {start: 0}, [start], 0
        while ahead:
            depth += 1
            ahead = list({far for near in ahead for far in following(near) if far not in depths})  # type: ignore[operator]
            depths.update(dict.fromkeys(ahead, depth))
        return depths

    def parents_of(ident: str) -> set[str]:
        return set(known[ident][1].parents) if ident in known else set()

    with opened(entries) as connection:
        for start in known:
            above = tracing.up(connection, start)
            assert {step.id: step.depth for step in above.steps} == reached(start, parents_of)
            assert {step.id for step in above.gaps} == {step.id for step in above.steps} - set(known)
            assert above.complete == (not above.gaps)
            assert set(above.edges) == {
                (step.id, parent) for step in above.steps for parent in parents_of(step.id)
            }
            below = tracing.down(connection, start)
            expected = reached(start, lambda ident: children.get(ident, set()))
            assert {step.id: step.depth for step in below.steps} == expected
            for step in (*above.steps, *below.steps):
                assert step.by == "" or (step.id in parents_of(step.by) or step.by in parents_of(step.id))
        missing = {
            (ident, parent)
            for ident, (_, one) in known.items()
            for parent in one.parents
            if parent not in known
        }
        told = tracing.gaps(connection, "", "~")
        assert {(gap.child.id, gap.parent) for gap in told} == missing
        for name in NAMES:
            own = tracing.gaps(connection, "", "~", deliverable=name)
            assert {(gap.child.id, gap.parent) for gap in own} == {
                pair for pair in missing if known[pair[0]][1].deliverable == name
            }


@given(ledgers())
@settings(max_examples=50)
def test_what_is_live_now_and_at_any_time(entries: list[Entry]) -> None:
    known = believed(entries)
    with opened(entries) as connection:
        for minutes in (None, -1, 0, 2, 3.5, 6):
            moment = "" if minutes is None else at(minutes)
            expected = {}
            for item in sorted(known.values(), key=place):
                one = item[1]
                if one.kind == "release" and (not moment or one.at <= moment):
                    expected[one.deliverable, one.environment] = one.id
            rows = of_live.matrix(connection, at=moment).items
            found = {(cell.deliverable, cell.environment): cell.release for row in rows for cell in row.cells}
            assert found == expected
            for name in NAMES:
                for where in PLACES:
                    cell = of_live.live(connection, name, where, at=moment)
                    assert (cell.release if cell else None) == expected.get((name, where))
                    if cell:
                        assert (cell.commit, cell.behind) == behind(known, cell.release, moment)
                        first, end = spell(known, cell)
                        assert runs.began(connection, cell)[0] == first
                        assert runs.ended(connection, cell) == end
                        asked = f"{name}@{where}" + (f"@{moment}" if moment else "")
                        assert resolve(connection, reference(asked)).id == cell.release


def behind(known: dict[str, tuple[int, Record]], release: str, moment: str) -> tuple[str, int | None]:
    """The nearest commit that the release was made from, and how many are newer."""
    above, ahead, name = {release}, [release], known[release][1].deliverable
    while ahead:
        commits = [
            known[ident]
            for ident in ahead
            if ident in known and known[ident][1].kind == "commit" and known[ident][1].deliverable == name
        ]
        if commits:
            born = max(commits, key=lambda item: item[0])
            break
        ahead = [
            parent
            for ident in ahead
            if ident in known
            for parent in known[ident][1].parents
            if parent not in above
        ]
        above |= set(ahead)
    else:
        return "", None
    mine = [
        item
        for item in known.values()
        if item[1].kind == "commit" and item[1].deliverable == name and (not moment or item[1].at <= moment)
    ]
    older = {item[1].commit for item in mine if place(item) <= place(born)}
    return str(born[1].commit), len({item[1].commit for item in mine} - older)


def spell(known: dict[str, tuple[int, Record]], cell: of_live.Cell) -> tuple[str, str]:
    """Since when the version of a cell is live, and until when."""

    def wanted(release: Record) -> object:
        changes = [known[one] for one in release.parents if one in known and known[one][1].kind == "change"]
        return min(changes, key=lambda item: item[0])[1].body["set"] if changes else None

    def same(one: Record, other: Record) -> bool:
        if other.body["revision"] and one.body["revision"] == other.body["revision"]:
            return True
        if wanted(one) and wanted(other):
            return wanted(one) == wanted(other)
        return other.body["changed"] is False

    releases = [
        item[1]
        for item in sorted(known.values(), key=place)
        if (item[1].kind, item[1].deliverable, item[1].environment)
        == ("release", cell.deliverable, cell.environment)
    ]
    mine = next(at for at, one in enumerate(releases) if one.id == cell.release)
    first, last = mine, mine
    while first and same(releases[first - 1], releases[first]):
        first -= 1
    while last + 1 < len(releases) and same(releases[last], releases[last + 1]):
        last += 1
    return releases[first].at, releases[last + 1].at if last + 1 < len(releases) else of_history.LAST


@given(ledgers(), st.integers(1, 4))
@settings(max_examples=50)
def test_history_by_pages(entries: list[Entry], limit: int) -> None:
    known = believed(entries)
    ordered = sorted(known.values(), key=place, reverse=True)
    asked = [
        {},
        {"deliverable": "delay-api"},
        {"deliverable": "delay-api", "environment": "production"},
        {"deliverable": "flight-delay", "kinds": ("commit", "release")},
        {"kinds": ("release", "change"), "environment": "staging"},
        {"start": at(2), "end": at(5)},
        {"deliverable": "delay-api", "start": at(1), "end": at(4)},
        {"allowed": ["flight-delay"]},
        {"deliverable": "delay-api", "environment": "production", "nowhere": True},
        {"environment": "staging", "nowhere": True},
    ]
    with opened(entries) as connection:
        for wanted in asked:
            places = {wanted.get("environment")} | ({None} if wanted.get("nowhere") else set())
            expected = [
                one.id
                for _, one in ordered
                if wanted.get("deliverable", one.deliverable) == one.deliverable
                and one.kind in wanted.get("kinds", KINDS)
                and ("environment" not in wanted or one.environment in places)
                and wanted.get("start", "") <= one.at < wanted.get("end", "~")
                and one.deliverable in wanted.get("allowed", NAMES)
            ]
            found, after = [], ""
            while True:
                page = of_history.history(connection, limit=limit, after=after, **wanted)  # type: ignore[arg-type]
                assert len(page.items) <= limit
                found += [one.id for one in page.items]
                after = page.after
                if not after:
                    break
            assert found == expected
        everything = of_history.history(connection, believed=False, limit=100)
        assert len(everything.items) == len(entries)
        assert of_history.deliverables(connection) == tuple(
            sorted({Record.from_extra(e.extra).deliverable for e in entries})
        )


JUDGED = (
    "approval", "decision", "differences", "drift", "evaluation", "failure", "incident", "release", "remediation",
    "validation",
)  # fmt: skip


@st.composite
def judgements(draw: st.DrawFn) -> list[Entry]:
    """Entries of all that may need somebody, with what answers it."""
    found: list[Entry] = []
    said = draw(st.lists(st.tuples(st.sampled_from(JUDGED), st.sampled_from(NAMES)), min_size=1, max_size=14))
    for number, (kind, name) in enumerate(said):
        somewhere = kind in PER_ENVIRONMENT or draw(st.booleans())
        one = record(
            kind,
            draw(_BODIES[kind]) | {"n": number},
            deliverable=name,
            environment=draw(st.sampled_from(PLACES)) if somewhere else None,
            minutes=draw(st.integers(0, 6)),
            task=draw(st.sampled_from(("one", "other"))),
        )
        found.append(entry(len(found) + 1, one, stored=at(10)))
    return found


def _one_of(**values: tuple[object, ...]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({name: st.sampled_from(of) for name, of in values.items()})


_APPS = ("a", "b", None)
_BODIES = {
    "approval": _one_of(approved=(True, False, None), approved_by=("ada",)),
    "decision": _one_of(action=("retrain", "investigate"), rule=("budget", "blind", "x"), needs_approval=(True, False)),
    "differences": _one_of(verdict=("clean", "different", "unknown"), app=_APPS),
    "drift": _one_of(verdict=("drift", "no drift"), drifted=(True, False, None), subject=("data", "predictions", None)),
    "evaluation": _one_of(subject=("performance", "other"), verdict=("too few labels", "steady")),
    "failure": _one_of(outcome=("refused", "failed"), of=(list(JUDGED),)),
    "incident": _one_of(app=_APPS, restored_by=("r0", "")),
    "release": _one_of(app=_APPS, revision=("r0", "r1"), health=("Healthy", "Degraded"), sync=("Synced", "OutOfSync")),
    "remediation": _one_of(state=("handed_over", "helped", "")),
    "validation": _one_of(subject=("data", "tests"), passed=(True, False, 3), shard=("1", None),
                          **{"test-result": (None, {"result": "FAILED"}, {"result": "ERROR"})}),
}  # fmt: skip


@given(judgements())
@settings(max_examples=100)
def test_what_needs_somebody(entries: list[Entry]) -> None:
    """What is judged of a few records is what is judged of all."""
    with opened(entries) as connection:
        found = attention.agenda(connection).items
        expected = [
            (item.need, item.fact.id)
            for name in NAMES
            for item in attention.needs(of_history.history(connection, deliverable=name, limit=100).items)
        ]
        assert sorted((item.need, item.fact.id) for item in found) == sorted(expected)
