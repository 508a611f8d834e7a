"""Whether a release of a stream is live: from the group, its committed offsets and what was committed with them. Pure.

Live means, for every partition in which the release begins: the member that owns it now has said that this very model scores
what comes next; the committed offset has passed the start, and is one that the broker keeps; nothing from there on was
scored by another release; what waits is within its bounds; and all of that held for the settle window, in which each owner
has spoken again. What nobody has said is waited for, and never taken for yes. Where no record has come since the start,
the range from there on is empty: that nothing was scored by another release is proven, and no score is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import chain
from typing import Any, Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.releases import REVISION
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.status import Trouble

#: Pauses that end only when a person changes something.
LASTING = frozenset({"start_passed", "poison", "model_refused", "offsets_lost"})


@dataclass(frozen=True)
class Seen(JsonForm):
    """One partition of the input topic, as the broker sees it.

    :param partition: its number.
    :param committed: the group's committed offset; ``None`` where there is none.
    :param progress: what was committed with it; ``None`` where nothing was that this service would write.
    :param stable: offset up to which committed transactions can be read.
    :param high: offset of what is written next.
    :param owner: client id of the member that it is assigned to; empty where it is assigned to none.
    :param low: offset of the first record that the broker still keeps.
    """

    partition: int
    committed: int | None
    progress: Progress | None
    stable: int
    high: int
    owner: str = ""
    low: int = 0

    @property
    def lag(self) -> int:
        """Records that wait; at most, since ends of transactions have offsets, too."""
        return max(0, self.stable - (self.committed or 0))


@dataclass(frozen=True)
class Group(JsonForm):
    """The consumer group and its topics, at one moment.

    :param state: as the broker says it, for example ``STABLE``.
    :param members: client ids.
    :param partitions: of the input topic.
    :param outputs: partition -> (offset up to which it can be read, offset of what is written next), of the output topic.
    :param now: wall clock of whoever looks, in seconds.
    """

    state: str
    members: tuple[str, ...]
    partitions: tuple[Seen, ...]
    outputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    now: float = 0.0


@dataclass(frozen=True)
class Expectation(JsonForm):
    """What must come true. Durations are seconds.

    :param revision: the release.
    :param sha256: digest of its model.
    :param start: partition, as text -> first offset that it scores; ``None`` where it is only announced.
    :param rescore: records that an earlier release has scored are scored once more.
    :param stage: ``ready``: every owner has loaded and verified the model; ``live``: it scores.
    :param most_waiting: records that may wait in a partition; ``None`` for any number.
    :param most_behind: seconds that the scores of a partition may be late; ``None`` for any.
    :param settle: for which all must hold.
    :param hung_after: for which a transaction may keep readers waiting.
    :param transport_grace: for which nothing may be seen.
    :param timeout: for the whole wait; ``None`` for ever.
    :param on_idle: ``accept``: no record has come since the start, and that proves it; ``wait`` until one was scored.
    :param begun: partitions in which any release has begun: the members of the others have no offset to say anything
        with; ``None`` where that is not known.
    """

    revision: str
    sha256: str
    start: Mapping[str, int] | None = None
    rescore: bool = False
    stage: Literal["ready", "live"] = "live"
    most_waiting: int | None = None
    most_behind: float | None = 60.0
    settle: float = 10.0
    hung_after: float = 90.0
    transport_grace: float = 600.0
    timeout: float | None = 1800.0
    on_idle: Literal["accept", "wait"] = "accept"
    begun: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Memory(JsonForm):
    """What one look must know of those before it. Times are the caller's ``now``.

    :param now: when the last look was judged.
    :param started_at: when the first one was.
    :param rule: that decided last.
    :param since: since when all has held without a gap.
    :param spoken: partition -> what its owner had said last when that began.
    :param committed: partition -> committed offset at the last look.
    :param hung: partition -> (offset at which readers stand, since when).
    :param troubles: how many looks in a row were refused.
    :param trouble_since: since when nothing could be seen.
    """

    now: float = 0.0
    started_at: float | None = None
    rule: str = ""
    since: float | None = None
    spoken: Mapping[str, str] = field(default_factory=dict)
    committed: Mapping[str, int] = field(default_factory=dict)
    hung: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    troubles: int = 0
    trouble_since: float | None = None


def decide(
    seen: Group | Trouble, expected: Expectation, memory: Memory, now: float
) -> tuple[Verdict, Memory]:
    """Judge one look.

    :param seen: what was seen, or why nothing could be seen.
    :param expected: what must come true.
    :param memory: what the last call returned; ``Memory()`` at first.
    :param now: seconds of a clock that does not jump.
    :return: the verdict, and the memory for the next call.
    """
    now = max(now, memory.now)
    started = now if memory.started_at is None else memory.started_at
    memory = replace(memory, now=now, started_at=started)
    if isinstance(seen, Trouble):
        verdict, memory = _troubled(seen, expected, memory)
    else:
        first = (_went_back(seen, memory), _lost(seen, expected, memory))
        memory = replace(_remember(seen, memory), troubles=0, trouble_since=None)
        verdict = next(
            filter(None, chain(first, _failures(seen, expected, memory), _waits(seen, expected))), None
        ) or _settled(seen, expected, memory)
        memory = _spell(seen, verdict, memory)
    if verdict.state == "wait" and expected.timeout is not None and now - started >= expected.timeout:
        details = {**verdict.details, "last_rule": verdict.rule}
        reason = f"waited {now - started:.0f} s; at the end because {verdict.reason}"
        verdict = Verdict("failed", "deadline", reason, details)
    return verdict, replace(memory, rule=verdict.rule)


def _failures(seen: Group, expected: Expectation, memory: Memory) -> Iterator[Verdict | None]:
    there = {one.partition: one for one in seen.partitions}
    for partition in map(int, expected.start or ()):
        if partition not in there:
            said = f"{expected.revision} begins in partition {partition}, and the topic has {len(there)}"
            yield Verdict("failed", "partition_missing", said)
    if expected.stage == "live":  # to be ready is to have the model, whatever another one has met
        for one in _concerned(seen, expected):
            yield _paused(one, expected)
            yield _wrong_model(one, expected)
    for name, (offset, since) in memory.hung.items():
        if memory.now - since >= expected.hung_after:
            said = f"an open transaction keeps readers of {name} at offset {offset} for {memory.now - since:.0f} s"
            yield Verdict("failed", "hung_transaction", said)


def _waits(seen: Group, expected: Expectation) -> Iterator[Verdict | None]:
    state = seen.state.upper().replace("_", " ")
    if state != "STABLE":
        empty = state in ("EMPTY", "DEAD")
        said = "the group has no member" if empty else f"the group is {state.lower()}"
        yield Verdict("wait", "no_members" if empty else "rebalancing", said)
    concerned = _concerned(seen, expected)
    if not concerned:
        yield Verdict("wait", "no_partitions", "the topic's partitions are not known")
    for one in concerned:
        yield _silent(one, expected) or _not_ready(one, expected)
    if expected.stage == "ready":
        return
    if expected.start is None:
        yield Verdict("wait", "announced", f"{expected.revision} is announced, and begins nowhere yet")
    for one in concerned:
        yield _ahead(one, expected) or _late(one, expected, seen.now) or _idle(one, expected)


def _concerned(seen: Group, expected: Expectation) -> list[Seen]:
    """Return the partitions in which the release begins; all, where it is only announced."""
    if expected.start is None or expected.stage == "ready":
        return list(seen.partitions)
    return [one for one in seen.partitions if str(one.partition) in expected.start]


def _paused(one: Seen, expected: Expectation) -> Verdict | None:
    said = one.progress
    if said is None or said.member != one.owner or not said.paused:
        return None
    # What a member says that does not know the release yet is about an older table.
    lasting = said.paused in LASTING and _number(said.known) >= _number(expected.revision)
    reason = f"partition {one.partition} is paused: {said.reason or said.paused}"
    return Verdict("failed", f"paused_{said.paused}", reason) if lasting else None


def _wrong_model(one: Seen, expected: Expectation) -> Verdict | None:
    said, start = one.progress, (expected.start or {}).get(str(one.partition))
    if said is None or start is None:
        return None
    if said.at is not None and said.at >= start and said.last != expected.revision and not expected.rescore:
        reason = (
            f"partition {one.partition}: offset {said.at} was scored by {said.last}, beyond the start {start}"
        )
        return Verdict("failed", "wrong_model", reason)
    if said.revision == expected.revision and said.sha256 != expected.sha256:
        reason = (
            f"partition {one.partition} calls {said.sha256[:12]} {said.revision}, not {expected.sha256[:12]}"
        )
        return Verdict("failed", "wrong_model", reason)
    return None


def _lost(seen: Group, expected: Expectation, before: Memory) -> Verdict | None:
    """Say that what a partition goes on with is not kept: a client's own way would be to begin elsewhere, in silence."""
    if expected.stage != "live":
        return None
    for one in _concerned(seen, expected):
        start, said, name = (expected.start or {}).get(str(one.partition)), one.progress, expected.revision
        if expected.rescore and start is not None and start < one.low and said and said.last != name:
            reason = (
                f"{name} scores partition {one.partition} once more from offset {start}, and the broker keeps "
                f"nothing before {one.low}"
            )
            return Verdict("failed", "offsets_lost", reason)
        if one.committed is None or one.low <= one.committed <= one.high:
            continue
        why = (
            f"has deleted what came before {one.low}"
            if one.committed < one.low
            else f"has nothing beyond {one.high}: the topic was made anew, or has lost records"
        )
        reason = (
            f"the group is at offset {one.committed} of partition {one.partition}, and the broker {why}. Nothing is "
            "skipped or repeated by itself: set the offsets"
        )
        # A member may have read what was deleted a moment later.
        stays = before.committed.get(str(one.partition)) == one.committed
        return Verdict("failed" if stays else "wait", "offsets_lost", reason)
    return None


def _silent(one: Seen, expected: Expectation) -> Verdict | None:
    if not one.owner:
        return Verdict("wait", "unassigned", f"partition {one.partition} is assigned to no member")
    if _mute(one, expected):
        return None
    if one.committed is None or one.progress is None:
        return Verdict("wait", "nothing_said", f"nothing was committed yet for partition {one.partition}")
    if one.progress.member != one.owner:
        reason = f"{one.owner} owns partition {one.partition} and has not committed yet"
        return Verdict("wait", "owner_silent", reason)
    return None


def _mute(one: Seen, expected: Expectation) -> bool:
    """Whether nobody can say that a model is ready: no release has begun here, and there is no offset to say it with."""
    unbegun = expected.begun is not None and one.partition not in expected.begun
    return expected.stage == "ready" and one.committed is None and unbegun


def _not_ready(one: Seen, expected: Expectation) -> Verdict | None:
    said = one.progress
    if _mute(one, expected):
        return None
    assert said is not None
    if expected.revision in (*said.ready, said.revision):
        return None
    knows = _number(said.known) >= _number(expected.revision)
    reason = (
        f"{one.owner} has not loaded {expected.revision} yet"
        if knows
        else f"{one.owner} does not know {expected.revision} yet: its table ends with {said.known or 'nothing'}"
    )
    return Verdict("wait", "loading" if knows else "not_known", reason)


def _ahead(one: Seen, expected: Expectation) -> Verdict | None:
    said, start = one.progress, (expected.start or {}).get(str(one.partition))
    assert said is not None
    assert one.committed is not None
    if start is None:
        return None
    if one.committed < start:
        reason = f"partition {one.partition} is at {one.committed}, before the start {start}"
        if not one.lag:
            reason += ", and no record waits: nothing can be told until more come"
        return Verdict("wait", "start_ahead", reason, {"left": start - one.committed})
    if said.revision != expected.revision:
        reason = f"{said.revision or 'nothing'} scores what comes next in partition {one.partition}"
        return Verdict("wait", "not_switched", reason)
    if said.paused:
        return Verdict("wait", f"paused_{said.paused}", f"partition {one.partition}: {said.reason}")
    if said.at is not None and said.at >= start and said.last != expected.revision:
        reason = f"partition {one.partition}: {said.last} has scored offset {said.at}; scored once more from {start}"
        return Verdict("wait", "rescoring", reason)
    return None


def _idle(one: Seen, expected: Expectation) -> Verdict | None:
    """Say what is missing, where the absence of other scores shall not be enough."""
    if expected.on_idle == "accept" or _scored(one, expected):
        return None
    start = (expected.start or {}).get(str(one.partition))
    reason = (
        f"no record has come to partition {one.partition} since offset {start}, where {expected.revision} begins: "
        "what it scores cannot be told until one does"
    )
    return Verdict("wait", "idle", reason)


def _scored(one: Seen, expected: Expectation) -> bool:
    """Whether the release has scored a record here; else none has come since its start, or it still waits."""
    said, start = one.progress, (expected.start or {}).get(str(one.partition), 0)
    return said is not None and said.last == expected.revision and said.at is not None and said.at >= start


def _late(one: Seen, expected: Expectation, now: float) -> Verdict | None:
    said = one.progress
    assert said is not None
    if not one.lag:
        return None
    details = {"partition": one.partition, "waiting": one.lag}
    if not _scored(one, expected):
        reason = f"{one.lag} records wait in partition {one.partition}, and {expected.revision} has scored none yet"
        return Verdict("wait", "lagging", reason, details)
    if expected.most_waiting is not None and one.lag > expected.most_waiting:
        reason = f"{one.lag} records wait in partition {one.partition}, more than {expected.most_waiting}"
        return Verdict("wait", "lagging", reason, details)
    if expected.most_behind is None:
        return None
    if said.time is None:
        reason = (
            f"{one.lag} records wait in partition {one.partition}, and the last that was scored has no time"
        )
        return Verdict("wait", "lagging", reason, details)
    behind = now - said.time / 1000
    if behind > expected.most_behind:
        reason = (
            f"the last record that was scored in partition {one.partition} is of {behind:.0f} s ago, more than "
            f"{expected.most_behind:g} s, and {one.lag} wait"
        )
        return Verdict("wait", "lagging", reason, {**details, "behind": round(behind, 1)})
    return None


def _settled(seen: Group, expected: Expectation, memory: Memory) -> Verdict:
    concerned = _concerned(seen, expected)
    if expected.stage == "ready":
        reason = f"every owner has loaded and verified {expected.revision}"
        if mute := [str(one.partition) for one in concerned if _mute(one, expected)]:
            reason = (
                f"every owner that can say so has loaded and verified {expected.revision}; in partition "
                f"{', '.join(mute)} no release has begun yet, and its owner has no offset to say it with"
            )
        return Verdict("done", "ready", reason, _proof(concerned, expected, seen.now))
    held = 0.0 if memory.since is None else memory.now - memory.since
    still = [
        one.partition
        for one in concerned
        if memory.spoken.get(str(one.partition), _words(one)) == _words(one)
    ]
    if memory.since is None or held < expected.settle:
        return Verdict("wait", "settling", f"all holds for {held:.0f} s of {expected.settle:g} s")
    if still:
        reason = f"the owner of partition {still[0]} has said nothing new since all holds"
        return Verdict("wait", "owner_mute", reason)
    idle = [one for one in concerned if not _scored(one, expected)]
    reason = f"{expected.revision} scores {len(concerned)} partitions, proven by their committed offsets"
    if idle:
        named = ", ".join(str(one.partition) for one in idle)
        reason += f"; no record has come since the start to partition {named}: it scores what comes next"
    return Verdict("done", "live", reason, _proof(concerned, expected, seen.now))


def _proof(concerned: Sequence[Seen], expected: Expectation, now: float) -> dict[str, Any]:
    idle = [one for one in concerned if not _scored(one, expected)]
    by = "empty range" if len(idle) == len(concerned) else "committed offsets"
    return {
        "proven_by": by,
        "seen_at": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds"),
        "partitions": {
            str(one.partition): {
                "committed": one.committed,
                "waiting": one.lag,
                "last": one.progress.last if one.progress else "",
                "at": one.progress.at if one.progress else None,
                "member": one.owner,
                "proof": "empty range" if one in idle else "scored record",
            }
            for one in concerned
        },
    }


def _went_back(seen: Group, memory: Memory) -> Verdict | None:
    for one in seen.partitions:
        before = memory.committed.get(str(one.partition))
        if before is not None and (one.committed is None or one.committed < before):
            reason = f"partition {one.partition} went back from {before} to {one.committed}"
            return Verdict("wait", "went_back", reason)
    return None


def _remember(seen: Group, memory: Memory) -> Memory:
    ends = {f"output partition {name}": tuple(two) for name, two in seen.outputs.items()}
    ends |= {f"input partition {one.partition}": (one.stable, one.high) for one in seen.partitions}
    hung = {}
    for name, (stable, high) in ends.items():
        if stable < high:
            before = memory.hung.get(name)
            hung[name] = (stable, before[1] if before and before[0] == stable else memory.now)
    committed = {str(one.partition): one.committed for one in seen.partitions if one.committed is not None}
    return replace(memory, hung=hung, committed=committed)


def _spell(seen: Group, verdict: Verdict, memory: Memory) -> Memory:
    if verdict.rule not in ("settling", "owner_mute", "live"):
        return replace(memory, since=None, spoken={})
    if memory.since is not None:
        return memory
    return replace(
        memory, since=memory.now, spoken={str(one.partition): _words(one) for one in seen.partitions}
    )


def _words(one: Seen) -> str:
    return f"{one.progress.member}/{one.progress.beat}" if one.progress else ""


def _troubled(trouble: Trouble, expected: Expectation, memory: Memory) -> tuple[Verdict, Memory]:
    message = trouble.message or trouble.kind
    if trouble.kind in ("denied", "missing"):
        memory = replace(memory, troubles=memory.troubles + 1, since=None, spoken={})
        rule = "access_denied" if trouble.kind == "denied" else "not_found"
        # Once may be a broker that has just started; twice is an answer.
        return Verdict("failed" if memory.troubles >= 2 else "wait", rule, message), memory
    since = memory.now if memory.trouble_since is None else memory.trouble_since
    memory = replace(memory, troubles=0, trouble_since=since, since=None, spoken={})
    lasted = memory.now - since
    reason = f"no usable answer for {lasted:.0f} s: {message}"
    return Verdict("failed" if lasted >= expected.transport_grace else "wait", "unreachable", reason), memory


def _number(revision: str) -> int:
    return int(revision[1:]) if REVISION.fullmatch(revision) else 0
