"""What a member says with the offset that it commits: who has scored up to where, by which release. Pure.

Kafka keeps a text with each committed offset. Ours is written in the transaction of the outputs, so it cannot say more than
was done; whoever may read the group's offsets reads it, without joining the group.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.base.serialisation import JsonForm

#: What a broker takes by default (``offset.metadata.max.bytes``).
LIMIT = 4096
_FORMAT = "pipeops-stream/1"
_INT64 = 2**63


@dataclass(frozen=True)
class Progress(JsonForm):
    """Of one partition, at a committed offset.

    :param revision: release that scores the next record here; empty where the member has none.
    :param sha256: digest of the model of that release, as the member has verified it.
    :param last: release that has scored the last record here; empty where none was scored yet.
    :param at: offset of that record.
    :param time: its timestamp, in milliseconds since the epoch.
    :param ready: releases whose model this member has loaded and verified, the newest of them.
    :param known: the last release in the member's table.
    :param paused: why the member stays where it is, as a stable name; empty where it goes on.
    :param reason: the same as a sentence.
    :param member: client id of the member.
    :param beat: grows with each commit of the member.
    :param scored: records of this partition that were scored since the group began.
    :param dead: records of this partition that went to the dead-letter topic.
    :param again: up to this offset, records had been scored by an earlier release when the group went back.
    """

    revision: str = ""
    sha256: str = ""
    last: str = ""
    at: int | None = None
    time: int | None = None
    ready: tuple[str, ...] = ()
    known: str = ""
    paused: str = ""
    reason: str = ""
    member: str = ""
    beat: int = 0
    scored: int = 0
    dead: int = 0
    again: int | None = None

    def to_text(self) -> str:
        """Return the text for the broker, never longer than it takes: what is long is cut, the sentence first."""
        text = _text(self)
        if len(text.encode()) <= LIMIT:
            return text
        text = _text(replace(self, reason=self.reason[:200], ready=self.ready[-8:]))
        if len(text.encode()) <= LIMIT:
            return text
        return _text(replace(self, reason="", ready=self.ready[-2:], member=self.member[:128]))


def read(text: Any) -> Progress | None:
    """Read what was committed with an offset.

    :param text: as the client gives it; some leave NULs at its end.
    :return: what it says; ``None`` where it is empty, or not of this service.
    """
    if not isinstance(text, str) or not text.strip("\0"):
        return None
    try:
        found = map_(parsed(text.strip("\0"), LIMIT * 2))
    except ValueError:
        return None
    if found.get("format") != _FORMAT:
        return None
    progress = Progress.from_json({name: value for name, value in found.items() if value is not None})
    return progress if _sound(progress) else None


def _sound(progress: Progress) -> bool:
    """Whether each field is of its type, and a number one of Kafka's: others may write to the group's offsets, too."""
    if not isinstance(progress.ready, tuple):
        return False
    texts = (
        progress.revision, progress.sha256, progress.last, progress.known,
        progress.paused, progress.reason, progress.member, *progress.ready,
    )  # fmt: skip
    numbers = [progress.beat, progress.scored, progress.dead]
    numbers += [one for one in (progress.at, progress.time, progress.again) if one is not None]
    return all(isinstance(one, str) for one in texts) and all(
        type(one) is int and -_INT64 <= one < _INT64 for one in numbers
    )


def _text(progress: Progress) -> str:
    said = {name: value for name, value in progress.to_json().items() if value not in ("", None, 0, [])}
    said |= {name: 0 for name in ("at", "again") if getattr(progress, name) == 0}
    return json.dumps({"format": _FORMAT, **said}, separators=(",", ":"))
