"""What a run of the demo has recorded, and incidents in it whose cause is one of its changes.

``demo.jsonl`` is the ledger of a whole run, a record a line, without evidence and without paths of the machine::

    python -m airflow_pipeops.demo --headless
    python -m tests.operations.changes.demo .demo > tests/operations/changes/demo.jsonl

The demo tells a year in less than an hour. Here its clock is slower, by one factor for all; the order, the lineage and
whatever the records say stay as they were. What is injected is only what somebody would record who sees that something is
wrong, as in the simulated histories: how it shows, and between which times it began.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.records import Record
from tests.operations.changes.histories import START, Episode, History

FILE = Path(__file__).with_name("demo.jsonl")
#: So many times slower: a minute of the demo is six hours, and its whole story nine days.
PACE = 360
#: What a deployment brings, and what an incident is said to be caused by that it has brought first.
_BROUGHT = {"model": "model", "prompt": "prompt", "commit": "code"}

#: What the ranking may call what one commit of the desired state has brought to production.
_CALLED = {
    "code": {"code", "infra"}, "model": {"model", "infra"}, "prompt": {"prompt", "code"},
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A change of the demo that can be a cause, as its records say it; nothing of the ranking has a part in it.

    :param cause: what the simulated histories call such a cause.
    :param deliverable: whose.
    :param hour: from the beginning, at which it took effect.
    :param truth: ids of the records that are it.
    """

    cause: str
    deliverable: str
    hour: float
    truth: frozenset[str]


class Injected(History):
    """The demo's history with an incident."""

    def __init__(self, change: Change | None, seed: int, pace: int) -> None:
        super().__init__(change.cause if change else "nothing", seed)
        given = told(pace)
        self.of = (
            change.deliverable if change else self.draw.choice(sorted({one.deliverable for one in given}))
        )
        self.region = "production"
        self.period = _rhythm(pace)
        onset = change.hour + self.lag(change.cause) if change else self.draw.uniform(1, _hours(given[-1]))
        self.episode.records = list(given)
        self.episode.truth = set(change.truth) if change else set()
        self.episode.kinds = _CALLED.get(self.episode.cause, set())
        self.seen(self.episode.cause, onset)
        self.episode.records.sort(key=lambda one: one.at)

    def tell(self, *given: Any, **more: Any) -> Record:
        """Record it of the deliverable that is ill."""
        return super().tell(*given, **{**more, "of": self.of})


def incidents(count: int, first: int = 0, pace: int = PACE) -> Iterator[Episode]:
    """So many histories with an incident that one of the demo's changes has caused, each kind of them in turn."""
    kinds: dict[str, list[Change]] = {}
    for one in changes(pace):
        kinds.setdefault(one.cause, []).append(one)
    for number in range(first, first + count):
        of = kinds[sorted(kinds)[number % len(kinds)]]
        yield Injected(of[number // len(kinds) % len(of)], number, pace).episode


def idle(count: int, first: int = 0, pace: int = PACE) -> Iterator[Episode]:
    """So many with an incident that nothing recorded has caused, at any time."""
    return (Injected(None, number, pace).episode for number in range(first, first + count))


def last_of_all(episode: Episode, seen: str, pace: int = PACE) -> bool:
    """Whether the change that came last in the whole demo, before it was seen, is the true cause."""
    hour = (datetime.fromisoformat(seen) - START).total_seconds() / 3600
    before = [one for one in changes(pace) if one.hour <= hour]
    return bool(before) and max(before, key=lambda one: one.hour).truth == episode.truth


@cache
def changes(pace: int = PACE) -> tuple[Change, ...]:
    """What changed in production, and the batches that came, by the records alone."""
    found: list[Change] = []
    there: set[str] = set()
    batches: dict[str, Change] = {}
    by_id = {one.id: one for one in told(pace)}
    for one in told(pace):
        if one.kind == "change" and one.environment == "production" and one.body.get("changed") is not False:
            above = _above(one, by_id)
            new = [part for part in above if part.id not in there and part.deliverable == one.deliverable]
            there |= {part.id for part in above}
            parts = [part for part in new if part.kind in ("commit", "image", "training", "model", "prompt")]
            cause = next((name for kind, name in _BROUGHT.items() if kind in {p.kind for p in parts}), "")
            cause = "reverted" if one.body.get("reverts") else cause
            if cause:
                truth = frozenset([one.id, *(part.id for part in parts)])
                found.append(Change(cause, one.deliverable, _hours(one), truth))
        elif one.kind in ("batch", "dataset") and one.body.get("digest") not in batches:
            same = [
                other.id
                for other in told(pace)
                if other.kind in ("batch", "dataset") and other.body.get("digest") == one.body["digest"]
            ]
            batches[one.body["digest"]] = Change("units", one.deliverable, _hours(one), frozenset(same))
        elif one.kind == "differences" and one.body.get("verdict") not in (None, "clean"):
            found.append(Change("by hand", one.deliverable, _hours(one), frozenset([one.id])))
    return (*found, *batches.values())


def _above(one: Record, by_id: dict[str, Record]) -> list[Record]:
    """What a record was made from, itself left out."""
    met: dict[str, Record] = {}
    ahead = list(one.parents)
    while ahead:
        name = ahead.pop()
        if name in by_id and name not in met:
            met[name] = by_id[name]
            ahead += by_id[name].parents
    return list(met.values())


def _hours(one: Record) -> float:
    return (datetime.fromisoformat(one.at) - START).total_seconds() / 3600


@cache
def _rhythm(pace: int) -> float:
    """Hours from one batch to the next, in half of the cases."""
    times = sorted(one.hour for one in changes(pace) if one.cause == "units")
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    return gaps[len(gaps) // 2]


@cache
def told(pace: int = PACE) -> tuple[Record, ...]:
    """The records of the demo, by the slower clock, with the ids that they have by it."""
    given = [json.loads(line) for line in FILE.read_text().splitlines()]
    began = min(datetime.fromisoformat(one["at"]) for one in given)
    made: dict[int, Record] = {}

    def record(place: int) -> Record:
        if place not in made:
            one = given[place]
            at = START + pace * (datetime.fromisoformat(one["at"]) - began)
            made[place] = Record(**{
                **one, "at": at.isoformat(timespec="seconds"), "parents": tuple(record(p).id for p in one["parents"]),
            })  # fmt: skip
        return made[place]

    return tuple(sorted((record(place) for place in range(len(given))), key=lambda one: one.at))


def kept(home: Path) -> Iterator[str]:
    """Make the lines of the file of a demo's ledger up to the end of its story: parents by their line, no folders."""
    story = json.loads((home / "claims.json").read_text())["records"]
    files = sorted((home / "airflow" / "pipeops" / "ledger" / "entries").rglob("*.jsonl"))
    extras = [Entry.read(line).extra for file in files for line in file.read_bytes().splitlines()]
    extras = extras[:story]
    lines = {one["id"]: place for place, one in enumerate(extras)}
    names: Iterable[str] = ("kind", "deliverable", "environment", "commit", "at", "source", "body")
    for one in extras:
        told = {name: one[name] for name in names if one[name] is not None}
        told["parents"] = [lines[parent] for parent in one["parents"] if parent in lines]
        yield json.dumps(told, sort_keys=True).replace(str(home.absolute()), "/demo")


if __name__ == "__main__":
    print("\n".join(kept(Path(sys.argv[1]))))
