"""Read back what travels on assets: the records of a deliverable, and the signals that started a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.records import Record, readable
from airflow_pipeops.exceptions import NotConfigured

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context


def records_on(context: Context, *assets: Asset) -> list[Record]:
    """Read the records on the task's inlets. What is no record, or was altered, is left out.

    :param assets: each must be among the task's ``inlets``.
    :return: the records, oldest first.
    """
    events: Iterable[Any] = (event for asset in assets for event in context["inlet_events"][asset])
    ordered = sorted(events, key=lambda event: event.timestamp)
    return readable([event.extra or {} for event in ordered])


def triggering_records(context: Context, *kinds: str) -> list[Record]:
    """Read the records among the asset events that started this run.

    One run may stand for several events, so a caller must not look at the newest alone without saying so.

    :param kinds: only these kinds; without any, all.
    :return: the records, oldest first.
    """
    found = readable([event.extra or {} for event in _triggering(context)])
    return [record for record in found if not kinds or record.kind in kinds]


def triggering_signals(context: Context) -> list[dict[str, Any]]:
    """Return the payloads of the watcher events that started this run, oldest first."""
    return [payload for event in _triggering(context) if (payload := _payload(event))]


def _triggering(context: Context) -> list[Any]:
    """Return the events, or fail where what started the run is that connections are missing."""
    by_asset = context.get("triggering_asset_events") or {}
    events = [event for asset in by_asset for event in by_asset[asset]]
    for event in events:
        missing = _payload(event).get("missing")
        if isinstance(missing, Mapping):
            raise AirflowFailException(str(NotConfigured(missing)))
    return sorted(events, key=lambda event: event.timestamp)


def _payload(event: Any) -> dict[str, Any]:
    """Return what a watcher told; nothing of an event that no watcher sent."""
    extra = event.extra or {}
    return dict(extra["payload"]) if extra.get("from_trigger") and extra.get("payload") else {}
