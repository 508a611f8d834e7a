"""From a record to a symptom: how it shows, and between which times it began. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_pipeops.base.documents import Json, map_, maps, text
from airflow_pipeops.delivery.queries.facts import Fact, moment
from airflow_pipeops.delivery.records import ILL, gate_passed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.changes.settings import SYMPTOMS, SymptomKind
from airflow_pipeops.operations.changes.suspects import Symptom

#: Hours before it was seen in which it began, where nothing says when all was last well.
UNKNOWN_ONSET = 24.0
#: Kind of a series -> how it shows that a value of it is unusual.
_UNUSUAL: Mapping[str, SymptomKind] = {
    **dict.fromkeys(("duration", "queue", "wait", "lag", "lead"), "degraded"),
    **dict.fromkeys(("failure", "interval"), "failure"),
    "rows": "data",
}
#: Kind of a finding -> how it shows.
_FINDINGS: Mapping[str, SymptomKind] = {
    "drift": "drift",
    "degraded_release": "degraded",
    "failed_gate": "data",
    "failed_run": "failure",
}
#: Of these, what was seen is the seconds since the time of the value.
_SECONDS = ("duration", "queue", "interval", "wait")
_WORDS: tuple[tuple[SymptomKind, str], ...] = (
    ("data", r"schema|null|columns?\b|batch|rows?\b"),
    ("drift", r"drift"),
    ("metric", r"\bauc\b|accuracy|precision|recall|quality|metric|score|rmse|conversion"),
    (
        "degraded",
        r"degrad|unhealthy|pods?\b|restart|slow|latency|timeouts?\b|error rate|5\d\d\b|unavailable|down\b",
    ),
    ("failure", r"fail|error|exception|crash"),
)


def went_wrong(fact: Fact) -> SymptomKind | None:
    """Say how a record shows that something went wrong.

    :param fact: the record.
    :return: the kind of symptom; none where it says that all is well, or says nothing.
    """
    body = fact.body
    if fact.kind == "incident":
        said = text(body.get("symptom"))
        if said in SYMPTOMS:
            return said
        words = f"{text(body.get('what'))} {text(body.get('reason'))}".lower()
        return next((kind for kind, pattern in _WORDS if re.search(pattern, words)), "unknown")
    if fact.kind == "release":
        return "degraded" if body.get("health") in ILL else None
    if fact.kind == "rollback":
        return "unknown"
    if fact.kind == "evaluation":
        ill = body.get("worse") is True or body.get("verdict") == "worse" or body.get("outcome") == "worse"
        return "metric" if ill else None
    if fact.kind == "drift":
        return "drift" if body.get("drifted") is True else None
    if fact.kind == "anomaly":
        alarm = _alarm(fact)
        return _UNUSUAL.get(text(alarm.get("kind")), "unknown") if alarm is not None else None
    if fact.kind == "validation" and gate_passed(body) is False:
        return "failure" if body.get("subject") in ("tests", "coverage", "image") else "data"
    return None


def symptom_of(fact: Fact, earlier: Iterable[Fact] = (), kind: SymptomKind | None = None) -> Symptom:
    """Make a symptom of a record.

    :param fact: the record.
    :param earlier: what was recorded of the same deliverable before it.
    :param kind: how it shows, where the record does not say.
    :return: the symptom.
    """
    found = kind or went_wrong(fact) or "unknown"
    alarm = _alarm(fact) or {}
    said = (text(told.get(name), 200) for told in (fact.body, alarm) for name in ("what", "reason"))
    what = next(filter(None, said), fact.kind)
    start, end = _times((alarm or fact.body).get("onset"))
    if alarm and not end:
        start, end = _of_value(alarm)
    end = min(end, fact.at) if end else fact.at
    start = start or _well(fact, earlier) or hours_before(end, UNKNOWN_ONSET)
    return Symptom(found, min(start, end), end, fact.deliverable, fact.environment, what, fact.id)


def asked_before(fact: Fact) -> Symptom | None:
    """Return what an explanation or a remediation has answered, as it says it.

    :param fact: the record.
    :return: what went wrong; none for a record of another kind, or one that cannot be read.
    """
    try:
        if fact.kind == "explanation":
            return Symptom.from_json(fact.body.get("symptom"))
        if fact.kind == "remediation":
            found = map_(fact.body.get("finding"))
            kind, end = _FINDINGS.get(text(found.get("kind")), "unknown"), moment(text(found.get("at")))
            what = text(found.get("reason"), 200) or text(found.get("kind"), 200)
            return Symptom(
                kind, hours_before(end, UNKNOWN_ONSET), end, fact.deliverable, fact.environment, what
            )
    except (InvalidInput, TypeError):
        pass
    return None


def at_a_time(deliverable: str, environment: str, end: str) -> Symptom:
    """Make a symptom of which nobody says more than that it was there at a time."""
    start = hours_before(end, UNKNOWN_ONSET)
    return Symptom("unknown", start, end, deliverable, environment, "something was wrong at that time")


def _alarm(fact: Fact) -> Json | None:
    """The first alarm of an anomaly; none of a record that has none, or is of another kind."""
    return next(iter(maps(fact.body.get("alarms"))), None) if fact.kind == "anomaly" else None


def _times(given: Any) -> tuple[str, str]:
    """The onset that the record itself states: a time, or the first and the last at which it can have been."""
    values = given if isinstance(given, (list, tuple)) else [given]
    try:
        times = sorted(moment(text(value)) for value in values)
    except InvalidInput:
        return "", ""
    return (times[0], times[-1]) if times else ("", "")


def _of_value(alarm: Json) -> tuple[str, str]:
    """The onset of one unusual value: a run that is slow began well, and one that is missing came when it last did."""
    _, at = _times(alarm.get("at"))
    seen, kind = alarm.get("seen"), alarm.get("kind")
    if not at or kind not in _SECONDS or isinstance(seen, bool) or not isinstance(seen, (int, float)):
        return "", at
    try:
        end = moment((datetime.fromisoformat(at) + timedelta(seconds=seen)).isoformat())
    except (OverflowError, ValueError):  # infinite, or longer than there are years
        return "", at
    return (at if kind == "interval" else ""), end


def _well(fact: Fact, earlier: Iterable[Fact]) -> str:
    """When the same was last found well; empty if never."""
    times = [one.at for one in earlier if one.at < fact.at and _says_well(one, fact)]
    return max(times, default="")


def _says_well(one: Fact, fact: Fact) -> bool:
    if fact.kind in ("incident", "release", "rollback"):
        return (
            one.kind == "release"
            and one.environment == fact.environment
            and one.body.get("health") not in ILL
        )
    same = all(one.body.get(name) == fact.body.get(name) for name in ("subject", "metric"))
    return one.kind == fact.kind and same and went_wrong(one) is None and _told(one)


def _told(one: Fact) -> bool:
    """Whether a judgement has come to a result."""
    if one.kind == "validation":
        return gate_passed(one.body) is not None
    return one.kind != "evaluation" or one.body.get("value") is not None or bool(one.body.get("outcome"))


def hours_before(at: str, hours: float) -> str:
    """The time so many hours before another; where there is none so early, the first of all."""
    try:
        return moment((datetime.fromisoformat(at) - timedelta(hours=hours)).isoformat())
    except OverflowError:
        return moment("0001-01-01")
