"""A number that may be tuned, and the rails that it runs on. It lies in Git; so do its bounds. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Final, Literal

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.base.documents import number
from airflow_pipeops.base.serialisation import Form, JsonForm
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput

#: What comes of a move: a record; a question to a person; a commit.
Mode = Literal["shadow", "propose", "apply"]
SHADOW: Final = "shadow"
PROPOSE: Final = "propose"
APPLY: Final = "apply"
MODES: tuple[Mode, ...] = (SHADOW, PROPOSE, APPLY)


class StrictForm(JsonForm):
    """A JSON form whose every name must be known: a misspelt rail would be none."""

    #: How an error calls it.
    called: ClassVar[str]

    @classmethod
    def from_json(cls: type[Form], data: Any) -> Form:
        """Read the JSON form.

        :param data: the fields; what is left out has its default.
        :return: the object.
        :raises InvalidInput: for a name that is unknown, one that is missing, or a wrong value.
        """
        called = cls.called  # type: ignore[attr-defined]
        remedy = f"Give the fields of the {called}."
        mapping(called, data, remedy, message=f"the {called} is no object of names and values")
        names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(map(str, set(data) - set(names)))
        if unknown:
            said = f"the {called} has no {', '.join(unknown)}"
            raise InvalidInput(said, field=unknown[0], remedy=f"Use {', '.join(names)}.")
        try:
            return super().from_json(data)
        except (TypeError, AttributeError) as error:
            raise InvalidInput(
                f"the {called} is incomplete, or a value has a wrong type: {error}",
                field=called,
                remedy="Give numbers without quotes, and durations in seconds.",
            ) from error


@dataclass(frozen=True)
class Knob(StrictForm):
    """A number, what it follows, and how far and how often it may move.

    :param name: of the knob, unique among the knobs of a deliverable.
    :param value: that Git holds now.
    :param low: lower bound.
    :param high: upper bound.
    :param target: share of the outcomes that should be hits: of alarms that were false, of retrains that did not help.
    :param slope: by how much that share changes when the value grows by one; negative where a larger value gives fewer hits.
    :param max_step: limit of one move.
    :param delay: time after which an outcome has its label.
    :param follows: what a hit is, in words.
    :param band: the share may be off by so much of the target, and nothing moves.
    :param confidence: of the interval that must lie outside that band.
    :param gain: how much of the distance one move goes.
    :param min_labels: number of outcomes with labels, since the last change, without which nothing moves.
    :param window: number of the newest outcomes that are looked at.
    :param min_coverage: share of the outcomes whose labels are due that must have them; else nobody can tell.
    :param cooldown: further time after a change in which nothing moves.
    :param max_moves: limit of the moves in seven days.
    :param worse: chance that a move goes back though it was no worse, on one side.
    :param max_reverts: limit of the moves that went back; at it the knob stops.
    :param reversal_window: a move back within this is a reversal. Knobs that take turns in reversing fight, and stop.
    :param mode: ``shadow`` records what would be done, ``propose`` asks a person, ``apply`` commits.
    :param whole: whether only whole numbers make sense.
    :param since: what was before this time counts for nothing, ISO-8601: when the value was set, or a stopped knob released.
    :raises InvalidInput: for rails that contradict each other.
    """

    called: ClassVar[str] = "knob"

    name: str
    value: float
    low: float
    high: float
    target: float
    slope: float
    max_step: float
    delay: timedelta
    follows: str = ""
    band: float = 0.2
    confidence: float = 0.95
    gain: float = 0.5
    min_labels: int = 200
    window: int = 2000
    min_coverage: float = 0.9
    cooldown: timedelta = timedelta(0)
    max_moves: int = 3
    worse: float = 0.1
    max_reverts: int = 2
    reversal_window: timedelta = timedelta(days=30)
    mode: Mode = SHADOW
    whole: bool = False
    since: str = ""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in _NUMBERS and number(value) is None:
                raise self._wrong(name, "is no finite number", "Give a number without quotes.")
        demand_types(self)
        for name, sound, remedy in self._checks():
            if not sound:
                raise self._wrong(name, "is out of range", remedy)
        _ = self.released

    def _checks(self) -> list[tuple[str, bool, str]]:
        zero = timedelta(0)
        return [
            ("name", isinstance(self.name, str) and bool(self.name), "Give the knob a name."),
            ("low", self.low < self.high, "The lower bound must be below the upper one."),
            ("value", self.low <= self.value <= self.high, f"It must be {self.low:g} to {self.high:g}."),
            ("target", 0 < self.target < 1, "Use a share between 0 and 1."),
            ("slope", self.slope != 0, "A knob that changes nothing cannot be tuned."),
            ("max_step", 0 < self.max_step <= self.high - self.low, "It must fit between the bounds."),
            ("max_step", not self.whole or self.max_step >= 1, "Whole numbers move by one at least."),
            ("delay", self.delay >= zero and self.cooldown >= zero, "Use no negative durations."),
            ("band", 0 < self.band < 1, "Use a share of the target between 0 and 1."),
            ("confidence", 0.5 < self.confidence < 1, "For example 0.95."),
            ("gain", 0 < self.gain <= 1, "Above 1 it overshoots; 0.5 forgives a slope that is half the true one."),
            ("min_labels", 30 <= self.min_labels <= self.window, "Use 30 to the window: fewer tell nothing."),
            ("min_coverage", 0 < self.min_coverage <= 1, "Use a share."),
            ("max_moves", self.max_moves >= 1, "Use mode shadow to move nothing."),
            ("worse", 0 < self.worse < 0.5, "For example 0.1."),
            ("max_reverts", self.max_reverts >= 1, "Use 1 or more."),
            ("mode", self.mode in MODES, f"Use one of {', '.join(MODES)}."),
        ]  # fmt: skip

    def _wrong(self, field: str, what: str, remedy: str) -> InvalidInput:
        value = getattr(self, field)
        said = f"{field} {value!r} of the knob {self.name!r} {what}"
        return InvalidInput(said, field=field, value=str(value), remedy=remedy)

    @property
    def quiet(self) -> timedelta:
        """How long nothing moves after a change, whatever is seen: the label delay and the cooldown."""
        return self.delay + self.cooldown

    @property
    def released(self) -> datetime | None:
        """``since`` as a time."""
        return moment(self.since, "since") if self.since else None

    def bounded(self, value: float) -> float:
        """Return the nearest value that the rails allow from here.

        :param value: that is wanted.
        :return: a value within the bounds, at most one step away.
        """
        low, high = max(self.low, self.value - self.max_step), min(self.high, self.value + self.max_step)
        if not self.whole:
            return min(high, max(low, value))
        low, high = math.ceil(low), math.floor(high)  # the bounds need not be whole
        return float(min(high, max(low, round(value)))) if low <= high else self.value


_NUMBERS = (
    *("value", "low", "high", "target", "slope", "max_step", "band", "confidence", "gain", "min_labels"),
    *("window", "min_coverage", "max_moves", "worse", "max_reverts"),
)


def moment(text: Any, field: str) -> datetime:
    """Read a time; UTC if it names no zone.

    :param text: ISO-8601, or a time.
    :param field: of the error.
    :return: the time.
    :raises InvalidInput: for anything else.
    """
    try:
        when = text if isinstance(text, datetime) else datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError) as error:
        remedy = "Use ISO-8601 with a zone, such as 2026-03-01T12:00:00Z."
        raise InvalidInput(f"{field} {text!r} is not a time", field=field, remedy=remedy) from error
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
