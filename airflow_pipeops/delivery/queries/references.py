"""What a person may ask for by name: a record, a commit, an image, a model's version, or what is live somewhere."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from airflow_pipeops.delivery.queries.facts import Fact, may_see, moment, select
from airflow_pipeops.delivery.queries.live import live
from airflow_pipeops.delivery.queries.restored import restored
from airflow_pipeops.delivery.queries.tracing import down
from airflow_pipeops.exceptions import InvalidInput, NotFound

_HEX = re.compile(r"[0-9a-f]{7,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLACE = re.compile(r"(?P<deliverable>[a-z][-a-z0-9]*)@(?P<environment>[a-z][-a-z0-9]*)(?:@(?P<at>.+))?")
_MODEL = re.compile(r"(?P<name>[^@:/\s]+)/(?P<version>[^@:/\s]+)")
#: Which of several records that bear a name is the one that it was born with: the first of these.
_BIRTH = (
    "commit",
    "batch",
    "dataset",
    "image",
    "training",
    "model",
    "prompt",
    "workflow",
    "change",
    "release",
)
#: So many names that something could mean are told.
_TOLD = 5

REMEDY = (
    "Give a record id, a commit, an image's digest, MODEL/VERSION, or DELIVERABLE@ENVIRONMENT, with @TIME behind it for an"
    " earlier moment; ids and commits may be shortened to seven digits."
)


@dataclass(frozen=True)
class Reference:
    """What was asked for.

    :param form: ``name`` for a whole name, ``start`` for the start of an id or commit, ``place`` for what is live.
    :param name: the name or its start.
    :param deliverable: of a place.
    :param environment: of a place.
    :param at: of a place: at this time, in place of now.
    """

    form: Literal["name", "start", "place"]
    name: str = ""
    deliverable: str = ""
    environment: str = ""
    at: str = ""


def reference(given: str) -> Reference:
    """Read what a person asks for.

    :param given: a record id, a commit, an image's digest or its name with one, ``model/version``, or
        ``deliverable@environment[@time]``.
    :return: the reference.
    :raises InvalidInput: if it is none of these.
    """
    wanted = given.strip()
    if (digest := _DIGEST.search(wanted)) and wanted.endswith(digest[0]):
        return Reference("name", digest[0])
    if _HEX.fullmatch(wanted.lower()):
        return Reference("name" if len(wanted) == 64 else "start", wanted.lower())
    if place := _PLACE.fullmatch(wanted):
        at = moment(place["at"], "REF") if place["at"] else ""
        return Reference("place", wanted, place["deliverable"], place["environment"], at)
    if _MODEL.fullmatch(wanted):
        return Reference("name", wanted)
    raise InvalidInput(f"{given[:200]!r} is no reference", field="REF", value=given[:200], remedy=REMEDY)


def resolve(
    connection: sqlite3.Connection, wanted: Reference, *, allowed: Collection[str] | None = None
) -> Fact:
    """Find the record that is meant: of several that bear a name, the one that it was born with.

    A commit means the record of the commit, and not the image or the release that was made of it.

    :param connection: to the index.
    :param wanted: what was asked for.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the record.
    :raises NotFound: if the ledger has none, or the reader may not see it.
    :raises InvalidInput: if it can mean several.
    """
    if wanted.form == "place":
        return _live(connection, wanted, allowed)
    name = wanted.name if wanted.form == "name" else _whole(connection, wanted.name, allowed)
    bearers = [found for found in _bearers(connection, name) if may_see(found.deliverable, allowed)]
    if not bearers:
        raise NotFound(f"the ledger holds nothing by the name {wanted.name}", remedy=REMEDY)
    own = [found for found in bearers if found.id == name]
    return min(own or bearers, key=_born)


def shipped(connection: sqlite3.Connection, found: Fact, *, allowed: Collection[str] | None = None) -> Fact:
    """Return what a passport of a record begins with: the newest release that was made of it, else itself.

    What has taken it back was made of it, too, and is left out.

    :param connection: to the index.
    :param found: the record.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the release, or the record.
    """
    if found.kind == "release":
        return found
    releases = down(connection, found.id, allowed=allowed).of_kind("release")
    back = restored(connection, releases)
    return max(
        (one for one in releases if one.id not in back), key=lambda one: (one.at, one.seq), default=found
    )


def _live(connection: sqlite3.Connection, wanted: Reference, allowed: Collection[str] | None) -> Fact:
    cell = live(connection, wanted.deliverable, wanted.environment, at=wanted.at, allowed=allowed)
    if cell is None:
        when = f" at {wanted.at}" if wanted.at else ""
        raise NotFound(
            f"nothing of {wanted.deliverable} is live in {wanted.environment}{when}, as far as the ledger knows",
            remedy="See airflow pipeops status for what is.",
        )
    (found,) = select(connection, "seq = :seq", {"seq": cell.seq})
    return found


def _whole(connection: sqlite3.Connection, start: str, allowed: Collection[str] | None) -> str:
    """Return the one name that starts so, of those that the reader may see."""
    rows = connection.execute(
        "SELECT name, deliverable FROM names JOIN records USING (seq) WHERE name >= ? AND name < ? LIMIT 1000",
        (start, f"{start}g"),
    )
    names = sorted({name for name, deliverable in rows if may_see(deliverable, allowed)})
    if len(names) > 1:
        raise InvalidInput(
            f"{start} is the start of several names: {', '.join(names[:_TOLD])}",
            field="REF",
            value=start,
            remedy="Give more of it.",
        )
    return names[0] if names else start


def _bearers(connection: sqlite3.Connection, name: str) -> list[Fact]:
    found = select(
        connection,
        "seq IN (SELECT seq FROM names WHERE name = :name ORDER BY seq LIMIT 1000)",
        {"name": name},
    )
    # One that is not believed has no name, but its id: whoever has it may look at it.
    return found or select(connection, "id = :name ORDER BY seq LIMIT 1", {"name": name})


def _born(found: Fact) -> tuple[int, str, int]:
    place = _BIRTH.index(found.kind) if found.kind in _BIRTH else len(_BIRTH)
    return place, found.at, found.seq
