"""From what was recorded, or told by a watcher, to findings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_pipeops.base.documents import Json, maps, text
from airflow_pipeops.delivery.records import ILL, Record
from airflow_pipeops.operations.remediation.findings import Finding


def found_in(record: Record, environment: str) -> tuple[Finding, ...]:
    """Read the findings that a record states.

    :param record: an *anomaly*, an *incident* that nobody has taken back, a *release* that is degraded.
    :param environment: in which it is answered, where the record happened in none.
    :return: the findings; none where it says of nothing that it is wrong.
    """
    body = record.body
    if record.kind == "anomaly":
        return alarmed(body, record.deliverable, environment, record.id)
    ill = record.kind == "release" and body.get("health") in ILL
    if not ill and (record.kind != "incident" or body.get("restored_by")):
        return ()
    commit = text(body.get("revision" if ill else "bad_revision"))
    why = text(body.get("what") or body.get("reason"), 300) or "the release is degraded"
    where = record.environment or environment
    return (degraded(record.deliverable, where, record.at, commit, why, record.id),)


def alarmed(
    looked: Mapping[str, Any], deliverable: str, environment: str, record: str
) -> tuple[Finding, ...]:
    """Read the alarms of a look at runs: of its record's body, or of what ``RunAnomalyOperator`` returned.

    :param looked: with ``alarms`` and ``until``.
    :param deliverable: that the look was about.
    :param environment: in which it is answered.
    :param record: id of the record.
    :return: one finding for each alarm.
    """
    at = text(looked.get("until"))
    return tuple(
        _of_run(alarm, text(alarm.get("root")), deliverable, environment, at, record)
        for alarm in maps(looked.get("alarms"))
    )


def hanging(
    signals: Iterable[Json], dags: Iterable[str], deliverable: str, environment: str, at: str
) -> tuple[Finding, ...]:
    """Read what ``RunAnomalyTrigger`` told.

    :param signals: payloads of watchers.
    :param dags: those whose runs are about the deliverable; of others, nothing is read.
    :param deliverable: that it is about.
    :param environment: in which it is answered.
    :param at: when it was told, the same at each attempt: the same fault told again is another finding.
    :return: one finding for each.
    """
    mine = set(dags)
    return tuple(
        _of_run(one, text(one["subject"]), deliverable, environment, at, "")
        for one in signals
        if one.get("subject") in mine and one.get("finding")
    )


def degraded(
    deliverable: str, environment: str, at: str, commit: str, reason: str, record: str = ""
) -> Finding:
    """Make the finding of a release that went bad.

    :param deliverable: that was released.
    :param environment: where.
    :param at: when it was seen.
    :param commit: of the desired state that brought it.
    :param reason: one sentence.
    :param record: that says so.
    :return: the finding.
    """
    target = {"commit": commit} if commit else {}
    return Finding("degraded_release", deliverable, environment, at, reason, target, record=record)


def _of_run(said: Json, subject: str, deliverable: str, environment: str, at: str, record: str) -> Finding:
    run, series = text(said.get("run")), text(said.get("kind"))
    # What was delivered may have the name of a DAG: nothing is done to one whose runs were not looked at.
    measured = "dag" if said.get("dag") is True else "subject"
    named = {measured: subject, "run": run, "series": series, "variant": text(said.get("variant"))}
    target = {name: value for name, value in named.items() if value}
    kind: Any = "failed_run" if series == "failure" and run else "anomaly"
    return Finding(kind, deliverable, environment, at, text(said.get("reason"), 300), target, record=record)
