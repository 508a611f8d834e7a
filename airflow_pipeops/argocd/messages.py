"""The message of a failed wait: the decisive line first, then what a person looks up next. Pure.

What does not fit is left out by whole sections, the least important first; the first line always stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_pipeops.base.documents import map_, maps
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.messages import folded
from airflow_pipeops.waits.status import Observed, Resource, short
from airflow_pipeops.waits.verdict import Verdict

#: Bytes; a message travels through logs and notifications.
LIMIT = 8 * 1024
#: Bytes of a line, of the first line, and of the log lines of one resource.
_LINE, _FIRST, _LOG = 400, 1200, 2500
#: Items of a section, and sync windows.
_MOST, _MOST_WINDOWS = 15, 5
#: Seconds of the units in which Go writes a duration.
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")

_FAILED_SYNC = re.compile(r"the synchronisation at (?P<at>.+?) (?:failed|error): (?P<why>.*)", re.DOTALL)


@dataclass(frozen=True)
class Findings:
    """What was looked up after the verdict; all of it best effort.

    :param observed: a late look at the application, for its resources and conditions.
    :param described: who wrote which revision, and its subject.
    :param logs: the last lines of what failed, by name of the resource.
    :param pods: nodes of the resource tree: pods that are not healthy, and why.
    :param events: the last Warning events, the latest last, as Kubernetes has them.
    :param windows: the answer of ``/syncwindows``.
    :param commits: the page of each revision at its forge.
    """

    observed: Observed | None = None
    described: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pods: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    windows: Mapping[str, Any] | None = None
    commits: Mapping[str, str] = field(default_factory=dict)


def compose(
    app: str,
    verdict: Verdict,
    findings: Findings,
    url: str,
    *,
    now: float,
    also: Callable[[str], str] | None = None,
) -> str:
    """Put the message together, at most :data:`LIMIT` bytes, without secrets.

    :param app: how the application is named, with its project.
    :param url: of its page.
    :param now: the time, for what is said about sync windows.
    :param also: a further masker of secrets.
    :return: the message.
    """
    observed = findings.observed
    # In the order of the text; the number says how important a section is: 1 goes last.
    sections: list[tuple[int, list[str]]] = [
        (2, [f"  {url}"] if url else []),
        (5, _revisions(verdict, findings)),
        (3, _operation(verdict, observed)),
        (4, _failures(observed)),
        (8, _logs(findings.logs)),
        (6, _unhealthy(observed) + _pods(findings.pods)),
        (7, _conditions(observed)),
        (10, _events(findings.events)),
        (9, window_lines(findings.windows, now)),
        (11, [f"  note: {note}" for note in verdict.details.get("warnings") or ()]),
        (1, [_decided(verdict)]),
    ]
    masked = [
        (importance, [_line(redacted(line, also), _LINE) for line in lines])
        for importance, lines in sections
        if lines
    ]
    # The mask goes over the whole first line before it is cut: half a secret is one too.
    return _fitted(_line(redacted(headline(app, verdict), also), _FIRST), masked)


def headline(app: str, verdict: Verdict) -> str:
    """Return the first line: which application, what failed, at which revision, and why."""
    wanted = [short(str(item)) for item in dict(verdict.details.get("expected") or {}).values()]
    expected = ", ".join(dict.fromkeys(wanted))
    match = _FAILED_SYNC.match(verdict.reason) if verdict.state == "failed" else None
    if match and verdict.rule != "deadline":
        beside = f" (expected {expected})" if expected else ""
        return f"Argo CD app {app}: sync FAILED at {match['at']}{beside}: {match['why']}"
    beside = f" (expected {expected})" if expected and expected not in verdict.reason else ""
    return f"Argo CD app {app}: {verdict.reason}{beside}"


def failed_resources(observed: Observed | None) -> list[Resource]:
    """Return the resources and hooks at which the last synchronisation failed."""
    results: Iterable[Resource] = observed.operation.resources if observed and observed.operation else ()
    return [item for item in results if item.sync == "SyncFailed" or item.phase in ("Failed", "Error")]


def unhealthy_resources(observed: Observed | None) -> list[Resource]:
    """Return the resources that are not healthy, worst first."""
    found = [item for item in (observed.resources if observed else ()) if item.health not in ("", "Healthy")]
    return sorted(found, key=lambda item: item.health not in ("Degraded", "Missing"))


def unhealthy_pods(tree: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the pods of a resource tree that are not healthy.

    :param tree: the answer of ``/resource-tree``; ``None`` where there is none.
    :return: its nodes.
    """
    pods = [node for node in maps(map_(tree).get("nodes")) if node.get("kind") == "Pod"]
    return [pod for pod in pods if map_(pod.get("health")).get("status") != "Healthy"]


def window_lines(windows: Mapping[str, Any] | None, now: float) -> list[str]:
    """Return what a person should know of sync windows: whether one is open, and when that changes.

    :param windows: the answer of ``/syncwindows``.
    :param now: seconds since the epoch.
    :return: lines; none where no window is assigned.
    """
    assigned = [item for item in (windows or {}).get("assignedWindows") or () if isinstance(item, Mapping)]
    if windows is None or not assigned:
        return []
    lines = [f"  sync windows: a synchronisation is {'' if windows.get('canSync') else 'not '}allowed now"]
    return lines + [f"    {_described(item, now)}" for item in assigned[:_MOST_WINDOWS]]


def next_change(schedule: str, duration: str, now: float) -> tuple[bool, float] | None:
    """Return whether a window is open, and when it closes or opens next; ``None`` where that cannot be told.

    :param schedule: cron expression; UTC, since the server does not tell the window's time zone.
    :param duration: as Go writes it, such as ``1h30m``.
    :return: whether it is open, and the moment as seconds since the epoch.
    """
    length = _seconds(duration)
    try:
        from croniter import croniter

        moment = datetime.fromtimestamp(now, timezone.utc)
        begun = croniter(schedule, moment + timedelta(seconds=1)).get_prev(datetime)
        if begun.timestamp() + length > now:
            return True, begun.timestamp() + length
        return False, croniter(schedule, moment).get_next(datetime).timestamp()
    except (ImportError, ValueError, KeyError, OverflowError, AttributeError):
        return None


def _decided(verdict: Verdict) -> str:
    last = f", last rule {verdict.details['last_rule']}" if verdict.details.get("last_rule") else ""
    held = verdict.details.get("rule_held")
    so = f", so for {held:.0f} s" if isinstance(held, (int, float)) and held >= 1 else ""
    return f"  decided by rule {verdict.rule}{last}{so}, matching {verdict.details.get('match', '?')}"


def _revisions(verdict: Verdict, findings: Findings) -> list[str]:
    lines = []
    for name in ("expected", "desired", "applied"):
        value = verdict.details.get(name)
        revisions = list(value.values()) if isinstance(value, Mapping) else list(value or ())
        for revision in revisions[:_MOST]:
            page = f"  {findings.commits[revision]}" if findings.commits.get(revision) else ""
            lines.append(f"  {name} {short(revision)}{findings.described.get(revision, '')}{page}")
    return lines


def _operation(verdict: Verdict, observed: Observed | None) -> list[str]:
    state = f"  sync {verdict.details.get('sync', '?')}, health {verdict.details.get('health', '?')}"
    operation = verdict.details.get("operation")
    if not isinstance(operation, Mapping):
        return [f"{state}, no operation"]
    parts = [f"operation {operation.get('phase') or 'queued'}"]
    if observed and observed.operation:
        begun, ended = observed.operation.started_at, observed.operation.finished_at
        parts += [f"started {_time(begun)}"] if begun is not None else []
        parts += [f"ended {_time(ended)}"] if ended is not None else []
    parts.append(f"{operation.get('retries') or 0} retries")
    parts.append(f"started by {operation.get('initiated_by') or 'somebody'}")
    parts.append("carries our id" if operation.get("ours") else "not ours")
    return [state, f"  {', '.join(parts)}: {operation.get('message') or '-'}"]


def _failures(observed: Observed | None) -> list[str]:
    return _items(
        f"  failed {item}{' ' + item.hook + ' hook' if item.hook else ''}: {item.message or '-'}"
        for item in failed_resources(observed)
    )


def _unhealthy(observed: Observed | None) -> list[str]:
    return _items(
        f"  {item} is {item.health}: {item.message or '-'}" for item in unhealthy_resources(observed)
    )


def _pods(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for pod in pods:
        said = {item.get("name"): item.get("value") for item in maps(pod.get("info"))}
        why = map_(pod.get("health")).get("message") or "-"
        lines.append(f"  pod {pod.get('name')} is {said.get('Status Reason', '?')}: {why}")
    return _items(dict.fromkeys(lines))


def _conditions(observed: Observed | None) -> list[str]:
    return _items(
        f"  condition {item.type}: {item.message}" for item in (observed.conditions if observed else ())
    )


def _logs(logs: Mapping[str, Sequence[str]]) -> list[str]:
    found: list[str] = []
    for name, lines in logs.items():
        kept: list[str] = []
        size = 0
        # The end of a log says why; its beginning is the first to go.
        for line in reversed(folded(lines)):
            size += min(len(line.encode("utf-8", "replace")), _LINE) + 5
            if size > _LOG:
                break
            kept.append(f"    {line}")
        if kept:
            found += [f"  last log lines of {name}:", *reversed(kept)]
    return found


def _events(events: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for event in events[-10:]:
        about = event.get("involvedObject")
        about = about if isinstance(about, Mapping) else {}
        what = f"{about.get('kind', '?')}/{about.get('name', '?')}"
        count = event.get("count")
        times = f" ({count} times)" if isinstance(count, int) and count > 1 else ""
        lines.append(f"  event {event.get('reason', '?')} on {what}{times}: {event.get('message', '')}")
    return lines


def _described(window: Mapping[str, Any], now: float) -> str:
    schedule, duration = str(window.get("schedule") or "?"), str(window.get("duration") or "?")
    text = f"{window.get('kind', '?')} {schedule} for {duration}"
    change = next_change(schedule, duration, now)
    if change is not None:
        is_open, at = change
        when = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        text += f", open until {when}" if is_open else f", opens next at {when}"
    return text + (", by hand allowed" if window.get("manualSync") else "")


def _seconds(duration: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


def _items(lines: Iterable[str]) -> list[str]:
    found = list(lines)
    more = [f"  and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return found[:_MOST] + more


def _time(value: float) -> str:
    return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(text: str, most: int) -> str:
    """Return a text as one line of at most so many bytes."""
    raw = " ".join(text.splitlines()).rstrip().encode("utf-8", "replace")
    return raw.decode() if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore") + "..."


def _fitted(first: str, sections: list[tuple[int, list[str]]]) -> str:
    kept = list(sections)
    left_out = 0
    while True:
        note = [f"  ({left_out} sections were left out for length)"] if left_out else []
        text = "\n".join([first, *(line for _, lines in kept for line in lines), *note])
        if len(text.encode()) <= LIMIT or not kept:
            return text
        kept.remove(max(kept, key=lambda section: section[0]))
        left_out += 1
