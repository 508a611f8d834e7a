"""Tell why what was applied is not ready: the decisive line first, then what pods, events and logs say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text, whole
from airflow_pipeops.deploy.targets import AppliedSet
from airflow_pipeops.kubernetes.kinds import event_time, name_of
from airflow_pipeops.waits.messages import capped, folded
from airflow_pipeops.waits.wait import Decided

_EVENTS = 10


def compose(
    ref: AppliedSet,
    decided: Decided,
    pods: Sequence[Mapping[str, Any]] = (),
    events: Sequence[Mapping[str, Any]] = (),
    logs: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Put the message together.

    :param pods: those that are not well.
    :param events: about the objects and their pods.
    :param logs: the last lines of pods, by name.
    :return: the message.
    """
    verdict, details = decided.verdict, decided.verdict.details
    lines = [f"{ref.name}: {verdict.reason}"]
    lines += [f"  {one}" for one in details.get("left") or ()]
    for pod in pods:
        lines += [f"  pod {name_of(pod)[1]}: {said}" for said in _states(pod)]
    told = sorted((one for one in events if one.get("type") != "Normal"), key=event_time)
    lines += [
        f"  event {event_time(event)} {text(event.get('reason'))}: {text(event.get('message'), 500)}"
        for event in told[-_EVENTS:]
    ]
    for name, said in (logs or {}).items():
        lines += [f"  log of {name}:", *(f"    {line}" for line in folded(said))] if said else []
    last = f", last rule {details['last_rule']}" if details.get("last_rule") else ""
    ready = f"{details.get('ready', 0)} of {details.get('objects', len(ref.targets))} ready"
    return capped([*lines, f"  decided by rule {verdict.rule}{last}; {ready}"])


def _states(pod: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of a pod and its containers."""
    status = map_(pod.get("status"))
    found = [f"{text(status.get('phase')) or 'new'} {text(status.get('message'), 300)}".strip()]
    for one in [*maps(status.get("initContainerStatuses")), *maps(status.get("containerStatuses"))]:
        state, before = map_(one.get("state")), map_(map_(one.get("lastState")).get("terminated"))
        held = map_(state.get("waiting"))
        ended = map_(state.get("terminated")) or before
        if held:
            found.append(
                f"container {text(one.get('name'))} waits: {text(held.get('reason'))} {text(held.get('message'), 300)}"
            )
        if whole(ended.get("exitCode")):
            found.append(
                f"container {text(one.get('name'))} ended with {ended['exitCode']} "
                f"{text(ended.get('reason'))} {text(ended.get('message'), 300)}".rstrip()
            )
    return found
