"""How well causes are found in simulated histories: what the gate and the benchmark both measure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow_pipeops.operations.changes.gathering import why
from airflow_pipeops.operations.changes.suspects import Explanation
from tests.ledgers import entries, indexed
from tests.operations.changes.histories import KINDS, Episode


@dataclass(frozen=True)
class Answer:
    """One episode, and what was said of it.

    :param episode: the history.
    :param found: the explanation.
    """

    episode: Episode
    found: Explanation

    def is_it(self, place: int) -> bool:
        """Whether the suspect at a place is the true cause, by its record and its kind."""
        one = self.found.suspects[place].candidate
        return one.id in self.episode.truth and one.kind in (self.episode.kinds or KINDS[self.episode.cause])

    @property
    def place(self) -> int:
        """The place of the true cause among the suspects, from 0."""
        return next((place for place in range(len(self.found.suspects)) if self.is_it(place)), 1_000)

    @property
    def rank(self) -> int:
        """The same where none of these has its place among them, too."""
        if self.place == 1_000:
            return 1_000
        return self.place + (self.found.none > self.found.suspects[self.place].probability)

    @property
    def last(self) -> bool:
        """Whether the change that came last, of whatever kind, is the true cause."""
        places = range(len(self.found.suspects))
        newest = max(places, key=lambda place: self.found.suspects[place].candidate.at, default=None)
        return newest is not None and self.is_it(newest)

    @property
    def last_deployed(self) -> bool:
        """The same of what is no batch of data, as people look for it."""
        places = [
            place
            for place, one in enumerate(self.found.suspects)
            if one.candidate.kind not in ("data", "schema", "late data")
        ]
        newest = max(places, key=lambda place: self.found.suspects[place].candidate.at, default=None)
        return newest is not None and self.is_it(newest)

    @property
    def loss(self) -> float:
        """The squared error of the probability of what is named first, none of these included."""
        first = self.found.suspects[0].probability if self.found.suspects else 0.0
        if self.found.none >= first:
            return (self.found.none - (self.episode.cause == "nothing")) ** 2
        right = self.episode.cause != "nothing" and self.is_it(0)
        return (first - right) ** 2


def answers(episodes: Iterable[Episode]) -> list[Answer]:
    """Ask of each, through a real index."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, episode in enumerate(episodes):
            connection = indexed(Path(folder) / f"{number}.db", entries(episode.records))
            found.append(Answer(episode, why(connection, episode.symptom)))
            connection.close()
    return found


def share(values: Iterable[bool]) -> float:
    """The share of what is true."""
    given = list(values)
    return sum(given) / len(given)
