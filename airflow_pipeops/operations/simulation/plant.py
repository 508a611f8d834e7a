"""What is governed: batches whose labels are late, models that age, deploys that take time and fail, people who answer late.

A model is a place in the world as it was when its labels were made; what it loses on a batch is how far the world has moved
since. So the truth is known, which no replay of what happened can say: how good every other model would have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import ClassVar

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.knob import StrictForm

#: What every figure of a plant is at most, and some are at least.
_MOST = 100_000
_LEAST = {"batches": 50, "deploy": 1, "checks": 1}


@dataclass(frozen=True)
class Plant(StrictForm):
    """What a policy has to live with; times are in batches.

    :param batches: number of them; one a day.
    :param label_delay: until the labels of a batch are there.
    :param deploy: from the decision to retrain to the release.
    :param deploy_fails: chance that a retrain ends without a release.
    :param answer: longest time that a person takes to agree.
    :param level: metric of a model that is right.
    :param noise: of the metric of one batch, as a standard deviation.
    :param paired_noise: of the difference of two models on one batch.
    :param retrain_cost: what a retrain costs, as loss of the metric over one batch.
    :param checks: things a batch that the alarm looks at.
    """

    called: ClassVar[str] = "plant"

    batches: int = 1000
    label_delay: int = 7
    deploy: int = 2
    deploy_fails: float = 0.05
    answer: int = 3
    level: float = 0.75
    noise: float = 0.008
    paired_noise: float = 0.003
    retrain_cost: float = 0.3
    checks: int = 40

    def __post_init__(self) -> None:
        for name in (item.name for item in fields(self)):
            value = getattr(self, name)
            whole = isinstance(getattr(type(self), name), int)
            number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            least, most = _LEAST.get(name, 0), 1 if name == "deploy_fails" else _MOST
            if not number or not least <= value <= most:  # also of no NaN
                raise InvalidInput(
                    f"{name} of the plant is {value!r}",
                    field=name,
                    value=str(value),
                    remedy=f"Give a {'whole ' if whole else ''}number from {least} to {most:,}.",
                )


def _never(batch: int) -> bool:
    return False


@dataclass(frozen=True)
class Scenario:
    """What the world does. All functions are of the number of a batch.

    :param name: of it.
    :param world: where the world is, in units of the metric's loss.
    :param shocks: batches at which it jumps.
    :param hard: by how much a batch is harder for every model.
    :param bad_data: whether the batch is broken; its metric is worth nothing.
    :param no_labels: whether the labels of the batch never come.
    :param label_delay: further time of its labels.
    :param deploy: further time of a release that is decided then.
    :param deploy_fails: chance that a retrain ends without a release; ``None`` for the plant's.
    :param worse: loss that a model which is trained then has, unseen by the gate.
    :param beyond_repair: loss that no model mends.
    :param chases: whether the world jumps away after each release.
    :param coupled: share of a release that the other of two deliverables feels as a jump; ``None`` for one deliverable.
    """

    name: str
    world: Callable[[int], float] = lambda batch: 0.0
    shocks: tuple[int, ...] = ()
    hard: Callable[[int], float] = lambda batch: 0.0
    bad_data: Callable[[int], bool] = _never
    no_labels: Callable[[int], bool] = _never
    label_delay: Callable[[int], int] = lambda batch: 0
    deploy: Callable[[int], int] = lambda batch: 0
    deploy_fails: float | None = None
    worse: Callable[[int], float] = lambda batch: 0.0
    beyond_repair: Callable[[int], float] = lambda batch: 0.0
    chases: float = 0.0
    coupled: float | None = None


def _step(at: int, size: float = 0.08) -> Callable[[int], float]:
    return lambda batch: size if batch >= at else 0.0


def oscillating(period: int, size: float = 0.08) -> Scenario:
    """Return a world that goes to and fro.

    :param period: in batches.
    :param size: from one end to the other.
    :return: the scenario.
    """
    return Scenario(f"oscillating-{period}", lambda batch: size / 2 * math.sin(2 * math.pi * batch / period))


def _all() -> list[Scenario]:
    return [
        Scenario("stationary"),
        Scenario("step", _step(300), (300,)),
        Scenario("ramp", lambda batch: 0.0006 * min(max(batch - 200, 0), 500)),
        Scenario("season", lambda batch: 0.03 * math.sin(2 * math.pi * batch / 365)),
        Scenario("hard-season", hard=lambda batch: 0.015 * (1 + math.sin(2 * math.pi * batch / 365))),
        Scenario(
            "recurring",
            lambda batch: 0.08 * (batch // 150 % 2),
            tuple(range(150, 100_000, 150)),
        ),
        Scenario("outliers", hard=lambda batch: 0.15 if batch % 97 == 50 else 0.0),
        Scenario("bad-data", _step(500), (500,), bad_data=lambda batch: 300 <= batch < 320),
        Scenario("label-outage", _step(330), (330,), no_labels=lambda batch: 310 <= batch < 390),
        Scenario("label-delay", _step(320), (320,), label_delay=lambda batch: 14 if batch >= 300 else 0),
        Scenario("retrain-fails", _step(300), (300,), deploy_fails=0.7),
        Scenario("retrain-worse", _step(300), (300,), worse=lambda batch: 0.12 if batch < 420 else 0.0),
        Scenario("deploy-stuck", _step(300), (300,), deploy=lambda batch: 40 if 300 <= batch < 400 else 0),
        Scenario("shared-data", _step(300), (300,), coupled=0.5),
        Scenario("beyond-repair", beyond_repair=lambda batch: 0.06 if batch >= 300 else 0.0),
        Scenario("adversary", _step(100), (100,), chases=0.06),
    ]


@dataclass(frozen=True)
class _Catalogue:
    """The scenarios by name.

    :param known: all of them but the oscillating ones.
    """

    known: dict[str, Scenario] = field(default_factory=lambda: {one.name: one for one in _all()})

    def __getitem__(self, name: str) -> Scenario:
        """Return a scenario by its name; ``oscillating-PERIOD`` has any period from 2 on."""
        kind, _, period = name.rpartition("-")
        if kind == "oscillating" and period.isdecimal() and 2 <= int(period) <= 10_000:
            return oscillating(int(period))
        if name in self.known:
            return self.known[name]
        raise InvalidInput(
            f"scenario {name!r} is unknown",
            field="scenario",
            value=name,
            remedy=f"Use one of {', '.join([*self.known, 'oscillating-PERIOD'])}.",
        )


SCENARIOS = _Catalogue()
