"""What came of a knob's value: outcomes with their labels, counted over a time in which it did not change. Pure."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.operations.tuning.knob import Knob


@dataclass(frozen=True)
class Outcome:
    """One thing that the knob decided, and what it was in truth.

    :param at: when it was decided.
    :param hit: whether it is what the knob's ``target`` is a share of; ``None`` while there is no label.
    :param loss: what it cost, if anybody knows; a move that makes it larger goes back.
    :param labelled_at: when its label came; ``None`` if that is not known.
    """

    at: datetime
    hit: bool | None
    loss: float | None = None
    labelled_at: datetime | None = None


@dataclass(frozen=True)
class Counts(JsonForm):
    """Outcomes of one value.

    :param labels: number of outcomes with a label.
    :param hits: how many of them are hits.
    :param due: number of outcomes whose label ought to be there.
    :param loss: mean of what they cost; ``None`` where nobody said.
    :param loss_error: its standard error.
    """

    labels: int = 0
    hits: int = 0
    due: int = 0
    loss: float | None = None
    loss_error: float | None = None

    @property
    def share(self) -> float:
        """Share of the hits."""
        return self.hits / self.labels if self.labels else 0.0

    @property
    def coverage(self) -> float:
        """Share of the labels that are due and there."""
        return self.labels / self.due if self.due else 1.0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return where the share of hits lies (Wilson, Journal of the American Statistical Association 22, 1927).

        :param confidence: that it lies there.
        :return: both ends; everything, where there is no label.
        """
        if not self.labels:
            return 0.0, 1.0
        z, n = NormalDist().inv_cdf(0.5 + confidence / 2), self.labels
        middle = self.share + z * z / (2 * n)
        half = z * math.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


@dataclass(frozen=True)
class Evidence(JsonForm):
    """What a decision about a knob is made from.

    :param since: from when on the value holds, ISO-8601.
    :param now: outcomes of the value that holds.
    :param before: outcomes of the value before, if the last change was a move of this knob.
    :param digest: SHA-256 of the outcomes that were counted.
    """

    since: str
    now: Counts = Counts()
    before: Counts = Counts()
    digest: str = ""


def gather(
    outcomes: Sequence[Outcome],
    knob: Knob,
    since: datetime,
    now: datetime,
    earlier: tuple[datetime, datetime] | None = None,
) -> Evidence:
    """Count the outcomes whose labels are due.

    An outcome counts by when it was decided, not by when its label came: what the value before has decided says nothing of
    this one. And none counts before its label is due, since alarms are often answered sooner than silence. Of the value
    before, the last ones alone are counted: older ones would blame the move for what the world did meanwhile.

    :param outcomes: oldest first.
    :param knob: its label delay, and how many outcomes are looked at.
    :param since: when the present value came.
    :param now: the time of the decision.
    :param earlier: from when to when the value before it held, if the two shall be compared.
    :return: the counts.
    """
    due = bisect_right(outcomes, now - knob.delay, key=lambda item: item.at)
    start = bisect_left(outcomes, since, key=lambda item: item.at)
    present = outcomes[max(start, due - knob.window) : due] if due > start else []
    previous: Sequence[Outcome] = []
    if earlier is not None:
        stop = min(start, due, bisect_left(outcomes, earlier[1], key=lambda item: item.at))
        first = bisect_left(outcomes, earlier[0], key=lambda item: item.at)
        previous = outcomes[max(first, stop - knob.min_labels) : stop] if stop > first else []
    digest = hashlib.sha256()
    found = [_count(items, now, digest) for items in (present, previous)]
    return Evidence(since.isoformat(), found[0], found[1], digest.hexdigest())


def _count(items: Sequence[Outcome], now: datetime, digest: hashlib._Hash) -> Counts:
    known = [
        item
        for item in items
        if item.hit is not None and (item.labelled_at is None or item.labelled_at <= now)
    ]
    losses = [item.loss for item in known if item.loss is not None]
    for item in known:
        digest.update(f"{item.at.timestamp()!r} {item.hit:d} {item.loss!r}\n".encode())
    digest.update(f"{len(items)}\n".encode())
    mean = error = None
    if len(losses) > 1 and len(losses) == len(known):  # of some alone, it would be of those that are told
        mean = math.fsum(losses) / len(losses)
        squares = math.fsum((loss - mean) ** 2 for loss in losses)
        error = math.sqrt(squares / (len(losses) - 1) / len(losses))
    return Counts(len(known), sum(bool(item.hit) for item in known), len(items), mean, error)
