"""What was observed, batch by batch, and what was decided about each: the memory of the governor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final, Literal

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.policy import OBSERVE, Mode

Action = Literal["hold", "retrain", "investigate", "rollback"]
HOLD: Final = "hold"
RETRAIN: Final = "retrain"
INVESTIGATE: Final = "investigate"
ROLLBACK: Final = "rollback"
ACTIONS: tuple[Action, ...] = (HOLD, RETRAIN, INVESTIGATE, ROLLBACK)

#: What came of a retrain.
RetrainOutcome = Literal["promoted", "rejected", "failed", "declined"]
PROMOTED: Final = "promoted"
REJECTED: Final = "rejected"
FAILED: Final = "failed"
DECLINED: Final = "declined"
OUTCOMES: tuple[RetrainOutcome, ...] = (PROMOTED, REJECTED, FAILED, DECLINED)


@dataclass(frozen=True)
class Observation(JsonForm):
    """What was seen of one batch.

    :param batch: its name; a later observation of the same name completes or corrects the earlier one.
    :param at: when it was judged, ISO-8601 with a zone.
    :param quality_passed: whether the data-quality gate accepted it.
    :param drift_share: share of columns that moved, 0 to 1; ``None`` if it was not compared.
    :param performance: the champion's metric on it; ``None`` while there are no labels.
    :param reference_performance: what the metric should be.
    :param action: what was decided about it; empty while undecided.
    :param rows: number of its rows.
    :param performance_error: standard error of ``performance``; while nobody knows it, the deviation of the last losses
        stands for it.
    :param estimated_performance: an estimate of the metric without labels; used while ``performance`` is ``None``.
    :param predecessor_performance: the metric, on the same batch, of the model that the champion replaced.
    :param drifted: the columns that moved, for a policy that weighs them.
    :param season: which part of a cycle the batch is of, for example ``month 03`` or ``weekend``.
    :param outcome: of the retrain that was decided on this batch: ``promoted``, ``rejected`` (the challenger was not
        better), ``failed`` (there was no challenger) or ``declined`` (by a person); empty while unknown.
    :param mode: in which mode it was decided; empty counts as ``act``.
    :param digest: of its data: the same data under two names count once.
    :param period: which time its data are of, such as ``2013-04`` or ``2013-04-15``; batches are counted in this order.
        Empty: the one date in its name, if there is one.
    :param copies: other names under which the same data came.
    """

    batch: str
    at: str
    quality_passed: bool
    drift_share: float | None = None
    performance: float | None = None
    reference_performance: float | None = None
    action: Literal["", Action] = ""
    rows: int | None = None
    performance_error: float | None = None
    estimated_performance: float | None = None
    predecessor_performance: float | None = None
    drifted: tuple[str, ...] = ()
    season: str = ""
    outcome: Literal["", RetrainOutcome] = ""
    mode: Literal["", Mode] = ""
    digest: str = ""
    period: str = ""
    copies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("action", ACTIONS), ("outcome", OUTCOMES)):
            value = getattr(self, name)
            remedy = f"Use {' or '.join(known)}, or leave it out."
            one_of(name, value, ("", *known), called=name, remedy=remedy)
        _ = self.when

    @property
    def when(self) -> datetime:
        """``at`` as a time; UTC if it names no zone."""
        try:
            when = datetime.fromisoformat(self.at.replace("Z", "+00:00"))
        except (ValueError, AttributeError) as error:
            raise InvalidInput(f"at {self.at!r} is not a time", field="at", value=self.at) from error
        return when if when.tzinfo else when.replace(tzinfo=timezone.utc)

    @property
    def of(self) -> str:
        """Which time the data are of, in a form that can be sorted; empty where nobody can tell."""
        dates = _DATE.findall(self.batch)
        return self.period or ("-".join(filter(None, dates[0])) if len(dates) == 1 else "")

    @property
    def metric(self) -> float | None:
        """The measured metric, or its estimate while there are no labels."""
        return self.estimated_performance if self.performance is None else self.performance

    @property
    def changed_the_model(self) -> bool:
        """Whether another model serves since this batch, as far as is known."""
        if self.mode == OBSERVE:  # nothing was started
            return False
        return self.action == ROLLBACK or (self.action == RETRAIN and self.outcome in ("", PROMOTED))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; what is unknown beyond the first seven fields is left out."""
        found = super().to_json().items()
        return {name: value for name, value in found if name in _ALWAYS or value not in (None, "", [])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Read the JSON form; fields of later versions are left out.

        :return: the observation.
        :raises InvalidInput: if it is incomplete, or a value is of another type.
        """
        _check_types({name: data[name] for name in cls.__dataclass_fields__ if name in data})
        try:
            return super().from_json(data)
        except TypeError as error:
            raise InvalidInput(f"an observation is incomplete: {error}", field="history") from error


#: A year and a month, perhaps a day, with or without dashes, that are no part of a longer number.
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])(?:[-_.]?(0[1-9]|[12]\d|3[01]))?(?!\d)")

_ALWAYS = frozenset(
    ("batch", "at", "quality_passed", "drift_share", "performance", "reference_performance", "action")
)
_LARGEST = 1e300
_NUMBERS = (
    "drift_share",
    "performance",
    "reference_performance",
    "rows",
    "performance_error",
    "estimated_performance",
    "predecessor_performance",
)


def _check_types(known: Mapping[str, Any]) -> None:
    """Refuse what JSON may hold and an observation may not: a figure in quotes, NaN, a word for a truth value."""
    for name, value in known.items():
        if name in _NUMBERS:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            sound = value is None or (number and abs(value) <= _LARGEST)  # also of no NaN
        elif name == "quality_passed":
            sound = isinstance(value, bool)
        elif name in ("drifted", "copies"):
            sound = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        else:
            sound = isinstance(value, str)
        if not sound:
            raise InvalidInput(
                f"{name} of an observation is {value!r}",
                field=name,
                value=str(value),
                remedy="Give finite numbers without quotes, true or false, and texts.",
            )


def deduplicated(history: Iterable[Observation]) -> list[Observation]:
    """Reduce a history to one observation for each batch.

    Of several, the one that was judged last counts, whatever their order; what it does not know it takes from the ones
    before, so that labels which arrive late complete an observation and do not undo its decision. Data that came again
    under another name count once, with what was decided about them first.

    :return: the observations, each at the first place of its batch.
    """
    groups: dict[str, list[Observation]] = {}
    for item in history:
        groups.setdefault(item.batch, []).append(item)
    found: dict[tuple[str, str], Observation] = {}
    for group in groups.values():
        item = _merged(sorted(group, key=lambda item: item.when))
        same = ("data", item.digest) if item.digest else ("batch", item.batch)
        found[same] = _completed(found[same], item) if same in found else item
    return list(found.values())


def in_order(items: Sequence[Observation]) -> list[Observation]:
    """Return observations in the order of their data; in the order given where that is not known of each."""
    return sorted(items, key=lambda item: item.of) if all(item.of for item in items) else list(items)


def _completed(found: Observation, item: Observation) -> Observation:
    """Add what another observation of the same data knows besides."""
    unknown = {
        name: getattr(item, name)
        for name in Observation.__dataclass_fields__
        if getattr(found, name) in (None, "", ())
    }
    copies = dict.fromkeys((*found.copies, item.batch, *item.copies))
    return replace(found, **{**unknown, "copies": tuple(copies)})


def _merged(group: Sequence[Observation]) -> Observation:
    found = group[0]
    for item in group[1:]:
        unknown = {
            name: getattr(found, name)
            for name in Observation.__dataclass_fields__
            if getattr(item, name) in (None, "", ())
        }
        if found.action and not item.action:
            unknown["at"] = found.at  # the time of the decision, from which a cooldown counts
        found = replace(item, **unknown)
    return found


def since_retrain(past: Sequence[Observation]) -> list[Observation]:
    """Return what came after the last retrain or rollback: evidence counts anew, whether or not a challenger won."""
    return _after(past, lambda item: item.action in (RETRAIN, ROLLBACK))


def _after(past: Sequence[Observation], ends: Any) -> list[Observation]:
    for number in range(len(past) - 1, -1, -1):
        if ends(past[number]):
            return list(past[number + 1 :])
    return list(past)
