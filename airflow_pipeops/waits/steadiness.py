"""Decide whether a released application stays well: ``steady`` or ``degraded`` after a time of watching. Pure."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import AccessDenied, NotFound, Unreachable
from airflow_pipeops.waits.status import Observed, Trouble, short, shorts
from airflow_pipeops.waits.streams.pacing import LONGEST_PAUSE
from airflow_pipeops.waits.wait import Clock

if TYPE_CHECKING:
    from airflow_pipeops.waits.controller import Controller


@dataclass(frozen=True)
class Watch(JsonForm):
    """What is watched for; seconds.

    :param duration: how long to watch.
    :param grace: for how long, without a gap, it may be anything but Healthy.
    :param blind_grace: for how long, without a gap, nothing at all may be seen.
    :param revision: the release that is watched; by default whichever is there at the first look.
    """

    duration: float
    grace: float
    blind_grace: float = 600.0
    revision: str = ""


@dataclass(frozen=True)
class SteadyMemory(JsonForm):
    """What one look must know of those before it. Times are the caller's ``now``.

    :param now: when the last look was judged.
    :param started_at: when the first one was.
    :param uid: of the object that was seen first.
    :param release: the release that was seen first.
    :param unhealthy_since: since when it has been anything but Healthy.
    :param longest: the longest time for which it was so without a gap, seconds.
    :param blind_since: since when nothing could be seen.
    :param missing: how many looks in a row were refused, or found nothing.
    """

    now: float = 0.0
    started_at: float | None = None
    uid: str = ""
    release: str = ""
    unhealthy_since: float | None = None
    longest: float = 0.0
    blind_since: float | None = None
    missing: int = 0


@dataclass(frozen=True)
class Outcome(JsonForm):
    """A judgement with its reason.

    :param verdict: ``watch`` (go on), ``steady``, ``degraded``, or ``blind`` (nothing can be said).
    :param rule: stable name of the rule that decided.
    :param reason: one sentence.
    :param unhealthy_for: the longest time for which it was not Healthy without a gap, seconds.
    """

    verdict: Literal["watch", "steady", "degraded", "blind"]
    rule: str
    reason: str
    unhealthy_for: float = 0.0


def judge(
    observed: Observed | Trouble, watch: Watch, memory: SteadyMemory, now: float
) -> tuple[Outcome, SteadyMemory]:
    """Judge one look.

    A superseding release ends the watch: the newer one has a watch of its own. What counts as a release is an entry
    in the application's history, not a new commit to compare with: in a shared repository most commits change
    other applications.

    :param memory: what the last call returned; ``SteadyMemory()`` at first.
    :param now: seconds on any clock that does not jump.
    :return: the outcome, and the memory for the next call.
    """
    now = max(now, memory.now) if math.isfinite(now) else memory.now
    memory = replace(memory, now=now, started_at=now if memory.started_at is None else memory.started_at)
    if isinstance(observed, Trouble):
        return _troubled(observed, watch, memory)
    memory = replace(memory, blind_since=None, missing=0, uid=memory.uid or observed.uid)
    gone = _gone(observed, memory)
    if gone:
        return Outcome("degraded", gone[0], gone[1], memory.longest), memory
    release = _release(observed)
    first = memory.release or release
    since = None if observed.health == "Healthy" else memory.unhealthy_since
    if since is None and observed.health != "Healthy":
        since = now
    longest = max(memory.longest, now - since if since is not None else 0.0)
    memory = replace(memory, release=first, unhealthy_since=since, longest=longest)
    return _ended(observed, watch, memory, release), memory


def _ended(observed: Observed, watch: Watch, memory: SteadyMemory, release: str) -> Outcome:
    now, longest, since = memory.now, memory.longest, memory.unhealthy_since
    watched = now - (memory.started_at if memory.started_at is not None else now)
    late = (
        bool(watch.revision)
        and watch.revision in observed.replaced
        and watch.revision not in observed.deployed
    )
    if late or release != memory.release:
        newer = short(release.partition(":")[2])
        return Outcome("steady", "superseded", f"a newer release, {newer}, has taken its place", longest)
    if since is not None and now - since >= watch.grace:
        worst = [item for item in observed.resources if item.health not in ("", "Healthy")]
        names = "; ".join(f"{item} {item.health} {item.message[:200]}".strip() for item in worst[:5])
        reason = f"{observed.health} for {now - since:.0f} s at {shorts(observed.desired)}" + (
            f": {names}" if names else ""
        )
        return Outcome("degraded", "unhealthy", reason, longest)
    if since is not None:
        return Outcome(
            "watch", "unhealthy_within_grace", f"{observed.health} for {now - since:.0f} s", longest
        )
    if watched >= watch.duration:
        return Outcome("steady", "healthy", f"watched for {watched:.0f} s, and well at the end", longest)
    return Outcome("watch", "healthy", f"healthy; watched {watched:.0f} of {watch.duration:.0f} s", longest)


def _gone(observed: Observed, memory: SteadyMemory) -> tuple[str, str] | None:
    if observed.deleting:
        return "deleting", f"{observed.called} is being deleted"
    if observed.uid and observed.uid != memory.uid:
        return "recreated", f"{observed.called} was deleted and created again"
    return None


def _release(observed: Observed) -> str:
    if observed.deployed_id is not None:
        return f"{observed.deployed_id}:{','.join(observed.deployed)}"
    return ""


def _troubled(trouble: Trouble, watch: Watch, memory: SteadyMemory) -> tuple[Outcome, SteadyMemory]:
    # What nobody saw is neither well nor unwell: the spell is not counted on, and not counted out.
    missing = memory.missing + 1 if trouble.kind in ("missing", "denied") else 0
    since = memory.now if memory.blind_since is None else memory.blind_since
    memory = replace(memory, blind_since=since, missing=missing)
    if missing >= 2 and trouble.kind == "missing" and memory.uid:
        return Outcome("degraded", "deleted", "the application is gone", memory.longest), memory
    blind = memory.now - since
    if missing >= 2 or blind >= watch.blind_grace:
        return Outcome("blind", trouble.kind, trouble.message or trouble.kind, memory.longest), memory
    return Outcome(
        "watch", "unseen", f"nothing seen for {blind:.0f} s: {trouble.message}", memory.longest
    ), memory


class SteadyWatch:
    """One watch over one application. It judges; who looks, and how often, is the business of others.

    :param ref: which application.
    :param goal: what is watched for.
    :param memory: what an earlier part of the same watch remembered.
    """

    def __init__(self, ref: Any, goal: Watch, memory: SteadyMemory | None = None) -> None:
        self.ref, self.goal = ref, goal
        self.outcome, self.memory = Outcome("watch", "", ""), memory or SteadyMemory()
        self._seen = {"revision": goal.revision, "namespace": ref.namespace}
        self._clock = Clock()

    @property
    def over(self) -> bool:
        """Whether the outcome is in."""
        return self.outcome.verdict != "watch"

    @property
    def failed(self) -> bool:
        """Whether the outcome is an end of the watch before its time; it never is: that it degrades is a result."""
        return False

    def again_in(self) -> float:
        """Return the seconds after which the outcome may be another though nothing new is seen."""
        memory, goal, now = self.memory, self.goal, self._clock()
        moments = [
            begun + lasting
            for begun, lasting in (
                (memory.started_at, goal.duration),
                (memory.unhealthy_since, goal.grace),
                (memory.blind_since, goal.blind_grace),
            )
            if begun is not None
        ]
        return min([LONGEST_PAUSE, *(moment - now for moment in moments if moment > now)])

    def refresh_in(self) -> float | None:
        """Return ``None``: health needs no comparison."""
        return None

    def asked_before(self) -> tuple[float, float | None] | None:
        """Return ``None``: no refresh is ever asked for."""
        return None

    async def judge(self, seen: Observed | Trouble) -> Outcome:
        """Judge one look."""
        self.outcome, self.memory = judge(seen, self.goal, self.memory, self._clock())
        if isinstance(seen, Observed):
            latest = (seen.deployed or seen.desired or ("",))[0]
            self._seen = {"revision": self.goal.revision or latest, "namespace": seen.namespace}
        return self.outcome

    def pause(self, poll_interval: float) -> float:
        """Return the seconds until the next look."""
        return min(poll_interval, max(0.2, self.goal.grace / 2))

    def to_json(self) -> dict[str, Any]:
        """Return ``{outcome, memory, revision, namespace}``; all JSON."""
        return {"outcome": self.outcome.to_json(), "memory": self.memory.to_json(), **self._seen}


async def watch_until_over(
    controller: Controller, watch: SteadyWatch, poll_interval: float, *, looks: int | None = None
) -> dict[str, Any]:
    """Look until the outcome is in.

    :param poll_interval: seconds between two looks.
    :param looks: at most so many looks.
    :return: ``{outcome, memory, revision, namespace}``; all JSON.
    """
    while True:
        await watch.judge(await controller.look(watch.ref))
        looks = None if looks is None else looks - 1
        if watch.over or looks == 0:
            return watch.to_json()
        await asyncio.sleep(watch.pause(poll_interval) * random.uniform(0.8, 1.2))


def seen_outcome(outcome: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Return an outcome that says something.

    :param outcome: JSON of an :class:`Outcome`.
    :param called: what a message calls what was watched.
    :return: the outcome.
    :raises SystemFailure: where nothing could be seen.
    """
    if outcome["verdict"] == "blind":
        kinds = {"denied": AccessDenied, "missing": NotFound}
        raise kinds.get(outcome["rule"], Unreachable)(f"{called} could not be watched: {outcome['reason']}")
    return dict(outcome)


def steady_watch(ref: Any, goal: Mapping[str, Any], memory: Mapping[str, Any] | None) -> SteadyWatch:
    """Return a watch from JSON.

    :param ref: what is watched.
    :param goal: of a :class:`Watch`.
    :param memory: of what an earlier part of the same watch remembered.
    :return: the watch, which goes on where that part ended.
    """
    return SteadyWatch(ref, Watch.from_json(goal), SteadyMemory.from_json(memory or {}))
