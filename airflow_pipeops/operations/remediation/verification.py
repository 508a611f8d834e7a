"""Did it help? The judge that found the fault is asked again, for a while. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from airflow_pipeops.base.arguments import mapping, one_of
from airflow_pipeops.base.documents import text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.operations.remediation.history import Operation
from airflow_pipeops.redaction import excerpt

#: ``clear``: the fault is away. ``still``: it is there. ``worse``: something new is wrong where the act has reached.
Sight = Literal["clear", "still", "worse", "cannot tell"]
Verdict = Literal["helped", "wait", "did not help", "cannot tell"]


@dataclass(frozen=True)
class Seen(JsonForm):
    """What the judge says now.

    :param sight: ``clear``, ``still``, ``worse`` or ``cannot tell``.
    :param reason: one sentence.
    """

    sight: Sight
    reason: str = ""

    @classmethod
    def of(cls, given: Any) -> Seen:
        """Read what a judge has returned.

        :param given: one of the four words, or a mapping with ``sight`` and ``reason``.
        :return: what it says.
        :raises InvalidInput: for anything else; a judge that says nothing has cleared nothing.
        """
        if isinstance(given, str):
            given = {"sight": given}
        known = mapping("judge", given, "Let it return clear, still, worse or cannot tell.")
        sight = one_of("judge", text(known.get("sight")), get_args(Sight), called="what the judge says,")
        return cls(sight, excerpt(text(known.get("reason")), 500))


@dataclass(frozen=True)
class Proof(JsonForm):
    """What follows from it.

    :param verdict: ``helped``, ``wait``, ``did not help`` or ``cannot tell``.
    :param reason: one sentence.
    :param clear_since: since when the fault is away; empty if it is not.
    """

    verdict: Verdict
    reason: str
    clear_since: str = ""


def due(operation: Operation) -> datetime:
    """Say when a look can next bring an operation to its end, if what is seen stays as it is.

    :param operation: that was done.
    :return: the end of its window, or of its patience and window.
    """
    window = timedelta(seconds=operation.window)
    if operation.clear_since:
        return datetime.fromisoformat(operation.clear_since) + window
    return datetime.fromisoformat(operation.acted) + timedelta(seconds=operation.patience) + window


def prove(operation: Operation, seen: Seen, now: datetime) -> Proof:
    """Judge an act by what is seen now. First match wins.

    1. Something new is wrong: ``did not help``.
    2. The fault is away, and was so at each look of the window: ``helped``.
    3. Its patience and window are over: ``did not help`` if the fault was seen; else ``cannot tell``, and nothing is undone
       on no knowledge.
    4. ``wait``.

    :param operation: that was done.
    :param seen: what the judge says.
    :param now: in UTC.
    :return: the verdict.
    """
    if seen.sight == "worse":
        return Proof("did not help", f"Something new is wrong. {seen.reason}".strip())
    since = (operation.clear_since or now.isoformat()) if seen.sight == "clear" else ""
    window = timedelta(seconds=operation.window)
    if since and now - datetime.fromisoformat(since) >= window:
        return Proof("helped", f"The fault is away since {since}. {seen.reason}".strip(), since)
    end = due(replace(operation, clear_since=""))
    if now >= end and not since:
        if seen.sight == "still":
            return Proof("did not help", f"The fault is still there. {seen.reason}".strip())
        return Proof("cannot tell", f"Nobody can tell whether it helped. {seen.reason}".strip())
    return Proof("wait", f"{seen.sight}, until {end.isoformat()}. {seen.reason}".strip(), since)
