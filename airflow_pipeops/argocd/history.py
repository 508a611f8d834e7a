"""The history of an application: which release a rollback means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.waits.status import shorts


@dataclass(frozen=True)
class Entry:
    """One release.

    :param number: its id in the history.
    :param revisions: one per source.
    :param sources: where it came from, as the application had it then.
    :param at: when it was deployed.
    """

    number: int
    revisions: tuple[str, ...]
    sources: tuple[Mapping[str, Any], ...]
    at: str = ""

    def same_as(self, other: Entry) -> bool:
        """Whether both deploy the same thing."""
        return self.revisions == other.revisions and self.sources == other.sources

    def __str__(self) -> str:
        return f"{self.number} ({shorts(self.revisions)})"


def history_of(application: Mapping[str, Any]) -> list[Entry]:
    """Return the history of an Application, oldest first; entries that cannot be read are left out."""
    found = []
    status = application.get("status")
    for item in (status.get("history") or ()) if isinstance(status, Mapping) else ():
        if not isinstance(item, Mapping):
            continue
        several = [text for text in item.get("revisions") or () if isinstance(text, str)]
        revisions = tuple(several or filter(None, [item.get("revision")]))
        sources = tuple(item.get("sources") or filter(None, [item.get("source")]))
        try:
            number = int(item.get("id") or 0)
        except (TypeError, ValueError):
            continue
        if revisions:
            found.append(Entry(number, revisions, sources, str(item.get("deployedAt") or "")))
    return found


def meant(history: Sequence[Entry], *, number: Any = None, revision: str = "") -> Entry:
    """Return the entry that a person means.

    :param number: its id; digits in a text will do.
    :param revision: else the newest entry with this revision.
    :return: the entry.
    :raises InvalidInput: where neither or both are given.
    :raises NotFound: where there is no such entry.
    """
    given = number not in (None, "")
    if given == bool(revision):
        raise InvalidInput(
            "a rollback needs its goal: one of history_id and revision",
            field="history_id",
            value=number,
            remedy="Give the id of an entry of the history, or the full revision that was live.",
        )
    if given and not str(number).strip().isdecimal():
        raise InvalidInput(
            f"history_id is {number!r}", field="history_id", value=number, remedy="Give a number."
        )
    wanted = int(str(number)) if given else None
    for entry in reversed(history):
        if entry.number == wanted if given else revision in entry.revisions:
            return entry
    known = ", ".join(map(str, history[-10:])) or "empty"
    raise NotFound(
        f"the history has no entry {f'with id {number}' if given else f'at revision {revision}'}; it is: {known}",
        remedy="Argo CD keeps the last ten releases only. Older ones: revert in Git with GitOpsRevertOperator.",
    )
