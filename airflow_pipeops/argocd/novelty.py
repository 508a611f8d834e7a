"""When a release or a degradation is news: said once, however often it is looked at, and after a restart too. Pure.

Each judgement takes one look and the memory of the looks before it, and answers with what to report (if anything) and the
memory for the next look. The memory is JSON and is kept where a restart finds it, so that what was said is not said again,
and what happened in between is still said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.status import Observed

#: How many resources and revisions a payload names.
LIMIT = 20


@dataclass(frozen=True)
class ReleaseMemory:
    """What is remembered about the releases of one application.

    :param known: it was looked at before; the first look only sets the mark.
    :param reported: fingerprint of the release that was reported last, or that was live at the first look.
    :param number: its number in the application's history.
    :param candidate: fingerprint of a release that the last look found live and well; the next look confirms it.
    """

    known: bool = False
    reported: str = ""
    number: int | None = None
    candidate: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> ReleaseMemory:
        """Read the JSON form; anything else is an empty memory."""
        return cls(**_known(cls, data))


@dataclass(frozen=True)
class DegradedMemory:
    """What is remembered about the health of one application.

    :param first_seen: when it was first seen Degraded without having been Healthy since; the caller's clock.
    :param since: when its health last became Degraded, by the server's clock, as last seen.
    :param release: fingerprint of the release that it was Degraded at.
    :param reported: that this was reported.
    """

    first_seen: float | None = None
    since: float | None = None
    release: str = ""
    reported: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> DegradedMemory:
        """Read the JSON form; anything else is an empty memory."""
        return cls(**_known(cls, data))


def released(observed: Observed, memory: ReleaseMemory) -> tuple[dict[str, Any] | None, ReleaseMemory]:
    """Say whether this look shows a release that was not reported yet.

    A release is an entry in the application's history (a whole synchronisation that succeeded) with the application
    healthy afterwards, on two looks in a row. A commit that changes nothing in the application makes no entry.

    :return: the payload to report, or ``None``; and the memory for the next look.
    """
    if observed.deployed_id is None:
        return None, replace(memory, known=True, candidate="")
    mark = _release(observed)
    if not memory.known:
        settled = _well(observed)
        # What is live already when the watch begins is no news; what is still on its way will be.
        return None, ReleaseMemory(True, mark if settled else "", observed.deployed_id if settled else None)
    if mark == memory.reported or not _well(observed):
        return None, replace(memory, candidate="")
    if mark != memory.candidate:
        return None, replace(memory, candidate=mark)
    payload = {
        **_about(observed),
        "revision": _one(observed.deployed),
        "number": observed.deployed_id,
        "skipped": _skipped(observed, memory),
        "images": list(observed.images[:LIMIT]),
        "fingerprint": mark,
    }
    return payload, ReleaseMemory(True, mark, observed.deployed_id)


def degraded(
    observed: Observed, memory: DegradedMemory, now: float, *, grace: float = 60.0, resumed: bool = False
) -> tuple[dict[str, Any] | None, DegradedMemory]:
    """Say whether this look shows a degradation that was not reported yet.

    It ends when the application is seen Healthy, or at another release; until then it is reported once, also where it
    flaps between Degraded and Progressing.

    :param now: seconds on a clock that goes on over a restart.
    :param grace: seconds for which it must have lasted.
    :param resumed: the memory is from before a restart: another degradation may have begun meanwhile.
    :return: the payload to report, or ``None``; and the memory for the next look.
    """
    if observed.health == "Healthy":
        return None, DegradedMemory()
    if observed.health != "Degraded":
        return None, memory
    mark = _release(observed)
    other = memory.first_seen is not None and memory.release != mark
    missed = resumed and memory.since is not None and observed.health_since not in (None, memory.since)
    if other or missed or memory.first_seen is None:
        memory = DegradedMemory(first_seen=now, release=mark)
    memory = replace(memory, since=observed.health_since)
    first = memory.first_seen if memory.first_seen is not None else now
    if memory.reported or now - first < grace:
        return None, memory
    ill = [item for item in observed.resources if item.health not in ("", "Healthy")]
    payload = {
        **_about(observed),
        "revision": _one(observed.deployed or observed.desired),
        "lasted": round(now - first, 1),
        "resources": [
            {
                "kind": item.kind,
                "namespace": item.namespace,
                "name": item.name,
                "health": item.health,
                "message": redacted(item.message)[:300],
            }
            for item in ill[:LIMIT]
        ],
        "more": max(0, len(ill) - LIMIT),
        "fingerprint": _digest([mark, observed.health_since if observed.health_since is not None else first]),
    }
    return payload, replace(memory, reported=True)


def _well(observed: Observed) -> bool:
    """Whether the newest release is live and healthy, by a status that is newer than the operation that made it."""
    operation = observed.operation
    if observed.health != "Healthy" or observed.deleting:
        return False
    if operation is None:
        return True
    if operation.queued or operation.phase in ("Running", "Terminating"):
        return False
    ended = operation.finished_at
    return ended is None or (observed.compared_at is not None and observed.compared_at > ended)


def _release(observed: Observed) -> str:
    return _digest([observed.uid, observed.deployed_id, list(observed.deployed)])


def _skipped(observed: Observed, memory: ReleaseMemory) -> list[str]:
    """Return the revisions of the history between the release reported last and this one."""
    if memory.number is None or observed.deployed_id is None:
        return []
    between = max(0, observed.deployed_id - memory.number - 1) * max(1, len(observed.deployed))
    return list(observed.replaced[-between:][-LIMIT:]) if between else []


def _about(observed: Observed) -> dict[str, Any]:
    return {
        "app": observed.name,
        "namespace": observed.namespace,
        "project": observed.project,
        "sync": observed.sync,
        "health": observed.health,
    }


def _one(revisions: tuple[str, ...]) -> Any:
    return revisions[0] if len(revisions) == 1 else list(revisions)


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _known(cls: Any, data: Any) -> dict[str, Any]:
    given: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    return {item.name: given[item.name] for item in fields(cls) if item.name in given}
