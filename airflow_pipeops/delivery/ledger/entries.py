"""One entry of the ledger: an asset event as Airflow stored it, and what is to be thought of the record in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.records import STAMPS, emitted_elsewhere, identity, placed_by
from airflow_pipeops.exceptions import InvalidInput

#: What an event carries beyond this is no record, and is kept as its digest only.
_MAX_EXTRA = 64 * 1024
#: The clocks of workers may differ by so much.
_AHEAD = timedelta(minutes=5)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry(JsonForm):
    """An asset event.

    :param seq: its number in the ledger, from 1; 0 as long as it has none.
    :param event: its id in Airflow's database.
    :param name: of the asset.
    :param uri: of the asset.
    :param stored: when Airflow stored it, as an ISO-8601 UTC time.
    :param extra: what it carries.
    :param dag: that emitted it, as Airflow knows it; none if no task did.
    :param run: of that DAG.
    :param task: of that DAG.
    :param map_index: of that task.
    :param partition: the event's key.
    """

    seq: int
    event: int
    name: str
    uri: str
    stored: str
    extra: Mapping[str, Any]
    dag: str | None = None
    run: str | None = None
    task: str | None = None
    map_index: int | None = None
    partition: str | None = None

    @property
    def belongs(self) -> bool:
        """Whether it is for the ledger: a record, or whatever was posted by hand on an asset of a deliverable."""
        if text(self.extra.get("schema")).startswith("pipeops/"):
            return True
        return bool(self.extra.get("from_rest_api")) and self.uri.startswith("pipeops://")

    @property
    def manual(self) -> bool:
        """Whether somebody posted it, in place of a task that emitted it."""
        return bool(self.extra.get("from_rest_api")) or not self.task

    def numbered(self, seq: int) -> Entry:
        """Return it with its number, and with what is kept of what it carries.

        :param seq: its number.
        :return: the entry.
        """
        return replace(self, seq=seq, extra=_kept(self.extra))

    def line(self) -> bytes:
        """Return the line that stands for it in the ledger, without its end; the same for the same event, always."""
        return _dumped(self.to_json())

    @classmethod
    def read(cls, line: bytes) -> Entry:
        """Read a line of the ledger.

        :param line: without its end.
        :return: the entry.
        :raises InvalidInput: if it is none.
        """
        try:
            return cls.from_json(parsed(line))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"a line of the ledger cannot be read: {error}", field="ledger") from error

    @classmethod
    def seen(cls, line: bytes, seq: int) -> Entry:
        """Read a line, whatever it is.

        :param line: without its end.
        :param seq: its place, where the line itself does not say.
        :return: the entry; one that holds nothing where the line is none.
        """
        try:
            return cls.read(line).numbered(seq)
        except InvalidInput:
            return cls(seq, -seq, "", "", "", {"unreadable": "its line in the ledger"})


@dataclass(frozen=True)
class Judged:
    """What an entry says, and whether it is to be believed.

    :param id: of the record; empty where there is none.
    :param kind: of the record, perhaps one that only later versions know.
    :param deliverable: that it is about.
    :param environment: where it happened; empty for what happens nowhere.
    :param commit: that it was born from.
    :param at: when, as an ISO-8601 UTC time.
    :param parents: ids of the records that it was made from.
    :param names: by which a person may ask for it.
    :param problem: why it is not believed; empty if it is.
    """

    id: str = ""
    kind: str = ""
    deliverable: str = ""
    environment: str = ""
    commit: str = ""
    at: str = ""
    parents: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())
    problem: str = ""


def judged(entry: Entry, accepted: frozenset[str] = frozenset()) -> Judged:
    """Judge an entry by itself alone.

    :param accepted: names or URIs of assets on which events may be posted by hand.
    :return: what it says; whatever it holds, nothing is raised.
    """
    extra = entry.extra
    parents = extra.get("parents")
    at = utc(text(extra.get("at")))
    found = Judged(
        id=_named(extra.get("id")),
        kind=_named(extra.get("kind")),
        deliverable=_named(extra.get("deliverable")) or _owner(entry.uri),
        environment=_named(extra.get("environment")),
        commit=_named(extra.get("commit")),
        at=at or entry.stored,
        parents=tuple(filter(None, map(_named, parents))) if isinstance(parents, list) else (),
        problem=_problem(entry, at, accepted),
    )
    return replace(found, names=(*_names(found, map_(extra.get("body"))), *_files(extra)))


def utc(at: str) -> str:
    """Return a time in one form, so that texts are ordered as times are; empty for what is none."""
    try:
        found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        return ""
    if found.tzinfo is None:
        return ""
    return found.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _problem(entry: Entry, at: str, accepted: frozenset[str]) -> str:
    extra = entry.extra
    if not text(extra.get("schema")).startswith("pipeops/"):
        return "it is no record"
    if extra.get("from_rest_api"):
        if accepted.isdisjoint((entry.name, entry.uri)):
            return "it was posted through Airflow's API"
    elif not entry.task:
        return "no task has emitted it"
    try:
        hashed = identity(extra)
    except InvalidInput as error:
        return f"its content has no canonical form: {error.message[:200]}"
    if extra.get("id") != hashed:
        return f"it has been altered: its content hashes to {hashed}"
    if not at:
        return "it says no time"
    if (stored := utc(entry.stored)) and datetime.fromisoformat(at) > datetime.fromisoformat(stored) + _AHEAD:
        return f"its time {at} is later than {stored}, when it was stored"
    elsewhere = emitted_elsewhere(extra, entry.dag, entry.run, entry.task, entry.map_index)
    return elsewhere or placed_by(extra, entry.uri)


def _named(value: Any) -> str:
    """Return a short text that every database takes."""
    return text(value, 100).encode("utf-8", "replace").decode()


def _owner(uri: str) -> str:
    return uri.removeprefix("pipeops://").partition("/")[0] if uri.startswith("pipeops://") else ""


def _names(found: Judged, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Name what a person may ask for: the record, its commit, an image by its digest, a version of a model."""
    named = {found.id, found.commit}
    named |= {_named(body.get(key)) for key in ("commit", "revision", "digest", "sha256")}
    for key in ("reference", "image"):
        named |= set(_DIGEST.findall(text(body.get(key))))
    for image in body["images"] if isinstance(body.get("images"), list) else ():
        named |= set(_DIGEST.findall(text(image)))
    if found.kind == "model" and body.get("name"):
        named.add(f"{_named(body['name'])}/{_named(str(body.get('version')))}")
    return tuple(sorted(name for name in named if len(name) > 2))


def _kept(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is kept of what an event carries: all, unless it can be no record."""
    try:
        raw = _dumped(extra)
    except (ValueError, RecursionError) as error:
        return {"unreadable": type(error).__name__}
    if len(raw) <= _MAX_EXTRA:
        return extra
    stamps = {name: True for name in STAMPS if extra.get(name)}
    return {**stamps, "too_large": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def _files(extra: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files that back a record, so that it is found from one of them."""
    digests = {text(item.get("sha256"), 64) for item in maps(extra.get("evidence"))}
    return tuple(f"evidence:{digest}" for digest in sorted(digests) if digest)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
