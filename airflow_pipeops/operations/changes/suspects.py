"""What went wrong, what had changed, and which of it is to be suspected: the data of the ranking. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.facts import moment
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.changes.settings import CHANGES, SYMPTOMS, ChangeKind, SymptomKind

#: ``likely``: one suspect is four times as likely as all else together; ``none of these``: what is recorded is unlikely to
#: be it; ``cannot tell``: neither.
Outcome = Literal["likely", "none of these", "cannot tell"]


@dataclass(frozen=True)
class Earlier(JsonForm):
    """The earlier changes of the same deliverable and kind, against which a change is usual or rare.

    :param sizes: of each.
    :param authors: name -> how many of them are theirs.
    :param hours: quarter of the day, 0 to 3 in UTC -> how many were made in it.
    :param kinds: kind -> how many, of all earlier changes of the deliverable; batches come by the clock, and do not count.
    """

    sizes: tuple[float, ...] = ()
    authors: Mapping[str, int] = field(default_factory=dict)
    hours: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate(JsonForm):
    """Something that changed.

    :param id: of the record that says so.
    :param kind: of the change.
    :param at: when it took effect, in ISO 8601.
    :param deliverable: whose it is.
    :param environment: where; empty for everywhere.
    :param what: in a few words.
    :param size: how large it is, in a measure of its own kind; none if nobody can tell.
    :param author: who made it; empty if nobody can tell.
    :param digest: of what came; empty if nobody can tell.
    :param distance: borders between it and the symptom, as the lineage has them; none for no way at all.
    :param coverage: share of what is affected that carries it, less the share of what is not; none if nobody can tell.
    :param elsewhere: hours for which the same digest was live and well elsewhere before the onset.
    :param judged: whether a gate or a comparison of it said ``well`` or ``ill`` before the symptom; empty if none did.
    :param same: earlier changes of the same thing: the same file, the same digest.
    :param taken_back: of these, how many were taken back.
    :param undone: when it was taken back itself; empty if it was not.
    :param earlier: the changes against which it is usual or rare.
    :param pace: hours from one to the next, of what comes by a rhythm and is awaited; 0 for whatever else.
    :param link: where to look at it, of http or https; empty if nowhere.
    :param before: what was there before, as the record says it; empty if it does not.
    """

    id: str
    kind: ChangeKind
    at: str
    deliverable: str
    environment: str = ""
    what: str = ""
    size: float | None = None
    author: str = ""
    digest: str = ""
    distance: int | None = 0
    coverage: float | None = None
    elsewhere: float = 0.0
    judged: Literal["", "well", "ill"] = ""
    same: int = 0
    taken_back: int = 0
    undone: str = ""
    earlier: Earlier = field(default_factory=Earlier)
    pace: float = 0.0
    link: str = ""
    before: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, CHANGES, called="kind of change")
        object.__setattr__(self, "at", moment(self.at))
        if self.undone:
            object.__setattr__(self, "undone", moment(self.undone, "undone"))
        for name, value, low, high in (
            ("coverage", self.coverage, -1.0, 1.0),
            ("distance", self.distance, 0, 1000),
            ("elsewhere", self.elsewhere, 0.0, 1e9),
            ("pace", self.pace, 0.0, 1e9),
            ("taken_back", self.taken_back, 0, self.same),
        ):
            if value is not None and not low <= value <= high:
                raise InvalidInput(
                    f"{name} of a change is {value!r}",
                    field=name,
                    value=value,
                    remedy=f"Give a number from {low} to {high}.",
                )


@dataclass(frozen=True)
class Symptom(JsonForm):
    """What went wrong.

    :param kind: how it shows.
    :param start: the last time at which all was well, as far as anybody knows, in ISO 8601.
    :param end: when it was seen.
    :param deliverable: whose.
    :param environment: where; empty for nowhere.
    :param what: in a few words.
    :param record: id of the record that says so; empty if none does.
    """

    kind: SymptomKind
    start: str
    end: str
    deliverable: str = ""
    environment: str = ""
    what: str = ""
    record: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, SYMPTOMS, called="kind of symptom")
        object.__setattr__(self, "start", moment(self.start, "start"))
        object.__setattr__(self, "end", moment(self.end, "end"))
        if self.start > self.end:
            raise InvalidInput(
                f"the onset is between {self.start} and {self.end}, which is earlier",
                field="start",
                value=self.start,
                remedy="Give the last time when all was well, and then when it was seen.",
            )


@dataclass(frozen=True)
class Contribution(JsonForm):
    """What one argument is worth.

    :param name: of the argument.
    :param value: that it adds to the log odds; 0 where it says nothing.
    :param reason: in words.
    """

    name: str
    value: float
    reason: str


@dataclass(frozen=True)
class Check(JsonForm):
    """What would clear a suspect, or convict it; it changes nothing.

    :param what: in words.
    :param command: that shows it; empty where there is none.
    """

    what: str
    command: str = ""


@dataclass(frozen=True)
class Suspect(JsonForm):
    """A change with its rank.

    :param candidate: the change.
    :param probability: that it is the cause, among the others and none of these.
    :param score: its log odds; the sum of the contributions.
    :param contributions: of each argument.
    :param reason: the arguments that count most, in a sentence.
    :param check: what would clear it.
    """

    candidate: Candidate
    probability: float
    score: float
    contributions: tuple[Contribution, ...]
    reason: str
    check: Check = field(default_factory=lambda: Check(""))


@dataclass(frozen=True)
class Excluded(JsonForm):
    """A change that cannot be it.

    :param id: of its record.
    :param reason: why.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class Explanation(JsonForm):
    """The answer.

    :param symptom: what was asked about.
    :param outcome: what can be said.
    :param reason: why, in a sentence.
    :param suspects: the most likely first.
    :param none: how likely none of these is it.
    :param none_score: its log odds, on the scale of the suspects'.
    :param excluded: changes that cannot be it.
    :param cut: whether there is more than was looked at.
    """

    symptom: Symptom
    outcome: Outcome
    reason: str
    suspects: tuple[Suspect, ...]
    none: float
    none_score: float
    excluded: tuple[Excluded, ...] = ()
    cut: bool = False
