"""Whether all objects that were applied together are ready: what was seen of each, and the rules of the wait. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.readiness import judge
from airflow_pipeops.deploy.seen import Readiness, failed, unknown
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.rules import by, fail, names, wait
from airflow_pipeops.waits.situation import Look
from airflow_pipeops.waits.status import Observed

#: Failures that a moment may mend: a container crashes until its database is there.
_MAY_PASS = frozenset({"crash_loop", "degraded", "stalled", "volume_lost"})
#: The rule of what is taken away some time after its end.
AFTER_END = "gone_after_end"
_NAMED = 10


@dataclass(frozen=True)
class Found:
    """What was seen of one object.

    :param target: which one.
    :param item: the object; ``None`` where it is not there.
    :param pods: its pods; ``None`` where nobody looked, or nobody may.
    :param declares: whether its definition declares a status to wait for; ``None``: not known.
    :param hidden: why it could not be seen; empty where it was.
    """

    target: Target
    item: Mapping[str, Any] | None
    pods: tuple[Mapping[str, Any], ...] | None = None
    declares: bool | None = None
    hidden: str = ""

    @property
    def version(self) -> str:
        """Names this state of the object: another one has another name."""
        metadata = map_((self.item or {}).get("metadata"))
        return f"{text(metadata.get('uid'))}@{text(metadata.get('resourceVersion'))}"


def judged(one: Found, settled: bool) -> Readiness:
    """Judge one object.

    :param one: what was seen of it.
    :param settled: it has been as it is for so long that a controller would have spoken.
    :return: whether it is ready.
    """
    if one.hidden:
        return unknown("hidden", one.hidden)
    if one.item is None and one.target.brief:
        return unknown(AFTER_END, f"{one.target} is gone, as it is after its end, which nobody saw")
    if one.item is None:
        return failed("gone", f"{one.target} is gone")
    return judge(
        one.item,
        one.target.applied,
        pods=one.pods,
        settled=settled,
        declares=one.declares,
        empty_ok=one.target.empty_ok,
    )


def observed(applied: AppliedSet, found: Sequence[Found]) -> Observed:
    """Return one look at all of them."""
    images = {image for one in found for pod in one.pods or () for image in running(pod)}
    return Observed(
        applied.name,
        applied.namespace,
        called=applied.name,
        images=tuple(sorted(images)),
        reconciled=tuple(found),
    )


def running(pod: Mapping[str, Any]) -> list[str]:
    """Return the images that a pod runs, by digest where it tells one."""
    statuses = maps(map_(pod.get("status")).get("containerStatuses"))
    told = [text(one.get("imageID")).rpartition("://")[2] or text(one.get("image")) for one in statuses]
    return [image for image in told if image]


class AppliedLook(Look):
    """A look at objects that were applied, with what each is judged to be."""

    def __init__(self, observed: Observed, expectation: Expectation, memory: Memory) -> None:
        super().__init__(observed, expectation, memory)
        self.found: tuple[Found, ...] = observed.reconciled or ()
        self.judged = [(one.target, self._judge(one)) for one in self.found]

    def of(self, *states: str) -> list[tuple[Target, Readiness]]:
        """Return the objects in one of these states."""
        return [(target, one) for target, one in self.judged if one.state in states]

    def lasted(self, name: str) -> float:
        """Return for how many seconds something has been so; 0 where it is not so."""
        return self.memory.now - self.memory.since.get(name, self.memory.now)

    def _judge(self, one: Found) -> Readiness:
        return judged(one, self.lasted(f"quiet:{one.version}") >= self.expectation.comparison_grace)


def _lasting(look: AppliedLook) -> list[str]:
    spells = [
        f"quiet:{one.version}"
        for one, (_, found) in zip(look.found, look.judged, strict=True)
        if found.state != "failed"
    ]
    if look.of("failed"):
        spells.append("failing")
    if look.of("unknown"):
        spells.append("unknown")
    if not _open(look):
        spells.append("all_ready")
    return spells


def _open(look: AppliedLook) -> list[tuple[Target, Readiness]]:
    """Return the objects that are not ready, or as good as that by a policy."""
    return [
        (target, one)
        for target, one in look.of("failed", "waiting", "unknown")
        if not (one.rule == "paused" and look.expectation.on_suspended == "accept")
        and not (one.state == "unknown" and look.expectation.on_unknown == "accept")
    ]


def _failed(look: AppliedLook) -> Verdict | None:
    bad = look.of("failed")
    if not bad:
        return None
    certain = [pair for pair in bad if pair[1].rule not in _MAY_PASS]
    if certain or look.lasted("failing") >= look.expectation.degraded_grace:
        return fail("degraded", _said(certain or bad))
    return wait("failing", _said(bad))


def _paused(look: AppliedLook) -> Verdict | None:
    held = [pair for pair in look.of("waiting") if pair[1].rule == "paused"]
    return by(look.expectation.on_suspended, "suspended", _said(held)) if held else None


def _waiting(look: AppliedLook) -> Verdict | None:
    left = [pair for pair in look.of("waiting") if pair[1].rule != "paused"]
    return wait("not_ready", _said(left)) if left else None


def _cannot_tell(look: AppliedLook) -> Verdict | None:
    dark = look.of("unknown")
    if not dark:
        return None
    if look.expectation.on_unknown == "fail" and look.lasted("unknown") < look.expectation.comparison_grace:
        return wait("cannot_tell", _said(dark))
    return by(look.expectation.on_unknown, "cannot_tell", _said(dark))


def _ready(look: AppliedLook) -> Verdict:
    held = look.lasted("all_ready")
    if held < look.expectation.settle:
        return wait("settling", f"all are ready, and must stay so for {look.expectation.settle:g} s")
    odd = [pair for pair in look.judged if pair[1].state != "ready"]
    if odd:
        return Verdict("done", "accepted", _said(odd))
    if len(look.judged) == 1:
        return Verdict("done", "ready", look.judged[0][1].reason)
    return Verdict("done", "ready", f"all {len(look.judged)} objects are ready")


def _said(pairs: Sequence[tuple[Target, Readiness]]) -> str:
    first, *others = [f"{one.reason} ({one.rule})" for _, one in pairs]
    return first + (f"; and {len(others)} more: {names(others, '')}"[:800] if others else "")


def _details(look: AppliedLook) -> dict[str, Any]:
    left = [
        f"{target}: {one.state}: {one.reason} ({one.rule})"
        for target, one in look.judged
        if one.state != "ready"
    ]
    return {
        "objects": len(look.judged),
        "ready": len(look.of("ready")),
        "left": left[:_NAMED],
        "images": list(look.observed.images[:50]),
    }


#: The rules of a wait for objects that were applied.
RULEBOOK = Rulebook(
    (_failed, _paused, _waiting, _cannot_tell, _ready),
    _details,
    confirms=False,
    lasting=_lasting,
    look=AppliedLook,
)
