"""Watch a live application until it has proven steady, or degraded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.wait import Clock, look
from airflow_pipeops.gitops.observed import Observed
from airflow_pipeops.gitops.steady import SteadyMemory, Watch, judge

if TYPE_CHECKING:
    from airflow_pipeops.argocd.client import AppRef, ArgoCDClient


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

    :param watch: JSON of a :class:`~airflow_pipeops.gitops.steady.Watch`.
    :param memory: JSON of what an earlier part of the same watch remembered.
    :param looks: at most so many looks.
    :return: ``{outcome, memory, revision, namespace}``; all JSON.
    """
    goal, clock = Watch(**watch), Clock()
    remembered = SteadyMemory.from_json(memory or {})
    seen = {"revision": goal.revision, "namespace": ref.namespace}
    while True:
        observed = await look(client, ref)
        assert observed is not None
        outcome, remembered = judge(observed, goal, remembered, clock())
        if isinstance(observed, Observed):
            latest = (observed.deployed or observed.desired or ("",))[0]
            seen = {"revision": goal.revision or latest, "namespace": observed.namespace}
        looks = None if looks is None else looks - 1
        if outcome.verdict != "watch" or looks == 0:
            return {"outcome": outcome.to_json(), "memory": remembered.to_json(), **seen}
        await asyncio.sleep(min(poll_interval, max(0.2, goal.grace / 2)) * random.uniform(0.8, 1.2))
