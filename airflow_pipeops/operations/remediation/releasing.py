"""Is somebody else releasing this? Pure: from the records of an environment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.records import Record


def releasing(records: Iterable[Record], now: datetime, longest: timedelta, commit: str = "") -> str:
    """Say who is releasing: who has changed the desired state, and nothing has been said of how it went.

    :param records: of one deliverable in one environment: *change*, *release*, *rollback*, *incident*.
    :param now: with a zone.
    :param longest: that a release takes; an older change is no longer one.
    :param commit: that is at fault itself, and so no reason to wait.
    :return: the change and the DAG that made it; empty if nobody is.
    """
    known = sorted(records, key=lambda one: one.at)
    for place in range(len(known) - 1, -1, -1):
        one = known[place]
        if one.kind != "change":
            return ""  # the newest word is how something went
        fresh = now - datetime.fromisoformat(one.at) <= longest
        said = text(one.body.get("commit"))
        ours = one.body.get("operation")  # its own lock guards it
        if one.body.get("changed") and fresh and said != commit and not ours:
            return f"{said[:12] or 'a change'} of {one.source.get('dag') or 'somebody'} at {one.at}"
    return ""
