"""Which change is to be suspected. Pure: the same data, the same answer.

Incidents are taken as competing hazards. A change of a kind breaks something with the prior of its kind, and what it
breaks shows after a lag of a known distribution; meanwhile something breaks, at a constant rate, that no recorded change
has caused. Of an incident with an onset between two times, the odds of each change are then its prior, times the mean
density of the lag over that interval, times how well the rest of what is known fits a cause rather than a bystander. No
change's score depends on another change; so one that does not matter moves none of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from airflow_pipeops.operations.changes.settings import DEFAULT, Habit, Settings
from airflow_pipeops.operations.changes.suspects import (
    Candidate,
    Contribution,
    Excluded,
    Explanation,
    Outcome,
    Suspect,
    Symptom,
)

#: Arguments that a reason names, and what one must be worth to be named.
_NAMED, _WORTH = 4, 0.2


def rank(
    candidates: Iterable[Candidate], symptom: Symptom, settings: Settings = DEFAULT, *, cut: bool = False
) -> Explanation:
    """Rank what changed by how likely it is the cause.

    :param candidates: in whatever order; of several with one id, one counts.
    :param symptom: what went wrong.
    :param settings: the numbers.
    :param cut: whether there were more candidates than were read.
    :return: the suspects with their reasons, the most likely first, and how likely none of them is it.
    """
    excluded: list[Excluded] = []
    scored: list[tuple[float, Candidate, tuple[Contribution, ...]]] = []
    distinct = {(one.id, one.kind, one.digest): one for one in sorted(candidates, key=repr)}
    for one in distinct.values():
        if why := _impossible(one, symptom, settings):
            excluded.append(Excluded(one.id, why))
            continue
        found = _contributions(one, symptom, settings)
        scored.append((math.fsum(item.value for item in found), one, found))
    scored.sort(key=lambda item: (-item[0], _reverse(item[1].at), item[1].id, item[1].kind))
    nothing = math.log(settings.background) + math.log(_shown(settings.background_shows, symptom))
    highest = max([nothing, *(score for score, _, _ in scored)])
    weights = [math.exp(score - highest) for score, _, _ in scored]
    whole = math.fsum([*weights, math.exp(nothing - highest)])
    suspects = tuple(
        Suspect(one, weight / whole, score, found, _reason(found))
        for weight, (score, one, found) in zip(weights, scored, strict=True)
    )
    none = math.exp(nothing - highest) / whole
    outcome, reason = _outcome(suspects, none, settings)
    return Explanation(
        symptom, outcome, reason, suspects, none, nothing, tuple(sorted(excluded, key=lambda e: e.id)), cut
    )


def _impossible(one: Candidate, symptom: Symptom, settings: Settings) -> str:
    if one.at > symptom.end:
        return "it came after the onset"
    if _hours(one.at, symptom.start) > 24 * settings.window:
        return f"it came more than {settings.window:g} days before"
    if one.undone and one.undone <= symptom.start:
        return "it was taken back before, and all was well after that"
    if one.distance is None:
        return "no lineage leads from it to what went wrong"
    if one.id == symptom.record:
        return "it is what went wrong"
    return ""


def _contributions(one: Candidate, symptom: Symptom, settings: Settings) -> tuple[Contribution, ...]:
    habit = settings.habits[one.kind]
    found = [
        Contribution(
            "prior", math.log(habit.prior), f"of changes of {one.kind}, {habit.prior:.0%} break something"
        ),
        _time(one, symptom, habit, settings),
        _symptom(one, symptom, habit),
        _lineage(one, settings),
        _history(one, habit, settings),
        *_surprises(one, settings),
        _coverage(one, settings),
        _elsewhere(one, habit, settings),
        _judged(one, settings),
    ]
    return tuple(found)


def _time(one: Candidate, symptom: Symptom, habit: Habit, settings: Settings) -> Contribution:
    """The mean density of the lag over the interval in which the onset lies, per hour."""
    end = _hours(one.at, symptom.end) + settings.resolution
    start = max(0.0, min(_hours(one.at, symptom.start), end - settings.resolution))
    wide = max(_hours(symptom.start, symptom.end) + settings.resolution, settings.resolution)
    if one.pace:
        habit = replace(habit, lag=settings.pace * one.pace)
    density = (_arrived(end, habit) - _arrived(start, habit)) / wide
    told = f"it took effect {duration(_hours(one.at, symptom.end))} before it was seen"
    if one.at >= symptom.start:
        told += ", after all was last well"
    return Contribution("time", math.log(max(density, 1e-300)), told)


def _arrived(hours: float, habit: Habit) -> float:
    """The share of lags up to so many hours: log-logistic, with a tail for what is noticed late."""
    return 1 / (1 + (hours / habit.lag) ** -habit.shape) if hours > 1e-9 else 0.0


def _symptom(one: Candidate, symptom: Symptom, habit: Habit) -> Contribution:
    share = _shown(habit.shows, symptom)
    told = (
        "nobody says how it shows"
        if symptom.kind == "unknown"
        else f"of what {one.kind} breaks, {share:.0%} shows as {symptom.kind}"
    )
    return Contribution("symptom", math.log(share), told)


def _shown(shows: Mapping[str, float], symptom: Symptom) -> float:
    return 1.0 if symptom.kind == "unknown" else max(shows.get(symptom.kind, 0.0), 1e-6)


def _lineage(one: Candidate, settings: Settings) -> Contribution:
    hops = one.distance or 0
    told = f"{hops} border{'s' if hops != 1 else ''} away" if hops else "what went wrong is made of it"
    return Contribution("lineage", hops * math.log(settings.hop), told)


def _history(one: Candidate, habit: Habit, settings: Settings) -> Contribution:
    """The prior of the kind, moved by what became of the earlier changes of the same thing."""
    weight = settings.own_weight
    share = (one.taken_back + weight * habit.prior) / (one.same + weight)
    told = (
        f"of {one.same} earlier changes of the same thing, {one.taken_back} were taken back"
        if one.same
        else "nothing is known of earlier changes of the same thing"
    )
    return Contribution("taken back before", math.log(share / habit.prior), told)


def _surprises(one: Candidate, settings: Settings) -> Iterable[Contribution]:
    earlier, least = one.earlier, settings.least_history
    size = None
    if one.size is not None and len(earlier.sizes) >= least:
        size = _rarity(
            sum(other > one.size for other in earlier.sizes),
            sum(other == one.size for other in earlier.sizes),
            len(earlier.sizes),
        )
    yield _surprise("size", size, settings.surprise_size, "were as large or larger", "how large others were")
    author = _rare(earlier.authors, one.author, least) if one.author else None
    yield _surprise(
        "author", author, settings.surprise_author, "were by as rare an author", "whose others were"
    )
    hour = _rare(earlier.hours, str(quarter(one.at)), least)
    kind = _rare(earlier.kinds, one.kind, least)
    yield _surprise(
        "kind", kind, settings.surprise_kind, "were of as rare a kind", "of what kind others were"
    )
    yield _surprise("hour", hour, settings.surprise_hour, "came at as rare an hour", "when others came")


def _surprise(name: str, rarity: float | None, exponent: float, alike: str, unknown: str) -> Contribution:
    if rarity is None:
        return Contribution(name, 0.0, f"it is not known {unknown}")
    value = math.log(exponent) + (exponent - 1) * math.log(rarity)
    return Contribution(name, value, f"of the earlier ones {rarity:.0%} {alike}")


def _rare(counts: Mapping[str, int], value: str, least: int) -> float | None:
    """The share of the earlier ones whose value is as rare as this one's, or rarer."""
    whole = sum(counts.values())
    if whole < least:
        return None
    mine = counts.get(value, 0)
    return _rarity(
        sum(n for n in counts.values() if n < mine), sum(n for n in counts.values() if n == mine), whole
    )


def _rarity(beyond: int, alike: int, whole: int) -> float:
    """The mid-p value, which is one half on average; never 0."""
    return (beyond + 0.5 * alike + 0.5) / (whole + 1)


def _coverage(one: Candidate, settings: Settings) -> Contribution:
    if one.coverage is None:
        return Contribution("coverage", 0.0, "it is not known what else carries it")
    value = math.log(max(1 + one.coverage, settings.coverage_floor))
    told = f"what is affected carries it by {one.coverage:+.0%} more often than what is not"
    return Contribution("coverage", value, told)


def _elsewhere(one: Candidate, habit: Habit, settings: Settings) -> Contribution:
    """How likely it is that nothing was seen elsewhere, if it is the cause."""
    if not one.elsewhere:
        return Contribution("elsewhere", 0.0, "the same was nowhere else before")
    value = math.log(1 - settings.elsewhere * _arrived(one.elsewhere, habit))
    return Contribution("elsewhere", value, f"the same was well elsewhere for {duration(one.elsewhere)}")


def _judged(one: Candidate, settings: Settings) -> Contribution:
    if not one.judged:
        return Contribution("judged", 0.0, "no gate has judged it")
    cause, innocent = settings.alarm_if_cause, settings.alarm_if_innocent
    if one.judged == "ill":
        return Contribution("judged", math.log(cause / innocent), "a gate found fault with it")
    return Contribution("judged", math.log((1 - cause) / (1 - innocent)), "a gate found it well")


def _reason(found: Iterable[Contribution]) -> str:
    """Say when it came, and the arguments that weigh most, whichever way."""
    known = {item.name: item for item in found}
    others = [
        item for item in known.values() if item.name not in ("prior", "time") and abs(item.value) > _WORTH
    ]
    others.sort(key=lambda item: (-abs(item.value), item.name))
    return "; ".join([known["time"].reason, *(item.reason for item in others[: _NAMED - 1])])


def _outcome(suspects: tuple[Suspect, ...], none: float, settings: Settings) -> tuple[Outcome, str]:
    if not suspects:
        return "none of these", "nothing is recorded that changed before"
    first = suspects[0]
    if first.probability >= settings.certain:
        return "likely", f"{first.candidate.what or first.candidate.kind}: {first.reason}"
    if none >= settings.absent:
        return "none of these", (
            f"what is recorded fits badly: the first of {len(suspects)} has {first.probability:.0%},"
            f" and that none of these is it {none:.0%}"
        )
    return (
        "cannot tell",
        f"no change stands out: the first of {len(suspects)} has {first.probability:.0%}",
    )


def quarter(at: str) -> int:
    """Return the quarter of the day in which a time lies, 0 to 3 in UTC."""
    return datetime.fromisoformat(at).hour // 6


def _hours(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() / 3600


def _reverse(at: str) -> float:
    return -datetime.fromisoformat(at).timestamp()


def duration(hours: float) -> str:
    """Say a number of hours in the unit that fits."""
    minutes = round(hours * 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
