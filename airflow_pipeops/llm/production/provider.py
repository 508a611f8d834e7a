"""Has the model behind an endpoint changed? Pure.

A pinned set of probes is asked again, at temperature 0. Endpoints do not repeat themselves exactly even so, and each has its
own noise; so each probe was asked several times when it was pinned. If nothing has changed, the new answer and the pinned
ones of a probe are draws of one kind, whose order says nothing: that just the new one is unlike all others then has a chance
that the answers themselves give, the share of those that are. The chance of as many strangers over all probes is exact, for
any noise, and needs no threshold of likeness (a permutation test; Fisher 1935).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

Verdict = Literal["changed", "no change", "cannot tell"]

#: With one pinned answer, a new one that differs is as much a stranger as the pinned one.
LEAST_RUNS = 2
#: Share of the probes that must be answered.
_ANSWERED = 0.9


@dataclass(frozen=True)
class Pin(JsonForm):
    """What was answered when the probes were pinned.

    :param model: that was asked.
    :param served: how the endpoint called the model that answered.
    :param fingerprints: of the systems that answered, as far as the endpoint told.
    :param asked: digest of what was asked: the probes and the parameters.
    :param answers: probe -> digest of each of its answers.
    :param at: when, in ISO 8601.
    """

    model: str
    served: str
    fingerprints: tuple[str, ...]
    asked: str
    answers: Mapping[str, Sequence[str]]
    at: str = ""


@dataclass(frozen=True)
class Again(JsonForm):
    """What is answered now.

    :param served: how the endpoint calls the model that answered.
    :param fingerprints: of the systems that answered.
    :param answers: probe -> digest of its answer; probes that got none are left out.
    """

    served: str
    fingerprints: tuple[str, ...]
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Found(JsonForm):
    """What was judged of an endpoint.

    :param verdict: ``changed``, ``no change`` or ``cannot tell``.
    :param reason: one sentence.
    :param probes: that were answered, then and now.
    :param strange: probes whose new answer is unlike all pinned ones.
    :param expected: how many of them chance alone explains.
    :param chance: of at least as many, if nothing has changed; ``None`` where nobody can tell.
    :param which: names of such probes, the steadiest first.
    """

    verdict: Verdict
    reason: str
    probes: int = 0
    strange: int = 0
    expected: float = 0.0
    chance: float | None = None
    which: tuple[str, ...] = field(default_factory=tuple)


def judge(pin: Pin, again: Again, alpha: float = 1e-4) -> Found:
    """Decide whether the endpoint answers as it did. First match wins.

    1. Fewer than 9 of 10 probes were answered: ``cannot tell``.
    2. The endpoint calls its model otherwise: ``changed``, by its own word.
    3. So many new answers are strangers that chance explains it with less than ``alpha``: ``changed``.
    4. No number of strangers could show that, since the pinned answers do not repeat themselves: ``cannot tell``.
    5. ``no change``; another fingerprint alone is told, and is none: providers rename builds that answer alike.

    :param pin: what was answered.
    :param again: what is answered now.
    :param alpha: chance of a false alarm of one look: 0.0001 is one in 27 years of nights.
    :return: the verdict.
    :raises InvalidInput: for a pin with fewer than two answers of a probe.
    """
    if bare := [name for name, answers in pin.answers.items() if len(answers) < LEAST_RUNS]:
        raise InvalidInput(
            f"probe {bare[0]!r} has fewer than {LEAST_RUNS} pinned answers",
            field="pinned",
            value=bare[:10],
            remedy="Pin the probes with more runs: one answer does not tell how steady it is.",
        )
    both = [name for name in pin.answers if name in again.answers]
    if not both or len(both) < _ANSWERED * len(pin.answers):
        return Found("cannot tell", f"{len(both)} of {len(pin.answers)} probes were answered.", len(both))
    if pin.served and again.served and pin.served != again.served:
        said = f"The endpoint answered as {pin.served} then, and as {again.served} now."
        return Found("changed", said, len(both))
    chances, strange = {}, []
    for name in both:
        counted = Counter([*pin.answers[name], again.answers[name]])
        lonely = sum(count == 1 for count in counted.values())
        chances[name] = lonely / (len(pin.answers[name]) + 1)
        if counted[again.answers[name]] == 1:
            strange.append(name)
    tail = at_least(list(chances.values()), len(strange))
    which = tuple(sorted(strange, key=lambda name: chances[name])[:10])
    told = (len(both), len(strange), sum(chances.values()), tail, which)
    said = f"{len(strange)} of {len(both)} answers are unlike all that were pinned"
    if tail < alpha:
        why = f"{said}, which chance explains with {tail:.1g}: the model behind the endpoint has changed."
        return Found("changed", why, *told)
    # As if each new answer were a stranger: what it takes to be seen at all.
    best = at_least([_best(pin.answers[name]) for name in both], len(both))
    if best >= alpha:
        return Found(
            "cannot tell", f"{said}, and the pinned answers do not repeat themselves enough to tell.", *told
        )
    other = "; the system's fingerprint is another" if _renamed(pin, again) else ""
    return Found("no change", f"{said}, which is chance{other}.", *told)


def at_least(chances: Sequence[float], count: int) -> float:
    """Return the chance of at least so many of independent events (the Poisson binomial law, exactly).

    :param chances: of each.
    :param count: how many.
    :return: the chance.
    """
    law = [1.0]
    for chance in chances:
        law = [
            (law[place] if place < len(law) else 0.0) * (1 - chance)
            + (law[place - 1] * chance if place else 0.0)
            for place in range(len(law) + 1)
        ]
    return min(1.0, sum(law[count:]))


def _best(pinned: Sequence[str]) -> float:
    lonely = sum(count == 1 for count in Counter(pinned).values())
    return (lonely + 1) / (len(pinned) + 1)


def _renamed(pin: Pin, again: Again) -> bool:
    return bool(
        pin.fingerprints and again.fingerprints and not set(pin.fingerprints) & set(again.fingerprints)
    )
