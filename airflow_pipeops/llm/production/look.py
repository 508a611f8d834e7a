"""What the kept calls of an application say of a prompt. It blocks; an event loop calls it in a thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.llm.production import store
from airflow_pipeops.llm.production.liveness import Expected, Seen, decide
from airflow_pipeops.llm.production.store import Window
from airflow_pipeops.waits.expectation import Verdict


def judged(root: Any, app: str, expected: Expected, waited: float, log: Callable[..., None]) -> Verdict:
    """Look once, and judge.

    :param root: where calls are kept.
    :param app: whose calls.
    :param expected: what must come true.
    :param waited: seconds since the first look.
    :param log: is told what was found.
    :return: the verdict; a store that does not answer is waited for.
    :raises PipeOpsError: for what no wait mends.
    """
    try:
        verdict = decide(look(root, app, expected), expected, waited)
    except (PipeOpsError, OSError) as error:
        if isinstance(error, PipeOpsError) and not error.retryable:
            raise
        said = error.message if isinstance(error, PipeOpsError) else type(error).__name__
        state = "failed" if waited >= expected.timeout else "wait"
        verdict = Verdict(state, "unreadable", f"the kept calls cannot be read: {said}")  # type: ignore[arg-type]
    log("%s (%s)", verdict.reason, verdict.rule)
    return verdict


def look(root: Any, app: str, expected: Expected) -> Seen:
    """Read the calls that were made since a release.

    :param root: where calls are kept.
    :param app: whose calls.
    :param expected: names the release.
    :return: what is known; where several sources are sampled, as far as all of them are.
    """
    found = store.windows(root, app, datetime.fromtimestamp(expected.released, timezone.utc))
    if not found:
        return Seen(None)
    spans = [
        _covered(list(each)) for _, each in groupby(sorted(found, key=_by_source), key=lambda one: one.source)
    ]
    since, until = max(begin for begin, _ in spans), min(end for _, end in spans)
    first = datetime.fromtimestamp(max(expected.begin, until - expected.window.total_seconds()), timezone.utc)
    last = datetime.fromtimestamp(until, timezone.utc)
    frame = store.calls([one for one in found if one.end > first.isoformat()], first, last)
    at = [each.timestamp() for each in frame["at"]]
    return Seen(until, tuple(zip(at, frame["prompt_digest"], strict=True)), since)


def _by_source(one: Window) -> tuple[str, str]:
    return one.source, one.start


def _covered(found: list[Window]) -> tuple[float, float]:
    """Return the last time without a gap that the windows of a source cover."""
    ends = [(_seconds(one.start), _seconds(one.end)) for one in found]
    until = max(end for _, end in ends)
    since = until
    for begin, end in sorted(ends, key=lambda one: -one[1]):
        if end < since:
            break
        since = min(since, begin)
    return since, until


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
