"""A member of the group: reads records, scores each by the release that the table names for its offset, writes, commits.

What it meets and does not understand, it leaves: the partition is paused where it is, the reason is committed with its
offset, and the others go on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.serving.stream import health, releases
from airflow_pipeops.serving.stream import progress as told
from airflow_pipeops.serving.stream.broker import Broker, Moved, Output
from airflow_pipeops.serving.stream.errors import error_of, name_of
from airflow_pipeops.serving.stream.partition import Partition
from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.releases import Release, Table
from airflow_pipeops.serving.stream.scoring import Scored, score
from airflow_pipeops.serving.stream.settings import Settings
from airflow_pipeops.serving.stream.shelf import Shelf

log = logging.getLogger(__name__)

#: Seconds between two looks at the table, and at how much waits.
LOOK = 1.0
#: Announced and begun releases whose models are held ready, the newest of them.
HELD = 4
#: A pause of these kinds ends by itself when the model is there.
_LOADING = ("loading", "model_refused")


@dataclass
class Counters:
    """What is counted since the member began.

    :param scored: records that were scored.
    :param dead: records that could not be, and went to the dead-letter topic.
    :param batches: transactions that were committed.
    :param aborted: transactions that were aborted.
    :param seconds: spent in the models.
    :param beat: the last commit's number.
    """

    scored: int = 0
    dead: int = 0
    batches: int = 0
    aborted: int = 0
    seconds: float = 0.0
    beat: int = 0


class Member:
    """Works until it is told to stop.

    :param configured: its settings.
    :param broker: the two ends.
    :param clock: seconds that do not jump.
    """

    def __init__(
        self, configured: Settings, broker: Broker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at, self._broker, self._clock = configured, broker, clock
        self._shelf = Shelf(configured.trusted)
        self.partitions: dict[int, Partition] = {}
        self.table = Table(())
        self.table_error = ""
        self.counters = Counters()
        self.samples: deque[health.Sample] = deque(maxlen=120)
        self.turned_at = clock()
        self.stopping = False
        self._text: dict[str, str] = {}
        self._looked_at = -math.inf
        self._new: list[int] = []
        self._ends: dict[int, int] = {}

    def run(self) -> None:
        """Work until :attr:`stopping`; what is in hand then is ended and committed."""
        self._look(first=True)
        self._broker.open(self._assigned, self._revoked)
        try:
            while not self.stopping:
                self.turn()
            self._report(everything=True)
        finally:
            self._broker.close()
            self._shelf.close()

    def turn(self) -> None:
        """Do one round: the table, what is new, one batch, the reports."""
        self.turned_at = now = self._clock()
        if now - self._looked_at >= LOOK:
            self._look()
            self._measure(now)
        self._continue()
        self._report()
        messages = self._broker.read()
        self._batch([one for one in messages if self._is_record(one)])

    # ---- the table, and where each partition goes on -----------------------------------------------------------------

    def _look(self, first: bool = False) -> None:
        """Read the release table, if it has changed; a table that makes no sense leaves the last one in force."""
        self._looked_at = self._clock()
        try:
            text = table_text(self._at.releases)
            if text != self._text:
                table = releases.read(text)
                self._text, self.table = text, table
                for part in self.partitions.values():
                    self._steer(part)
                    part.changed = True
            self.table_error = ""
        except InvalidInput as error:
            if first:
                raise
            if str(error) != self.table_error:
                log.error("The release table makes no sense, the last one stays: %s", error)
            self.table_error = str(error)
        current = {
            found.revision: found
            for part in self.partitions.values()
            if part.next is not None and (found := self.table.model_for(part.number, part.next))
        }
        self._shelf.want([*current.values(), *self.table.releases[-HELD:]])

    def _steer(self, part: Partition) -> None:
        course = releases.course(self.table, part.number, part.next, part.progress, fresh=part.fresh)
        if part.rule == "poison" and course.offset is not None and part.next == course.offset:
            now = self.table.model_for(part.number, course.offset)
            if now is not None and now.revision == part.progress.revision:
                return  # the same model would fail again
        before = part.next
        part.follow(course)
        if before != part.next or course.act == "go":
            self._new.append(part.number)

    def _assigned(self, committed: Sequence[Any]) -> dict[int, int]:
        fresh: bool | None = None
        for one in committed:
            offset = one.offset if one.offset >= 0 else None
            said = told.read(one.metadata) if offset is not None else None
            if offset is None and fresh is None:
                fresh = not self._broker.lost()
            part = Partition(
                one.partition, offset, said or Progress(), fresh=bool(fresh), said_at=self._clock()
            )
            self.partitions[one.partition] = part
            self._steer(part)
            part.progress = replace(part.progress, paused="", reason="", ready=(), member=self._at.member)
        log.info("Assigned: %s", {one.partition: self.partitions[one.partition].next for one in committed})
        return {one.partition: self.partitions[one.partition].next or 0 for one in committed}

    def _revoked(self, partitions: Sequence[int]) -> None:
        log.info("Given away: %s", list(partitions))
        for number in partitions:
            self.partitions.pop(number, None)

    def _continue(self) -> None:
        """Let go on what may, and hold what waits for its model."""
        self._new += [part.number for part in self.partitions.values() if part.rule in _LOADING]
        again: list[int] = []
        for number in dict.fromkeys(self._new):
            part = self.partitions.get(number)
            if part is None or part.next is None or part.rule not in ("", *_LOADING):
                continue
            release = self.table.model_for(number, part.next)
            if release is None or not self._ready(part, release):
                continue
            # Said before the first record is read: whoever reads the offsets sees who goes on.
            if self._say([part]):
                self._broker.go(number, part.next)
            else:
                again.append(number)
        self._new = again
        for part in self.partitions.values():
            if part.rule and part.rule not in _LOADING:
                self._broker.stay(part.number)

    def _ready(self, part: Partition, release: Release) -> bool:
        """Whether the model of a release is there; else the partition is paused until it is."""
        if self._shelf.get(release) is not None:
            if part.rule in _LOADING:
                part.rule, part.reason, part.changed = "", "", True
            return True
        refused = self._shelf.refused(release)
        if refused:
            part.stop("model_refused", f"the model of {release.revision} is refused: {refused}")
        elif part.rule != "model_refused":
            part.stop("loading", f"the model of {release.revision} is being loaded")
        self._broker.stay(part.number)
        return False

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def _is_record(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return True
        name, part = name_of(error), self.partitions.get(message.partition())
        if name == "_PARTITION_EOF":
            if part is not None and not part.rule:
                self._ends[part.number] = message.offset()
        elif name == "_AUTO_OFFSET_RESET" and part is not None:
            low, high = self._broker.kept(part.number)
            reason = f"offset {part.next} of partition {part.number} is out of reach: the broker keeps {low} to {high}"
            part.stop("offsets_lost", reason)
        elif not error.retriable():
            found = error_of(error, f"topic {self._at.topic!r}")
            if not found.retryable:
                raise found
        return False

    def _batch(self, messages: Sequence[Any]) -> None:
        """Score records and commit them; then take up what lies beyond them without being a record."""
        ends = dict(self._ends)
        self._ends.clear()
        if messages:
            try:
                self._score(messages)
            except Moved:
                self.counters.aborted += 1
                for number in {one.partition() for one in messages} & set(self.partitions):
                    self._new.append(number)  # read again from where it is
                return
        for number, end in ends.items():
            part = self.partitions.get(number)
            if part is not None and not part.rule and part.next is not None and end > part.next:
                part.next = end

    def _score(self, messages: Sequence[Any]) -> None:
        work: dict[str, list[Any]] = {}
        held: set[int] = set()
        for message in messages:
            part = self.partitions.get(message.partition())
            if part is None or part.rule or part.number in held or message.offset() < (part.next or 0):
                continue
            release = self.table.model_for(part.number, message.offset())
            if release is None:
                part.stop("no_release", f"no release has begun at offset {message.offset()}")
            if release is None or not self._ready(part, release):
                held.add(part.number)
                continue
            work.setdefault(release.revision, []).append(message)
        results: dict[tuple[int, int], tuple[Release, Scored]] = {}
        for revision, batch in work.items():
            release = releases.known(self.table, revision)
            loaded = self._shelf.get(release)
            assert loaded is not None
            began = time.perf_counter()
            found = score(loaded, [one.value() for one in batch])
            self.counters.seconds += time.perf_counter() - began
            for message, scored in zip(batch, found, strict=True):
                results[message.partition(), message.offset()] = (release, scored)
        done = [one for one in messages if (one.partition(), one.offset()) in results]
        self._commit(done, results, held)

    def _commit(
        self, messages: Sequence[Any], results: dict[tuple[int, int], tuple[Release, Scored]], held: set[int]
    ) -> None:
        outputs: list[Output] = []
        offsets: dict[int, tuple[int, str]] = {}
        after: dict[int, tuple[int, Progress, list[bool]]] = {}
        by_partition: dict[int, list[Any]] = {}
        for one in messages:
            by_partition.setdefault(one.partition(), []).append(one)
        for number, mine in by_partition.items():
            part = self.partitions[number]
            good = [results[number, one.offset()][1].outputs is not None for one in mine]
            if reason := self._poison(part, mine, good, results):
                part.stop("poison", reason)
                held.add(number)
                continue
            last = mine[-1]
            release = results[number, last.offset()][0]
            progress = part.after(last.offset(), max(0, last.timestamp()[1]) or None, release.revision, good)
            progress = self._words(replace(part, next=last.offset() + 1, progress=progress))
            after[number] = (last.offset() + 1, progress, good)
            offsets[number] = (last.offset() + 1, progress.to_text())
            outputs += [self._output(one, *results[number, one.offset()]) for one in mine]
        if offsets:
            self._broker.write(outputs, offsets)
        now = self._clock()
        for number, (following, progress, good) in after.items():
            self.counters.scored += good.count(True)
            self.counters.dead += good.count(False)
            if number in self.partitions:
                part = self.partitions[number]
                part.next, part.progress, part.said_at, part.changed = following, progress, now, False
                part.recent.extend(good)
        self.counters.batches += bool(offsets)
        for number in held:
            self._broker.stay(number)
            self._new.append(number)

    def _poison(
        self,
        part: Partition,
        mine: Sequence[Any],
        good: list[bool],
        results: dict[tuple[int, int], tuple[Release, Scored]],
    ) -> str:
        """Return why a partition must not go on over records that cannot be scored; empty where it may."""
        if all(good):
            return ""
        first = mine[good.index(False)]
        why = results[part.number, first.offset()][1].reason
        if not self._at.dead:
            return f"offset {first.offset()} cannot be scored, and there is no dead-letter topic: {why}"
        said = part.poisoned(good, self._at.poison_share)
        return f"{said}; the first of this batch, offset {first.offset()}: {why}" if said else ""

    def _output(self, message: Any, release: Release, scored: Scored) -> Output:
        headers = [
            ("model", f"{release.model.name}/{release.model.version}".encode()),
            ("model-sha", release.model.sha256.encode()),
            ("rev", release.revision.encode()),
            ("src", f"{self._at.topic}/{message.partition()}/{message.offset()}".encode()),
        ]
        part = self.partitions.get(message.partition())
        if part is not None and part.progress.again is not None and message.offset() <= part.progress.again:
            headers.append(("replay", b"true"))
        stamp = max(0, message.timestamp()[1])
        if scored.outputs is None:
            headers.append(("reason", scored.reason.encode()[:1000]))
            value = message.value() or b""
            return Output(self._at.dead, message.key(), value, headers, stamp, message.partition())
        text = json.dumps(scored.outputs).encode()
        return Output(self._at.output, message.key(), text, headers, stamp, message.partition())

    # ---- what is said ------------------------------------------------------------------------------------------------

    def _words(self, part: Partition) -> Progress:
        """Return what is to be committed with the offset of a partition."""
        release = None if part.next is None else self.table.model_for(part.number, part.next)
        ready = [one for one in self.table.releases if self._shelf.get(one) is not None]
        verified = release is not None and release in ready
        self.counters.beat += 1
        return replace(
            part.progress,
            revision=release.revision if release is not None and verified else "",
            sha256=release.model.sha256 if release is not None and verified else "",
            ready=tuple(one.revision for one in ready),
            known=self.table.releases[-1].revision if self.table.releases else "",
            paused=part.rule,
            reason=part.reason,
            member=self._at.member,
            beat=self.counters.beat,
        )

    def _report(self, everything: bool = False) -> None:
        """Commit again where there is news, and now and then where there is none."""
        now = self._clock()
        due = [
            part
            for part in self.partitions.values()
            if everything or part.changed or now - part.said_at >= self._at.report
        ]
        if due:
            self._say(due)

    def _say(self, parts: Sequence[Partition]) -> bool:
        known = {part.number: (part.next, self._words(part)) for part in parts if part.next is not None}
        offsets = {
            number: (offset, said.to_text()) for number, (offset, said) in known.items() if offset is not None
        }
        taken = self._broker.say(offsets) if offsets else True
        for part in parts:
            if part.rule and part.changed:
                log.warning("Partition %d is paused (%s): %s", part.number, part.rule, part.reason)
            if taken:
                part.said_at, part.changed = self._clock(), False
                if part.number in known:
                    part.progress = known[part.number][1]
        return taken

    def _measure(self, now: float) -> None:
        """Take a sample of how much waits, and for how long."""
        lags = {
            part.number: None if part.next is None else self._broker.waiting(part.number, part.next)
            for part in self.partitions.values()
        }
        times = [self.partitions[number].progress.time for number, lag in lags.items() if lag]
        late = [time.time() - one / 1000 for one in times if one is not None]
        behind = max([0.0, *late]) if len(late) == len(times) else math.nan
        known = [lag for lag in lags.values() if lag is not None]
        lag = sum(known) if len(known) == len(lags) else None
        self.samples.append(health.Sample(now, lag, behind, self.counters.scored))


def table_text(folder: Path) -> dict[str, str]:
    """Return the files of a mounted ConfigMap, without Kubernetes' own.

    :param folder: where it is mounted.
    :return: name -> text.
    :raises InvalidInput: where it cannot be read.
    """
    try:
        return {
            one.name: one.read_text(encoding="utf-8")
            for one in sorted(folder.iterdir())
            if not one.name.startswith(".") and one.is_file()
        }
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the release table cannot be read from {folder}: {error}",
            field="STREAM_RELEASES",
            value=str(folder),
            remedy="Mount the ConfigMap of the release table there.",
        ) from error
