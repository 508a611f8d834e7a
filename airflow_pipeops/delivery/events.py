"""Read back what travels on assets: the records of a deliverable, and the signals that started a run.

An event is not believed for where it lies. Whoever may post asset events through Airflow's API can write anything into
them; Airflow stamps those, and they are neither evidence nor a signal, unless a setting accepts them for an asset. A record
must come from the task that it names, and be about the deliverable, and of the kind, of its asset, as in the ledger. A
watcher repeats an event rather than lose it; the repetition has the same ``key``, and is dropped. What is left out is
logged, with its reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow_pipeops.base.configuration import accepted_assets
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.records import SCHEMA, Record, emitted_elsewhere, placed_by
from airflow_pipeops.exceptions import InvalidInput, NotConfigured

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

log = logging.getLogger(__name__)

#: Among so many events of an asset, the newest, an earlier one with the same key is looked for.
_LOOKED_BACK = 1000
#: Under this name a task's context keeps what was found, with the events that it was found in.
_KEPT = "pipeops_started_by"


@dataclass(frozen=True)
class Event:
    """An event on an asset.

    :param extra: what it carries.
    :param name: of the asset.
    :param uri: of the asset.
    :param at: when it was stored; of any type that can be ordered.
    :param dag: that emitted it, as Airflow knows it; none if no task did.
    :param run: of that DAG.
    :param task: of that DAG.
    :param map_index: of that task.
    """

    extra: Any
    name: str = ""
    uri: str = ""
    at: Any = None
    dag: str | None = None
    run: str | None = None
    task: str | None = None
    map_index: int | None = None


@dataclass(frozen=True)
class Started:
    """By what a run was started.

    :param signals: payloads of watchers, oldest first.
    :param records: records, oldest first.
    :param left_out: why an event does not count, one reason each.
    """

    signals: tuple[dict[str, Any], ...] = ()
    records: tuple[Record, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def by_nothing(self) -> bool:
        """Whether only what does not count has started the run: there is nothing to do, not even as by hand."""
        return bool(self.left_out) and not self.signals and not self.records


def started_by(context: Context) -> Started:
    """Read the events that started this run. One run may stand for several.

    Of each key, Airflow is asked for earlier events; once in a task, however often its code reads signals and records.

    :return: what counts among them, and why the others do not.
    :raises AirflowFailException: if what started the run is that connections are missing.
    """
    by_asset = context.get("triggering_asset_events") or {}
    kept = cast("dict[str, Any]", context)
    known_of, known = kept.get(_KEPT) or (None, None)
    if known_of is not by_asset:
        known = _read(context, by_asset)
        kept[_KEPT] = (by_asset, known)
    return cast("Started", known)


def _read(context: Context, by_asset: Mapping[Any, Any]) -> Started:
    events = [_event(event, asset) for asset in by_asset for event in by_asset[asset]]
    events.sort(key=lambda event: event.at)
    accepted = accepted_assets()
    signals, left_out = [], []
    seen: set[str] = set()
    for event in events:
        payload = map_(event.extra).get("payload")
        if not payload and map_(event.extra).get("schema"):
            continue
        posted = map_(event.extra).get("from_rest_api")
        why = _not_believed(event, accepted)
        if not why and not posted and not map_(event.extra).get("from_trigger"):
            continue  # an event of somebody else's: neither signal nor record
        if not why and not (isinstance(payload, Mapping) and payload):
            why = f"{event.name}: its payload is no object"
        if not why and isinstance(missing := map_(payload).get("missing"), Mapping):
            from airflow.sdk.exceptions import AirflowFailException

            raise AirflowFailException(str(NotConfigured(missing)))
        key = text(map_(payload).get("key"))
        if not why and key and (key in seen or _told_before(context, event, key)):
            why = f"{event.name}: it was told before, with the same key {key}"
        if why:
            left_out.append(why)
            continue
        seen.add(key)
        signals.append(dict(map_(payload)))
    records, refused = read_records(events)
    left_out += refused
    for why in left_out:
        log.warning("An event that started this run does not count: %s", why)
    return Started(tuple(signals), tuple(records), tuple(left_out))


def triggering_signals(context: Context) -> list[dict[str, Any]]:
    """Return the payloads of the watcher events that started this run, oldest first, each once."""
    return list(started_by(context).signals)


def triggering_records(context: Context, *kinds: str) -> list[Record]:
    """Read the records among the asset events that started this run.

    One run may stand for several events, so a caller must not look at the newest alone without saying so.

    :param kinds: only these kinds; without any, all.
    :return: the records, oldest first.
    """
    return [record for record in started_by(context).records if not kinds or record.kind in kinds]


def records_on(context: Context, *assets: Asset) -> list[Record]:
    """Read the records on the task's inlets. What is no record, was altered or does not belong there is left out.

    :param assets: each must be among the task's ``inlets``.
    :return: the records, oldest first.
    """
    return read_on(context, *assets)[0]


def read_on(context: Context, *assets: Asset) -> tuple[list[Record], list[str]]:
    """Like :func:`records_on`, and say what is left out, too.

    :return: the records, oldest first; and the reason for each event that is left out.
    """
    events = [_event(event, asset) for asset in assets for event in context["inlet_events"][asset]]
    found, left_out = read_records(sorted(events, key=lambda event: event.at))
    for why in left_out:
        log.warning("An event is left out: %s", why)
    return found, left_out


def read_records(events: Iterable[Event]) -> tuple[list[Record], list[str]]:
    """Read the records that events carry.

    :return: the records in the order of the events, each once, and why others were left out.
    """
    accepted = accepted_assets()
    found: dict[str, Record] = {}
    left_out = []
    for event in events:
        extra = map_(event.extra)
        if extra.get("schema") != SCHEMA:
            if extra.get("schema") and not extra.get("from_trigger"):
                left_out.append(f"{event.name}: its record is of schema {text(extra.get('schema'), 40)!r}")
            continue
        why = _not_believed(event, accepted)
        if not why and not event.task and not extra.get("from_rest_api"):
            why = f"{event.name}: no task has emitted it"
        if not why:
            try:
                record = Record.from_extra(extra)
            except InvalidInput as error:
                why = f"{event.name}: its record cannot be read: {error.message[:200]}"
            else:
                elsewhere = emitted_elsewhere(extra, event.dag, event.run, event.task, event.map_index)
                why = f"{event.name}: {elsewhere}" if elsewhere else placed_by(extra, event.uri)
        if why:
            left_out.append(why)
        else:
            found.setdefault(record.id, record)
    return list(found.values()), left_out


def _not_believed(event: Event, accepted: frozenset[str]) -> str:
    if not map_(event.extra).get("from_rest_api") or not accepted.isdisjoint((event.name, event.uri)):
        return ""
    return (
        f"{event.name or event.uri or 'an asset'}: it was posted through Airflow's API, which "
        "[pipeops] accept_posted_events does not accept for this asset"
    )


def _event(event: Any, asset: Any) -> Event:
    at = getattr(event, "asset", None) or asset
    source = (getattr(event, f"source_{part}", None) for part in ("dag_id", "run_id", "task_id", "map_index"))
    name, uri = str(getattr(at, "name", at)), str(getattr(at, "uri", ""))
    return Event(event.extra or {}, name, uri, event.timestamp, *source)


def _told_before(context: Context, event: Event, key: str) -> bool:
    """Whether an earlier event on the asset has this key: the watcher repeated it, and another run has taken it up."""
    if not (event.name and event.uri):
        return False
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import InletEventsAccessors

    asset = Asset(name=event.name, uri=event.uri)
    try:
        accessor = InletEventsAccessors([asset])[asset]
        earlier = accessor.before(event.at.isoformat()).ascending(False).limit(_LOOKED_BACK)
        return any(
            other.timestamp < event.at and map_(map_(other.extra).get("payload")).get("key") == key
            for other in earlier
            if not map_(other.extra).get("from_rest_api")
        )
    except Exception as error:  # rather twice than never
        log.info("Nobody can tell whether %s was told before: %s", event.name, type(error).__name__)
        return False
