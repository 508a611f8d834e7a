"""Every number by which suspects are ranked, with where it comes from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from airflow_pipeops.base.serialisation import JsonForm

#: What went wrong: something failed, a service is unhealthy, a metric fell, the inputs moved, a gate refused data; or
#: nobody says.
SymptomKind = Literal["failure", "degraded", "metric", "drift", "data", "unknown"]
SYMPTOMS: tuple[SymptomKind, ...] = get_args(SymptomKind)

#: What can have changed.
ChangeKind = Literal[
    "code",
    "image",
    "config",
    "infra",
    "flag",
    "secret",
    "library",
    "schema",
    "data",
    "late data",
    "model",
    "prompt",
    "provider",
    "rollback",
    "tuning",
    "remediation",
]
CHANGES: tuple[ChangeKind, ...] = get_args(ChangeKind)


@dataclass(frozen=True)
class Habit(JsonForm):
    """How changes of a kind behave.

    :param prior: of so many changes of the kind, one breaks something that is noticed: their share.
    :param lag: hours from taking effect to the onset, in half of the cases.
    :param shape: of the distribution of that lag, which is log-logistic: the smaller, the longer its tail.
    :param shows: symptom -> share of what such a change breaks that shows so; the shares add up to 1.
    """

    prior: float
    lag: float
    shape: float
    shows: Mapping[str, float]


def _shows(failure: float, degraded: float, metric: float, drift: float, data: float) -> Mapping[str, float]:
    return {"failure": failure, "degraded": degraded, "metric": metric, "drift": drift, "data": data}


_TEN_MINUTES = 1 / 6

#: Priors: DORA puts the change fail rate of good teams at 5 to 15 %, of all that is called a failure. The SRE workbook (its
#: analysis of postmortems) counts about as many outages after a configuration push as after a binary push: alike per change.
#: What else stands here is judgement, and so are the shares of symptoms and the lags: minutes for what a rollout brings at
#: once, and half a day for what only the quality of answers shows: a model, a prompt and a provider alike, since nothing
#: tells their lags apart.
HABITS: Mapping[str, Habit] = {
    "code": Habit(0.05, _TEN_MINUTES, 1.0, _shows(0.45, 0.35, 0.08, 0.04, 0.08)),
    "image": Habit(0.03, _TEN_MINUTES, 1.0, _shows(0.45, 0.45, 0.05, 0.02, 0.03)),
    "config": Habit(0.05, _TEN_MINUTES, 1.0, _shows(0.35, 0.50, 0.07, 0.04, 0.04)),
    "infra": Habit(0.04, 0.5, 0.9, _shows(0.20, 0.75, 0.02, 0.01, 0.02)),
    "flag": Habit(0.04, _TEN_MINUTES, 1.0, _shows(0.20, 0.50, 0.20, 0.08, 0.02)),
    # That a secret has expired is noticed when it is used next, and then for certain.
    "secret": Habit(0.30, 0.1, 0.9, _shows(0.70, 0.28, 0.01, 0.005, 0.005)),
    "library": Habit(0.04, 0.5, 0.9, _shows(0.60, 0.25, 0.10, 0.02, 0.03)),
    "schema": Habit(0.10, 1 / 30, 0.6, _shows(0.40, 0.08, 0.10, 0.12, 0.30)),
    # A batch is judged when it comes, so that half of what it breaks shows at once; the rest when labels are there.
    "data": Habit(0.01, 1 / 30, 0.6, _shows(0.12, 0.03, 0.25, 0.40, 0.20)),
    "late data": Habit(0.20, 3.0, 0.8, _shows(0.40, 0.05, 0.20, 0.15, 0.20)),
    "model": Habit(0.05, 12.0, 0.8, _shows(0.03, 0.22, 0.70, 0.03, 0.02)),
    "prompt": Habit(0.06, 12.0, 0.8, _shows(0.08, 0.17, 0.70, 0.04, 0.01)),
    "provider": Habit(0.04, 12.0, 0.8, _shows(0.15, 0.25, 0.50, 0.08, 0.02)),
    "rollback": Habit(0.01, _TEN_MINUTES, 1.0, _shows(0.30, 0.40, 0.20, 0.05, 0.05)),
    # A moved threshold lets something through or stops it: that shows at the next batch or model. An act of a remediation
    # is made on what is ill already, by a rule that has no eyes for the rest.
    "tuning": Habit(0.03, 12.0, 0.8, _shows(0.15, 0.15, 0.35, 0.20, 0.15)),
    "remediation": Habit(0.05, 0.5, 0.9, _shows(0.40, 0.40, 0.08, 0.04, 0.08)),
}


@dataclass(frozen=True)
class Settings(JsonForm):
    """Every number of the ranking.

    :param habits: kind of change -> how such changes behave: see the source of :data:`HABITS`.
    :param background: incidents in an hour that no recorded change causes: one in thirty days, which is judgement.
    :param background_shows: symptom -> share of those incidents that shows so; judgement.
    :param hop: by how much a cause is less likely for each border between deliverables, and off the way by which the symptom
        was made; 0.3 is judgement, from graphs in which a fault reaches a third of its neighbours.
    :param surprise_size: exponent a of the density a p^(a-1) of how rare the size of a cause is among the earlier changes;
        1 says nothing, and the smaller it is, the more a rare one is suspected. The density integrates to 1, so that a size
        as any other is an argument against. 0.5, as causes are larger than most: defect studies agree that size leads.
    :param surprise_author: the same for who made it; 0.75, since the effect is small.
    :param surprise_hour: the same for the quarter of the day; 0.85, smaller still.
    :param surprise_kind: the same for the kind of change among all those of the deliverable but batches of data: what it
        seldom has is tried least. 0.75.
    :param pace: what waits for data that does not come notices it after this share of the time from one batch to the next,
        in half of the cases.
    :param least_history: earlier changes without which nothing is called rare.
    :param coverage_floor: what coverage of -1 is worth, in place of nothing: what is counted may be wrong.
    :param elsewhere: how likely a fault that shows here would show elsewhere, where the same digest is live; staging has
        less traffic and other data, and what it would show has not come as far as here. Judgement.
    :param alarm_if_cause: how often a gate or a comparison has found fault with what is the cause. Judgement.
    :param alarm_if_innocent: how often with what is not: a gate and a comparison, each made for 5 %.
    :param own_weight: so many changes is the prior of a kind worth against what happened to the thing itself.
    :param window: days before the onset beyond which nothing is looked at.
    :param resolution: hours by which times are rounded or clocks differ.
    :param certain: from this probability on, a suspect is called the likely cause: it is four times as likely as all else
        together. Who blames what is innocent has work done for nothing, and stops looking; where nothing is called, the
        suspects are told all the same, so that a wrong call costs more than one that is left out.
    :param absent: from this probability on, none of these is said to be it.
    """

    habits: Mapping[str, Habit] = field(default_factory=lambda: HABITS)
    background: float = 1 / (30 * 24)
    background_shows: Mapping[str, float] = field(
        default_factory=lambda: _shows(0.40, 0.25, 0.12, 0.13, 0.10)
    )
    hop: float = 0.3
    surprise_size: float = 0.5
    surprise_author: float = 0.75
    surprise_hour: float = 0.85
    surprise_kind: float = 0.75
    pace: float = 0.5
    least_history: int = 5
    coverage_floor: float = 0.05
    elsewhere: float = 0.3
    alarm_if_cause: float = 0.5
    alarm_if_innocent: float = 0.10
    own_weight: float = 40.0
    window: float = 14.0
    resolution: float = 1 / 60
    certain: float = 0.8
    absent: float = 0.5


DEFAULT = Settings()
