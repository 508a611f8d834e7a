"""When a release or a degradation is news: said once, however often it is looked at, and after a restart too. Pure.

Each judgement takes one look and the memory of the looks before it, and answers with what to report (if anything) and the
memory for the next look. The memory is JSON and is kept where a restart finds it, so that what was said is not said again,
and what happened in between is still said.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.status import Observed

#: How many resources and revisions a payload names.
LIMIT = 20
#: Health that is bad if it lasts, beside Degraded; Suspended is somebody's wish.
_UNWELL = ("Progressing", "Missing", "Unknown")


@dataclass(frozen=True)
class ReleaseMemory(JsonForm):
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


@dataclass(frozen=True)
class DegradedMemory(JsonForm):
    """What is remembered about the health of one application.

    :param first_seen: when it was first seen Degraded without having been Healthy since; the caller's clock.
    :param unwell_since: when it was first seen in any health that counts, without having been Healthy since.
    :param since: when its health last became Degraded, by the server's clock, as last seen.
    :param release: fingerprint of the release that it was so at.
    :param reported: that this was reported.
    """

    first_seen: float | None = None
    unwell_since: float | None = None
    since: float | None = None
    release: str = ""
    reported: bool = False


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
    observed: Observed,
    memory: DegradedMemory,
    now: float,
    *,
    grace: float = 60.0,
    unhealthy_grace: float | None = None,
    resumed: bool = False,
) -> tuple[dict[str, Any] | None, DegradedMemory]:
    """Say whether this look shows a degradation that was not reported yet.

    It ends when the application is seen Healthy, or at another release; until then it is reported once, also where it
    flaps between Degraded and Progressing.

    :param now: seconds on a clock that goes on over a restart.
    :param grace: seconds for which it must have been Degraded.
    :param unhealthy_grace: seconds for which it must have been Degraded, Progressing, Missing or Unknown; ``None`` leaves
        the last three out. Argo CD says Progressing, and not Degraded, of pods that crash again and again after a rollout
        that had ended well.
    :param resumed: the memory is from before a restart: another degradation may have begun meanwhile.
    :return: the payload to report, or ``None``; and the memory for the next look.
    """
    if observed.health == "Healthy":
        return None, DegradedMemory()
    ill = observed.health == "Degraded"
    if not ill and (unhealthy_grace is None or observed.health not in _UNWELL):
        return None, memory
    mark = _release(observed)
    other = memory.release not in ("", mark)
    missed = (
        ill and resumed and memory.since is not None and observed.health_since not in (None, memory.since)
    )
    if other or missed:
        memory = DegradedMemory()
    unwell = now if memory.unwell_since is None else memory.unwell_since
    memory = replace(memory, unwell_since=unwell, release=mark)
    if ill:
        first = now if memory.first_seen is None else memory.first_seen
        memory = replace(memory, first_seen=first, since=observed.health_since)
    else:
        first = unwell
    due = (ill and now - first >= grace) or (unhealthy_grace is not None and now - unwell >= unhealthy_grace)
    if memory.reported or not due:
        return None, memory
    resources = [item for item in observed.resources if item.health not in ("", "Healthy")]
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
            for item in resources[:LIMIT]
        ],
        "more": max(0, len(resources) - LIMIT),
        "fingerprint": _digest([mark, observed.health_since if observed.health_since is not None else first]),
    }
    return payload, replace(memory, reported=True)


def _well(observed: Observed) -> bool:
    """Whether the newest release is live and healthy, by a status that is newer than the operation that made it.

    The controller often compares in the second in which an operation ends, and then stands still for minutes. That health
    became what it is after the end says the same as a later comparison.
    """
    ended = _ended(observed)
    later = any(at is not None and at > ended for at in (observed.compared_at, observed.health_since))
    return _quiet(observed) and (ended == -math.inf or later)


def needs_comparison(observed: Observed, memory: ReleaseMemory) -> bool:
    """Whether only the order of two times within one second keeps a release from being told: a comparison would settle it.

    :param memory: what is remembered about the releases.
    :return: whether to ask for one, once.
    """
    told = not memory.known or _release(observed) == memory.reported
    return not told and observed.deployed_id is not None and _quiet(observed) and not _well(observed)


def _quiet(observed: Observed) -> bool:
    """Whether it is healthy, and nothing is on its way."""
    operation = observed.operation
    busy = operation is not None and (operation.queued or operation.phase in ("Running", "Terminating"))
    return observed.health == "Healthy" and not observed.deleting and not busy


def _ended(observed: Observed) -> float:
    """When the last operation ended, by the server's clock; long ago where that is not known."""
    ended = observed.operation.finished_at if observed.operation else None
    return -math.inf if ended is None else ended


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
