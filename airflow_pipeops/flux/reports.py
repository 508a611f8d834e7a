"""Tell why a wait for Flux failed: the decisive line first, then what a person looks up next."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.flux.differences import when
from airflow_pipeops.flux.objects import observe, unhealthy
from airflow_pipeops.waits.messages import capped
from airflow_pipeops.waits.status import Observed, short

if TYPE_CHECKING:
    from airflow_pipeops.flux.client import FluxClient
    from airflow_pipeops.flux.kinds import Ref
    from airflow_pipeops.waits.wait import Decided

_EVENTS = 10


async def explain(client: FluxClient, ref: Ref, decided: Decided) -> str:
    """Return the whole message of a failed wait. What cannot be looked up is left out."""
    observed: Observed | None = None
    events: list[dict[str, Any]] = []
    with contextlib.suppress(PipeOpsError):
        found = await client.gather(ref)
        observed = observe(found, found.missing)
    with contextlib.suppress(PipeOpsError):
        events = await client.events(ref)
    return compose(ref, decided, observed, events)


def compose(
    ref: Ref, decided: Decided, observed: Observed | None, events: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Put the message together, at most :data:`LIMIT` bytes.

    :param observed: a late look, for its resources and conditions.
    :param events: about the object, the latest last.
    :return: the message.
    """
    verdict, details = decided.verdict, decided.verdict.details
    lines = [f"Flux {ref}: {verdict.reason}"]
    for name in ("expected", "desired", "tried", "applied"):
        value = details.get(name)
        revisions = list(value.values()) if isinstance(value, Mapping) else list(value or ())
        lines += [f"  {name} {short(str(revision))}" for revision in revisions]
    if details.get("chart") or details.get("expected_chart"):
        expected = f", expected {details['expected_chart']}" if details.get("expected_chart") else ""
        lines.append(
            f"  chart {details.get('chart') or 'none'} ({details.get('chart_status') or '?'}){expected}"
        )
    lines.append(f"  failed attempts seen: {details.get('failed_attempts', 0)}")
    # The next attempt may have begun since, and says nothing of these any more.
    ill = unhealthy(verdict.reason) or (observed.resources if observed else ())
    lines += [f"  {item} is {item.health} in {item.namespace or ref.namespace}" for item in ill[:15]]
    if observed is not None:
        lines += [f"  condition {item.type}: {item.message}" for item in observed.conditions[:10]]
    lines += [
        f"  event {when(event)} {event.get('reason')}: {event.get('message')}"
        for event in list(events)[-_EVENTS:]
    ]
    lines += [f"  note: {note}" for note in details.get("warnings") or ()]
    last = f", last rule {details['last_rule']}" if details.get("last_rule") else ""
    lines.append(f"  decided by rule {verdict.rule}{last}, matching {details.get('match', '?')}")
    return capped(lines)
