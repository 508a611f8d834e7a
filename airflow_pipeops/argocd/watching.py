"""Watch a live application until it has proven steady, or degraded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.waits import Clock, look
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.steadiness import Outcome, SteadyMemory, Watch, judge
from airflow_pipeops.waits.streams.pacing import LONGEST_PAUSE

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient


class SteadyWatch:
    """One watch over one application. It judges; who looks, and how often, is the business of others.

    :param ref: which application.
    :param goal: what is watched for.
    :param memory: what an earlier part of the same watch remembered.
    """

    def __init__(self, ref: AppRef, goal: Watch, memory: SteadyMemory | None = None) -> None:
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


async def watch_app(
    client: ArgoCDClient,
    ref: AppRef,
    watch: Mapping[str, Any],
    memory: Mapping[str, Any] | None,
    poll_interval: float,
    *,
    looks: int | None = None,
) -> dict[str, Any]:
    """Look until the outcome is in.

    :param watch: JSON of a :class:`~airflow_pipeops.waits.steadiness.Watch`.
    :param memory: JSON of what an earlier part of the same watch remembered.
    :param looks: at most so many looks.
    :return: ``{outcome, memory, revision, namespace}``; all JSON.
    """
    watched = SteadyWatch(ref, Watch(**watch), SteadyMemory.from_json(memory or {}))
    while True:
        seen = await look(client, ref)
        assert seen is not None
        await watched.judge(seen)
        looks = None if looks is None else looks - 1
        if watched.over or looks == 0:
            return watched.to_json()
        await asyncio.sleep(watched.pause(poll_interval) * random.uniform(0.8, 1.2))
