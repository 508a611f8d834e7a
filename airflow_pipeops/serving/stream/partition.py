"""One partition that a member owns: where it is, which release goes on there, and what is said of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from airflow_pipeops.serving.stream.progress import Progress
from airflow_pipeops.serving.stream.releases import Course

#: Of so many of the last records, the share that could not be scored is told; from half of them on, it counts.
WINDOW = 200


@dataclass
class Partition:
    """What a member knows of a partition.

    :param number: of it.
    :param next: offset that is read next; ``None`` where nobody knows.
    :param progress: what was said with the last commit.
    :param fresh: nothing had ever been scored here when it was assigned.
    :param rule: why it is paused, as a stable name; empty where it goes on.
    :param reason: the same as a sentence.
    :param said_at: when it was reported last.
    :param changed: there is something to report at once.
    :param recent: whether each of the last records could be scored.
    """

    number: int
    next: int | None
    progress: Progress
    fresh: bool = False
    rule: str = ""
    reason: str = ""
    said_at: float = 0.0
    changed: bool = True
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def stop(self, rule: str, reason: str) -> None:
        """Stay where it is."""
        self.changed |= (rule, reason) != (self.rule, self.reason)
        self.rule, self.reason = rule, reason

    def follow(self, course: Course) -> None:
        """Take the way that the table says."""
        if course.act == "paused":
            self.stop(course.rule, course.reason)
        elif self.rule:
            self.rule = self.reason = ""
            self.changed = True
        if course.again is not None:
            again = max(course.again, course.again if self.progress.again is None else self.progress.again)
            self.progress = replace(self.progress, again=again)
        if course.offset is not None:
            self.next = course.offset

    def poisoned(self, results: list[bool], most: float) -> str:
        """Say why too many records cannot be scored; empty where they are few enough.

        :param results: whether each record of this batch could be scored.
        :param most: the share that may fail.
        :return: the reason.
        """
        window = [*self.recent, *results][-WINDOW:]
        failed = window.count(False)
        if len(window) < WINDOW // 2 or failed <= most * len(window):
            return ""
        return f"{failed} of the last {len(window)} records cannot be scored, more than {most:.0%}"

    def after(self, offset: int, time: int | None, revision: str, good: list[bool]) -> Progress:
        """Return what is to be said when a batch is committed.

        :param offset: of its last record.
        :param time: timestamp of that, in milliseconds.
        :param revision: release that has scored it.
        :param good: whether each record could be scored.
        :return: what is committed with the offset.
        """
        told = self.progress
        return replace(
            told,
            last=revision,
            at=offset,
            time=time,
            scored=told.scored + good.count(True),
            dead=told.dead + good.count(False),
        )
