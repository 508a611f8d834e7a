"""Where outcomes and interlocks come from: tables, lists, and the records of a deliverable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.records import gate_passed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import moment

if TYPE_CHECKING:
    from airflow_pipeops.delivery.records import Record

#: Kinds of record that say that something acts on a deliverable.
ACTING = ("decision", "rollback", "incident", "remediation")
#: Subjects of the evaluations that judge what is live.
_GUARDS = ("guard", "prompt guard")
_COLUMNS = ("at", "hit", "loss", "labelled_at")


def read_outcomes(given: Any, storage_conn_id: str | None = None) -> list[Outcome]:
    """Read outcomes.

    :param given: a list of mappings with ``at``, ``hit`` and perhaps ``loss`` and ``labelled_at``; or the URIs of Parquet or
        CSV files with these columns.
    :param storage_conn_id: connection of type ``pipeops_storage``; relative names are below its root.
    :return: the outcomes, oldest first.
    :raises InvalidInput: for anything else, naming the entry.
    """
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and given and isinstance(given[0], str)):
        given = _rows(given, storage_conn_id)
    if not isinstance(given, (list, tuple)):
        raise InvalidInput(
            f"outcomes are of type {type(given).__name__}",
            field="outcomes",
            remedy="Give a list of mappings with at and hit, or the URI of a table with these columns.",
        )
    return sorted((_outcome(item, number) for number, item in enumerate(given, 1)), key=lambda one: one.at)


def _rows(names: str | Sequence[str], storage_conn_id: str | None) -> list[dict[str, Any]]:
    from airflow_pipeops.base.tables import read

    frame = read(names, field="outcomes", storage_conn_id=storage_conn_id).frame
    has_columns("table of outcomes", frame.columns, _COLUMNS[:2])
    kept = frame[[name for name in _COLUMNS if name in frame.columns]].astype(object)
    return list(kept.where(kept.notna(), None).to_dict("records"))


def _outcome(item: Any, number: int) -> Outcome:
    def bad(what: str) -> InvalidInput:
        remedy = "Give at as a time with a zone, hit as true or false (or nothing yet), loss as a number."
        return InvalidInput(f"outcome {number} {what}", field="outcomes", value=number, remedy=remedy)

    if not isinstance(item, Mapping) or not item.get("at"):
        raise bad("has no time at")
    hit, loss = item.get("hit"), item.get("loss")
    if hit is not None and hit not in (True, False):
        raise bad(f"has {hit!r} as hit")
    if loss is not None and (
        isinstance(loss, bool) or not isinstance(loss, (int, float)) or loss - loss != 0
    ):
        raise bad(f"has {loss!r} as loss")
    labelled = item.get("labelled_at")
    return Outcome(
        _time(item["at"]),
        None if hit is None else bool(hit),
        None if loss is None else float(loss),
        _time(labelled) if labelled else None,
    )


def _time(value: Any) -> datetime:
    """Read a time of a table or a list."""
    return moment(value.to_pydatetime() if hasattr(value, "to_pydatetime") else value, "outcomes")


def of_retrains(records: Sequence[Record]) -> list[Outcome]:
    """Read what came of the retrains that a governor decided: a hit is one that did not help.

    :param records: of the deliverable, in the order of time: decisions, evaluations and validations.
    :return: the outcomes, oldest first.
    """
    from airflow_pipeops.governor.forecast import helped
    from airflow_pipeops.governor.history import DECLINED, RETRAIN
    from airflow_pipeops.governor.policy import RetrainPolicy
    from airflow_pipeops.governor.records import observations

    past = observations(records)
    known = dict(helped(past, RetrainPolicy()))
    return [
        Outcome(item.when, None if number not in known else not known[number])
        for number, item in enumerate(past)
        if item.action == RETRAIN and item.outcome != DECLINED
    ]


def of_alarms(records: Sequence[Record]) -> list[Outcome]:
    """Read what came of anomalies that were found: a hit is a false alarm.

    A person's answer counts most: an *approval* made from the record of an anomaly says whether it was one. Else it was one
    where an *incident* was made from it, or a *remediation* of it helped. Of others, nobody knows.

    :param records: of the deliverable: anomalies, and what was made from them.
    :return: the outcomes, oldest first.
    """
    known: dict[str, tuple[bool, str]] = {}
    for rank in (False, True):  # what a person says comes last, and stays
        for record in records:
            right = {
                "approval": record.body.get("approved") if rank else None,
                "incident": None if rank else True,
                "remediation": None if rank else record.body.get("helped") or None,
            }.get(record.kind)
            for parent in record.parents if isinstance(right, bool) else ():
                known[parent] = (not right, record.at)
    return _told((one for one in records if one.kind == "anomaly"), known)


def of_gates(records: Sequence[Record]) -> list[Outcome]:
    """Read what came of what gates let through: a hit is one that was bad.

    A gate is an *evaluation* that said yes. What came of it is made from it, or from the changes and releases that are, or
    names their commits: a *rollback*, an *incident* or a guard's ``worse`` is a hit, a guard's ``no worse`` is none.

    :param records: of the deliverable: evaluations, models, approvals, changes, releases, rollbacks, incidents.
    :return: the outcomes, oldest first.
    """
    gates = [one for one in records if one.kind == "evaluation" and gate_passed(one.body) is True]
    opened = {one.id: {one.id} for one in gates}  # a record -> gates that let it through
    commits: dict[str, set[str]] = {}
    known: dict[str, tuple[bool, str]] = {}
    for record in sorted(records, key=lambda one: one.at):
        through = set().union(*(opened.get(parent, set()) for parent in record.parents))
        opened.setdefault(record.id, set()).update(through)
        named = [text(record.body.get(part)) for part in ("reverts", "bad_revision")]
        named.append(
            text(map_(record.body.get("order")).get("revision"))
        )  # the release that a guard of models has judged
        through = through.union(*(commits.get(name, set()) for name in named if name))
        said = {text(record.body.get(part)) for part in ("verdict", "outcome")}
        if record.kind == "change" and (commit := text(record.body.get("commit"))):
            commits.setdefault(commit, set()).update(opened[record.id])
        guarded = (
            record.body.get("subject") in _GUARDS
        )  # any other finds worse what is not live, or for reasons of its own
        bad = record.kind in ("rollback", "incident") or (guarded and "worse" in said)
        for gate in through:
            if bad or (guarded and "no worse" in said and gate not in known):
                known[gate] = (bad, record.at)
    return _told(gates, known)


def _told(of: Iterable[Record], known: Mapping[str, tuple[bool, str]]) -> list[Outcome]:
    """Make an outcome of each record, with what is known of it."""
    found = []
    for one in sorted(of, key=lambda one: one.at):
        hit, at = known.get(one.id, (None, ""))
        found.append(Outcome(moment(one.at, "at"), hit, labelled_at=moment(at, "at") if at else None))
    return found


def busy_with(records: Sequence[Record], now: datetime, within: timedelta) -> str:
    """Say what else acts on the deliverable.

    :param records: of the deliverable.
    :param now: with a zone.
    :param within: how long an act is under way.
    :return: in words, what was last started; empty if nothing was.
    """
    for record in reversed(records):
        if record.kind not in ACTING or (record.kind == "decision" and not record.body.get("acts")):
            continue
        if record.at and now - moment(record.at, "at") < within:
            return f"what the {record.kind} record {record.id[:12]} of {record.at} tells is under way"
    return ""
