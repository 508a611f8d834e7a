"""When readiness, failure or drift of a Flux object is news: said once, and after a restart too. Pure.

Each judgement takes one look and the memory of those before it, and answers with what to report, if anything, and the
memory for the next look. The memory is JSON and is kept where a restart finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.flux.chain import current, failing
from airflow_pipeops.flux.differences import Correction, changes, fingerprint, report
from airflow_pipeops.flux.status import Reconciled
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.expectation import Expectation, Memory
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed

_KEPT = 20


@dataclass(frozen=True)
class NewsMemory(JsonForm):
    """What is remembered about one object.

    :param known: it was looked at before; the first look only sets the mark.
    :param reported: fingerprint of what was reported last, or was so at the first look.
    :param at: when the last correction that was reported happened, as the cluster writes it.
    :param attempts: failed attempts since it was last ready, by what they were attempts at.
    """

    known: bool = False
    reported: str = ""
    at: str = ""
    attempts: Mapping[str, int] = field(default_factory=dict)


def ready(observed: Observed, memory: NewsMemory) -> tuple[dict[str, Any] | None, NewsMemory]:
    """Say whether this look shows the object ready at something that was not reported yet.

    What is ready already when the watch begins is no news; what is still on its way will be.
    :return: what to tell, if anything, and what to remember.
    """
    chain = _chain(observed)
    if not is_ready(observed):
        return None, replace(memory, known=True)
    release = chain.release
    what = [release.chart, release.number] if release else list(chain.main.applied[-1:])
    mark = fingerprint([observed.uid, what])
    if mark == memory.reported or not memory.known:
        return None, NewsMemory(known=True, reported=mark)
    return {**_about(observed), "fingerprint": mark}, NewsMemory(known=True, reported=mark)


def failed(
    observed: Observed, memory: NewsMemory, *, attempts: int = 2
) -> tuple[dict[str, Any] | None, NewsMemory]:
    """Say whether this look shows a failure that was not reported yet; once, until it is ready again.

    :param attempts: how many different attempts must have failed, where the controller has not given up.
    :return: what to tell, if anything, and what to remember.
    """
    chain = _chain(observed)
    main = chain.main
    if is_ready(observed):
        return None, NewsMemory(known=True)
    about = f"{main.generation}|{','.join(main.tried[:1])}|"
    tried = {name: seen for name, seen in memory.attempts.items() if name.startswith(about)}
    if failing(_look(observed)) or (main.ready == "False" and main.stalled):
        tried[about + main.attempt] = 1
    memory = replace(memory, known=True, attempts=dict(list(tried.items())[-_KEPT:]))
    needed = 1 if main.reason == "BuildFailed" or main.stalled else attempts
    mark = fingerprint([observed.uid, about])
    if len(tried) < max(1, needed) or not tried or mark == memory.reported:
        return None, memory
    payload = {
        **_about(observed),
        "tried": main.tried[0] if main.tried else "",
        "reason": main.reason,
        "message": redacted(main.message)[:1000],
        "stalled": bool(main.stalled),
        "attempts": len(tried),
        "resources": [
            {"kind": item.kind, "namespace": item.namespace, "name": item.name, "health": item.health}
            for item in observed.resources[:_KEPT]
        ],
        "fingerprint": mark,
    }
    return payload, replace(memory, reported=mark)


def drifted(
    observed: Observed, found: list[Correction], memory: NewsMemory
) -> tuple[dict[str, Any] | None, NewsMemory]:
    """Say whether drift was found, or put right, that was not reported yet.

    :param found: what was put right since ``memory.at``.
    :return: what to tell, if anything, and what to remember.
    """
    chain = _chain(observed)
    release = chain.release
    if release is None or not memory.known or any(one.at > memory.at for one in found):
        return _corrected(observed, found, memory)
    if not release.drifted:
        return None, NewsMemory(known=True, at=memory.at)
    mark = fingerprint([observed.uid, release.number, release.drifted])
    # What is being put right now is told with that.
    if mark == memory.reported or (release.drift_mode == "enabled" and chain.main.busy):
        return None, memory
    said = report(changes(release.drifted.partition(": ")[2]), release.drifted)
    payload = {
        **_about(observed),
        "mode": release.drift_mode,
        "corrected": False,
        **said,
        "fingerprint": mark,
    }
    return payload, NewsMemory(known=True, reported=mark, at=memory.at)


def _corrected(
    observed: Observed, found: list[Correction], memory: NewsMemory
) -> tuple[dict[str, Any] | None, NewsMemory]:
    newest = max((one.at for one in found), default=memory.at)
    news = [one for one in found if one.at > memory.at]
    if not memory.known or not news:
        # What was put right before anybody watched is no news.
        return None, replace(memory, known=True, at=newest)
    named = tuple(dict.fromkeys(change for one in news for change in one.changes))
    mark = fingerprint([observed.uid, newest, [one.to_json() for one in named]])
    said = report(named, "")
    payload = {
        **_about(observed),
        "mode": "enabled",
        "corrected": True,
        **said,
        "at": newest,
        "fingerprint": mark,
    }
    return payload, NewsMemory(known=True, reported=mark, at=newest)


def is_ready(observed: Observed) -> bool:
    """Whether what the object's controller did last ended well, and is about its present spec."""
    chain = _chain(observed)
    if chain.release is not None:
        return current(_look(observed)) is None
    return chain.main.ready == "True" and chain.main.current and bool(chain.main.applied)


def _chain(observed: Observed) -> Reconciled:
    assert isinstance(observed.reconciled, Reconciled)
    return observed.reconciled


def _look(observed: Observed) -> Look:
    """Return a look without any expectation but that things go well."""
    return Look(observed, Expectation(match="any"), Memory())


def _about(observed: Observed) -> dict[str, Any]:
    chain = _chain(observed)
    last = chain.owner or chain.main
    # Whoever waits for the release's health has not brought to its end yet what the release is from.
    known = last.tried if chain.owner and last.past_apply else last.applied
    found = {
        "kind": chain.main.kind,
        "name": observed.name,
        "namespace": observed.namespace,
        "revision": known[0] if known else "",
    }
    return {**found, "chart": chain.release.chart} if chain.release else found
