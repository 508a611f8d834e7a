"""Keeps requests and what was answered in storage: off the answer's path, with a loss that is bounded and counted."""

from __future__ import annotations

import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import samples, storage
from airflow_pipeops.models.samples import Part, Scored
from airflow_pipeops.redaction import excerpt

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_pipeops.serving.api.metrics import Metrics
    from airflow_pipeops.serving.api.settings import Sampling, Served

#: Seconds until a part is tried again that could not be written.
_PAUSE = 5.0


@dataclass
class _Lane:
    """What waits of one version.

    :param served: the version.
    :param schema: the columns of its parts.
    :param waiting: what is not written yet, with its size in bytes.
    :param rows: in what waits.
    :param since: when the first of them came, by the monotonic clock.
    :param sequence: number of the next part.
    :param lost: rows that were lost since the last part that was written, by reason.
    """

    served: Served
    schema: pa.Schema
    waiting: list[tuple[Scored, int]] = field(default_factory=list)
    rows: int = 0
    since: float = 0.0
    sequence: int = 0
    lost: Counter[str] = field(default_factory=Counter)


class Sampler:
    """Takes requests without ever waiting, and writes them from a thread of its own.

    :param sampling: what is kept, where, and how much may wait.
    :param metrics: where rows are counted.
    """

    def __init__(self, sampling: Sampling, metrics: Metrics) -> None:
        self.sampling, self._metrics = sampling, metrics
        self.instance = uuid.uuid4().hex[:12]
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._changed = threading.Condition()
        self._rows = self._bytes = 0
        self._ends: float | None = None
        self._not_before = 0.0
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def add(self, served: Served, features: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Prepare the columns of a version.

        :raises InvalidInput: where they are called like those that every sample has.
        """
        kept = {name: kind for name, kind in features.items() if name not in self.sampling.left_out}
        samples.refuse_own_names([*kept, *outputs], "SAMPLE_LEAVE_OUT")
        self._lanes[served.name, served.version] = _Lane(served, samples.schema(kept, list(outputs)))

    def start(self, known: set[str]) -> None:
        """Begin to write.

        :param known: features of all models here.
        :raises InvalidInput: if a feature shall be left out that no model has: it would be kept under its right name.
        """
        if unknown := [name for name in self.sampling.left_out if name not in known]:
            raise InvalidInput(
                f"SAMPLE_LEAVE_OUT names {unknown[0]!r}, which no model here takes",
                field="SAMPLE_LEAVE_OUT",
                value=unknown,
                remedy=f"Name features as the models do: {', '.join(sorted(known))}.",
            )
        import pyarrow.parquet  # noqa: F401  # now, since it takes seconds, and the end has few

        storage.at(self.sampling.uri)
        self._thread.start()

    def chosen(self) -> bool:
        """Draw whether a request is kept."""
        return self.sampling.share >= 1 or random.random() < self.sampling.share

    def offer(self, served: Served, scored: Scored, size: int) -> None:
        """Take what was scored, or count it as lost where too much waits.

        :param size: of the request, in bytes.
        """
        with self._changed:
            lane = self._lanes.get((served.name, served.version))
            if lane is None:
                return
            if (
                self._rows + scored.rows > self.sampling.held_rows
                or self._bytes + size > self.sampling.held_bytes
            ):
                self._lose(lane, "held", scored.rows)
                return
            if not lane.waiting:
                lane.since = time.monotonic()
            lane.waiting.append((scored, size))
            lane.rows += scored.rows
            self._rows += scored.rows
            self._bytes += size
            if len(lane.waiting) == 1 or lane.rows >= self.sampling.file_rows:
                self._changed.notify()

    def lost(self, served: Served, reason: str, rows: int) -> None:
        """Count rows that never came so far."""
        with self._changed:
            if lane := self._lanes.get((served.name, served.version)):
                self._lose(lane, reason, rows)

    def close(self, seconds: float) -> int:
        """Write what waits, and end.

        :param seconds: that it may take.
        :return: how many rows could not be written.
        """
        with self._changed:
            self._ends = time.monotonic() + seconds
            self._not_before = 0.0
            self._changed.notify()
        self._thread.join(seconds + 1)
        with self._changed:
            left = self._rows
            for lane in self._lanes.values():
                if lane.rows:
                    self._lose(lane, "end", lane.rows)
        return left

    def _lose(self, lane: _Lane, reason: str, rows: int) -> None:
        lane.lost[reason] += rows
        self._metrics.lost(lane.served, reason, rows)

    def _run(self) -> None:
        while (lane := self._next()) is not None:
            with self._changed:
                taken, lost = list(lane.waiting), dict(lane.lost)
            try:
                self._write(lane, [scored for scored, _ in taken], lost)
            except Exception as error:  # whatever the storage says: the next try may do
                print(
                    f"samples of {lane.served} are not written: {excerpt(str(error), 300)}",
                    file=sys.stderr,
                    flush=True,
                )
                with self._changed:
                    self._not_before = time.monotonic() + _PAUSE
                    if self._ends is not None:
                        return
                continue
            with self._changed:
                rows = sum(scored.rows for scored, _ in taken)
                del lane.waiting[: len(taken)]
                lane.rows -= rows
                lane.since = time.monotonic()
                lane.sequence += 1
                lane.lost.subtract(lost)
                self._rows -= rows
                self._bytes -= sum(size for _, size in taken)
                self._metrics.sampled(lane.served, rows)

    def _next(self) -> _Lane | None:
        """Wait until a part is due; none at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                waiting = [lane for lane in self._lanes.values() if lane.waiting]
                if self._ends is not None:
                    return waiting[0] if waiting and now < self._ends else None
                due = {
                    id(lane): 0.0
                    if lane.rows >= self.sampling.file_rows
                    else lane.since + self.sampling.file_seconds
                    for lane in waiting
                }
                first = min(waiting, key=lambda lane: due[id(lane)], default=None)
                if first is None:
                    self._changed.wait()
                    continue
                at = max(due[id(first)], self._not_before)
                if at <= now:
                    return first
                self._changed.wait(at - now)

    def _write(self, lane: _Lane, scored: list[Scored], lost: Mapping[str, int]) -> None:
        served = lane.served
        role = "shadow" if served.role == "shadow" else "answer"
        of = {"model": served.name, "version": served.version, "sha256": served.sha256, "role": role}
        part = Part(
            **of,
            file="",
            file_sha256="",
            rows=0,
            first_at=min(one.at for one in scored),
            last_at=max(one.at for one in scored),
            instance=self.instance,
            sequence=lane.sequence,
            share=self.sampling.share,
            lost_rows={reason: rows for reason, rows in lost.items() if rows},
            left_out=self.sampling.left_out,
        )
        samples.write(storage.at(self.sampling.uri), samples.table(scored, of, lane.schema), part)
