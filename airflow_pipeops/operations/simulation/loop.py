"""Run policies in a world: what they see is what they would see; what they decide has its consequences."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from airflow_pipeops.governor.decision import decide as governed
from airflow_pipeops.governor.decision import decided
from airflow_pipeops.governor.history import (
    DECLINED,
    FAILED,
    PROMOTED,
    REJECTED,
    RETRAIN,
    ROLLBACK,
    Observation,
)
from airflow_pipeops.governor.policy import OBSERVE, RetrainPolicy
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.rollback.guard import GuardPolicy, Seen, judge, sizes_reached
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.simulation.incidents import JUDGED, WATCHED, WELL, Responder
from airflow_pipeops.operations.simulation.plant import Plant, Scenario
from airflow_pipeops.operations.tuning.decision import decide, look
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import Knob
from airflow_pipeops.operations.tuning.steps import Step

START: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY: Final = timedelta(days=1)
#: Batches of the history that a decision is given, and the retrains before them: other windows of a policy are shorter.
_MEMORY = 60
#: Batches between two looks at the knob.
_LOOKS = 5
#: How much better a challenger must be for the gate.
_GATE = 0.005
#: Standard deviations of the alarm's score for each unit that the world is away from what serves.
_ALARM = 6.0
#: A batch is told as a whole where its alarms are more than the knob's target by so many standard deviations.
_MANY = 4.0


@dataclass(frozen=True)
class Policies:
    """All that is decided by.

    :param governor: when to retrain; ``None`` for the naive loop: at each batch below its reference.
    :param guard: when a release goes back; ``None`` for never.
    :param knob: the threshold of the alarm; ``None`` for none.
    :param remedy: what answers an anomaly of what a batch costs; ``None`` for nothing.
    :param watched: what is an anomaly.
    :param interlock: whether the knob is frozen while a release is under way, and the remediator until its labels are due.
    :param evidence: whether the remediator takes back only what was found worse than the model before, on the same batches.
    """

    governor: RetrainPolicy | None = field(default_factory=RetrainPolicy)
    guard: GuardPolicy | None = field(default_factory=lambda: GuardPolicy(mode="act"))
    knob: Knob | None = None
    remedy: RemediationPolicy | None = None
    watched: AnomalyPolicy = WATCHED
    interlock: bool = True
    evidence: bool = True


@dataclass(frozen=True)
class Model:
    """What serves.

    :param place: of the world, where it was trained.
    :param fault: loss that it has everywhere.
    """

    place: float
    fault: float = 0.0


@dataclass(frozen=True)
class Act:
    """Something that was started.

    :param batch: when.
    :param kind: ``retrain`` or ``rollback``.
    :param by: ``governor``, ``guard``, ``remediation`` or ``naive``.
    :param known: the newest batch whose labels were there.
    """

    batch: int
    kind: str
    by: str
    known: int


@dataclass
class Trace:
    """What happened to one deliverable.

    :param world: where the world was, batch by batch.
    :param losses: true loss of what served, batch by batch, but for what no model mends.
    :param models: what served.
    :param acts: what was started.
    :param releases: batches at which another model began to serve.
    :param thresholds: of the alarm, batch by batch.
    :param steps: what was decided about the knob.
    :param asked: decisions that a person was asked about.
    :param calls: of a person by the remediator.
    :param alarms: batches at which something was an anomaly.
    """

    world: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    releases: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    asked: int = 0
    calls: int = 0
    alarms: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Coming:
    """A release that is under way.

    :param due: when it serves.
    :param model: that will.
    :param entry: of the history, whose outcome it is; ``None`` for a rollback.
    :param outcome: of the retrain.
    """

    due: int
    model: Model
    entry: int | None
    outcome: str


class Line:
    """One deliverable, its models, and what decides about them.

    :param scenario: what the world does.
    :param plant: what there is to live with.
    :param policies: all that is decided by.
    :param seed: of all chance.
    """

    def __init__(self, scenario: Scenario, plant: Plant, policies: Policies, seed: int) -> None:
        self.scenario, self.plant, self.policies = scenario, plant, policies
        self.chance = random.Random(seed)
        self.trace = Trace()
        self.jumped = 0.0
        self.serving, self.before = Model(0.0), None  # type: tuple[Model, Model | None]
        self.coming: list[_Coming] = []
        self.asking: list[tuple[int, int, int]] = []
        self.history: list[Observation] = []
        self.names: list[int] = []
        self.predecessors: list[Model | None] = []
        self.released: int | None = None
        self.gains: list[float] = []
        self.looks: dict[int, Gain] = {}
        self.arrivals: dict[int, list[int]] = {}
        self.known = self.now = 0
        self.knob = policies.knob
        self.memory = _memory(policies.governor)
        self.outcomes: list[Outcome] = []
        self.responder = None
        if policies.remedy is not None:
            self.responder = Responder(
                policies.remedy, policies.watched, plant.level, self._remedied, plant.answer
            )

    def advance(self, batch: int) -> float:
        """Let a batch come and everything that is due.

        :param batch: its number.
        :return: by how far what serves has moved.
        """
        moved = self._release(batch)
        if moved and self.scenario.chases:
            self.jumped += self.scenario.chases
        place = self.scenario.world(batch) + self.jumped
        self.trace.world.append(place)
        self.trace.losses.append(self._loss(self.serving, place))
        self.trace.models.append(self.serving)
        self.predecessors.append(self.before)
        if not self.scenario.no_labels(batch):
            due = batch + self.plant.label_delay + self.scenario.label_delay(batch)
            self.arrivals.setdefault(due, []).append(batch)
        for labelled in self.arrivals.pop(batch, []):
            self._labelled(labelled, batch)
        self._answers(batch)
        self._guard(batch)
        self.now = batch
        if self.responder is not None:
            self.responder.advance(batch, START + batch * DAY, self._busy(batch), self._verdict())
            self.trace.calls = self.responder.calls
        self._tune(batch, place)
        return moved

    def _loss(self, model: Model, place: float) -> float:
        return abs(place - model.place) + model.fault

    def _release(self, batch: int) -> float:
        moved = 0.0
        for item in [one for one in self.coming if one.due <= batch]:
            self.coming.remove(item)
            if item.entry is not None:
                self.history[item.entry] = replace(self.history[item.entry], outcome=item.outcome)  # type: ignore[arg-type]
            if item.outcome == PROMOTED:
                moved += abs(item.model.place - self.serving.place)
                self.before = None if item.entry is None else self.serving
                self.serving = item.model
                self.released = None if item.entry is None else batch
                self.gains, self.looks = [], {}
                self.trace.releases.append(batch)
        return moved

    def _labelled(self, labelled: int, batch: int) -> None:
        """Labels of a batch have come: measure, and decide."""
        self.known = max(self.known, labelled)
        item = self._measured(labelled, batch)
        if self.policies.governor is None:
            low = (
                item.performance is not None
                and item.performance < self.plant.level - RetrainPolicy().max_drop
            )
            self.history.append(item)
            if low:
                self._retrain(batch, len(self.history) - 1, "naive")
            return
        decision = governed([*self._recent(), item], self.policies.governor, item.when)
        self.history.append(decided(item, decision))
        entry = len(self.history) - 1
        if decision.acts:
            self._start(decision.action, batch, entry)
        elif decision.needs_approval and decision.mode != OBSERVE:
            self.trace.asked += 1
            self.history[entry] = replace(self.history[entry], outcome=DECLINED)  # until somebody agrees
            self.asking.append((batch + self.chance.randint(0, self.plant.answer), entry, labelled))

    def _recent(self) -> list[Observation]:
        """Return what a decision rests on: all of the last batches, and the retrains before them, which a budget counts."""
        old = self.history[: -self.memory]
        return [*(item for item in old if item.action == RETRAIN), *self.history[-self.memory :]]

    def _measured(self, labelled: int, batch: int) -> Observation:
        noise = self.chance.gauss(0, self.plant.noise) + self.scenario.hard(labelled)
        noise += self.scenario.beyond_repair(labelled)
        good = not self.scenario.bad_data(labelled)
        seen = self.trace.losses[labelled] + noise + (0.0 if good else 0.2)
        before = self.predecessors[labelled]
        other = None
        if before is not None:
            other = self.plant.level - self._loss(before, self.trace.world[labelled]) - noise
            other += self.chance.gauss(0, self.plant.paired_noise)
            if self.released is not None and labelled >= self.released and good:
                self.gains.append(self.plant.level - seen - other)
        when = START + batch * DAY
        if (
            self.responder is not None
            and good
            and self.responder.measured(START + labelled * DAY, when, seen)
        ):
            self.trace.alarms.append(batch)
        return Observation(
            f"b{labelled}",
            when.isoformat(),
            good,
            performance=self.plant.level - seen,
            reference_performance=self.plant.level,
            performance_error=self.plant.noise,
            predecessor_performance=other,
        )

    def _answers(self, batch: int) -> None:
        assert self.policies.governor is not None or not self.asking
        for item in [one for one in self.asking if one[0] <= batch]:
            self.asking.remove(item)
            entry = item[1]
            self.history[entry] = replace(self.history[entry], outcome="")
            self._start(self.history[entry].action, batch, entry)

    def _start(self, action: str, batch: int, entry: int) -> None:
        if action == RETRAIN:
            self._retrain(batch, entry, "governor")
        elif action == ROLLBACK:
            self._roll_back(batch, "governor")

    def _retrain(self, batch: int, entry: int, by: str) -> None:
        self.trace.acts.append(Act(batch, RETRAIN, by, self.known))
        fails = self.plant.deploy_fails if self.scenario.deploy_fails is None else self.scenario.deploy_fails
        place = self.trace.world[self.known]
        model = Model(place, self.scenario.worse(batch))
        gain = self._loss(self.serving, place) - self._loss(Model(place), place)
        outcome = PROMOTED if gain + self.chance.gauss(0, _GATE / 2) > _GATE else REJECTED
        if self.chance.random() < fails:
            outcome = FAILED
        due = batch + self.plant.deploy + self.scenario.deploy(batch)
        self.coming.append(_Coming(due, model, entry, outcome))

    def _busy(self, batch: int) -> str:
        """Say whether somebody releases; with the interlock, until the labels of what was released are there, too."""
        if self.coming:
            return "a release is under way"
        last = self.trace.releases[-1] if self.trace.releases else None
        if self.policies.interlock and last is not None and self.known <= last + JUDGED:
            return "the labels of the last release are not there"
        return ""

    def _verdict(self) -> str:
        """Say how what serves does against the model before, on the batches since its release that have labels."""
        if self.before is None:
            return ""
        if not self.policies.evidence:
            return "worse"
        latest = self.gains[-JUDGED:]
        if len(latest) < JUDGED:
            return "cannot tell"
        return "worse" if sum(latest) < -WELL * JUDGED else "no worse"

    def _remedied(self) -> bool:
        """Roll back for the remediator, if there is a model before."""
        if self.before is None:
            return False
        self._roll_back(self.now, "remediation")
        self.history[-1] = replace(self.history[-1], action=ROLLBACK, mode="")
        return True

    def _roll_back(self, batch: int, by: str) -> None:
        if self.before is None:
            return
        self.trace.acts.append(Act(batch, ROLLBACK, by, self.known))
        self.coming.append(_Coming(batch + 1, self.before, None, PROMOTED))
        self.before, self.released = None, None

    def _guard(self, batch: int) -> None:
        policy = self.policies.guard
        if policy is None or self.released is None:
            return
        sizes = sizes_reached(len(self.gains), policy)
        for size in sizes:
            if size not in self.looks:
                self.looks[size] = _gain(self.gains[:size], self.plant.level)
        if not sizes:
            return
        decision = judge(Seen(len(self.gains), tuple(self.looks[size] for size in sizes)), policy)
        if decision.act:
            self._roll_back(batch, "guard")
            self.history[-1] = replace(self.history[-1], action=ROLLBACK, mode="")
        if decision.act or decision.verdict == "no worse":
            self.released = None  # it is cleared, or gone

    def _tune(self, batch: int, place: float) -> None:
        knob = self.knob
        if knob is None:
            return
        now = START + batch * DAY
        busy = "a release is under way" if self.policies.interlock and self.coming else ""
        past = self.trace.steps
        if batch % _LOOKS == 0:
            step = decide(knob, look(self.outcomes, knob, past, now), past, now, busy=busy)
            past.append(step)
            if step.acts:
                self.knob = knob = replace(knob, value=step.to)
        self.trace.thresholds.append(knob.value)
        late = (self.plant.label_delay + self.scenario.label_delay(batch)) * DAY
        labelled = not self.scenario.no_labels(batch)
        checks, away, count = self.plant.checks, _ALARM * abs(place - self.serving.place), 0
        for number in range(checks):
            alarm = self.chance.gauss(away, 1) > knob.value
            count += alarm
            at = now + number * DAY / checks
            self.outcomes.append(Outcome(at, alarm if labelled else None, labelled_at=at + late))
        if self.responder is not None:
            usual = checks * knob.target
            self.responder.told(count > usual + _MANY * math.sqrt(usual * (1 - knob.target)))


def _memory(policy: RetrainPolicy | None) -> int:
    if policy is None:
        return 1
    if (
        policy.retrain_cost is not None or policy.seasonal
    ):  # which ask how old models are, and what a season was
        return 100_000
    windows = (policy.n, policy.dwell, policy.memory, policy.blind_batches or 0)
    return max(_MEMORY, 20 + max(windows))


def _gain(gains: list[float], level: float) -> Gain:
    mean = math.fsum(gains) / len(gains)
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    error = math.sqrt(squares / (len(gains) - 1) / len(gains))
    return Gain("metric", level + mean, level, mean, error, len(gains) - 1, len(gains), len(gains), "day")


def run(
    scenario: Scenario,
    policies: Policies,
    plant: Plant,
    seed: int = 0,
    other: Callable[[int], Policies] | None = None,
) -> list[Trace]:
    """Run a scenario.

    :param scenario: what the world does.
    :param policies: all that is decided by.
    :param plant: what there is to live with.
    :param seed: of all chance; the same seed gives the same run.
    :param other: policies of the second deliverable, where there are two; by default the same.
    :return: what happened to each deliverable.
    """
    count = 1 if scenario.coupled is None else 2
    lines = [
        Line(
            scenario, plant, policies if other is None or not number else other(number), seed + 7919 * number
        )
        for number in range(count)
    ]
    for batch in range(plant.batches):
        felt = [line.advance(batch) for line in lines]
        if scenario.coupled is not None:  # what one releases is a feature of the other
            for line, moved in zip(lines, reversed(felt), strict=True):
                line.jumped += scenario.coupled * moved
    return [line.trace for line in lines]
